"""`python -m tests.attack`: attacks the declared gateway, prints a row for each class, and ends with 1 if a rule broke.

Owns: the order, what is said. Does not own: any step of it (see the package). It wants a network of its own
(`lab/run/own_network.py`): the declared ports are used as they are.
"""

import argparse
import random
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import hypothesis

from lab.read.stack import ROOT
from tests.attack import crowds, drawn, handmade, judge, paths, worlds
from tests.attack.campaign import Campaign, Row, table
from tests.attack.wire import Attack

KEPT: Final = ROOT / ".lab" / "attack"
"""Where requests that break a rule are kept."""
Classes = dict[str, Callable[[], Iterator[Attack]]]


def main() -> int:
    """Exit status: 0 if every rule held, 1 if not, 2 for unusable arguments."""
    known = [kind.__name__ for kind in (*handmade.ALL, *paths.ALL)]
    parser = argparse.ArgumentParser(prog="python -m tests.attack", description="Hostile requests at the gateway.")
    parser.add_argument("--seed", type=int, help="of what is drawn; printed, and a new one each time")
    parser.add_argument("--count", type=int, default=3000, help="requests of each kind that is drawn")
    parser.add_argument(
        "--only", choices=[*known, "drawn", "bytes", "crowds"], action="append", help="a class, and no other"
    )
    parser.add_argument("--replay", type=Path, help="a request that was kept, and no other")
    given = parser.parse_args()
    seed = given.seed if given.seed is not None else random.SystemRandom().randrange(10**9)
    only: list[str] = given.only or [*known, "drawn", "bytes", "crowds"]
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    with worlds.gateway() as here:
        campaign = Campaign(here, KEPT)
        if given.replay:
            campaign.run([Attack.of(given.replay)])
        else:
            run(campaign, only, seed, given.count)
    log = Row("the log's lines", tried=len(here.log.splitlines()), wrong=judge.logged(here.log))
    rows = [*campaign.rows.values(), log]
    print(f"\n{table(rows)}\n")
    wrong = [f"{row.kind}: {sentence}" for row in rows for sentence in row.wrong]
    for sentence in wrong[:60]:
        print(f"- {sentence}")
    tried = sum(row.tried for row in campaign.rows.values())
    print(f"{tried} requests in {time.monotonic() - began:.0f} s, seed {seed}: {len(wrong)} broken rules")
    if wrong and not given.replay:
        print(f"Kept in {KEPT}; `python -m tests.attack --replay FILE` sends one again.")
    return 1 if wrong else 0


def run(campaign: Campaign, only: list[str], seed: int, count: int) -> None:
    """Every class that is asked for."""
    for kind in (*handmade.ALL, *paths.ALL):
        if kind.__name__ in only:
            campaign.run(kind())
            print(f"{kind.__name__}: done", flush=True)
    if "drawn" in only:
        draw(campaign, seed, count)
    if "bytes" in only:
        campaign.run(drawn.fuzzed(seed, count))
    if "crowds" in only:
        for come in crowds.ALL:
            row = come(campaign.here)
            campaign.rows[row.kind] = row
        row = crowds.key_times(campaign.here, seed)
        campaign.rows[row.kind] = row


def draw(campaign: Campaign, seed: int, count: int) -> None:
    """What hypothesis draws. It makes what breaks a rule smaller, and that is the last one kept."""

    @hypothesis.seed(seed)
    @hypothesis.settings(
        max_examples=count, deadline=None, database=None, derandomize=False, print_blob=False,
        suppress_health_check=[hypothesis.HealthCheck.too_slow, hypothesis.HealthCheck.data_too_large],
    )  # fmt: skip
    @hypothesis.given(drawn.requests())
    def each(attack: Attack) -> None:
        assert not campaign.one(attack)

    try:
        each()
    except AssertionError:
        print("drawn: a rule broke")
    campaign.run([])


if __name__ == "__main__":
    sys.exit(main())
