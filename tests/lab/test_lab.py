"""The lab as its user meets it, with fake models: the command line, the stock client, faults, and its end."""

import base64
import contextlib
import hashlib
import io
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Generator, Iterator

import httpx2 as httpx
import openai
import pytest
from PIL import Image

from lab import control
from lab.read.stack import ROOT
from tests.kit import until
from tests.lab.running import Running, detached, family, folder, lab, left_of, status

pytestmark = pytest.mark.usefixtures("declared_addresses")


@pytest.fixture(scope="class")
def running() -> Iterator[Running]:
    with detached("--fake-models", "--answer-in", "0") as text, contextlib.closing(Running(text)) as here:
        here.settle("home")
        yield here


@pytest.fixture
def here(running: Running) -> Iterator[Running]:
    """The lab as it should be between tests: no fault, home serves."""
    yield running
    for name in status()["faults"]:
        running.fault(name, False)
    for lane in running.fakes:
        running.http.delete(f"{running.fakes[lane]}/_fault").raise_for_status()
    running.settle("home")


def picture_of(model: str, size: int) -> bytes:
    """A request of about so many bytes: what stands behind a picture's end in its file is no part of it."""
    file = io.BytesIO()
    Image.new("RGB", (64, 64)).save(file, "PNG")
    content = base64.b64encode(file.getvalue() + os.urandom(size * 3 // 4)).decode()
    part = {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{content}"}}
    return json.dumps({"model": model, "messages": [{"role": "user", "content": [part]}]}).encode()


class TestRunningLab:
    def test_start_says_what_it_did(self, running: Running) -> None:
        text = running.text
        assert "model ready after" in text
        assert "\x1b" not in text, "its output is a file: no colour, no spinner"
        answer = text.partition("\nfirst answer: ")[2].splitlines()
        assert answer[0].startswith("BACKEND:home "), "the lane that comes first was waited for"
        assert answer[1].startswith("   cold start of the gateway ")
        assert answer[2].startswith("   wait for home's check ")
        assert re.fullmatch(r"   first token after +\d+\.\d\d s, served by home", answer[3])
        unproven = text.partition("not proven on this machine:\n")[2].partition("\n\n")[0].splitlines()
        assert 5 < len(unproven) < 10
        assert unproven[-1] == "the full list: `python -m lab plan`"
        url = running.outputs["base_url"]
        assert f'client = OpenAI(base_url="{url}", api_key="{running.key}", timeout=300)' in text
        assert text.endswith("ready\n")

    def test_outputs_are_the_stack_s(self, running: Running) -> None:
        assert set(running.outputs) == {
            "base_url",
            "model",
            "api_keys",
            "client_env",
            "gpu_memory",
            "home_memory",
            "home_cpus",
            "home_auth_key",
            "gateway_key_expires",
            "home_bootstrap",
            "policy_before",
            "next_steps",
        }
        assert running.outputs["base_url"].startswith("http://127.0.0.1:")
        assert running.outputs["base_url"].endswith("/v1")
        assert running.outputs["model"] == "Qwen/Qwen2.5-VL-7B-Instruct"
        assert list(running.outputs["api_keys"]) == ["demo"]
        assert running.key.startswith("sk-")
        assert running.outputs["home_auth_key"].startswith("tskey-auth-")

    def test_outputs_are_a_table_of_a_screen(self, running: Running) -> None:
        lines = lab("outputs").stdout.splitlines()
        assert len(lines) <= 16
        assert ["base_url", running.outputs["base_url"]] in [line.split() for line in lines]
        assert ["api_keys.demo", running.key] in [line.split() for line in lines]
        [script] = [line for line in lines if line.startswith("home_bootstrap ")]
        assert re.search(r" script, \d+ lines, \d+\.\d KiB *$", script)
        assert lines[-1] == "`python -m lab outputs client_env.demo` prints that value whole"
        long = ("home_auth_key", "home_memory", "home_cpus")
        assert all(len(line.rstrip()) <= 80 or line.startswith(long) for line in lines)

    def test_one_output_is_printed_alone(self, running: Running) -> None:
        assert lab("outputs", "home_bootstrap").stdout == running.outputs["home_bootstrap"]
        assert lab("outputs", "api_keys.demo").stdout == f"{running.key}\n"
        assert json.loads(lab("outputs", "api_keys").stdout) == {"demo": running.key}
        assert json.loads(lab("outputs", "model", "--json").stdout) == running.model
        unknown = lab("outputs", "home_bootsrap")
        assert unknown.returncode == 1
        assert "lab: there is no output named 'home_bootsrap'; there are: api_keys, api_keys.demo," in unknown.stderr

    def test_a_reader_who_has_enough_is_no_error(self, running: Running) -> None:
        del running
        theirs, ours = os.pipe()
        os.close(theirs)
        words = [sys.executable, "-m", "lab", "outputs", "home_bootstrap"]
        ended = subprocess.run(words, cwd=ROOT, stdout=ours, stderr=subprocess.PIPE, text=True, check=False)
        os.close(ours)
        assert (ended.returncode, ended.stderr) == (1, "")

    def test_status_lists_every_process(self, running: Running) -> None:
        found = json.loads(lab("status", "--json").stdout)
        assert set(found) == {
            "pid", "uptime_s", "gateway", "burst", "vm", "processes", "addresses", "restarts", "faults", "errors",
            "lanes",
        }  # fmt: skip
        assert found["uptime_s"] > 0
        assert set(found["processes"]) == {
            "vm/model", "home/vllm", "home/traefik", "gateway/caddy", "gateway/tailscale", "gateway/pilot",
        }  # fmt: skip
        assert list(found["lanes"]) == ["home", "vm"]
        assert all(process["running"] for process in found["processes"].values())
        assert found["gateway"]["instances"] == 1
        assert (found["restarts"], found["faults"], found["errors"]) == ({}, [], {})
        assert running.outputs["base_url"] == f"{found['addresses']['gateway: public HTTPS address']}/v1"

    def test_status_is_tables(self, running: Running) -> None:
        del running
        text = lab("status").stdout
        assert max(map(len, text.splitlines())) <= 80
        found = [line.split() for line in text.splitlines()]
        assert ["lane", "state", "for", "in", "flight", "first", "token", "last", "error"] in found
        assert [row[:2] for row in found if row[:1] in (["home"], ["vm"])] == [
            ["vm", "1"], ["home", "warm"], ["vm", "warm"],
        ]  # fmt: skip
        assert ["gateway/caddy", "running", str(status()["processes"]["gateway/caddy"]["pid"])] in found
        assert ["faults", "none"] in found
        assert "errors in the logs: none" in text

    def test_status_tells_the_last_errors(self, here: Running) -> None:
        with here.broken("home-refused"), here.broken("pilot-down"):
            until(lambda: "gateway-pilot" in status()["errors"], "the loop around the pilot says that it ended")
            here.settle("vm")
        until(lambda: "lanes" in json.loads(lab("status", "--json").stdout), "the pilot is back")
        text = " ".join(lab("status").stdout.split())
        assert "log last error" in text
        assert "gateway-pilot pilotlight: the pilot is away" in text

    def test_unknown_fault_names_the_known_ones(self, running: Running) -> None:
        del running
        answer = lab("fault", "home-refuzed", "on")
        assert answer.returncode == 2
        assert "'home-refuzed' (choose from" in answer.stderr
        assert "home-blackhole" in answer.stderr
        with pytest.raises(control.LabError, match="no fault named 'x'; there are: home-refused, home-blackhole"):
            control.call(folder(), "POST", "/fault", {"name": "x", "on": True})

    def test_second_up_is_refused(self, running: Running) -> None:
        del running
        for words in (["up"], ["up", "--detach"]):
            again = lab(*words, "--fake-models")
            assert again.returncode == 1
            assert again.stderr == "lab: stack dev is already up; end it with `python -m lab down`\n"
        assert status()["gateway"]["instances"] == 1

    def test_control_port_wants_the_token(self, running: Running) -> None:
        found = control.state(folder())
        answer = running.http.post(f"{found['control']}/down", headers={"Authorization": "Bearer no"})
        assert answer.status_code == 401
        assert (folder() / "state.json").stat().st_mode & 0o077 == 0

    # --- requests ---

    def test_plain_answer(self, here: Running) -> None:
        with here.client() as client:
            lane, text = here.ask(client)
        assert lane == "home"
        assert text.startswith("BACKEND:home token1 ")

    @pytest.mark.parametrize("lane", ["home", "vm"])
    def test_tokens_arrive_as_they_are_made(self, here: Running, lane: str) -> None:
        with here.broken("home-refused") if lane == "vm" else contextlib.nullcontext(), here.client() as client:
            here.settle(lane)
            here.behave(lane, token_interval=0.3, tokens=8)
            stream = client.chat.completions.create(
                model=here.model, messages=[{"role": "user", "content": "hello"}], stream=True
            )
            began = time.monotonic()
            came = [
                (time.monotonic() - began, chunk.choices[0].delta.content)
                for chunk in stream
                if chunk.choices and chunk.choices[0].delta.content
            ]
        assert stream.response.headers["X-Served-By"] == lane
        assert [text for _, text in came] == [f"BACKEND:{lane}", *(f" token{number}" for number in range(1, 8))]
        times = [at for at, _ in came]
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        assert sum(gap > 0.1 for gap in gaps) >= 5, f"several tokens came at once: {times}"
        assert times[0] < times[-1] / 2

    def test_wrong_and_missing_key(self, here: Running) -> None:
        with here.client("sk-wrong-0123456789abcdef") as client, pytest.raises(openai.AuthenticationError) as refused:
            here.ask(client)
        assert refused.value.code == "invalid_api_key"
        answer = here.http.post("/chat/completions", json={"model": here.model, "messages": []})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"

    def test_unknown_path(self, here: Running) -> None:
        with here.client() as client, pytest.raises(openai.NotFoundError) as refused:
            client.embeddings.create(model=here.model, input="x")
        assert refused.value.code == "not_found"
        assert here.http.get("/metrics", headers=here.authorized).status_code == 404

    def test_body_over_the_gateway_s_limit(self, here: Running) -> None:
        with here.client() as client, pytest.raises(openai.APIStatusError) as refused:
            client.chat.completions.create(
                model=here.model, messages=[{"role": "user", "content": "x" * (31 * 1024 * 1024)}]
            )
        assert refused.value.status_code == 413
        assert refused.value.response.headers["X-Served-By"] == "gateway"
        assert refused.value.response.json()["error"]["code"] == "request_too_large"

    def test_body_over_cloud_run_s_limit(self, here: Running) -> None:
        answer = here.http.post("/chat/completions", content=b"x" * (32 * 1024 * 1024 + 1), headers=here.authorized)
        assert answer.status_code == 413
        assert "X-Served-By" not in answer.headers, "Google's front end says it, the request never gets to the gateway"
        assert answer.headers["Content-Type"].startswith("text/html")

    @pytest.mark.parametrize("size", [3_000_000, 20_000_000])
    @pytest.mark.parametrize("lane", ["home", "vm"])
    def test_large_body_arrives_byte_for_byte(self, here: Running, lane: str, size: int) -> None:
        """Below and above the replay limit, through SOCKS hop and Traefik, and straight: a large picture file."""
        body = picture_of(here.model, size)
        with here.broken("home-refused") if lane == "vm" else contextlib.nullcontext():
            here.settle(lane)
            answer = here.http.post("/chat/completions", content=body, headers=here.authorized)
        assert (answer.status_code, answer.headers["X-Served-By"]) == (200, lane)
        assert answer.json()["received"] == {"sha256": hashlib.sha256(body).hexdigest(), "length": len(body)}

    # --- lanes ---

    @pytest.mark.parametrize(("fault", "lane"), [("home-refused", "vm"), ("vm-down", "home"), ("home-blackhole", "vm")])
    def test_each_lane_alone(self, here: Running, fault: str, lane: str) -> None:
        with here.broken(fault), here.client() as client:
            here.settle(lane)
            for _ in range(10):
                served, text = here.ask(client)
                assert (served, text.split()[0]) == (lane, f"BACKEND:{lane}")
        if fault == "vm-down":
            with here.broken("home-refused"):
                here.settle("vm")

    def test_caller_waits_while_no_lane_is_there(self, here: Running) -> None:
        said: list[str] = []
        with here.broken("home-refused"):
            here.settle("vm")
            here.fault("vm-down", True)
            asking = threading.Thread(target=lambda: said.append(here.lane()))
            asking.start()
            asking.join(2)
            assert asking.is_alive(), "a caller waits for a lane"
            here.fault("home-refused", False)
            asking.join(60)
            assert said == ["home"]

    def test_refused_home_and_its_return_cost_no_request(self, here: Running) -> None:
        load = Load(here)
        with load.running():
            # What the test before broke may not be back yet.
            load.settle("home")
            load.phase("before", 60)
            load.phase("turning")
            assert lab("fault", "home-refused", "on").stdout == "faults: home-refused\n"
            load.settle("vm")
            load.phase("during", 60)
            load.phase("returning")
            assert lab("fault", "home-refused", "off").stdout == "faults: none\n"
            load.settle("home")
            load.phase("after", 60)
        assert load.failed == []
        assert len(load.cut) <= 0.03 * len(load.answers), load.cut
        shares = load.shares()
        assert shares["before"]["home"] > 20
        assert shares["during"].keys() == {"vm"}
        assert shares["after"]["home"] > 0.9 * shares["after"].total()

    def test_tunnel_lost_and_found_keeps_the_instance(self, here: Running) -> None:
        before = status()
        log = folder() / "logs" / "gateway-tailscale.log"
        told = log.read_text().count("the tailnet is away")
        with here.broken("tunnel-down"):
            here.settle("vm")
            until(lambda: log.read_text().count("the tailnet is away") >= told + 2, "the loop did not try again")
            assert here.lane() == "vm"
        here.settle("home")
        after = status()
        assert after["processes"] == before["processes"], "no container ended"
        assert after["gateway"]["starts_s"] == before["gateway"]["starts_s"]

    def test_killed_gateway_is_started_again_by_the_next_request(self, here: Running) -> None:
        before = status()
        old = family(before["processes"]["gateway/tailscale"]["pid"])
        os.kill(before["processes"]["gateway/caddy"]["pid"], signal.SIGKILL)
        until(lambda: status()["gateway"]["instances"] == 0, "nobody noticed")
        assert here.lane() in ("home", "vm")
        after = status()
        assert len(after["gateway"]["starts_s"]) == len(before["gateway"]["starts_s"]) + 1
        assert after["processes"]["gateway/caddy"]["pid"] != before["processes"]["gateway/caddy"]["pid"]
        assert not left_of(old), "the other containers of a dead instance end with it"

    def test_down_leaves_no_process(self, running: Running) -> None:
        """Last, for it ends the lab of this class."""
        del running
        found = status()
        before = family(found["pid"])
        assert {process["pid"] for process in found["processes"].values()} < {seen.pid for seen in before}
        assert len(before) >= 7, "the supervisor, five programs, and the entrypoint in the gateway's loop"
        down = lab("down")
        assert (down.returncode, down.stdout) == (0, "stack dev is down\n")
        assert not left_of(before)
        assert lab("down").stdout == "stack dev is not up\n"
        asked = lab("status")
        assert asked.returncode == 1
        assert asked.stderr == "lab: stack dev is not up; start it with `python -m lab up`\n"


class Load:
    """Callers that never stop asking, half of them for streams."""

    def __init__(self, here: Running) -> None:
        self._here = here
        self._phase = "before"
        self._over = threading.Event()
        self.answers: list[tuple[str, str, str]] = []
        """(phase at the beginning, phase at the end, lane)"""
        self.failed: list[str] = []
        self.cut: list[str] = []
        """Streams of home that broke after their headers; nobody can repeat those.

        Some always do with the fake: it answers within microseconds, and Go's reverse proxy (Traefik) then may close
        the request's body before its own writer has seen the end, which aborts the answer. With 10 ms before the
        headers, less than any model needs, none of 3,000 broke.
        """

    @contextlib.contextmanager
    def running(self) -> Generator[None]:
        callers = [threading.Thread(target=self._call, args=(number % 2 == 0,)) for number in range(4)]
        for caller in callers:
            caller.start()
        try:
            yield
        finally:
            self._over.set()
            for caller in callers:
                caller.join(60)

    def phase(self, name: str, answers: int = 0) -> None:
        """From now on, requests that begin and end belong to this phase; waits for so many of them."""
        self._phase = name
        until(lambda: self.shares().get(name, Counter()).total() >= answers, f"{answers} answers {name}")

    def settle(self, lane: str) -> None:
        """Until the last ten answers are from this lane."""
        until(lambda: {found for _, _, found in self.answers[-10:]} == {lane}, f"{lane} serves alone")

    def shares(self) -> dict[str, Counter[str]]:
        found: dict[str, Counter[str]] = {}
        for began, ended, lane in self.answers:
            if began == ended:
                found.setdefault(began, Counter())[lane] += 1
        return found

    def _call(self, stream: bool) -> None:
        with self._here.client() as client:
            while not self._over.wait(0.02):
                phase, begun, lane = self._phase, False, ""
                try:
                    if stream:
                        answer = client.chat.completions.create(
                            model=self._here.model, messages=[{"role": "user", "content": "hello"}], stream=True
                        )
                        begun = True
                        lane = answer.response.headers["X-Served-By"]
                        text = "".join(chunk.choices[0].delta.content or "" for chunk in answer)
                        assert text.endswith(" token7")
                    else:
                        lane, text = self._here.ask(client)
                    assert text.startswith(f"BACKEND:{lane} ")
                    self.answers.append((phase, self._phase, lane))
                except (openai.OpenAIError, httpx.HTTPError, AssertionError) as error:
                    told = f"{phase}: {error!r}"
                    (self.cut if begun and lane == "home" else self.failed).append(told)
