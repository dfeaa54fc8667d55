"""Files in buckets and on web servers, as paths `s3://bucket/photos/1.png`: whatever fsspec opens.

    photo = Address("s3://bucket/photos/1.png")
    photo.read_bytes(), [found.name for found in listed(photo.parent)]

Keys come from where the protocol's own package looks for them (environment, its files, the machine's role): an address
that carries one is refused, since addresses are kept in results. Safe in threads; a process of its own opens anew.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PosixPath
from typing import IO, Any, NamedTuple, Self

from anomreason.errors import AnomreasonError, MissingExtra, UnreachableImage, UnreadableImage, UsageError, require

MOST_BYTES = 1 << 28
"""Of one file; a larger one is better downloaded first."""
SECONDS = 60.0
"""Until a file, or the part of it that was asked for, must be here."""
_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_WEB = frozenset(("http", "https"))
_PACKAGES = {
    **dict.fromkeys(("s3", "s3a"), "s3fs"),
    **dict.fromkeys(("gs", "gcs"), "gcsfs"),
    **dict.fromkeys(("az", "abfs", "abfss"), "adlfs"),
    "hf": "huggingface_hub",
    "oss": "ossfs",
    "oci": "ocifs",
}
"""What opens a protocol, where fsspec alone does not."""
_NO_STORES = frozenset(
    {
        *("file", "local", "asynclocal", "async_wrapper", "asyncwrapper", "data", "dir", "generic", "reference", "git"),
        *("zip", "tar", "libarchive", "cached", "blockcache", "filecache", "simplecache", "dask"),
    }
)
"""What fsspec can open too, and is no place of its own."""


class Address(PosixPath):
    """The address of a file or folder, where a path is expected. It is never looked for on this machine."""

    def __str__(self) -> str:
        protocol, *rest = self.parts or ("",)
        return f"{protocol}//{'/'.join(rest)}" if protocol.endswith(":") else super().__str__()

    def absolute(self) -> Self:
        return self

    @property
    def protocol(self) -> str:
        return self.parts[0].removesuffix(":")

    def read_bytes(self) -> bytes:
        """The whole file. Raises UnreadableImage."""
        return read(self)

    def open(self, mode: str = "rb", *_: object, **__: object) -> IO[Any]:  # type: ignore[override]
        """The whole file in memory, to be read as bytes. Raises UnreadableImage."""
        held = _Held(read(self))
        held.name = str(self)
        return held


class _Held(io.BytesIO):
    name: str


def is_address(text: str | os.PathLike[str]) -> bool:
    """Whether a text is an address such as `s3://bucket/photos`, whoever opens it."""
    return isinstance(text, Address) or (isinstance(text, str) and _ADDRESS.match(text) is not None)


def local_or_address(text: str | Path) -> Path:
    """The path that a text stands for, as `run.json` holds it."""
    return Address(text) if is_address(text) else Path(text)


def checked_address(text: str) -> Address:
    """An address as somebody gave it. Raises UsageError, which never repeats what may be a key."""
    shown = _plain(text)
    found = _ADDRESS.match(text)
    protocol = found[1].lower() if found else ""
    rest = text[found.end() :] if found else text
    if re.match(r"[^/]*@" if protocol in _WEB else r"[^/@]*:[^/@]*@", rest):
        raise UsageError(
            f"{shown!r}: an address with a password in it would be kept in the results; leave it out, and put keys "
            "where the protocol's package looks for them (environment variables, its configuration)"
        )
    if protocol in _WEB and ("?" in rest or "#" in rest):
        raise UsageError(
            f"{shown!r}: what follows '?' or '#' in a web address may hold a key and would be kept in the results; "
            "give addresses without, or download the images"
        )
    if "::" in text or protocol in _NO_STORES:
        raise UsageError(f"{shown!r} is no place in a bucket; give the bucket's own address, or a path of this machine")
    parts = rest.strip("/").split("/")
    if not parts[0] or any(part in ("", ".", "..") for part in parts) or "\0" in text:
        raise UsageError(f"{shown!r} is no whole address; write it as s3://BUCKET/FOLDER, without '..' or empty parts")
    address = Address(f"{protocol}://{'/'.join(parts)}")
    _store(address)
    return address


def _plain(text: str) -> str:
    """An address, or a message with one, without user names, passwords and queries."""
    text = re.sub(r"(://)[^/\s@]*@(?=[^/\s]*[/.:])", r"\1", text)
    text = re.sub(r"(?i)(https?://)[^/\s?#]*@", r"\1", text)
    return re.sub(r"(?i)(https?://[^\s?#'\"]*)[?#][^\s'\"]*", r"\1", text)


def _store(address: Address) -> tuple[Any, str]:
    """What opens the address, and the address in its words. Raises UsageError for what is not installed."""
    protocol, package = address.protocol, _PACKAGES.get(address.protocol)
    try:
        require(f"addresses such as {protocol}://", "cloud", "fsspec")
    except MissingExtra as error:
        also = f", then pip install {package}" if package else ""
        raise UsageError(f"{error}{also}") from None
    import fsspec
    from fsspec.core import url_to_fs

    try:
        fsspec.get_filesystem_class(protocol)
    except ValueError:
        raise UsageError(f"{str(address)!r}: {protocol}:// is unknown; for S3 and the like write s3://") from None
    except ImportError as error:
        how = f"pip install {package}" if package else f"see what fsspec says: {error}"
        raise UsageError(f"for addresses such as {protocol}:// a package is missing: {how}") from None
    with guarded(address):
        store, _ = url_to_fs(str(Address(*address.parts[:2])))
        return store, store._strip_protocol(str(address))


@contextmanager
def guarded(address: Address) -> Iterator[None]:
    """Whatever a bucket's package raises becomes UnreadableImage: of a missing file, or UnreachableImage."""
    try:
        yield
    except AnomreasonError:
        raise
    except Exception as error:
        raise _refused(address, error) from error


