"""The kinds of requests: complete, of the lengths that they speak of, and judged by what an answer holds."""

import json
import re
from collections import Counter
from typing import Any, Final

import pytest

from components import paths
from tests.contract.kinds import KINDS, MARGIN, Answer, Given, Kind, Promise

PROMISE: Final = Promise(model="some/model", context=4096, sequences=3, pictures=2, pixels=589_824)
GIVEN: Final = Given(PROMISE, lambda tokens: f"{tokens} tokens", "http://127.0.0.1:1/picture.png")


def kind(name: str) -> Kind:
    [found] = [one for one in KINDS if one.name == name]
    return found


def body(name: str) -> dict[str, Any]:
    found = kind(name).build(GIVEN).body
    assert found is not None
    return dict(json.loads(found))


def pictures(name: str) -> list[str]:
    parts = body(name)["messages"][-1]["content"]
    return [part["image_url"]["url"] for part in parts if part["type"] == "image_url"]


def whole(**choice: Any) -> Answer:
    """An answer of one choice; `prompt_tokens` among its fields is the usage's."""
    tokens = choice.pop("prompt_tokens", 1)
    document = {"choices": [{"message": {"role": "assistant"}, **choice}], "usage": {"prompt_tokens": tokens}}
    return Answer(200, json.dumps(document).encode())


def response(*kinds: str, tokens: int = 9, **fields: Any) -> Answer:
    output = [{"type": kind, **fields} for kind in kinds]
    usage = {"input_tokens": tokens, "output_tokens": 1}
    return Answer(200, json.dumps({"object": "response", "output": output, "usage": usage}).encode())


def response_events(*kinds: str, **fields: Any) -> Answer:
    return streamed(*(json.dumps({"type": f"response.{kind}", **fields}) for kind in kinds))


def streamed(*events: str) -> Answer:
    return Answer(200, "".join(f"data: {event}\n\n" for event in events).encode())


def test_each_name_is_there_once() -> None:
    assert [name for name, count in Counter(one.name for one in KINDS).items() if count > 1] == []


def test_every_kind_of_a_path_that_leads_to_a_lane_is_promised_something() -> None:
    unpromised = {one.build(GIVEN).path for one in KINDS if one.status is None}
    promised = {one.build(GIVEN).path for one in KINDS if one.status is not None}
    assert promised == set(paths.ANSWERS)
    assert not unpromised & set(paths.ANSWERS)


@pytest.mark.parametrize(
    "word",
    ["stream", "n:", "tools:", "JSON mode", "JSON schema", "logprobs", "stop words", "seed", "picture:", "pictures:",
     "context:", "max_tokens", "broken JSON", "another model's name", "empty messages", "at an address", "a file",
     "responses:"],
)  # fmt: skip
def test_nothing_that_callers_send_is_left_out(word: str) -> None:
    assert [one.name for one in KINDS if word in one.name] != []


def test_lengths_and_counts_follow_the_declaration() -> None:
    assert body("n: as many as promised")["n"] == PROMISE.sequences
    assert body("n: one more")["n"] == PROMISE.sequences + 1
    assert body("context: just under")["messages"][0]["content"] == f"{4096 - MARGIN} tokens"
    assert body("context: just over")["messages"][0]["content"] == f"{4096 + MARGIN} tokens"
    assert len(pictures("pictures: as many as promised")) == PROMISE.pictures
    assert len(pictures("pictures: more than the context holds")) * PROMISE.picture_tokens > PROMISE.context
    assert pictures("picture: at an address") == [GIVEN.remote]


def test_more_pictures_than_the_context_holds_are_not_promised() -> None:
    small = Promise(model="m", context=2048, sequences=1, pictures=2048, pixels=589_824)
    request = kind("pictures: as many as promised").build(Given(small, lambda _: "", ""))
    assert (request.body or b"").count(b'"image_url": {') == 2


@pytest.mark.parametrize(
    ("name", "answer", "lacks"),
    [
        ("text", whole(message={"role": "tool"}), "no message"),
        ("stream", streamed("{}", "{}", "{}"), "no whole stream"),
        ("stream with usage", streamed("{}", '{"choices": [{}]}', "[DONE]"), "no usage at the end"),
        ("another model's name", Answer(200, b'{"model": "gpt-4o"}'), "another name"),
        ("another model's name, stream", streamed('{"model": "some/model"}', '{"model": "gpt-4o"}'), "another name"),
        ("n: as many as promised", whole(), "1 of 3 answers"),
        ("tools: required", whole(message={"content": "Hello."}), "no call"),
        ("tools: a named one", whole(message={"tool_calls": [{"function": {"name": "other"}}]}), "no call"),
        ("JSON mode", whole(message={"content": "Here is"}), "no JSON"),
        ("logprobs", whole(logprobs=None), "no logprobs"),
        ("stop words", whole(message={"content": "a whale"}), "a stop word in the answer"),
        ("picture: one", whole(prompt_tokens=5), "fewer tokens"),
        ("picture: 12 megapixels", whole(prompt_tokens=4052), "more tokens"),
        ("responses: text", response("reasoning"), "no message"),
        ("responses: text", response("message", tokens=0), "no usage"),
        ("responses: picture", response("message", tokens=40), "fewer tokens"),
        ("responses: tools: required", response("function_call", name="other"), "no call"),
        ("responses: stream", response_events("created", "output_text.delta", output_index=0), "no whole stream"),
        ("responses: stream", response_events("created", "output_text.delta", "completed"), "no indices"),
    ],
)
def test_an_answer_without_what_was_asked_for_is_seen(name: str, answer: Answer, lacks: str) -> None:
    assert kind(name).lacks(answer, PROMISE) == lacks


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("text", whole()),
        ("stream", streamed("{}", "{}", "[DONE]")),
        ("stream with usage", streamed("{}", '{"choices": [], "usage": {"completion_tokens": 8}}', "[DONE]")),
        ("another model's name", Answer(200, b'{"model": "some/model"}')),
        ("another model's name, stream", streamed('{"model": "some/model"}', '{"model": "some/model"}', "[DONE]")),
        ("tools: a named one", whole(message={"tool_calls": [{"function": {"name": "weather"}}]})),
        ("tools: required", whole(message={"content": '<tool_call>\n{"name": "wea'})),
        ("JSON schema", whole(message={"content": '\n{"ci'})),
        ("logprobs", whole(logprobs={"content": [{"top_logprobs": [{}, {}, {}]}]})),
        ("picture: one", whole(prompt_tokens=760)),
        ("pictures: as many as promised", whole(prompt_tokens=1520)),
        ("responses: text", response("reasoning", "message")),
        ("responses: picture", response("message", tokens=760)),
        ("responses: tools: required", response("function_call", name="weather")),
        (
            "responses: stream",
            response_events("created", "output_text.delta", "completed", output_index=0, content_index=0),
        ),
    ],
)
def test_an_answer_with_it_lacks_nothing(name: str, answer: Answer) -> None:
    assert kind(name).lacks(answer, PROMISE) == ""


def test_a_name_fits_a_table() -> None:
    assert [one.name for one in KINDS if not re.fullmatch(r"[^|`\n]{1,45}", one.name)] == []
