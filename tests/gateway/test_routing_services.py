"""Services that live at home only, as callers see them: the rendered configuration in a real Caddy between toys.

Each check is run once more against a configuration with one rule taken out, and must see it.
"""

import threading
from collections.abc import Iterator
from typing import Any, cast

import pytest

from components.gateway.caddy import config as caddy_config
from components.gateway.caddy import pause, walk
from components.settings import Settings
from tests.gateway import routing
from tests.gateway.backends import Behaviour, Lane
from tests.gateway.routing import AT_ONCE_S, LARGE, SMALL, Check, Mutation, broken, environment, find, patient, sha256
from tests.gateway.world import BURST_ADDRESS, VM_ADDRESS, Answer, World, world
from tests.kit import happens, until

WAIT_S = 1
SERVICES = [
    {"name": "vllm", "preset": "model"},
    {"name": "tts", "preset": "tts", "max_requests": 1},
    {
        "name": "ears",
        "image": "ghcr.io/a/ears:1.0.0",
        "model": "ears",
        "paths": ["/v1/audio/transcriptions"],
        "slices": 0,
    },
    {"name": "embed", "preset": "embeddings", "max_requests": 1},
]
MODELS = ["Qwen/Qwen2.5-VL-7B-Instruct", routing.ALIAS, "kokoro", "ears", "Qwen/Qwen3-Embedding-0.6B"]


class Home(Lane):
    """Home with several services: each has its own health, under its name, and may behave in its own way."""

    def reset(self) -> None:
        super().reset()
        self.away: set[str] = set()
        self.asked: set[str] = set()
        """Paths that were asked for."""

    def checked(self, path: str) -> tuple[int, bytes]:
        self.asked.add(path)
        known, host = {str(service["name"]) for service in SERVICES}, self.seen[-1]["host"]
        return (404 if path != "/health" or host not in known else 503 if host in self.away else 200), b"{}"


def settings(**changes: object) -> Settings:
    return routing.settings(services=SERVICES, **changes)


def rendered() -> dict[str, Any]:
    return patient(caddy_config.render(settings(), vm_address=VM_ADDRESS))


def home_of(here: World) -> Home:
    return cast(Home, here.home)


def speak(here: World, body: bytes = SMALL, **headers: str) -> Answer:
    return here.call(path="/v1/audio/speech", body=body, **headers)


# --- what callers see -------------------------------------------------------------------------------------------------


def each_path_is_its_own_service_s(here: World) -> None:
    for path in ("/v1/audio/speech", "/v1/audio/transcriptions", "/v1/embeddings", "/v1/chat/completions"):
        answer = here.call(path=path, body=SMALL, X_Request_Id="r")
        assert (answer.status, answer.lane, answer.headers["x-request-id"]) == (200, "home", "r"), path
    assert [r.path for r in here.home.received] == [
        "/v1/audio/speech", "/v1/audio/transcriptions", "/v1/embeddings", "/v1/chat/completions",
    ]  # fmt: skip
    assert {r.sha256 for r in here.home.received} == {sha256(SMALL)}
    assert here.tunnel.asked == {"home:80"}


def the_longest_path_wins(here: World) -> None:
    """Seen by whose absence is felt: `ears` has a path under that of `tts`."""
    home_of(here).away = {"ears"}
    assert happens(lambda: here.call(path="/v1/audio/transcriptions").status == 503)
    assert speak(here).status == 200
    home_of(here).away = {"tts"}
    assert happens(lambda: here.call(path="/v1/audio/transcriptions").status == 200)
    assert happens(lambda: speak(here).status == 503)


def one_spelling_reaches_a_service(here: World) -> None:
    for path in ("speech?key=1", "/speech", "%73peech", "SPEECH", "x/../speech", "../audio/speech"):
        assert here.call(path=f"/v1/Audio/{path}").status == 200, path
    assert {r.path for r in here.home.received} == {"/v1/audio/speech", "/v1/audio/SPEECH"}
    here.home.received.clear()
    for path in ("/v1/audio/../pause", "/v1/audio/%2e%2e/pause", "/v1/audiobook", "/v1/audio/a%20b", "/v1/audio/%00"):
        assert here.call(path=path).status in (400, 404), path
    assert here.home.received == []


