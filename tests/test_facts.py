"""What files tell of their making: JPEG quality on IJG's scale, subsampling, kinds of metadata."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from PIL import Image, PngImagePlugin

from anomreason.facts import EncodingFacts, jpeg_quality
from anomreason.images import inspect_image

PROFILE = b"\0" * 128
EXIF = b"Exif\0\0MM\0*\0\0\0\x08\0\0\0\0\0\0"


def facts(format: str, mode: str = "RGB", **settings: object) -> EncodingFacts:
    out = BytesIO()
    Image.linear_gradient("L").convert(mode).save(out, format, **settings)
    return inspect_image(Path("a"), out.getvalue()).facts


@pytest.mark.parametrize("quality", [1, 30, 49, 50, 75, 95, 100])
def test_the_quality_of_a_jpeg_is_read_from_its_tables(quality: int) -> None:
    found = facts("JPEG", quality=quality)
    assert (found.jpeg_quality, found.standard_tables) == (quality, True)


def test_tables_of_other_makers_get_the_nearest_quality() -> None:
    table = [16 + n // 4 for n in range(64)]
    assert jpeg_quality(table)[1] is False
    found = facts("JPEG", qtables=[table, table])
    assert found.standard_tables is False
    assert found.jpeg_quality


@pytest.mark.parametrize(("subsampling", "name"), [(0, "4:4:4"), (1, "4:2:2"), (2, "4:2:0")])
def test_subsampling_and_progressive_scans_of_a_jpeg(subsampling: int, name: str) -> None:
    found = facts("JPEG", subsampling=subsampling, progressive=subsampling == 1)
    assert (found.subsampling, found.progressive) == (name, subsampling == 1)


def test_what_has_no_chroma_has_no_subsampling() -> None:
    assert facts("JPEG", "L").subsampling is None
    assert facts("PNG") == EncodingFacts("RGB", ())


@pytest.mark.parametrize(
    ("format", "settings", "metadata"),
    [
        ("JPEG", {"exif": EXIF, "comment": b"hi"}, ("comment", "exif", "jfif")),
        ("JPEG", {"icc_profile": PROFILE, "xmp": b"<x/>"}, ("icc", "jfif", "xmp")),
        ("PNG", {"icc_profile": PROFILE, "dpi": (72, 72)}, ("density", "icc")),
        ("WEBP", {"exif": EXIF, "xmp": b"<x/>"}, ("exif", "xmp")),
        ("GIF", {"comment": b"hi"}, ("comment",)),
        ("TIFF", {"icc_profile": PROFILE}, ("icc",)),
    ],
)
def test_kinds_of_metadata_are_named(format: str, settings: dict[str, object], metadata: tuple[str, ...]) -> None:
    assert facts(format, **settings).metadata == metadata


def test_what_generators_write_into_png_text_and_provenance_is_seen() -> None:
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a cup, steps: 20")
    text.add_itxt("XML:com.adobe.xmp", "<x/>")
    text.add(b"caBX", b"jumb")
    assert facts("PNG", pnginfo=text).metadata == ("c2pa", "text", "xmp")
