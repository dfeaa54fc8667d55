"""Lists of images: manifests (`.jsonl`, `.csv`, `.tsv`) and splits (a JSON object of named lists).

for path in read_manifest(Path("photos/metadata.jsonl")):
    print(path)
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from typing import Any, NamedTuple
from unicodedata import normalize
from urllib.parse import unquote

from anomreason.buckets import Address, checked_address, is_address
from anomreason.columns import IMAGE_KEYS, OTHER_KEYS, known_image_key
from anomreason.errors import UsageError, shown
from anomreason.files import read_lines, read_object, read_text

MANIFESTS = (".jsonl", ".csv", ".tsv")
_SEPARATORS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}


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


def read_manifest(path: Path, inside: Path | None = None) -> tuple[Path, ...]:
    """The images that a manifest lists under `file_name`, `image`, `file` or `path`, or another program's name for it.

    Paths are taken from the manifest's folder, in its order, each once; see `as_path`. Whether they exist is not
    checked. Takes the metadata files of a Hugging Face imagefolder too. inside: a folder that every image must lie in;
    without it, images may be addresses in buckets. Raises UsageError, naming the line.
    """
    found: dict[str, Path] = {}
    border = os.path.realpath(inside) if inside is not None else None
    for row in manifest_rows(path, addresses=inside is None):
        if re.match(r"[A-Za-z]:[\\/]|\\\\", row.image):
            raise UsageError(
                f"{path}, line {row.line}: {shown(row.image)} is a path of a Windows machine; write paths relative to "
                "the manifest's folder"
            )
        image = listed_path(f"{path}, line {row.line}", path.parent, row.image)
        if border is not None and os.path.commonpath([border, os.path.realpath(image)]) != border:
            raise UsageError(
                f"{path}, line {row.line}: {shown(row.image)} lies outside of the folder {str(inside)!r}; to "
                f"allow that, name the manifest itself ({str(path)!r}) as input, or use --outside"
            )
        found.setdefault(os.path.normpath(image), image)
    if not found:
        raise UsageError(f"{path} lists no images; write one row an image")
    return tuple(found.values())


def listed_path(where: str, folder: Path, name: str) -> Path:
    """The image that a list in a folder means: an address, or a path as `as_path` takes it.

    where: file and line, for messages. A list in a bucket names images below its own folder, or addresses, and no files
    of this machine. Raises UsageError.
    """
    if is_address(name):
        try:
            return checked_address(name)
        except UsageError as error:
            raise UsageError(f"{where}: {error}") from None
    if isinstance(folder, Address) and (name.startswith(("/", "\\")) or ".." in re.split(r"[/\\]", name)):
        raise UsageError(f"{where}: {shown(name)} lies outside of {str(folder)!r}; write its whole address")
    return as_path(folder, name)


def as_path(folder: Path, name: str) -> Path:
    """The file that a manifest means: the name as it stands or, where that does not exist, in another spelling.

    Tried are Windows' separators, composed and decomposed letters, and percent-encoding.
    """
    if name.isascii() and "\\" not in name and "%" not in name:
        return folder / name
    slashes = name.replace("\\", "/")
    decoded = unquote(slashes)
    spellings = [name, slashes, decoded, *(normalize(form, n) for n in (slashes, decoded) for form in ("NFC", "NFD"))]
    if isinstance(folder, Address):
        return folder / slashes
    usable = (folder / spelling for spelling in spellings if "\0" not in spelling)
    return next((path for path in usable if os.path.lexists(path)), folder / slashes)


class ManifestRow(NamedTuple):
    """One row of a manifest."""

    line: int
    image: str
    """The image's path as written, from the manifest's folder."""
    values: Mapping[str, Any]
    """By column."""


def manifest_rows(path: Path, addresses: bool = False) -> Iterator[ManifestRow]:
    """The rows of a manifest, in its order; see `read_manifest`. Raises UsageError, naming the line.

    addresses: take addresses in buckets as images too.
    """
    read = {".jsonl": _jsonl_rows, ".csv": _csv_rows, ".tsv": _csv_rows}.get(path.suffix.lower())
    if read is None:
        raise UsageError(f"{path}: a manifest is a .jsonl, .csv or .tsv file; rename it to what it is")
    for line, key, values in read(path):
        yield ManifestRow(line, check_image_path(f"{path}, line {line}", values.get(key), addresses), values)


def check_image_path(where: str, name: Any, addresses: bool = False) -> str:
    if not isinstance(name, str) or not name.strip():
        raise UsageError(f"{where}: write the path of an image, not {shown(name)}")
    if "://" in name and not (addresses and is_address(name)):
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
        yield number, check_image_key(row, f"{path}, line {number}"), row


def _csv_rows(path: Path) -> Iterator[tuple[int, str, Mapping[str, Any]]]:
    """The same, whatever separates the columns: a comma, semicolon, tab or bar."""
    text = read_text(path)
    declared = re.match(r"sep=(.)\r?\n", text)  # as Excel writes it
    separator = declared[1] if declared else separator_of(text)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    header: list[str] = []
    key = ""
    try:
        for row in reader:
            if declared and reader.line_num == 1:
                continue
            if not header:
                header = [name.strip() for name in row]
                key = check_image_key(header, f"{path}, line {reader.line_num}", separator) if header else ""
            elif row:
                yield reader.line_num, key, dict(zip(header, row, strict=False))
    except csv.Error as error:
        raise UsageError(f"{path}, line {reader.line_num}: not CSV: {error}") from None


def separator_of(text: str) -> str:
    """What separates the columns of the first line: the first by which it names an image's column."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    for separator in _SEPARATORS:
        with suppress(csv.Error):
            for header in csv.reader([first], delimiter=separator):
                if known_image_key([name.strip() for name in header]):
                    return separator
    return max(_SEPARATORS, key=first.count)


def check_image_key(keys: Collection[str], where: str, separator: str = "") -> str:
    if known := known_image_key(keys):
        return known
    seen = ", ".join(map(shown, list(keys)[:12])) or "nothing"
    columns = f"the columns separated by {_SEPARATORS[separator]}" if separator in _SEPARATORS else "the keys"
    if any(re.search(r"\.(jpe?g|png|webp|gif|tiff?|bmp|avif|hei[cf])$", key, re.IGNORECASE) for key in keys):
        raise UsageError(
            f"{where}: the first line names no column but an image ({seen}); write a line such as file_name above it"
        )
    close = next((key for key in keys if get_close_matches(key.lower(), [*IMAGE_KEYS, *OTHER_KEYS], 1)), None)
    hint = f"; did you mean {shown(close)} to be it?" if close else ""
    raise UsageError(
        f"{where}: names no image; give it under one of {', '.join(IMAGE_KEYS)} ({columns} are {seen}{hint})"
    )
