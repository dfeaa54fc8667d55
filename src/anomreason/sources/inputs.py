"""Finds the images of a command: files, folders, globs, manifests, and image folders with a metadata file.

No image is opened. `find_images(["photos/"])` gives the root folder and the images below it.
"""

from __future__ import annotations

import glob
import itertools
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomreason.errors import UsageError
from anomreason.runs import is_run
from anomreason.sources.manifests import read_manifest

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")
)
"""Names that are taken for images when a folder is searched. A file named outright is tried whatever its name."""
MANIFESTS = frozenset({".jsonl", ".csv"})
METADATA = ("metadata.jsonl", "metadata.csv")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a run."""

    name: str
    """Relative to the run's root, with forward slashes; unique within the run."""
    path: Path


def find_images(inputs: Sequence[str | Path]) -> tuple[Path, list[Image]]:
    """The root folder and the images, in a stable order, each once.

    Raises UsageError for an input that matches nothing, and when nothing at all is found.
    """
    if not inputs:
        raise UsageError("no images were named; give files, folders, globs or manifests")
    paths: dict[Path, None] = {}
    for entry in inputs:
        for path in _expand(str(entry)):
            paths.setdefault(Path(os.path.abspath(path)))
    if not paths:
        raise UsageError(f"no images found in {', '.join(map(repr, map(str, inputs)))}")
    root = Path(os.path.commonpath([_root(str(entry)) for entry in inputs]))
    return root, [Image(_name(path, root), path) for path in paths]


def _expand(entry: str) -> Iterable[Path]:
    path = Path(entry)
    if path.is_dir():
        return _folder(path)
    if path.suffix.lower() in MANIFESTS and path.is_file():
        return read_manifest(path)
    if not path.exists() and glob.has_magic(entry):
        found = [p for p in map(Path, sorted(glob.glob(entry, recursive=True))) if p.is_file() and not _of_a_run(p)]
        if not found:
            raise UsageError(f"{entry!r} matches no file")
        return found
    if not path.exists() and not os.path.lexists(path):
        raise UsageError(f"{entry!r} does not exist; give image files, folders, globs or a .jsonl/.csv manifest")
    return [path]


def _folder(folder: Path) -> list[Path]:
    """Images below a folder, but for those in run folders; a metadata file says which, as in an imagefolder."""
    for name in METADATA:
        if (folder / name).is_file():
            return list(read_manifest(folder / name))
    found = []
    for base, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith(".") and not is_run(Path(base, f)))
        found += [Path(base, f) for f in sorted(files) if Path(f).suffix.lower() in SUFFIXES and not f.startswith(".")]
    if not found:
        raise UsageError(f"the folder {str(folder)!r} holds no images ({', '.join(sorted(SUFFIXES))})")
    return found


def _root(entry: str) -> str:
    """What an input's names are relative to. It must not depend on which files there are today."""
    path = Path(entry)
    if path.is_dir():
        return os.path.abspath(path)
    if not path.exists() and glob.has_magic(entry):
        plain = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
        return os.path.abspath(Path(*plain))
    return os.path.abspath(path.parent)


def _of_a_run(path: Path) -> bool:
    """Whether a file lies in a run folder: previews and reports are not what a search is after."""
    return any(is_run(parent) for parent in path.parents)


def _name(path: Path, root: Path) -> str:
    relative = Path(os.path.relpath(path, root)).as_posix()
    return relative.encode("utf-8", "backslashreplace").decode("utf-8")
