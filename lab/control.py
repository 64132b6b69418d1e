"""How the commands of `python -m lab` find the running lab and speak with it.

Owns: the lock that says whether a lab runs, its state file, the control port and the calls to it. Does not own: the
effect of `status`, `fault` and `down` (`run.lab`).

The lock and not the process id says who is alive: a number is given away again, and a dead process that nobody waits
for keeps its own.
"""

import contextlib
import fcntl
import json
import os
import secrets
import time
import urllib.error
import urllib.request
from collections.abc import Awaitable, Callable, Generator
from pathlib import Path
from typing import Any, Final, cast

from aiohttp import web

from lab.errors import LabError
from lab.read.stack import ROOT

CALL_LIMIT_S: Final = 150.0
"""Longer than a model takes to load: `fault vm-down off` returns when the lane is back."""
LOCK_S: Final = 0.5
"""`is_up` holds the lock for a blink, which must not look like a running lab."""


class Control:
    """Answers `lab status|fault|down` on loopback, to whoever can read this lab's folder."""

    def __init__(
        self,
        port: int,
        *,
        status: Callable[[], dict[str, Any]],
        fault: Callable[[str, bool], Awaitable[None]],
        down: Callable[[], None],
    ) -> None:
        self.port, self.token = port, secrets.token_urlsafe(16)
        self._status, self._fault, self._down = status, fault, down
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application(middlewares=[self._authorize])
        app.router.add_get("/status", self._answer_status)
        app.router.add_post("/fault", self._answer_fault)
        app.router.add_post("/down", self._answer_down)
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.5)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self.port).start()

    async def stop(self) -> None:
        if self._runner:
            await self._runner.cleanup()

    @web.middleware
    async def _authorize(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        given = request.headers.get("Authorization", "").encode()
        if not secrets.compare_digest(given, f"Bearer {self.token}".encode()):
            return web.json_response({"error": "wrong token"}, status=401)
        return await handler(request)

    async def _answer_status(self, _request: web.Request) -> web.Response:
        return web.json_response(self._status())

    async def _answer_fault(self, request: web.Request) -> web.Response:
        wanted: dict[str, Any] = await request.json()
        try:
            await self._fault(wanted["name"], wanted["on"])
        except LabError as error:
            return web.json_response({"error": str(error)}, status=400)
        return web.json_response(self._status())

    async def _answer_down(self, _request: web.Request) -> web.Response:
        self._down()
        return web.json_response({})


def folder_of(stack: str) -> Path:
    """Where a stack's lab keeps its state and logs; `PILOTLIGHT_LAB_FOLDER` moves it, so that tests have their own."""
    return Path(os.environ.get("PILOTLIGHT_LAB_FOLDER", ROOT / ".lab")) / stack


@contextlib.contextmanager
def held(folder: Path) -> Generator[None]:
    """Marks this process as the stack's running lab; raises `LabError` if there is one."""
    folder.mkdir(parents=True, exist_ok=True)
    # Keys of the lab's clients are in here, in the log too.
    folder.chmod(0o700)
    # Never closed: the kernel does it when the process has ended, and so nobody takes an ending lab for a gone one.
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + LOCK_S
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if time.monotonic() > deadline:
                told = f"stack {folder.name} is already up; end it with `python -m lab down`"
                raise LabError(told) from None
            time.sleep(0.05)
    _state_file(folder).unlink(missing_ok=True)
    try:
        yield
    finally:
        _state_file(folder).unlink(missing_ok=True)


def is_up(folder: Path) -> bool:
    """Whether a lab of this stack runs, or is just starting or ending."""
    try:
        with (folder / "lock").open() as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _state_file(folder: Path) -> Path:
    return folder / "state.json"


def publish(folder: Path, control: Control, outputs: dict[str, Any]) -> None:
    """Lets the other commands find this lab."""
    path = _state_file(folder)
    partial = path.with_suffix(".partial")
    partial.touch(mode=0o600)
    partial.write_text(
        json.dumps({"control": f"http://127.0.0.1:{control.port}", "token": control.token, "outputs": outputs})
    )
    partial.replace(path)


def state(folder: Path) -> dict[str, Any]:
    """What a running lab published; raises `LabError` if there is none."""
    if not is_up(folder):
        raise LabError(f"stack {folder.name} is not up; start it with `python -m lab up`")
    try:
        return cast(dict[str, Any], json.loads(_state_file(folder).read_text()))
    except FileNotFoundError:
        raise LabError(f"stack {folder.name} is still starting or already ending; see {folder / 'lab.log'}") from None


def wait_down(folder: Path, seconds: float) -> bool:
    """Whether the lab was gone in time."""
    deadline = time.monotonic() + seconds
    while is_up(folder):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def call(folder: Path, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """Asks the running lab; its refusal is a `LabError`."""
    found = state(folder)
    request = urllib.request.Request(
        found["control"] + path,
        method=method,
        data=json.dumps(body).encode() if body else None,
        headers={"Authorization": f"Bearer {found['token']}", "Content-Type": "application/json"},
    )
    # Loopback is never asked of a proxy, whatever the environment says.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=CALL_LIMIT_S) as answer:
            return cast(dict[str, Any], json.loads(answer.read()))
    except urllib.error.HTTPError as error:
        with error:
            raise LabError(str(json.loads(error.read() or b"{}").get("error", error))) from None
    except (urllib.error.URLError, ConnectionError) as error:
        raise LabError(f"the lab of stack {folder.name} does not answer: {error}") from None


def lanes(folder: Path) -> dict[str, Any]:
    """What the pilot shows of each lane, asked for as a client does; empty without a pilot."""
    outputs = state(folder)["outputs"]
    key = next(iter(outputs["api_keys"].values()))
    request = urllib.request.Request(f"{outputs['base_url']}/lanes", headers={"Authorization": f"Bearer {key}"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with contextlib.suppress(OSError), opener.open(request, timeout=5) as answer:
        return cast(dict[str, Any], json.load(answer)["lanes"])
    return {}
