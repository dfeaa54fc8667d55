"""What a user relies on when a file is opened: the picture is shown as it is; a bad file is an error, not a crash."""

from __future__ import annotations

import hashlib
import os
import struct
import sys
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms, ImageOps

from anomreason.anomaly import Region
from anomreason.errors import UnreadableImage
from anomreason.images import (
    GREY_SIDE,
    LoadedImage,
    browser_can_show,
    crop,
    image_size,
    inspect_image,
    load_image,
    load_pixels,
    pixels_of,
    png_of,
    thumbnail,
)

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FORMATS = ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"]
ORIENTATIONS = range(1, 9)


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    wide = Image.linear_gradient("L").rotate(90).resize(size)
    tall = Image.linear_gradient("L").resize(size)
    return Image.merge("RGB", (wide, tall, Image.radial_gradient("L").resize(size))).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def heif(image: Image.Image, **options: object) -> bytes:
    pillow_heif = pytest.importorskip("pillow_heif", exc_type=ImportError)
    out = BytesIO()
    pillow_heif.from_pillow(image).save(out, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return out.getvalue()


def turned(orientation: int) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    return data


def png(width: int, height: int, depth: int, colour: int, rows: bytes, *extra: bytes) -> bytes:
    """A PNG of any make; rows hold a filter byte each."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    more = [chunk(e[:4], e[4:]) for e in extra]
    body = [chunk(b"IHDR", header), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(body)


def shown(picture: LoadedImage) -> Image.Image:
    """What the model sees, and what was recorded of it holds."""
    with Image.open(BytesIO(picture.encoded.data)) as image:
        image.load()
    assert image.get_format_mimetype() == picture.encoded.mime == picture.sent.mime
    assert image.size == (picture.encoded.width, picture.encoded.height) == (picture.sent.width, picture.sent.height)
    assert picture.sent.bytes == len(picture.encoded.data)
    return image


@pytest.fixture
def put(tmp_path: Path) -> Callable[..., Path]:
    def write(data: bytes, name: str = "picture") -> Path:
        path = tmp_path / name
        path.write_bytes(data)
        return path

    return write


Put = Callable[..., Path]


@pytest.mark.parametrize("kind", FORMATS)
def test_each_format_is_told_by_its_content_and_sent_with_its_own_pixels(kind: str, put: Put) -> None:
    path = put(saved(gradient(), kind), "wrong.txt")
    picture = load_image(path)
    with Image.open(path) as original:
        assert shown(picture).convert("RGB").tobytes() == original.convert("RGB").tobytes()
    assert (picture.width, picture.height) == image_size(path) == (40, 30)
    assert picture.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert picture.path == path


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_file_that_needs_nothing_is_sent_byte_for_byte(kind: str, mode: str, put: Put) -> None:
    data = saved(gradient(mode), kind)
    picture = load_image(put(data))
    assert picture.encoded.data == data
    assert picture.sent.notes == ()


@pytest.mark.parametrize("mode", ["P", "1"])
def test_a_png_of_few_colours_is_sent_byte_for_byte(mode: str, put: Put) -> None:
    data = saved(gradient(mode), "PNG")
    assert load_image(put(data)).encoded.data == data


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "AVIF"])
def test_a_format_that_endpoints_do_not_take_is_sent_as_png(kind: str, put: Put) -> None:
    picture = load_image(put(saved(gradient(), kind)))
    assert picture.encoded.mime == "image/png"
    assert picture.sent.notes == (f"{kind} encoded as PNG",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("max_side", [None, 20])
def test_metadata_is_never_sent(kind: str, max_side: int | None, put: Put) -> None:
    exif = turned(1)
    exif[0x010E] = "SECRET"
    exif.get_ifd(0x8825)[1] = "N"
    data = saved(gradient(), kind, exif=exif, icc_profile=PROFILE)
    assert b"SECRET" in data
    picture = load_image(put(data), max_side)
    image = shown(picture)
    assert b"SECRET" not in picture.encoded.data
    assert not image.getexif()
    assert image.info["icc_profile"] == PROFILE


def test_lossless_stripping_is_recorded(put: Put) -> None:
    assert load_image(put(saved(gradient(), "JPEG", comment=b"hello"))).sent.notes == ("metadata removed",)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_picture_is_turned_as_its_exif_says(kind: str, orientation: int, put: Put) -> None:
    path = put(saved(gradient(), kind, exif=turned(orientation)))
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    picture = load_image(path)
    assert shown(picture).tobytes() == upright.tobytes()
    assert (picture.width, picture.height) == image_size(path) == upright.size
    assert (f"turned by EXIF orientation {orientation}" in picture.sent.notes) == (orientation > 1)
    with Image.open(BytesIO(thumbnail(path, 64))) as small:
        difference = np.abs(np.asarray(small, float) - np.asarray(upright, float))
    assert difference.mean() < 6


def test_an_avif_is_turned_as_its_own_boxes_say(put: Put) -> None:
    path = put(saved(gradient(), "AVIF", exif=turned(6)))
    assert shown(load_image(path)).size == image_size(path) == (30, 40)


def test_a_png_may_say_its_orientation_after_its_pixels(put: Put) -> None:
    plain, exif = saved(gradient(), "PNG"), turned(6).tobytes()[6:]
    late = b"eXIf" + exif
    data = plain[:-12] + struct.pack(">I", len(exif)) + late + struct.pack(">I", zlib.crc32(late)) + plain[-12:]
    assert shown(load_image(put(data))).size == (30, 40)


def test_orientation_in_xmp_alone_is_ignored_as_browsers_do(put: Put) -> None:
    xmp = b'<x:xmpmeta><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    path = put(saved(gradient(), "JPEG", xmp=xmp))
    assert shown(load_image(path)).size == image_size(path) == (40, 30)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
@pytest.mark.parametrize(
    "exif", [b"Exif\0\0", b"Exif\0\0garbage!", b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08"]
)
def test_damaged_exif_does_not_cost_the_picture(exif: bytes, put: Put) -> None:
    path = put(saved(gradient(), "JPEG", exif=exif))
    assert shown(load_image(path)).size == image_size(path) == (40, 30)


def packed(size: int) -> bytes:
    return zlib.compress(b"w" * size, 9)


def chunk(name: bytes, body: bytes, crc: int | None = None) -> bytes:
    check = zlib.crc32(name + body) if crc is None else crc
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", check)


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


USELESS = {
    "a workflow of 5 MB in zTXt": chunk(b"zTXt", b"workflow\0\0" + packed(5_000_000)),
    "a workflow of 5 MB in iTXt": chunk(b"iTXt", b"workflow\0\1\0\0\0" + packed(5_000_000)),
    "70 MB of plain text": chunk(b"tEXt", b"workflow\0" + b"w" * 70_000_000),
    "80 texts of nearly 1 MB": chunk(b"zTXt", b"workflow\0\0" + packed(1_000_000)) * 80,
    "a text that unpacks to 200 MB": chunk(b"zTXt", b"workflow\0\0" + packed(200_000_000)),
    "a text that does not unpack": chunk(b"zTXt", b"workflow\0\0junk"),
    "a text of an unknown packing": chunk(b"zTXt", b"workflow\0\x09junk"),
    "a text without a name": chunk(b"iTXt", b""),
    "a text with a wrong checksum": chunk(b"tEXt", b"workflow\0junk", 7),
    "EXIF text of 5 MB": chunk(b"zTXt", b"Raw profile type exif\0\0" + packed(5_000_000)),
    "EXIF text that is none": chunk(b"tEXt", b"Raw profile type exif\0junk"),
    "EXIF that is none": chunk(b"eXIf", b"junk"),
    "a profile of 5 MB": chunk(b"iCCP", b"p\0\0" + packed(5_000_000)),
    "a profile of an unknown packing": chunk(b"iCCP", b"p\0\x09junk"),
    "a profile cut short": chunk(b"iCCP", b"p\0\0" + packed(5_000)[:9]),
    "a resolution cut short": chunk(b"pHYs", b"1"),
    "a gamma cut short": chunk(b"gAMA", b"1"),
    "colours cut short": chunk(b"cHRM", b"1") + chunk(b"sRGB", b""),
    "an animation cut short": chunk(b"acTL", b"1") + chunk(b"fcTL", b"1"),
    "a signed history": chunk(b"caBX", b"c2pa" * 1_000_000),
}


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("what", USELESS)
def test_metadata_of_a_png_is_no_reason_to_refuse_it(what: str, after: bool, put: Put) -> None:
    plain = saved(gradient(), "PNG")
    at = len(plain) - 12 if after else 33
    path = put(plain[:at] + USELESS[what] + plain[at:])
    loaded = load_image(path)
    assert shown(loaded).tobytes() == gradient().tobytes()
    assert "metadata removed" in loaded.sent.notes
    assert loaded.sent.bytes == len(plain)
    assert image_size(path) == (40, 30)
    assert thumbnail(path, 20)
    assert browser_can_show(path)


@pytest.mark.filterwarnings("ignore:.*EXIF:UserWarning")
@pytest.mark.parametrize(
    "useless",
    [
        segment(0xE0, b"JFIF\0"),
        segment(0xE1, b"Exif\0\0II*\0\xff\xff\xff\x7f"),
        segment(0xE1, b"Exif\0\0junk"),
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + b"x" * 60_000) * 80,
        segment(0xE2, b"ICC_PROFILE\0"),
        segment(0xE2, b"ICC_PROFILE\0\x02\x05" + b"j" * 60_000),
        segment(0xE2, b"MPF\0junk"),
        segment(0xED, b"Photoshop 3.0\x008BIM\x03\xed\0\0\0\0\0\x301"),
        segment(0xEE, b"Adobe"),
        segment(0xFE, b"x" * 60_000) * 50,
    ],
    ids=range(10),
)
def test_metadata_of_a_jpeg_is_no_reason_to_refuse_it(useless: bytes, put: Put) -> None:
    plain = saved(gradient(), "JPEG")
    path = put(plain[:2] + useless + plain[2:])
    with Image.open(BytesIO(plain)) as image:
        assert shown(load_image(path)).tobytes() == image.tobytes()
    assert image_size(path) == (40, 30)
    assert thumbnail(path, 20)


@pytest.mark.parametrize("kind", ["WEBP", "GIF", "AVIF"])
def test_large_or_broken_metadata_of_other_kinds_is_no_reason_to_refuse_an_image(kind: str, put: Put) -> None:
    useless: dict[str, dict[str, object]] = {
        "WEBP": {"exif": b"Exif\0\0junk", "icc_profile": b"junk" * 400_000, "xmp": b"x" * 3_000_000},
        "GIF": {"comment": b"x" * 3_000_000},
        "AVIF": {"xmp": b"x" * 3_000_000},
    }
    path = put(saved(gradient(), kind, **useless[kind]))
    assert shown(load_image(path)).size == image_size(path) == (40, 30)


def half_clear(mode: str) -> Image.Image:
    image = Image.new("RGBA", (40, 30), (200, 0, 0, 255))
    image.paste((0, 0, 200, 0), (0, 0, 20, 30))
    image.paste((0, 0, 0, 128), (0, 0, 20, 10))
    return image.convert(mode)


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("PNG", "LA"), ("WEBP", "RGBA"), ("TIFF", "RGBA"), ("TIFF", "LA"), ("AVIF", "RGBA")],
)
def test_transparency_is_flattened_on_white_and_noted(kind: str, mode: str, put: Put) -> None:
    options = {"lossless": True} if kind == "WEBP" else {"quality": 100} if kind == "AVIF" else {}
    picture = load_image(put(saved(half_clear(mode), kind, **options)))
    flat = shown(picture).convert("RGB")
    assert "transparency flattened on white" in picture.sent.notes
    assert flat.getpixel((10, 20)) == (255, 255, 255)
    assert flat.getpixel((10, 5)) == pytest.approx((127, 127, 127), abs=2)
    assert flat.getpixel((30, 20)) == pytest.approx((200, 0, 0) if mode == "RGBA" else (60, 60, 60), abs=4)


def test_premultiplied_grey_is_flattened_on_white(put: Put) -> None:
    straight = saved(Image.new("LA", (4, 3), (100, 128)), "TIFF")
    extra_samples = struct.pack("<HHIH", 338, 3, 1, 2), struct.pack("<HHIH", 338, 3, 1, 1)
    premultiplied = straight.replace(*extra_samples)
    assert premultiplied != straight
    assert shown(load_image(put(premultiplied))).getpixel((1, 1)) == pytest.approx(127 + 100, abs=2)


@pytest.mark.parametrize(
    ("kind", "mode", "clear"), [("PNG", "RGB", (0, 0, 200)), ("PNG", "L", 23), ("PNG", "P", None), ("GIF", "P", None)]
)
def test_a_transparent_colour_is_flattened_on_white_and_noted(kind: str, mode: str, clear: object, put: Put) -> None:
    image = Image.new("RGB", (40, 30), (200, 0, 0))
    image.paste((0, 0, 200), (0, 0, 20, 30))
    image = image.convert(mode)
    picture = load_image(put(saved(image, kind, transparency=image.getpixel((0, 0)) if clear is None else clear)))
    assert "transparency flattened on white" in picture.sent.notes
    assert shown(picture).convert("RGB").getpixel((0, 0)) == (255, 255, 255)
    assert shown(picture).convert("RGB").getpixel((39, 0)) == image.convert("RGB").getpixel((39, 0))


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_an_alpha_channel_that_hides_nothing_needs_no_flattening(mode: str, put: Put) -> None:
    data = saved(gradient(mode), "PNG")
    assert load_image(put(data)).encoded.data == data
    smaller = load_image(put(data), 20)
    assert smaller.sent.notes == ("scaled from 40x30",)
    assert shown(smaller).mode == {"RGBA": "RGB", "LA": "L"}[mode]


@pytest.mark.parametrize("kind", ["JPEG", "TIFF"])
def test_cmyk_becomes_rgb(kind: str, put: Put) -> None:
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    picture = load_image(put(saved(Image.new("CMYK", (20, 10), (0, 255, 255, 0)), kind, **options)))
    assert shown(picture).mode == "RGB"
    assert shown(picture).getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=3)
    assert picture.sent.notes == ("CMYK converted to sRGB", f"{kind} encoded as PNG")


@pytest.mark.parametrize("profile", [PROFILE, b"not a profile"])
def test_cmyk_with_a_profile_that_does_not_fit_becomes_rgb_all_the_same(profile: bytes, put: Put) -> None:
    path = put(saved(Image.new("CMYK", (20, 10), (0, 255, 255, 0)), "TIFF", icc_profile=profile))
    image = shown(load_image(path))
    assert image.getpixel((5, 5)) == (255, 0, 0)
    assert "icc_profile" not in image.info


def test_a_profile_that_is_a_number_is_dropped(put: Put) -> None:
    data = saved(gradient(), "TIFF", icc_profile=PROFILE)
    odd = data.replace(struct.pack("<HHI", 34675, 7, len(PROFILE)), struct.pack("<HHI", 34675, 3, 1))
    assert odd != data
    assert "icc_profile" not in shown(load_image(put(odd))).info


def test_lab_becomes_rgb(put: Put) -> None:
    red = (139, 128 + 80, 128 + 67)
    path = put(saved(Image.new("LAB", (20, 10), red), "TIFF"))
    assert shown(load_image(path)).getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=12)


def test_16_bits_are_reduced_to_the_8_that_show(put: Put) -> None:
    grey = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0x1234, 0xFFFF))
    rgb = png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 0x1234, 0xABCD, 0xFFFF))
    clear = png(2, 1, 16, 0, b"\0" + struct.pack(">HH", 0x1234, 0x5678), b"tRNS" + b"\x12\x34")
    for data, expected in [(grey, b"\x12\xff"), (rgb, b"\x12\xab\xff"), (clear, b"\xff\x56")]:
        picture = load_image(put(data))
        assert shown(picture).tobytes() == expected
        assert picture.sent.notes[0] == "16 bits a channel reduced to 8"


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([[0, 0x8000, 0xFFFF]], np.uint16), [0, 0x80, 0xFF]),
        (np.array([[0, 0x8000, 0xFFFF]], ">u2"), [0, 0x80, 0xFF]),
        (np.array([[0, 128, 255]], np.int32), [0, 128, 255]),
        (np.array([[0, 257 * 7, 65535]], np.int32), [0, 7, 255]),
        (np.array([[-100, 0, 100]], np.int32), [0, 128, 255]),
        (np.array([[0.0, 0.5, 1.0]], np.float32), [0, 128, 255]),
        (np.array([[0.0, 7.0, 255.0]], np.float32), [0, 7, 255]),
        (np.array([[-1e38, np.nan, 3e38]], np.float32), [0, 0, 255]),
        (np.array([[np.nan, np.inf, 0.2]], np.float32), [0, 255, 51]),
        (np.array([[np.nan, np.nan, np.nan]], np.float32), [0, 0, 0]),
        (np.array([[70000, 70000, 70000]], np.int32), [0, 0, 0]),
    ],
)
def test_deep_grey_is_brought_to_8_bits_and_noted(values: np.ndarray, expected: list[int], put: Put) -> None:
    picture = load_image(put(saved(Image.fromarray(values), "TIFF")))
    assert list(shown(picture).tobytes()) == expected
    assert "bits" in picture.sent.notes[0]


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_compressed_tiff_is_read(compression: str, put: Put) -> None:
    path = put(saved(gradient(), "TIFF", compression=compression))
    with Image.open(path) as original:
        assert shown(load_image(path)).tobytes() == original.convert("RGB").tobytes()


@pytest.mark.parametrize(
    ("kind", "note"),
    [
        ("GIF", "first of 3 frames"),
        ("WEBP", "first of 3 frames"),
        ("PNG", "first of 3 frames"),
        ("AVIF", "first of 3 frames"),
        ("TIFF", "first of several frames"),
    ],
)
def test_of_an_animation_the_first_frame_is_sent_and_noted(kind: str, note: str, put: Put) -> None:
    frames = [Image.new("RGB", (20, 10), c) for c in ("red", "lime", "blue")]
    options = {"quality": 100} if kind == "AVIF" else {"lossless": True} if kind == "WEBP" else {}
    data = saved(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    picture = load_image(put(data))
    assert picture.sent.notes[0] == note
    assert shown(picture).convert("RGB").getpixel((5, 5)) == pytest.approx((255, 0, 0), abs=3)
    assert getattr(shown(picture), "n_frames", 1) == 1


def test_a_gif_whose_later_frames_are_lost_still_shows_its_first(put: Put) -> None:
    frames = [gradient(), gradient().rotate(90), gradient().rotate(180)]
    data = saved(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert shown(load_image(put(data[: int(len(data) * 0.6)]))).size == (40, 30)


def test_heif_is_read_with_the_extra(put: Put) -> None:
    path = put(heif(gradient()), "photo.jpg")
    picture = load_image(path)
    assert shown(picture).tobytes() == gradient().tobytes()
    assert picture.sent.notes == ("HEIF encoded as PNG",)
    assert not browser_can_show(path)
    turned_path = put(heif(gradient(), exif=turned(6).tobytes()))
    assert image_size(turned_path) == shown(load_image(turned_path)).size


def test_heif_without_the_extra_names_the_install_line(put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    path = put(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(50))
    with pytest.raises(UnreadableImage, match=r"pip install '\.\[heif\]'"):
        load_image(path)


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((400, 300), 200, (200, 150)),
        ((300, 400), 200, (150, 200)),
        ((200, 150), 200, (200, 150)),
        ((201, 1), 200, (200, 1)),
        ((1000, 1), 200, (200, 1)),
        ((400, 300), None, (400, 300)),
    ],
)
def test_the_long_edge_is_bounded(
    size: tuple[int, int], max_side: int | None, expected: tuple[int, int], put: Put
) -> None:
    picture = load_image(put(saved(gradient(size=size), "PNG")), max_side)
    assert shown(picture).size == expected
    assert (picture.width, picture.height) == size
    assert picture.sent.notes == ((f"scaled from {size[0]}x{size[1]}",) if expected != size else ())


def test_scaling_averages_instead_of_picking_pixels(put: Put) -> None:
    stripes = Image.fromarray(np.tile(np.array([0, 255], np.uint8), (64, 32)))
    values = np.asarray(shown(load_image(put(saved(stripes, "PNG")), 16)))
    assert values.min() > 100
    assert values.max() < 155


def test_a_file_of_odd_make_is_sent_as_the_pixels_it_gave(put: Put) -> None:
    data = saved(gradient(), "PNG")
    picture = load_image(put(data[:-12]))
    assert shown(picture).tobytes() == gradient().tobytes()
    assert picture.encoded.data.endswith(data[-12:])


@pytest.mark.parametrize("read", [load_image, load_pixels, image_size, lambda p: thumbnail(p, 64)])
def test_what_cannot_be_opened_says_why_and_names_the_path(read: Callable[[Path], object], tmp_path: Path) -> None:
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n"
    bomb = png(30_000, 30_000, 8, 0, b"")
    files = {
        "empty.png": (b"", "empty"),
        "text.jpg": (b"I am not a picture.\n", "text"),
        "drawing.png": (b"<svg xmlns='http://www.w3.org/2000/svg'></svg>", "SVG"),
        "page.webp": (b"<!doctype html><html></html>", "web page"),
        "figure.png": (eps, "text"),
        "zeros.jpg": (bytes(100), "not an image of a known type"),
        "bomb.png": (bomb, "30000x30000 pixels"),
        "strip.png": (png(66_000, 1, 8, 0, b""), "66000x1 pixels"),
        "bomb.gif": (b"GIF89a\xff\xff\xff\xff\0\0\0,\0\0\0\0\1\0\1\0\0\2", "65535x65535 pixels"),
        "bomb.webp": (b"RIFF\x1a\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0\xff\x3f\0\xff\xff\0VP8 ", "too large|damaged"),
        "head.jpg": (b"\xff\xd8\xff", "damaged"),
    }
    for name, (data, words) in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(UnreadableImage, match=words) as caught:
            read(path)
        assert str(path) in str(caught.value)
        assert not browser_can_show(path)


def test_what_is_not_a_regular_file_is_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    cases = {
        str(tmp_path): "is a directory",
        str(tmp_path / "missing.jpg"): "does not exist",
        str(tmp_path / "broken.jpg"): "does not exist",
        str(tmp_path / "pipe.jpg"): "pipe or a device",
        "/dev/zero": "pipe or a device",
        str(tmp_path / ("long" * 100)): "cannot be opened",
        str(tmp_path / "nul\0.jpg"): "cannot be opened",
    }
    for path, words in cases.items():
        with pytest.raises(UnreadableImage, match=words):
            load_image(Path(path))


def test_a_file_too_large_to_read_is_refused_by_its_size(tmp_path: Path) -> None:
    path = tmp_path / "huge.png"
    with path.open("wb") as file:
        file.truncate(1 << 34)
    with pytest.raises(UnreadableImage, match="17,179,869,184 bytes"):
        load_image(path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_says_so(put: Put) -> None:
    path = put(saved(gradient(), "PNG"))
    path.chmod(0)
    with pytest.raises(UnreadableImage, match="may not be read"):
        load_image(path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.8])
def test_a_truncated_file_is_unreadable(kind: str, share: float, put: Put) -> None:
    data = saved(gradient(size=(200, 150)), kind)
    with pytest.raises(UnreadableImage, match="damaged"):
        load_image(put(data[: int(len(data) * share)]))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_the_size_comes_from_the_header_alone(kind: str, put: Put) -> None:
    data = saved(gradient(size=(200, 150)), kind)
    # Pillow writes a TIFF's directory before its pixels.
    assert image_size(put(data[:1000])) == (200, 150)


def test_crop_shows_the_region_and_its_margin_exactly(put: Put) -> None:
    picture = load_image(put(saved(gradient(size=(200, 100)), "JPEG")))
    part = crop(picture, Region(x0=0.5, y0=0.2, x1=0.7, y1=0.4), margin=0.5)
    with Image.open(BytesIO(part.data)) as image:
        assert image.tobytes() == shown(picture).crop((80, 10, 160, 50)).tobytes()
    assert (part.mime, part.width, part.height) == ("image/png", 80, 40)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("module")


@pytest.fixture(scope="module")
def tiny(folder: Path) -> LoadedImage:
    (folder / "tiny.png").write_bytes(saved(gradient("RGBA", (7, 5)), "PNG"))
    return load_image(folder / "tiny.png")


fraction = st.floats(0, 1)


@given(st.lists(fraction, min_size=2, max_size=2, unique=True), st.lists(fraction, min_size=2, max_size=2, unique=True))
def test_a_crop_is_never_empty_and_never_leaves_the_image(tiny: LoadedImage, xs: list[float], ys: list[float]) -> None:
    region = Region(x0=min(xs), y0=min(ys), x1=max(xs), y1=max(ys))
    bare, wide = crop(tiny, region, 0), crop(tiny, region, 2)
    assert 1 <= bare.width <= wide.width <= 7
    assert 1 <= bare.height <= wide.height <= 5
    assert bare.width >= (region.x1 - region.x0) * 7 - 1e-9
    with Image.open(BytesIO(bare.data)) as image:
        assert (image.size, image.mode) == ((bare.width, bare.height), "RGB")


def test_a_thumbnail_is_a_small_upright_jpeg_without_metadata(put: Put) -> None:
    exif = turned(6)
    exif[0x010E] = "SECRET"
    data = thumbnail(put(saved(gradient(size=(400, 200)), "JPEG", exif=exif, comment=b"SECRET")), 100)
    assert b"SECRET" not in data
    with Image.open(BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("JPEG", "RGB", (50, 100))
        assert not image.getexif()


@pytest.mark.parametrize("size", [(400, 200), (6000, 5100)])
def test_pixels_are_upright_whole_and_named_by_the_hash_of_their_file(size: tuple[int, int], put: Put) -> None:
    path = put(saved(gradient(size=size), "JPEG", exif=turned(6)))
    image, sha256 = load_pixels(path)
    assert (image.size, image.mode, image.info) == (size[::-1], "RGB", {})
    assert sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    with Image.open(path) as opened:
        assert image.tobytes() == ImageOps.exif_transpose(opened).tobytes()


def test_a_thumbnail_is_never_larger_than_its_picture(put: Put) -> None:
    with Image.open(BytesIO(thumbnail(put(saved(half_clear("RGBA"), "PNG")), 100))) as image:
        assert image.size == (40, 30)
        assert image.getpixel((10, 25)) == pytest.approx((255, 255, 255), abs=4)


@pytest.mark.parametrize(
    ("data", "can"),
    [
        *((saved(gradient(), kind), kind != "TIFF") for kind in FORMATS),
        (saved(gradient("CMYK"), "JPEG"), False),
        (saved(gradient(), "JPEG", exif=turned(6)), True),
        (saved(gradient(), "PNG", exif=turned(6)), False),
        (saved(gradient(), "JPEG", xmp=b'<x tiff:Orientation="6"/>'), True),
        (b"text", False),
    ],
    ids=str,
)
def test_browsers_show_what_they_know_the_right_way_up(data: bytes, can: bool, put: Put) -> None:
    assert browser_can_show(put(data)) is can


def test_threads_get_what_one_thread_gets(put: Put) -> None:
    paths = [put(saved(gradient(), kind, exif=turned(6)), kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF")]
    alone = [load_image(p, 20).encoded.data for p in paths]
    with ThreadPoolExecutor(8) as pool:
        together = [p.encoded.data for p in pool.map(lambda p: load_image(p, 20), paths * 8)]
    assert together == alone * 8


def seeds() -> list[bytes]:
    """Small valid files of every make, for damaging."""
    small = gradient(size=(17, 11))
    more = [small.rotate(90), small.rotate(180)]
    clear = gradient("RGBA", (17, 11))
    clear.putalpha(Image.radial_gradient("L").resize((17, 11)))
    plain = [saved(small, kind, exif=turned(6)) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF")]
    animated = [
        saved(small, kind, save_all=True, append_images=more) for kind in ("GIF", "PNG", "WEBP", "TIFF", "AVIF")
    ]
    tiffs = [saved(small, "TIFF", compression=c) for c in ("tiff_lzw", "tiff_adobe_deflate", "jpeg", "packbits")]
    others = [
        saved(small, "JPEG", progressive=True, icc_profile=PROFILE, comment=b"x"),
        saved(gradient("CMYK", (17, 11)), "JPEG"),
        saved(gradient("P", (17, 11)), "PNG", transparency=3),
        saved(clear, "WEBP", lossless=True, icc_profile=PROFILE),
        saved(clear, "PNG"),
        saved(small, "TIFF", icc_profile=PROFILE),
        saved(small, "BMP"),
        saved(gradient("P", (17, 11)), "BMP"),
        saved(Image.fromarray(np.ones((11, 17), np.float32)), "TIFF"),
        png(3, 2, 16, 0, b"\0abcdef\0abcdef"),
    ]
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        return plain + animated + tiffs + others
    return [*plain, *animated, *tiffs, *others, heif(small)]


SEEDS = seeds()


@st.composite
def damaged_files(draw: st.DrawFn) -> bytes:
    data = bytearray(draw(st.sampled_from(SEEDS)))
    # Headers hold what decoders stumble over, so half of the blows fall there.
    places = st.integers(0, min(63, len(data) - 1)) | st.integers(0, len(data) - 1)
    for place, value in draw(st.lists(st.tuples(places, st.integers(0, 255)), max_size=4)):
        data[place] = value
    if draw(st.booleans()):
        data = data[: draw(st.integers(1, len(data)))]
    return bytes(data) + draw(st.binary(max_size=8))


def attempt(read: Callable[[Path], object], path: Path) -> object:
    """What it returns, None when it refuses; anything else it raises is a failure of the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Image, "MAX_IMAGE_PIXELS", 1 << 18)  # large pictures are slow and teach nothing here
        try:
            return read(path)
        except UnreadableImage:
            return None


