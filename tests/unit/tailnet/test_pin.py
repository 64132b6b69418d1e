"""The Tailscale that the tests build and the one that the cloud runs are the same."""

import re
from pathlib import Path

from components.settings import Settings

GO_MOD = Path(__file__).parents[2] / "tailnet" / "go.mod"


def test_the_built_tailscale_is_the_image_s() -> None:
    [built] = re.findall(r"^require tailscale\.com (v\S+)$", GO_MOD.read_text(), re.MULTILINE)
    image = Settings(stack="dev", project="project", region="us-east1").gateway.tailscale_image
    version = image.partition("@")[0].rpartition(":")[2]
    assert version == built, f"`go get tailscale.com@{version}` in {GO_MOD.parent}"
