"""What a user relies on when a file is sent as it is: the same pixels and colours, and nothing else the file said."""

from __future__ import annotations

import struct
import zlib
from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageCms, PngImagePlugin

from anomreason.containers import Kind, kind_of, looks_like, without_metadata

PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
SECRETS = [b"SECRET", b"Exif", b"GPS", b"http://ns.adobe.com", b"Photoshop", b"MPF"]


def gradient(mode: str = "RGB", size: tuple[int, int] = (40, 30)) -> Image.Image:
    wide = Image.linear_gradient("L").resize(size)
    tall = wide.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    return Image.merge("RGB", (wide, tall, Image.radial_gradient("L").resize(size))).convert(mode)


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def exif(orientation: int = 1) -> Image.Exif:
    data = Image.Exif()
    data[0x0112] = orientation
    data[0x010E] = "SECRET"
    data.get_ifd(0x8825)[1] = "N"
    return data


def pixels(data: bytes) -> tuple[str, tuple[int, int], bytes]:
    with Image.open(BytesIO(data)) as image:
        return image.mode, image.size, image.tobytes()


def segment(marker: int, body: bytes) -> bytes:
    return bytes((0xFF, marker)) + struct.pack(">H", len(body) + 2) + body


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def after_start(jpeg: bytes, *segments: bytes) -> bytes:
    return jpeg[:2] + b"".join(segments) + jpeg[2:]


def stripped(data: bytes, kind: Kind) -> bytes:
    out = without_metadata(data, kind)
    assert out is not None
    assert pixels(out) == pixels(data)
    assert not [s for s in SECRETS if s in out]
    return out


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize(
    "options", [{}, {"progressive": True}, {"restart_marker_blocks": 2}, {"quality": 100}], ids=str
)
def test_jpeg_keeps_pixels_and_profile_and_loses_the_rest(mode: str, options: dict[str, object]) -> None:
    profile = PROFILE if mode == "RGB" else b""
    data = saved(gradient(mode), "JPEG", exif=exif(), comment=b"SECRET", icc_profile=profile, **options)
    data = after_start(
        data,
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<x:xmpmeta>SECRET</x:xmpmeta>"),
        segment(0xED, b"Photoshop 3.0\x008BIM SECRET"),
        segment(0xE2, b"FPXR\0SECRET"),
        segment(0xE0, b"JFXX\0\x10SECRET"),
    )
    with Image.open(BytesIO(stripped(data, "JPEG"))) as image:
        assert image.info.get("icc_profile", b"") == profile
        assert not image.getexif()


def test_jpeg_loses_what_is_appended_after_its_end() -> None:
    data = saved(gradient(), "JPEG")
    assert stripped(data + b"SECRET" + saved(gradient(), "JPEG"), "JPEG") == data


def test_jpeg_loses_the_further_pictures_of_a_multi_picture_file() -> None:
    data = saved(gradient(), "MPO", save_all=True, append_images=[gradient().rotate(180)])
    assert b"MPF" in data
    assert len(stripped(data, "JPEG")) < 0.6 * len(data)


def test_jpeg_loses_the_thumbnail_inside_jfif() -> None:
    data = saved(gradient(), "JPEG")
    assert data[2:4] == b"\xff\xe0"
    jfif = data[6:18] + b"\x01\x02" + b"SECRET"
    assert stripped(data[:2] + segment(0xE0, jfif) + data[20:], "JPEG") == data


def test_jpeg_of_plain_rgb_components_keeps_the_marker_that_says_so() -> None:
    data = saved(gradient(), "JPEG", keep_rgb=True)
    assert stripped(data, "JPEG") == data
    with_adobe = after_start(saved(gradient(), "JPEG"), segment(0xEE, b"Adobe\0\x64\0\0\0\0\x01SECRET"))
    assert b"Adobe" in stripped(with_adobe, "JPEG")


@given(
    st.lists(st.tuples(st.sampled_from([0xFE, 0xE1, 0xE2, 0xE3, 0xED, 0xEF]), st.binary(max_size=60)), max_size=6).map(
        lambda parts: [segment(m, b"SECRET" + b) for m, b in parts]
    )
)
def test_whatever_segments_a_jpeg_carries_its_scan_is_untouched(segments: list[bytes]) -> None:
    data = saved(gradient(), "JPEG")
    assert without_metadata(after_start(data, *segments), "JPEG") == data


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:-2],  # no end marker
        lambda d: d.replace(b"\xff\xc0", b"\xff\xc9", 1),  # arithmetic coding, which few decoders know
        lambda d: after_start(d, b"\xff\x01\0\0"),  # a marker without meaning
        lambda d: after_start(d, b"\xff\xfe\0\1"),  # an impossible length
        lambda d: d[:40],
        lambda d: d[:2],
    ],
)
def test_an_odd_jpeg_is_left_to_be_encoded_anew(damage) -> None:  # type: ignore[no-untyped-def]
    assert without_metadata(damage(saved(gradient(), "JPEG")), "JPEG") is None