def home_away_is_503_and_no_other_lane(here: World) -> None:
    here.home.down()
    assert happens(lambda: here.call().lane == "vm"), "the model has another lane"
    here.vm.reset()
    for body in (SMALL, LARGE):
        answer = speak(here, body)
        assert (answer.status, answer.lane, answer.error["code"]) == (503, "gateway", "no_lane")
        assert answer.headers.get("retry-after") == "5"
        assert answer.seconds < WAIT_S + AT_ONCE_S
    assert here.vm.begun == 0
    here.home.up()
    assert happens(lambda: speak(here).status == 200)


def a_service_away_is_503_and_the_others_serve(here: World) -> None:
    home_of(here).away = {"tts"}
    assert happens(lambda: speak(here).status == 503)
    begun = here.home.begun
    answer = speak(here)
    assert (answer.status, answer.headers.get("retry-after"), here.home.begun) == (503, "5", begun)
    assert [here.call().lane, here.call(path="/v1/embeddings").lane] == ["home", "home"]
    home_of(here).away = {"vllm"}
    assert happens(lambda: here.call().lane == "vm")
    assert happens(lambda: speak(here).lane == "home")


def a_service_takes_no_slot_of_the_model(here: World) -> None:
    here.home.by_path = {"/v1/audio/speech": Behaviour(hold=True)}
    caller = threading.Thread(target=lambda: speak(here))
    caller.start()
    try:
        assert happens(lambda: here.home.running == 1)
        # One after the other: Caddy looks for a free slot and takes it in two steps.
        with here.held(here.home, 1), here.held(here.home, 1):
            assert here.home.running == 3, "the model still has its two slots"
            assert here.call(path="/v1/audio/speech").status == 503, "the service has one"
    finally:
        here.home.release()
        caller.join(30)


def the_model_takes_no_slot_of_a_service(here: World) -> None:
    here.home.by_path = {"/v1/audio/speech": Behaviour()}
    with here.held(here.home, 2):
        assert speak(here).status == 200


def a_failing_service_doesn_t_mark_home(here: World) -> None:
    here.home.by_path = {"/v1/audio/speech": Behaviour(die_after=0)}
    assert speak(here).status == 503
    assert [here.call().lane for _ in range(5)] == ["home"] * 5
    assert here.call(path="/v1/embeddings").lane == "home"


def a_service_s_500_stands(here: World) -> None:
    told = b'{"error":"no such voice"}'
    here.home.by_path = {"/v1/audio/speech": Behaviour(status=500, body=told)}
    for count, body in enumerate((SMALL, LARGE), start=1):
        answer = speak(here, body)
        assert (answer.status, answer.lane, answer.body, here.home.begun) == (500, "home", told, count)
    assert here.vm.begun == 0


def files_pass_as_they_are(here: World) -> None:
    kind = "multipart/form-data; boundary=a-b-c"
    for body in (SMALL, LARGE):
        here.call(path="/v1/audio/transcriptions", body=body, Content_Type=kind)
        assert here.home.received[-1].headers["content-type"] == kind
        assert here.home.received[-1].sha256 == sha256(body)


def the_door_is_the_same(here: World) -> None:
    for path in ("/v1/audio/speech", "/v1/embeddings", "/v1/models/kokoro"):
        assert here.call("POST", path, Authorization="Bearer wrong-key-0123456789").status == 401
    for method, path, status in [
        ("GET", "/v1/audio/speech", 405), ("PUT", "/v1/embeddings", 405), ("POST", "/v1/models/kokoro", 405),
    ]:  # fmt: skip
        assert here.call(method, path, None).status == status
    start = "POST /v1/audio/speech HTTP/1.1\r\n"
    for status, line in {
        b"411": "Accept: */*",
        b"413": f"Content-Length: {24 * 1024 * 1024 + 1}",
        b"415": "Content-Encoding: gzip\r\nContent-Length: 1000000",
        b"400": "Transfer-Encoding: chunked",
    }.items():
        assert here.raw(f"{start}{line}", b"no chunk\r\n")[9:12] == status, line
    assert here.home.begun == 0
    speak(here, b"{}", Cookie="a=b", X_Forwarded_For="1.2.3.4", Host="tts", X_Lane="home", X_Request_Id="r",
          Accept="audio/mpeg", User_Agent="robot")  # fmt: skip
    assert here.home.received[0].headers == {
        "host": "home:80", "content-length": "2", "content-type": "application/json", "x-request-id": "r",
        "accept": "audio/mpeg", "user-agent": "robot",
    }  # fmt: skip


