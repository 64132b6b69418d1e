"""Rules of the declared gateway, taken out once each: the scenarios must turn red.

The lab's only input is what the program registers, so the rule is taken out there: in a secret's text. A wrong NO_PROXY
needs a network of its own (`test_no_proxy`).
"""

import asyncio
import base64
import bz2
import io
import json
import zipfile
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

import pytest

from components.gateway.pilot_start import PACKED
from lab.measure.cases import HYBRID, SCENARIOS, Result
from lab.measure.scenarios import QUICK_BURST, run_on
from lab.measure.testbed import lab_up
from lab.read.gateway import SECRET_VERSION
from lab.read.stack import Stack
from tests.gateway.routing import Mutation, find
from tests.kit import packed, unpacked

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("declared_addresses")]


BZIP2: Final = base64.b64encode(b"BZh").decode()
Plant = Callable[[str], str]
"""A secret's text with the rule taken out; unchanged if it is another secret's."""


def planted(stack: Stack, plant: Plant) -> None:
    texts: list[dict[str, Any]] = [version.inputs for version in stack.of_type(SECRET_VERSION)]
    changed = [inputs for inputs in texts if plant(inputs["secretData"]) != inputs["secretData"]]
    assert len(changed) == 1, "the rule is written in one secret"
    changed[0]["secretData"] = plant(changed[0]["secretData"])


def in_caddy(mutation: Mutation) -> Plant:
    def plant(text: str) -> str:
        if not text.startswith(BZIP2):
            return text
        config = json.loads(unpacked(text))
        mutation(config)
        return packed(json.dumps(config))

    return plant


def lanes(config: dict[str, Any]) -> list[dict[str, Any]]:
    return find(config, lambda x: "load_balancing" in x and "headers" in x)


def no_retry_match(config: dict[str, Any]) -> None:
    for proxy in lanes(config):
        proxy["load_balancing"].pop("retry_match", None)


def no_fail_duration(config: dict[str, Any]) -> None:
    for passive in find(config, lambda x: "max_fails" in x):
        passive.pop("fail_duration", None)


def token_for_every_lane(config: dict[str, Any]) -> None:
    for proxy in lanes(config):
        proxy["headers"]["request"]["set"]["X-Serverless-Authorization"] = ["Bearer {file.id-token}"]


def caller_s_headers_for_every_lane(config: dict[str, Any]) -> None:
    for proxy in lanes(config):
        del proxy["headers"]["request"]["delete"]


def begun_answers_replayed(config: dict[str, Any]) -> None:
    rule = "{http.reverse_proxy.status_code} in [200] && {http.request.duration_ms} < 500.0"
    for proxy in find(config, lambda x: "request_buffers" in x and "load_balancing" in x):
        proxy["load_balancing"]["retry_match"].append({"expression": rule})


def in_pilot(rule: str, instead: str) -> Plant:
    def plant(text: str) -> str:
        # How base64 of a zip begins.
        if not text.startswith("UEsDB"):
            return text
        planted = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(base64.b64decode(text))) as old, zipfile.ZipFile(planted, "w") as new:
            for entry in old.infolist():
                content = old.read(entry)
                if entry.filename == PACKED:
                    sources = bz2.decompress(content).decode()
                    content = bz2.compress(sources.replace(rule, instead).encode())
                new.writestr(entry, content)
        return base64.b64encode(planted.getvalue()).decode()

    return plant


cold_burst_called_warm = in_pilot("self._lane(sends(pilot.scene().burst))", "self._lane(True)")


def says(words: str) -> Callable[[Result], bool]:
    return lambda result: any(words in line for line in result.evidence)


def loses(result: Result) -> bool:
    return bool(result.lost)


BROKEN: dict[str, tuple[Plant, str, Callable[[Result], bool]]] = {
    "no retry match": (in_caddy(no_retry_match), "burst answers 5xx", loses),
    "no fail_duration": (in_caddy(no_fail_duration), "burst answers 5xx", says("burst's front was asked again")),
    "token for every lane": (in_caddy(token_for_every_lane), "cold start", says("vm was told the ID token")),
    "key for every lane": (in_caddy(caller_s_headers_for_every_lane), "cold start", says("was told a client's key")),
    "begun answers replayed": (in_caddy(begun_answers_replayed), "cold start", says("begun by ['vm', 'vm'")),
    "cold burst called warm": (cold_burst_called_warm, "cold start", says("were sent to a cold burst")),
}


@pytest.mark.parametrize("rule", BROKEN)
def test_a_scenario_turns_red_without_its_rule(rule: str) -> None:
    plant, name, red = BROKEN[rule]
    [scenario] = [scenario for scenario in SCENARIOS if scenario.name == name]
    short = replace(scenario, before=0.0, during=3.0, after=0.0, stretch=False)

    async def main() -> Result:
        async with lab_up(1.0, [HYBRID, QUICK_BURST], lambda stack: planted(stack, plant)) as testbed:
            return await run_on(testbed, short, cold_start_s=1.0)

    result = asyncio.run(main())
    assert red(result), result
