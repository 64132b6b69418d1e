"""`python -m lab.measure.services`: every service through the gateway, with home on and off, and two long requests.

Owns: which services are declared for this, the requests, and the table. Does not own: the lab (`run.lab`), the program
that stands in for an image (`read.images`). A client asks, with the stock SDK; a row is judged by the recorded stack.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import httpx2 as httpx
import openai

from lab.read import home, images
from lab.read import plan as plans
from lab.read.cloud import Cloud
from lab.read.stack import PROJECT, ROOT, Stack, config_of, render

LONG_S: Final = 65.0
"""Length of the long requests, seconds: more than Traefik's own 60 s, and than any other default on the way."""
UPLOAD_BYTES: Final = 5 * 1024 * 1024
"""More than `gateway.replay_limit_mib`: it streams through every hop as slowly as it is sent."""
PRESETS: Final = {"qwen": "model", "embeddings": "embeddings", "tts": "tts", "image": "image"}
"""Name of the service -> its preset. There is one of each, in the order in which the stack lists their models."""
MODELS: Final = {"/v1/embeddings": "Qwen/Qwen3-Embedding-0.6B", "/v1/audio": "kokoro", "/v1/images": "sd-1.5-ggml"}
"""Path -> the model that a client names there; everywhere else it is the stack's output `model`."""
CONFIG: Final[dict[str, Any]] = {
    "services": [{"name": name, "preset": preset} for name, preset in PRESETS.items()],
    # One slot of the model's server has all of its context: the long answer needs it.
    "home": {"max_requests": 1},
}
UP: Final = ("up", "--detach", *(word for k, v in CONFIG.items() for word in ("--config", f"{k}={json.dumps(v)}")))
"""What the lab is started with."""
_FOUND_S: Final = 3.0
"""Checks and remembered failures have caught up with a change, seconds."""


@dataclass(frozen=True)
class Service:
    """A declared service, as its clients know it, and what it costs of the GPU."""

    name: str
    image: str
    paths: tuple[str, ...]
    model: str
    lanes: tuple[str, ...]
    """The lanes that answer for it, in the order in which the gateway tries them."""
    slices: int


def declared(stack: Stack) -> tuple[Service, ...]:
    """The services of `CONFIG` as the recorded stack has them: the pods at home, and the lanes of the gateway."""
    lanes = plans.read(stack).lanes
    pods = {pod.name: pod for pod in home.pods(stack.resources)}
    return tuple(
        Service(
            name=name,
            image=pods[name].image,
            paths=pods[name].paths,
            model=MODELS.get(pods[name].paths[0]) or stack.outputs["model"],
            lanes=lanes if home.COMPLETIONS in pods[name].paths else ("home",),
            slices=pods[name].slices,
        )
        for name in PRESETS
    )


def recorded() -> Stack:
    """The stack `dev` with the settings `CONFIG`."""
    cloud = Cloud(port=0)
    config = {f"{PROJECT}:{key}": json.dumps(value) for key, value in CONFIG.items()}
    return render("dev", {**cloud.config(), **config_of("dev"), **config}, cloud.compute)


@dataclass(frozen=True)
class Row:
    """One request and what became of it."""

    service: Service
    home: str
    status: str
    answered_by: str
    seconds: float
    right: bool
    note: str = ""


def main() -> int:
    """0 if every row is as declared."""
    parser = argparse.ArgumentParser(prog="python -m lab.measure.services", description=__doc__)
    parser.add_argument("--short", action="store_true", help="without the two requests of more than a minute")
    arguments = parser.parse_args()
    services = declared(recorded())
    rows: list[Row] = []
    with _lab_up():
        outputs = json.loads(_lab("outputs", "--json"))
        callers = Callers(outputs["base_url"], next(iter(outputs["api_keys"].values())))
        listed = callers.models()
        time.sleep(_FOUND_S)
        rows += [callers.ask(service, "on") for service in services]
        if not arguments.short:
            rows += callers.long(services)
        _lab("fault", "home-refused", "on")
        time.sleep(_FOUND_S)
        rows += [callers.ask(service, "off") for service in services]
        _lab("fault", "home-refused", "off")
        time.sleep(_FOUND_S)
        rows += [callers.ask(service, "back") for service in services]
    print(f"\nGPU memory: {outputs['gpu_memory']}\nhome's memory: {outputs['home_memory']}")
    print(f"home's processors: {outputs['home_cpus']}")
    complete = listed == [service.model for service in services]
    print(f"/v1/models lists {'exactly what is declared' if complete else f'{listed}, not what is declared'}\n")
    print(table(rows))
    wrong = [row for row in rows if not row.right]
    print(f"\n{len(rows) - len(wrong)} of {len(rows)} rows as declared")
    return 0 if complete and not wrong else 1


