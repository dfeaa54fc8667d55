"""Reads a folder of scenes: `metadata.jsonl`, one line an image, with all that is known of it.

Whatever is wrong with the file is a UsageError that names file and line.

    known = read_scenes("scenes/")
    print(sum(not one.twin_of for one in known), "scenes")
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from anomreason.anomaly import KINDS, Anomaly, Text
from anomreason.errors import ParseError, UsageError, first_error, shown
from anomreason.files import read_lines
from anomreason.metrics.planted import KnownImage, KnownObject, check
from anomreason.textform.fields import anomaly_from_json

METADATA = "metadata.jsonl"


class _Line(BaseModel):
    """Other keys are for other readers."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)


class _Object(_Line):
    name: Text
    synonyms: list[Text] = []


class SceneImage(_Line):
    """One line of metadata.jsonl."""

    file_name: Text
    anomalies: list[Any]
    objects: list[_Object] | None = None
    twin_of: str = ""
    mended: int = -1
    world: str | None = None
    seed: int | None = None
    """Of the scene and its twins; None in folders of other makers."""


def iter_scenes(path: Path) -> Iterator[tuple[str, SceneImage, tuple[Anomaly, ...]]]:
    """Place (for messages), line and anomalies of each image of a folder of scenes, or of its `metadata.jsonl`.

    In the file's order, twins included. Raises UsageError, naming the line.
    """
    file = _metadata(path)
    if file.suffix == ".json":
        raise UsageError(f"{file} is no folder of scenes; give the folder that `anomreason scenes make` wrote")
    if not file.is_file():
        raise UsageError(f"{file} does not exist; give a folder that `anomreason scenes make` wrote")
    lines: dict[str, int] = {}
    for number, row in read_lines(file):
        where = f"{file}, line {number}"
        try:
            image = SceneImage.model_validate(row)
        except ValidationError as error:
            raise UsageError(f"{where}: {first_error(error)}; write it as `scenes make` does") from None
        if "\0" in image.file_name:
            raise UsageError(f"{where}: {shown(image.file_name)} cannot be a path; write the path of an image")
        before = lines.setdefault(os.path.normpath(image.file_name), number)
        if before != number:
            raise UsageError(f"{where}: duplicate image {shown(image.file_name)}, as in line {before}: remove one")
        yield (
            where,
            image,
            tuple(_anomaly(entry, f"{where}, anomaly {n}") for n, entry in enumerate(image.anomalies, 1)),
        )


def read_scenes(path: str | Path) -> list[KnownImage]:
    """The images of a folder of scenes (or of its `metadata.jsonl`) with all that `eval --exact` needs.

    In the file's order. Raises UsageError, naming file and place.
    """
    file = _metadata(Path(path))
    known = [_known_image(*scene) for scene in iter_scenes(file)]
    if not known:
        raise UsageError(f"{file} lists no images; make scenes with: anomreason scenes make")
    try:
        check(known)
    except UsageError as error:
        raise UsageError(f"{file}: {error}") from None
    return known


def _metadata(path: Path) -> Path:
    return path / METADATA if path.is_dir() else path


def _anomaly(entry: Any, where: str) -> Anomaly:
    try:
        return anomaly_from_json(entry)
    except ParseError as error:
        raise UsageError(f"{where}: {error}") from None


def _known_image(where: str, image: SceneImage, anomalies: tuple[Anomaly, ...]) -> KnownImage:
    if image.objects is None:
        raise UsageError(f"{where}: 'objects' is missing; write it as `scenes make` does")
    for n, anomaly in enumerate(anomalies, 1):
        if anomaly.kind not in KINDS:
            raise UsageError(
                f"{where}, anomaly {n}: the kind is {shown(anomaly.kind)}; the kinds are {', '.join(KINDS)}"
            )
        if not anomaly.objects:
            raise UsageError(f"{where}, anomaly {n}: it names no object; write at least one in 'objects'")
    objects = tuple(KnownObject(o.name, tuple(o.synonyms)) for o in image.objects)
    return KnownImage(image.file_name, anomalies, objects, image.twin_of, image.mended)
