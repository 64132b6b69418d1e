"""The workflow's safety rules: a pull request may look, with an identity of minutes, and change nothing."""

import re
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml

from components.settings.gateway import GatewaySettings
from components.tailnet.policy import CI

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".github" / "workflows"
TEXT: Final = (FOLDER / "preview.yml").read_text()
WORKFLOW: Final = cast(dict[Any, Any], yaml.safe_load(TEXT))
JOBS: Final = cast(dict[str, dict[str, Any]], WORKFLOW["jobs"])
STEPS: Final = [step for job in JOBS.values() for step in cast(list[dict[str, Any]], job["steps"])]
SDK: Final = re.search(r"^pulumi==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)


def step_of(action: str) -> dict[str, Any]:
    """The one step that uses an action."""
    found = [step for step in STEPS if str(step.get("uses", "")).startswith(f"{action}@")]
    assert len(found) == 1, f"{len(found)} steps use {action}"
    return found[0]


def code() -> str:
    """The workflow without its comments."""
    return "\n".join(line.split(" #")[0] for line in TEXT.splitlines() if not line.lstrip().startswith("#"))


def test_it_is_the_only_workflow() -> None:
    assert sorted(path.name for path in FOLDER.iterdir()) == ["preview.yml"]


def test_it_runs_on_pull_requests_and_nothing_else() -> None:
    # YAML 1.1 reads the key `on` as true. `pull_request_target` would hand a fork this repository's identity.
    assert WORKFLOW[True] == {"pull_request": None}


def test_permissions_are_exact() -> None:
    assert WORKFLOW["permissions"] == {}
    assert {name: job["permissions"] for name, job in JOBS.items()} == {
        "test": {"contents": "read"},
        "preview": {"contents": "read", "id-token": "write", "pull-requests": "write"},
    }


def test_a_fork_gets_no_identity() -> None:
    same_repository = "github.event.pull_request.head.repo.full_name == github.repository"
    for name, job in JOBS.items():
        if "id-token" in job["permissions"]:
            terms = [term.strip() for term in str(job.get("if", "")).split("&&")]
            assert same_repository in terms, f"{name} hands a fork an identity"
            assert "||" not in job["if"]


@pytest.mark.parametrize(
    "stored",
    [
        "secrets.",
        "credentials_json",
        "PULUMI_ACCESS_TOKEN",
        "PULUMI_CONFIG_PASSPHRASE",
        "TAILSCALE_API_KEY",
        "TAILSCALE_OAUTH_CLIENT_SECRET",
        "GOOGLE_CREDENTIALS",
    ],
)
def test_no_credential_is_stored(stored: str) -> None:
    assert stored not in code()


def test_google_and_tailscale_know_the_run_by_its_identity_token() -> None:
    google = step_of("google-github-actions/auth")["with"]
    assert google.keys() == {"workload_identity_provider", "service_account"}
    assert step_of("pulumi/actions")["env"].keys() == {"TAILSCALE_OAUTH_CLIENT_ID", "TAILSCALE_AUDIENCE"}


def test_it_reaches_home_as_tag_ci_without_a_secret() -> None:
    step = step_of("tailscale/github-action")
    assert step["with"] == {
        "oauth-client-id": "${{ vars.TAILSCALE_CI_CLIENT_ID }}",
        "audience": "${{ vars.TAILSCALE_CI_AUDIENCE }}",
        "tags": CI,
        "version": GatewaySettings().tailscale_image.rsplit(":v", 1)[1],
    }
    assert step["if"] == "vars.TAILSCALE_CI_CLIENT_ID != ''", "a repository without it still gets its preview"
    steps = JOBS["preview"]["steps"]
    assert steps.index(step) < steps.index(step_of("pulumi/actions"))


def test_every_variable_it_reads_is_explained() -> None:
    head = TEXT.partition("name: preview")[0]
    for variable in set(re.findall(r"vars\.(\w+)", code())):
        assert f"#   {variable} " in head, variable


def test_a_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for step in STEPS if str(step.get("uses", "")).startswith("actions/checkout@")]
    assert len(checkouts) == len(JOBS)
    assert [step["with"] for step in checkouts] == [{"persist-credentials": False}] * len(JOBS)


def test_it_previews_comments_and_never_deploys() -> None:
    pulumi = step_of("pulumi/actions")["with"]
    assert pulumi["command"] == "preview"
    assert pulumi["comment-on-pr"] is True
    assert "upsert" not in pulumi, "a preview must not make a stack"
    commands = "\n".join(str(step.get("run", "")) for step in STEPS)
    assert "pulumi" not in commands, "Pulumi is run by its action alone"
    assert not re.search(r"\b(up|update|destroy|refresh)\b", code())


def test_no_text_of_the_pull_request_reaches_a_shell() -> None:
    assert [step["run"] for step in STEPS if "${{" in str(step.get("run", ""))] == []


def test_every_version_is_pinned() -> None:
    uses = re.findall(r"uses: (.*)", TEXT)
    assert len(uses) == len([step for step in STEPS if "uses" in step])
    for use in uses:
        assert re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use
    assert {job["runs-on"] for job in JOBS.values()} == {"ubuntu-24.04"}
    assert SDK
    assert step_of("pulumi/actions")["with"]["pulumi-version"] == SDK[1]


def test_every_job_ends_and_a_newer_push_replaces_an_older_run() -> None:
    assert all(0 < job["timeout-minutes"] <= 20 for job in JOBS.values())
    assert "github.event.pull_request.number" in WORKFLOW["concurrency"]["group"]
