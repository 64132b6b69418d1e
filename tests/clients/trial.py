"""Puts running programs through the scenarios, on a running lab.

Owns: the order, the faults between, what a scenario adds from outside: the lanes' metrics, the gateway's log. Does not
own: what must come of it (`scenarios`), how a client behaves where nobody answers (`facts`).
"""

import contextlib
import json
import re
from collections.abc import Generator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from PIL import Image

from tests.clients.programs import ANSWER_S, Client, Program
from tests.clients.scenarios import ABORT, RETRY, SCENARIOS, Told
from tests.kit import happens, until
from tests.lab.running import Running, detached, folder

WAIT_S: Final = 2
"""How long the gateway keeps a request in line, seconds: soon over, so that the 503 comes soon."""
FREE_S: Final = 5.0
"""How soon a lane must be free after its caller has left, seconds. The answer would take some 15."""
WRITTEN: Final = 1000
"""Tokens of an answer of 1500 after which nobody has aborted it."""
WITHOUT_HOME, WITHOUT_VM = "home-refused", "vm-down"

Cells = dict[str, dict[str, str]]
"""Client -> scenario's title -> words."""


@contextlib.contextmanager
def lab(clients: Sequence[Client]) -> Generator[Running]:
    """A lab with real models, in which each client has a key of its own, so that the log tells them apart."""
    names = [{"name": name} for name in ("demo", *(client.name for client in clients))]
    settings = {"clients": names, "gateway": {"wait_s": WAIT_S}, "home": {"max_requests": 2 * len(clients)}}
    words = [word for key, value in settings.items() for word in ("--config", f"{key}={json.dumps(value)}")]
    with detached(*words) as text, contextlib.closing(Running(text)) as here:
        yield here


class Trial:
    """The programs of all clients, on one lab.

    The VM answers, and home is down: the lab's Traefik cuts about one in two hundred streams whose engine answers
    within microseconds, as llama.cpp does here and no vLLM (`tests.lab.test_lab`). After the 503 home comes back.
    """

    def __init__(self, here: Running, clients: Sequence[Client], picture: Path) -> None:
        self.here = here
        self._clients, self._picture = clients, picture
        self._log = folder() / "logs" / "gateway-caddy.log"

    def run(self) -> Cells:
        """Every scenario. One client after another, but for the last, which waits most of its time."""
        Image.linear_gradient("L").convert("RGB").save(self._picture, "PNG")
        cells: Cells = {client.name: {} for client in self._clients}
        with contextlib.ExitStack() as stack:
            programs = [stack.enter_context(self._started(client)) for client in self._clients]
            with self.here.broken(WITHOUT_HOME):
                until(lambda: self._lanes()["home"]["state"] != "warm", "home is down")
                for program in programs:
                    mine = cells[program.client.name]
                    for scenario in SCENARIOS:
                        mine[scenario.title] = scenario.cell(program.ask(scenario.name), self.here.model)
                    mine[ABORT.title] = ABORT.cell(self._abort(program), self.here.model)
                # For good: the lab ends after this.
                self.here.fault(WITHOUT_VM, True)
                begin = self._log.stat().st_size
                for program in programs:
                    program.send(RETRY.name)
                for program in programs:
                    name = program.client.name
                    happens(lambda name=name: 503 in self._statuses(name, begin), FREE_S + WAIT_S)
            for program in programs:
                told, name = program.receive(), program.client.name
                # The log's line comes after the answer.
                happens(lambda name=name: self._statuses(name, begin)[-1:] == [200], FREE_S)
                cells[name][RETRY.title] = RETRY.cell(
                    {**told, "statuses": self._statuses(name, begin)}, self.here.model
                )
        return cells

    def _started(self, client: Client) -> contextlib.AbstractContextManager[Program]:
        found = self.here.outputs
        return client.running(found["base_url"], found["api_keys"][client.name], self.here.model, self._picture)

    def _abort(self, program: Program) -> Told:
        before = self._written()
        told = program.ask(ABORT.name)
        free = happens(lambda: not self.busy(), FREE_S)
        busy = "" if free else ", ".join(self.busy())
        # The next one is to find the lanes free.
        until(lambda: not self.busy(), "the answer has come to its end", ANSWER_S)
        if not busy and self._written() - before > WRITTEN:
            busy = "written to its end"
        return {**told, "busy": busy}

    def busy(self) -> list[str]:
        """Lanes with work: by their engine's own count, and by the gateway's, which limits what they get."""
        found = [lane for lane in self.here.fakes if _metric(self._metrics(lane), "llamacpp:requests_processing")]
        return found + [f"{lane}'s slot" for lane, shown in self._lanes().items() if shown["in_flight"]]

    def _lanes(self) -> Mapping[str, Any]:
        return self.here.http.get("/lanes", headers=self.here.authorized).json()["lanes"]

    def _written(self) -> float:
        return sum(_metric(self._metrics(lane), "llamacpp:tokens_predicted_total") for lane in self.here.fakes)

    def _metrics(self, lane: str) -> str:
        return self.here.http.get(f"{self.here.fakes[lane]}/metrics").text

    def _statuses(self, client: str, begin: int) -> list[int]:
        """Of this client's requests, in order, from a place in the gateway's log on."""
        with self._log.open("rb") as log:
            log.seek(begin)
            lines = [json.loads(line) for line in log if line.startswith(b"{") and line.endswith(b"}\n")]
        return [line["status"] for line in lines if line.get("client") == client and "status" in line]


def _metric(text: str, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)", text, re.MULTILINE)
    assert found, f"no {name}"
    return float(found[1])
