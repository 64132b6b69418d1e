"""The kinds of requests, as data: how each is built from the declaration, and which answer every lane owes to it.

Owns: requests, the status promised for each, and what an answer must hold. Does not own: sending them (`asking`),
what an engine answers instead (`differences`). Pure.
"""

import base64
import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, cast

from PIL import Image

CHAT: Final = "/v1/chat/completions"
RESPONSES: Final = "/v1/responses"
PIXELS_PER_TOKEN: Final = 28 * 28
"""Qwen2.5-VL: a token for two by two patches of 14 by 14 pixels."""
MARGIN: Final = 48
"""How far from the limit a prompt ends that is just under or just over it, tokens."""
TEXT_TOKENS: Final = 256
"""Room that is left beside the pictures of a prompt that they fill, tokens."""
ANSWER_TOKENS: Final = 8
SEED: Final = 12
"""For noise that is the same each time. Not for long prompts: vLLM on a processor ends at a seed whose prompt takes
more than one step (its generator can't be set back there; on a card it can)."""


@dataclass(frozen=True)
class Promise:
    """What the declaration promises a caller, whichever lane answers."""

    model: str
    context: int
    """Tokens of one request, its answer included."""
    sequences: int
    """Answers to one request (`n`)."""
    pictures: int
    """Pictures in one request, as far as the context holds them."""
    pixels: int
    """Most pixels of a picture after scaling; a larger one is scaled down to it."""

    @property
    def picture_tokens(self) -> int:
        """Tokens of a picture of the full size, about."""
        return self.pixels // PIXELS_PER_TOKEN

    @property
    def held(self) -> int:
        """Pictures of the full size that the context holds."""
        return (self.context - TEXT_TOKENS) // self.picture_tokens


@dataclass(frozen=True)
class Given:
    """What a request is built from."""

    promise: Promise
    words: Callable[[int], str]
    """A text with which the whole prompt has so many tokens on the engine that is asked."""
    remote: str
    """Address of a picture on this machine. Who asks for it is seen."""


@dataclass(frozen=True)
class Request:
    """One HTTP request. `begun`: the caller hangs up as soon as the answer begins."""

    body: bytes | None
    path: str = CHAT
    method: str = "POST"
    begun: bool = False


@dataclass(frozen=True)
class Answer:
    """What came back; status 0: the connection broke, or nothing came in time."""

    status: int
    body: bytes = b""
    fetched: bool = False
    """The engine asked for the picture at `Given.remote`."""

    @property
    def document(self) -> Any:
        """The body as JSON; None if it is none."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None

    @property
    def events(self) -> list[str]:
        """The data of a stream's events."""
        lines = self.body.decode(errors="replace").splitlines()
        return [line.removeprefix("data:").strip() for line in lines if line.startswith("data:")]

    @property
    def choices(self) -> list[dict[str, Any]]:
        """Of a whole answer."""
        return cast(list[dict[str, Any]], self.document["choices"])

    @property
    def content(self) -> str:
        """The first choice's text."""
        return cast(str, self.choices[0]["message"].get("content") or "")

    @property
    def prompt_tokens(self) -> int:
        """As the engine counts them."""
        return int(self.document["usage"]["prompt_tokens"])


@dataclass(frozen=True)
class Kind:
    """One kind of request."""

    name: str
    build: Callable[[Given], Request]
    status: int | None = 200
    """What every lane owes to it; None: nothing, for the gateway answers it or refuses it."""
    lacks: Callable[[Answer, Promise], str] = lambda _answer, _promise: ""
    """What an answer with status 200 lacks; empty: nothing."""


# --- what an answer must hold -----------------------------------------------------------------------------------------


def _text(answer: Answer, promise: Promise) -> str:
    del promise
    return "" if answer.choices[0]["message"]["role"] == "assistant" else "no message"


def _named(answer: Answer, promise: Promise) -> str:
    """Whatever name a request has, its answer has the model's, in every piece."""
    pieces = [json.loads(event) for event in answer.events if event != "[DONE]"] or [answer.document]
    return "" if {piece["model"] for piece in pieces} == {promise.model} else "another name"


