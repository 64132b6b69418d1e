"""The stand-ins' engine in fake time: as late as the machines that were measured, and with the engines' own habits."""

import asyncio
import base64
import io
import json
import selectors
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Any

import pytest
from PIL import Image

from lab.programs.engine import Counts, Engine, Pace, Work
from lab.programs.pictures import PictureError
from lab.programs.prompt import most_picture_tokens, picture_tokens, work

# Of an EPYC Milan, with a projector of bf16.
ONE_CORE = Pace(prompt=4.6, picture=4.65, answer=2.0, prompts=0.7, answers=0.7)
TWO_CORES = Pace(prompt=7.8, picture=8.7, answer=4.1, prompts=0.7, answers=0.7)
PICTURE = 999
"""Tokens of 1024 x 768 pixels without a cap."""
CLOSE = 0.12
"""The table's rates are those of short prompts, and the measured times those of whole requests."""


class FakeTime(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    def __init__(self) -> None:
        super().__init__(Jumping(self))
        self.now = 0.0

    def time(self) -> float:
        return self.now


class Jumping(selectors.DefaultSelector):
    def __init__(self, loop: FakeTime) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self._loop.now += timeout or 0.0
        return super().select(0)


Run = Callable[[Awaitable[Any]], Any]


@pytest.fixture
def run() -> Iterator[Run]:
    loop = FakeTime()
    yield loop.run_until_complete
    loop.close()


def engine(pace: Pace, *, slots: int = 2, batch: int = 2048) -> Engine:
    moving = asyncio.Event()
    moving.set()
    return Engine(pace, slots=slots, batch=batch, moving=moving)


async def answer(engine: Engine, work: Work, *, after: float = 0.0, stay_s: float | None = None) -> list[float]:
    """Seconds from the request until its slot, first token and last token; of a caller who leaves, that far."""
    loop = asyncio.get_running_loop()
    await asyncio.sleep(after)
    began, seen = loop.time(), list[float]()
    with engine.enter(work) as job:
        try:
            async with asyncio.timeout(stay_s):
                await job.in_slot.wait()
                seen.append(loop.time() - began)
                await job.token()
                seen.append(loop.time() - began)
                for _ in range(work.answer - 1):
                    await job.token()
                seen.append(loop.time() - began)
        except TimeoutError:
            pass
    return seen


TEXT = Work(300, (), 150)


@pytest.mark.parametrize(
    ("pace", "text", "whole", "picture"), [(ONE_CORE, 70, 146, 505), (TWO_CORES, 41, 78, 260)], ids=["1", "2"]
)
def test_one_request_takes_what_was_measured(run: Run, pace: Pace, text: float, whole: float, picture: float) -> None:
    async def main() -> tuple[list[float], list[float]]:
        return (await answer(engine(pace), TEXT), await answer(engine(pace), Work(300, (PICTURE,), 1)))

    (_, first, last), (_, with_picture, _) = run(main())
    assert first == pytest.approx(text, rel=CLOSE)
    assert last == pytest.approx(whole, rel=CLOSE)
    assert with_picture == pytest.approx(picture, rel=CLOSE)


def test_an_engine_knows_how_long_it_has_worked_in_the_midst_of_a_step_too(run: Run) -> None:
    async def main() -> list[float]:
        server, loop = engine(ONE_CORE), asyncio.get_running_loop()
        await asyncio.sleep(1000)
        seen = [server.busy_s(loop.time())]
        answering = asyncio.create_task(answer(server, Work(300, (PICTURE,), 1)))
        for _ in range(2):
            await asyncio.sleep(100)
            seen.append(server.busy_s(loop.time()))
        *_, last = await answering
        await asyncio.sleep(1000)
        return [*seen, server.busy_s(loop.time()) - last]

    assert run(main()) == pytest.approx([0, 100, 200, 0], abs=0.1)


def test_two_texts_at_once_make_each_other_late(run: Run) -> None:
    """Measured on two cores: 64 s each instead of 41, then 2.5 tokens/s instead of 4.1."""

    async def main() -> Sequence[list[float]]:
        server = engine(TWO_CORES)
        return await asyncio.gather(answer(server, TEXT), answer(server, TEXT))

    for _, first, last in run(main()):
        assert first == pytest.approx(64, rel=CLOSE)
        assert 149 / (last - first) == pytest.approx(2.5, rel=CLOSE)


def test_what_has_no_slot_waits_in_order(run: Run) -> None:
    async def main() -> Sequence[list[float]]:
        server = engine(ONE_CORE, slots=1)
        return await asyncio.gather(*(answer(server, TEXT, after=number) for number in range(3)))

    slots = [number + seen[0] for number, seen in enumerate(run(main()))]
    assert slots[0] == pytest.approx(0, abs=0.1)
    assert slots[1] == pytest.approx(140, rel=CLOSE), "headers come with a slot, and that with the first one's end"
    assert slots[2] == pytest.approx(280, rel=CLOSE)


def test_a_batch_runs_to_its_end_for_a_caller_who_has_left_too(run: Run) -> None:
    async def main(batch: int) -> Sequence[list[float]]:
        server = engine(ONE_CORE, batch=batch)
        left, stays = Work(1840, (), 150), Work(30, (), 1)
        return await asyncio.gather(answer(server, left, stay_s=10), answer(server, stays, after=5))

    [left, stays] = run(main(2048))
    assert left == [pytest.approx(0, abs=0.1)], "a slot and no token"
    assert stays[0] == pytest.approx(395, rel=0.01), "1,840 tokens at 4.6, before anybody is looked at"
    [_, stays] = run(main(184))
    assert stays[0] == pytest.approx(35, rel=0.01), "a smaller batch is over sooner"
    assert stays[1] == pytest.approx(35 + 30 / 4.6, rel=0.01), "the next batch is without the caller who left"


def test_an_answer_goes_on_between_batches(run: Run) -> None:
    async def main() -> Sequence[list[float]]:
        server = engine(ONE_CORE, batch=46)
        return await asyncio.gather(answer(server, Work(5, (), 20)), answer(server, Work(460, (), 1), after=2))

    [[_, first, last], [_, other, _]] = run(main())
    assert last - first > 100, "a token after each batch of 10 s, not two a second"
    assert other > 100


def test_a_picture_stops_everybody(run: Run) -> None:
    async def main() -> Sequence[list[float]]:
        server = engine(ONE_CORE)
        return await asyncio.gather(answer(server, Work(5, (), 20)), answer(server, Work(5, (PICTURE,), 1), after=2))

    [[_, _, last], _] = run(main())
    assert last > PICTURE / 4.65 + PICTURE / 4.6


def test_who_leaves_the_queue_costs_nothing(run: Run) -> None:
    async def main() -> tuple[Sequence[list[float]], Counts]:
        server = engine(ONE_CORE, slots=1)
        asked = (answer(server, TEXT), answer(server, TEXT, after=1, stay_s=5), answer(server, TEXT, after=2))
        return await asyncio.gather(*asked), server.counts

    (first, gone, last), counts = run(main())
    assert gone == []
    assert last[1] == pytest.approx(first[2] + first[1], rel=0.05)
    assert (counts.prompt_tokens, counts.answer_tokens, counts.generated) == (600, 300, 300)
    assert counts.prompt_s == pytest.approx(2 * 300 / 4.6, rel=0.01)
    assert counts.answer_s == pytest.approx(2 * 149 / 2, rel=0.01)
    assert (counts.processing, counts.deferred) == (0, 0)


def test_an_engine_that_stands_still_goes_on_where_it_was(run: Run) -> None:
    async def main() -> list[float]:
        moving = asyncio.Event()
        server = Engine(ONE_CORE, slots=1, batch=2048, moving=moving)
        asyncio.get_running_loop().call_later(100, moving.set)
        return await answer(server, TEXT)

    assert run(main())[1] == pytest.approx(100 + 300 / 4.6, rel=0.01)


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "most", "tokens"),
    [
        ((1024, 768), None, 999),
        ((512, 384), None, 252),
        ((1024, 768), 256, 234),  # these three as llama.cpp's server counted them
        ((1024, 768), 589_824 // 784, 713),
        ((20, 20), 256, 1),
    ],
)
def test_a_picture_has_the_tokens_that_the_engines_give_it(
    size: tuple[int, int], most: int | None, tokens: int
) -> None:
    assert picture_tokens(*size, most) == tokens