def no_caller_reads_the_metrics(here: World) -> None:
    """Traefik leads whoever asks in a service's name to its metrics: the gateway does so for itself alone."""
    for path in ("/metrics", "/v1/vllm/metrics", "/v1/audio/../../metrics", "/v1/%2e%2e/metrics", "//vllm/metrics"):
        for method, body in (("GET", None), ("POST", SMALL)):
            assert here.call(method, path, body, Host="vllm").status in (400, 404, 405), (method, path)
    here.raw("GET http://vllm/metrics HTTP/1.1")
    assert here.home.received == []
    assert home_of(here).asked <= {"/health"}
    for path in ("/v1/chat/completions", "/v1/audio/speech"):
        here.call(path=path, body=SMALL, Host="vllm")
        assert here.home.received[-1].headers["host"] == "home:80"


def the_list_is_what_is_declared(here: World) -> None:
    assert [model.id for model in here.sdk().models.list()] == MODELS
    assert [here.sdk().models.retrieve(model).id for model in MODELS] == MODELS
    assert here.call("GET", "/v1/models/other", None).error["code"] == "model_not_found"


CHECKS: list[Check] = [
    each_path_is_its_own_service_s, the_longest_path_wins, one_spelling_reaches_a_service,
    home_away_is_503_and_no_other_lane, a_service_away_is_503_and_the_others_serve,
    a_service_takes_no_slot_of_the_model, the_model_takes_no_slot_of_a_service, a_failing_service_doesn_t_mark_home,
    a_service_s_500_stands, files_pass_as_they_are, the_door_is_the_same, no_caller_reads_the_metrics,
    the_list_is_what_is_declared,
]  # fmt: skip


@pytest.fixture(scope="module")
def toys() -> Iterator[World]:
    with world(Home) as found:
        yield found


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk, "SERVICE_WAIT_S", WAIT_S)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_services(toys: World, check: Check) -> None:
    with toys.caddy(rendered(), environment(settings())):
        assert happens(lambda: speak(toys).status == 200)
        toys.heal()
        check(toys)


# --- each rule, taken out once ----------------------------------------------------------------------------------------


def of_services(config: dict[str, Any]) -> list[dict[str, Any]]:
    """Handlers whose one upstream is a service."""

    def lanes(proxy: dict[str, Any]) -> int:
        return len([each for each in proxy["upstreams"] if each["dial"] != pause.DIAL])

    return find(config, lambda x: "load_balancing" in x and lanes(x) == 1)


def spelled_as_home(config: dict[str, Any]) -> None:
    for node in find(config, lambda x: str(x.get("dial", "")).startswith("home:0")):
        node["dial"] = "home:80"


def falls_to_the_vm(config: dict[str, Any]) -> None:
    for proxy in of_services(config):
        proxy["upstreams"].append({"dial": f"{VM_ADDRESS}:9931"})


def failures_retried(config: dict[str, Any]) -> None:
    for proxy in of_services(config):
        for rule in proxy["load_balancing"].get("retry_match", ()):
            rule["expression"] += " || {http.reverse_proxy.status_code} == 500"


def health_of_nobody(config: dict[str, Any]) -> None:
    for check in config["apps"]["http"]["servers"]["checks"]["routes"]:
        for node in find(check, lambda x: x.get("Host") == ["tts"]):
            node["Host"] = ["vllm"]


def shortest_path_first(config: dict[str, Any]) -> None:
    for node in find(config, lambda x: "routes" in x):
        routes = node["routes"]
        places = [i for i, route in enumerate(routes) if "path_regexp" in str(route.get("match"))]
        for place, route in zip(places, [routes[i] for i in reversed(places)], strict=True):
            routes[place] = route


def paths_as_sent(config: dict[str, Any]) -> None:
    for parent in find(config, lambda x: "routes" in x):
        parent["routes"] = [
            r for r in parent["routes"]
            if not any("{http.regexp.below.1}" in str(step.get("uri")) for step in r.get("handle", ())[:1])
        ]  # fmt: skip