def _refused(address: Address, error: Exception) -> UnreadableImage:
    where, status = repr(str(address)), _status(error)
    said = _plain(" ".join(str(error).split()))[:200] or type(error).__name__
    if isinstance(error, FileNotFoundError | NotADirectoryError | IsADirectoryError) or status in (404, 410):
        return UnreadableImage(f"{where} does not exist; check the address", final=False, reason="missing")
    if isinstance(error, PermissionError) or status in (401, 403) or "Credential" in type(error).__name__:
        return UnreachableImage(
            f"{where} may not be read ({said}); check the keys for {address.protocol}:// and what they allow, then run "
            "the same command again",
            reason="forbidden",
        )
    if isinstance(error, OSError) and "range" in said.lower() and "satisf" in said.lower():
        return UnreadableImage(f"{where} is empty (0 bytes); upload it again", reason="empty")
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:
        what = f"did not come within {SECONDS:g} s"
    else:
        what = f"could not be read ({type(error).__name__}: {said})"
    return UnreachableImage(
        f"{where} {what}; check the network and the address of the store, then run the same command again"
    )


def _status(error: Exception) -> int | None:
    """The status of HTTP that an error carries."""
    response = getattr(error, "response", None)
    for holder, name in ((error, "status"), (error, "code"), (response, "status_code")):
        value = getattr(holder, name, None)
        if isinstance(value, int) or (isinstance(value, str) and value.isdigit()):
            return int(value)
    return None


def read(address: Address, start: int = 0, length: int | None = None) -> bytes:
    """A file's bytes, or `length` of them from `start` on; nothing is kept. Raises UnreadableImage."""
    if length == 0:
        return b""
    most = MOST_BYTES if length is None else length
    store, path = _store(address)
    with guarded(address):
        if address.protocol in _WEB:
            data = _streamed(store, path, most + 1, None if length is None else f"bytes={start}-{start + length - 1}")
        else:
            data = store.cat_file(path, start=start, end=start + most + (length is None), **_bound(store))
    if length is not None and len(data) != length:
        raise UnreachableImage(
            f"{str(address)!r} gave {len(data):,} of {length:,} bytes: it has changed, or its server sends no parts of "
            "files; run the same command again, or download it"
        )
    if len(data) > most:
        raise UnreadableImage(
            f"{str(address)!r} has more than the {most:,} bytes that are read from a bucket; download it first",
            reason="too_large",
        )
    return bytes(data)


