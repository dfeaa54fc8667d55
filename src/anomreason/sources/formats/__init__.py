"""Foreign formats: one file each, and the table that names them.

A reader gives the images of a file with their anomalies; `sources.annotations` reads every format through the table.

    for image, annotation in FORMATS["published"].read(Path("real_anomalies.json")):
        print(image, len(annotation.anomalies))
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from anomreason.sources.formats.published import PublishedImage, iter_published


@dataclass(frozen=True, slots=True)
class Format:
    """One foreign format."""

    about: str
    """What it is, for messages."""
    read: Callable[[Path], Iterator[tuple[str, PublishedImage]]]
    """Image names with their annotations, in the file's order. Raises UsageError, naming file and place."""


FORMATS = {"published": Format("the authors' JSON of anomalies and descriptions by image", iter_published)}
"""By name. A new format is a file in this folder and a line here."""
