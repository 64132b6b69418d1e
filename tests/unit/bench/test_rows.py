"""The table's arithmetic: what is asked, what the answers give, the ratio and its mark, another number of cores."""

import pytest

from bench.vm import rows
from bench.vm.rows import Answer

ANSWER = Answer(
    first_s=60, whole_s=130, prompt_tokens=300, prompt_rate=5, generation_rate=2.1, encoding_s=None
)  # fmt: skip
LATER = Answer(first_s=64, whole_s=120, prompt_tokens=300, prompt_rate=4, generation_rate=2.9, encoding_s=None)
PICTURE = Answer(first_s=400, whole_s=400, prompt_tokens=1300, prompt_rate=4, generation_rate=0, encoding_s=180)


def names(requests: list[rows.Request]) -> list[str]:
    return [request.name for request in requests]


def test_a_short_run_asks_for_a_picture_only_once() -> None:
    assert names(rows.requests(1, 2, everything=False)) == ["text"]
    assert names(rows.requests(2, 2, everything=False)) == ["text", "picture 512x384"]
    assert names(rows.requests(1, 1, everything=False)) == ["text", "picture 512x384"]


def test_a_short_run_takes_ten_minutes_at_most_and_a_full_one_gives_every_row() -> None:
    short = {cores: rows.requests(cores, 2, everything=False) for cores in (1, 2)}
    assert sum(rows.expected_s(one, cores) for cores, asked in short.items() for one in asked) < 600
    full = {cores: rows.requests(cores, 2, everything=True) for cores in (1, 2)}
    given = {(row, cores) for cores, asked in full.items() for request in asked for row in request.gives}
    of_memory = {"idle", "used"}
    assert given == {(key, c) for key, row in rows.ROWS.items() if key not in of_memory for c in row.reference}


@pytest.mark.parametrize(
    ("request_", "cores", "row"),
    [
        (rows.TEXT, 1, "text whole"),
        (rows.TEXT, 2, "text whole"),
        (rows.LARGE_PICTURE, 1, "large first"),
        (rows.LARGE_PICTURE, 2, "large first"),
    ],
)
def test_the_estimate_is_the_reference_s(request_: rows.Request, cores: int, row: str) -> None:
    assert rows.expected_s(request_, cores) == pytest.approx(rows.ROWS[row].reference[cores], rel=0.1)


def test_more_cores_than_the_reference_has_take_less_in_proportion() -> None:
    assert rows.expected_s(rows.LARGE_PICTURE, 8) == pytest.approx(rows.expected_s(rows.LARGE_PICTURE, 2) / 4)


def test_a_picture_has_no_more_tokens_than_the_lanes_give_it() -> None:
    assert [rows.picture_tokens(size) for size in (None, rows.SMALL, rows.LARGE)] == [0, 250, 752]


def test_the_figures_as_a_setting() -> None:
    """For a machine that the table doesn't know: its own figures, in the units of `vm.speed`."""
    figures: rows.Figures = {("prompt", 2): 8.04, ("generation", 2): 4.1, ("small encoding", 2): 20}
    assert rows.speed(2, figures) == {"prompt": 8.0, "picture": 12.5, "answer": 4.1}
    assert rows.speed(4, figures) == {"prompt": 16.1, "picture": 25.0, "answer": 8.2}
    assert rows.speed(2, {("prompt", 2): 8.0}) is None


def test_one_answer_gives_the_text_s_rows() -> None:
    assert rows.TEXT.figures([ANSWER]) == {"prompt": 5, "generation": 2.1, "text first": 60, "text whole": 130}


def test_of_two_the_later_counts() -> None:
    assert rows.TWO_TEXTS.figures([ANSWER, LATER]) == {"two first": 64, "two generation": 2.5}


def test_a_picture_gives_its_encoding_alone_and_the_first_token() -> None:
    assert rows.LARGE_PICTURE.figures([PICTURE]) == {"large encoding": 180, "large first": 400}


def test_a_picture_that_was_never_seen_encoded_is_no_figure() -> None:
    assert rows.SMALL_PICTURE.figures([ANSWER]) == {}


@pytest.mark.parametrize(
    ("figure", "ratio", "marked"),
    [(70, "1.00", False), (87.5, "1.25", False), (88.2, "1.26", True), (52.5, "0.75", False), (51.1, "0.73", True)],
)
def test_a_row_out_of_bounds_is_marked(figure: float, ratio: str, marked: bool) -> None:
    line = rows.measured_table({("text first", 1): figure}, same_kind=True).splitlines()[1]
    assert line.startswith("text of 300 tokens: first token | 1 ")
    assert ratio in line
    assert line.endswith("out of 25%") is marked
    other = rows.measured_table({("text first", 1): figure}, same_kind=False).splitlines()[1]
    assert other.endswith("out of 25%, another processor") is marked


def test_a_row_without_a_reference_has_no_ratio() -> None:
    table = rows.measured_table({("two first", 1): 99}, same_kind=True).splitlines()
    assert table[1].split(" | ")[2:] == ["99.0 s", "-        ", "-"]


MEASURED: rows.Figures = {
    ("prompt", 1): 4,
    ("prompt", 2): 8,
    ("text first", 2): 40,
    ("idle", 2): 9.5,
}


@pytest.mark.parametrize(
    ("cores", "key", "found"),
    [
        (1, "prompt", (4, 1)),
        (2, "prompt", (8, 2)),
        (4, "prompt", (16, 2)),
        (1, "text first", (80, 2)),
        (4, "text first", (20, 2)),
        (4, "idle", (9.5, 2)),
        (4, "generation", None),
    ],
)
def test_another_number_of_cores_is_in_proportion(cores: int, key: str, found: tuple[float, int] | None) -> None:
    assert rows.on(cores, key, MEASURED) == found


def test_the_declared_machine_s_figures_say_where_they_come_from() -> None:
    lines = rows.declared_table("e2-highmem-2", 1, MEASURED).splitlines()
    assert lines[0].endswith("| e2-highmem-2, 1 core")
    assert [[word.strip() for word in line.split("|")] for line in lines[1:]] == [
        ["prompt of 300 tokens", "4.0 tokens/s", "measured"],
        ["text of 300 tokens: first token", "80.0 s", "from 2, in proportion"],
        ["memory, resident, idle", "9.5 GiB", "measured"],
    ]
