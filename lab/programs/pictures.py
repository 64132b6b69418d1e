"""The labelled stand-in for a vision model: decodes a picture and says what it measured, never what it shows.

Owns: finding pictures in a chat request, decoding them, and the OpenAI-shaped answer. Does not own: HTTP.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import time
import uuid
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

LABEL = "[lab stand-in: no model looked at this picture]"


class PictureError(Exception):
    """A picture that cannot be answered for; the caller's fault."""

    def body(self) -> dict[str, Any]:
        """Return the OpenAI error body."""
        return {"error": {"message": str(self), "type": "invalid_request_error", "param": "messages", "code": None}}


@dataclass(frozen=True)
class Question:
    """A chat request with pictures in it."""

    pictures: list[bytes]
    words: int
    """Words of text in the prompt, counted as its tokens."""
    stream: bool
    include_usage: bool

    def completion(self, model: str, text: str) -> dict[str, Any]:
        """Return the whole answer."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": "stop"}
        return _head(model, "chat.completion") | {"choices": [choice], "usage": self._usage(text)}

    def chunks(self, model: str, text: str) -> Iterator[dict[str, Any]]:
        """Yield the answer as a stream's chunks, a word each."""
        head = _head(model, "chat.completion.chunk")
        deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in _pieces(text))]
        for delta in deltas:
            yield head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]}
        yield head | {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}
        if self.include_usage:
            yield head | {"choices": [], "usage": self._usage(text)}

    def _usage(self, text: str) -> dict[str, int]:
        answered = len(_pieces(text))
        return {"prompt_tokens": self.words, "completion_tokens": answered, "total_tokens": self.words + answered}


def picture_question(body: bytes) -> Question | None:
    """Return the pictures asked about, or None if the request has none (or is malformed: the engine's to refuse)."""
    try:
        request = cast("dict[str, Any]", json.loads(body))
        messages = cast("list[dict[str, Any]]", request["messages"])
        contents: list[Any] = [message.get("content") for message in messages]
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    parts = [part for content in contents if isinstance(content, list) for part in cast("list[Any]", content)]
    parts = [cast("dict[str, Any]", part) for part in parts if isinstance(part, dict)]
    urls = [part.get("image_url") for part in parts if part.get("type") == "image_url"]
    if not urls:
        return None
    texts = [content for content in contents if isinstance(content, str)]
    texts += [str(part.get("text", "")) for part in parts]
    options = request.get("stream_options")
    return Question(
        pictures=[_content(url) for url in urls],
        words=sum(len(text.split()) for text in texts),
        stream=bool(request.get("stream")),
        include_usage=isinstance(options, dict) and bool(cast("dict[str, Any]", options).get("include_usage")),
    )


def _content(value: object) -> bytes:
    """Return the bytes of one data: URL."""
    url = cast("dict[str, Any]", value).get("url") if isinstance(value, dict) else value
    if not isinstance(url, str) or not url.startswith("data:"):
        # Fetching an address a caller chose would let callers reach into the network behind the gateway.
        raise PictureError("image_url must be a data: URL; this server fetches nothing")
    head, comma, data = url.partition(",")
    if not comma or not head.endswith(";base64"):
        raise PictureError("image_url must be data:<media type>;base64,<data>")
    try:
        return base64.b64decode(data, validate=True)
    except binascii.Error as error:
        raise PictureError(f"image_url is not valid base64: {error}") from error


def answer(question: Question) -> str:
    """Decode every picture and say what was measured."""
    return " ".join([LABEL, *(_measure(content) for content in question.pictures)])


def _measure(content: bytes) -> str:
    from PIL import Image, ImageStat  # here: most servers in the lab never see a picture

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                picture.load()
                mean = [round(value) for value in ImageStat.Stat(picture.convert("RGB")).mean]
                colour = "#{:02x}{:02x}{:02x}".format(*mean)
                size = f"{picture.width}x{picture.height} px"
                return f"It is a {picture.format} of {size}, {picture.mode}, mean colour {colour}."
    except Exception as error:  # Pillow's decoders raise many types for broken data, struct.error and SyntaxError too
        raise PictureError(f"the picture cannot be decoded: {error}") from error


def _pieces(text: str) -> list[str]:
    words = text.split(" ")
    return [words[0], *(f" {word}" for word in words[1:])]


def _head(model: str, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-lab-{uuid.uuid4().hex}", "object": kind, "created": int(time.time()), "model": model}
