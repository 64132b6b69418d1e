"""The verdict on a cell, and what a listener sees of a client: each can say no."""

import http.client
import json
import re
from typing import Any
from urllib.parse import urlsplit

import openai
import pytest

from tests.clients import table
from tests.clients.facts import FACTS, Fact, differences
from tests.clients.programs import CLIENTS, CURL, HERE, Needed
from tests.clients.scenarios import ABORT, ALL, GOOD, LIMITS, RETRY, SCENARIOS, expected
from tests.clients.wire import SILENCE, Wire
from tests.kit import until

BY_TITLE = {scenario.title: scenario for scenario in ALL}
GOOD_ANSWERS: dict[str, dict[str, Any]] = {
    "models": {"models": ["m"]},
    "plain": {"text": "hello"},
    "stream": {"text": "hello", "pieces": 30, "first_s": 0.1, "seconds": 0.5},
    "usage": {"usage": 20},
    "tools": {"text": "", "calls": 1},
    "picture": {"text": "hello"},
    "wrong key": {"error": "AuthenticationError", "status": 401},
    "31 MiB": {"status": 413},
    "abort": {"pieces": 5, "busy": ""},
    "503, retry": {"text": "hello", "statuses": [503, 200]},
}
WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("models", {"models": ["another"]}, "not in the list"),
    ("models", {"error": "AuthenticationError", "status": 401}, "401"),
    ("plain", {"text": ""}, "no text"),
    ("plain", {"error": "APIConnectionError", "status": None}, "APIConnectionError"),
    ("stream", {"text": "hello", "pieces": 1, "first_s": 0.1, "seconds": 0.5}, "1 pieces"),
    ("stream", {"text": "hello", "pieces": 30, "first_s": 0.49, "seconds": 0.5}, "all at once"),
    ("usage", {"usage": None}, "no usage"),
    ("tools", {"text": None, "calls": 0}, "no text"),
    ("wrong key", {"models": ["m"]}, "taken"),
    ("wrong key", {"error": "PermissionDeniedError", "status": 403}, "403"),
    ("31 MiB", {"error": "APIConnectionError", "status": None}, "APIConnectionError"),
    ("abort", {"pieces": 5, "busy": "home"}, "home"),
    ("abort", {"pieces": 0, "busy": ""}, "0 pieces"),
    ("503, retry", {"text": "hello", "statuses": [200]}, "answered with [200]"),
    ("503, retry", {"error": "InternalServerError", "status": 503, "statuses": [503]}, "503"),
]


@pytest.mark.parametrize("title", BY_TITLE)
def test_a_good_answer_is_good(title: str) -> None:
    assert BY_TITLE[title].cell(GOOD_ANSWERS[title], "m") == GOOD


@pytest.mark.parametrize(("title", "told", "words"), WRONG)
def test_a_wrong_answer_is_said(title: str, told: dict[str, Any], words: str) -> None:
    assert BY_TITLE[title].cell(told, "m") == words


def test_each_scenario_can_be_wrong() -> None:
    assert {title for title, _, _ in WRONG} >= {scenario.title for scenario in (*SCENARIOS, ABORT, RETRY)} - {"picture"}


# --- the whole table --------------------------------------------------------------------------------------------------


def cells() -> dict[str, dict[str, str]]:
    return {client.name: {each.title: expected(client.name, each) for each in ALL} for client in CLIENTS}


def test_nothing_is_unexpected_where_all_is_as_expected() -> None:
    assert table.unexpected(CLIENTS, cells()) == []
    shown = table.matrix(CLIENTS, cells(), {})
    assert "!" not in shown
    assert shown.count("~") == len(LIMITS)


def test_a_failure_is_unexpected() -> None:
    found = cells()
    found[CURL.name]["plain"] = "503"
    assert table.unexpected(CLIENTS, found) == ["curl, plain: 503; ok is expected"]
    assert table.matrix(CLIENTS, found, {}).count("503 !") == 1


def test_a_limit_that_is_gone_is_unexpected() -> None:
    found, limit = cells(), LIMITS[0]
    found[limit.client][limit.scenario] = GOOD
    [told] = table.unexpected(CLIENTS, found)
    assert told.endswith("the limit is gone: take it out of LIMITS")


def test_a_limit_names_a_client_and_a_scenario() -> None:
    assert {limit.client for limit in LIMITS} <= {client.name for client in CLIENTS}
    assert {limit.scenario for limit in LIMITS} <= set(BY_TITLE)


def test_a_skipped_client_is_a_row_with_the_reason() -> None:
    assert "openai, Go" in table.matrix([CURL], cells(), {"openai, Go": "no go"})
    assert "skipped: no go" in table.matrix([CURL], cells(), {"openai, Go": "no go"})


# --- facts ------------------------------------------------------------------------------------------------------------


def test_each_client_has_its_facts() -> None:
    assert [fact.client for fact in FACTS] == [client.name for client in CLIENTS]


def test_a_fact_that_changed_is_said() -> None:
    kept = Fact("curl", "1.1", "Content-Length", 3, 3, "never")
    assert differences([kept], [kept]) == []
    now = Fact("curl", "1.1", "chunked", 3, 3, "never")
    assert differences([now], [kept]) == ["curl: body is chunked, and FACTS has Content-Length"]
    assert len(differences([now], [])) == 1


def test_a_version_is_that_of_the_lock() -> None:
    versions = {client.name: client.version for client in CLIENTS}
    package = json.loads((HERE / "node" / "package.json").read_text())["dependencies"]
    assert versions["openai-python"] == versions["openai-python-async"] == openai.__version__
    assert (versions["openai-node"], versions["ai-sdk"]) == (package["openai"], package["ai"])
    assert all(re.fullmatch(r"\d+(\.\d+){2}", version) for name, version in versions.items() if name != "curl")


@pytest.mark.parametrize("name", ["node/package-lock.json", "go/go.sum", "requirements.txt", "java/pom.xml"])
def test_no_lock_names_where_it_was_fetched_from(name: str) -> None:
    """Each client has its registry from its own settings; a lock with the address of another one would fail there."""
    places = set(re.findall(r"https?://([^/\"]+)/", (HERE / name).read_text()))
    assert places <= {"maven.apache.org", "github.com"}, "names of XML and of those who ask for money"


def test_what_a_machine_lacks_is_said() -> None:
    assert Needed("python3", (3,)).missing() == ""
    assert Needed("nobody-has-this").missing() == "no nobody-has-this"
    assert Needed("python3", (99, 1)).missing() == "python3 is older than 99.1"


def test_the_listener_keeps_what_it_was_sent() -> None:
    with Wire().listening() as wire:
        host = urlsplit(wire.url).netloc
        for body in (b"{}", iter([b"{", b"}"])):
            caller = http.client.HTTPConnection(host, timeout=10)
            caller.request("POST", "/v1/chat/completions", body, encode_chunked=not isinstance(body, bytes))
            assert caller.getresponse().status == 200
            caller.close()
        assert [sent.body for sent in wire.sent] == ["Content-Length", "chunked"]
        assert [sent.version for sent in wire.sent] == ["1.1", "1.1"]


def test_the_listener_says_when_a_caller_has_left() -> None:
    with Wire().listening() as wire:
        wire.status = SILENCE
        caller = http.client.HTTPConnection(urlsplit(wire.url).netloc, timeout=10)
        caller.request("POST", "/v1/chat/completions", b"{}")
        until(lambda: wire.sent, "the request has arrived")
        assert wire.sent[0].patience_s is None
        caller.close()
        until(lambda: wire.sent[0].patience_s is not None, "the caller has left")
