"""The lab's programs, each as the lab starts it: a process on a loopback port, told by args and environment."""

from __future__ import annotations

import base64
import concurrent.futures
import contextlib
import hashlib
import io
import json
import os
import re
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import openai
import pytest
import requests
from PIL import Image

from lab.programs.model_server import CONVERSATION
from lab.programs.prompt import picture_tokens
from lab.run.ports import free_port
from tests.kit import until

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
ALIAS = "Qwen/Qwen2.5-VL-7B-Instruct"
LIMIT_S = 60.0
"""For one answer or start on a busy machine."""
STOP_SECONDS = 10.0
"""What Cloud Run gives a container between SIGTERM and SIGKILL."""


def start(
    program: str, *args: str, env: dict[str, str] | None = None, stderr: int | None = None
) -> subprocess.Popen[str]:
    clean = {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "1"} | (env or {})
    command = [sys.executable, "-m", f"lab.programs.{program}", *args]
    return subprocess.Popen(command, cwd=ROOT, env=clean, stderr=stderr, text=True)


def stop(process: subprocess.Popen[str]) -> int:
    """Send SIGTERM; return the exit code, that of a killed process if it took longer than Cloud Run waits."""
    process.send_signal(signal.SIGTERM)
    try:
        process.communicate(timeout=STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
    return process.returncode


def client(base: str) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{base}/v1", api_key="lab", max_retries=0, timeout=LIMIT_S)


def ask(base: str, **extra: Any) -> Any:
    with client(base) as caller:
        return _ask(caller, extra)


def stream(base: str, **extra: Any) -> Iterator[Any]:
    """The chunks of an answer, as they come."""
    with client(base) as caller:
        yield from _ask(caller, {"stream": True, **extra})


def _ask(caller: openai.OpenAI, extra: dict[str, Any]) -> Any:
    messages: Any = [{"role": "user", "content": "What is the capital of France?"}]
    create: Any = caller.chat.completions.create
    return create(model=ALIAS, **({"messages": messages, "max_tokens": 12} | extra))


def status(url: str) -> int:
    """Of an answer; 0 while nobody listens."""
    with contextlib.suppress(requests.ConnectionError):
        return requests.get(url, timeout=LIMIT_S).status_code
    return 0


# --- model_server -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[str]]:
    """Two servers started at once on one empty cache; the list holds their addresses, and the cache folder."""
    cache = tmp_path_factory.mktemp("cache")
    ports = [free_port(), free_port()]
    servers = [start("model_server", *llama_cpp(cache, port)) for port in ports]
    bases = [f"http://127.0.0.1:{port}" for port in ports]
    try:
        until(lambda: status(f"{bases[0]}/health") == 503, "the address answers while the model loads")
        loading = requests.post(f"{bases[0]}/v1/chat/completions", json={}, timeout=LIMIT_S)
        assert (loading.status_code, loading.json()["error"]["message"]) == (503, "Loading model")
        for base in bases:
            until(lambda base=base: status(f"{base}/health") == 200, f"{base} ready", LIMIT_S)
        yield [*bases, str(cache)]
    finally:
        ended = [stop(server) for server in servers]
        for file in cache.iterdir():
            file.unlink()  # a quarter of a GB, which pytest would keep for three runs
    assert ended == [0, 0]


def llama_cpp(cache: Path, port: int, *more: str, alias: str = ALIAS) -> list[str]:
    """A command line of llama.cpp's server, whose weights are the lab's; two slots."""
    words = ["--host", "127.0.0.1", "--port", str(port), "--model", "/any", "--mmproj", "/any", "--alias", alias]
    return [
        str(cache),
        *words,
        "--ctx-size",
        "4096",
        "--parallel",
        "2",
        "--threads",
        "1",
        "--metrics",
        *CONVERSATION,
        *more,
    ]


def test_servers_starting_together_make_their_files_once(models: list[str]) -> None:
    files = {file.name: file.stat().st_size for file in Path(models[2]).iterdir() if not file.name.startswith(".")}
    assert files.keys() == {"gemma-3-270m-q4_k_m.gguf", "qwen2.5vl-random.gguf"}
    assert files["qwen2.5vl-random.gguf"] < 2e6


def test_an_argument_that_llama_cpp_does_not_know_ends_it_with_its_own_words(tmp_path: Path) -> None:
    words = ["--host", "127.0.0.1", "--port", "1", "--ctx-sizes", "4096"]
    server = start("model_server", str(tmp_path), *words, stderr=subprocess.PIPE)
    _, told = server.communicate(timeout=LIMIT_S)
    assert server.returncode == 1
    assert told.strip().endswith("error: invalid argument: --ctx-sizes"), "and nothing was started"


def test_a_real_model_answers_under_the_served_name(models: list[str]) -> None:
    with client(models[0]) as caller:
        assert [model.id for model in caller.models.list()] == [ALIAS]
        plain = caller.completions.create(model=ALIAS, prompt="1, 2, 3, 4,", max_tokens=4, temperature=0)
    answer = ask(models[0], temperature=0)
    assert answer.model == ALIAS
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0
    assert plain.model == ALIAS
    assert "5" in plain.choices[0].text


def test_the_model_embeds_when_it_is_told_to_pool(models: list[str]) -> None:
    port = free_port()
    pooling = ("--embeddings", "--pooling", "mean")
    server = start("model_server", *llama_cpp(Path(models[2]), port, *pooling, alias="embedder"))
    base = f"http://127.0.0.1:{port}"
    try:
        until(lambda: status(f"{base}/health") == 200, "the embedder is ready", LIMIT_S)
        texts = ["The cat sat on the mat.", "A cat was sitting on a mat.", "Quarterly revenue rose by nine percent."]
        with client(base) as caller:
            found = caller.embeddings.create(model="embedder", input=texts)
    finally:
        stop(server)
    assert found.model == "embedder"
    cat, mat, revenue = (item.embedding for item in found.data)
    assert len(cat) == 640, "the width of gemma-3-270m"

    def near(one: list[float], other: list[float]) -> float:
        return sum(a * b for a, b in zip(one, other, strict=True))

    assert near(cat, cat) == pytest.approx(1.0, abs=0.01)
    assert near(cat, mat) > near(cat, revenue), "likeness of meaning shows"


def test_a_stream_is_not_buffered(models: list[str]) -> None:
    began = time.monotonic()
    arrivals: list[float] = []
    for chunk in stream(models[0], max_tokens=16, extra_body={"ignore_eos": True, "stop": ["never"]}):
        assert chunk.model == ALIAS
        if chunk.choices and chunk.choices[0].delta.content:
            arrivals.append(time.monotonic() - began)
    assert len(arrivals) >= 8
    assert arrivals[0] < arrivals[-1] * 0.8


@pytest.mark.parametrize("streams", [True, False])
def test_a_client_that_leaves_ends_the_generation(models: list[str], streams: bool) -> None:
    base = models[1]
    body = {"prompt": "1, 2, 3,", "max_tokens": 3000, "ignore_eos": True, "stop": ["never"], "stream": streams}

    def busy() -> bool:
        return any(slot["is_processing"] for slot in requests.get(f"{base}/slots", timeout=LIMIT_S).json())

    raw = json.dumps(body).encode()
    with socket.create_connection(("127.0.0.1", int(base.rpartition(":")[2]))) as leaving:
        leaving.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(raw) + raw)
        until(busy, "generation begun")

    def idle() -> bool:
        # llama.cpp looks for a plain request's client only after a second without any other result, so ask rarely.
        time.sleep(0.1 if streams else 1.5)
        return not busy()

    until(idle, "generation ended; 3000 tokens would take minutes", 20)


