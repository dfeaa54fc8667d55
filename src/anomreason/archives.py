"""Images inside zip and tar archives, under paths such as `photos.zip/cats/1.png`; nothing is unpacked to disk.

for name, member in open_archive(Path("photos.zip")).members.items():
    print(name, member.size)
"""

from __future__ import annotations

import os
import tarfile
import tempfile
import threading
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import IO

from anomreason import buckets, parquet
from anomreason.buckets import Address
from anomreason.errors import UnreadableImage, UsageError

SUFFIXES = (".zip", ".cbz", ".tar", ".tar.gz", ".tgz", ".tar.bz2", ".tbz2", ".tar.xz", ".txz")
_MOST_BYTES = 1 << 28
"""Of one member once unpacked; a larger image is better unpacked first."""
_MOST_RATIO = 200
"""A compressed tar that unpacks to more than this many times its size is a trap ..."""
_MOST_UNPACKED = 1 << 30
"""... where that is more than this many bytes."""
_PART, _PART_OF_TAR = 1 << 20, 1 << 23
"""Bytes of an archive in a bucket that are asked for at a time; a tar is gone through once to list it."""
_DAMAGED = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, ValueError, NotImplementedError)


@dataclass(frozen=True, slots=True)
class Member:
    """A file inside an archive."""

    size: int
    """Bytes once unpacked."""
    mtime: int
    """Nanoseconds since 1970, as the archive says."""
    where: int
    """Number of its entry in a zip, its first byte in a tar."""


@dataclass
class Archive:
    """A zip or tar that is read member by member. Safe in threads."""

    path: Path
    members: dict[str, Member] = field(default_factory=dict)
    """By name, with forward slashes; regular files with safe names alone."""
    passed_over: list[tuple[str, str]] = field(default_factory=list)
    """Reason and name of what is no such file."""
    damage: str | None = None
    """Why what follows its last member cannot be read, e.g. since the file was cut off; None for a whole one."""
    _file: zipfile.ZipFile | IO[bytes] = field(kw_only=True)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def member(self, name: str) -> Member:
        """What `read` reads. Raises UnreadableImage for a name that is not there, and for too many bytes."""
        member, where = self.members.get(name), f"{str(self.path / name)!r}"
        if member is None:
            raise UnreadableImage(f"{where} is not in the archive; check the name", reason="missing")
        if member.size > _MOST_BYTES:
            raise UnreadableImage(
                f"{where} has {member.size:,} bytes, too many to read in an archive; unpack it first",
                reason="too_large",
            )
        return member

    def read(self, name: str) -> bytes:
        """The bytes of a member. Raises UnreadableImage."""
        member, where = self.member(name), f"{str(self.path / name)!r}"
        try:
            data = self._read(member)
        except (*_DAMAGED, RuntimeError) as error:
            raise UnreadableImage(f"{where} cannot be unpacked ({error}); make the archive again") from error
        if len(data) != member.size:
            raise UnreadableImage(f"{where} is cut short in its archive; make the archive again")
        return data

    def _read(self, member: Member) -> bytes:
        if isinstance(self._file, zipfile.ZipFile):
            with self._file.open(self._file.infolist()[member.where]) as file:
                return file.read(member.size)
        if isinstance(self.path, Address):
            return buckets.read(self.path, member.where, member.size)
        with self._lock:
            self._file.seek(member.where)
            return self._file.read(member.size)

    def add(self, name: str, member: Member) -> None:
        """Take a file in under its name, unless the name leads out of the archive."""
        plain = name if "/" in name else name.replace("\\", "/")
        parts = [part for part in plain.split("/") if part not in ("", ".")]
        if plain.startswith("/") or ".." in parts or "\0" in plain or not parts or ":" in parts[0]:
            self.passed_over.append(("members whose names lead out of the archive", name))
        else:
            self.members.setdefault("/".join(parts), member)

    def close(self) -> None:
        """Close the file; an archive that nobody holds any more closes itself."""
        self._file.close()

    __del__ = close


def is_archive(path: str | os.PathLike[str]) -> bool:
    """Whether a file is an archive that is read, by its name; at an address, whether its name is such a one."""
    return os.fspath(path).lower().endswith(SUFFIXES) and (isinstance(path, Address) or os.path.isfile(path))


def inside(path: Path) -> tuple[Archive, str] | None:
    """The archive and member that a path inside of an archive names; None for any other path."""
    for parent in path.parents:
        if is_archive(parent) and not _is_folder(parent):
            return open_archive(parent, damaged=True), "/".join(path.parts[len(parent.parts) :])
    return None


def _is_folder(path: Path) -> bool:
    """Of something in a bucket, which only the bucket knows."""
    return isinstance(path, Address) and ((found := buckets.facts(path)) is None or found.folder)


