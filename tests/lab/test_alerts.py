"""The registered alerts on the log lines of labs that are broken: each fires under its fault, by its own condition.

Time is compressed, conditions are not: a run of some seconds has the pilot's one account of each lane and the lines of
its requests, and is laid on a tape as often as it is to last minutes. The alerts that no line says anything of are in
`tests/unit/observability/test_alerts_fire.py`.
"""

import contextlib
import dataclasses
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import pytest

from lab.read import alerts, metrics
from lab.read.cloud import Cloud
from lab.read.stack import Stack, config_of, render
from tests.kit import until
from tests.lab.running import Running, detached, folder

pytestmark = pytest.mark.slow

CONFIG: Final = {
    "lanes": '["home", "burst", "vm"]',
    "vm": '{"machine_type": "c3-highcpu-8"}',
    "burst": '{"wake_deadline_s": 10}',
    "gateway": '{"wait_s": 5}',
    "alerts": '{"email": "me@example.com"}',
}
SERVICE: Final = "pilotlight-dev-gateway"
ELSEWHERE: Final = {"alerts-key-ends", "alerts-vm-stopped"}
MINUTE: Final = 60
NOON: Final = datetime(2026, 11, 29, 12, tzinfo=UTC).timestamp()
Lines = list[str]


def quiet(here: Running) -> None:
    here.settle("home")
    for _ in range(8):
        assert here.lane() == "home"


def home_away(here: Running) -> None:
    here.fault("home-refused", True)
    until(lambda: here.lane() in ("burst", "vm"), "home is left")


def burst_down(here: Running) -> None:
    """Woken by a caller who wants it, and only it; twenty others are served."""
    here.fault("burst-never", True)
    quiet(here)
    with contextlib.suppress(Exception):
        here.http.post("/chat/completions", json=body(here), headers=here.authorized | {"X-Lane": "burst"}, timeout=1)
    quiet(here)
    until(lambda: state(here, "burst") == "down", "burst is given up", 60)
    quiet(here)


def errors(here: Running) -> None:
    """Whoever wants the VM, and only it, gets what its broken server says."""
    quiet(here)
    here.fault("vm-down", True)
    pinned = here.authorized | {"X-Lane": "vm"}
    for _ in range(6):
        assert here.http.post("/chat/completions", json=body(here), headers=pinned).status_code >= 500


RUNS: Final[dict[str, Callable[[Running], None]]] = {
    "quiet": quiet,
    "home-away": home_away,
    "burst-down": burst_down,
    "errors": errors,
}


def body(here: Running) -> dict[str, Any]:
    return {"model": here.model, "messages": [{"role": "user", "content": "hi"}]}


def state(here: Running, lane: str) -> str:
    return here.http.get("/lanes", headers=here.authorized).json()["lanes"][lane]["state"]


@pytest.fixture(scope="module")
def stack() -> Stack:
    cloud = Cloud(port=8787)
    given = {f"pilotlight:{key}": value for key, value in CONFIG.items()}
    return render("dev", {**cloud.config(), **config_of("dev"), **given}, cloud.compute)


@pytest.fixture(scope="module")
def runs(declared_addresses: None) -> dict[str, Lines]:  # noqa: ARG001
    """The lines of one lab each, from when home serves: a lab is asked until then as often as the machine allows."""
    options = [word for key, value in CONFIG.items() for word in ("--config", f"{key}={value}")]
    found: dict[str, Lines] = {}
    for name, do in RUNS.items():
        with (
            detached("--fake-models", "--answer-in", "0.2", "--cold-start", "1", *options) as text,
            contextlib.closing(Running(text)) as here,
        ):
            here.settle("home")
            began = time.time()
            do(here)
        texts = [path.read_text() for path in sorted((folder() / "logs").glob("*.log"))]
        lines = [line for text in texts for line in metrics.logged(text.splitlines())]
        found[name] = [json.dumps(line) for line in lines if metrics.seconds(line["time"]) >= began]
    return found


def tape(*parts: tuple[Sequence[str], int]) -> list[metrics.Entry]:
    """Each part's lines, begun anew every minute for as many minutes as it lasts, from noon on."""
    found: list[metrics.Entry] = []
    begin = NOON
    for lines, minutes in parts:
        entries = metrics.entries(lines, SERVICE)
        first = min((metrics.seconds(entry["timestamp"]) for entry in entries), default=0.0)
        for _ in range(minutes):
            for entry in entries:
                at = begin + metrics.seconds(entry["timestamp"]) - first
                found.append({**entry, "timestamp": datetime.fromtimestamp(at, UTC).isoformat()})
            begin += MINUTE
    return found


