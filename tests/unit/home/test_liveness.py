"""The liveness probe of vLLM as K3s runs it: the declared command, in a process of its own, against an engine."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from components import vllm
from components.home import chart, liveness
from components.settings.declared_services import declared
from components.settings.reading import read

KILLED_S = 20.0
"""Longer than any probe may take here."""


class Engine:
    """As much of vLLM as the probe sees, with metrics as 0.29.0 writes them."""

    def __init__(self) -> None:
        self.steps, self.tokens, self.cache, self.status, self.mute = 7, 40, 0.25, 200, False
        self.metrics_status = 200
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self._freed = threading.Event()
        engine = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.answer(engine.metrics_status if self.path == "/metrics" else 404, engine.metrics())

            def do_POST(self) -> None:
                engine.asked.append((self.path, json.loads(self.rfile.read(int(self.headers["Content-Length"])))))
                if engine.mute:
                    engine._freed.wait(KILLED_S)
                    return
                if engine.status == 200:
                    engine.steps, engine.tokens = engine.steps + 1, engine.tokens + 1
                self.answer(engine.status, "{}")

            def answer(self, status: int, text: str) -> None:
                self.send_response(status)
                self.send_header("Content-Length", str(len(text)))
                self.end_headers()
                self.wfile.write(text.encode())

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def metrics(self) -> str:
        label = 'engine="0",model_name="m"'
        return (
            "# TYPE vllm:iteration_tokens_total histogram\n"
            f'vllm:iteration_tokens_total_bucket{{{label},le="1.0"}} 3.0\n'
            f"vllm:iteration_tokens_total_count{{{label}}} {self.steps}.0\n"
            f"vllm:generation_tokens_total{{{label}}} {self.tokens}.0\n"
            f"vllm:kv_cache_usage_perc{{{label}}} {self.cache}\n"
            f"process_cpu_seconds_total {len(self.asked)}.5\n"
        )

    def restart(self) -> None:
        self.steps, self.tokens, self.cache = 0, 0, 0.0

    def close(self) -> None:
        self._freed.set()
        self._server.shutdown()
        self._server.server_close()


class Probe:
    """The declared command of the service that answers completions, led to a test's engine and folder."""

    def __init__(self, engine: Engine, folder: Path) -> None:
        self.engine, self.state = engine, folder / "state"
        words = command("vllm")
        assert words[:3] == ["python3", "-I", "-c"]
        there = {f"127.0.0.1:{ports(words)}": f"127.0.0.1:{engine.port}", chart.STATE: str(self.state)}
        self.words = [sys.executable, *(there.get(word, word) for word in words[1:])]

    def __call__(self) -> tuple[int, str]:
        """Status, and what it says."""
        done = subprocess.run(self.words, capture_output=True, text=True, timeout=KILLED_S, check=False)
        assert done.stderr == ""
        return done.returncode, done.stdout


def ports(words: list[str]) -> str:
    [address] = [word for word in words if word.startswith("127.0.0.1:")]
    return address.rpartition(":")[2]


def command(name: str) -> list[str]:
    services = [{"name": "vllm", "preset": "model"}, {"name": "embed", "preset": "embeddings"}]
    config = {"gcp:project": "some-project", "gcp:region": "us-central1", "pilotlight:services": json.dumps(services)}
    settings = read(config, stack="dev")
    [service] = [service for service in declared(settings) if service.name == name]
    return chart.values(service, settings)["liveness"]["command"]


@pytest.fixture
def engine() -> Iterator[Engine]:
    found = Engine()
    yield found
    found.close()


@pytest.fixture
def probe(engine: Engine, tmp_path: Path) -> Probe:
    return Probe(engine, tmp_path)


def test_an_idle_engine_lives_and_gives_a_token_every_other_time(probe: Probe) -> None:
    assert [probe()[0] for _ in range(4)] == [0, 0, 0, 0]
    assert len(probe.engine.asked) == 2


@pytest.mark.parametrize(("steps", "tokens", "cache"), [(1, 0, 0.0), (0, 1, 0.0), (0, 0, 0.125)])
def test_an_engine_at_work_lives_and_is_asked_for_nothing(probe: Probe, steps: int, tokens: int, cache: float) -> None:
    """Vectors have no tokens, and a long prompt moves the cache alone, step by step."""
    probe()
    probe.engine.mute = True
    asked = len(probe.engine.asked)
    for _ in range(2):
        probe.engine.steps += steps
        probe.engine.tokens += tokens
        probe.engine.cache += cache
        assert probe() == (0, "alive: it has worked since the last probe\n")
    assert len(probe.engine.asked) == asked


def test_an_engine_that_is_mute_fails_each_time(probe: Probe) -> None:
    probe.engine.mute = True
    for _ in range(2):
        code, told = probe()
        assert code == 1
        assert "no progress since the last probe, and no token within 6 s" in told


@pytest.mark.slow
def test_other_metrics_are_no_progress(probe: Probe) -> None:
    """A process burns processor time in its loop, and counts its requests, while its engine is stuck."""
    probe()
    probe()
    probe.engine.mute = True
    before = probe.engine.metrics()
    assert probe()[0] == 1
    assert probe.engine.metrics() != before
    assert probe()[0] == 1


def test_an_engine_that_answers_500_fails(probe: Probe) -> None:
    probe.engine.status = 500
    assert probe() == (1, "no progress since the last probe, and status 500 for a token\n")


def test_a_refusal_is_no_reason_for_a_restart(probe: Probe) -> None:
    probe.engine.status = 404
    assert probe() == (0, "alive: it refuses /v1/completions with status 404\n")


@pytest.mark.slow
def test_a_restarted_engine_lives_though_its_counters_fell(probe: Probe) -> None:
    probe()
    probe.engine.restart()
    probe.engine.mute = True
    assert probe()[0] == 0
    assert probe()[0] == 1


def test_nobody_listening_fails(probe: Probe) -> None:
    probe.engine.close()
    code, told = probe()
    assert (code, "refused" in told) == (1, True)


@pytest.mark.parametrize("broken", ["no metrics", "no state"])
@pytest.mark.slow
def test_without_metrics_or_state_every_probe_asks(probe: Probe, broken: str) -> None:
    if broken == "no metrics":
        probe.engine.metrics_status = 500
    else:
        probe.state.mkdir()
    assert [probe()[0] for _ in range(2)] == [0, 0]
    probe.engine.mute = True
    assert probe()[0] == 1


def test_the_question_is_the_service_s_own() -> None:
    *_, path, body = command("vllm")
    assert (path, json.loads(body)) == (
        "/v1/completions",
        {"model": "Qwen/Qwen2.5-VL-7B-Instruct", "prompt": "a", "max_tokens": 1},
    )
    *_, path, body = command("embed")
    assert (path, json.loads(body)) == ("/v1/embeddings", {"model": "Qwen/Qwen3-Embedding-0.6B", "input": "a"})


def test_the_program_is_whole_and_ends_before_the_kubelet_ends_it() -> None:
    defaults = (Path(vllm.__file__).parents[1] / "charts/ai-service/values.yaml").read_text()
    assert "timeoutSeconds: 10\n" in defaults.partition("\nliveness:")[2]
    assert liveness.METRICS_S + liveness.ANSWER_S < 10
    assert command("vllm")[3] == Path(liveness.__file__).read_text()
