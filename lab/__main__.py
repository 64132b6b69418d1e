"""`python -m lab`: plan | cost | up [--detach] | outputs [NAME] | status | fault NAME on|off | usage [FILE] | down.

Owns: the command line and the order of what it says. Does not own: what runs (`run.lab`), how a running lab is
found and asked (`control`), how anything looks (`show`).
"""

import argparse
import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from datetime import date
from pathlib import Path
from typing import Final, cast

import pulumi

from lab import control, greeting, show
from lab.errors import LabError
from lab.read import model, tables, unproven, usage
from lab.read import plan as plans
from lab.read.cloud import Cloud
from lab.read.cost import bill
from lab.read.plan import Plan
from lab.read.stack import ROOT, Stack, config_of, render, settings_given
from lab.run.faults import FAULTS
from lab.run.lab import Lab
from lab.run.pods import hosts
from lab.run.ports import free_port, is_free

PREFERRED_PORT: Final = 8787
DETACH_LIMIT_S: Final = 180.0
DOWN_LIMIT_S: Final = 30.0


def main() -> int:
    """Exit status: 0 done, 1 the lab can't (told in a sentence), 2 unusable arguments."""
    arguments = parser().parse_args()
    try:
        done = cast(int, arguments.run(arguments))
        sys.stdout.flush()
        return done
    except (LabError, pulumi.RunError) as error:
        print(f"lab: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        # The reader has enough, as in `lab outputs NAME | head`.
        show.console.on_broken_pipe()
        return 1
    except KeyboardInterrupt:
        return 130


def parser() -> argparse.ArgumentParser:
    """Of the whole command line."""
    found = argparse.ArgumentParser(prog="python -m lab", description="Runs the declaration on this machine.")
    found.add_argument("--stack", default="dev", help="which Pulumi.<stack>.yaml (default: dev)")
    commands = found.add_subparsers(dest="command", required=True)

    def command(name: str, run: object, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text)
        sub.add_argument("--stack", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        sub.set_defaults(run=run)
        return sub

    plan = command("plan", _plan, "show the three tables and what is not proven; start nothing")
    cost = command("cost", _cost, "what the stack costs a month while nobody calls, and in use; start nothing")
    cost.add_argument("--json", action="store_true")
    cost.add_argument("--old-prices", action="store_true", help="sum up prices that are older than a year, too")
    up = command("up", _up, "start everything and serve until Ctrl-C")
    up.add_argument("--detach", action="store_true", help="serve in the background; end it with `down`")
    up.add_argument("--detached", action="store_true", help=argparse.SUPPRESS)
    up.add_argument("--port", type=int, default=0, help=f"public port (default: {PREFERRED_PORT}, or a free one)")
    up.add_argument("--fake-models", action="store_true", help="scripted model servers, as slow as declared machines")
    up.add_argument("--time-scale", type=float, default=1.0, help="divides burst's start and the machines' times")
    up.add_argument("--answer-in", type=float, metavar="S", help="seconds of a scripted answer, whatever the machine")
    up.add_argument("--idle", type=float, default=900.0, help="seconds until an idle instance ends (default: 900)")
    up.add_argument("--cold-start", type=float, default=3.0, help="seconds until burst's model starts (default: 3)")
    for sub in (plan, cost, up):
        sub.add_argument("--config", action="append", default=[], metavar="KEY=JSON", help="a setting, for this run")
    outputs = command("outputs", _outputs, "the stack's outputs, as `pulumi stack output --show-secrets`")
    outputs.add_argument("name", nargs="?", help="print this output's whole value and nothing else")
    outputs.add_argument("--json", action="store_true")
    status = command("status", _status, "what runs")
    status.add_argument("--json", action="store_true")
    fault = command("fault", _fault, f"switch a fault: {', '.join(FAULTS)}")
    fault.add_argument("name", choices=sorted(FAULTS))
    fault.add_argument("switch", choices=("on", "off"))
    used = command("usage", _usage, "what each client used, by day, from log lines")
    used.add_argument("file", nargs="?", help="what `gcloud logging read` gave, - reads it here (default: the lab's)")
    command("down", _down, "end a detached lab")
    return found


def _render(stack: str, cloud: Cloud, given: Sequence[str]) -> tuple[Stack, set[str]]:
    """`given` are settings for this run, over those of the stack's file; and what the lab filled in."""
    declared = config_of(stack) | settings_given(given)
    filled = {key: value for key, value in cloud.config().items() if key not in declared}
    return render(stack, {**filled, **declared}, cloud.compute), set(filled)


def _read(stack: str, cloud: Cloud, given: Sequence[str]) -> tuple[Stack, Plan]:
    rendered, filled = _render(stack, cloud, given)
    show.lines([f"stack {stack}: {len(rendered.resources)} resources; the lab filled in {', '.join(sorted(filled))}"])
    plan = plans.read(rendered)
    show.lines([f"model on {line}" for line in model.lines(plan.models)])
    return rendered, plan


def _cost(arguments: argparse.Namespace) -> int:
    if not arguments.old_prices:
        bill.require_fresh(date.today())
    stack, _ = _render(arguments.stack, Cloud(port=PREFERRED_PORT), arguments.config)
    show.cost(arguments.stack, bill.read(stack), as_json=arguments.json)
    return 0


def _plan(arguments: argparse.Namespace) -> int:
    _, plan = _read(arguments.stack, Cloud(port=PREFERRED_PORT), arguments.config)
    at = {name: f"{host}:0" for name, host in hosts(plan.pods).items()}
    table = tables.addresses(plan, port=PREFERRED_PORT, instance_port=0, pods_at=at, traefik_port=0)
    print(tables.tables(plan, {here: there.replace(":0", ":<free>") for here, there in table.items()}))
    show.lines(["", *unproven.full(plan.unproven)])
    return 0


def _up(arguments: argparse.Namespace) -> int:
    folder = control.folder_of(arguments.stack)
    os.umask(0o077)  # What it writes holds keys.
    if arguments.detach:
        if control.is_up(folder):
            raise LabError(f"stack {arguments.stack} is already up; end it with `python -m lab down`")
        return _detach(arguments, folder)
    with control.held(folder):
        return asyncio.run(_serve(arguments, folder))


async def _serve(arguments: argparse.Namespace, folder: Path) -> int:
    """Serves until Ctrl-C or `down`, which also end it while it is still starting."""
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    port = arguments.port or (PREFERRED_PORT if is_free("127.0.0.1", PREFERRED_PORT) else free_port())
    cloud = Cloud(port=port, burst_port=free_port())
    with show.busy("the declaration is read"):
        stack, plan = await asyncio.to_thread(_read, arguments.stack, cloud, arguments.config)
    lab = Lab(
        stack,
        plan,
        folder,
        port=port,
        burst_port=cloud.burst_port,
        fake_models=arguments.fake_models,
        idle_s=arguments.idle,
        cold_start_s=arguments.cold_start,
        answer_s=arguments.answer_in,
        time_scale=arguments.time_scale,
        say=show.say,
    )
    starting = asyncio.create_task(_start(lab, stack, plan, folder, detached=arguments.detached))
    stopping = [asyncio.create_task(event.wait()) for event in (stop, lab.stopped)]
    try:
        await asyncio.wait({starting, *stopping}, return_when=asyncio.FIRST_COMPLETED)
        if starting.done():
            starting.result()
            await asyncio.wait(stopping, return_when=asyncio.FIRST_COMPLETED)
        show.say("ending")
        return 0
    finally:
        starting.cancel()
        await asyncio.wait({starting})
        await lab.stop()


async def _start(lab: Lab, stack: Stack, plan: Plan, folder: Path, *, detached: bool) -> None:
    """Everything up to the line `ready`. What is `detached` prints into a file, which outlives the keys: no snippet."""
    show.say("starting: models load, nothing answers yet")
    with show.busy("models load"):
        await lab.control.start()
        control.publish(folder, lab.control, stack.outputs)
        await lab.start()
    await greeting.first_answer(stack)
    show.lines(
        [
            "",
            *greeting.truth(plan, scripted=lab.fake_models),
            *greeting.sight(scripted=lab.fake_models),
            "",
            *unproven.summary(plan.unproven),
            *([] if detached else [greeting.snippet(stack.outputs)]),
            "ready",
        ]
    )


def _detach(arguments: argparse.Namespace, folder: Path) -> int:
    """Starts the same command in the background and shows its progress until it is ready."""
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "lab.log"
    words = [sys.executable, "-u", "-m", "lab", "--stack", arguments.stack, "up", "--detached"]
    words += ["--port", str(arguments.port)] if arguments.port else []
    words += ["--fake-models"] if arguments.fake_models else []
    for name in ("idle", "cold_start", "time_scale", "answer_in"):
        value = getattr(arguments, name)
        words += [f"--{name.replace('_', '-')}", str(value)] if value is not None else []
    words += [word for item in arguments.config for word in ("--config", item)]
    with log.open("wb") as out:
        process = subprocess.Popen(
            words, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=out, stderr=out, start_new_session=True
        )
    ready = False
    try:
        with show.busy(f"the lab starts in the background; its log: {log}"):
            for line in _lines(log, process):
                if ready := line == "ready\n":
                    show.lines([greeting.snippet(control.state(folder)["outputs"]), "ready"])
                    return 0
                show.lines([line.removesuffix("\n")])
    finally:
        if not ready and process.poll() is None:
            process.terminate()
            process.wait()
    raise LabError(f"not ready, it ended with status {process.returncode}; see {log}")


def _lines(log: Path, process: subprocess.Popen[bytes]) -> Iterator[str]:
    """The log's lines as they are finished, until the process has ended or `DETACH_LIMIT_S` is over."""
    deadline = time.monotonic() + DETACH_LIMIT_S
    unfinished = ""
    with log.open() as shown:
        while time.monotonic() < deadline:
            ended = process.poll() is not None
            unfinished += shown.readline()
            if unfinished.endswith("\n"):
                yield unfinished
                unfinished = ""
            elif ended:
                return
            else:
                time.sleep(0.05)


def _outputs(arguments: argparse.Namespace) -> int:
    found = control.state(control.folder_of(arguments.stack))["outputs"]
    if arguments.name:
        known = {**found, **show.named(found)}
        if arguments.name not in known:
            known_ones = ", ".join(sorted(known))
            raise LabError(f"there is no output named {arguments.name!r}; there are: {known_ones}")
        found = known[arguments.name]
    if arguments.json:
        print(json.dumps(found, indent=2))
    elif arguments.name:
        print(show.text_of(found).removesuffix("\n"))
    else:
        show.outputs(found)
    return 0


def _status(arguments: argparse.Namespace) -> int:
    folder = control.folder_of(arguments.stack)
    status = control.call(folder, "GET", "/status")
    if status["gateway"]["instances"] and (lanes := control.lanes(folder)):
        status["lanes"] = lanes
    if arguments.json:
        print(json.dumps(status, indent=2))
    else:
        show.status(arguments.stack, status)
    return 0


def _fault(arguments: argparse.Namespace) -> int:
    wanted = {"name": arguments.name, "on": arguments.switch == "on"}
    status = control.call(control.folder_of(arguments.stack), "POST", "/fault", wanted)
    print(f"faults: {', '.join(status['faults']) or 'none'}")
    return 0


def _usage(arguments: argparse.Namespace) -> int:
    show.usage(usage.table(usage.text(arguments.file, control.folder_of(arguments.stack) / "logs")))
    return 0


def _down(arguments: argparse.Namespace) -> int:
    folder = control.folder_of(arguments.stack)
    if not control.is_up(folder):
        print(f"stack {arguments.stack} is not up")
        return 0
    control.call(folder, "POST", "/down")
    if not control.wait_down(folder, DOWN_LIMIT_S):
        raise LabError(f"it does not end; see {folder / 'lab.log'}")
    print(f"stack {arguments.stack} is down")
    return 0


if __name__ == "__main__":
    sys.exit(main())
