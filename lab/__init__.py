"""Runs the declaration on one machine: the resources that the Pulumi program registers are its only input."""
