"""Scripted models behind the whole path are as late as the declared machines, here twenty times as fast."""

import asyncio
from typing import Final

import pytest

from lab.measure import bound
from lab.measure.load import Sample
from lab.measure.requests import TEXT
from lab.measure.testbed import lab_up

SCALE: Final = 20.0
BUSY_S: Final = 2.0
"""What a busy machine may add."""
CONFIG: Final = ('lanes=["home","vm"]', 'vm={"machine_type":"e2-highmem-2"}', 'home={"gpu":"nvidia-l4"}')

pytestmark = pytest.mark.usefixtures("declared_addresses")


@pytest.mark.slow
def test_a_text_takes_as_long_as_its_lane_s_machine() -> None:
    async def main() -> tuple[dict[str, float], list[Sample]]:
        async with lab_up(1.0, CONFIG, answer_s=None, time_scale=SCALE) as testbed:
            alone = bound.lanes(testbed.plan, TEXT, testbed.model)
            async with testbed.load(1.0, TEXT) as load:
                await load.run(0.5)
                await asyncio.gather(*load.pending)
                await testbed.fault("home-refused", True)
                await asyncio.sleep(1.0)
                await load.run(0.5)
        return {name: lane.first_token_s for name, lane in alone.items()}, load.samples

    alone, samples = asyncio.run(main())
    assert alone["vm"] == pytest.approx(65, rel=0.02)
    assert [sample.lane for sample in samples] == ["home", "vm"]
    for sample in samples:
        true_s = alone[sample.lane] / SCALE
        assert true_s <= sample.first_token_s <= true_s * 1.1 + BUSY_S, sample
        assert sample.outcome == "ok"
    assert samples[1].whole_s - samples[1].first_token_s > 0.9 * 149 / 2 / SCALE, "then two tokens a second"
