"""Reads the recorded stack: what is to run."""
