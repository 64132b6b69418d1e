"""The table: what was measured here, beside the reference, and what a declared machine type would give.

Owns: the rows, the requests that give them, all arithmetic. Does not own: asking (`client`). Pure.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from components.models.catalogue import STANDARD

REFERENCE: Final = "AMD Milan, 2.45 GHz, 2026-11-28"
"""Machine and day of the reference figures; the README's costs name the same."""
TOLERANCE: Final = 0.25
TEXT_TOKENS: Final = 300
ANSWER_TOKENS: Final = 150
SMALL: Final[tuple[int, int]] = (512, 384)
LARGE: Final[tuple[int, int]] = (1024, 768)
Figures = dict[tuple[str, int], float]
"""(row, cores) -> what was measured."""


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    title: str
    unit: str
    reference: Mapping[int, float]
    """Cores -> the reference's figure."""

    @property
    def is_rate(self) -> bool:
        """Whether more is better."""
        return self.unit == "tokens/s"

    @property
    def scales(self) -> bool:
        """Whether it depends on the number of cores."""
        return self.unit != "GiB"


ROWS: Final = {
    "prompt": Row(f"prompt of {TEXT_TOKENS} tokens", "tokens/s", {1: 4.6, 2: 7.8}),
    "generation": Row("generation", "tokens/s", {1: 2.0, 2: 4.1}),
    "text first": Row(f"text of {TEXT_TOKENS} tokens: first token", "s", {1: 70, 2: 41}),
    "text whole": Row(f"text of {TEXT_TOKENS} tokens: with {ANSWER_TOKENS} of answer", "s", {1: 146, 2: 78}),
    "small encoding": Row("picture 512x384: encoding alone", "s", {1: 33, 2: 17}),
    # These two by the small picture's ratio: measured with a projector of 16 bits and 999 tokens, they were 215 and
    # 115 s, 505 and 260 s.
    "large encoding": Row("picture 1024x768: encoding alone", "s", {1: 101, 2: 54}),
    "large first": Row("text and picture 1024x768: first token", "s", {1: 330, 2: 189}),
    "two first": Row("two texts at once: the later first token", "s", {2: 64}),
    "two generation": Row("two texts at once: generation of each", "tokens/s", {2: 2.5}),
    "idle": Row("memory, resident, idle", "GiB", {1: 9.5, 2: 9.5}),
    "used": Row("memory, resident, after the requests", "GiB", {2: 10.2}),
}


@dataclass(frozen=True)
class Answer:
    """What a request took, in seconds and tokens a second; `prompt_tokens` as the server counts them."""

    first_s: float
    whole_s: float
    prompt_tokens: int
    prompt_rate: float
    generation_rate: float
    encoding_s: float | None
    """Until the picture was encoded; None without one."""


@dataclass(frozen=True)
class Request:
    """A kind of request, and the rows that it gives."""

    name: str
    gives: tuple[str, ...]
    picture: tuple[int, int] | None = None
    text_tokens: int = TEXT_TOKENS
    answer_tokens: int = ANSWER_TOKENS
    copies: int = 1

    def figures(self, answers: Sequence[Answer]) -> dict[str, float]:
        """The rows' figures; a row is left out where the server's log didn't tell when a picture was encoded."""
        first, whole = max(answer.first_s for answer in answers), max(answer.whole_s for answer in answers)
        rate = sum(answer.generation_rate for answer in answers) / len(answers)
        known: dict[str, float | None] = {
            "prompt": answers[0].prompt_rate,
            "generation": rate,
            "text first": first,
            "text whole": whole,
            "small encoding": answers[0].encoding_s,
            "large encoding": answers[0].encoding_s,
            "large first": first,
            "two first": first,
            "two generation": rate,
        }
        return {name: figure for name in self.gives if (figure := known[name]) is not None}


TEXT: Final = Request("text", ("prompt", "generation", "text first", "text whole"))
SMALL_PICTURE: Final = Request("picture 512x384", ("small encoding",), SMALL, text_tokens=20, answer_tokens=1)
LARGE_PICTURE: Final = Request("text and picture 1024x768", ("large encoding", "large first"), LARGE, answer_tokens=1)
TWO_TEXTS: Final = Request("two texts at once", ("two first", "two generation"), copies=2)


