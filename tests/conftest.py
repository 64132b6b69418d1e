"""What every test needs before it runs the program."""

import warnings

import hypothesis
import pulumi_gcp

# pulumi-gcp warns about its own classes while it loads, which is at first use. Warnings are errors in tests, and a
# module that fails to load stays half loaded.
with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    assert pulumi_gcp.compute.Instance
    assert pulumi_gcp.monitoring.AlertPolicy
    assert pulumi_gcp.storage.Bucket

# How much is drawn for a property: `fast`, unless pytest is called with `--hypothesis-profile=full`. The draws are the
# same every time, so no example is kept on disk, and what fails is shown as drawn.
hypothesis.settings.register_profile(
    "fast",
    max_examples=100,
    deadline=None,
    database=None,
    derandomize=True,
    phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
)
hypothesis.settings.register_profile("full", hypothesis.settings.get_profile("fast"), max_examples=1000)
hypothesis.settings.load_profile("fast")
