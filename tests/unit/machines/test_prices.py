"""The file of prices: every row has a date and a source, stands once, and is known to grow old."""

from datetime import date, timedelta

import pytest

from components.machines import prices
from components.machines.prices import OLD_DAYS, Rate, old, parsed, rate, rates

HEAD = "# a comment\nitem,region,per,usd,free,read,source\n"


@pytest.mark.parametrize("row", rates().values(), ids=lambda row: f"{row.item} {row.region}")
def test_every_row_is_a_price_with_its_date_and_its_source(row: Rate) -> None:
    assert row.usd >= 0
    assert row.per
    assert row.source
    assert row.read >= date(2026, 1, 1)


def test_a_row_is_read_with_its_free_units() -> None:
    text = HEAD + 'logs,*,GiB,0.5,50,2026-08-23,"a page, of that day"\ndisk,here,GiB month,0.1,,2026-08-27,another\n'
    first, second = parsed(text).values()
    assert first == Rate("logs", "*", "GiB", 0.5, 50, date(2026, 8, 23), "a page, of that day")
    assert second.free == 0


def test_a_price_that_stands_twice_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\('logs', '\*'\) stands twice"):
        parsed(HEAD + "logs,*,GiB,0.5,50,2026-08-23,one\nlogs,*,GiB,0.4,50,2026-08-24,another\n")


def test_a_region_s_own_price_goes_before_that_of_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    table = parsed(HEAD + "rule,*,hour,1,,2026-01-01,a\nrule,there,hour,2,,2026-01-01,b\nram,there,h,3,,2026-01-01,c\n")
    monkeypatch.setattr(prices, "rates", lambda: table)
    assert [found and found.usd for found in (rate("rule", "there"), rate("rule", "here"))] == [2, 1]
    assert rate("ram", "here") is None
    assert prices.regions() == ["there"]


def test_a_price_is_old_after_a_year_and_the_oldest_comes_first() -> None:
    days = sorted({row.read for row in rates().values()})
    assert old(days[0] + timedelta(days=OLD_DAYS)) == []
    the_next_day = old(days[0] + timedelta(days=OLD_DAYS + 1))
    assert {row.read for row in the_next_day} == {days[0]}
    in_years = old(days[-1] + timedelta(days=2 * OLD_DAYS))
    assert len(in_years) == len(rates())
    assert [row.read for row in in_years] == sorted(row.read for row in in_years)