def picture(kind: str = "JPEG", size: tuple[int, int] = (320, 240)) -> str:
    out = io.BytesIO()
    Image.new("RGB", size, (32, 64, 255)).save(out, kind)
    return f"data:image/{kind.lower()};base64," + base64.b64encode(out.getvalue()).decode()


def about(url: str) -> list[dict[str, Any]]:
    content = [{"type": "text", "text": "What is this?"}, {"type": "image_url", "image_url": {"url": url}}]
    return [{"role": "user", "content": content}]


@pytest.mark.parametrize(("kind", "size"), [("PNG", (320, 240)), ("JPEG", (10, 500))])
def test_a_picture_has_the_tokens_that_the_scripted_models_reckon_with(
    models: list[str], kind: str, size: tuple[int, int]
) -> None:
    counted = [ask(models[0], messages=about(picture(kind, size=one)), max_tokens=1).usage.prompt_tokens
               for one in (size, (28 * 4, 28 * 4))]  # fmt: skip
    assert counted[0] - counted[1] == picture_tokens(*size) - 4 * 4


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n broken").decode(), "Failed to load image"),
        ("data:image/png;base64,@@@@", "Failed to load image"),
        ("data:image/png,raw", "must be base64 encoded"),
    ],
)
def test_a_picture_that_cannot_be_read_is_the_callers_fault(models: list[str], url: str, message: str) -> None:
    with pytest.raises(openai.BadRequestError, match=message) as caught:
        ask(models[0], messages=about(url))
    assert caught.value.type == "invalid_request_error"


