"""Home's Traefik: the real program, which reads its routes from the lab's Kubernetes API.

Owns: starting it, its ports and folder. Does not own: its command line (`read.traefik`), the API (`kubernetes_api`).
"""

from collections.abc import Sequence
from pathlib import Path

from lab.read.stack import Resource
from lab.read.traefik import traefik_command, traefik_environment
from lab.run import processes
from lab.run.ports import free_port
from lab.run.processes import Process

TITLE = "home/traefik"
START_S = 30.0


class Traefik:
    """One Traefik at `address`; `run` and `logs` are the lab's folders."""

    def __init__(self, resources: Sequence[Resource], *, run: Path, logs: Path) -> None:
        self._resources, self._folder, self._logs = resources, run / "home" / "traefik", logs
        self.port, self._ping_port = free_port(), free_port()

    @property
    def address(self) -> str:
        """Where home's requests arrive."""
        return f"127.0.0.1:{self.port}"

    async def start(self, api_url: str) -> Process:
        """Returns when it answers its ping."""
        self._folder.mkdir(parents=True, exist_ok=True)
        command = traefik_command(self._resources, port=self.port, ping_port=self._ping_port, api_url=api_url)
        env = traefik_environment(self._folder)
        process = await processes.start(TITLE, command, env, cwd=self._folder, logs=self._logs)
        await processes.ready(f"http://127.0.0.1:{self._ping_port}/ping", START_S, process)
        return process