def _stream(answer: Answer, promise: Promise) -> str:
    del promise
    return "" if len(answer.events) > 2 and answer.events[-1] == "[DONE]" else "no whole stream"


def _stream_usage(answer: Answer, promise: Promise) -> str:
    if told := _stream(answer, promise):
        return told
    last = json.loads(answer.events[-2])
    return "" if last["choices"] == [] and last["usage"]["completion_tokens"] else "no usage at the end"


def _sequences(answer: Answer, promise: Promise) -> str:
    found = len(answer.choices)
    return "" if found == promise.sequences else f"{found} of {promise.sequences} answers"


def _called(answer: Answer, promise: Promise) -> str:
    del promise
    calls: list[Any] = answer.choices[0]["message"].get("tool_calls") or []
    # Random weights may never end a call; then its text comes as it was begun.
    begun = calls[0]["function"]["name"] == _TOOL if calls else answer.content.lstrip().startswith("<tool_call>")
    return "" if begun else "no call"


def _object(answer: Answer, promise: Promise) -> str:
    del promise
    # Random weights may write white space until the answer is cut off, but begin nothing else.
    return "" if answer.content.lstrip()[:1] in ("", "{") else "no JSON"


def _logprobs(answer: Answer, promise: Promise) -> str:
    del promise
    found: list[Any] = cast(dict[str, Any], answer.choices[0].get("logprobs") or {}).get("content") or []
    return "" if found and len(found[0]["top_logprobs"]) == 3 else "no logprobs"


def _stopped(answer: Answer, promise: Promise) -> str:
    del promise
    return "" if not any(word in answer.content for word in _STOP) else "a stop word in the answer"


def _response(answer: Answer, promise: Promise) -> str:
    del promise
    kinds = [item["type"] for item in answer.document["output"]]
    return "" if answer.document["object"] == "response" and kinds[-1:] == ["message"] else "no message"


def _response_usage(answer: Answer, promise: Promise) -> str:
    if told := _response(answer, promise):
        return told
    usage = answer.document["usage"]
    return "" if usage["input_tokens"] and usage["output_tokens"] else "no usage"


def _response_picture(answer: Answer, promise: Promise) -> str:
    found = answer.document["usage"]["input_tokens"]
    return "" if found > 0.9 * promise.picture_tokens else "fewer tokens"


def _response_called(answer: Answer, promise: Promise) -> str:
    del promise
    output: list[Any] = answer.document["output"]
    called = any(item["type"] == "function_call" and item["name"] == _TOOL for item in output)
    # As with `_called`.
    return "" if called or "<tool_call>" in json.dumps(output) else "no call"


def _response_stream(answer: Answer, promise: Promise) -> str:
    del promise
    events = [json.loads(event) for event in answer.events if event != "[DONE]"]
    kinds = [event["type"] for event in events]
    whole = kinds[:1] == ["response.created"] and kinds[-1:] in (["response.completed"], ["response.incomplete"])
    if not whole or "response.output_text.delta" not in kinds:
        return "no whole stream"
    # By these the stock SDK puts an answer together.
    text = [event for event in events if event["type"] == "response.output_text.delta"]
    return "" if all({"output_index", "content_index"} <= event.keys() for event in text) else "no indices"


def _pictures(count: Callable[[Promise], int]) -> Callable[[Answer, Promise], str]:
    """A picture costs what the declaration says, within a tenth and the text beside it."""

    def lacks(answer: Answer, promise: Promise) -> str:
        expected, found = count(promise) * promise.picture_tokens, answer.prompt_tokens
        if found < 0.9 * expected:
            return "fewer tokens"
        return "more tokens" if found > 1.1 * expected + TEXT_TOKENS else ""

    return lacks


# --- how a request is built -------------------------------------------------------------------------------------------

