"""The lab's K3s: the declared charts through the real Helm and the real Traefik, down to a backend on loopback."""

import asyncio
import hashlib
import http.client
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast

import pytest

from components.home.traefik import traefik_values
from lab.errors import LabError
from lab.read import home
from lab.read.stack import Resource
from lab.read.traefik import CHART_CONFIG, traefik_command, traefik_environment
from lab.run.kubernetes_api import KubernetesApi
from lab.run.ports import BlackHole, free_port
from tests.kit import loop_beside, until

IMAGE = "docker.io/vllm/vllm-openai:v0.29.0-cu129"
DEADLINE_S = 60.0


def recorded(token: str, name: str, inputs: dict[str, Any] | None = None) -> Resource:
    """A resource as the lab's recorder makes them, of which the readers look at type, name and inputs."""
    return Resource("", token, name, "home", inputs or {}, outputs={}, options={}, secrets=frozenset())


def release(name: str = "vllm", **values: Any) -> Resource:
    """A release of the local chart, with the inputs the Home component sends."""
    inputs: dict[str, Any] = {
        "chart": "./charts/ai-service",
        "name": name,
        "namespace": "pilotlight",
        "values": {"image": IMAGE, "ingress": {"prefixes": ["/v1"]}, **values},
        "skipAwait": True,
        "atomic": False,
        "timeout": 300,
        "compat": "true",
        "description": "charts/ai-service",
    }
    return recorded(home.RELEASE, f"home-{name}", inputs)


def device_plugin() -> Resource:
    repo = {"repo": "https://nvidia.github.io/k8s-device-plugin"}
    inputs: dict[str, Any] = {
        "chart": "nvidia-device-plugin",
        "repositoryOpts": repo,
        "name": "p",
        "namespace": "pilotlight",
    }
    return recorded(home.RELEASE, "home-device-plugin", inputs)


def chart_config(content: str, name: str = "traefik") -> Resource:
    inputs = {"metadata": {"name": name, "namespace": "kube-system"}, "spec": {"valuesContent": content}}
    return recorded(CHART_CONFIG, "home-traefik", inputs)


class Backend(ThreadingHTTPServer):
    """Says who answered; `/v1/stream` sends three chunks and waits for `proceed` before the last."""

    daemon_threads = True

    def __init__(self, name: str, host: str) -> None:
        super().__init__((host, 0), _Answer)
        self.name = name
        self.proceed = threading.Event()
        self.hosts: list[str] = []

    @property
    def address(self) -> str:
        return f"{self.server_address[0]}:{self.server_address[1]}"


class _Answer(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        backend = cast(Backend, self.server)
        backend.hosts.append(self.headers["Host"])
        if self.path == "/v1/stream":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for index in range(3):
                if index == 2:
                    backend.proceed.wait(DEADLINE_S)
                self.wfile.write(b"%x\r\ndata: %d\n\n\r\n" % (9, index))
                self.wfile.flush()
            self.wfile.write(b"0\r\n\r\n")
            return
        self._say(f"{backend.name} {self.path}")

    def do_POST(self) -> None:
        digest = hashlib.sha256()
        left = int(self.headers["Content-Length"])
        while left:
            piece = self.rfile.read(min(left, 65536))
            if not piece:
                return
            digest.update(piece)
            left -= len(piece)
        self._say(digest.hexdigest())

    def _say(self, text: str) -> None:
        body = text.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def backend(name: str, host: str = "127.0.0.1") -> Generator[Backend]:
    server = Backend(name, host)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.proceed.set()
        server.shutdown()
        thread.join()
        server.server_close()


class Api:
    """The lab's Kubernetes API in a thread, for tests that wait in theirs."""

    def __init__(self, resources: list[Resource], loop: asyncio.AbstractEventLoop) -> None:
        self._api, self._loop = KubernetesApi(home.objects(resources)), loop

    @property
    def url(self) -> str:
        return self._api.url

    @property
    def unanswered(self) -> list[str]:
        return self._api.unanswered

    def start(self) -> None:
        asyncio.run_coroutine_threadsafe(self._api.start(), self._loop).result(DEADLINE_S)

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._api.stop(), self._loop).result(DEADLINE_S)

    def set_endpoint(self, service: str, address: str | None, pod: str = "pod") -> None:
        self._loop.call_soon_threadsafe(partial(self._api.set_endpoint, service, address, pod=pod))


