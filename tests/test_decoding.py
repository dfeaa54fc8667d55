"""What decoding images may take: memory in common over all threads, and time in a process that can be ended."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image

from anomreason import decoding
from anomreason.containers import jpeg_scans
from anomreason.decoding import SharedRoom, call_apart
from anomreason.errors import UnreadableImage
from anomreason.images import load_image, thumbnail

SIDE = 9459
"""Just under Pillow's bound of 89 million pixels."""


def jpeg(side: int, extra: int = 0, **options: object) -> bytes:
    """A progressive JPEG whose last scan is repeated."""
    out = io.BytesIO()
    Image.new("RGB", (side, side), (10, 200, 30)).save(out, "JPEG", progressive=True, **options)
    data = out.getvalue()
    scan = data[data.rfind(b"\xff\xda") : -2]
    return data[:-2] + extra * scan + data[-2:]


def test_scans_are_counted_where_the_decoder_sees_them() -> None:
    plain = jpeg(64)
    assert jpeg_scans(plain) == plain.count(b"\xff\xda") == 10
    assert jpeg_scans(jpeg(64, extra=500)) == 510
    assert jpeg_scans(jpeg(64, comment=500 * b"\xff\xda")) == 10
    assert jpeg_scans(plain + 500 * b"\xff\xda\0\2") == 10, "what follows the end of the image is not decoded"
    assert jpeg_scans(plain.replace(b"\xff\xda", b"junk\xff\xff\xff\xda")) == 10


@pytest.mark.parametrize("read", [load_image, lambda path: thumbnail(path, 64)])
def test_a_jpeg_of_thousands_of_scans_is_refused_with_the_cause(read: object, tmp_path: Path) -> None:
    path = tmp_path / "scans.jpg"
    path.write_bytes(jpeg(64, extra=2000))
    with pytest.raises(UnreadableImage, match=r"2,010 scans.*export it again") as refused:
        read(path)  # type: ignore[operator]
    assert refused.value.final
    path.write_bytes(jpeg(64, extra=20))
    read(path)  # type: ignore[operator]
    path.write_bytes(jpeg(64, comment=500 * b"\xff\xda"))
    read(path)  # type: ignore[operator]


def test_who_does_not_fit_waits_and_a_large_one_is_not_passed_by_small_ones() -> None:
    room, order, first, asked = SharedRoom(10), list[str](), threading.Event(), threading.Event()

    def hold(name: str, amount: int) -> None:
        with room.take(amount):
            order.append(name)
            if name == "first":
                first.set()
                assert asked.wait(60)

    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(hold, "first", 6)]
        assert first.wait(60)
        done.append(pool.submit(hold, "more than all", 1000))
        while len(room._queue) < 1:
            threading.Event().wait(0.001)
        done.append(pool.submit(hold, "small", 1))
        while len(room._queue) < 2:
            threading.Event().wait(0.001)
        assert order == ["first"]
        asked.set()
    for one in done:
        one.result()
    assert order == ["first", "more than all", "small"]
    with room.take(10):
        assert not room._queue, "all of it was given back"


def test_a_failure_gives_its_part_of_the_room_back() -> None:
    room = SharedRoom(10)
    with pytest.raises(ZeroDivisionError), room.take(10):
        _ = 1 / 0
    with room.take(10):
        pass


@pytest.mark.parametrize(
    ("function", "arguments", "limit", "message", "final"),
    [
        ("time:sleep", (60,), {"SECONDS": 1}, "not decoded within 1 s", False),
        (
            "re:fullmatch",
            ("(a+)+b", "a" * 60),
            {"CPU_SECONDS": 1, "SECONDS": 600},
            "takes more than 1 s to decode",
            True,
        ),
        ("signal:raise_signal", (9,), {}, "lack of memory", False),
        ("signal:raise_signal", (11,), {}, "decoder crash", True),
        ("anomreason.images:load_here", (Path("gone.png"), None, 0), {}, "'gone.png' does not exist", True),
    ],
)
def test_decoding_in_a_process_of_its_own_ends_with_its_cause(
    function: str,
    arguments: tuple[object, ...],
    limit: dict[str, int],
    message: str,
    final: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in limit.items():
        monkeypatch.setattr(decoding, name, value)
    with pytest.raises(UnreadableImage, match=re.escape(message)) as failed:
        call_apart(function, *arguments)
    assert failed.value.final is final


def test_what_is_decoded_apart_is_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "é.png"
    Image.radial_gradient("L").resize((400, 300)).save(path)
    here = load_image(path, 200)
    monkeypatch.setattr("anomreason.images.files.APART_PIXELS", 1)
    assert load_image(path, 200) == here


def hostile(folder: Path) -> list[Path]:
    """Small files, each of which takes 1 to 2 GB to decode."""
    paths = [folder / "0.webp", folder / "1.webp", folder / "2.tiff"]
    Image.new("RGBA", (SIDE, SIDE), (10, 200, 30, 100)).save(paths[0], lossless=True, method=0, quality=0)
    Image.new("RGB", (SIDE, SIDE), (10, 200, 30)).save(paths[1], lossless=True, method=0, quality=0)
    Image.new("F", (SIDE, SIDE), 0.5).save(paths[2], compression="tiff_deflate")
    assert paths[0].stat().st_size < 60
    assert paths[2].stat().st_size < 3_000_000
    return paths


_LOADS = """
import json, resource, sys
import anomreason.decoding
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from anomreason.errors import UnreadableImage
from anomreason.images import load_image

def load(path):
    try:
        return load_image(Path(path)).sent.width
    except UnreadableImage as error:
        return [str(error), error.final]

anomreason.decoding.SECONDS = 500  # on any machine
limit = int(sys.argv[1])
if limit:
    resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
with ThreadPoolExecutor(8) as pool:
    found = list(pool.map(load, sys.argv[2:]))
own = next(line for line in open("/proc/self/status") if line.startswith("VmHWM:"))  # ru_maxrss is inherited
peak = int(own.split()[1]) + resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
print(json.dumps([found, peak * 1024]))
"""


def loads(paths: list[Path], limit: int = 0) -> tuple[list[object], int]:
    """What loading them in eight threads of a process gives, and its peak of memory, bytes."""
    command = [sys.executable, "-c", _LOADS, str(limit), *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    found, peak = json.loads(done.stdout)
    return found, peak


@pytest.mark.slow
def test_small_files_that_declare_huge_images_are_all_decoded_in_bounded_memory(tmp_path: Path) -> None:
    good = tmp_path / "good.png"
    Image.radial_gradient("L").save(good)
    found, peak = loads([*hostile(tmp_path), good])
    assert found == [*[1536] * 3, 256]
    assert peak < 2.5e9


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["WEBP", "TIFF", "PNG", "JPEG", "GIF", "AVIF"])
def test_an_image_that_lacks_memory_is_not_called_damaged(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "large"
    options = {"lossless": True, "method": 0} if kind == "WEBP" else {"speed": 10} if kind == "AVIF" else {}
    Image.new("L" if kind == "GIF" else "RGB", (5000, 5000)).save(path, kind, **options)
    assert load_image(path).sent.width == 1536
    short, _ = loads([path], limit=130_000_000)
    assert short != [1536]
    assert "needs more memory than there is" in str(short)
    assert short[0][1] is False  # type: ignore[index]
