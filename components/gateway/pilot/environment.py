"""The pilot's settings, read from its environment.

Owns: the variables' names, and a sentence for each that is missing or wrong. Does not own: their values
(`components.gateway.pilot_container`).
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from .expect import SIZES, SLACK_S, Declared, Pace
from .state import Policy

_PACE: Final = (*SIZES, "answer")


@dataclass(frozen=True)
class Further:
    """The slots of a machine that may join a lane, which Caddy keeps under an address of their own."""

    machines: int
    """How many must be up."""
    dial: str
    slots: int


class SettingsError(Exception):
    """The environment is not what the declaration sets."""


@dataclass(frozen=True)
class Settings:
    """The environment, parsed."""

    listen: tuple[str, int]
    admin: Path
    id_token: Path
    line: Path
    """There while newcomers must stand in line."""
    burst_url: str
    """Empty without burst; then `dials` has none either."""
    home: tuple[str, int] | None
    home_host: str
    """Name of the model's service at home, by which its metrics are found; empty: nobody looks at them."""
    socks: tuple[str, int]
    dials: dict[str, str]
    further: dict[str, tuple[Further, ...]]
    """By lane."""
    home_full: tuple[int, ...]
    """Requests at home from which on some caller gets no slot there, with none of the further machines, with one, ...:
    the last slots are kept for higher priorities."""
    capacities: dict[str, int]
    """Slots by lane; 0 without it."""
    policy: Policy
    """Burst's."""
    policies: dict[str, Policy]
    """By lane."""
    declared: Declared
    vm_prompt: tuple[float, float] | None
    """Tokens a second that the VM reads, as declared; 0 where its metrics don't tell."""
    tailscaled: str
    metadata: tuple[str, int]
    checks: tuple[str, int]

    def places(self, lane: str) -> list[str]:
        """All addresses under which Caddy keeps requests on the lane."""
        return [self.dials[lane], *(each.dial for each in self.further[lane])]


def settings(env: Mapping[str, str]) -> Settings:
    """Raise `SettingsError` with all that is wrong."""
    wrong: list[str] = []

    def take(name: str, parse: Callable[[str], Any], what: str) -> Any:
        try:
            return parse(env[name].strip())
        except KeyError:
            wrong.append(f"{name} is not set; it must be {what}")
        except ValueError:
            wrong.append(f"{name} is {env[name]!r}; it must be {what}")
        return None

    seconds = "a number of seconds above 0"
    in_folder = "a path in a folder that exists"
    policy = Policy(
        wake=take("PILOT_WAKE", _one_of("first-fallback", "pressure", "never"), "first-fallback, pressure or never"),
        idle_s=take("PILOT_IDLE_S", _positive, seconds),
        deadline_s=take("PILOT_WAKE_DEADLINE_S", _positive, seconds),
        retry_s=take("PILOT_RETRY_S", _positive, seconds),
        slow_s=take("PILOT_SLOW_S", _positive, seconds),
        recovered_s=take("PILOT_RECOVERED_S", _positive, seconds),
    )
    lanes = ("home", "burst", "vm")
    capacities = {
        lane: take(f"{lane.upper()}_CAPACITY", _count, "a whole number, 0 without the lane") for lane in lanes
    }
    paces = {
        lane: take(f"{lane.upper()}_SECONDS", _seconds, f"name=seconds for each of {', '.join(_PACE)}, or empty")
        for lane in lanes
    }
    declared = Declared(
        paces={lane: Pace(pace, pace["answer"], capacities[lane] or 1) for lane, pace in paces.items() if pace},
        start_s=take("BURST_START_S", _positive, seconds),
        timeout_s=take("PILOT_TIMEOUT_S", _positive, seconds),
        policy=policy,
    )
    dials = {lane: take(f"{lane.upper()}_DIAL", str, "a dial address, or empty") for lane in lanes}
    further = {
        lane: take(f"{lane.upper()}_FURTHER", _further, "machines*address=slots for each further machine, or empty")
        for lane in dials
    }
    home_host = take("HOME_HOST", str, "the name of the model's service, or empty")
    vm_stuck_s = take("VM_STUCK_S", lambda text: _positive(text) if text else 0.0, f"{seconds}, or empty")
    found = Settings(
        listen=take("PILOT_LISTEN", address, "host:port"),
        admin=take("PILOT_ADMIN_SOCKET", _placed, in_folder),
        id_token=take("PILOT_ID_TOKEN", _placed, in_folder),
        line=take("PILOT_LINE", _placed, in_folder),
        burst_url=take("BURST_URL", lambda text: text and _url(text), "an http or https URL without a path, or empty"),
        home=take("HOME_ADDRESS", lambda text: address(text) if text else None, "host:port, or empty"),
        home_host=home_host,
        socks=take("SOCKS5", address, "host:port"),
        dials={lane: dial for lane, dial in dials.items() if dial},
        further=further,
        home_full=take(
            "HOME_FULL", lambda text: tuple(map(_count, text.split())), "whole numbers, one more than HOME_FURTHER has"
        ),
        capacities=capacities,
        policy=policy,
        policies={},
        declared=declared,
        vm_prompt=take("VM_PROMPT", _two_speeds, "tokens a second of texts and of pictures with texts, or empty"),
        tailscaled=take("TAILSCALED_SOCKET", str, "a path, or empty"),
        metadata=address(env.get("GCE_METADATA_HOST") or "metadata.google.internal", 80),
        checks=take("PILOT_CHECKS", address, "host:port"),
    )
    if not wrong and bool(found.burst_url) != ("burst" in found.dials):
        wrong.append(f"BURST_DIAL is {found.dials.get('burst', '')!r}; it must be set exactly where BURST_URL is")
    if not wrong and len(found.home_full) != 1 + len(found.further["home"]):
        wrong.append(f"HOME_FULL is {env['HOME_FULL']!r}; it must have one number more than HOME_FURTHER has machines")
    if not wrong and policy.recovered_s > policy.slow_s:
        wrong.append("PILOT_RECOVERED_S is above PILOT_SLOW_S; between the two nothing may change")
    if wrong:
        raise SettingsError("; ".join(wrong))
    return replace(found, policies={lane: _policy(lane, found, vm_stuck_s) for lane in found.dials})


