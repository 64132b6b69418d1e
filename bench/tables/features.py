"""What a part of Caddy's configuration costs: ours without it, right after ours with it, again and again.

Owns: how each part is taken out. Does not own: the configuration itself (`components.gateway.caddy`): a part that isn't
there any more is told as such.
"""

import copy
import json
import re
import statistics
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from bench.errors import BenchError
from bench.goals import number
from bench.results import Section
from bench.stage import Stage, body
from bench.systems import declared, ours
from bench.systems.ours import Edit
from bench.systems.system import System

CONNECTIONS: Final = 16
Config = dict[str, Any]


def nodes(tree: Any) -> list[Config]:
    """Every object in the configuration, outer ones first."""
    if isinstance(tree, list):
        return [node for part in tree for node in nodes(part)]  # pyright: ignore[reportUnknownVariableType]
    if isinstance(tree, dict):
        return [tree, *(node for part in tree.values() for node in nodes(part))]  # pyright: ignore[reportUnknownVariableType]
    return []


def _drop(config: Config, key: str, wanted: Callable[[Any], bool]) -> None:
    """Entries of every list under `key` that are `wanted`."""
    for node in nodes(config):
        if isinstance(node.get(key), list):
            node[key] = [entry for entry in node[key] if not wanted(entry)]


def _says(config: Config, pattern: str, instead: str) -> None:
    """Other words in every text but the names that a map gives."""
    for node in nodes(config):
        for key, value in node.items():
            if key != "destinations" and not isinstance(value, dict):
                text = json.dumps(value)
                # Objects inside are nodes themselves; a map inside a list of handlers must keep its names.
                if '"destinations"' not in text:
                    node[key] = json.loads(re.sub(pattern, instead, text))


def _access_log(config: Config) -> None:
    config["apps"]["http"]["servers"]["api"].pop("logs", None)
    _drop(config, "handle", lambda entry: entry.get("handler") == "log_append")


def _second_sink(config: Config) -> None:
    logs = config["logging"]["logs"]
    for name in [name for name in logs if name != "default"]:
        del logs[name]


def _maps(config: Config) -> None:
    # That of the body's length leads to a handler: without it nobody is served.
    _drop(config, "handle", lambda entry: entry.get("handler") == "map" and "{border}" not in entry["destinations"])
    _says(config, r"\{(lane|request_id)\}", "x")


def _response_headers(config: Config) -> None:
    _drop(config, "handle", lambda entry: entry.get("handler") == "headers" and "response" in entry)
    for node in nodes(config):
        if node.get("handler") == "reverse_proxy":
            node.get("headers", {}).pop("response", None)


def _keys(config: Config) -> None:
    def about_key(matcher: Any) -> bool:
        says = [*matcher.get("header_regexp", ()), *matcher.get("vars", ())]
        return "Authorization" in says or "{http.regexp.bearer.1}" in says

    for node in nodes(config):
        if any(about_key(matcher) for matcher in node.get("match", []) if isinstance(matcher, dict)):
            del node["match"]


def _begun(config: Config) -> None:
    _drop(config, "handle_response", lambda entry: '"begun"' in json.dumps(entry))


def _gate(config: Config) -> None:
    _drop(config, "routes", lambda entry: any("file" in matcher for matcher in entry.get("match", [])))


def _guards(config: Config) -> None:
    _drop(config, "routes", lambda entry: entry.get("handle") == [{"handler": "invoke", "name": "guards"}])


def _retries(config: Config) -> None:
    for node in nodes(config):
        node.pop("request_buffers", None)
        node.get("load_balancing", {}).pop("retry_match", None)


FEATURES: Final[dict[str, Edit]] = {
    "access log and its fields": _access_log,
    "request id, evaluated at each use": lambda config: _says(config, r"\{request_id\}", "x"),
    "further log sinks": _second_sink,
    "maps": _maps,
    "response headers": _response_headers,
    "keys": _keys,
    "`begun`": _begun,
    "the line's gate": _gate,
    "guards": _guards,
    "buffers and retries": _retries,
}


def run(stage: Stage) -> list[Section]:
    """The table."""
    config = ours.caddy_config(declared.declared(**ours.VM_SETTINGS))
    asked = list(FEATURES.items())[: 4 if stage.scale.quick else None]
    there = {name: edit for name, edit in asked if _changes(config, edit)}
    saved: dict[str, list[float]] = {name: [] for name in there}
    for turn in range(stage.scale.pairs):
        for name, edit in there.items():
            # Which of the two is first changes with each pair.
            costs = [_cost(stage, chosen) for chosen in (None, edit)[:: 1 if turn % 2 else -1]]
            with_it, without = costs if turn % 2 else costs[::-1]
            saved[name].append(1 - without / with_it)
        stage.say(f"pair {turn + 1}: " + ", ".join(f"{name} {statistics.median(saved[name]):.1%}" for name in there))
    rows = [
        [name, *(_told(saved[name]) if name in there else ["not there", "-"])]
        for name in sorted(dict(asked), key=lambda name: -statistics.median(saved.get(name, [0.0])))
    ]
    return [Section(
        "features",
        f"Our processor time a request on the VM lane, {CONNECTIONS} connections, with and without a part of Caddy's "
        + f"configuration: {stage.scale.pairs} alternating pairs.",
        ["part", "share of our CPU", "half of the pairs within"], rows,
        ["A part is taken out alone. What it shares with another part is in neither share, or in both."],
    )]  # fmt: skip


def _cost(stage: Stage, edit: Edit | None) -> float:
    system: System = ours.vm("ours", edit)
    if edit:
        # Who served it may be what is taken out; home is away, and there is nobody else.
        system = replace(system, ready_by_status=True)
    with stage.up(system) as running:
        stage.closed(running, CONNECTIONS, body(900), 0.3)
        loaded = stage.rate(running, CONNECTIONS, body(900), 0.8 * stage.scale.seconds)
        if loaded.failed:
            raise BenchError(f"{loaded.failed} requests failed with a part of the configuration taken out")
        return loaded.cpu_us


def _changes(config: Config, edit: Edit) -> bool:
    changed = copy.deepcopy(config)
    edit(changed)
    return changed != config


def _told(shares: list[float]) -> list[str]:
    quarters = statistics.quantiles(shares, n=4) if len(shares) > 1 else []
    within = f"{quarters[0]:.1%} to {quarters[2]:.1%}" if quarters else "-"
    return [f"{number(statistics.median(shares) * 100)} %", within]
