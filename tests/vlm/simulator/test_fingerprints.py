"""A picture is known by its pixels: after resizing, JPEG and other formats, and never mistaken for a near twin."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from anomreason.errors import UnreadableImage, UsageError
from anomreason.images import load_image
from anomreason.vlm.simulator.fingerprints import Fingerprints, fingerprint


def drawing(seed: int, width: int = 320, height: int = 240) -> Image.Image:
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", (width, height), tuple(rng.integers(0, 256, 3).tolist()))
    draw = ImageDraw.Draw(image)
    for _ in range(8):
        x, y = rng.integers(0, width), rng.integers(0, height)
        w, h = rng.integers(10, width // 2, 2)
        draw.ellipse([int(x), int(y), int(x + w), int(y + h)], fill=tuple(rng.integers(0, 256, 3).tolist()))
    return image


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def known(images: list[Image.Image]) -> Fingerprints:
    cells = np.stack([fingerprint(encoded(image, "PNG")) for image in images])
    return Fingerprints(cells, [f"image {i}" for i in range(len(images))])


CHANGES = {
    "png": lambda image: encoded(image, "PNG"),
    "jpeg": lambda image: encoded(image, "JPEG", quality=75),
    "webp": lambda image: encoded(image, "WEBP", quality=75),
    "half": lambda image: encoded(image.resize((image.width // 2, image.height // 2)), "PNG"),
    "odd size": lambda image: encoded(image.resize((257, 191), Image.Resampling.BICUBIC), "PNG"),
    "larger jpeg": lambda image: encoded(image.resize((777, 583)), "JPEG", quality=75),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_encoding_or_size_is_still_the_same_picture(change: str) -> None:
    images = [drawing(seed) for seed in range(12)]
    index = known(images)
    assert [index.find(CHANGES[change](image)) for image in images] == list(range(12))


def test_twins_that_differ_in_one_small_object_are_told_apart_also_as_jpeg() -> None:
    twins = [drawing(3) for _ in range(5)]
    for i, twin in enumerate(twins[1:]):
        ImageDraw.Draw(twin).rectangle([60 * i, 200, 60 * i + 7, 207], fill="white", outline="black")
    index = known(twins)
    assert [index.find(encoded(twin, "JPEG", quality=75)) for twin in twins] == list(range(5))
    assert [index.find(encoded(twin.resize((250, 188)), "PNG")) for twin in twins] == list(range(5))


def test_two_pictures_that_cannot_be_told_apart_are_an_error_that_names_both() -> None:
    image = drawing(1)
    again = Image.open(BytesIO(encoded(image, "PNG")))
    with pytest.raises(UsageError, match=r"'image 0' and 'image 2'"):
        known([image, drawing(2), again])


def test_an_unknown_picture_is_none_of_them() -> None:
    assert known([drawing(seed) for seed in range(8)]).find(encoded(drawing(99), "PNG")) is None


def test_the_picture_counts_as_it_is_seen() -> None:
    """Turned by its EXIF orientation, transparency on white."""
    image = drawing(4)
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(image.rotate(90, expand=True), "JPEG", quality=95, exif=exif)
    layer = drawing(5).convert("RGBA")
    layer.putalpha(Image.linear_gradient("L").resize(layer.size))
    white = Image.new("RGBA", layer.size, "white")
    white.alpha_composite(layer)
    index = known([image, white.convert("RGB")])
    assert index.find(turned) == 0
    assert index.find(encoded(layer, "PNG")) == 1


@pytest.mark.parametrize("kind", ["CMYK TIFF", "16-bit PNG", "palette GIF", "AVIF", "CMYK JPEG"])
def test_what_is_sent_of_an_unusual_file_is_the_file(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "picture"
    image = drawing(6)
    grey = np.asarray(image.convert("L")).astype(np.uint16) * 256
    path.write_bytes(
        {
            "CMYK TIFF": lambda: encoded(image.convert("CMYK"), "TIFF"),
            "16-bit PNG": lambda: encoded(Image.fromarray(grey), "PNG"),
            "palette GIF": lambda: encoded(image.convert("P"), "GIF"),
            "AVIF": lambda: encoded(image, "AVIF"),
            "CMYK JPEG": lambda: encoded(image.convert("CMYK"), "JPEG", quality=90),
        }[kind]()
    )
    (tmp_path / "other.png").write_bytes(encoded(drawing(7), "PNG"))
    index = Fingerprints.of_files([tmp_path / "other.png", path])
    assert index.find(load_image(path).encoded.data) == 1


@pytest.mark.parametrize("data", [b"", b"text", encoded(drawing(0), "PNG")[:400]])
def test_what_is_no_picture_is_said_to_be_none(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage):
        fingerprint(data)
    (tmp_path / "a.png").write_bytes(data)
    with pytest.raises(UsageError, match=r"a\.png"):
        Fingerprints.of_files([tmp_path / "a.png"])


def test_many_pictures_are_all_compared() -> None:
    cells = np.random.default_rng(0).integers(0, 256, (2500, 32 * 32 * 3), dtype=np.uint8)
    index = Fingerprints(cells, [str(i) for i in range(2500)])
    image = Image.fromarray(cells[2400].reshape(32, 32, 3))
    assert index.find(encoded(image, "PNG")) == 2400
    assert index.find(encoded(image, "JPEG", quality=95, subsampling=0)) == 2400
    cells[2300] = cells[40]
    with pytest.raises(UsageError, match="'40' and '2300'"):
        Fingerprints(cells, [str(i) for i in range(2500)])


def test_a_changed_copy_of_a_picture_with_a_near_twin_is_not_guessed() -> None:
    one = drawing(3)
    cells = fingerprint(encoded(one, "PNG"))
    nearly = np.clip(cells.astype(np.int16) + 1, 0, 255).astype(np.uint8)
    known = Fingerprints(np.stack([cells, nearly]), ["a", "b"])
    assert known.find(encoded(one, "PNG")) == 0
    assert known.find(encoded(one, "JPEG", quality=60)) is None
    assert Fingerprints(cells[None], ["a"]).find(encoded(one, "JPEG", quality=60)) == 0
