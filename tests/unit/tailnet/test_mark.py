"""The mark of a policy: read back whole, and it tells every edit but one of blanks."""

import json

import json5
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.tailnet import mark
from lab.read.cloud import UNTOUCHED

POLICY = json.dumps({"acls": [], "hosts": {"nas": "100.64.0.9"}}, indent=2)
WRITER = "some-project/pilotlight-dev"
TEXT = mark.marked(POLICY, WRITER, UNTOUCHED)


def test_a_mark_is_read_back() -> None:
    assert mark.read(TEXT) == mark.Marked(WRITER, intact=True, before=UNTOUCHED)
    assert json5.loads(TEXT) == json5.loads(mark.unmarked(TEXT)) == json.loads(POLICY)


@given(st.text(st.characters(exclude_characters="\r", exclude_categories=("Cs",))))
def test_what_stood_before_is_kept_to_the_letter(before: str) -> None:
    """But for its last newline, which a text has."""
    found = mark.read(mark.marked(POLICY, WRITER, before))
    assert found is not None
    assert found.intact
    assert found.before == before.removesuffix("\n") + "\n"


@pytest.mark.parametrize("before", [TEXT, TEXT.replace("nas", "disk")])
def test_a_marked_policy_is_kept_like_any_other(before: str) -> None:
    assert mark.read(mark.marked("{}", "other/pilotlight-prod", before)) == mark.Marked(
        "other/pilotlight-prod", intact=True, before=before
    )


@pytest.mark.parametrize(
    "edited",
    [
        TEXT.replace("100.64.0.9", "100.64.0.8"),
        TEXT.replace('"acls": []', '"acls": [] // none'),
        TEXT.replace("grants", "acls"),
        TEXT.replace("some-project", "another"),
        TEXT + "// mine\n",
        "// mine\n" + TEXT,
        TEXT.replace("}\n// What", "// What"),
    ],
)
def test_an_edit_is_seen(edited: str) -> None:
    found = mark.read(edited)
    assert found is not None
    assert not found.intact


@pytest.mark.parametrize(
    "same",
    [
        TEXT.replace("\n", "\r\n"),
        TEXT.rstrip(),
        "\n" + TEXT,
        TEXT.replace("  ", "\t"),
        "\n".join(line.rstrip() for line in TEXT.split("\n")),
    ],
)
def test_blanks_are_no_edit(same: str) -> None:
    found = mark.read(same)
    assert found is not None
    assert found.intact
    assert json5.loads(found.before) == json5.loads(UNTOUCHED)
    assert json5.loads(mark.unmarked(same)) == json.loads(POLICY)


@pytest.mark.parametrize("text", [UNTOUCHED, POLICY, "", "// Written by me, by hand.\n{}"])
def test_a_policy_without_a_mark_has_none(text: str) -> None:
    assert mark.read(text) is None
    assert mark.unmarked(text) == text
