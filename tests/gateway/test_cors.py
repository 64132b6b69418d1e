"""What a browser sees of the gateway: the rendered configuration in a real Caddy between toys.

The toys answer as llama.cpp does, with CORS headers of their own.
"""

from collections.abc import Iterator, Sequence
from typing import Final

import pytest

from components.gateway.caddy import config as caddy_config
from components.settings import Settings
from tests.gateway import routing
from tests.gateway.backends import Behaviour
from tests.gateway.routing import environment, patient
from tests.gateway.world import KEY, VM_ADDRESS, Answer, World, world

PAGE: Final = "https://app.example.com"
LOCAL: Final = "http://localhost:5173"
ORIGINS: Final = {"TestNamedOrigins": (PAGE, LOCAL), "TestAnyOrigin": ("*",), "TestNoOrigin": ()}
"""The setting, by the class of the tests that share a gateway with it."""
STRANGERS: Final = (
    "https://evil.example", "https://app.example.com.evil.example", "https://xapp.example.com", "null", "*", "",
    "http://app.example.com", "https://app.example.com:8443", "http://localhost:5174", "{env.CLIENT_KEY_DEMO}",
    "https://app.example.com, https://evil.example", "https://app.example.com/",
)  # fmt: skip
SDK: Final = (
    "authorization,content-type,x-stainless-arch,x-stainless-lang,x-stainless-os,x-stainless-package-version,"
    + "x-stainless-retry-count,x-stainless-runtime,x-stainless-runtime-version,x-stainless-timeout"
)
"""What a browser asks for on behalf of the JavaScript SDK (`dangerouslyAllowBrowser`), by the headers that it adds."""
LANE_S_OWN: Final = {
    "Access-Control-Allow-Origin": "",
    "Access-Control-Allow-Credentials": "true",
    "Access-Control-Expose-Headers": "*",
    "Access-Control-Anything": "x",
}
EVERY_ANSWER: Final = [
    ("GET", "/v1/models", KEY, 200),
    ("HEAD", "/v1/models", KEY, 200),
    ("GET", "/v1/models/other", KEY, 404),
    ("GET", "/v1/lanes", KEY, 200),
    ("GET", "/v1/nothing", KEY, 404),
    ("GET", "/", KEY, 404),
    ("GET", "/ready", "", 200),
    ("GET", "/v1/models", "wrong-key-0123456789", 401),
    ("PUT", "/v1/chat/completions", KEY, 405),
    ("POST", "/v1/chat/completions", KEY, 200),
    ("POST", "/v1/chat/completions", "wrong-key-0123456789", 401),
    ("POST", "/v1/audio/speech", KEY, 200),
]


def settings(origins: Sequence[str]) -> Settings:
    return routing.settings(
        services=[{"name": "vllm", "preset": "model"}, {"name": "tts", "preset": "tts"}],
        gateway={
            "wait_s": 1,
            "timeout_s": 60,
            "request_limit_mib": 24,
            "cors_origins": [*origins],
            "console": False,
        },
    )


@pytest.fixture(scope="module")
def toys() -> Iterator[World]:
    with world() as found:
        yield found


@pytest.fixture(scope="class")
def here(toys: World, request: pytest.FixtureRequest) -> Iterator[World]:
    chosen = settings(ORIGINS[request.node.name])
    with toys.caddy(patient(caddy_config.render(chosen, vm_address=VM_ADDRESS)), environment(chosen)):
        yield toys


@pytest.fixture(autouse=True)
def as_llama_cpp(here: World) -> None:
    for lane in (here.home, here.vm):
        lane.reset()
        lane.behaviour = Behaviour(headers=dict(LANE_S_OWN))


def asked(here: World, method: str, path: str, key: str = KEY, **headers: str) -> Answer:
    body = b"{}" if method == "POST" else None
    return here.call(method, path, body, Authorization=f"Bearer {key}" if key else "", **headers)


def cors(answer: Answer) -> dict[str, str]:
    """What a browser goes by. A doubled line shows as two values, of which it would take none."""
    return {name: text for name, text in answer.headers.items() if name.startswith("access-") or name == "vary"}


def preflight(here: World, origin: str, path: str = "/v1/chat/completions") -> Answer:
    """As a browser sends it: without a key."""
    return asked(here, "OPTIONS", path, "", Origin=origin, Access_Control_Request_Method="POST",
                 Access_Control_Request_Headers=SDK)  # fmt: skip


def allowed(origin: str) -> dict[str, str]:
    exposed = "X-Request-Id, X-Served-By, Retry-After, X-Should-Retry"
    found = {"access-control-allow-origin": origin, "access-control-expose-headers": exposed}
    return found if origin == "*" else {**found, "vary": "Origin"}