@contextmanager
def kubernetes(resources: list[Resource]) -> Generator[Api]:
    with loop_beside() as loop:
        api = Api(resources, loop)
        api.start()
        try:
            yield api
        finally:
            api.stop()


@contextmanager
def traefik(resources: list[Resource], api: Api, folder: Path) -> Generator[int]:
    """The real Traefik for the declared resources; yields the port of its `web` entry point."""
    port, ping_port = free_port(), free_port()
    command = traefik_command(resources, port=port, ping_port=ping_port, api_url=api.url)
    with (folder / "traefik.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, env=traefik_environment(folder), stdout=log, stderr=subprocess.STDOUT
        )
        try:
            until(lambda: get(ping_port, "/ping")[0] == 200, "Traefik answers its ping")
            yield port
        finally:
            os.kill(process.pid, signal.SIGTERM)
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def get(port: int, path: str, *, host: str = "home") -> tuple[int, str]:
    """Status and body; status 0 when nobody listens yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", path, headers={"Host": host})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace")
    except OSError:
        return 0, ""
    finally:
        connection.close()


@pytest.fixture(scope="module")
def routed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Backend, Backend]]:
    """Traefik with two declared services, the second on a longer prefix and another pod port."""
    resources = [
        release(ingress={"prefixes": ["/v1"], "metrics": "/metrics"}),
        release("speech", port=8880, ingress={"prefixes": ["/v1/audio"]}, probes={"path": "/readyz"}),
        chart_config(traefik_values(300)),
        device_plugin(),
    ]
    folder = tmp_path_factory.mktemp("traefik")
    with backend("vllm") as vllm, backend("speech") as speech, kubernetes(resources) as api:
        api.set_endpoint("vllm", vllm.address)
        api.set_endpoint("speech", speech.address)
        with traefik(resources, api, folder) as port:
            until(lambda: get(port, "/v1/models")[0] == 200, "the declared route is loaded")
            yield port, vllm, speech
        assert api.unanswered == []
        log = (folder / "traefik.log").read_text()
        assert "ERR" not in log, log


def test_a_declared_path_reaches_its_service(routed: tuple[int, Backend, Backend]) -> None:
    assert get(routed[0], "/v1/models") == (200, "vllm /v1/models")


def test_each_service_answers_for_its_own_health(routed: tuple[int, Backend, Backend]) -> None:
    """Asked under its name: by path alone, one would answer for another."""
    assert get(routed[0], "/health", host="vllm") == (200, "vllm /health")
    assert get(routed[0], "/readyz", host="speech") == (200, "speech /readyz")
    for path, host in (("/health", "speech"), ("/readyz", "vllm"), ("/health", "other"), ("/health", "home:80")):
        assert get(routed[0], path, host=host)[0] == 404, (path, host)


def test_the_longest_prefix_of_all_services_wins(routed: tuple[int, Backend, Backend]) -> None:
    assert get(routed[0], "/v1/audio/speech") == (200, "speech /v1/audio/speech")


def test_metrics_are_read_in_the_service_s_own_name_alone(routed: tuple[int, Backend, Backend]) -> None:
    assert get(routed[0], "/metrics", host="vllm") == (200, "vllm /metrics")
    for path, host in (("/metrics", "speech"), ("/metrics", "home"), ("/metrics/x", "vllm"), ("/pause", "vllm")):
        assert get(routed[0], path, host=host)[0] == 404, (path, host)


@pytest.mark.parametrize("path", ["/", "/metrics", "/health/x", "/tokenize", "/pause", "/v2/models", "/ping"])
def test_other_paths_are_404(routed: tuple[int, Backend, Backend], path: str) -> None:
    assert get(routed[0], path)[0] == 404


def test_a_stream_is_not_buffered(routed: tuple[int, Backend, Backend]) -> None:
    port, vllm, _ = routed
    vllm.proceed.clear()
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/v1/stream")
        answer = connection.getresponse()
        # The backend holds its last chunk back until this has arrived: buffered, it would never come.
        assert answer.read(18) == b"data: 0\n\ndata: 1\n\n"
        assert not vllm.proceed.is_set()
        vllm.proceed.set()
        assert answer.read() == b"data: 2\n\n"
    finally:
        vllm.proceed.set()
        connection.close()


def test_a_20_mb_body_passes_byte_for_byte(routed: tuple[int, Backend, Backend]) -> None:
    body = os.urandom(20_000_000)
    connection = http.client.HTTPConnection("127.0.0.1", routed[0], timeout=DEADLINE_S)
    try:
        connection.request("POST", "/v1/chat/completions", body)
        assert connection.getresponse().read().decode() == hashlib.sha256(body).hexdigest()
    finally:
        connection.close()


def test_a_pod_that_is_not_ready_is_503_and_comes_back(tmp_path: Path) -> None:
    """503 goes on to the gateway's next lane; a 404 would reach the caller."""
    resources = [release()]
    with (
        backend("vllm") as vllm,
        kubernetes(resources) as api,
        traefik(resources, api, tmp_path) as port,
    ):
        until(lambda: get(port, "/v1/models")[0] == 503, "the route without a pod is loaded")
        api.set_endpoint("vllm", vllm.address)
        until(lambda: get(port, "/v1/models") == (200, "vllm /v1/models"), "the pod is ready")
        api.set_endpoint("vllm", None)
        until(lambda: get(port, "/v1/models")[0] == 503, "the pod is gone again")


