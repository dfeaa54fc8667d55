"""Facts about images inside zip and tar archives."""

import io
import json
import os
import tarfile
import threading
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from PIL import Image
from tests.forking import run_command

from anomreason import archives
from anomreason.decoding import SharedRoom
from anomreason.errors import UnreadableImage, UsageError
from anomreason.images import browser_can_show, image_size, load_image, thumbnail
from anomreason.runs import read_results
from anomreason.sources.inputs import find_images

KINDS = ["p.zip", "p.cbz", "p.tar", "p.tar.gz", "p.tgz", "p.tar.bz2", "p.tar.xz", "P.ZIP"]


def png(colour: str = "red") -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (40, 30), colour).save(out, "PNG")
    return out.getvalue()


def packed(path: Path, files: dict[str, bytes]) -> Path:
    if path.suffix.lower() in (".zip", ".cbz"):
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made:
            for name, data in files.items():
                made.writestr(zipfile.ZipInfo(name, (2024, 5, 6, 7, 8, 10)), data)
        return path
    mode = {"gz": "w:gz", "tgz": "w:gz", "bz2": "w:bz2", "xz": "w:xz"}.get(path.name.rpartition(".")[2], "w")
    with tarfile.open(path, mode) as made:  # type: ignore[call-overload]
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime = len(data), 1_714_979_290
            made.addfile(info, io.BytesIO(data))
    return path


def names(path: Path) -> list[str]:
    return [image.name for image in find_images([path]).images]


@pytest.mark.parametrize("kind", KINDS)
def test_images_in_an_archive_are_read_as_those_in_a_folder(tmp_path: Path, kind: str) -> None:
    files = {"b/Zoë.png": png("blue"), "a.png": png(), "notes.txt": b"x", "__MACOSX/a.png": b"x", "b/._a.png": b"x"}
    path = packed(tmp_path / kind, files)
    assert names(path) == ["a.png", "b/Zoë.png"]
    image = find_images([path]).images[1]
    assert load_image(image.path).encoded.data == files["b/Zoë.png"]
    assert image_size(image.path) == (40, 30)
    assert thumbnail(image.path, 20)
    assert archives.stat(image.path) == (len(files["b/Zoë.png"]), 1_714_979_290 * 10**9)
    with ThreadPoolExecutor(8) as pool:
        assert len({loaded.sha256 for loaded in pool.map(load_image, [image.path] * 40)}) == 1