# --- fake_model -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fake_process() -> Iterator[str]:
    port = free_port()
    ignored = ("--parallel", "4", "--cache", "/nowhere")
    process = start("fake_model", "--alias", ALIAS, "--port", str(port), "--marker", "vm", *ignored)
    try:
        until(lambda: status(f"http://127.0.0.1:{port}/health") == 200, "fake ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        code = stop(process)
    assert code == 0


@pytest.fixture
def fake(fake_process: str) -> str:
    requests.delete(f"{fake_process}/_fault", timeout=LIMIT_S)
    requests.delete(f"{fake_process}/_log", timeout=LIMIT_S)
    return fake_process


def fault(base: str, **change: Any) -> None:
    requests.post(f"{base}/_fault", json=change, timeout=LIMIT_S).raise_for_status()


def entries(base: str) -> list[dict[str, Any]]:
    return requests.get(f"{base}/_log", timeout=LIMIT_S).json()


def test_the_fake_says_who_answered(fake: str) -> None:
    with client(fake) as caller:
        raw = caller.chat.completions.with_raw_response.create(model=ALIAS, messages=[{"role": "user", "content": "?"}])
        plain = caller.completions.create(model=ALIAS, prompt="?")
    assert raw.headers["x-fake-backend"] == "vm"
    assert "BACKEND:vm" in (raw.parse().choices[0].message.content or "")
    assert raw.parse().model == ALIAS
    assert "BACKEND:vm" in "".join(c.choices[0].delta.content or "" for c in stream(fake))
    assert plain.choices[0].text.startswith("BACKEND:vm")
    assert [entry["outcome"] for entry in entries(fake)] == ["answered"] * 3


def test_20_mb_are_received_byte_for_byte(fake: str) -> None:
    body = json.dumps({"messages": [{"role": "user", "content": os.urandom(10_000_000).hex()}]}).encode()
    answer = requests.post(f"{fake}/v1/chat/completions", data=body, timeout=LIMIT_S).json()
    assert answer["received"] == {"sha256": hashlib.sha256(body).hexdigest(), "length": len(body)}
    assert entries(fake)[0]["sha256"] == answer["received"]["sha256"]


def test_a_stream_sends_headers_at_once_and_tokens_at_the_set_pace(fake: str) -> None:
    fault(fake, first_token_delay=1, token_interval=0.1, tokens=3)
    began = time.monotonic()
    with requests.post(f"{fake}/v1/chat/completions", json={"stream": True}, stream=True, timeout=LIMIT_S) as response:
        headers = time.monotonic() - began
        times = [time.monotonic() - began for line in response.iter_lines(1) if b"token" in line or b"BACKEND" in line]
    assert headers < times[0] - 0.3, "headers don't wait for the first token"
    assert times[0] >= 1
    # From the start: a token that this process reads late shortens the pause to the next.
    assert times[2] >= 1.19
    text = requests.get(f"{fake}/metrics", timeout=LIMIT_S).text
    assert f'vllm:time_to_first_token_seconds_bucket{{engine="0",model_name="{ALIAS}",le="0.75"}} 0' in text
    assert f'vllm:time_to_first_token_seconds_bucket{{engine="0",model_name="{ALIAS}",le="+Inf"}} 1' in text


def test_a_status_fault_carries_retry_after_until_reset(fake: str) -> None:
    fault(fake, status=429, retry_after=7, health=503)
    with pytest.raises(openai.RateLimitError) as caught:
        ask(fake)
    assert caught.value.response.headers["retry-after"] == "7"
    assert status(f"{fake}/health") == 503
    requests.delete(f"{fake}/_fault", timeout=LIMIT_S)
    assert status(f"{fake}/health") == 200
    assert ask(fake).choices[0].message.content.startswith("BACKEND:vm")


def test_resets_happen_where_they_are_set(fake: str) -> None:
    fault(fake, reset="before-headers")
    with pytest.raises(openai.APIConnectionError):
        ask(fake)
    fault(fake, reset="mid-stream")
    got: list[str] = []

    def read() -> None:
        for chunk in stream(fake):
            got.append(chunk.choices[0].delta.content or "")

    with pytest.raises((openai.APIConnectionError, OSError)):
        read()
    assert got[0] == "BACKEND:vm"
    with requests.post(f"{fake}/v1/chat/completions", json={"stream": True}, stream=True, timeout=LIMIT_S) as response:
        assert b"BACKEND:vm" in response.raw.read(600)
    assert [entry["outcome"] for entry in entries(fake)] == ["reset"] * 3


def test_a_hanging_request_goes_on_when_the_fault_is_lifted_and_a_client_that_left_is_noted(fake: str) -> None:
    fault(fake, hang=True)
    with pytest.raises(openai.APITimeoutError), client(fake) as caller:
        caller.with_options(timeout=0.3).completions.create(model=ALIAS, prompt="?")
    until(lambda: [entry["outcome"] for entry in entries(fake)] == ["client-gone"], "noted")
    with concurrent.futures.ThreadPoolExecutor() as pool:
        answers = [pool.submit(ask, fake) for _ in range(3)]
        stats = f"{fake}/_stats"
        until(lambda: requests.get(stats, timeout=LIMIT_S).json()["in_flight"] == 3, "three in flight")
        fault(fake, hang=False)
        assert all("BACKEND:vm" in answer.result(LIMIT_S).choices[0].message.content for answer in answers)
    assert requests.get(f"{fake}/_stats", timeout=LIMIT_S).json()["in_flight_peak"] == 3


def test_a_body_cut_short_is_logged_with_what_arrived(fake: str) -> None:
    with socket.create_connection(("127.0.0.1", int(fake.rpartition(":")[2]))) as leaving:
        leaving.sendall(b"POST /v1/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n" + b"x" * 10)
        until(lambda: len(entries(fake)) == 1, "received")
    until(lambda: entries(fake)[0]["outcome"] == "client-gone", "noted")
    assert entries(fake)[0]["body_length"] == 10


def test_a_misspelt_fault_is_refused_and_headers_are_echoed_on_demand(fake: str) -> None:
    refused = requests.post(f"{fake}/_fault", json={"first_token_dealy": 1}, timeout=LIMIT_S)
    assert refused.status_code == 400
    assert re.search("unknown key first_token_dealy; known: first_token_delay", refused.json()["error"]["message"])
    fault(fake, echo_headers=True)
    headers = {"X-Mine": "7"}
    answer = requests.post(f"{fake}/v1/completions", json={"prompt": "?"}, headers=headers, timeout=LIMIT_S).json()
    assert ["X-Mine", "7"] in answer["received"]["headers"]


@pytest.fixture
def slow() -> Iterator[str]:
    """llama.cpp on a machine a hundred times as fast as one core, with one slot."""
    port = free_port()
    pace = json.dumps({"prompt": 460, "picture": 465, "answer": 200})
    server = start("fake_model", "--alias", ALIAS, "--port", str(port), "--marker", "vm", "--engine", "llama.cpp",
                   "--pace", pace, "--parallel", "1", "--image-max-tokens", "256", "--mmproj", "some")  # fmt: skip
    try:
        until(lambda: status(f"http://127.0.0.1:{port}/health") == 200, "fake ready")
        yield f"http://127.0.0.1:{port}"
    finally:
        stop(server)


def test_a_fake_with_a_machine_takes_its_time(slow: str) -> None:
    began = time.monotonic()
    answer = ask(slow, messages=[{"role": "user", "content": "x" * 1000}], max_tokens=100)
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (pytest.approx(290, abs=20), 100)
    assert time.monotonic() - began > 290 / 460 + 100 / 200 - 0.1
    began = time.monotonic()
    seen = ask(slow, messages=about(picture("PNG")), max_tokens=1)
    assert time.monotonic() - began > 99 / 465 + 99 / 460
    assert seen.usage.prompt_tokens == pytest.approx(99 + 50, abs=20), "320 x 240 px have 11 x 9 tokens"
    with pytest.raises(openai.BadRequestError, match="Failed to load image or audio file"):
        ask(slow, messages=about("data:image/png;base64,AAAA"))


def test_llama_cpp_sends_a_stream_s_headers_when_it_has_a_slot(slow: str) -> None:
    """As its own server does; vLLM sends them at once."""

    def headers(_: int) -> float:
        body = {"stream": True, "max_tokens": 100}
        with requests.post(f"{slow}/v1/chat/completions", json=body, stream=True, timeout=LIMIT_S) as response:
            at = time.monotonic()
            assert response.content
        return at

    began = time.monotonic()
    with concurrent.futures.ThreadPoolExecutor() as pool:
        first, second = sorted(pool.map(headers, range(2)))
    assert first - began < 0.4
    assert second - first > 100 / 200 - 0.1


def test_the_fake_s_metrics_are_those_of_llama_cpp_s_server(slow: str, models: list[str]) -> None:
    ask(slow, max_tokens=5)

    def metrics(base: str) -> dict[str, str]:
        text = requests.get(f"{base}/metrics", timeout=LIMIT_S).text
        return dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))

    here, real = metrics(slow), metrics(models[0])
    assert here.items() <= real.items()
    assert set(real) - set(here) <= {name for name in real if "spec_decode" in name or "n_tokens_max" in name}
    text = requests.get(f"{slow}/metrics", timeout=LIMIT_S).text
    assert "\nllamacpp:tokens_predicted_total 5\n" in text
    assert "\nllamacpp:requests_processing 0\n" in text


