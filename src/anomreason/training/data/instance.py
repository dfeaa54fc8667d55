"""What passes between the making of instruction data and the training: an annotated picture, and a conversation on it.

Knows no files and no models.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from anomreason.anomaly import Anomaly


@dataclass(frozen=True, slots=True)
class Annotated:
    """One picture and what is to be learnt of it."""

    image: Path
    name: str
    """As its source names it."""
    anomalies: tuple[Anomaly, ...] = ()
    """Accepted ones alone."""
    generated: bool | None = None
    """AI image (True) or photograph (False); None where the source does not say."""
    description: str | None = None
    """What a photograph shows."""
    source: str = ""
    """Where it comes from: `scenes`, `run`, `published`."""


@dataclass(frozen=True, slots=True)
class Turn:
    """One message. The picture stands before the text of the first user turn."""

    role: Literal["user", "assistant"]
    text: str


@dataclass(frozen=True, slots=True)
class Instance:
    """One conversation to learn from: user and assistant in turns, beginning with the user; no loss on user turns."""

    image: Path
    name: str
    turns: tuple[Turn, ...]
    part: int = 1
    parts: int = 1
    """An image whose anomalies would not fit the length is split into several instances, by whole anomalies."""
