"""Reads an image from a request: as the body, or as the file of a form; bounded in bytes, memory and time.

async with Uploads(most=20_000_000).receiving(request) as upload:
    job = await service.submit(upload, client)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass

from fastapi import HTTPException, Request
from python_multipart.exceptions import FormParserError
from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

FIELD = "image"
ROOM = 256_000_000
"""Bytes of uploads that are being received or stored, all together."""
IDLE = 20.0
"""Seconds that a client may send nothing."""
LONGEST = 300.0
"""Seconds for a whole upload."""
NEW = 1.0
"""Seconds after which an upload is a slow one, for which no work waits."""
_AROUND = 16 * 1024
"""Bytes of a form besides the file."""
_DRAINED, _DRAINING = 128_000_000, 10.0
"""Bytes and seconds of a refused upload that are still read, so that its sender reads the answer."""
_NAME = 120
"""Characters of a file's name that are kept."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file as it was sent."""

    name: str
    data: bytes


class Uploads:
    """All uploads that are being received or stored."""

    def __init__(self, most: int) -> None:
        """most: bytes of an image file."""
        self.most = most
        self.held = 0
        """Bytes in memory."""
        self._under_way: list[_Stream] = []
        """Those that are being received or stored, the oldest first."""

    @property
    def under_way(self) -> int:
        """Uploads that are being received or stored."""
        return len(self._under_way)

    async def all_taken(self, seconds: float) -> None:
        """Wait until no image is being received or stored, so many seconds at most; for no upload older than NEW."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                while self._under_way and (newest := self._under_way[-1]).begun > time.monotonic() - NEW:
                    await newest.taken.wait()

    @asynccontextmanager
    async def receiving(self, request: Request) -> AsyncIterator[Upload]:
        """The image that a request brings; its bytes are counted until it is left, so that a slow disk fills no memory.

        Raises HTTPException when it cannot be had.
        """
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        with self._counted() as stream:
            if kind == "multipart/form-data":
                name, data = await _file_of_form(request, stream(request, self.most + _AROUND))
            elif kind.startswith("image/") or kind == "application/octet-stream":
                name, data = "image", b"".join([chunk async for chunk in stream(request, self.most)])
            else:
                raise HTTPException(
                    415, f"send an image file: as the body, with its type (image/png), or as the form field {FIELD!r}"
                )
            if len(data) > self.most:
                raise _too_large(self.most)
            yield Upload(_plain(name), data)

    @contextmanager
    def _counted(self) -> Iterator[_Stream]:
        stream = _Stream(self)
        self._under_way.append(stream)
        try:
            yield stream
        finally:
            self.held -= stream.held
            self._under_way.remove(stream)
            stream.taken.set()

    def hold(self, count: int) -> None:
        """So many bytes more are in memory. Raises HTTPException when that is too much."""
        if self.held + count > ROOM:
            raise HTTPException(503, "too many images are being received; try again in a moment", {"Retry-After": "2"})
        self.held += count


class _Stream:
    """The chunks of one body, counted."""

    def __init__(self, uploads: Uploads) -> None:
        self.held = 0
        self.begun = time.monotonic()
        self.taken = asyncio.Event()
        self._uploads = uploads

    async def __call__(self, request: Request, most: int) -> AsyncGenerator[bytes]:
        length = request.headers.get("content-length", "")
        if length.isdecimal() and len(length) < 16 and int(length) > most:
            await _drain(request)
            raise _too_large(self._uploads.most)
        end, chunks = time.monotonic() + LONGEST, aiter(request.stream())
        got = 0
        while True:
            try:
                async with asyncio.timeout(min(IDLE, end - time.monotonic())):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except ClientDisconnect:
                raise HTTPException(400, "the upload broke off; send it again") from None
            except TimeoutError:
                late = (
                    f"nothing came for {IDLE:g} s, or the upload took longer than {LONGEST:g} s; send a smaller image"
                )
                raise HTTPException(408, late, {"Connection": "close"}) from None
            got += len(chunk)
            if got > most:
                await _drain(request)
                raise _too_large(self._uploads.most)
            self._uploads.hold(len(chunk))
            self.held += len(chunk)
            yield chunk


def _too_large(most: int) -> HTTPException:
    return HTTPException(413, f"the image is larger than {most:,} bytes; scale it down, or save it as JPEG")


async def _drain(request: Request) -> None:
    """Read on for a while and drop it: a sender who is cut off does not see the answer."""
    left = _DRAINED
    try:
        async with asyncio.timeout(_DRAINING):
            while left > 0:
                message = await request.receive()
                left -= len(message.get("body", b""))
                if message["type"] != "http.request" or not message.get("more_body"):
                    return
    except TimeoutError:
        return


class _Form(MultiPartParser):
    """A form whose one file stays in memory, which is counted, and is copied once: not on disk, which may be full."""

    def __init__(self, request: Request, stream: AsyncGenerator[bytes]) -> None:
        super().__init__(request.headers, stream, max_files=1, max_fields=8, max_part_size=_AROUND)
        self.content: list[bytes] = []

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        if self._current_part.file is None:
            super().on_part_data(data, start, end)
        else:
            self.content.append(data[start:end])


async def _file_of_form(request: Request, stream: AsyncGenerator[bytes]) -> tuple[str, bytes]:
    parser = _Form(request, stream)
    try:
        form = await parser.parse()
    except (MultiPartException, FormParserError) as error:
        raise HTTPException(400, f"the form cannot be read ({error}); send one file as {FIELD!r}") from None
    try:
        file = form.get(FIELD)
        if not isinstance(file, UploadFile):
            raise HTTPException(422, f"the form has no file {FIELD!r}; send the image under this name")
        return file.filename or "image", b"".join(parser.content)
    finally:
        await form.close()


def _plain(name: str) -> str:
    """A file's name without folders, and without what no terminal or database should get."""
    last = name.replace("\\", "/").rpartition("/")[2]
    plain = "".join(c if c.isprintable() else " " for c in last).encode("utf-8", "replace").decode().strip()
    return plain[-_NAME:] or "image"