def _bound(store: Any) -> dict[str, float]:
    """Makes a call end in time: the retries of s3fs, one inside the other, take half an hour where nobody answers."""
    from fsspec.asyn import AsyncFileSystem

    return {"timeout": SECONDS} if isinstance(store, AsyncFileSystem) else {}


def _streamed(store: Any, path: str, most: int, part_asked: str | None) -> bytes:
    """From a web server, whose answer may be longer than what was asked for. part_asked: as HTTP's Range has it."""
    from aiohttp import ClientTimeout

    parts, size = [], 0
    given = {"headers": {**store.kwargs.get("headers", {}), "Range": part_asked}} if part_asked else {}
    # Any size spares the question for it.
    with store.open(path, "rb", block_size=0, size=1, timeout=ClientTimeout(SECONDS), **given) as file:
        while size < most and (part := file.read(min(1 << 20, most - size))):
            parts.append(part)
            size += len(part)
    return b"".join(parts)


class FoundObject(NamedTuple):
    """A file of a listing."""

    name: str
    """From the listed folder, with forward slashes."""
    size: int | None
    mtime: int | None
    """Time of change, nanoseconds since 1970; None where the store does not tell."""


class Facts(NamedTuple):
    """What a store says of one address."""

    folder: bool
    size: int | None
    mtime: int | None


@lru_cache(maxsize=10_000)
def facts(address: Address) -> Facts | None:
    """What there is at an address, asked once until `forget`; None for nothing. Raises UnreadableImage."""
    store, path = _store(address)
    try:
        with guarded(address):
            store.invalidate_cache(path)  # what an earlier search listed
            info = store.info(path, **_bound(store))
    except UnreadableImage as error:
        if error.reason == "missing":
            return None
        raise
    return Facts(info.get("type") == "directory", info.get("size"), _mtime(info))


def forget() -> None:
    """Ask anew what there is: for a search, which may come long after the one before."""
    facts.cache_clear()


def listed(folder: Address, depth: int | None = None) -> list[FoundObject]:
    """The files below a folder, with one request for many of them. depth: levels of folders; None for all.

    Raises UnreadableImage, and UsageError for a web server.
    """
    if folder.protocol in _WEB:
        raise UsageError(f"{str(folder)!r}: a web server cannot be searched; give a list of addresses (.jsonl, .csv)")
    store, path = _store(folder)
    with guarded(folder):
        store.invalidate_cache(path)
        found = store.find(path, maxdepth=depth, detail=True)
    start = f"{path.rstrip('/')}/"
    return [
        FoundObject(name.removeprefix(start), info.get("size"), _mtime(info))
        for name, info in found.items()
        if info.get("type") == "file" and name.startswith(start) and name != start
    ]


def _mtime(info: dict[str, Any]) -> int | None:
    """Stores call it by many names."""
    for key in ("mtime", "LastModified", "last_modified", "modified", "updated", "created"):
        value = info.get(key)
        if isinstance(value, datetime):
            return int(value.timestamp() * 10**9)
        if isinstance(value, int | float):
            return int(value * 10**9)
    return None


def reader(address: Address, block: int) -> io.BufferedReader:
    """A large file, of which `block` bytes are asked for at a time. Its reading raises UnreadableImage."""
    found = facts(address)
    if found is None or found.size is None:
        raise UnreachableImage(f"{str(address)!r} does not exist, or its server does not tell its size; download it")
    return io.BufferedReader(_Parts(address, found.size), block)


class _Parts(io.RawIOBase):
    def __init__(self, address: Address, size: int) -> None:
        self._address, self._size, self._at = address, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        self._at = offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        length = max(0, min(len(buffer), self._size - self._at))
        buffer[:length] = read(self._address, self._at, length)
        self._at += length
        return length
