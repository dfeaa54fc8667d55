"""The same images as they reach a detector after some handling: compressed, scaled, cropped, blurred, on a screen.

    VARIANTS["jpeg-50"].make(image)    # the bytes of a JPEG of quality 50

The same image gives the same bytes, with the same version of Pillow.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageFilter

from anomreason.deepfake.encoding import SUFFIXES, Form, encoded
from anomreason.deepfake.folder import SetFolder
from anomreason.errors import UnreadableImage
from anomreason.files import write_atomically
from anomreason.images import load_pixels
from anomreason.sources.inputs import Image as NamedImage

FOLDER = "variants"
"""In the folder of a set, and in that of a run."""
_LANCZOS = Image.Resampling.LANCZOS
_CROPPED = 0.1
_SHARP_SIDE = 512
"""Pixels of the longer edge for each pixel of the blur's radius."""
_BAR, _MARGIN = 0.07, 0.04
"""Of the longer edge: height of a window's title bar, and what is seen around the image."""
_DESK, _WINDOW, _BUTTONS = (58, 82, 110), (236, 236, 238), ((255, 95, 87), (254, 188, 46), (40, 200, 64))


@dataclass(frozen=True, slots=True)
class Variant:
    """One way in which images are changed."""

    name: str
    meaning: str
    form: Form = "png"
    quality: int | None = None
    change: Callable[[Image.Image], Image.Image] = lambda image: image

    def make(self, image: Image.Image) -> bytes:
        """The file of the changed image. image: upright."""
        return encoded(self.change(image.convert("RGB")), self.form, self.quality)


def _half(image: Image.Image) -> Image.Image:
    return image.resize((max(1, image.width // 2), max(1, image.height // 2)), _LANCZOS)


def _crop(image: Image.Image) -> Image.Image:
    x, y = round(image.width * _CROPPED / 2), round(image.height * _CROPPED / 2)
    return image.crop((x, y, max(x + 1, image.width - x), max(y + 1, image.height - y)))


def _blur(image: Image.Image) -> Image.Image:
    return image.filter(ImageFilter.GaussianBlur(max(1.0, max(image.size) / _SHARP_SIDE)))


def _screenshot(image: Image.Image) -> Image.Image:
    """In a window with a title bar and three buttons, on a plain desktop."""
    side = max(image.size)
    bar, margin = max(6, round(side * _BAR)), max(4, round(side * _MARGIN))
    screen = Image.new("RGB", (image.width + 2 * margin, image.height + bar + 2 * margin), _DESK)
    screen.paste(_WINDOW, (margin, margin, margin + image.width, margin + bar))
    button = bar // 3
    for n, colour in enumerate(_BUTTONS):
        left, top = margin + button + 2 * n * button, margin + button
        screen.paste(colour, (left, top, left + button, top + button))
    screen.paste(image, (margin, margin + bar))
    return screen


VARIANTS: Mapping[str, Variant] = {
    one.name: one
    for one in (
        *(Variant(f"jpeg-{q}", f"saved as JPEG of quality {q}", "jpeg", q) for q in (95, 75, 50)),
        Variant("webp", "saved as WebP of quality 80", "webp", 80),
        Variant("half", "half as wide and high, as PNG", change=_half),
        Variant("crop", "without 5 % of its width and height at each side, as PNG", change=_crop),
        Variant("blur", "Gaussian blur, a pixel for each 512 of the longer edge, as PNG", change=_blur),
        Variant("screenshot", "in a window on a screen, as PNG", change=_screenshot),
    )
}
"""By name, in the order of the tables."""


def make_images(
    folder: SetFolder,
    variant: Variant,
    names: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[NamedImage]:
    """The changed images, under the names of the originals; those that are there already are not made again.

    An original that cannot be read has no file, on which a detector fails as on the original.
    """
    place = folder.path / FOLDER / variant.name
    paths = [place / name for name in names]
    paths = [path.with_name(path.name + SUFFIXES[variant.form]) for path in paths]

    def work(name: str, path: Path) -> None:
        _make(folder.images / name, path, variant)

    with ThreadPoolExecutor(os.cpu_count()) as threads:
        for done, _ in enumerate(threads.map(work, names, paths), 1):
            progress(done, len(names))
    return [NamedImage(name, path) for name, path in zip(names, paths, strict=True)]


def _make(original: Path, path: Path, variant: Variant) -> None:
    """The file has the time of its original, so that one of an original that has changed is made again."""
    try:
        before = original.stat().st_mtime_ns
        if path.is_file() and path.stat().st_mtime_ns == before:
            return
        data = variant.make(load_pixels(original)[0])
    except (OSError, UnreadableImage):
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, data, sync=False)
    os.utime(path, ns=(before, before))