def named(port: int) -> tuple[int, str, str]:
    """Status and body of a question under the service's name, and the cookie beside them."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
    try:
        connection.request("GET", "/health", headers={"Host": "vllm"})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.getheader("Set-Cookie", "")
    finally:
        connection.close()


@pytest.mark.slow
def test_requests_go_to_the_pods_in_turn_and_each_answer_names_its_own(tmp_path: Path) -> None:
    resources = [release(replicas=2), chart_config(traefik_values(300, nodes=2))]
    with (
        backend("first") as first,
        backend("second", "127.0.0.11") as second,
        kubernetes(resources) as api,
        traefik(resources, api, tmp_path) as port,
    ):
        api.set_endpoint("vllm", first.address, "vllm")
        until(lambda: get(port, "/health", host="vllm")[0] == 200, "the first is there")
        assert len({named(port) for _ in range(3)}) == 1
        api.set_endpoint("vllm", second.address, "vllm-2")
        until(lambda: get(port, "/health", host="vllm")[1] == "second /health", "the second is there")
        found = [named(port) for _ in range(6)]
        assert [text for _, text, _ in found] in (["first /health", "second /health"] * 3,
                                                  ["second /health", "first /health"] * 3)  # fmt: skip
        cookies = {text: cookie.partition(";")[0] for _, text, cookie in found}
        assert len(set(cookies.values())) == 2
        assert all(cookie.startswith("machine=") for cookie in cookies.values())
        # Its machine has lost its power: no packet is answered.
        gone = free_port("127.0.0.11")
        hole = BlackHole("127.0.0.11", gone)
        try:
            api.set_endpoint("vllm", f"127.0.0.11:{gone}", "vllm-2")
            begun = time.monotonic()
            until(lambda: named(port)[0] == 504, "who is led there is told so")
            assert time.monotonic() - begun < DEADLINE_S / 2, "and not after Traefik's own 30 s"
        finally:
            hole.close()
        assert "ERR" not in (tmp_path / "traefik.log").read_text()


def test_without_a_declared_path_nothing_is_routed(tmp_path: Path) -> None:
    resources = [release(ingress={"prefixes": []})]
    with backend("vllm") as vllm, kubernetes(resources) as api:
        api.set_endpoint("vllm", vllm.address)
        with traefik(resources, api, tmp_path) as port:
            until(lambda: "Starting provider *ingress.Provider" in (tmp_path / "traefik.log").read_text(), "it runs")
            assert {get(port, path)[0] for path in ("/v1/models", "/health", "/")} == {404}


def test_the_declared_read_timeout_is_traefiks(tmp_path: Path) -> None:
    """An upload slower than the declared time is cut at that time: the flag is read, not only passed."""
    resources = [release(), chart_config("ports: {web: {transport: {respondingTimeouts: {readTimeout: 1s}}}}")]
    with backend("vllm") as vllm, kubernetes(resources) as api:
        api.set_endpoint("vllm", vllm.address)
        with traefik(resources, api, tmp_path) as port:
            until(lambda: get(port, "/v1/models")[0] == 200, "the declared route is loaded")
            with socket.create_connection(("127.0.0.1", port), DEADLINE_S) as slow:
                slow.sendall(b"POST /v1/x HTTP/1.1\r\nHost: home\r\nContent-Length: 10\r\n\r\nhalf")
                begun = time.monotonic()
                while slow.recv(4096):
                    pass
                assert 0.5 < time.monotonic() - begun < DEADLINE_S / 2


def test_timeouts_become_flags_exactly_as_declared() -> None:
    command = traefik_command([chart_config(traefik_values(300))], port=1, ping_port=2, api_url="http://api")
    prefix = "--entryPoints.web.transport.respondingTimeouts."
    assert [flag for flag in command if flag.startswith(prefix)] == [
        f"{prefix}readTimeout=360s",
        f"{prefix}writeTimeout=0s",
        f"{prefix}idleTimeout=360s",
    ]
    assert "--entryPoints.web.address=127.0.0.1:1/tcp" in command
    assert "--providers.kubernetesingress.endpoint=http://api" in command


def test_without_a_chart_config_traefik_keeps_its_own_timeouts() -> None:
    assert not [flag for flag in traefik_command([], port=1, ping_port=2, api_url="") if "Timeout" in flag]


@pytest.mark.parametrize(
    ("resources", "message"),
    [
        ([chart_config("ports: {web: {port: 9}}")], r"home-traefik: .* chart value ports\.web\.port"),
        ([chart_config("ports: {web: {transport: {respondingTimeouts: {readTimeot: 9s}}}}")], "readTimeot"),
        ([chart_config("logs: {general: {level: DEBUG}}")], r"logs\.general\.level"),
        ([chart_config("{}", name="nginx")], "ships one chart, kube-system/traefik"),
    ],
)
def test_an_unknown_traefik_setting_stops_the_lab(resources: list[Resource], message: str) -> None:
    with pytest.raises(LabError, match=message):
        traefik_command(resources, port=1, ping_port=2, api_url="")


def test_an_unknown_release_input_stops_the_lab() -> None:
    strange = recorded(home.RELEASE, "home-vllm", {**release().inputs, "postrender": "sed", "valueYamlFiles": []})
    with pytest.raises(LabError, match=r"home-vllm: .*release input postrender, valueYamlFiles"):
        home.objects([strange])


def test_values_helm_refuses_stop_the_lab_with_helms_words() -> None:
    with pytest.raises(LabError, match=r"(?s)home-vllm: Helm refuses the release: .*'surprise' not allowed"):
        home.objects([release(surprise=1)])


def test_an_unknown_kind_stops_the_lab(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(home, "KINDS", home.KINDS - {"NetworkPolicy"})
    with pytest.raises(LabError, match="home-vllm: the lab does not know the kind NetworkPolicy"):
        home.objects([release()])


def test_pods_are_read_from_the_rendered_deployments() -> None:
    args = ["Qwen/x", "--limit-mm-per-prompt", '{"image":2,"video":0}']
    (pod,) = home.pods([release(command=["vllm", "serve"], args=args, env={"HOME": "/cache"}), device_plugin()])
    assert (pod.namespace, pod.name, pod.service, pod.image) == ("pilotlight", "vllm", "vllm", IMAGE)
    assert (pod.command, pod.args, pod.env) == (("vllm", "serve"), tuple(args), {"HOME": "/cache"})
    assert (pod.port, pod.paths) == (8000, ("/v1",))
    assert [(m.path, m.kind) for m in pod.mounts] == [
        ("/dev/shm", "memory"),
        ("/tmp", "emptyDir"),
        ("/cache", "persistentVolumeClaim"),
    ]
    assert (pod.startup.path, pod.startup.allowed_s) == ("/health", 1800)
    assert pod.liveness.allowed_s > pod.readiness.allowed_s
    assert pod.grace_s >= 300


def test_paths_of_several_services_are_told_apart() -> None:
    found = home.pods([release(), release("speech", ingress={"prefixes": ["/v1/audio", "/v1/voices"]})])
    assert {pod.name: pod.paths for pod in found} == {"vllm": ("/v1",), "speech": ("/v1/audio", "/v1/voices")}


def test_an_endpoint_of_an_unknown_service_is_refused() -> None:
    with pytest.raises(LabError, match="0 Services named 'tts'"):
        KubernetesApi(home.objects([release()])).set_endpoint("tts", "127.0.0.1:1")


def test_the_api_is_read_only_and_answers_nothing_it_does_not_have() -> None:
    with kubernetes([release()]) as api:
        port = int(api.url.rpartition(":")[2])
        assert get(port, "/api/v1/pods")[0] == 404
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=DEADLINE_S)
        connection.request("PUT", "/apis/networking.k8s.io/v1/ingresses", b"")
        assert connection.getresponse().status == 404
        connection.close()
        assert api.unanswered == ["GET /api/v1/pods", "PUT /apis/networking.k8s.io/v1/ingresses"]
