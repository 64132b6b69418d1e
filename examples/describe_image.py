"""`python examples/describe_image.py photo.jpg ["question"]`: a question about a picture, resized before it is sent.

A camera's 12 megapixels take ten times the upload and no better answer: the model sees about 0.6 megapixels.
"""

import base64
import io
import sys

from endpoint import ask
from openai.types.chat import ChatCompletionContentPartParam
from PIL import Image

LONGEST_SIDE_PX = 1024


def data_url(path: str) -> str:
    """The picture as a JPEG of at most 1024 pixels a side, in a data: URL."""
    with Image.open(path) as picture:
        small = picture.convert("RGB")
        small.thumbnail((LONGEST_SIDE_PX, LONGEST_SIDE_PX))
        jpeg = io.BytesIO()
        small.save(jpeg, "JPEG", quality=85)
    return "data:image/jpeg;base64," + base64.b64encode(jpeg.getvalue()).decode()


def main() -> None:
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    question = " ".join(sys.argv[2:]) or "Describe this picture in two sentences."
    picture = data_url(sys.argv[1])
    content: list[ChatCompletionContentPartParam] = [
        {"type": "text", "text": question},
        {"type": "image_url", "image_url": {"url": picture}},
    ]
    ask([{"role": "user", "content": content}], max_tokens=300)


if __name__ == "__main__":
    main()
