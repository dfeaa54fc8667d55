"""Saves images anew in one form: to make the files of two classes alike, and to see what a detector makes of it.

>>> Reencoding.parse("jpeg:90", square=512).suffix
'.jpg'
"""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from typing import TYPE_CHECKING, Literal, Self

from anomreason.errors import UsageError

if TYPE_CHECKING:
    from PIL import Image

Form = Literal["jpeg", "webp", "png"]
SUFFIXES: dict[str, str] = {"jpeg": ".jpg", "webp": ".webp", "png": ".png"}
LEAST_SIDE = 64


def encoded(image: Image.Image, form: Form, quality: int | None = None) -> bytes:
    """The file of an image, in colours and without any metadata. quality: 1..100; None for PNG."""
    with BytesIO() as file:
        options = {} if quality is None else {"quality": quality}
        image.convert("RGB").save(file, form.upper(), **options)
        return file.getvalue()


@dataclass(frozen=True, slots=True)
class Reencoding:
    """How every file of a set is saved."""

    form: Form
    quality: int | None
    """1..100; None for PNG, which is lossless."""
    square: int | None = None
    """Side in pixels to which the central square of each image is scaled; None: the size stays."""

    @classmethod
    def parse(cls, text: str, square: int | None = None) -> Self:
        """From `jpeg:90`, `webp:80` or `png`. Raises UsageError."""
        name, mark, number = text.partition(":")
        if square is not None and square < LEAST_SIDE:
            raise UsageError(f"a square must be at least {LEAST_SIDE} pixels wide, not {square}")
        if name == "png" and not mark:
            return cls("png", None, square)
        if name in ("jpeg", "webp") and number.isdecimal() and 1 <= int(number) <= 100:
            return cls(name, int(number), square)  # type: ignore[arg-type]
        raise UsageError(f"{text!r} is no form of a file; write jpeg:90, webp:90 (quality 1..100) or png")

    @property
    def suffix(self) -> str:
        return SUFFIXES[self.form]

    @property
    def text(self) -> str:
        """As `parse` reads it."""
        return self.form if self.quality is None else f"{self.form}:{self.quality}"

    def apply(self, image: Image.Image) -> bytes:
        """The file of an image."""
        from PIL import Image as Pillow
        from PIL import ImageOps

        if self.square is not None:
            image = ImageOps.fit(image.convert("RGB"), (self.square, self.square), Pillow.Resampling.LANCZOS)
        return encoded(image, self.form, self.quality)
