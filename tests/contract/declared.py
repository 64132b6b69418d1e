"""What the stack declares for each lane's engine, read from the registered resources as the lab reads them.

Owns: the engines' declarations, and the one promise that follows from all of them. Does not own: starting an engine
(`vllm`, `llama_cpp`), the requests (`kinds`).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from lab.errors import LabError
from lab.read import images, plan
from lab.read.cloud import Cloud
from lab.read.plan import Plan
from lab.read.stack import config_of, render
from tests.contract.kinds import Promise

ALL_LANES: Final = {"pilotlight:lanes": '["home", "burst", "vm"]'}
VLLM_IMAGE: Final = "docker.io/vllm/vllm-openai"


@dataclass(frozen=True)
class Declared:
    """A container with vLLM in it."""

    lane: str
    args: tuple[str, ...]
    """What follows `vllm serve`."""
    env: Mapping[str, str]
    mounts: tuple[str, ...]
    port: int
    liveness: tuple[str, ...] = ()
    """The command by which the kubelet asks whether it still produces; empty: nobody asks."""

    @property
    def drain_s(self) -> int:
        """How long requests may go on after SIGTERM, seconds."""
        return int(images.value_of(self.args, "--shutdown-timeout") or 0)


def read(stack: str = "dev") -> Plan:
    """The plan of a stack with every lane."""
    cloud = Cloud(port=0)
    return plan.read(render(stack, {**cloud.config(), **config_of(stack), **ALL_LANES}, cloud.compute))


def with_vllm(found: Plan) -> list[Declared]:
    """The containers that serve the model with vLLM: burst's, and home's."""
    assert found.burst is not None
    container = found.burst.container
    burst = Declared(
        "burst",
        container.args,
        container.env,
        tuple(mount.path for mount in container.mounts),
        int(images.value_of(container.args, "--port") or 0),
    )
    home = [
        Declared("home", pod.args, pod.env, tuple(mount.path for mount in pod.mounts), pod.port, pod.liveness.command)
        for pod in found.pods
        if pod.image.startswith(VLLM_IMAGE) and _served(pod.args) == _served(burst.args)
    ]
    if len(home) != 1:
        raise LabError(f"{len(home)} pods serve {_served(burst.args)} with vLLM, one is needed")
    return [burst, *home]


def promise(found: Plan) -> Promise:
    """The most that one of the lanes says it takes: what one takes, all must take."""
    assert found.vm is not None
    args = found.vm.container.args
    declared = with_vllm(found)
    slots = int(images.value_of(args, "--parallel") or 1)
    contexts = [int(images.value_of(one.args, "--max-model-len") or 0) for one in declared]
    sequences = [int(one.env["VLLM_MAX_N_SEQUENCES"]) for one in declared if "VLLM_MAX_N_SEQUENCES" in one.env]
    return Promise(
        model=_served(declared[0].args),
        context=max(*contexts, int(images.value_of(args, "--ctx-size") or 0) // slots),
        sequences=max([*sequences, slots]),
        pictures=max(_json(one.args, "--limit-mm-per-prompt")["image"] for one in declared),
        pixels=max(_json(one.args, "--mm-processor-kwargs")["size"]["longest_edge"] for one in declared),
    )


def _served(args: Sequence[str]) -> str:
    return images.value_of(args, "--served-model-name") or ""


def _json(args: Sequence[str], name: str) -> dict[str, Any]:
    return dict(json.loads(images.value_of(args, name) or "{}"))
