"""What every test needs before it runs the program."""

import warnings

import pulumi_gcp
import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Loads pulumi-gcp, which warns about its own classes while it loads, which is at first use.

    Warnings are errors in tests, and a module that fails to load stays half loaded.
    """
    if config.getoption("numprocesses", None):
        return  # this process only hands the tests out
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        assert pulumi_gcp.compute.Instance
        assert pulumi_gcp.monitoring.AlertPolicy
        assert pulumi_gcp.storage.Bucket
