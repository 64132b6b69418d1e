"""`python -m tests.bootstrap`: runs every case of the home's bootstrap and prints them as tables.

Ends with 1 if one of them failed. Cases that can't run here are printed as not run, with the reason.
"""

import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.bootstrap import address_cases, box, guard_cases, join_cases, nft, script_cases

Cases = Mapping[str, Callable[[Path, str], str]]


def table(title: str, cases: Cases, text: str, why_not: str) -> bool:
    """Prints one table; whether all of it held."""
    print(f"\n{title}\n")
    width = max(len(name) for name in cases)
    held = True
    for name, case in cases.items():
        if why_not:
            print(f"  -     {name:{width}}  not run: {why_not}", flush=True)
            continue
        with tempfile.TemporaryDirectory(prefix="pilotlight-box-") as folder:
            try:
                seen, mark = case(Path(folder) / "box", text), "ok   "
            except AssertionError as error:
                seen, mark, held = f"FAILED {str(error).splitlines()[:1]}", "WRONG", False
        print(f"  {mark} {name:{width}}  {seen}", flush=True)
    return held


def main() -> int:
    why_not = box.missing()
    guard_why_not = why_not or ("" if nft.program() else "needs nft: apt install nftables")
    held = [
        table(
            "Bootstrap: a bare machine, and one where something is wrong",
            script_cases.CASES,
            script_cases.text(),
            why_not,
        ),
        table("A further machine, and the first one of several", join_cases.CASES, join_cases.text(), why_not),
        table("K3s' ports: who reaches them", guard_cases.CASES, guard_cases.text(), guard_why_not),
        table("The changing address", address_cases.CASES, address_cases.text(), why_not),
    ]
    print(
        "\nFirst, second and fourth table. Stand-ins: "
        + f"{', '.join(box.PROGRAMS)}."
        + "\nReal: the script and all else that it calls, addresses and routes, who listens; of these programs, "
        + "how apt-get reads its sources and how dpkg compares versions."
        + "\nSecond table: the first machine, its K3s and the tailnet between the two are stand-ins, too."
        + "\nThird table. Real: the guard, nftables, TCP and UDP. Stand-ins: K3s' rules, and whatever listens."
        + "\nNot proven here: that NVIDIA's, Tailscale's and K3s' servers still offer these versions."
    )
    return 0 if all(held) else 1


if __name__ == "__main__":
    sys.exit(main())