# --- containerboot ----------------------------------------------------------------------------------------------------

KEY = "tskey-auth-lab"
BLACK_HOLE_S = 5.0
"""After this time Tailscale gives a connection up whose packets vanish."""


class Tunnel:
    """A running containerboot with an echo server as `home:80`."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "tailnet.json"
        self.socks, self.health = free_port(), free_port()
        self.echo = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        self.fault(None)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                threading.Thread(target=self._echo, args=(self.echo.accept()[0],), daemon=True).start()

    @staticmethod
    def _echo(peer: socket.socket) -> None:
        with contextlib.suppress(OSError), peer:
            while data := peer.recv(1 << 16):
                peer.sendall(data)

    def close(self) -> None:
        # A thread in `accept` keeps a closed socket open; shutting it down wakes the thread.
        self.echo.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self.echo.close()

    def fault(self, name: str | None) -> None:
        hosts = {"home:80": f"127.0.0.1:{self.echo.getsockname()[1]}", "gone:80": f"127.0.0.1:{free_port()}"}
        temporary = self.file.with_suffix(".new")
        temporary.write_text(json.dumps({"auth_key": KEY, "hosts": hosts, "faults": {"home:80": name}}))
        temporary.replace(self.file)

    def env(self, **change: str) -> dict[str, str]:
        return {
            "LAB_TAILNET": str(self.file),
            "TS_USERSPACE": "true",
            "TS_SOCKS5_SERVER": f"127.0.0.1:{self.socks}",
            "TS_LOCAL_ADDR_PORT": f"127.0.0.1:{self.health}",
            "TS_ENABLE_HEALTH_CHECK": "true",
            "TS_AUTHKEY": KEY,
            "TS_HOSTNAME": "pilotlight-dev",
            "TS_EXTRA_ARGS": "--advertise-tags=tag:gateway",
            "TS_DEBUG_MTU": "1280",
        } | change

    def dial(self, host: str = "home", port: int = 80) -> tuple[int, socket.socket]:
        """CONNECT through the tunnel; return SOCKS' reply code and the connection."""
        connection = socket.create_connection(("127.0.0.1", self.socks), timeout=LIMIT_S)
        connection.sendall(b"\x05\x01\x00")
        assert receive(connection, 2) == b"\x05\x00"
        connection.sendall(b"\x05\x01\x00\x03" + bytes([len(host)]) + host.encode() + struct.pack("!H", port))
        return receive(connection, 10)[1], connection

    def reply(self, host: str = "home", port: int = 80) -> int:
        """Return SOCKS' reply code alone."""
        code, connection = self.dial(host, port)
        connection.close()
        return code


