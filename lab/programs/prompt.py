"""How much a request asks of an engine: its text and its pictures, in tokens.

Owns: counting. Does not own: the time that they take (`engine`), finding pictures (`pictures`).
"""

import io
import math
import warnings
from collections.abc import Mapping
from typing import Any, Final

from components.machines.requests import ANSWER_TOKENS, BYTES_PER_TOKEN
from components.models.shape import LEAST_PICTURE_TOKENS
from lab.programs.engine import Work
from lab.programs.pictures import PictureError, pictures

PATCH: Final = 28
"""Pixels of a picture token's side: Qwen2.5-VL's patches of 14, merged two by two. Qwen3-VL's 32 make fewer tokens."""


def most_picture_tokens(image_max_tokens: int | None, mm_processor_kwargs: Mapping[str, Any]) -> int | None:
    """The declared cap: llama.cpp's in tokens, vLLM's `size` as areas in pixels, of which the smallest is known."""
    size: Mapping[str, int] = mm_processor_kwargs.get("size") or {}
    return size["longest_edge"] * LEAST_PICTURE_TOKENS // size["shortest_edge"] if size else image_max_tokens


def work(raw: bytes, body: dict[str, Any], most_picture_tokens: int | None) -> Work:
    """The request's work; raises `PictureError` for a picture that no engine could read."""
    seen = pictures(raw) if b"image_url" in raw else []
    text = len(raw) - sum(4 * math.ceil(len(picture) / 3) for picture in seen)
    limit = body.get("max_completion_tokens") or body.get("max_tokens") or ANSWER_TOKENS
    return Work(
        text=max(1, round(text / BYTES_PER_TOKEN)),
        pictures=tuple(picture_tokens(*_size(picture), most_picture_tokens) for picture in seen),
        answer=max(1, min(int(limit), ANSWER_TOKENS)),
    )


def picture_tokens(width: int, height: int, most: int | None = None) -> int:
    """Tokens of a picture in pixels, scaled down to `most` tokens as Qwen2.5-VL's `smart_resize` does it."""
    columns, rows = (max(1, round(side / PATCH)) for side in (width, height))
    if most is not None and columns * rows > most:
        shrink = math.sqrt(width * height / (most * PATCH * PATCH))
        columns, rows = (max(1, math.floor(side / shrink / PATCH)) for side in (width, height))
    return columns * rows


def _size(content: bytes) -> tuple[int, int]:
    from PIL import Image, UnidentifiedImageError  # here: most servers in the lab never see a picture

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content)) as picture:
                return picture.size
    except (UnidentifiedImageError, OSError, Image.DecompressionBombWarning, Image.DecompressionBombError) as error:
        raise PictureError(f"the picture cannot be decoded: {error}") from error
