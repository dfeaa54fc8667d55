"""What the store keeps of every image file, whichever command brings it.

image_facts(inspect_image(Path("photo.jpg")))["phash"]
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, TypedDict

from anomreason.dataset.tables import Json

if TYPE_CHECKING:
    from PIL import Image

    from anomreason.images import InspectedImage


class ImageFacts(TypedDict):
    """Columns of `ImageRow` that follow from the file alone."""

    sha256: str
    width: int
    height: int
    format: str
    bytes: int
    phash: int
    facts: Json


def image_facts(image: InspectedImage) -> ImageFacts:
    """The columns of an inspected file."""
    return ImageFacts(
        sha256=image.sha256,
        width=image.width,
        height=image.height,
        format=image.format,
        bytes=image.bytes,
        phash=perceptual_hash(image.grey),
        facts={name: value for name, value in asdict(image.facts).items() if value is not None},
    )


def perceptual_hash(grey: Image.Image) -> int:
    """ImageHash's `phash` of 64 bits, as the signed number that databases hold."""
    import imagehash

    return int.from_bytes(bytes.fromhex(str(imagehash.phash(grey))), "big", signed=True)
