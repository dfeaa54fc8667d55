"""Finds the images of a command: files, folders, globs, manifests, archives, and folders with a metadata file.

No image is opened. Try it: `find_images(["photos/"]).images`.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anomreason.archives import is_archive, open_archive
from anomreason.errors import UsageError
from anomreason.files import write_atomically
from anomreason.runs import is_run
from anomreason.sources.manifests import MANIFESTS, as_path, check_image_key, check_image_path, read_manifest
from anomreason.sources.memory import HeldImage
from anomreason.sources.rows import open_parquet
from anomreason.sources.searching import SYSTEM_FOLDERS, FoundFile, Search

SUFFIXES = frozenset(
    (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".heic", ".heif")
)
"""Names that are taken for images when a folder is searched. A file named outright is tried whatever its name."""
METADATA = ("metadata.jsonl", "metadata.csv")
SIDECARS = frozenset((".json", ".txt", ".cls"))
"""What stands beside each image in the shards of WebDataset."""
MOST_SHARDS = 100_000
_SHARDS = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass(frozen=True, slots=True)
class Image:
    """One image of a run."""

    name: str
    """Relative to the run's root, with forward slashes; unique within the run."""
    path: Path
    sha256: str | None = None
    """Of its bytes, hex, where that is known before: a file that has changed since is not taken for the image."""
    data: bytes | None = None
    """Of an image in memory, whose file need not exist; None for the bytes of the file at `path`."""

    def written(self) -> Image:
        """The image with its bytes in the file at `path`; an image that has no bytes in memory as it is."""
        if self.data is None:
            return self
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.is_file() or self.path.stat().st_size != len(self.data):
            write_atomically(self.path, self.data, sync=False)
        return replace(self, data=None)


@dataclass(frozen=True, slots=True)
class FoundImages:
    """The images that inputs name."""

    root: Path
    """The folder that the names are relative to."""
    images: list[Image]
    passed_over: tuple[str, ...] = ()
    """What a search left out, one sentence a reason, with the first names."""
    asked: tuple[tuple[str, str], ...] = ()
    """The caller's name and the name here of each image, as they came; an image in memory as often as it came."""


def find_images(
    inputs: Sequence[str | Path | HeldImage], outside: bool = False, keep: Path | None = None
) -> FoundImages:
    """The root folder and the images, in a stable order, each once.

    A file that is reached by several paths counts once; only a manifest may list it under several names. Images in
    memory count once for the same content, which names them here.
    outside: let the metadata file of a folder name images that lie elsewhere, as a manifest may that is named itself.
    keep: folder in which images in memory are to be written (see `Image.written`); None keeps them in memory alone.
    Raises UsageError for an input that matches nothing, and when nothing at all is found.
    """
    if not inputs:
        raise UsageError("no images were named; give files, folders, globs or manifests")
    inputs = [one for entry in inputs for one in (shards(entry) if isinstance(entry, str) else [entry])]
    search = Search()
    paths: dict[str, HeldImage | None] = {}
    asked: list[tuple[str | None, str]] = []
    files: set[str] = set()
    for entry in inputs:
        if isinstance(entry, HeldImage):
            path = os.path.abspath(keep / entry.file_name) if keep else "memory:" + entry.file_name
            paths.setdefault(path, entry)
            asked.append((entry.name, path))
            continue
        for found, listed in _expand(str(entry), search, outside):
            path = os.path.abspath(found.path)
            if path in paths:
                continue
            if found.real in files and not listed:
                search.passed_over.add("further paths to an image that is there already", path)
                continue
            paths[path] = None
            asked.append((None, path))
            files.add(found.real)
    roots = [_root(str(entry)) for entry in inputs if not isinstance(entry, HeldImage)]
    roots += [os.path.abspath(keep)] if keep and any(paths.values()) else []
    root = Path(os.path.commonpath(roots)) if roots else Path.cwd()
    images = {path: _image(path, held, root) for path, held in paths.items()}
    names = tuple((images[path].name if name is None else name, images[path].name) for name, path in asked)
    return FoundImages(root, list(images.values()), search.passed_over.sentences(), names)


def _image(path: str, held: HeldImage | None, root: Path) -> Image:
    """held: the image in memory that `path` stands for; None for a file."""
    if held is None:
        return Image(_name(path, root), Path(path))
    if path.startswith("memory:"):
        return Image(path, Path(held.name), held.sha256, held.data)
    return Image(_name(path, root), Path(path), held.sha256, held.data)


def _expand(entry: str, search: Search, outside: bool) -> Iterator[tuple[FoundFile, bool]]:
    """The files that an input names, and whether a manifest lists them."""
    if not entry.strip():
        raise UsageError(f"an input is empty ({entry!r}; an unset variable?); give files, folders, globs or manifests")
    if "\0" in entry:
        raise UsageError(f"{entry!r} cannot be a path; give image files, folders, globs or manifests")
    path = Path(entry)
    if os.path.isdir(entry):
        yield from _folder(path, search, outside)
    elif path.suffix.lower() in MANIFESTS and os.path.isfile(entry):
        yield from _listed(read_manifest(path), search)
    elif path.suffix.lower() == ".parquet" and os.path.isfile(entry):
        yield from _listed(_in_parquet(path), search)
    elif is_archive(entry):
        yield from _archived(path, search)
    elif os.path.lexists(entry):
        yield FoundFile(entry, search.real(entry)), False
    elif glob.has_magic(entry):
        yield from _matching(entry, search)
    else:
        raise UsageError(f"{entry!r} does not exist; give image files, folders, globs or a .jsonl/.csv manifest")


