"""Benchmarks of declared machines."""