def any_characters(config: dict[str, Any]) -> None:
    for node in find(config, lambda x: x.get("name") == "below"):
        node["pattern"] = node["pattern"].replace("((?:/[A-Za-z0-9._~-]+)*)$", "(.*)")


def no_guards(config: dict[str, Any]) -> None:
    for parent in find(config, lambda x: "routes" in x and "{http.regexp.below.1}" in str(x["routes"])):
        parent["routes"] = [r for r in parent["routes"] if r["handle"][0]["handler"] != "invoke"]


def headers_pass(config: dict[str, Any]) -> None:
    for proxy in of_services(config):
        del proxy["headers"]["request"]["delete"]


def hosts_pass(config: dict[str, Any]) -> None:
    for proxy in find(config, lambda x: "load_balancing" in x and "headers" in x):
        proxy["headers"]["request"]["delete"] = []
        proxy["headers"]["request"]["set"]["Host"] = ["{http.request.host}"]


def long_wait(config: dict[str, Any]) -> None:
    for proxy in of_services(config):
        proxy["load_balancing"]["try_duration"] = "240s"


def no_limit(config: dict[str, Any]) -> None:
    for proxy in of_services(config):
        del proxy["upstreams"][0]["max_requests"]


def unlisted(config: dict[str, Any]) -> None:
    for node in find(config, lambda x: '"list"' in str(x.get("body"))):
        node["body"] = node["body"].replace("kokoro", "other")


BROKEN: list[tuple[Mutation, Check]] = [
    (spelled_as_home, a_service_takes_no_slot_of_the_model),
    (spelled_as_home, a_failing_service_doesn_t_mark_home),
    (falls_to_the_vm, home_away_is_503_and_no_other_lane),
    (failures_retried, a_service_s_500_stands),
    (health_of_nobody, a_service_away_is_503_and_the_others_serve),
    (shortest_path_first, the_longest_path_wins),
    (paths_as_sent, one_spelling_reaches_a_service),
    (any_characters, one_spelling_reaches_a_service),
    (no_guards, the_door_is_the_same),
    (headers_pass, the_door_is_the_same),
    (hosts_pass, no_caller_reads_the_metrics),
    (long_wait, home_away_is_503_and_no_other_lane),
    (no_limit, a_service_takes_no_slot_of_the_model),
    (unlisted, the_list_is_what_is_declared),
]


@pytest.mark.slow
@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize(("mutation", "check"), BROKEN, ids=lambda value: value.__name__)
def test_services_without_one_of_their_rules_are_seen(toys: World, mutation: Mutation, check: Check) -> None:
    config = broken(rendered(), mutation)
    with toys.caddy(config, environment(settings())):
        toys.heal()
        with pytest.raises(AssertionError):
            check(toys)


# --- with burst -------------------------------------------------------------------------------------------------------


def test_a_service_s_callers_are_no_demand_for_burst(toys: World) -> None:
    """The pilot wakes burst by Caddy's gauge of callers who want a lane of the model."""
    chosen = settings(lanes=["home", "burst", "vm"])
    config = caddy_config.render(chosen, vm_address=VM_ADDRESS, burst_url=f"http://{BURST_ADDRESS}:{toys.burst.port}")
    with toys.caddy(patient(config), environment(chosen)):
        assert happens(lambda: speak(toys).status == 200)
        toys.home.by_path = {"/v1/audio/speech": Behaviour(hold=True)}
        caller = threading.Thread(target=lambda: speak(toys))
        caller.start()
        assert happens(lambda: toys.home.running == 1)

        def counted(handler: str) -> float:
            gauge = f'caddy_http_requests_in_flight{{handler="{handler}",server="api"}} '
            lines = toys.admin("/metrics").splitlines()
            return sum(float(line.removeprefix(gauge)) for line in lines if line.startswith(gauge))

        try:
            # Callers before this one are counted until a moment after their answers.
            until(lambda: counted("reverse_proxy") == 0, "a service's caller is not counted with the model's")
            assert counted("subroute") >= 1, "he is counted somewhere"
        finally:
            toys.home.release()
            caller.join(30)
