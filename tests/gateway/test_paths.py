"""Which paths exist, in which spellings and by which methods: the rendered configuration in a real Caddy between toys.

Every path that is served anywhere stands in one table here, so that a rule can't hold for one and not for another.
"""

import json
from collections.abc import Callable, Iterator
from typing import Final

import pytest

from components import paths
from components.gateway.caddy import config as caddy_config
from components.settings import Settings
from tests.gateway import routing
from tests.gateway.routing import environment, patient
from tests.gateway.world import VM_ADDRESS, Answer, World, world

SERVICES: Final = [
    {"name": "vllm", "preset": "model"},
    {"name": "tts", "preset": "tts"},
    {"name": "embed", "preset": "embeddings"},
]
MODELS: Final = ("Qwen/Qwen2.5-VL-7B-Instruct", "gpt-4o", "kokoro", "Qwen/Qwen3-Embedding-0.6B")
READ: Final = (paths.MODELS, *(f"{paths.MODELS}/{model}" for model in MODELS), paths.LANES)
POSTED: Final = (paths.CHAT, "/v1/completions", "/v1/embeddings", "/v1/audio")
"""What a lane answers."""
BELOW: Final = "/v1/audio/speech"
"""A service's own, as all below its path."""

Spelling = Callable[[str], str]


def upper(path: str) -> str:
    return path.upper()


def slash_at_the_end(path: str) -> str:
    return f"{path}/"


def slashes_at_the_end(path: str) -> str:
    return f"{path}///"


def doubled_slashes(path: str) -> str:
    return path.replace("/", "//")


def a_slash_before(path: str) -> str:
    return f"/{path}"


def a_dot(path: str) -> str:
    return path.replace("/v1/", "/v1/./")


def a_dot_at_the_end(path: str) -> str:
    return f"{path}/."


def there_and_back(path: str) -> str:
    return path.replace("/v1/", "/v1/nothing/../")


def back_from_below(path: str) -> str:
    return f"{path}/nothing/../"


def encoded_letters(path: str) -> str:
    return path.replace("o", "%6F").replace("/v1", "/%76%31")


def encoded_slashes(path: str) -> str:
    return "/" + path.removeprefix("/").replace("/", "%2F")


def encoded_slash_at_the_end(path: str) -> str:
    return f"{path}%2f"


def a_query(path: str) -> str:
    return f"{path}?api-version=1"


def a_slash_and_a_query(path: str) -> str:
    return f"{path}/?api-version=1"


SAME: Final[tuple[Spelling, ...]] = (
    upper, slash_at_the_end, slashes_at_the_end, doubled_slashes, a_slash_before, a_dot, a_dot_at_the_end,
    there_and_back, back_from_below, encoded_letters, encoded_slashes, encoded_slash_at_the_end, a_query,
    a_slash_and_a_query,
)  # fmt: skip
OTHER: Final[tuple[Spelling, ...]] = (
    lambda path: f"{path};v=1",
    lambda path: path + "%00",
    lambda path: path + "%20",
    lambda path: path + "%2520",
    lambda path: path.replace("/v1/", "/v1%252F"),
    lambda path: path.replace("/v1/", "/v1%5C"),
    lambda path: path.replace("/v1/", "/v1/x/"),
    lambda path: path.replace("/v1/", "/v2/"),
    lambda path: path.replace("/v1/", "/v1/v1/"),
    lambda path: path.replace("/v1/", "/v1/../"),
    lambda path: path.replace("/v1/", "/v1/*/"),
    lambda path: f"{path}*",
    lambda path: f"{path}-x",
    lambda path: f"/x{path}",
)
STRANGE: Final = ("/", "//", "/v1", "/v1/", "/v1//", "/v1/.", "/V1/..", "/metrics", "/health", "/%2e%2e/v1")
ENGINES_OWN: Final = (
    "/props", "/slots", "/completion", "/infill", "/embedding", "/tokenize", "/apply-template", "/lora-adapters",
    "/cors-proxy", "/tools", "/v1/messages", "/v1/rerank", "/v1/stream", "/v1/streams/lookup", "/v1/health",
    "/v1/chat/completions/control", "/v1/chat/completions/render", "/v1/chat/completions/batch",
    "/v1/completions/render", "/v1/responses/input_tokens", "/v1/responses/resp_1", "/v1/responses/resp_1/cancel",
    "/v1/load_lora_adapter", "/pause", "/sleep", "/collective_rpc", "/reset_prefix_cache", "/inference/v1/generate",
)  # fmt: skip
"""Paths of llama.cpp b11206 and vLLM 0.29.0 that no caller may reach: they read, steer or stop an engine."""


def settings() -> Settings:
    return routing.settings(services=SERVICES)


@pytest.fixture(scope="module")
def here() -> Iterator[World]:
    config = patient(caddy_config.render(settings(), vm_address=VM_ADDRESS))
    with world() as toys, toys.caddy(config, environment(settings())):
        yield toys


@pytest.fixture(autouse=True)
def forgotten(here: World) -> None:
    here.home.reset()
    here.vm.reset()


