"""`python -m tests.contract`: asks every engine, as its lane declares it, requests of every kind, and prints one table.

Owns: the order, what is said. Does not own: any step of it (see the package). Ends with 1 if an engine answers
otherwise than promised or known. It wants a network of its own (`lab/run/own_network.py`): the declared ports are used
as they are, and nothing is fetched from anywhere.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

import aiohttp

from lab.errors import LabError
from lab.read.plan import Plan
from tests.contract import asking, checks, declared, llama_cpp, metrics, vllm
from tests.contract.differences import DIFFERENCES, LLAMA_CPP, VLLM
from tests.contract.kinds import KINDS, Promise
from tests.contract.table import Column, cell, message, table, unexpected


def main() -> int:
    """Exit status: 0 as expected, 1 not so, 2 unusable arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.contract", description="Asks the real engines.")
    parser.add_argument("--only", choices=["vm", "burst", "home"], action="append", help="a lane, and no other")
    lanes: Sequence[str] = parser.parse_args().only or ["vm", "burst", "home"]
    try:
        return asyncio.run(run(declared.read(), lanes))
    except LabError as error:
        print(f"engines: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


async def run(plan: Plan, lanes: Sequence[str]) -> int:
    """Every engine, one after another: together they would only slow each other down."""
    promise = declared.promise(plan)
    print(
        f"Promised: {promise.context} tokens of context, n up to {promise.sequences}, pictures of up to "
        + f"{promise.pixels} pixels ({promise.picture_tokens} tokens), {min(promise.pictures, promise.held)} of them"
    )
    columns: list[Column] = []
    wrong: list[str] = []
    if "vm" in lanes:
        assert plan.vm is not None
        async with llama_cpp.started(plan.vm) as url:
            columns.append(await _column(LLAMA_CPP, "vm", url, promise))
            wrong += _told("llama.cpp, vm: health", await checks.health(url))
            wrong += _told("llama.cpp, vm: metrics' names", await checks.names(url, metrics.LLAMA_CPP))
            wrong += _told("llama.cpp, vm: metrics move", await checks.moving(url, LLAMA_CPP, promise))
    wrong += _told("vLLM: parsers", vllm.parsers_differ(vllm.parsers()))
    for one in declared.with_vllm(plan):
        if one.lane in lanes:
            try:
                column, told = await _vllm(one, promise)
            except (LabError, aiohttp.ClientError) as error:
                wrong += _told(f"vLLM, {one.lane}", [str(error)])
                continue
            columns.append(column)
            wrong += told
    wrong += unexpected(KINDS, columns, DIFFERENCES)
    print(f"\n{table(KINDS, columns, DIFFERENCES)}\n\nDifferences that remain (~):\n")
    for difference in DIFFERENCES:
        print(f"- {', '.join(difference.kinds)}: {difference.engine} answers {difference.answer}. {difference.why}")
    print("\nUnexpected (!):\n" if wrong else "\nNothing unexpected.")
    for sentence in wrong:
        print(f"- {sentence}")
    return 1 if wrong else 0


async def _vllm(one: declared.Declared, promise: Promise) -> tuple[Column, list[str]]:
    vllm.make_tiny()
    found = vllm.here(one, vllm.TINY, vllm.FOLDER / one.lane)
    title, url = f"vLLM, {one.lane}", f"http://127.0.0.1:{one.port}"
    print(f"\n{title}: as declared, but for:")
    for change in found.changes:
        print(f"  {change}")
    began = time.monotonic()
    async with vllm.started(one, found) as process:
        print(f"  started in {time.monotonic() - began:.0f} s", flush=True)
        wrong = _told(f"{title}: health", await checks.health(url))
        column = await _column(VLLM, one.lane, url, promise)
        wrong += _told(f"{title}: metrics' names", await checks.names(url, metrics.VLLM))
        wrong += _told(f"{title}: metrics move", await checks.moving(url, VLLM, promise))
        wrong += _told(f"{title}: answers are counted by status", await checks.statuses(url))
        if found.liveness:
            told = await checks.stuck(url, vllm.engine_of(process), found.liveness)
            wrong += _told(f"{title}: an engine that stands still", told)
        told = await checks.drain(url, promise, process, vllm.terminate, one.drain_s)
        wrong += _told(f"{title}: SIGTERM", told)
    return column, wrong


async def _column(engine: str, lane: str, url: str, promise: Promise) -> Column:
    began = time.monotonic()
    answers = await asking.answers(url, promise)
    print(f"  {engine}, {lane}: {len(answers)} requests in {time.monotonic() - began:.0f} s", flush=True)
    return Column(
        engine,
        lane,
        {kind.name: cell(kind, answer, promise) for kind, answer in answers},
        {kind.name: said for kind, answer in answers if (said := message(answer))},
    )


def _told(title: str, wrong: Sequence[str]) -> list[str]:
    """Prints a check; its sentences with the title before them."""
    print(f"  {title}: {'; '.join(wrong) or 'as expected'}", flush=True)
    return [f"{title}: {sentence}" for sentence in wrong]


if __name__ == "__main__":
    sys.exit(main())