def test_each_engine_tells_the_cap_in_its_own_unit() -> None:
    assert most_picture_tokens(256, {}) == 256
    assert most_picture_tokens(None, {"size": {"shortest_edge": 6_272, "longest_edge": 589_568}}) == 752
    assert most_picture_tokens(None, {}) is None


def body(text: str, *pictures: bytes, **more: object) -> bytes:
    urls = [f"data:image/jpeg;base64,{base64.b64encode(picture).decode()}" for picture in pictures]
    parts = [{"type": "text", "text": text}, *({"type": "image_url", "image_url": {"url": url}} for url in urls)]
    return json.dumps({"messages": [{"role": "user", "content": parts if pictures else text}], **more}).encode()


def jpeg(width: int, height: int) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (width, height)).save(file, "JPEG")
    return file.getvalue()


def test_text_is_counted_by_bytes_and_a_picture_by_its_pixels() -> None:
    raw = body("x" * 1140)
    assert work(raw, json.loads(raw), None) == Work(round(len(raw) / 4), (), 150)
    assert work(raw, json.loads(raw), None).text == pytest.approx(300, abs=10)
    raw = body("x" * 100, jpeg(1024, 768), jpeg(512, 384), max_tokens=20)
    found = work(raw, json.loads(raw), None)
    assert (found.pictures, found.answer) == ((999, 252), 20)
    assert found.text < 120, "the pictures' bytes are no text"
    assert found.prompt == found.text + 1251


def test_a_picture_that_is_none_is_refused() -> None:
    raw = body("what is it?", b"no picture")
    with pytest.raises(PictureError, match="cannot be decoded"):
        work(raw, json.loads(raw), None)
