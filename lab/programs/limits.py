"""What an engine refuses at its declared limits, in its own words: a stand-in must not take what the real one refuses.

Owns: each refusal's status, message and form. Does not own: tokens of a text or a picture (`prompt`), HTTP
(`fake_http`). All of it was copied from answers of vLLM 0.29.0 itself and of llama.cpp's own server (xllamacpp
2026.10.11549, with a projector), 2026-11-28.
"""

import argparse
import base64
import binascii
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, Final, NoReturn, cast
from urllib.parse import urlsplit

Body = dict[str, Any]

_LLAMA_KINDS: Final = {
    400: "invalid_request_error", 401: "authentication_error", 404: "not_found_error", 501: "not_supported_error",
    503: "unavailable_error",
}  # fmt: skip
_VLLM_KINDS: Final = {
    400: "BadRequestError", 404: "NotFoundError", 500: "InternalServerError", 501: "NotImplementedError",
}  # fmt: skip
_INT_MAX: Final = 2**31 - 1


class Refused(Exception):
    """An engine's refusal; `more` stands in the error's object, too."""

    def __init__(self, status: int, message: str, **more: object) -> None:
        super().__init__(message)
        self.status, self.message, self.more = status, message, more


def error_of(llama_cpp: bool, refused: Refused) -> Body:
    """The engine's error body."""
    status, message = refused.status, refused.message
    if llama_cpp:
        kind = _LLAMA_KINDS.get(status, "invalid_request_error" if status < 500 else "server_error")
        return {"error": {"code": status, "message": message, "type": kind} | refused.more}
    kind = _VLLM_KINDS.get(status) or HTTPStatus(status).phrase
    return {"error": {"message": message, "type": kind, "param": None, "code": status} | refused.more}


@dataclass(frozen=True)
class Limits:
    """The declared limits of one engine; None: none is declared."""

    llama_cpp: bool
    names: tuple[str, ...]
    slots: int
    context: int | None
    """Tokens of one request, prompt and answer."""
    pictures: bool
    """llama.cpp: a projector is declared."""
    media: Mapping[str, int] = field(default_factory=dict[str, int])
    domains: tuple[str, ...] = ()
    auto_tools: bool = False
    tool_parser: bool = False
    most_answers: int = 16384
    any_name: bool = False

    @staticmethod
    def of(args: argparse.Namespace) -> "Limits":
        """As the stand-in's command line and environment declare them."""
        llama_cpp = args.engine == "llama.cpp"
        return Limits(
            llama_cpp=llama_cpp,
            names=(args.alias,),
            slots=args.parallel,
            # llama.cpp divides its context between the slots.
            context=args.ctx_size // args.parallel if llama_cpp and args.ctx_size else args.ctx_size,
            pictures=bool(args.mmproj),
            media=args.limit_mm_per_prompt,
            domains=tuple(args.allowed_media_domains or ()),
            auto_tools=args.enable_auto_tool_choice,
            tool_parser=bool(args.tool_call_parser),
            most_answers=int(os.environ.get("VLLM_MAX_N_SEQUENCES", "16384")),
            any_name=os.environ.get("VLLM_SKIP_MODEL_NAME_VALIDATION", "0").strip().lower() in ("1", "true"),
        )

    def check(self, body: Body) -> None:
        """Raises `Refused` for what the engine refuses without counting tokens."""
        (_llama_cpp if self.llama_cpp else _vllm)(self, body)

    def check_tokens(self, prompt: int, body: Body) -> None:
        """Raises `Refused` for a prompt of so many tokens that leaves no room in the context."""
        if self.context is None:
            return
        if self.llama_cpp:
            # An answer that gets too long for its slot is cut, not refused.
            if prompt >= self.context:
                told = f"request ({prompt} tokens) exceeds the available context size ({self.context} tokens)"
                more = {"type": "exceed_context_size_error", "n_prompt_tokens": prompt, "n_ctx": self.context}
                raise Refused(400, f"{told}, try increasing it", **more)
            return
        answer = _most_tokens(body) or 0
        if prompt + answer > self.context:
            told = (
                f"This model's maximum context length is {self.context} tokens. However, you requested {answer} output "
                + f"tokens and your prompt contains {prompt} input tokens, for a total of {prompt + answer} tokens. "
                + "Please reduce the length of the input prompt or the number of requested output tokens."
            )
            _vllm_refuses(told, "input_tokens", prompt)


def undecodable(llama_cpp: bool) -> Refused:
    """For a picture whose bytes are none."""
    if llama_cpp:
        return Refused(400, "Failed to load image or audio file")
    return Refused(400, "Failed to load image: cannot identify image file <_io.BytesIO object>")


# --- both ------------------------------------------------------------------------------------------------------------


def _most_tokens(body: Body) -> int | None:
    return cast("int | None", body.get("max_completion_tokens") or body.get("max_tokens"))


def _integer(body: Body, name: str) -> int | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        raise Refused(400, f"{name} must be an integer, got {json.dumps(value)}")
    return value