_TOOL: Final = "weather"
_STOP: Final = ["a", "e"]
_CITY: Final = {
    "type": "object",
    "properties": {"city": {"type": "string", "enum": ["Bern", "Oslo"]}},
    "required": ["city"],
    "additionalProperties": False,
}
_FUNCTION: Final[Mapping[str, Any]] = {"name": _TOOL, "description": "now", "parameters": _CITY}
_TOOLS: Final = [{"type": "function", "function": _FUNCTION}]
_CALL: Final = {"id": "call_1", "type": "function", "function": {"name": _TOOL, "arguments": '{"city": "Oslo"}'}}
_FUNCTIONS: Final = [{"type": "function", "strict": None, **_FUNCTION}]
_SAID: Final = {"role": "user", "content": [{"type": "input_text", "text": "hello"}]}
_HELLO: Final[Mapping[str, str]] = {"role": "user", "content": "hello"}


def _sent(body: Mapping[str, Any], path: str = CHAT, *, begun: bool = False) -> Request:
    return Request(json.dumps(body).encode(), path, begun=begun)


def _chat(given: Given, *, begun: bool = False, **fields: Any) -> Request:
    """A small chat request; `fields` are added, or replace what it has. None takes a field away."""
    body = {
        "model": given.promise.model,
        "messages": [_HELLO],
        "max_tokens": ANSWER_TOKENS,
        **fields,
    }
    return _sent({name: value for name, value in body.items() if value is not None}, begun=begun)


def _plain(**fields: Any) -> Callable[[Given], Request]:
    """A chat request with fields that no declaration changes."""
    return lambda given: _chat(given, **fields)


def _asked(given: Given, **fields: Any) -> Request:
    """A small request for a response, as `_chat` is one for a completion."""
    body = {"model": given.promise.model, "input": "hello", "max_output_tokens": ANSWER_TOKENS, **fields}
    return _sent({name: value for name, value in body.items() if value is not None}, RESPONSES)


def _response_of(**fields: Any) -> Callable[[Given], Request]:
    return lambda given: _asked(given, **fields)


def _said(tokens: Callable[[Promise], int], **fields: Any) -> Callable[[Given], Request]:
    """A prompt of so many tokens."""
    return lambda given: _chat(
        given, messages=[{"role": "user", "content": given.words(tokens(given.promise))}], **fields
    )


def _shown(*urls: str, **fields: Any) -> Callable[[Given], Request]:
    return lambda given: _looking(given, list(urls), **fields)


def _looking(given: Given, urls: list[str], **fields: Any) -> Request:
    pictures = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
    content = [{"type": "text", "text": "what is this?"}, *pictures]
    return _chat(given, messages=[{"role": "user", "content": content}], **fields)


def picture(width: int, height: int, kind: str = "JPEG") -> str:
    """A picture as a data URL."""
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, kind)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _full(given: Given) -> str:
    """A picture of the full size, so that nothing is scaled."""
    side = int(given.promise.pixels**0.5)
    return picture(side, side)


def _promised(promise: Promise) -> int:
    return min(promise.pictures, promise.held)


_NOT_A_PICTURE: Final = "data:image/png;base64," + base64.b64encode(b"no picture").decode()
_ONE_PIXEL: Final = picture(1, 1, "PNG")

