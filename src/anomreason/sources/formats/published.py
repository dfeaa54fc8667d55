"""The authors' published JSON: an object with, for each image, a list of anomalies or the description of a photograph.

write_published(Path("out.json"), {"a.jpg": PublishedImage(anomalies=found)})
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pydantic import model_validator

from anomreason.anomaly import Anomaly, Record, Text
from anomreason.errors import ParseError, UsageError, shown
from anomreason.files import read_object, write_atomically
from anomreason.textform import anomaly_from_mapping

_PUBLISHED_KEYS = ("Name", "Observed Phenomenon", "Reasoning", "Severity Score")
_LOWER_CASE_KEYS = ("name", "phenomenon", "reasoning", "severity")


class PublishedImage(Record):
    """One image of a file in a foreign format: its anomalies, or, of a photograph, one description."""

    anomalies: tuple[Anomaly, ...] = ()
    description: Text | None = None
    """What a photograph shows; None for an image that was searched for anomalies."""
    confidences: tuple[float | None, ...] = ()
    """One an anomaly, higher = surer: the form knows none, but some files have a `confidence`. Not written."""

    @model_validator(mode="after")
    def _one_of_two(self) -> PublishedImage:
        if self.anomalies and self.description is not None:
            raise ValueError("an image has anomalies or a description, not both")
        return self


def read_published(path: Path) -> dict[str, PublishedImage]:
    """By image name, in the file's order. Takes both of the authors' forms and descriptions of photographs.

    Raises UsageError for a file that is not in this form, with the image and the anomaly.
    """
    return dict(iter_published(path))


def iter_published(path: Path) -> Iterator[tuple[str, PublishedImage]]:
    """As `read_published`, an image at a time; what was given is let go, so that memory holds little but the file."""
    entries = read_object(path)
    for image in list(entries):
        yield image, _published(entries.pop(image), f"{path}, image {image!r}")


def _published(value: Any, where: str) -> PublishedImage:
    if isinstance(value, str) and value.strip():
        try:
            return PublishedImage(description=value)
        except ValueError:
            raise UsageError(f"{where}: the description holds characters that are not text; remove them") from None
    if not isinstance(value, list):
        raise UsageError(f"{where}: write a list of anomalies, or a description as one text, not {shown(value)}")
    anomalies = tuple(_anomaly(entry, f"{where}, anomaly {n}") for n, entry in enumerate(value, 1))
    sure = tuple(confidence(entry, f"{where}, anomaly {n}") for n, entry in enumerate(value, 1))
    return PublishedImage(anomalies=anomalies, confidences=sure if any(c is not None for c in sure) else ())


def _anomaly(entry: Any, where: str) -> Anomaly:
    try:
        return anomaly_from_mapping(entry)
    except ParseError as error:
        raise UsageError(f"{where}: {error}") from None


def confidence(entry: Mapping[str, Any], where: str) -> float | None:
    """The number under `confidence`, in any case; None where there is none. UsageError for anything else."""
    given = [value for key, value in entry.items() if key.strip().lower() == "confidence" and value is not None]
    if any(isinstance(value, bool) or not isinstance(value, int | float) for value in given):
        raise UsageError(f"{where}: 'confidence' is {shown(given[0])}; write a number, or leave it out")
    return float(given[0]) if given else None


def write_published(path: Path, published: Mapping[str, PublishedImage], *, lower_case: bool = False) -> None:
    """Write the authors' JSON, whole or not at all: severities as `"25/100"`, or as numbers under lower-case keys.

    `kind`, `objects` and `region` of an anomaly have no place in it. Raises StorageError when it cannot be written.
    """
    entries = [published_entry(image, one, lower_case=lower_case) for image, one in published.items()]
    write_atomically(path, b"{\n" + b",\n".join(entries) + b"\n}\n" if entries else b"{}\n")


def published_entry(image: str, one: PublishedImage, *, lower_case: bool = False) -> bytes:
    """The lines of one image, for files that are written image by image. Raises UsageError for a name that is no text.

    A whole file is `{`, the entries with `,` between them, and `}`, each on its own line.
    """
    keys = _LOWER_CASE_KEYS if lower_case else _PUBLISHED_KEYS
    value: object = one.description
    if one.description is None:
        value = [dict(zip(keys, _quadruple(a, lower_case), strict=True)) for a in one.anomalies]
    text = json.dumps({image: value}, ensure_ascii=False, indent=2)
    try:
        return text.removeprefix("{\n").removesuffix("\n}").encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"image {shown(image)}: {shown(error.object[error.start : error.end])} is not text; rename the image"
        ) from None


def _quadruple(anomaly: Anomaly, lower_case: bool) -> tuple[str, str, str, str | float]:
    value = int(anomaly.severity) if anomaly.severity.is_integer() else anomaly.severity
    return anomaly.name, anomaly.phenomenon, anomaly.reasoning, value if lower_case else f"{value!r}/100"