def _listed(paths: Iterable[Path], search: Search) -> Iterator[tuple[FoundFile, bool]]:
    return ((FoundFile(str(path), search.real(str(path))), True) for path in paths)


def _in_parquet(path: Path) -> Iterator[Path]:
    """The images whose paths a Parquet file lists, from its folder. Raises UsageError."""
    table = open_parquet(path)
    key = check_image_key(table.columns, f"the columns of {path}")
    if table.columns[key]:
        raise UsageError(
            f"{path} holds the images themselves, in the column {key!r}; put them into a dataset with 'anomreason "
            f"dataset collect DATA {path}' and detect there with 'anomreason dataset annotate DATA'"
        )
    for row in table.rows([key]):
        if row.wrong:
            raise UsageError(row.wrong)
        yield as_path(path.parent, check_image_path(f"{path}, row {row.number}", row.values[key]))


def shards(entry: str) -> list[str]:
    """The names that a pattern of shards stands for: `photos-{000..010}.tar`, as WebDataset writes it.

    >>> shards("a-{08..10}.tar")
    ['a-08.tar', 'a-09.tar', 'a-10.tar']
    """
    found = _SHARDS.search(entry)
    if found is None or os.path.lexists(entry):
        return [entry]
    first, last = int(found[1]), int(found[2])
    if not first <= last < first + MOST_SHARDS:
        raise UsageError(f"{entry!r} stands for no shards, or for more than {MOST_SHARDS:,}; write {{FIRST..LAST}}")
    head, tail = entry[: found.start()], entry[found.end() :]
    width = len(found[1]) if found[1].startswith("0") else 0
    return [one for n in range(first, last + 1) for one in shards(f"{head}{n:0{width}}{tail}")]


def _folder(folder: Path, search: Search, outside: bool) -> Iterator[tuple[FoundFile, bool]]:
    """Images below a folder, but for those in run folders; a metadata file says which, as in an imagefolder."""
    for name in METADATA:
        if os.path.isfile(folder / name):
            yield from _listed(read_manifest(folder / name, None if outside else folder), search)
            return
    none = True
    for found in search.files(str(folder), ("**", "*")):
        if os.path.splitext(found.path)[1].lower() in SUFFIXES:
            none = False
            yield found, False
        elif is_archive(found.path):
            search.passed_over.add("archives (give them as inputs)", found.path)
    if none:
        raise UsageError(
            f"the folder {str(folder)!r} holds no images ({', '.join(sorted(SUFFIXES))}): name the "
            "folder that does, or the files"
            + "".join(f"; passed over: {sentence}" for sentence in search.passed_over.sentences())
        )


def _archived(path: Path, search: Search) -> Iterator[tuple[FoundFile, bool]]:
    """The images in an archive, in the order of their names; of the system's and hidden files none."""
    archive, none = open_archive(path), True
    for reason, name in archive.passed_over:
        search.passed_over.add(reason, str(path / name))
    for name in sorted(archive.members):
        *folders, last = name.split("/")
        hidden = any(part.startswith(".") for part in (*folders, last))
        system = any(part.lower() in SYSTEM_FOLDERS for part in folders)
        if os.path.splitext(last)[1].lower() in SUFFIXES and not hidden and not system:
            none = False
            yield FoundFile(str(path / name), os.path.join(search.real(str(path)), name)), False
        elif os.path.splitext(last)[1].lower() in SIDECARS and not hidden and not system:
            search.passed_over.add("texts beside the images in archives", str(path / name))
    if none:
        raise UsageError(
            f"the archive {str(path)!r} holds no images ({', '.join(sorted(SUFFIXES))}): give the archive that does, "
            "or unpack it and name the files"
            + "".join(f"; passed over: {sentence}" for sentence in search.passed_over.sentences())
        )


def _matching(pattern: str, search: Search) -> Iterator[tuple[FoundFile, bool]]:
    """Files that a glob matches."""
    parts = Path(pattern).parts
    head = list(itertools.takewhile(lambda part: not glob.has_magic(part), parts))
    folder = os.path.join(*head) if head else "."
    inside_run = any(is_run(parent) for parent in (Path(folder), *Path(os.path.abspath(folder)).parents))
    found = [] if inside_run else list(search.files(folder, parts[len(head) :]))
    if not found:
        raise UsageError(
            f"{pattern!r} matches no file in {os.path.abspath(folder)!r}: check the folder and the pattern"
            + "".join(f"; passed over: {sentence}" for sentence in search.passed_over.sentences())
        )
    for one in found:
        if is_archive(one.path):
            yield from _archived(Path(one.path), search)
        else:
            yield one, False


def _root(entry: str) -> str:
    """What an input's names are relative to. It must not depend on which files there are today."""
    path = Path(entry)
    if os.path.isdir(entry) or is_archive(entry):
        return os.path.abspath(path)
    if not os.path.lexists(entry) and glob.has_magic(entry):
        plain = itertools.takewhile(lambda part: not glob.has_magic(part), path.parts)
        return os.path.abspath(Path(*plain))
    return os.path.abspath(path.parent)


def _name(path: str, root: Path) -> str:
    relative = Path(os.path.relpath(path, root)).as_posix()
    return relative.encode("utf-8", "backslashreplace").decode("utf-8")
