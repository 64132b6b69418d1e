"""What every test needs before it runs the program."""

import warnings

import pulumi_gcp

# pulumi-gcp warns about its own classes while it loads, which is at first use. Warnings are errors in tests, and a
# module that fails to load stays half loaded.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    assert pulumi_gcp.compute.Instance
    assert pulumi_gcp.monitoring.AlertPolicy
    assert pulumi_gcp.storage.Bucket