def _media(body: Body) -> list[tuple[str, str]]:
    """Kind and URL of every picture and video, in order."""
    found: list[tuple[str, str]] = []
    messages = body.get("messages")
    for message in cast(Sequence[Any], messages) if isinstance(messages, list) else ():
        content = cast(Body, message).get("content") if isinstance(message, dict) else None
        for part in cast(Sequence[Any], content) if isinstance(content, list) else ():
            told = cast(Body, part) if isinstance(part, dict) else {}
            kind = str(told.get("type", ""))
            if kind in ("image_url", "video_url"):
                value = told.get(kind)
                url = cast(Body, value).get("url") if isinstance(value, dict) else value
                found.append((kind.removesuffix("_url"), str(url)))
    return found


def _is_base64(url: str) -> bool:
    try:
        base64.b64decode(url.partition(",")[2], validate=True)
    except binascii.Error:
        return False
    return True


# --- vLLM ------------------------------------------------------------------------------------------------------------


def _vllm_refuses(message: str, parameter: str, value: object = None) -> NoReturn:
    told = f"parameter={parameter}" + ("" if value is None else f", value={value}")
    raise Refused(400, f"{message} ({told})", param=parameter)


def _vllm(limits: Limits, body: Body) -> None:
    name = body.get("model")
    if name is not None and not isinstance(name, str):
        told = {"type": "string_type", "loc": ("body", "model"), "msg": "Input should be a valid string", "input": name}
        raise Refused(400, f"1 validation error:\n  {told}", type="Bad Request", param="body.model")
    if name is not None and name not in limits.names and not limits.any_name:
        raise Refused(404, f"The model `{name}` does not exist.", param="model")
    if body.get("messages") == []:
        raise Refused(400, "Cannot apply chat template to an empty conversation. Provide at least one message.")
    _vllm_tools(limits, body)
    count = _integer(body, "n")
    if count is not None and count < 1:
        raise Refused(400, f"n must be at least 1, got {count}.")
    if count is not None and count > limits.most_answers:
        more = "To increase this limit, set the VLLM_MAX_N_SEQUENCES environment variable."
        raise Refused(400, f"n must be at most {limits.most_answers}, got {count}. {more}")
    for parameter in ("max_tokens", "max_completion_tokens"):
        most = _integer(body, parameter)
        if most is not None and most < 1:
            _vllm_refuses(f"max_tokens must be at least 1, got {most}.", "max_tokens", most)
        if most is not None and limits.context is not None and most > limits.context:
            told = f"{parameter}={most} cannot be greater than max_model_len=max_total_tokens={limits.context}."
            _vllm_refuses(f"{told} Please request fewer output tokens.", parameter, most)
    _vllm_media(limits, body)


def _vllm_tools(limits: Limits, body: Body) -> None:
    choice = body.get("tool_choice", "auto" if body.get("tools") else None)
    if not body.get("tools") or choice in (None, "none"):
        return
    if choice == "auto":
        if not (limits.auto_tools and limits.tool_parser):
            raise Refused(400, '"auto" tool choice requires --enable-auto-tool-choice and --tool-call-parser to be set')
    elif not limits.tool_parser:
        named = f'function "{choice["function"]["name"]}"' if isinstance(choice, dict) else json.dumps(choice)
        raise Refused(400, f"tool_choice={named} requires --tool-call-parser to be set")


def _vllm_media(limits: Limits, body: Body) -> None:
    media = _media(body)
    for kind, most in limits.media.items():
        if sum(one == kind for one, _ in media) > most:
            _vllm_refuses(f"At most {most} {kind}(s) may be provided in one prompt.", kind)
    for _, url in media:
        scheme = urlsplit(url).scheme.lower()
        if scheme == "data":
            if not url.partition(",")[0].endswith(";base64"):
                raise Refused(501, "Only base64 data URLs are supported for now.")
            if not _is_base64(url):
                raise Refused(400, "Non-base64 digit found")
        elif scheme in ("http", "https"):
            # Nothing fetches here; without declared domains vLLM would try.
            told = f"The URL must be from one of the allowed domains: {list(limits.domains)}."
            raise Refused(400, f"{told} Input URL domain: {urlsplit(url).hostname}")
        elif scheme == "file":
            raise Refused(500, "Cannot load local files without `--allowed-local-media-path`.")
        else:
            raise Refused(400, "The URL must be either a HTTP, data or file URL.")


# --- llama.cpp -------------------------------------------------------------------------------------------------------


def _llama_cpp(limits: Limits, body: Body) -> None:
    count = _integer(body, "n")
    if count is not None and not 1 <= count <= limits.slots:
        raise Refused(400, f"Field 'n': Value must be between 1 <= value <= {limits.slots}, but got {count}")
    for name in ("max_tokens", "max_completion_tokens"):
        most = _integer(body, name)
        if most is not None and not -1 <= most <= _INT_MAX:
            raise Refused(400, f"Field '{name}': Value must be between -1 <= value <= {_INT_MAX}, but got {most}")
    for kind, url in _media(body):
        if not limits.pictures:
            more = "hint: if this is unexpected, you may need to provide the mmproj"
            raise Refused(500, f"{kind} input is not supported - {more}")
        if url.startswith("http"):
            # It fetches what a caller names. Here nobody fetches: as where the network is closed.
            raise Refused(500, "error: cannot make GET request")
        if url.startswith("file://"):
            raise Refused(400, "file:// URLs are not allowed unless --media-path is specified")
        if url.startswith("data:") and not url.partition(",")[0].endswith("base64"):
            raise Refused(400, "uri must be base64 encoded")
        if kind != "image" or not url.startswith("data:") or not _is_base64(url):
            raise undecodable(True)