def opened_or_refused(path: Path, data: bytes) -> None:
    path.write_bytes(data)
    attempt(image_size, path)
    attempt(lambda p: thumbnail(p, 8), path)
    browser_can_show(path)
    picture = attempt(lambda p: load_image(p, 12), path)
    if isinstance(picture, LoadedImage):
        assert max(shown(picture).size) <= 12
        assert crop(picture, Region(x0=0.4, y0=0.4, x1=0.6, y1=0.6)).width >= 1


@settings(max_examples=150, deadline=None)
@given(damaged_files())
def test_a_damaged_file_is_opened_or_refused_and_nothing_else(folder: Path, data: bytes) -> None:
    opened_or_refused(folder / "damaged", data)


@settings(max_examples=100, deadline=None)
@given(
    st.sampled_from([b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"II*\0", b"MM\0*", b"BM"])
    | st.sampled_from(
        [b"RIFF\xff\0\0\0WEBPVP8 ", b"\0\0\0\x14ftypavif\0\0\0\0avif", b"\0\0\0\x14ftypheic\0\0\0\0heic"]
    ),
    st.binary(max_size=200),
)
def test_random_bytes_behind_any_signature_are_opened_or_refused(folder: Path, start: bytes, rest: bytes) -> None:
    opened_or_refused(folder / "random", start + rest)