@pytest.fixture
def tunnel(tmp_path: Path) -> Iterator[Tunnel]:
    tunnel = Tunnel(tmp_path)
    process = start("containerboot", env=tunnel.env())
    try:
        until(lambda: status(f"http://127.0.0.1:{tunnel.health}/healthz") == 200, "tunnel healthy")
        yield tunnel
    finally:
        code = stop(process)
        tunnel.close()
    assert code == 0


def receive(connection: socket.socket, length: int) -> bytes:
    """Read exactly `length` bytes; MSG_WAITALL does not on a socket with a timeout."""
    got = bytearray()
    while len(got) < length and (data := connection.recv(min(1 << 18, length - len(got)))):
        got += data
    return bytes(got)


def echoed(connection: socket.socket, data: bytes) -> bytes:
    sender = threading.Thread(target=connection.sendall, args=(data,))
    sender.start()
    got = receive(connection, len(data))
    sender.join()
    return got


def test_the_tunnel_carries_20_mb_both_ways(tunnel: Tunnel) -> None:
    code, connection = tunnel.dial()
    data = os.urandom(20_000_000)
    with connection:
        assert code == 0
        assert echoed(connection, data) == data


def test_unknown_and_dead_destinations_are_told_apart(tunnel: Tunnel) -> None:
    assert tunnel.reply("elsewhere") == 4
    assert tunnel.reply("home", 22) == 4
    assert tunnel.reply("127.0.0.1", tunnel.health) == 4
    assert tunnel.reply("gone") == 5


