"""The services table: a row is right only if the answer is what the declaration promises."""

import dataclasses
from types import SimpleNamespace
from typing import Any

import openai
import pytest

from components.settings import declared_services
from components.settings.presets import PRESETS
from components.settings.reading import read
from lab.__main__ import parser
from lab.measure import services
from lab.read.cloud import Cloud
from lab.read.stack import config_of

MODEL = "Qwen/Qwen2.5-VL-7B-Instruct"
EMBEDDER = "Qwen/Qwen3-Embedding-0.6B"


def test_the_lab_takes_what_it_is_started_with() -> None:
    arguments = parser().parse_args(services.UP)
    assert arguments.detach
    settings = {key: services.json.loads(text) for key, _, text in (item.partition("=") for item in arguments.config)}
    assert settings == services.CONFIG


@pytest.fixture(scope="module")
def declared() -> dict[str, services.Service]:
    return {service.name: service for service in services.declared(services.recorded())}


def test_what_is_asked_for_is_what_the_settings_declare(declared: dict[str, services.Service]) -> None:
    """Every preset is asked, at its path, for its model; the lab reads all of it from the recorded stack."""
    assert set(services.PRESETS.values()) == set(PRESETS)
    config = {f"pilotlight:{key}": services.json.dumps(value) for key, value in services.CONFIG.items()}
    settings = read({**Cloud(port=1).config(), **config_of("dev"), **config}, stack="dev")
    fields = {field.name for field in dataclasses.fields(services.Service)} - {"lanes", "paths"}
    assert [vars(service) for service in declared.values()] == [
        {name: getattr(service, name) for name in fields}
        | {
            "lanes": tuple(settings.lanes) if service.completes else ("home",),
            "paths": declared_services.answered(settings) if service.completes else service.paths,
        }
        for service in declared_services.declared(settings)
    ]


def answer(lane: str, said: str) -> Any:
    def ask(_: object) -> Any:
        return {"X-Served-By": lane}, said

    return ask


def refusal(status: int, lane: str = "gateway", **headers: str) -> Any:
    headers = {"X-Served-By": lane} | {name.replace("_", "-"): value for name, value in headers.items()}

    def ask(_: object) -> Any:
        response: Any = SimpleNamespace(status_code=status, headers=headers, request=None)
        raise openai.APIStatusError("refused", response=response, body=None)

    return ask


@pytest.mark.parametrize(
    ("name", "home", "seen", "right"),
    [
        ("qwen", "on", answer("home", MODEL), True),
        ("qwen", "on", answer("vm", MODEL), False),
        ("qwen", "on", answer("home", EMBEDDER), False),
        ("qwen", "off", answer("vm", MODEL), True),
        ("qwen", "off", answer("home", MODEL), False),
        ("qwen", "off", refusal(503, Retry_After="5"), False),
        ("embeddings", "on", answer("home", EMBEDDER), True),
        ("embeddings", "on", answer("vm", EMBEDDER), False),
        ("embeddings", "on", answer("home", MODEL), False),
        ("embeddings", "on", refusal(503, Retry_After="5"), False),
        ("embeddings", "off", refusal(503, Retry_After="5"), True),
        ("embeddings", "off", refusal(503), False),
        ("embeddings", "off", refusal(404, lane="home"), False),
        ("embeddings", "off", refusal(503, lane="home", Retry_After="5"), False),
        ("embeddings", "off", answer("vm", EMBEDDER), False),
        ("tts", "on", refusal(503, Retry_After="5"), True),
        ("tts", "on", refusal(404, lane="home"), False),
        ("tts", "on", answer("home", "kokoro"), False),
    ],
)
def test_a_row_is_right_only_if_the_promised_lane_and_model_answer(
    monkeypatch: pytest.MonkeyPatch, declared: dict[str, services.Service], name: str, home: str, seen: Any, right: bool
) -> None:
    callers = services.Callers("http://127.0.0.1:1/v1", "key")
    monkeypatch.setattr(callers, "request", seen)
    row = callers.ask(declared[name], home)
    assert row.right is right, row
    assert ("not run here" in services.table([row])) == (name == "tts")
    assert services.table([row]).splitlines()[1].startswith("ok" if right else "WRONG")
