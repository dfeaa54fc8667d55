"""Lists of images: manifests (`.jsonl`, `.csv`) and splits (a JSON object of named lists).

for path in read_manifest(Path("photos/metadata.jsonl")):
    print(path)
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from anomreason.errors import UsageError, shown
from anomreason.files import read_lines, read_object, read_text

_IMAGE_KEYS = ("file_name", "image", "file", "path")
"""Where a manifest names an image. The first of them that is there counts, since a `path` may be one elsewhere."""


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
    """The images that a `.jsonl` or `.csv` file lists under `file_name`, `image`, `file` or `path`.

    Paths are taken from the manifest's folder, in its order, each once. Whether they exist is not looked at. Takes the
    metadata files of a Hugging Face imagefolder too. Raises UsageError, naming the line.
    """
    found: dict[str, Path] = {}
    for row in manifest_rows(path):
        image = path.parent / row.image
        found.setdefault(os.path.normpath(image), image)
    if not found:
        raise UsageError(f"{path} lists no images; write one row an image")
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
        raise UsageError(f"{where}: write the path of an image, not {shown(name)}")
    if "://" in name:
        raise UsageError(f"{where}: {shown(name)} is an address; download the image and write its path")
    try:
        usable = b"\0" not in os.fsencode(name)
    except UnicodeEncodeError:
        usable = False
    if not usable:
        raise UsageError(f"{where}: {shown(name)} cannot be a path; write the path of an image")
    return name


def _jsonl_rows(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """Line, the image's column and the values of each row."""
    for number, row in read_lines(path):
        yield number, _image_key(row, f"{path}, line {number}"), row


def _csv_rows(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """The same."""
    reader = csv.reader(io.StringIO(read_text(path), newline=""), strict=True)
    header: list[str] = []
    key = ""
    try:
        for row in reader:
            if not header:
                header = [name.strip() for name in row]
                key = _image_key(header, f"{path}, line 1")
            elif row:
                yield reader.line_num, key, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def _image_key(keys: Collection[str], where: str) -> str:
    for key in _IMAGE_KEYS:
        if key in keys:
            return key
    raise UsageError(f"{where}: names no image; give it under one of {', '.join(_IMAGE_KEYS)}")
