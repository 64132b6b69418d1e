"""The sizes of requests: borders follow from the VM's speed and the lanes' contexts, references lie between."""

from dataclasses import replace

import pytest

from components.machines.requests import Borders, Size, borders, first_token_s
from components.machines.speeds import MACHINES, Machine, Source, Speed
from components.models.catalogue import STANDARD


def reads(prompt: float) -> Speed:
    """A machine that reads so many tokens a second."""
    return Speed(prompt, 1.0, 1.0, Source.ESTIMATED, "")


@pytest.mark.parametrize(
    ("vm", "context", "limit_kib", "found"),
    [
        # Not even 300 bytes in 15 s.
        (reads(4.6), 16384, 4096, Borders(2, 64, 752)),
        (reads(50), 16384, 4096, Borders(2, 64, 752)),
        (reads(407), 16384, 4096, Borders(16, 64, 752)),
        # It would read 76 KiB.
        (reads(1300), 16384, 4096, Borders(32, 64, 752)),
        (None, 16384, 4096, Borders(2, 64, 752)),
        (reads(50), 16385, 4096, Borders(2, 128, 752)),
        (reads(50), 2048, 4096, Borders(2, 8, 752)),
        (reads(1300), 1_048_576, 3072, Borders(64, 2048, 752)),
    ],
)
def test_borders_follow_from_speed_and_context(vm: Speed | None, context: int, limit_kib: int, found: Borders) -> None:
    assert borders(vm, replace(STANDARD, context_tokens=context), limit_kib) == found


@pytest.mark.parametrize("row", MACHINES, ids=lambda row: row.title)
def test_a_reference_is_a_request_of_its_size(row: Machine) -> None:
    for found in (borders(row.speed, STANDARD, 4096), Borders(1, 2, 752), Borders(3, 4, 752)):
        (short, _), (long, _), (_, picture) = (found.reference(size) for size in Size)
        assert 0 < short * 4 <= found.short_kib * 1024 < long * 4 <= found.text_kib * 1024
        assert [found.reference(size)[1] for size in (Size.SHORT, Size.LONG)] == [0, 0]
        assert picture > 0


def test_a_short_text_begins_in_a_quarter_of_a_minute_where_the_machine_can() -> None:
    for row in MACHINES:
        found = borders(row.speed, STANDARD, 4096)
        if found.short_kib > 2:
            assert first_token_s(row.speed, found.short_kib * 1024 // 4) <= 15