def unreached(here: World, answer: Answer, path: str) -> None:
    """A 404 that the stock SDK can read, and no lane saw the request."""
    assert (answer.status, answer.lane, here.home.begun, here.vm.begun) == (404, "gateway", 0, 0), path
    assert answer.error["code"] in ("not_found", "model_not_found"), path
    assert answer.error["type"] == "invalid_request_error", path


@pytest.mark.parametrize("spelling", SAME, ids=lambda spelling: spelling.__name__)
def test_one_path_has_many_spellings(here: World, spelling: Spelling) -> None:
    """Slashes, dots, case, encoded characters and the query make no difference; a lane sees the one spelling."""
    for path in READ:
        plain, spelled = here.call("GET", path, None), here.call("GET", spelling(path), None)
        assert (spelled.status, spelled.body) == (200, plain.body), spelling(path)
    for path in (*POSTED, BELOW):
        answer = here.call(path=spelling(path))
        assert (answer.status, answer.lane) == (200, "home"), spelling(path)
        # What is below a service's declared path is the service's own, its case included.
        seen = here.home.received[-1].path
        assert (seen.lower() if spelling is upper else seen) == path, spelling(path)
    assert here.call("GET", spelling("/ready"), None, Authorization="").status == 200


@pytest.mark.parametrize("number", range(len(OTHER)))
def test_any_other_spelling_is_404(here: World, number: int) -> None:
    for path in (*READ, *POSTED):
        spelled = OTHER[number](path)
        for method, body in (("GET", None), ("POST", b"{}")):
            unreached(here, here.call(method, spelled, body), spelled)


def test_no_engine_s_own_path_is_reached(here: World) -> None:
    for path in (*STRANGE, *ENGINES_OWN):
        for method, body in (("GET", None), ("POST", b"{}")):
            unreached(here, here.call(method, path, body), path)


# --- methods ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [*READ, f"{paths.MODELS}/other", "/v1/nothing", "/", "/ready"])
def test_head_answers_as_get_without_a_body(here: World, path: str) -> None:
    got, head = here.call("GET", path, None), here.call("HEAD", path, None)
    assert (head.status, head.body) == (got.status, b"")
    changing = {"date", "x-request-id"}
    assert {name: value for name, value in head.headers.items() if name not in changing} == {
        name: value for name, value in got.headers.items() if name not in changing
    }
    assert here.call("HEAD", path, None, Authorization="Bearer wrong-key-0123456789").status == (
        401 if path.startswith("/v1") else got.status
    )


@pytest.mark.parametrize("path", READ)
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_what_is_read_names_its_methods(here: World, path: str, method: str) -> None:
    answer = here.call(method, path, None)
    assert (answer.status, answer.error["code"], answer.headers["allow"]) == (405, "method_not_allowed", "GET, HEAD")


@pytest.mark.parametrize("path", [*POSTED, BELOW])
@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS"])
def test_what_a_lane_answers_names_its_method(here: World, path: str, method: str) -> None:
    answer = here.call(method, path, None)
    assert (answer.status, answer.headers["allow"], here.home.begun) == (405, "POST", 0)


# --- paths of OpenAI's that are not here ------------------------------------------------------------------------------


def test_a_missing_path_says_which_is_meant(here: World) -> None:
    for path, words in {
        "/v1/nothing": ("POST /v1/chat/completions, ", "/v1/embeddings, /v1/audio and GET /v1/models, /v1/lanes"),
        "/v1/chat/completions/chat/completions": ("POST /v1/chat/completions",),
        "/v1/images/generations": ("No service", "`services`", "POST /v1/chat/completions"),
        "/v1/files": ("keeps nothing", "POST /v1/chat/completions"),
        "/v1/batches/b_1": ("keeps nothing",),
        "/v1/assistants": ("keeps nothing",),
        "/v1/threads/t_1/runs": ("keeps nothing",),
        "/v1/vector_stores": ("keeps nothing",),
        "/v1/conversations": ("keeps nothing",),
        "/v1/responses": ("keeps nothing", "POST /v1/chat/completions, with the whole conversation"),
        "/v1/responses/resp_1": ("keeps nothing",),
        "/v1/chat/completions/chatcmpl-1": ("keeps nothing",),
        "/chat/completions": ("the API is under /v1",),
    }.items():
        for method, body in (("GET", None), ("POST", b"{}")):
            answer = here.call(method, path, body)
            unreached(here, answer, path)
            for word in words:
                assert word in answer.error["message"], (path, answer.error["message"])


def test_models_have_the_fields_that_clients_read(here: World) -> None:
    """The form of OpenAI's `GET /v1/models` (platform.openai.com/docs/api-reference/models)."""
    listed = json.loads(here.call("GET", paths.MODELS, None).body)
    assert listed.keys() == {"object", "data"}
    assert listed["object"] == "list"
    assert [model["id"] for model in listed["data"]] == list(MODELS)
    for model in listed["data"]:
        fields = {"id": str, "object": str, "created": int, "owned_by": str}
        assert {name: type(model[name]) for name in fields} == fields
        # As the Python SDK sends the name, and as the JavaScript SDK does.
        for name in (model["id"], model["id"].replace("/", "%2F")):
            assert json.loads(here.call("GET", f"{paths.MODELS}/{name}", None).body) == model
