"""Reads a folder of scenes: `metadata.jsonl`, one line an image, with all that is known of it.

Whatever is wrong with the file is a UsageError that names file and line.

    known = read_scenes("scenes/")
    print(sum(not one.twin_of for one in known), "scenes")
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from anomreason.anomaly import KINDS, Anomaly, Text
from anomreason.errors import ParseError, UsageError
from anomreason.metrics.planted import MOST, KnownImage, KnownObject, check
from anomreason.textform import parse_json
from anomreason.textform.fields import anomaly_from_json, shown

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
    known = [_picture(line, f"{file}, line {number}") for number, line in _lines(file)]
    if not known:
        raise UsageError(f"{file} lists no pictures; make scenes with: anomreason scenes make")
    try:
        check(known)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return known


def _lines(file: Path) -> Iterator[tuple[int, str]]:
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise UsageError(f"{file} does not exist; give a folder that `anomreason scenes make` wrote") from None
    except OSError as error:
        raise UsageError(f"{file} cannot be read: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: not UTF-8 at byte {error.start}; save the file as UTF-8") from None
    # Not splitlines: a text may hold other separators of lines.
    yield from ((n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip())


def _picture(line: str, where: str) -> KnownImage:
    try:
        value = parse_json(line)
    except ParseError as error:
        raise UsageError(f"{where}: {error}") from None
    if not isinstance(value, dict):
        raise UsageError(f"{where}: write one JSON object a line, not {shown(value)}")
    try:
        row = _SceneImage.model_validate(value)
    except ValidationError as error:
        blame = error.errors(include_url=False, include_context=False, include_input=False)[0]
        place = ".".join(map(str, blame["loc"])) or "the line"
        raise UsageError(f"{where}: {shown(place)}: {blame['msg']}; write it as `scenes make` does") from None
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
