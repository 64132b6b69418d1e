"""Runs what was read."""
