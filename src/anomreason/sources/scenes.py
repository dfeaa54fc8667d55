"""Reads a folder of scenes: `metadata.jsonl`, one line an image, with all that is known of it.

Whatever is wrong with the file is a UsageError that names file and line.

    known = read_scenes("scenes/")
    print(sum(not one.twin_of for one in known), "scenes")
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomreason.anomaly import KINDS, Anomaly, Text
from anomreason.errors import ParseError, UsageError, first_error, shown
from anomreason.files import read_lines
from anomreason.metrics.planted import MOST, KnownImage, KnownObject, check
from anomreason.textform.fields import anomaly_from_json

METADATA = "metadata.jsonl"


class _Line(BaseModel):
    """Other keys are for other readers."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Object(_Line):
    name: Text
    synonyms: list[Text] = []


class _SceneImage(_Line):
    file_name: Text
    anomalies: Annotated[list[Any], Field(max_length=MOST)]
    objects: list[_Object]
    twin_of: str = ""
    mended: int = -1


def read_scenes(path: str | Path) -> list[KnownImage]:
    """The pictures of a folder of scenes (or of its `metadata.jsonl`), in the file's order. Raises UsageError."""
    path = Path(path)
    file = path / METADATA if path.is_dir() else path
    if not file.is_file():
        raise UsageError(f"{file} does not exist; give a folder that `anomreason scenes make` wrote")
    known = [_known_image(row, f"{file}, line {number}") for number, row in read_lines(file)]
    if not known:
        raise UsageError(f"{file} lists no pictures; make scenes with: anomreason scenes make")
    try:
        check(known)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return known


def _known_image(value: dict[str, Any], where: str) -> KnownImage:
    try:
        row = _SceneImage.model_validate(value)
    except ValidationError as error:
        raise UsageError(f"{where}: {first_error(error)}; write it as `scenes make` does") from None
    return KnownImage(
        row.file_name,
        tuple(_anomaly(entry, f"{where}, anomaly {n}") for n, entry in enumerate(row.anomalies, 1)),
        tuple(KnownObject(o.name, tuple(o.synonyms)) for o in row.objects),
        row.twin_of,
        row.mended,
    )


def _anomaly(entry: Any, where: str) -> Anomaly:
    try:
        anomaly = anomaly_from_json(entry)
    except ParseError as error:
        raise UsageError(f"{where}: {error}") from None
    if anomaly.kind not in KINDS:
        raise UsageError(f"{where}: the kind is {shown(anomaly.kind)}; the kinds are {', '.join(KINDS)}")
    if not anomaly.objects:
        raise UsageError(f"{where}: it names no object; write at least one in 'objects'")
    return anomaly