def stat(path: Path) -> tuple[int, int] | None:
    """Size and time of change (nanoseconds since 1970) of a file, in an archive too; None where there is none.

    None for an address too: what its bucket says came with the listing. For a row of a Parquet file, those of the file.
    """
    if isinstance(path, Address):
        return None
    try:
        found = os.stat(path)
        return found.st_size, found.st_mtime_ns
    except NotADirectoryError:
        if parquet.is_row(path):
            return stat(path.parent)
        try:
            place = inside(path)
        except UsageError:
            return None
        member = place[0].members.get(place[1]) if place else None
        return (member.size, member.mtime) if member else None
    except (OSError, ValueError):
        return None


def open_archive(path: Path, *, damaged: bool = False) -> Archive:
    """The archive, opened once as long as it does not change. Raises UsageError for one that cannot be read.

    damaged: take a tar that was cut off too; it has the members before the cut.
    """
    try:
        if isinstance(path, Address):
            there = buckets.facts(path)
            if there is None:
                raise FileNotFoundError("it does not exist")
            with _IN_BUCKETS:  # else several threads list the same tar
                archive = _opened(path, there.size or 0, there.mtime or 0)
        else:
            found = os.stat(path)
            archive = _opened(path, found.st_size, found.st_mtime_ns)
        if archive.damage and not (damaged and archive.members):
            raise ValueError(archive.damage)
        return archive
    except (*_DAMAGED, RuntimeError) as error:
        raise UsageError(
            f"the archive {str(path)!r} cannot be read ({error}); make it again, or unpack it and give the folder"
        ) from None


_IN_BUCKETS = threading.Lock()


@lru_cache(maxsize=8)
def _opened(path: Path, size: int, mtime: int) -> Archive:
    if isinstance(path, Address):
        zipped = buckets.read(path, 0, min(2, size)) == b"PK"
    else:
        with path.open("rb") as file:
            zipped = file.read(2) == b"PK"
    return _zip(path) if zipped else _tar(path, size)


def _zip(path: Path) -> Archive:
    file = buckets.reader(path, _PART) if isinstance(path, Address) else path
    archive = Archive(path, _file=(opened := zipfile.ZipFile(file)))
    for number, info in enumerate(opened.infolist()):
        kind = info.external_attr >> 16 & 0o170000
        if info.is_dir():
            continue
        if kind not in (0, 0o100000):
            archive.passed_over.append(("links and devices in archives", info.filename))
        elif info.flag_bits & 1:
            archive.passed_over.append(("members with a password (unpack the archive)", info.filename))
        else:
            archive.add(info.filename, Member(info.file_size, _nanoseconds(info), number))
    return archive


def _nanoseconds(info: zipfile.ZipInfo) -> int:
    try:
        return int(datetime(*info.date_time, tzinfo=UTC).timestamp()) * 10**9
    except ValueError:  # month 0, as some programs write it
        return 0


def _tar(path: Path, size: int) -> Archive:
    plain, damage = _uncompressed(path, size)
    archive = Archive(path, damage=damage, _file=plain)
    with tarfile.open(fileobj=plain, mode="r:") as opened:
        for info in _infos(opened, archive):
            if info.isreg() and not info.issparse():
                archive.add(info.name, Member(info.size, int(info.mtime * 10**9), info.offset_data))
            elif not info.isdir():
                archive.passed_over.append(("links and devices in archives", info.name))
            opened.members = []  # type: ignore[attr-defined]  # else all are kept in memory
    return archive


def _infos(opened: tarfile.TarFile, archive: Archive) -> Iterator[tarfile.TarInfo]:
    try:
        yield from opened
    except _DAMAGED as error:
        archive.damage = archive.damage or str(error)


def _uncompressed(path: Path, size: int) -> tuple[IO[bytes], str | None]:
    """A tar as it is, or unpacked into a file without a name, which goes with the process; and its damage."""
    if path.name.lower().endswith(".tar"):
        return buckets.reader(path, _PART_OF_TAR) if isinstance(path, Address) else path.open("rb"), None
    if isinstance(path, Address):
        raise ValueError("a compressed tar must be unpacked from its start to reach an image")
    damage = None
    plain = tempfile.TemporaryFile()  # noqa: SIM115
    try:
        for part in _parts(path):
            if plain.tell() > max(_MOST_RATIO * size, _MOST_UNPACKED):
                raise ValueError(f"it unpacks to more than {_MOST_RATIO} times its size")
            plain.write(part)
    except EOFError as error:
        damage = str(error)
    except BaseException:
        plain.close()
        raise
    plain.seek(0)
    return plain, damage


def _parts(path: Path) -> Iterator[bytes]:
    import bz2
    import gzip
    import lzma

    name = path.name.lower()
    unpacked = lzma.open if name.endswith("xz") else bz2.open if name.endswith("2") else gzip.open
    try:
        with unpacked(path, "rb") as file:
            while part := file.read1(1 << 16):  # of a file that was cut off, all that can be unpacked
                yield part
    except lzma.LZMAError as error:
        raise ValueError(str(error)) from None
