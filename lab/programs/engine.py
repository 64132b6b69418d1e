"""When each token comes: how an engine shares its machine between the requests in it, for llama.cpp's server and vLLM.

Owns: slots, batches and who waits, at a machine's speeds; the counts behind the engines' metrics. Does not own: HTTP
(`fake_model`), a request's size (`prompt`), the metrics' names (`fake_metrics`), which speeds those are (`read.pace`).

Seen at llama.cpp's own server (xllamacpp, 2026-11-28). It looks at its requests between two batches only: who came, who
left, who gets a slot. A stream's headers go out when its request gets a slot. A batch takes prompt tokens from all
slots, in their order, and runs to its end for callers that are gone, too; a picture is encoded and read in one piece.
A prompt's tokens are counted with its first token, an answer's at its end.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Final

TOGETHER_S: Final = 0.02
"""Requests that find the engine idle within this share their first batch, as if they had come at once."""
_LOOK_S: Final = 0.05
"""How often an engine that a fault holds up looks at its requests."""


@dataclass(frozen=True)
class Pace:
    """A machine's speeds. One request alone, in tokens a second: of the prompt, of a picture's encoding, of the answer.

    Several at once: n prompts in one batch take `n ** prompts` times as long as one, n answers `n ** answers` times.
    """

    prompt: float
    picture: float
    answer: float
    prompts: float = 1.0
    answers: float = 1.0


@dataclass(frozen=True)
class Work:
    """What one request asks of the machine, in tokens."""

    text: int
    pictures: tuple[int, ...]
    answer: int

    @property
    def prompt(self) -> int:
        """Everything that is read before the answer."""
        return self.text + sum(self.pictures)


@dataclass
class Counts:
    """Totals since the engine's start, as its metrics tell them; seconds and tokens."""

    prompt_tokens: int = 0
    prompt_s: float = 0.0
    generated: int = 0
    """Tokens of answers, as they come."""
    answer_tokens: int = 0
    """Tokens of answers that have ended."""
    answer_s: float = 0.0
    steps: int = 0
    busy: int = 0
    """Slots at work, summed over the steps."""
    processing: int = 0
    deferred: int = 0


class Job:
    """One request in the engine."""

    def __init__(self, work: Work, held_s: float) -> None:
        self.work, self.held_s = work, held_s
        self.pictures, self.text = deque(work.pictures), work.text
        self.left = False
        """Its caller is gone."""
        self.in_slot = asyncio.Event()
        self.slot_at = self.ready_at = self.first_at = 0.0
        self.made = 0
        self._tokens = asyncio.Semaphore(0)

    @property
    def reads(self) -> bool:
        """Whether its prompt is not read yet."""
        return bool(self.pictures or self.text)

    @property
    def over(self) -> bool:
        """Whether its slot is free again."""
        return self.left or self.made >= self.work.answer

    def make(self) -> None:
        """One more token of its answer."""
        self.made += 1
        self._tokens.release()

    async def token(self) -> None:
        """Returns when the next token is there."""
        await self._tokens.acquire()


class Engine:
    """An engine with `slots` places; a step reads at most `batch` prompt tokens. It stands still unless `moving`."""

    def __init__(self, pace: Pace, *, slots: int, batch: int, moving: asyncio.Event) -> None:
        self._pace, self._places, self._batch, self._moving = pace, slots, batch, moving
        self._came: list[Job] = []
        self._waiting: deque[Job] = deque()
        self._slots: list[Job] = []
        self._working: asyncio.Task[None] | None = None
        self._worked_s = 0.0
        self._step_at = self._step_end = 0.0
        self.counts = Counts()

    @contextlib.contextmanager
    def enter(self, work: Work, *, held_s: float = 0.0) -> Generator[Job]:
        """A request's stay, from its arrival until its caller has all or goes; its slot does nothing for `held_s`."""
        job = Job(work, held_s)
        self._came.append(job)
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work())
        try:
            yield job
        finally:
            job.left = True

    async def _work(self) -> None:
        """Steps until nobody is left. `at` is the machine's clock, so that a late wake-up is caught up with."""
        await asyncio.sleep(TOGETHER_S)
        loop = asyncio.get_running_loop()
        at = loop.time()
        while self._came or self._waiting or self._slots:
            if not self._moving.is_set():
                await self._moving.wait()
                at = loop.time()
            self._look(at)
            ready = [job for job in self._slots if job.ready_at <= at]
            if ready:
                at = await self._step(ready, at)
            elif self._slots:
                # Slow, not stuck: steps are taken, and lead to no token yet.
                self.counts.steps += 1
                await asyncio.sleep(_LOOK_S)
                at = loop.time()
        self._look(at)

    def _look(self, at: float) -> None:
        """Between two steps: who has gone makes room, who came waits, and the longest waiting get the free slots."""
        self._slots = [job for job in self._slots if not job.over]
        self._waiting.extend(self._came)
        self._came.clear()
        self._waiting = deque(job for job in self._waiting if not job.left)
        while self._waiting and len(self._slots) < self._places:
            job = self._waiting.popleft()
            job.slot_at, job.ready_at = at, at + job.held_s
            job.in_slot.set()
            self._slots.append(job)
        self.counts.processing, self.counts.deferred = len(self._slots), len(self._waiting)

    async def _step(self, ready: list[Job], at: float) -> float:
        """One step of the machine from `at` on; returns its end."""
        pace = self._pace
        self.counts.steps += 1
        looking = next((job for job in ready if job.pictures), None)
        if looking:
            tokens = looking.pictures.popleft()
            self.counts.busy += 1
            return await self._until(at, tokens / pace.picture + tokens / pace.prompt)
        answering = [job for job in ready if not job.reads]
        reading = self._shared([job for job in ready if job.reads], self._batch - len(answering))
        self.counts.busy += len(answering) + len(reading)
        took = len(answering) ** pace.answers / pace.answer if answering else 0.0
        if reading:
            took += sum(reading.values()) / pace.prompt * len(reading) ** (pace.prompts - 1)
        end = await self._until(at, took)
        for job, tokens in reading.items():
            job.text -= tokens
            if not job.reads:
                self._read(job, end)
        for job in answering:
            self._made(job, end)
        return end

    def _shared(self, reading: list[Job], room: int) -> dict[Job, int]:
        """How many tokens of each prompt are in a batch; first come, first served."""
        shares: dict[Job, int] = {}
        for job in reading:
            shares[job] = min(job.text, max(0, room))
            room -= shares[job]
        return {job: tokens for job, tokens in shares.items() if tokens}

    async def _until(self, at: float, took: float) -> float:
        """The end of a step that begins at `at`."""
        self._step_at, self._step_end = at, at + took
        # A sleep that is over already lets everybody else run, all the same.
        await asyncio.sleep(max(0.0, self._step_end - asyncio.get_running_loop().time()))
        self._worked_s += took
        self._step_at = self._step_end
        return self._step_end

    def busy_s(self, now: float) -> float:
        """Time that all steps took, the one under way included; no metric of an engine tells it."""
        return self._worked_s + max(0.0, min(now, self._step_end) - self._step_at)

    def _read(self, job: Job, at: float) -> None:
        self.counts.prompt_tokens += job.work.prompt
        self.counts.prompt_s += at - job.slot_at
        job.first_at = at
        self._made(job, at)

    def _made(self, job: Job, at: float) -> None:
        job.make()
        self.counts.generated += 1
        if job.made == job.work.answer:
            self.counts.answer_tokens += job.made
            self.counts.answer_s += at - job.first_at