@pytest.mark.parametrize("read", [load_image, image_size, browser_can_show, lambda path: thumbnail(path, 20)])
@pytest.mark.parametrize("name", ["p.zip/a.png", "p.tar/a.png", "a.png"])
def test_an_image_waits_for_memory_before_it_is_read(
    tmp_path: Path, name: str, read: Callable[[Path], object], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(png())
    for archive in ("p.zip", "p.tar"):
        packed(tmp_path / archive, {"a.png": png()})
    room = SharedRoom(1)  # whoever asks for more than there is gets all
    for module in ("anomreason.images", "anomreason.images.files"):
        monkeypatch.setattr(f"{module}.DECODING", room)
    with ThreadPoolExecutor(2) as pool:
        with room.take(1):
            reading = [pool.submit(read, tmp_path / name) for _ in range(2)]
            while len(room._queue) < 2 and not any(one.done() for one in reading):
                threading.Event().wait(0.001)
            assert not any(one.done() for one in reading)
        assert all(one.result() for one in reading)
    assert not room._queue


def test_archives_beside_folders_and_in_folders(tmp_path: Path) -> None:
    path = packed(tmp_path / "p.zip", {"a.png": png()})
    (tmp_path / "f").mkdir()
    (tmp_path / "f" / "b.png").write_bytes(png())
    found = find_images([tmp_path / "f", path])
    assert [image.name for image in found.images] == ["f/b.png", "p.zip/a.png"]
    found = find_images([tmp_path])
    assert [image.name for image in found.images] == ["f/b.png"]
    assert "archives (give them as inputs) (1)" in found.passed_over[0]


def linked_tar(path: Path) -> None:
    with tarfile.open(path, "w") as made:
        for name, kind in {"l.png": tarfile.SYMTYPE, "h.png": tarfile.LNKTYPE, "f.png": tarfile.FIFOTYPE}.items():
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            made.addfile(info)


def linked_zip(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as made:
        info = zipfile.ZipInfo("l.png")
        info.create_system, info.external_attr = 3, 0o120777 << 16
        made.writestr(info, "/etc/passwd")


@pytest.mark.parametrize(("name", "write"), [("p.tar", linked_tar), ("p.zip", linked_zip)])
def test_links_in_archives_are_passed_over(tmp_path: Path, name: str, write: Callable[[Path], None]) -> None:
    write(tmp_path / name)
    with pytest.raises(UsageError, match=r"holds no images.*links and devices in archives"):
        find_images([tmp_path / name])


@pytest.mark.parametrize("kind", ["p.zip", "p.tar"])
@pytest.mark.parametrize("evil", ["../x.png", "/etc/x.png", "a/../../x.png", "..\\x.png", "C:\\x.png"])
def test_names_that_lead_out_of_an_archive_are_passed_over(tmp_path: Path, kind: str, evil: str) -> None:
    found = find_images([packed(tmp_path / kind, {evil: png(), "sub\\a.png": png()})])
    assert [image.name for image in found.images] == ["sub/a.png"]
    assert "lead out of the archive (1)" in found.passed_over[0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_a_damaged_archive_is_an_error_or_its_images_are(tmp_path: Path, kind: str, share: float) -> None:
    path = packed(tmp_path / kind, {f"{n}.png": os.urandom(5000) for n in range(9)})
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    try:
        images = find_images([path]).images
    except UsageError:
        images = []
    for image in images:
        with pytest.raises(UnreadableImage):
            load_image(image.path)


def test_a_member_that_claims_much_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "p.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as made, made.open("b.png", "w") as member:
        for _ in range(300):
            member.write(bytes(1 << 20))
    with pytest.raises(UnreadableImage, match="too many to read in an archive"):
        load_image(path / "b.png")


def test_a_compressed_tar_that_swells_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archives, "_MOST_UNPACKED", 1 << 16)
    path = packed(tmp_path / "p.tar.xz", {"b.png": bytes(50_000_000)})
    with pytest.raises(UsageError, match="unpacks to more than 200 times its size"):
        find_images([path])


@pytest.mark.parametrize("path", ["p.zip/no.png", "p.zip/a.png/b.png", "gone.zip/a.png", "f.png/a.png"])
def test_a_path_that_leads_nowhere_says_so(tmp_path: Path, path: str) -> None:
    packed(tmp_path / "p.zip", {"a.png": png()})
    (tmp_path / "f.png").write_bytes(png())
    assert archives.stat(tmp_path / path) is None
    assert not browser_can_show(tmp_path / path)
    with pytest.raises(UnreadableImage, match=r"does not exist|not in the archive"):
        load_image(tmp_path / path)


@pytest.mark.parametrize("kind", ["p.zip", "p.tar.gz"])
def test_a_run_over_an_archive_continues_and_shows_its_images(tmp_path: Path, kind: str) -> None:
    known = {"objects": [], "anomalies": []}
    (tmp_path / "truth.json").write_text(json.dumps({"a.png": known, "b.png": known}))
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        (tmp_path / name).write_bytes(png(colour))
    path = packed(tmp_path / kind, {name: (tmp_path / name).read_bytes() for name in ("a.png", "b.png")})
    command = ["detect", path, "--model", f"sim:{tmp_path / 'truth.json'}"]
    command += ["--run", tmp_path / "run", "--yes", "--schedule", "single"]
    first = run_command(command)
    assert first.returncode == 0, first.stderr + first.stdout
    os.utime(path)
    second = run_command(command)
    assert "2 of 2 images already processed" in second.stderr
    assert sorted(read_results(tmp_path / "run")) == ["a.png", "b.png"]
    assert len(list((tmp_path / "run" / "report" / "thumbs").iterdir())) == 2
    pages = "".join(page.read_text() for page in (tmp_path / "run" / "report" / "pages").iterdir())
    assert "inside an archive" in pages


@pytest.mark.parametrize(
    ("start", "words"),
    [
        (b"PK\3\4....", "zip archive.*unpack it"),
        (b"\x1f\x8b\x08.....", "gzip archive.*unpack it"),
        (b"7z\xbc\xaf\x27\x1c", "7-Zip archive.*unpack it"),
        (b"Rar!\x1a\x07", "RAR archive.*unpack it"),
        (b"PAR1" + bytes(100), "Parquet table.*docs/detect.md"),
        (b"%PDF-1.7", "PDF.*export its pages"),
    ],
)
def test_other_containers_are_refused_with_the_right_advice(tmp_path: Path, start: bytes, words: str) -> None:
    path = tmp_path / "photos"
    path.write_bytes(start)
    with pytest.raises(UnreadableImage, match=words):
        load_image(path)
