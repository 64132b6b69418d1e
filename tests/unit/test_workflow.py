"""The workflows' safety rules: a pull request may look, main may deploy, both with an identity of minutes."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final, cast

import pytest
import yaml

from components.settings.gateway import GatewaySettings
from components.tailnet.policy import CI

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / ".github" / "workflows"
NAMES: Final = ("preview", "deploy", "drift")
TEXTS: Final = {name: (FOLDER / f"{name}.yml").read_text() for name in NAMES}
WORKFLOWS: Final = {name: cast(dict[Any, Any], yaml.safe_load(text)) for name, text in TEXTS.items()}
READY: Final = ROOT / ".github" / "actions" / "ready" / "action.yml"
ACTION: Final = cast(dict[str, Any], yaml.safe_load(READY.read_text()))
SDK: Final = re.search(r"^pulumi==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
PREVIEWER: Final = {
    "provider": "${{ vars.GCP_PREVIEW_PROVIDER }}",
    "account": "${{ vars.GCP_PREVIEW_ACCOUNT }}",
    "tailnet-client": "${{ vars.TAILSCALE_CI_CLIENT_ID }}",
    "tailnet-audience": "${{ vars.TAILSCALE_CI_AUDIENCE }}",
}

Steps = list[dict[str, Any]]


def jobs(name: str) -> dict[str, dict[str, Any]]:
    return WORKFLOWS[name]["jobs"]


def steps(name: str) -> Steps:
    return [step for job in jobs(name).values() for step in cast(Steps, job["steps"])]


def all_steps() -> Steps:
    return [*(step for name in NAMES for step in steps(name)), *cast(Steps, ACTION["runs"]["steps"])]


def step_of(action: str, among: Steps) -> dict[str, Any]:
    """The one step that uses an action."""
    found = [step for step in among if str(step.get("uses", "")).partition("@")[0] == action]
    assert len(found) == 1, f"{len(found)} steps use {action}"
    return found[0]


def code(text: str) -> str:
    """A workflow without its comments."""
    return "\n".join(line.split(" #")[0] for line in text.splitlines() if not line.lstrip().startswith("#"))


def test_they_are_the_only_workflows() -> None:
    assert sorted(path.stem for path in FOLDER.iterdir()) == sorted(NAMES)
    assert sorted(path.name for path in READY.parents[1].iterdir()) == ["ready"]


def test_each_runs_when_it_should_and_never_else() -> None:
    # YAML 1.1 reads the key `on` as true. `pull_request_target` would hand a fork this repository's identity.
    assert WORKFLOWS["preview"][True] == {"pull_request": None}
    assert WORKFLOWS["deploy"][True] == {"push": {"branches": ["main"]}, "workflow_dispatch": None}
    assert WORKFLOWS["drift"][True].keys() == {"schedule", "workflow_dispatch"}


def test_permissions_are_exact() -> None:
    assert [workflow["permissions"] for workflow in WORKFLOWS.values()] == [{}, {}, {}]
    assert {f"{name}.{job}": each["permissions"] for name in NAMES for job, each in jobs(name).items()} == {
        "preview.test": {"contents": "read"},
        "preview.preview": {"contents": "read", "id-token": "write", "pull-requests": "write"},
        "deploy.test": {"contents": "read"},
        "deploy.deploy": {"contents": "read", "id-token": "write"},
        "drift.drift": {"contents": "read", "id-token": "write", "issues": "write"},
    }


def test_a_fork_gets_no_identity() -> None:
    same_repository = "github.event.pull_request.head.repo.full_name == github.repository"
    for name, job in jobs("preview").items():
        if "id-token" in job["permissions"]:
            terms = [term.strip() for term in str(job.get("if", "")).split("&&")]
            assert same_repository in terms, f"{name} hands a fork an identity"
            assert "||" not in job["if"]


def test_main_alone_deploys_one_environment_after_the_other() -> None:
    deploy = jobs("deploy")["deploy"]
    assert "github.ref == 'refs/heads/main'" in [term.strip() for term in deploy["if"].split("&&")]
    assert "||" not in deploy["if"]
    assert deploy["needs"] == "test"
    # GitHub asks the environment's reviewers, and writes it into the token, which Google asks for.
    assert deploy["environment"] == "${{ matrix.stack }}"
    assert deploy["strategy"] == {
        "max-parallel": 1,
        "fail-fast": True,
        "matrix": {"stack": "${{ fromJSON(vars.PULUMI_STACKS) }}"},
    }
    assert WORKFLOWS["deploy"]["concurrency"] == {"group": "deploy", "cancel-in-progress": False}
    assert [job for name in ("preview", "drift") for job in jobs(name).values() if "environment" in job] == []


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
    for text in (*TEXTS.values(), READY.read_text()):
        assert stored not in code(text)


def test_google_and_tailscale_know_the_run_by_its_identity_token() -> None:
    google = step_of("google-github-actions/auth", ACTION["runs"]["steps"])["with"]
    assert google == {
        "workload_identity_provider": "${{ inputs.provider }}",
        "service_account": "${{ inputs.account }}",
    }
    for name in NAMES:
        account = "deploy" if name == "deploy" else "preview"
        given = step_of("./.github/actions/ready", steps(name))["with"]
        assert given == {key: value.replace("PREVIEW", account.upper()) for key, value in PREVIEWER.items()}, name


def test_it_reaches_home_as_tag_ci_without_a_secret_and_goes_on_without() -> None:
    step = step_of("tailscale/github-action", ACTION["runs"]["steps"])
    assert step["with"] == {
        "oauth-client-id": "${{ inputs.tailnet-client }}",
        "audience": "${{ inputs.tailnet-audience }}",
        "tags": CI,
        "version": GatewaySettings().tailscale_image.rsplit(":v", 1)[1],
    }
    assert step["if"] == "inputs.tailnet-client != ''", "a repository without it is served all the same"
    assert step["continue-on-error"] is True, "an outage of Tailscale costs home, not the deployment"
    for name in NAMES:
        order = [str(each.get("uses", each.get("run"))).partition("@")[0] for each in steps(name)]
        assert order.index("./.github/actions/ready") < order.index("pulumi/actions"), name


def test_every_variable_that_is_read_is_explained() -> None:
    heads = "".join(text.partition("\nname: ")[0] for text in TEXTS.values())
    for name, text in TEXTS.items():
        for variable in set(re.findall(r"vars\.(\w+)", code(text))):
            assert re.search(rf"^#   .*\b{variable}\b", heads, re.MULTILINE), f"{name}: {variable}"


def test_a_checkout_leaves_no_token_behind() -> None:
    checkouts = [step for step in all_steps() if str(step.get("uses", "")).startswith("actions/checkout@")]
    assert len(checkouts) == sum(len(jobs(name)) for name in NAMES)
    assert [step["with"] for step in checkouts] == [{"persist-credentials": False}] * len(checkouts)


def test_a_preview_comments_and_never_deploys() -> None:
    pulumi = step_of("pulumi/actions", steps("preview"))["with"]
    assert pulumi["command"] == "preview"
    assert pulumi["comment-on-pr"] is True
    assert "upsert" not in pulumi, "a preview must not make a stack"
    commands = "\n".join(str(step.get("run", "")) for step in steps("preview"))
    assert "pulumi" not in commands, "Pulumi is run by its action alone"
    assert not re.search(r"\b(up|update|destroy|refresh)\b", code(TEXTS["preview"]))


def test_a_deployment_makes_no_stack_and_goes_on_while_home_is_off() -> None:
    pulumi = step_of("pulumi/actions", steps("deploy"))["with"]
    assert pulumi["command"] == "up"
    assert pulumi["continue-on-error"] is True
    assert pulumi["suppress-outputs"] is True
    assert not {"upsert", "refresh", "target"} & pulumi.keys()


def test_a_look_for_drift_only_looks() -> None:
    assert "command" not in step_of("pulumi/actions", steps("drift"))["with"]
    runs = [step["run"] for step in steps("drift") if "run" in step]
    assert runs == [".github/drift.sh"]
    assert re.findall(r"^ *pulumi (\S+)", (ROOT / runs[0]).read_text(), re.MULTILINE) == ["preview"]


def test_no_text_of_the_pull_request_reaches_a_shell() -> None:
    assert [step["run"] for step in all_steps() if "${{" in str(step.get("run", ""))] == []


def test_every_version_is_pinned() -> None:
    uses = [use for text in (*TEXTS.values(), READY.read_text()) for use in re.findall(r"uses: (.*)", text)]
    assert len(uses) == len([step for step in all_steps() if "uses" in step])
    for use in uses:
        own = use == "./.github/actions/ready"
        assert own or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use), use
    commits: dict[str, set[str]] = {}
    for action, _, commit in (use.partition("@") for use in uses):
        commits.setdefault(action, set()).add(commit)
    assert {action for action, found in commits.items() if len(found) > 1} == set(), "one action, one version"
    assert {job["runs-on"] for name in NAMES for job in jobs(name).values()} == {"ubuntu-24.04"}
    assert SDK
    for name in NAMES:
        assert step_of("pulumi/actions", steps(name))["with"]["pulumi-version"] == SDK[1]


def test_every_job_ends_and_a_newer_push_replaces_an_older_preview() -> None:
    assert all(0 < job["timeout-minutes"] <= 60 for name in NAMES for job in jobs(name).values())
    assert "github.event.pull_request.number" in WORKFLOWS["preview"]["concurrency"]["group"]
    assert WORKFLOWS["preview"]["concurrency"]["cancel-in-progress"] is True


@pytest.mark.skipif(shutil.which("actionlint") is None, reason="no actionlint on PATH")
def test_actionlint_finds_nothing() -> None:
    """Types of expressions, contexts, inputs of actions, shell in `run`."""
    done = subprocess.run(["actionlint", "-no-color"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
