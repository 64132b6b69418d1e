"""Request kind x engine: a cell's words, and which answers nobody expected."""

from typing import Final

import pytest

from tests.contract.differences import DIFFERENCES, LLAMA_CPP, VLLM, Difference
from tests.contract.kinds import KINDS, Answer, Kind, Promise, Request
from tests.contract.table import NO_ANSWER, Column, cell, table, unexpected

PROMISE: Final = Promise(model="some/model", context=4096, sequences=3, pictures=2, pixels=589_824)
ERROR: Final = b'{"error": {"message": "no"}}'


def kind(status: int | None, lacks: str = "") -> Kind:
    return Kind("asked", lambda _: Request(None), status=status, lacks=lambda _answer, _promise: lacks)


def column(answer: str, engine: str = VLLM) -> Column:
    return Column(engine, "home", {"asked": answer}, {})


@pytest.mark.parametrize(
    ("status", "lacks", "answer", "words"),
    [
        (200, "", Answer(200), "200"),
        (200, "no call", Answer(200), "200, no call"),
        (400, "no call", Answer(200), "200"),
        (400, "", Answer(400, ERROR), "400"),
        (400, "", Answer(400, b"no"), "400, no error object"),
        (400, "", Answer(400, b'{"error": null}'), "400, no error object"),
        (400, "", Answer(400, ERROR, fetched=True), "400, fetched"),
        (200, "", Answer(0), NO_ANSWER),
    ],
)
def test_a_cell_is_the_status_and_what_is_wrong(status: int, lacks: str, answer: Answer, words: str) -> None:
    assert cell(kind(status, lacks), answer, PROMISE) == words


KNOWN: Final = Difference(VLLM, ("asked",), "400", "because")


@pytest.mark.parametrize(
    ("status", "answer", "known", "told"),
    [
        (200, "200", [], []),
        (200, "400", [KNOWN], []),
        (None, "501", [], []),
        (200, "400", [], ["asked: vLLM, home answers 400; 200 is promised"]),
        (200, "500", [KNOWN], ["asked: vLLM, home answers 500; 400 is known"]),
        (200, "400", [Difference(LLAMA_CPP, ("asked",), "400", "because")],
         ["asked: vLLM, home answers 400; 200 is promised"]),
        (200, "200", [KNOWN], ["asked: vLLM, home answers 200; as promised; the known difference (400) is gone: take "
                               "it out of differences.py"]),
    ],
)  # fmt: skip
def test_what_is_neither_promised_nor_known_is_told(
    status: int | None, answer: str, known: list[Difference], told: list[str]
) -> None:
    assert unexpected([kind(status)], [column(answer)], known) == told


def test_what_the_engine_says_stands_beside_a_surprise() -> None:
    said = Column(VLLM, "home", {"asked": "400"}, {"asked": "too long"})
    assert unexpected([kind(200)], [said], []) == ["asked: vLLM, home answers 400; 200 is promised: too long"]


def test_the_table_marks_differences_and_surprises() -> None:
    columns = [column("400"), column("501", LLAMA_CPP)]
    assert table([kind(200)], columns, [KNOWN]).splitlines() == [
        "request  vLLM, home  llama.cpp, home  promised",
        "----------------------------------------------",
        "asked    400 ~       501 !            200",
    ]


# --- the differences that are known -----------------------------------------------------------------------------------


@pytest.mark.parametrize("difference", DIFFERENCES, ids=lambda one: f"{one.engine} {one.kinds[0]}")
def test_each_known_difference_is_one_and_has_a_reason(difference: Difference) -> None:
    promised = {one.name: one.status for one in KINDS}
    assert difference.engine in (LLAMA_CPP, VLLM)
    assert {str(promised[name]) for name in difference.kinds} & {"None", difference.answer} == set()
    assert difference.why.endswith(".")
    assert len(difference.why) > 30


def test_an_engine_answers_a_kind_in_one_way() -> None:
    pairs = [(one.engine, name) for one in DIFFERENCES for name in one.kinds]
    assert len(pairs) == len(set(pairs))
