"""A second stack of the project that claims what there is once."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from components.settings import siblings
from components.settings.section import SettingsError
from components.settings.siblings import Claims, clashes
from lab.read.cloud import Cloud
from lab.read.stack import ROOT, render

OWN = Claims(tailnet="example.ts.net", policy=True, home="home")
BESIDE = {"gcp:project": "my-project", "tailscale:tailnet": "example.ts.net"}


def beside(folder: Path, config: dict[str, Any] | str, stack: str = "prod") -> Path:
    text = config if isinstance(config, str) else json.dumps({"config": config})
    (folder / f"Pulumi.{stack}.yaml").write_text(text)
    return folder


def fields(folder: Path, own: Claims = OWN) -> list[str]:
    return [line.partition(":")[0] for line in clashes(own, "dev", folder)]


def test_a_second_owner_is_refused_with_file_and_fix(tmp_path: Path) -> None:
    policy, home = clashes(OWN, "dev", beside(tmp_path, BESIDE))
    assert policy == (
        "tailnet.policy_owner: true in one stack of a tailnet; it is in dev and in prod (Pulumi.prod.yaml). "
        "Consequence: each `pulumi up` would replace the policy that the other one wrote. "
        "Fix: set it to false in one of the two."
    )
    assert home.startswith("home.owner: true in one stack of a home; it is in dev and in prod (Pulumi.prod.yaml), both")


@pytest.mark.parametrize(
    ("config", "found"),
    [
        ({"pilotlight:home": {"owner": False}}, ["tailnet.policy_owner"]),
        ({"pilotlight:tailnet": {"policy_owner": False}}, ["home.owner"]),
        ({"pilotlight:home": {"hostname": "attic"}}, ["tailnet.policy_owner"]),
        ({"pilotlight:home": {"owner": False}, "pilotlight:tailnet": {"policy_owner": False}}, []),
        ({"pilotlight:lanes": ["vm"]}, []),
        ({"pilotlight:lanes": ["home"]}, ["tailnet.policy_owner", "home.owner"]),
        ({"tailscale:tailnet": "another.ts.net"}, []),
        # Not filled in yet: nobody can deploy it.
        ({"gcp:project": ""}, []),
    ],
    ids=str,
)
def test_what_a_sibling_claims(tmp_path: Path, config: dict[str, Any], found: list[str]) -> None:
    assert fields(beside(tmp_path, BESIDE | config)) == found


@pytest.mark.parametrize(
    ("own", "found"),
    [
        (replace(OWN, policy=False), ["home.owner"]),
        (replace(OWN, home=None), ["tailnet.policy_owner"]),
        (replace(OWN, home="attic"), ["tailnet.policy_owner"]),
        (replace(OWN, tailnet=None), []),
    ],
    ids=str,
)
def test_what_the_stack_itself_claims(tmp_path: Path, own: Claims, found: list[str]) -> None:
    assert fields(beside(tmp_path, BESIDE), own) == found


@pytest.mark.parametrize(
    ("project", "delivery", "found"),
    [
        ("my-project", {"repository": "me/mine"}, ["delivery.owner"]),
        ("my-project", {"repository": "me/mine", "owner": False}, []),
        ("my-project", {"owner": True}, []),
        ("another-project", {"repository": "me/mine"}, []),
    ],
    ids=str,
)
def test_a_google_project_s_delivery_has_one_owner(
    tmp_path: Path, project: str, delivery: dict[str, Any], found: list[str]
) -> None:
    """Whatever the tailnet: a stack without home has none."""
    folder = beside(tmp_path, {"gcp:project": project, "pilotlight:delivery": delivery})
    lines = list(clashes(replace(OWN, delivers="my-project"), "dev", folder))
    assert [line.partition(":")[0] for line in lines] == found
    for line in lines:
        assert line == (
            "delivery.owner: true in one stack of a Google project; it is in dev and in prod (Pulumi.prod.yaml). "
            "Consequence: both would make the same pool, bucket and key, and Google refuses the second half-way. "
            "Fix: set it to false in one of the two."
        )


@pytest.mark.parametrize("text", ["", "config:", "config: [", "- a", "config: {gcp:project: p, pilotlight:home: none}"])
def test_a_sibling_that_is_no_stack_stops_nobody(tmp_path: Path, text: str) -> None:
    """The last one's tailnet is only in the environment, where it can't be compared."""
    assert fields(beside(tmp_path, text)) == []


def test_a_stack_is_no_sibling_of_itself(tmp_path: Path) -> None:
    assert fields(beside(tmp_path, BESIDE, stack="dev")) == []


def test_the_program_is_refused_before_any_resource(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(siblings, "FOLDER", beside(tmp_path, BESIDE))
    cloud = Cloud(port=8787)
    made: list[str] = []

    def compute(token: str, *given: Any) -> dict[str, Any]:
        made.append(token)
        return cloud.compute(token, *given)

    with pytest.raises(SettingsError, match=r"home\.owner: true in one stack of a home"):
        render("dev", cloud.config() | {"tailscale:tailnet": "example.ts.net"}, compute)
    assert made == []
    render("dev", cloud.config() | {"tailscale:tailnet": "another.ts.net"}, compute)
    assert made


def test_the_two_files_of_the_repository_claim_nothing_twice(tmp_path: Path) -> None:
    """As their owner would fill them in."""
    for stack in ("dev", "prod"):
        text = (ROOT / f"Pulumi.{stack}.yaml").read_text()
        filled = text.replace("config:\n", "config:\n  gcp:project: p\n  tailscale:tailnet: example.ts.net\n")
        beside(tmp_path, filled, stack)
    assert fields(tmp_path) == []
    assert fields(tmp_path, replace(OWN, home="home")) == []
