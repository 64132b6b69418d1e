"""The pictures of a chat request, for the scripted models.

Owns: finding and decoding them as data: URLs. Does not own: their sizes and tokens (`prompt`), HTTP.
"""

import base64
import binascii
import json
from typing import Any, cast


class PictureError(Exception):
    """A picture that cannot be answered for; the caller's fault."""

    def body(self) -> dict[str, Any]:
        """Return the OpenAI error body."""
        return {"error": {"message": str(self), "type": "invalid_request_error", "param": "messages", "code": None}}


def pictures(body: bytes) -> list[bytes]:
    """Every picture of a request, decoded; none if the request is malformed, which is the engine's to refuse."""
    try:
        messages = cast("list[dict[str, Any]]", json.loads(body)["messages"])
        contents: list[Any] = [message.get("content") for message in messages]
    except (ValueError, KeyError, TypeError, AttributeError):
        return []
    parts = [part for content in contents if isinstance(content, list) for part in cast("list[Any]", content)]
    parts = [cast("dict[str, Any]", part) for part in parts if isinstance(part, dict)]
    return [_content(part.get("image_url")) for part in parts if part.get("type") == "image_url"]


def _content(value: object) -> bytes:
    """The bytes of one data: URL."""
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
