"""An image pinned by its digest goes through, whole, to whoever starts it, and to what the lab makes of it."""

from collections.abc import Callable
from typing import Any

import pytest

from components.home import bootstrap
from components.settings import Settings
from components.settings.declared_services import declared
from lab.errors import LabError
from lab.read import home, images, plan
from lab.read.stack import Stack
from tests.engine.behaviour import at
from tests.unit.security.rules import named

Render = Callable[..., Stack]
Make = Callable[..., Settings]
DIGESTS = {
    name: f"{image}@sha256:{number:064x}"
    for number, (name, image) in enumerate(
        {
            "caddy": "docker.io/library/caddy:2.11.7",
            "tailscale": "docker.io/tailscale/tailscale:v1.102.5",
            "pilot": "docker.io/library/python:3.13.14-slim",
            "burst": "docker.io/vllm/vllm-openai:v0.29.0-cu129",
            "fetch": "docker.io/library/python:3.13.14-slim",
            "vm": "ghcr.io/ggml-org/llama.cpp:server-b11206",
            "cuda": "ghcr.io/ggml-org/llama.cpp:server-cuda-b11206",
            "vllm": "docker.io/vllm/vllm-openai:v0.29.0-cu129",
            "speech": "ghcr.io/remsky/kokoro-fastapi-gpu:v0.8.2",
        }.items(),
        start=1,
    )
}
SETTINGS: dict[str, Any] = {
    "lanes": ["home", "burst", "vm"],
    "gateway": {f"{name}_image": DIGESTS[name] for name in ("caddy", "tailscale", "pilot")},
    "burst": {"image": DIGESTS["burst"], "fetch_image": DIGESTS["fetch"]},
    "vm": {"image": DIGESTS["vm"]},
    "services": [
        {"name": "vllm", "preset": "model", "image": DIGESTS["vllm"]},
        {"name": "speech", "preset": "tts", "image": DIGESTS["speech"]},
    ],
}


@pytest.fixture(scope="module")
def stack(stack_of: Render) -> Stack:
    return stack_of(**SETTINGS)


def test_the_cloud_gets_each_image_with_its_digest(stack: Stack) -> None:
    gateway = at(named(stack, "gateway-service").inputs, "template.containers.image")
    assert gateway == [DIGESTS[name] for name in ("caddy", "tailscale", "pilot")]
    assert at(named(stack, "burst-service").inputs, "template.containers.image") == [DIGESTS["burst"]]
    assert at(named(stack, "burst-weights-job").inputs, "template.template.containers.image") == [DIGESTS["fetch"]]
    assert f" {DIGESTS['vm']} " in named(stack, "vm-group-template").inputs["metadata"]["user-data"]


def test_home_gets_it_and_vllm_is_known_for_what_it_is(stack: Stack, settings_of: Make) -> None:
    assert [pod.image for pod in home.pods(stack.resources)] == [DIGESTS["vllm"], DIGESTS["speech"]]
    settings = settings_of(**SETTINGS)
    assert [service.is_vllm for service in declared(settings)] == [True, False]
    assert bootstrap.vllm_image(settings) == DIGESTS["vllm"], "the bootstrap fetches it"
    assert bootstrap.drivers(DIGESTS["vllm"]) == bootstrap.drivers(DIGESTS["vllm"].partition("@")[0])


def test_the_lab_starts_the_program_of_the_image(stack: Stack) -> None:
    found = plan.read(stack)
    assert found.vm
    assert (found.vm.container.image, found.not_run.keys()) == (DIGESTS["vm"], {"speech"})
    for image in DIGESTS.values():
        plain = image.partition("@")[0]
        assert images.why_not(image) == images.why_not(plain)
        if not images.why_not(plain):
            assert images.program_of(image) is images.program_of(plain)


def test_the_lab_sees_that_an_image_with_a_digest_is_one_for_cards(stack_of: Render) -> None:
    """CUDA stands in the tag, and what stands behind the last colon is the digest."""
    card = stack_of(lanes=["vm"], vm={"gpu": "t4", "image": DIGESTS["cuda"]})
    assert plan.read(card).vm
    wrong = stack_of(lanes=["vm"], vm={"gpu": "t4", "image": DIGESTS["vm"]})
    with pytest.raises(LabError, match="is not one for CUDA"):
        plan.read(wrong)
