"""Foreign formats, read and written here alone: the authors' published JSON, split files, manifests of pictures.

Knows nothing of models or runs. Whatever is wrong with a file is a UsageError that names the file and the place.

    write_published(Path("out.json"), {"a.jpg": Published(anomalies=found), "b.jpg": Published(description="A cat.")})
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import model_validator

from anomreason.anomaly import Anomaly, Record, Text
from anomreason.errors import ParseError, UsageError, shown
from anomreason.files import read_lines, read_object, read_text, write_atomically
from anomreason.textform import anomaly_from_mapping

_PUBLISHED_KEYS = ("Name", "Observed Phenomenon", "Reasoning", "Severity Score")
_LOWER_CASE_KEYS = ("name", "phenomenon", "reasoning", "severity")
_PICTURE_KEYS = ("file_name", "image", "file", "path")
"""Where a manifest names a picture. The first of them that is there counts, since a `path` may be one elsewhere."""


class Published(Record):
    """What a published file says of one image: its anomalies, or, of a photograph, one description."""

    anomalies: tuple[Anomaly, ...] = ()
    description: Text | None = None
    """What a photograph shows; None for an image that was searched for anomalies."""
    confidences: tuple[float | None, ...] = ()
    """One an anomaly, higher = surer: the form knows none, but some files have a `confidence`. Not written."""

    @model_validator(mode="after")
    def _one_of_two(self) -> Published:
        if self.anomalies and self.description is not None:
            raise ValueError("an image has anomalies or a description, not both")
        return self


def read_published(path: Path) -> dict[str, Published]:
    """By image name, in the file's order. Takes both of the authors' forms and descriptions of photographs.

    Raises UsageError for a file that is not in this form, with the image and the finding.
    """
    return dict(iter_published(path))


def iter_published(path: Path) -> Iterator[tuple[str, Published]]:
    """As `read_published`, an image at a time; what was given is let go, so that memory holds little but the file."""
    entries = read_object(path)
    for image in list(entries):
        yield image, _published(entries.pop(image), f"{path}, image {image!r}")


def _published(value: Any, where: str) -> Published:
    if isinstance(value, str) and value.strip():
        try:
            return Published(description=value)
        except ValueError:
            raise UsageError(f"{where}: the description holds characters that are not text; remove them") from None
    if not isinstance(value, list):
        raise UsageError(f"{where}: write a list of anomalies, or a description as one text, not {shown(value)}")
    anomalies = tuple(_anomaly(entry, f"{where}, anomaly {n}") for n, entry in enumerate(value, 1))
    sure = tuple(confidence(entry, f"{where}, anomaly {n}") for n, entry in enumerate(value, 1))
    return Published(anomalies=anomalies, confidences=sure if any(c is not None for c in sure) else ())


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


def write_published(path: Path, published: Mapping[str, Published], *, lower_case: bool = False) -> None:
    """Write the authors' JSON, whole or not at all: severities as `"25/100"`, or as numbers under lower-case keys.

    `objects` and `region` of an anomaly have no place in it. Raises StorageError when the file cannot be written.
    """
    keys = _LOWER_CASE_KEYS if lower_case else _PUBLISHED_KEYS
    rows = {
        image: [dict(zip(keys, _quadruple(a, lower_case), strict=True)) for a in one.anomalies]
        if one.description is None
        else one.description
        for image, one in published.items()
    }
    try:
        data = json.dumps(rows, ensure_ascii=False, indent=2).encode("utf-8")
    except UnicodeEncodeError as error:
        raise UsageError(
            f"{path}: {shown(error.object[error.start : error.end])} is not text; rename the image"
        ) from None
    write_atomically(path, data + b"\n")


def _quadruple(anomaly: Anomaly, lower_case: bool) -> tuple[str, str, str, str | float]:
    value = int(anomaly.severity) if anomaly.severity.is_integer() else anomaly.severity
    return anomaly.name, anomaly.phenomenon, anomaly.reasoning, value if lower_case else f"{value!r}/100"


def read_split(path: Path) -> dict[str, tuple[str, ...]]:
    """Image names by the name of the part, e.g. `train` and `test`, as they stand. Raises UsageError."""
    return {part: _names(value, f"{path}, part {part!r}") for part, value in read_object(path).items()}


def _names(value: Any, where: str) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise UsageError(f"{where}: write a list of image names, not {shown(value)}")
    for n, name in enumerate(value, 1):
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"{where}, entry {n}: write an image name, not {shown(name)}")
    return tuple(value)


def read_manifest(path: Path) -> tuple[Path, ...]:
    """The pictures that a `.jsonl` or `.csv` file lists under `file_name`, `image`, `file` or `path`.

    Paths are taken from the manifest's folder, in its order, each once. Whether they exist is not looked at. Takes the
    metadata files of a Hugging Face imagefolder too. Raises UsageError, naming the line.
    """
    found: dict[str, Path] = {}
    for row in manifest_rows(path):
        picture = path.parent / row.image
        found.setdefault(os.path.normpath(picture), picture)
    if not found:
        raise UsageError(f"{path} lists no pictures; write one row a picture")
    return tuple(found.values())


class ManifestRow(NamedTuple):
    """One row of a manifest."""

    line: int
    image: str
    """The image's path as written, from the manifest's folder."""
    values: Mapping[str, Any]
    """By column."""


def manifest_rows(path: Path) -> Iterator[ManifestRow]:
    """The rows of a manifest, in its order; see `read_manifest`. Raises UsageError, naming the line."""
    read = {".jsonl": _jsonl_rows, ".csv": _csv_rows}.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path}: a manifest is a .jsonl or .csv file; rename it to what it is")
    for line, key, values in read(path):
        yield ManifestRow(line, _image_path(f"{path}, line {line}", values.get(key)), values)


def _image_path(where: str, name: Any) -> str:
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: write the path of a picture, not {shown(name)}")
    if "://" in name:
        raise UsageError(f"{where}: {shown(name)} is an address; download the picture and write its path")
    try:
        usable = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise UsageError(f"{where}: {shown(name)} cannot be a path; write the path of a picture")
    return name


def _jsonl_rows(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Line, the image's column and the values of each row."""
    for number, row in read_lines(path):
        yield number, _picture_key(row, f"{path}, line {number}"), row


def _csv_rows(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """The same."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] = []
    key = ""
    try:
        for row in reader:
            if not header:
                header = [name.strip() for name in row]
                key = _picture_key(header, f"{path}, line 1")
            elif row:
                yield reader.line_num, key, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _picture_key(keys: Collection[str], where: str) -> str:
    for key in _PICTURE_KEYS:
        if key in keys:
            return key
    raise UsageError(f"{where}: names no picture; give it under one of {', '.join(_PICTURE_KEYS)}")