def _policy(lane: str, found: Settings, vm_stuck_s: float) -> Policy:
    """Burst's as set. Home is slow where the VM is sooner; the VM is as slow as it is, and may be busy with itself."""
    burst = found.policy
    if lane == "home":
        vm = found.declared.paces.get("vm")
        slow_s = max(burst.slow_s, vm.first_s["short"] + SLACK_S if vm else 0.0)
        return replace(burst, sleeps=False, watched=bool(found.home_host), slow_s=slow_s)
    if lane == "vm":
        stuck_s, slots = vm_stuck_s or math.inf, found.capacities["vm"]
        return replace(
            burst,
            sleeps=False,
            watched=vm_stuck_s > 0,
            slow_s=math.inf,
            recovered_s=stuck_s,
            stuck_s=stuck_s,
            slots=slots,
        )
    return burst


def _positive(text: str) -> float:
    number = float(text)
    if not 0 < number < math.inf:
        raise ValueError(text)
    return number


def _seconds(text: str) -> dict[str, float]:
    """`short=0.1 ...`, every name once; nothing of an empty text."""
    found = {name: _positive(number) for name, _, number in (part.partition("=") for part in text.split())}
    if found and sorted(found) != sorted(_PACE):
        raise ValueError(text)
    return found


def _two_speeds(text: str) -> tuple[float, float] | None:
    if not text:
        return None
    first, second = map(_positive, text.split())
    return first, second


def _further(text: str) -> tuple[Further, ...]:
    found: list[Further] = []
    for part in text.split():
        place, _, slots = part.rpartition("=")
        machines, _, dial = place.partition("*")
        address(dial)
        found.append(Further(_count(machines), dial, _count(slots)))
    return tuple(found)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(text)
    return int(text)


def _one_of(*choices: str) -> Callable[[str], str]:
    return lambda text: choices[choices.index(text)]


def _placed(text: str) -> Path:
    if not text or not Path(text).parent.is_dir():
        raise ValueError(text)
    return Path(text)


def address(text: str, port: int | None = None) -> tuple[str, int]:
    """Host and port of `host:port`, or of `host` where there is a `port` to fall back on; else `ValueError`."""
    parts = urlsplit(f"//{text}")
    if not parts.hostname or (parts.port or port) is None:
        raise ValueError(text)
    return parts.hostname, parts.port or port or 0


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.path.strip("/") or parts.query:
        raise ValueError(text)
    return text.rstrip("/")
