"""What is being received or stored is counted, so that many large images never fill the memory."""

import asyncio

import pytest
from fastapi import HTTPException, Request

from anomreason.serve import uploads
from anomreason.serve.uploads import Uploads


def _request(data: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": data, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", b"image/png")]}, receive)


def test_an_image_that_is_being_stored_still_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(uploads, "ROOM", 6)

    async def send() -> None:
        received = Uploads(most=10)
        async with received.receiving(_request(b"1234")) as upload:
            assert (upload.data, received.held) == (b"1234", 4)
            with pytest.raises(HTTPException, match="too many images are being received"):
                async with received.receiving(_request(b"567")):
                    pass
            assert received.held == 4
        assert received.held == 0

    asyncio.run(send())
