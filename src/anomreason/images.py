"""Pictures, opened once and safely: oriented, bounded, encoded, cropped, named by a hash."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from anomreason.anomaly import Region, SentImage


@dataclass(frozen=True)
class Encoded:
    """Bytes as a model gets them."""

    data: bytes
    mime: str
    width: int
    height: int

    @cached_property
    def sha256(self) -> str:
        """Of `data`, hex."""
        return hashlib.sha256(self.data).hexdigest()

    @cached_property
    def data_url(self) -> str:
        """`data:image/...;base64,...`, made once an image, not once a call."""
        return f"data:{self.mime};base64,{base64.b64encode(self.data).decode('ascii')}"


@dataclass(frozen=True)
class Picture:
    """One opened image: what the file is, and what is sent of it."""

    path: Path
    sha256: str
    """Of the file's bytes, hex."""
    width: int
    height: int
    """Of the oriented original, pixels."""
    encoded: Encoded
    sent: SentImage


def load_picture(path: Path, max_side: int | None = 1536) -> Picture:
    """Open, orient, bound and encode one file. Raises UnreadableImage."""
    raise NotImplementedError


def crop(picture: Picture, region: Region, margin: float = 0.1) -> Encoded:
    """The part of the sent picture inside `region`, widened by `margin` of its size on each side, losslessly."""
    raise NotImplementedError
