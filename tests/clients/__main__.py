"""`python -m tests.clients`: every client through every scenario, on a lab of its own, and one table.

Owns: the order, what is said. Does not own: any step of it (see the package). Ends with 1 if a cell is not as expected.
`--install` fetches what the programs import, in the locked versions; the rest wants no network but loopback.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from lab.errors import LabError
from tests.clients import facts, table
from tests.clients.programs import CLIENTS, Client
from tests.clients.trial import Trial, lab


def main() -> int:
    """Exit status: 0 as expected, 1 not so, 2 unusable arguments."""
    parser = argparse.ArgumentParser(prog="python -m tests.clients", description="Real clients on a lab.")
    names = [client.name for client in CLIENTS]
    parser.add_argument("--only", choices=names, action="append", help="a client, and no other")
    parser.add_argument("--install", action="store_true", help="install what the programs import, and nothing else")
    parser.add_argument("--patience", action="store_true", help="measure for 11 minutes when each client gives up")
    given = parser.parse_args()
    chosen = [client for client in CLIENTS if client.name in (given.only or names)]
    skipped = {client.title: why for client in chosen if (why := client.missing)}
    there = [client for client in chosen if client.title not in skipped]
    with tempfile.TemporaryDirectory() as kept:
        os.environ["PILOTLIGHT_LAB_FOLDER"] = kept
        picture = Path(kept) / "picture.png"
        try:
            if given.install:
                return install(there)
            if given.patience:
                print("\n".join(f"{name}: {waited}" for name, waited in facts.all_patience(there, picture).items()))
                return 0
            return run(there, skipped, picture)
        except LabError as error:
            print(f"clients: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130


def install(clients: Sequence[Client]) -> int:
    """Once for those that share a folder."""
    done: set[Path] = set()
    for client in clients:
        if client.install and client.folder not in done:
            print(f"Installing for {client.title}.", flush=True)
            try:
                client.prepare()
            except subprocess.CalledProcessError as error:
                print(f"clients: {error}", file=sys.stderr)
                return 1
            done.add(client.folder)
    return 0


def run(clients: Sequence[Client], skipped: dict[str, str], picture: Path) -> int:
    """Both tables."""
    with lab(clients) as here:
        cells = Trial(here, clients, picture).run()
    found = facts.at_once(clients, picture)
    wrong = [*table.unexpected(clients, cells), *facts.differences(found)]
    print(f"{table.matrix(clients, cells, skipped)}\n\nWhat a client can't do (~):\n")
    print("\n".join(table.limits()))
    print(f"\n{table.facts(clients, found)}\n")
    print("Unexpected (!):\n" if wrong else "Nothing unexpected.")
    for sentence in wrong:
        print(f"- {sentence}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
