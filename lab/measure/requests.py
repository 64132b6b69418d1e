"""What callers ask for: a short greeting, a text of 300 tokens, or that text with a picture of 1024 x 768.

Owns: the requests' bodies. Does not own: how often they are sent (`load`), how many tokens an engine sees in them
(`programs.prompt`).
"""

import base64
import io
import json
import random
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from components.machines.requests import BYTES_PER_TOKEN, TEXT_TOKENS

PICTURE: Final[tuple[int, int]] = (1024, 768)
QUALITY: Final = 80
"""Of the JPEG, whose body then has some 0.4 MiB, as that of a camera's picture of this size."""


@dataclass(frozen=True)
class Request:
    """One kind of request. `streamed`: None means every other one."""

    text: str = "Hello!"
    picture: bool = False
    answer_tokens: int | None = None
    streamed: bool | None = None

    def body(self, model: str, *, streamed: bool) -> bytes:
        """As a client sends it."""
        content: Any = self.text
        if self.picture:
            url = {"url": f"data:image/jpeg;base64,{jpeg()}"}
            content = [{"type": "text", "text": self.text}, {"type": "image_url", "image_url": url}]
        body: dict[str, Any] = {"model": model, "messages": [{"role": "user", "content": content}], "stream": streamed}
        if self.answer_tokens:
            body["max_tokens"] = self.answer_tokens
        return json.dumps(body).encode()


def words(tokens: int) -> str:
    """Text that fills a body of so many tokens, the JSON around it included."""
    around = len(Request("").body("Qwen/Qwen2.5-VL-7B-Instruct", streamed=True))
    return "word " * ((tokens * BYTES_PER_TOKEN - around) // 5)


@cache
def jpeg() -> str:
    """Coloured spots, so that it is as hard to press as a photograph; base64."""
    from PIL import Image  # here: most who load this room send no picture

    source = random.Random(0)
    spots = Image.frombytes("RGB", (256, 192), source.randbytes(256 * 192 * 3)).resize(PICTURE)
    file = io.BytesIO()
    spots.save(file, "JPEG", quality=QUALITY)
    return base64.b64encode(file.getvalue()).decode()


GREETING: Final = Request()
TEXT: Final = Request(words(TEXT_TOKENS), streamed=True)
PICTURE_AND_TEXT: Final = Request(words(TEXT_TOKENS), picture=True, streamed=True)