def requests(cores: int, most: int, *, everything: bool) -> list[Request]:
    """What is asked of `cores` cores on a machine where `most` are measured."""
    if everything:
        return [TEXT, SMALL_PICTURE, LARGE_PICTURE, *([TWO_TEXTS] if cores > 1 else [])]
    return [TEXT, SMALL_PICTURE] if cores == most else [TEXT]


def expected_s(request: Request, cores: int) -> float:
    """What the request takes at the reference's speed, seconds; in proportion on more cores than the reference has."""
    encoding: dict[tuple[int, int], str] = {SMALL: "small encoding", LARGE: "large encoding"}
    known = min(cores, 2)
    prompt, generation = ROWS["prompt"].reference[known], ROWS["generation"].reference[known]
    seconds = (
        (ROWS[encoding[request.picture]].reference[known] if request.picture else 0)
        + request.copies * (request.text_tokens + picture_tokens(request.picture)) / prompt
        + request.answer_tokens / generation
    )
    return seconds * known / cores


def picture_tokens(size: tuple[int, int] | None) -> int:
    """Tokens of a picture of that size, as the lanes cap it; 0 for none."""
    return min(STANDARD.picture_tokens, size[0] * size[1] // 28**2) if size else 0


def speed(cores: int, measured: Figures) -> dict[str, float] | None:
    """The setting `vm.speed` of a machine of `cores` cores, tokens a second; None where a row is missing."""
    found = {name: on(cores, name, measured) for name in ("prompt", "small encoding", "generation")}
    prompt, encoding, answer = (figure and figure[0] for figure in found.values())
    if not prompt or not encoding or not answer:
        return None
    return {
        "prompt": round(prompt, 1),
        "picture": round(picture_tokens(SMALL) / encoding, 1),
        "answer": round(answer, 1),
    }


def on(cores: int, key: str, measured: Figures) -> tuple[float, int] | None:
    """A row's figure on `cores` cores, and on how many it was measured; None if it wasn't at all.

    Measured on as many, it is that figure; otherwise the figure on the nearest number of cores, in proportion.
    """
    there = [count for row, count in measured if row == key]
    if not there:
        return None
    nearest = min(there, key=lambda count: abs(count - cores))
    figure = measured[key, nearest]
    if not ROWS[key].scales:
        return figure, nearest
    factor = cores / nearest
    return (figure * factor if ROWS[key].is_rate else figure / factor), nearest


def measured_table(measured: Figures, *, same_kind: bool) -> str:
    """Every figure beside the reference's, with the ratio and a mark where it is out of bounds."""
    lines = [("", "cores", "here", "reference", "ratio", "")]
    order = list(ROWS)
    for (key, cores), figure in sorted(measured.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        row = ROWS[key]
        reference = row.reference.get(cores)
        ratio = figure / reference if reference else None
        mark = f"out of {TOLERANCE:.0%}" if ratio is not None and abs(ratio - 1) > TOLERANCE else ""
        lines.append((
            row.title, str(cores), f"{figure:.1f} {row.unit}", f"{reference:g} {row.unit}" if reference else "-",
            f"{ratio:.2f}" if ratio is not None else "-", mark and mark + ("" if same_kind else ", another processor"),
        ))  # fmt: skip
    return _text(lines)


def declared_table(machine_type: str, cores: int, measured: Figures) -> str:
    """What the declared machine type would give."""
    lines = [("", f"{machine_type}, {cores} core{'s' if cores > 1 else ''}", "")]
    for key, row in ROWS.items():
        if found := on(cores, key, measured):
            figure, nearest = found
            how = "measured" if nearest == cores or not row.scales else f"from {nearest}, in proportion"
            lines.append((row.title, f"{figure:.1f} {row.unit}", how))
    return _text(lines)


def _text(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[column]) for line in lines) for column in range(len(lines[0]))]
    shaped = (" | ".join(word.ljust(width) for word, width in zip(line, widths, strict=True)) for line in lines)
    return "\n".join(line.rstrip(" |") for line in shaped)
