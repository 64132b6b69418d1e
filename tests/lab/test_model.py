"""One line of settings changes the model on every lane: each lane of a running lab says which one it serves."""

import contextlib

import httpx2 as httpx
import pytest

from components.models.catalogue import PRESETS
from tests.kit import until
from tests.lab.running import Running, detached

pytestmark = pytest.mark.usefixtures("declared_addresses")
UP = ("--fake-models", "--answer-in", "0", "--cold-start", "0", "--config", 'lanes=["home","burst","vm"]')
FAULTS = {"home": (), "burst": ("home-refused",), "vm": ("home-refused", "burst-5xx")}
"""A lane -> what is broken, so that it answers."""


def served(running: Running, lane: str) -> str:
    """The model that an answer of this lane names; a caller may ask for any."""
    with contextlib.ExitStack() as broken:
        for fault in FAULTS[lane]:
            broken.enter_context(running.broken(fault))
        body = {"model": running.model, "messages": [{"role": "user", "content": "hello"}]}

        def ask() -> httpx.Response:
            return running.http.post("/chat/completions", headers=running.authorized, json=body)

        until(lambda: ask().headers.get("X-Served-By") == lane, f"{lane} never served")
        return ask().json()["model"]


@pytest.mark.slow
def test_one_line_changes_the_model_on_every_lane() -> None:
    with (
        detached(*UP, "--config", 'model={"preset":"qwen3-vl-4b"}') as text,
        contextlib.closing(Running(text)) as running,
    ):
        name = PRESETS["qwen3-vl-4b"].name
        assert f"model on home, burst, vm: {name} (preset qwen3-vl-4b): 16384 tokens of context" in text
        assert {lane: served(running, lane) for lane in FAULTS} == dict.fromkeys(FAULTS, name)
        listed = running.http.get("/models", headers=running.authorized).json()["data"]
        assert [model["id"] for model in listed] == [name]