class TestNamedOrigins:
    """Two pages may call, nobody else."""

    @pytest.mark.parametrize("origin", [PAGE, LOCAL])
    @pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/models", "/v1/audio/speech", "/v1/nothing", "/"])
    def test_a_preflight_is_answered_without_a_key(self, here: World, origin: str, path: str) -> None:
        answer = preflight(here, origin, path)
        assert (answer.status, answer.body, here.home.begun) == (204, b"", 0)
        # No `-Credentials`: a browser's cookies have no place here.
        assert cors(answer) == allowed(origin) | {
            "access-control-allow-methods": "GET, HEAD, POST",
            "access-control-allow-headers": SDK,
            "access-control-max-age": "7200",
        }

    @pytest.mark.parametrize("origin", STRANGERS)
    def test_a_stranger_s_preflight_is_refused(self, here: World, origin: str) -> None:
        answer = preflight(here, origin)
        assert (answer.status, cors(answer)) == (403, {"vary": "Origin"})

    def test_the_refusal_says_what_to_do(self, here: World) -> None:
        answer = here.call("OPTIONS", "/v1/models", None, Authorization="", Origin="https://evil.example",
                           Access_Control_Request_Method="GET")  # fmt: skip
        assert answer.error["code"] == "origin_not_allowed"
        assert "gateway.cors_origins" in answer.error["message"]

    @pytest.mark.parametrize(("method", "path", "key", "status"), EVERY_ANSWER)
    def test_every_answer_may_be_read(self, here: World, method: str, path: str, key: str, status: int) -> None:
        answer = asked(here, method, path, key, Origin=PAGE)
        assert (answer.status, cors(answer)) == (status, allowed(PAGE))
        for stranger in ({}, {"Origin": "https://evil.example"}):
            answer = asked(here, method, path, key, **stranger)
            assert (answer.status, cors(answer)) == (status, {"vary": "Origin"}), "a browser hides it from the page"

    def test_refusals_of_the_body_may_be_read(self, here: World) -> None:
        head = f"POST /v1/chat/completions HTTP/1.1\r\nOrigin: {PAGE}\r\n"
        for line, status in ((f"Content-Length: {24 * 1024 * 1024 + 1}", b"413"), ("Content-Length: 2", b"200")):
            answer = here.raw(head + line, b"{}")
            assert answer[9:12] == status
            assert answer.lower().count(f"access-control-allow-origin: {PAGE}\r\n".encode()) == 1

    def test_a_lane_s_refusal_and_its_failure_may_be_read(self, here: World) -> None:
        for status in (400, 404, 429, 500):
            here.home.behaviour = here.vm.behaviour = Behaviour(status=status, headers=dict(LANE_S_OWN))
            answer = asked(here, "POST", "/v1/chat/completions", Origin=PAGE)
            assert (answer.status, cors(answer)) == (status, allowed(PAGE))

    def test_no_lane_may_be_read(self, here: World) -> None:
        here.home.down()
        here.vm.down()
        try:
            answer = asked(here, "POST", "/v1/chat/completions", Origin=PAGE)
            assert (answer.status, cors(answer), answer.headers["retry-after"]) == (503, allowed(PAGE), "5")
        finally:
            here.settle()

    def test_a_stream_may_be_read(self, here: World) -> None:
        here.home.behaviour = Behaviour(tokens=[0.0] * 3, headers=dict(LANE_S_OWN))
        answer = asked(here, "POST", "/v1/chat/completions", Origin=PAGE)
        assert (answer.status, cors(answer), answer.body.count(b"data: ")) == (200, allowed(PAGE), 3)


class TestAnyOrigin:
    """Every page may call that has a key."""

    @pytest.mark.parametrize("origin", [PAGE, "https://other.example", "null"])
    def test_any_page_may_call(self, here: World, origin: str) -> None:
        answer = preflight(here, origin)
        assert (answer.status, cors(answer).items() >= allowed("*").items()) == (204, True)
        assert answer.headers["access-control-allow-headers"] == SDK, "a star would not stand for `Authorization`"
        for method, path, key, status in EVERY_ANSWER:
            answer = asked(here, method, path, key, Origin=origin)
            assert (answer.status, cors(answer)) == (status, allowed("*")), path


class TestNoOrigin:
    """The default: no page may call."""

    def test_no_page_may_call(self, here: World) -> None:
        for origin in (PAGE, *STRANGERS):
            answer = preflight(here, origin)
            assert (answer.status, cors(answer)) == (403, {})

    @pytest.mark.parametrize("origin", [{}, {"Origin": PAGE}])
    def test_nothing_of_a_lane_s_own_leaks(self, here: World, origin: dict[str, str]) -> None:
        for method, path, key, status in EVERY_ANSWER:
            answer = asked(here, method, path, key, **origin)
            assert (answer.status, cors(answer)) == (status, {}), path

    def test_options_without_a_page_is_any_other_method(self, here: World) -> None:
        assert asked(here, "OPTIONS", "/v1/models", "").status == 401
        assert asked(here, "OPTIONS", "/v1/models").status == 405
        assert asked(here, "OPTIONS", "/v1/models", Origin=PAGE).status == 405
