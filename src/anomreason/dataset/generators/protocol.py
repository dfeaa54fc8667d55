"""What an image generator is: requests in, images or reasons out.

for results in generator.generate([[ImageRequest("a cup", seed=0)]]):
    print(results[0].status, results[0].message)
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from pydantic import JsonValue

from anomreason.images import Encoded, png_of

if TYPE_CHECKING:
    from PIL.Image import Image

GenerationStatus = Literal["done", "refused", "blank", "failed"]
"""`refused`: by a content filter; `blank`: an image of one colour; `failed`: no image, worth another try."""
BLANK_SPAN = 2
"""Largest difference within each channel of an image that counts as one colour; JPEG adds so much."""


@dataclass(frozen=True, slots=True)
class ImageRequest:
    """One image to be made."""

    prompt: str
    seed: int


@dataclass(frozen=True, slots=True)
class Generated:
    """What became of one request."""

    request: ImageRequest
    """The very object that was given."""
    status: GenerationStatus
    message: str | None = None
    """Why there is no image; None when there is one."""
    image: Encoded | None = None
    """A PNG without metadata; None unless `done`."""
    seconds: float | None = None
    """Time that the image took; None when it was never begun."""
    charged: bool = False
    """Whether the server has charged for it, or may have."""
    stop: bool = False
    """Whether every further request would fail alike, e.g. for a key that is not accepted."""
    notes: Mapping[str, JsonValue] = field(default_factory=dict)
    """What the generator adds, e.g. the prompt as a server rewrote it."""


class ImageGenerator(Protocol):
    """Makes images. Opened by `opening.open_generator`, closed by whoever opened it."""

    batch: int
    """Requests in each batch that it is given."""
    made_by: Mapping[str, JsonValue]
    """Programs, device and precision that its images depend on beside the recipe."""

    def generate(self, batches: Iterable[Sequence[ImageRequest]]) -> Generator[Sequence[Generated], None, None]:
        """The results of each batch, in any order of the batches; batches are taken only as they can be begun.

        Whatever goes wrong with one request is a result. Raises UsageError for what no request can get over.
        """
        ...

    def close(self) -> None:
        """Give back memory and connections."""
        ...


def generated(request: ImageRequest, pixels: Image) -> Generated:
    """The result of a request that brought an image: `done`, or `blank` where that is all one colour."""
    ends: Any = pixels.getextrema()
    channels = ends if isinstance(ends[0], tuple) else (ends,)
    if all(high - low <= BLANK_SPAN for low, high in channels):
        colour = ", ".join(f"{low:g}" for low, _ in channels)
        return Generated(request, "blank", f"the whole image is of one colour ({colour})")
    return Generated(request, "done", image=png_of(pixels))