KINDS: Final[tuple[Kind, ...]] = (
    # Text.
    Kind("text", _plain(), lacks=_text),
    Kind("system message", _plain(messages=[{"role": "system", "content": "be brief"}, _HELLO]), lacks=_text),
    Kind("several turns", _plain(messages=[_HELLO, {"role": "assistant", "content": "hi"}, _HELLO]), lacks=_text),
    Kind("text in parts",
         _plain(messages=[{"role": "user", "content": [{"type": "text", "text": "hi"}]}]), lacks=_text),
    Kind("stream", _plain(stream=True), lacks=_stream),
    Kind("stream with usage", _plain(stream=True, stream_options={"include_usage": True}), lacks=_stream_usage),
    Kind("/v1/completions", lambda given: _sent(
        {"model": given.promise.model, "prompt": "hello", "max_tokens": ANSWER_TOKENS}, "/v1/completions")),
    # What is said about the answer.
    Kind("n: as many as promised", lambda given: _chat(given, n=given.promise.sequences), lacks=_sequences),
    Kind("n: one more", lambda given: _chat(given, n=given.promise.sequences + 1), status=400),
    Kind("n: as promised, temperature 0",
         lambda given: _chat(given, n=given.promise.sequences, temperature=0), lacks=_sequences),
    Kind("temperature, top_p, penalties",
         _plain(temperature=0.5, top_p=0.9, presence_penalty=0.5, frequency_penalty=0.5), lacks=_text),
    Kind("seed", _plain(seed=SEED), lacks=_text),
    Kind("stop words", _plain(stop=_STOP), lacks=_stopped),
    Kind("logit_bias", _plain(logit_bias={"20": -100}), lacks=_text),
    Kind("logprobs", _plain(logprobs=True, top_logprobs=3), lacks=_logprobs),
    Kind("max_completion_tokens", _plain(max_tokens=None, max_completion_tokens=ANSWER_TOKENS), lacks=_text),
    Kind("OpenAI's other fields",
         _plain(user="me", metadata={"a": "b"}, store=False, service_tier="auto", parallel_tool_calls=True),
         lacks=_text),
    # Tools and forms.
    Kind("tools: auto", _plain(tools=_TOOLS, tool_choice="auto"), lacks=_text),
    Kind("tools: auto, stream", _plain(tools=_TOOLS, stream=True), lacks=_stream),
    Kind("tools: none", _plain(tools=_TOOLS, tool_choice="none"), lacks=_text),
    Kind("tools: required", _plain(tools=_TOOLS, tool_choice="required", max_tokens=200, seed=SEED), lacks=_called),
    Kind("tools: a named one",
         _plain(tools=_TOOLS, tool_choice={"type": "function", "function": {"name": _TOOL}}, max_tokens=200,
                seed=SEED),
         lacks=_called),
    Kind("tools: a result",
         _plain(tools=_TOOLS, messages=[_HELLO, {"role": "assistant", "content": None, "tool_calls": [_CALL]},
                                        {"role": "tool", "tool_call_id": "call_1", "content": "rain"}]), lacks=_text),
    Kind("JSON mode", _plain(response_format={"type": "json_object"}), lacks=_object),
    Kind("JSON schema",
         _plain(response_format={"type": "json_schema", "json_schema": {"name": "city", "schema": _CITY}}),
         lacks=_object),
    # Pictures.
    Kind("picture: one", lambda given: _looking(given, [_full(given)]), lacks=_pictures(lambda _: 1)),
    Kind("picture: one, stream", lambda given: _looking(given, [_full(given)], stream=True), lacks=_stream),
    Kind("picture: 12 megapixels", _shown(picture(4000, 3000)), lacks=_pictures(lambda _: 1)),
    Kind("picture: one pixel", _shown(_ONE_PIXEL), lacks=_text),
    Kind("picture: PNG", _shown(picture(64, 64, "PNG")), lacks=_text),
    Kind("picture: WebP", _shown(picture(64, 64, "WEBP")), lacks=_text),
    Kind("pictures: as many as promised",
         lambda given: _looking(given, [_full(given)] * _promised(given.promise)), lacks=_pictures(_promised)),
    Kind("pictures: more than the context holds",
         lambda given: _looking(given, [_full(given)] * (given.promise.held + 2)), status=400),
    Kind("picture: broken", _shown(_NOT_A_PICTURE), status=400),
    Kind("picture: not base64", _shown("data:image/png;base64,!"), status=400),
    Kind("picture: at an address", lambda given: _looking(given, [given.remote]), status=400),
    Kind("picture: a file of the server's", _shown("file:///etc/hostname"), status=400),
    # Lengths.
    Kind("context: just under", _said(lambda promise: promise.context - MARGIN), lacks=_text),
    Kind("context: just over", _said(lambda promise: promise.context + MARGIN), status=400),
    Kind("max_tokens: over the rest of the context",
         lambda given: _chat(given, max_tokens=given.promise.context, stream=True, begun=True), status=400),
    # Mistakes.
    Kind("no model", _plain(model=None), lacks=_named),
    Kind("another model's name", _plain(model="gpt-4o"), lacks=_named),
    Kind("another model's name, stream", _plain(model="gpt-4o", stream=True), lacks=_named),
    Kind("another model's name, /v1/completions", lambda _: _sent(
        {"model": "gpt-4o", "prompt": "hello", "max_tokens": ANSWER_TOKENS}, "/v1/completions"), lacks=_named),
    Kind("a number for the model's name", _plain(model=7), status=400),
    Kind("no messages", _plain(messages=None), status=400),
    Kind("empty messages", _plain(messages=[]), status=400),
    Kind("an unknown role", _plain(messages=[{"role": "nobody", "content": "hello"}]), lacks=_text),
    Kind("n: 0", _plain(n=0), status=400),
    Kind("temperature: hot", _plain(temperature="hot"), status=400),
    Kind("broken JSON", lambda _: Request(b'{"model": '), status=400),
    # Responses.
    Kind("responses: text", _response_of(instructions="be brief", temperature=0.5, top_p=0.9), lacks=_response_usage),
    Kind("responses: stream", _response_of(stream=True), lacks=_response_stream),
    Kind("responses: text in parts", _response_of(input=[_SAID]), lacks=_response),
    Kind("responses: several turns", _response_of(input=[
        _SAID,
        {"type": "message", "role": "assistant", "id": "msg_1", "status": "completed",
         "content": [{"type": "output_text", "text": "hi", "annotations": []}]},
        _SAID]), lacks=_response),
    Kind("responses: picture", lambda given: _asked(given, input=[{"role": "user", "content": [
        {"type": "input_text", "text": "what is this?"},
        {"type": "input_image", "detail": "auto", "image_url": _full(given)}]}]), lacks=_response_picture),
    Kind("responses: picture, at an address", lambda given: _asked(given, input=[{"role": "user", "content": [
        {"type": "input_image", "detail": "auto", "image_url": given.remote}]}]), status=400),
    Kind("responses: tools: auto", _response_of(tools=_FUNCTIONS), lacks=_response),
    Kind("responses: tools: required", _response_of(tools=_FUNCTIONS, tool_choice="required", max_output_tokens=40),
         lacks=_response_called),
    Kind("responses: tools: a result", _response_of(tools=_FUNCTIONS, input=[
        _SAID,
        {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": _TOOL, "arguments": '{"city": "Oslo"}'},
        {"type": "function_call_output", "call_id": "call_1", "output": "rain"}]), lacks=_response),
    Kind("responses: JSON schema", _response_of(text={"format": {
        "type": "json_schema", "name": "city", "schema": _CITY, "strict": True}}), lacks=_response),
    Kind("responses: reasoning effort", _response_of(reasoning={"effort": "low"}), lacks=_response),
    Kind("responses: not stored", _response_of(store=False), lacks=_response),
    Kind("responses: stored", _response_of(store=True), lacks=_response),
    Kind("responses: after another", _response_of(previous_response_id="resp_1"), status=400),
    Kind("responses: of a conversation", _response_of(conversation="conv_1"), lacks=_response),
    Kind("responses: in the background", _response_of(background=True), status=400),
    Kind("responses: web search", _response_of(tools=[{"type": "web_search"}]), lacks=_response),
    Kind("responses: no input", _response_of(input=None), status=400),
    Kind("responses: another model's name", _response_of(model="gpt-4o"), lacks=_response),
    Kind("responses: context just over", lambda given: _asked(
        given, input=given.words(given.promise.context + MARGIN)), status=400),
    # Paths that the gateway leads to no lane.
    Kind("/v1/models", lambda _: Request(None, "/v1/models", "GET"), status=None),
    Kind("/v1/embeddings", lambda given: _sent(
        {"model": given.promise.model, "input": "hello"}, "/v1/embeddings"), status=None),
)  # fmt: skip
