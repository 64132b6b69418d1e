"""What every lane takes of one request, whichever engine it has.

Owns: the limits of one request, and the tokens of a picture that follow from them. Does not own: the settings that they
come from (`settings.model`), the arguments that hold an engine to them (`vllm`, `vm.server`).
"""

from dataclasses import dataclass
from typing import Final

from components.models.shape import LEAST_PICTURE_TOKENS, Model

CONTEXT_TOKENS: Final = 16_384
"""The default context of one request."""
IMAGE_MAX_PIXELS: Final = 589_824
"""The default largest picture, 768 x 768: it bounds the memory that vLLM sets aside, and a processor's time."""
PICTURE_PIXELS: Final = 1024 * 768
"""The picture that every table speaks of, pixels, before it is scaled down."""


@dataclass(frozen=True)
class Contract:
    """The model with its limits. The same on every lane: what one lane takes, all take."""

    model: Model
    context_tokens: int
    """Of one request, its answer included."""
    image_max_pixels: int
    """A larger picture is scaled down to it."""
    images: int
    """Pictures of one request."""
    choices: int | None
    """The largest `n` that a caller may ask for; None: as the engines have it."""

    @property
    def most_picture_tokens(self) -> int:
        """Tokens of the largest picture; 0 for a model without vision."""
        return self._tokens(self.image_max_pixels)

    @property
    def picture_tokens(self) -> int:
        """Tokens of the picture that every table speaks of; 0 for a model without vision."""
        return self._tokens(min(PICTURE_PIXELS, self.image_max_pixels))

    @property
    def pixels(self) -> tuple[int, int]:
        """Pixels of the smallest and of the largest picture, as whole tokens: the engines then agree on every one."""
        area = self.model.vision.side**2 if self.model.vision else 0
        return LEAST_PICTURE_TOKENS * area, self.most_picture_tokens * area

    def _tokens(self, pixels: int) -> int:
        return pixels // self.model.vision.side**2 if self.model.vision else 0


def most_images(context_tokens: int) -> int:
    """Pictures that fit a context at most, each as small as can be."""
    return context_tokens // LEAST_PICTURE_TOKENS
