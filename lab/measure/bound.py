"""The bound of every request: how late its first token may be, by the table of machines.

Owns: what each lane would have given a request alone, and the better of them. Does not own: the speeds (`read.pace`),
the samples (`load`). Pure.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from components.machines.requests import first_token_s
from lab.measure.load import Sample
from lab.measure.requests import Request
from lab.programs.prompt import most_picture_tokens, work
from lab.read import home, images
from lab.read.plan import Plan

SHARE: Final = 0.1
"""How much later than the better lane alone a first token may be ..."""
MORE_S: Final = 1.0
"""... and this much on top."""


@dataclass(frozen=True)
class Lane:
    """A lane to a request alone: its first token comes after `first_token_s`, counted from `ready_s` on."""

    first_token_s: float
    ready_s: float = 0.0
    """When the lane can begin, seconds since the load began."""

    def alone_s(self, sent: float) -> float:
        """Seconds from sending until the first token."""
        return max(0.0, self.ready_s - sent) + self.first_token_s


def lanes(plan: Plan, request: Request, model: str) -> dict[str, Lane]:
    """Each declared lane of the model, as if all of them were ready."""
    found: dict[str, Lane] = {}
    containers = {"home": next((pod for pod in plan.pods if home.COMPLETIONS in pod.paths), None)}
    for name in plan.lanes:
        container = containers.get(name) or {"burst": plan.burst, "vm": plan.vm}[name].container  # pyright: ignore[reportOptionalMemberAccess]
        title = f"home/{container.name}" if name == "home" else f"{name}/{container.name}"
        raw = request.body(model, streamed=True)
        cap = images.value_of(container.args, "--image-max-tokens")
        kwargs = json.loads(images.value_of(container.args, "--mm-processor-kwargs") or "{}")
        asked = work(raw, json.loads(raw), most_picture_tokens(int(cap) if cap else None, kwargs))
        found[name] = Lane(first_token_s(plan.paces[title].speed, asked.text, sum(asked.pictures)))
    return found


def in_line(burst: Lane, samples: Sequence[Sample]) -> list[Lane]:
    """Burst, as each of the samples (in the order they were sent) finds it.

    Those who waited for its start begin together, and on one card prompts take turns: who was sent later begins after
    the others.
    """
    found: list[Lane] = []
    ahead = 0
    for sample in samples:
        waits = sample.lane == "burst" and sample.sent < burst.ready_s
        found.append(replace(burst, first_token_s=burst.first_token_s * (1 + ahead * waits)))
        ahead += waits
    return found


def latest_s(sent: float, possible: Mapping[str, Lane]) -> float:
    """The bound of a request that was sent then: the better of the possible lanes, and the allowance."""
    return min(lane.alone_s(sent) for lane in possible.values()) * (1 + SHARE) + MORE_S