def table(rows: list[Row]) -> str:
    """The rows as text, one line each."""
    head = ("", "service", "path", "model", "slices", "lanes", "home", "answered by", "status", "time", "")
    lines: list[tuple[str, ...]] = [head]
    for row in rows:
        service = row.service
        lines.append((
            "ok" if row.right else "WRONG", service.name, ", ".join(service.paths), service.model, str(service.slices),
            ", ".join(service.lanes), row.home, row.answered_by, row.status,
            f"{row.seconds:.2f} s", row.note,
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    shape = (" | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip(" |") for line in shape)


class Callers:
    """Requests as a client sends them, without the SDK's retries, so that every answer shows."""

    def __init__(self, base_url: str, key: str) -> None:
        self._base_url, self._headers = base_url, {"Authorization": f"Bearer {key}"}
        # The user's proxy settings are for the internet; this is loopback.
        self._http = openai.DefaultHttpxClient(trust_env=False)
        self._client = openai.OpenAI(base_url=base_url, api_key=key, max_retries=0, timeout=300, http_client=self._http)

    def models(self) -> list[str]:
        return [model.id for model in self._client.models.list()]

    def ask(self, service: Service, home: str) -> Row:
        """One request, and whether its answer is what the declaration promises."""
        here = not images.why_not(service.image)
        began = time.monotonic()
        try:
            headers, said = self.request(service)
            status, answered_by = "200", f"{headers['X-Served-By']}: {said}"
        except openai.APIStatusError as error:
            headers, said = error.response.headers, ""
            status, answered_by = (
                f"{error.status_code}, Retry-After {headers.get('Retry-After')}",
                headers["X-Served-By"],
            )
        seconds = time.monotonic() - began
        lanes = [lane for lane in service.lanes if lane != "home" or (home != "off" and here)]
        if lanes:
            right = (status, headers["X-Served-By"], said) == ("200", lanes[0], service.model)
        else:
            right = status.startswith("503, Retry-After ") and status[-1].isdigit() and answered_by == "gateway"
        note = "" if here else "not run here"
        return Row(service, home, status, answered_by, seconds, right, note)

    def request(self, service: Service) -> tuple[httpx.Headers, str]:
        """Headers of the answer, and the model that says it answered."""
        match service.paths[0]:
            case "/v1/embeddings":
                raw = self._client.embeddings.with_raw_response.create(model=service.model, input="a robot in a lab")
                found = raw.parse()
                assert len(found.data[0].embedding) > 100
                return raw.headers, found.model
            case "/v1/audio":
                self._client.audio.speech.create(model=service.model, voice="af_heart", input="Hello")
            case "/v1/images":
                self._client.images.generate(model=service.model, prompt="a robot", response_format="b64_json")
            case _:
                answer = self._client.chat.completions.with_raw_response.create(
                    model=service.model, messages=[{"role": "user", "content": "Count on."}], max_tokens=64,
                    extra_body={"ignore_eos": True},
                )  # fmt: skip
                return answer.headers, answer.parse().model
        raise AssertionError(f"{service.name} answers, though nothing runs for it")

    def long(self, services: tuple[Service, ...]) -> Iterator[Row]:
        """A request whose body takes more than a minute, and one whose answer does."""
        [model] = [service for service in services if home.COMPLETIONS in service.paths]
        [embeddings] = [service for service in services if "/v1/embeddings" in service.paths]
        yield self._long(embeddings, "upload", self._upload)
        yield self._long(model, "answer", self._answer)

    def _long(self, service: Service, what: str, request: Callable[[Service], tuple[int, httpx.Headers, str]]) -> Row:
        began = time.monotonic()
        status, headers, note = request(service)
        seconds = time.monotonic() - began
        lane = headers["X-Served-By"]
        right = status == 200 and lane == "home" and seconds > 60 and "broken" not in note
        return Row(service, "on", str(status), lane, seconds, right, f"{what} of {note}")

    def _upload(self, service: Service) -> tuple[int, httpx.Headers, str]:
        """A body that trickles in; the server ignores the padding, as it does any field it doesn't know."""
        body = json.dumps({"model": service.model, "input": "slowly", "padding": ""}).encode()
        body = body.replace(b'"padding": "', b'"padding": "' + b"x" * (UPLOAD_BYTES - len(body)))
        pieces = 130

        def trickle() -> Iterator[bytes]:
            size = -(-len(body) // pieces)
            for start in range(0, len(body), size):
                time.sleep(LONG_S / pieces)
                yield body[start : start + size]

        headers = {**self._headers, "Content-Type": "application/json", "Content-Length": str(len(body))}
        answer = self._http.post(f"{self._base_url}/embeddings", content=trickle(), headers=headers, timeout=300)
        return answer.status_code, answer.headers, f"{len(body) / 2**20:.0f} MiB"

    def _answer(self, service: Service) -> tuple[int, httpx.Headers, str]:
        """A streamed answer that goes on until the caller, who has heard enough, hangs up."""
        began, tokens, silent_s = time.monotonic(), 0, 0.0
        with self._client.chat.completions.create(
            model=service.model, messages=[{"role": "user", "content": "Count on for ever."}], stream=True,
            max_tokens=15_000, extra_body={"ignore_eos": True}, stop=["\x00"],
        ) as stream:  # fmt: skip
            last = time.monotonic()
            for _ in stream:
                silent_s, last, tokens = max(silent_s, time.monotonic() - last), time.monotonic(), tokens + 1
                if time.monotonic() - began > LONG_S:
                    break
            ended = "" if time.monotonic() - began > LONG_S else ", broken off too early"
            return (
                stream.response.status_code,
                stream.response.headers,
                (f"{tokens} tokens, at most {silent_s:.1f} s apart{ended}"),
            )


@contextmanager
def _lab_up() -> Generator[None]:
    for line in _lab(*UP).splitlines():
        if line.startswith("lab: ") or ": not run, " in line:
            print(line.removeprefix("lab: ").strip(), flush=True)
    try:
        yield
    finally:
        _lab("down")


def _lab(*words: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "lab", *words], cwd=ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    if done.returncode:
        raise SystemExit(f"lab {words[0]} failed; what it said stands above and in .lab/dev/lab.log")
    return done.stdout


if __name__ == "__main__":
    sys.exit(main())