def fired(stack: Stack, entries: Sequence[metrics.Entry], minutes: int) -> dict[str, list[float]]:
    """By alert, the minutes after noon of the looks with an incident; alerts without one are left out."""
    points = [(metric, metric.points(entries)) for metric in metrics.declared(stack)]
    found = {
        one.name.removeprefix("alerts-"): one.incident(points, NOON, NOON + minutes * MINUTE)
        for one in alerts.declared(stack)
        if one.name not in ELSEWHERE
    }
    return {name: [(at - NOON) / MINUTE for at in looks] for name, looks in found.items() if looks}


def check_quiet(stack: Stack, runs: dict[str, Lines]) -> None:
    assert fired(stack, tape((runs["quiet"], 30)), 45) == {}, "while all is well, and while the gateway sleeps"


def check_home_away(stack: Stack, runs: dict[str, Lines]) -> None:
    well, away = runs["quiet"], runs["home-away"]
    assert fired(stack, tape((well, 10), (away, 5), (well, 20)), 40) == {}, "five minutes are no mail"
    found = fired(stack, tape((well, 10), (away, 15), (well, 20)), 50)
    assert found.keys() == {"home-away"}
    assert 17 <= found["home-away"][0] <= 20, "some eight to ten minutes after it went"
    assert 25 <= found["home-away"][-1] <= 30, "it is over soon after it is back"


def check_burst_down(stack: Stack, runs: dict[str, Lines]) -> None:
    found = fired(stack, tape((runs["quiet"], 10), (runs["burst-down"], 1), (runs["quiet"], 20)), 40)
    assert found.keys() == {"burst-down"}
    assert 10 < found["burst-down"][0] <= 12
    assert 19 <= found["burst-down"][-1] <= 22


def check_errors(stack: Stack, runs: dict[str, Lines]) -> None:
    assert fired(stack, tape((runs["quiet"], 10), (runs["errors"], 1), (runs["quiet"], 20)), 40) == {}, "6 of some 100"
    found = fired(stack, tape((runs["quiet"], 10), (runs["errors"], 5), (runs["quiet"], 20)), 40)
    assert found.keys() == {"errors"}
    assert 10 < found["errors"][0] <= 16


CHECKS: Final = [check_quiet, check_home_away, check_burst_down, check_errors]


def test_every_alert_is_evaluated_somewhere(stack: Stack) -> None:
    assert {one.name for one in alerts.declared(stack)} - ELSEWHERE == {
        f"alerts-{name}" for name in RUNS if name != "quiet"
    }


@pytest.mark.parametrize("check", CHECKS)
def test_an_alert_fires_under_its_fault_and_at_no_other_time(
    stack: Stack, runs: dict[str, Lines], check: Callable[[Stack, dict[str, Lines]], None]
) -> None:
    check(stack, runs)


# --- planted mistakes -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "field"),
    [
        (check_home_away, "state"),
        (check_home_away, "lane"),
        (check_burst_down, "from"),
        (check_burst_down, "to"),
        (check_errors, "status"),
        (check_errors, "message"),
    ],
)
def test_a_renamed_field_is_seen(
    stack: Stack, runs: dict[str, Lines], check: Callable[[Stack, dict[str, Lines]], None], field: str
) -> None:
    renamed = {name: [line.replace(f'"{field}":', '"renamed":') for line in lines] for name, lines in runs.items()}
    with pytest.raises(AssertionError):
        check(stack, renamed)


@pytest.mark.parametrize(
    ("check", "name", "old", "new"),
    [
        (check_home_away, "home-away", ">= 8", "< 8"),
        (check_home_away, "home-away", ">= 8", ">= 4"),
        (check_home_away, "home-away", "[10m]", "[5m]"),
        (check_home_away, "home-away", "down|slow", "up"),
        (check_burst_down, "burst-down", "> 0", "< 0"),
        (check_burst_down, "burst-down", 'to="down"', 'to="warm"'),
        (check_errors, "errors", "> 0.1", "< 0.1"),
        (check_errors, "errors", "> 0.1", "> 0.01"),
        (check_errors, "errors", '"5.."', '"4.."'),
    ],
)
def test_a_wrong_condition_is_seen(
    stack: Stack,
    runs: dict[str, Lines],
    check: Callable[[Stack, dict[str, Lines]], None],
    name: str,
    old: str,
    new: str,
) -> None:
    def planted(inputs: dict[str, Any]) -> dict[str, Any]:
        text = json.dumps(inputs)
        assert json.dumps(old)[1:-1] in text
        return json.loads(text.replace(json.dumps(old)[1:-1], json.dumps(new)[1:-1]))

    resources = [
        dataclasses.replace(one, inputs=planted({**one.inputs})) if one.name == f"alerts-{name}" else one
        for one in stack.resources
    ]
    with pytest.raises(AssertionError):
        check(dataclasses.replace(stack, resources=resources), runs)