def test_a_refused_destination_refuses_at_once_and_resets_what_is_open(tunnel: Tunnel) -> None:
    _, connection = tunnel.dial()
    assert echoed(connection, b"before") == b"before"
    tunnel.fault("refused")
    until(lambda: tunnel.reply() == 5, "the destination refuses")
    began = time.monotonic()
    assert tunnel.reply() == 5
    assert time.monotonic() - began < BLACK_HOLE_S / 2
    with connection, pytest.raises(ConnectionResetError):
        connection.recv(1)
    tunnel.fault(None)
    assert tunnel.reply() == 0


def test_a_black_hole_stands_still_and_goes_on_where_it_stopped(tunnel: Tunnel) -> None:
    _, connection = tunnel.dial()
    assert echoed(connection, b"before") == b"before"
    tunnel.fault("blackhole")
    began = time.monotonic()
    assert tunnel.reply() == 1
    assert time.monotonic() - began > BLACK_HOLE_S - 0.2
    # A dial looks for a fault itself, and what is open every 0.1 s: it has seen this one when the dial is given up.
    with connection:
        connection.sendall(b"during")
        connection.settimeout(0.5)
        with pytest.raises(TimeoutError):
            connection.recv(1)
        connection.settimeout(LIMIT_S)
        tunnel.fault(None)
        assert receive(connection, 6) == b"during"


@pytest.mark.parametrize(
    ("change", "code", "message"),
    [
        ({"TS_AUTHKEY": f"{KEY}\n"}, 1, "invalid key"),
        ({"TS_AUTHKEY": "wrong"}, 1, "invalid key"),
        ({"TS_AUTHKEY": ""}, 1, "invalid key"),
        ({"TS_AUTHKEY": "file:/nowhere"}, 1, "invalid key.*nowhere"),
        ({"TS_STATE_DIR": "/tmp/x"}, 2, "TS_STATE_DIR"),
        ({"TS_USERSPACE": "false"}, 2, "TS_USERSPACE must be true"),
    ],
)
def test_a_wrong_environment_ends_the_entrypoint(
    tmp_path: Path, change: dict[str, str], code: int, message: str
) -> None:
    with contextlib.closing(Tunnel(tmp_path)) as tunnel:
        process = start("containerboot", env=tunnel.env(**change), stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code
    assert re.search(message, errors)
    assert KEY not in errors


def test_a_key_from_a_file_is_trimmed(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f" {KEY}\n")
    tunnel = Tunnel(tmp_path)
    process = start("containerboot", env=tunnel.env(TS_AUTHKEY=f"file:{tmp_path / 'key'}"))
    try:
        until(lambda: status(f"http://127.0.0.1:{tunnel.health}/healthz") == 200, "joined")
    finally:
        stop(process)
        tunnel.close()


# --- all --------------------------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform != "linux", reason="PR_SET_PDEATHSIG is Linux'")
def test_a_program_dies_with_its_parent() -> None:
    port = free_port()
    command = ["-m", "lab.programs.fake_model", "--alias", "a", "--marker", "m", "--port", str(port)]
    script = f"import subprocess,sys; subprocess.Popen([sys.executable, *{command!r}]).wait()"
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stderr=subprocess.DEVNULL)
    try:
        until(lambda: status(f"http://127.0.0.1:{port}/health") == 200, "child ready")
    finally:
        parent.kill()
        parent.wait()

    def gone() -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", port)) != 0

    until(gone, "child gone", STOP_SECONDS)