def jpeg(size: tuple[int, int], **settings: object) -> bytes:
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)
    out = BytesIO()
    Image.fromarray(pixels).resize(size, Image.Resampling.BICUBIC).save(out, "JPEG", **settings)
    return out.getvalue()


def test_an_inspected_image_has_the_size_and_the_pixels_of_the_upright_one(tmp_path: Path) -> None:
    upright = Image.open(BytesIO(jpeg((1200, 800), quality=95)))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(tmp_path / "turned.jpg", quality=95, exif=exif)
    upright.save(tmp_path / "upright.png")
    found = [inspect_image(tmp_path / name) for name in ("turned.jpg", "upright.png")]
    assert [(one.width, one.height, one.format) for one in found] == [(1200, 800, "JPEG"), (1200, 800, "PNG")]
    assert found[0].sha256 == hashlib.sha256((tmp_path / "turned.jpg").read_bytes()).hexdigest()
    first, second = (np.asarray(one.grey, dtype=int) for one in found)
    assert first.shape == (GREY_SIDE, GREY_SIDE)
    assert abs(first - second).mean() < 2


def test_bytes_are_inspected_as_their_file_is(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(data := jpeg((64, 64)))
    from_file, from_bytes = inspect_image(tmp_path / "a.jpg"), inspect_image(Path("shard/7"), data)
    assert (from_bytes.sha256, from_bytes.facts) == (from_file.sha256, from_file.facts)
    with pytest.raises(UnreadableImage, match="'shard/7' is damaged"):
        inspect_image(Path("shard/7"), data[: len(data) // 2])


@pytest.mark.parametrize(
    ("data", "reason"),
    [(b"", "empty"), (b"no image", "not_image"), (jpeg((64, 64))[:400], "damaged"), (None, "missing")],
)
def test_why_a_file_is_no_image_can_be_said_in_one_word(tmp_path: Path, data: bytes | None, reason: str) -> None:
    if data is not None:
        (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(UnreadableImage) as caught:
        inspect_image(tmp_path / "a.jpg")
    assert caught.value.reason == reason


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_an_image_in_memory_becomes_an_upright_png_with_its_colours_and_without_metadata(kind: str) -> None:
    buffer = BytesIO()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "A camera"
    gradient(size=(40, 30)).save(buffer, kind, exif=exif, icc_profile=PROFILE, lossless=True, comment="secret")
    with Image.open(BytesIO(png_of(pixels_of(buffer.getvalue(), "the answer")).data)) as made:
        assert (made.format, made.size) == ("PNG", (30, 40))
        assert made.info == {"icc_profile": PROFILE}
        if kind != "JPEG":
            assert made.tobytes() == gradient(size=(40, 30)).transpose(Image.Transpose.ROTATE_270).tobytes()


def test_pixels_with_transparency_lie_on_white_in_a_png() -> None:
    with Image.open(BytesIO(png_of(Image.new("RGBA", (2, 2), (9, 9, 9, 0))).data)) as made:
        assert (made.mode, made.getpixel((0, 0))) == ("RGB", (255, 255, 255))


def test_bytes_that_are_no_image_or_too_large_a_one_are_refused_by_name() -> None:
    with pytest.raises(UnreadableImage, match="'the answer' is a text file, not an image"):
        pixels_of(b"plain words", "the answer")
    buffer = BytesIO()
    Image.new("1", (6000, 6000)).save(buffer, "PNG")
    with pytest.raises(UnreadableImage, match="'the answer' has over 30,000,000 pixels"):
        pixels_of(buffer.getvalue(), "the answer")
