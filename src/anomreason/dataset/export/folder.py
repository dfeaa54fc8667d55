"""The folder of an export: written beside its place, put there whole, with the sums of all files.

draft = Draft(Path("out"), manifest)
draft.write("data.json", [b"{}"])
draft.finish()
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from anomreason.errors import StorageError, UsageError, shown
from anomreason.files import read_object, write_atomically

MANIFEST, SUMS, CARD = "MANIFEST", "SHA256SUMS", "README.md"


class Draft:
    """An export being written. What a killed one left is continued: images that are there whole are not copied again.

    Everything is written into `.NAME.anomreason-draft` beside the folder, which takes the folder's place at the end.
    """

    def __init__(self, out: Path, settings: Mapping[str, object]) -> None:
        """Raises UsageError when `out` is anything but new or an untouched export of the same settings."""
        self.out = Path(os.path.abspath(out))
        check_place(self.out, settings)
        self.folder = self.out.with_name(f".{self.out.name}.anomreason-draft")
        self._old = self.out.with_name(f".{self.out.name}.anomreason-old")
        self._known: dict[str, str] = {}
        """SHA-256 of the images, by place."""
        self._written: set[str] = set()
        if self._old.exists() and self.out.exists():  # killed after both were renamed
            shutil.rmtree(self._old)
        self.folder.mkdir(parents=True, exist_ok=True)

    def image(self, place: str, sha256: str, data: bytes, source: Path, link: bool) -> None:
        """Put an image's file at a place.

        data: its bytes, which the hash is known to be of. link: make a hard link to `source` where that works.
        """
        path = self._path(place)
        self._known[place] = sha256
        if path.is_file() and path.stat().st_size == len(data) and sum_of(path) == sha256:
            return
        if link:
            with suppress(OSError):
                path.unlink(missing_ok=True)
                os.link(os.path.realpath(source), path)
                return
        write_atomically(path, data, sync=False)

    def write(self, place: str, parts: Iterable[bytes]) -> None:
        """Write a file of data, part by part."""
        write_atomically(self._path(place), parts, sync=False)

    @contextmanager
    def open(self, place: str) -> Iterator[IO[bytes]]:
        """A file of data to write to; an old one is replaced."""
        with self._path(place).open("wb") as file:
            yield file

    def path(self, place: str) -> Path:
        """Where a library may write a file of data itself."""
        return self._path(place)

    def _path(self, place: str) -> Path:
        self._written.add(place)
        path = self.folder / place
        path.parent.mkdir(parents=True, exist_ok=True)
        return path

    def remove(self, place: str) -> None:
        """Take a file of data away again."""
        self._written.discard(place)
        (self.folder / place).unlink()

    def finish(self) -> tuple[int, int]:
        """Write the sums and put the folder in its place. Gives the number of files and their bytes."""
        for place in list(places(self.folder)):
            if place not in self._written:
                (self.folder / place).unlink()
        for folder, _, _ in os.walk(self.folder, topdown=False):
            with suppress(OSError):  # not empty
                os.rmdir(folder)
        lines = (
            f"{self._known.get(place) or sum_of(self.folder / place)}  {place}\n" for place in sorted(self._written)
        )
        self.write(SUMS, [line.encode() for line in lines])
        size = sum((self.folder / place).stat().st_size for place in self._written)
        if self.out.exists():
            with suppress(OSError):  # an empty folder
                self.out.rmdir()
        if self.out.exists():
            os.replace(self.out, self._old)
        os.replace(self.folder, self.out)
        shutil.rmtree(self._old, ignore_errors=True)
        return len(self._written), size


def check_place(out: Path, settings: Mapping[str, object]) -> None:
    """Raises UsageError unless an export with these settings may be written to `out`."""
    if not out.exists():
        if not out.parent.is_dir():
            raise UsageError(f"the folder {str(out.parent)!r} does not exist; make it first")
        return
    if not out.is_dir():
        raise UsageError(f"{str(out)!r} is a file; give a new folder")
    if not any(out.iterdir()):
        return
    if not (out / MANIFEST).is_file() or not (out / SUMS).is_file():
        raise UsageError(f"{str(out)!r} holds other files and no export; give a new folder")
    before = read_object(out / MANIFEST).get("settings")
    now = json.loads(json.dumps(settings))
    if before != now:
        old = before if isinstance(before, dict) else {}
        name = next((key for key in sorted({*now, *old}) if now.get(key) != old.get(key)), "settings")
        raise UsageError(
            f"{str(out)!r} is an export with {name} = {shown(old.get(name))}, and not {shown(now.get(name))}; give a "
            "new folder"
        )
    sums = read_sums(out)
    strange = next((place for place in places(out) if place not in sums and place != SUMS), None)
    if strange is not None:
        raise UsageError(
            f"{str(out)!r} holds {strange!r}, which is no part of the export; move it, or give a new folder"
        )
    if (out / CARD).is_file() and sum_of(out / CARD) != sums.get(CARD):
        raise UsageError(f"{str(out / CARD)!r} was edited, and would be written anew; move it, or give a new folder")


def places(folder: Path) -> Iterator[str]:
    """All files below a folder, links and devices too, relative to it and in order."""
    for top, folders, files in os.walk(folder):
        folders.sort()
        links = [name for name in folders if os.path.islink(os.path.join(top, name))]
        yield from (Path(top, name).relative_to(folder).as_posix() for name in sorted([*files, *links]))


def read_sums(folder: Path) -> dict[str, str]:
    """SHA-256 by place. Raises UsageError for a damaged file."""
    try:
        lines = (folder / SUMS).read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{str(folder / SUMS)!r} cannot be read ({error}); give the folder of an export") from None
    found: dict[str, str] = {}
    for number, line in enumerate(lines, 1):
        sha, gap, place = line.partition("  ")
        if len(sha) != 64 or not gap or not place:
            raise UsageError(f"{folder / SUMS}, line {number}: {shown(line)} is no sum and file; get the export again")
        found[place] = sha
    return found


def sum_of(path: Path) -> str:
    """SHA-256 of a file, hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_bytes(value: Any) -> bytes:
    """One line of JSON; halves of characters become question marks."""
    return json.dumps(value, ensure_ascii=False, allow_nan=False).encode("utf-8", "replace")


@contextmanager
def storing(out: Path) -> Iterator[None]:
    """A disk that is full, or a place that may not be written, as StorageError."""
    try:
        yield
    except OSError as error:
        raise StorageError(
            f"cannot write the export {str(out)!r}: {error.strerror or error}; free some space or check the "
            "permissions, then run the same command again"
        ) from error