@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA", "LA"])
def test_png_keeps_pixels_and_profile_and_loses_the_rest(mode: str) -> None:
    texts = PngImagePlugin.PngInfo()
    texts.add_text("prompt", "SECRET")
    texts.add_itxt("XML:com.adobe.xmp", "SECRET")
    texts.add_text("zipped", "SECRET" * 9, zip=True)
    profile = PROFILE if mode.startswith("RGB") else None
    data = saved(gradient(mode), "PNG", pnginfo=texts, exif=exif(), dpi=(72, 72), icc_profile=profile)
    late = data[:-12] + chunk(b"tEXt", b"late\0SECRET") + chunk(b"prVt", b"SECRET") + data[-12:] + b"SECRET"
    out = stripped(late, "PNG")
    with Image.open(BytesIO(out)) as image:
        image.load()
        assert set(image.info) <= {"icc_profile", "transparency"}
        assert image.info.get("icc_profile") == profile


def test_png_keeps_transparency_and_gamma() -> None:
    data = saved(gradient("P"), "PNG", transparency=3)
    data = data[:33] + chunk(b"gAMA", struct.pack(">I", 45455)) + data[33:]
    with Image.open(BytesIO(stripped(data, "PNG"))) as image:
        assert image.info["transparency"] == 3
        assert image.info["gamma"] == pytest.approx(0.45455)


@pytest.mark.parametrize(
    "damage",
    [
        lambda d: d[:-12],  # no end
        lambda d: d[:-20],
        lambda d: d[:33] + chunk(b"SECR", b"") + d[33:],  # a critical chunk nobody knows
        lambda d: d[:-12] + chunk(b"IEND", b"SECRET"),
        lambda d: d[:29] + b"\0\0\0\0" + d[33:],  # a wrong checksum
    ],
)
def test_an_odd_png_is_left_to_be_encoded_anew(damage) -> None:  # type: ignore[no-untyped-def]
    assert without_metadata(damage(saved(gradient(), "PNG")), "PNG") is None


@pytest.mark.parametrize("lossless", [True, False])
@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_webp_keeps_pixels_and_profile_and_loses_the_rest(lossless: bool, mode: str) -> None:
    data = saved(gradient(mode), "WEBP", lossless=lossless, exif=exif(), xmp=b"<x>SECRET</x>", icc_profile=PROFILE)
    out = stripped(data + b"SECRET", "WEBP")
    assert len(out) == 8 + struct.unpack("<I", out[4:8])[0]
    assert out[20] & 0b1100 == 0  # the flags for EXIF and XMP
    with Image.open(BytesIO(out)) as image:
        assert image.info["icc_profile"] == PROFILE
        assert not image.info.keys() & {"exif", "xmp"}


def test_an_odd_webp_is_left_to_be_encoded_anew() -> None:
    data = saved(gradient(), "WEBP")
    frames = [gradient(), gradient().rotate(90)]
    assert without_metadata(data[:-4], "WEBP") is None
    assert without_metadata(data[:16] + b"\xff\xff\xff\0" + data[20:], "WEBP") is None
    assert without_metadata(saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]), "WEBP") is None


@pytest.mark.parametrize("kind", ["GIF", "TIFF", "BMP", "AVIF"])
def test_other_kinds_are_always_encoded_anew(kind: Kind) -> None:
    assert without_metadata(saved(gradient(), kind), kind) is None


@given(st.sampled_from(["JPEG", "PNG", "WEBP"]), st.binary(max_size=200))
def test_no_bytes_whatever_make_it_raise(kind: Kind, tail: bytes) -> None:
    start = {"JPEG": b"\xff\xd8\xff", "PNG": b"\x89PNG\r\n\x1a\n", "WEBP": b"RIFF\x20\0\0\0WEBPVP8 "}[kind]
    out = without_metadata(start + tail, kind)
    assert out is None or out.startswith(start[:2])
    assert kind_of(start + tail) == kind


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "BMP", "AVIF"])
def test_the_kind_is_told_by_content(kind: str) -> None:
    assert kind_of(saved(gradient(), kind)) == kind


def test_containers_of_avif_and_heif_are_told_apart_by_their_brands() -> None:
    assert kind_of(b"\0\0\0\x18ftypmif1\0\0\0\0mif1avif") == "AVIF"
    assert kind_of(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic") == "HEIF"
    assert kind_of(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic") == "HEIF"
    assert kind_of(b"\0\0\0\x18ftypisom\0\0\0\0isommp42") is None


@pytest.mark.parametrize(
    ("head", "words"),
    [
        (b"<?xml version='1.0'?>\n<svg xmlns='http://www.w3.org/2000/svg'/>", "SVG"),
        (b"<!DOCTYPE html><title>404</title>", "web page"),
        ("höchst plain text\n".encode(), "text"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n", "`git lfs pull`"),
        (b"\0\0\0\x18ftypisom\0\0\0\0isommp42", "a video"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "text"),
        (b"\x00\x01\x02\x03\xff", "not an image of a known type"),
        (b"\x89\x90", "not an image of a known type"),
    ],
)
def test_a_file_that_is_no_picture_is_named_for_what_it_is(head: bytes, words: str) -> None:
    assert kind_of(head) is None
    assert words in looks_like(head)
