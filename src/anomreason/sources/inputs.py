"""Finds the images of a command: files, folders, globs, manifests, archives, Parquet, and folders with a metadata file;
on this machine and in buckets.

No image is opened. Try it: `find_images(["photos/"]).images`.
"""

from __future__ import annotations

import glob
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from anomreason import archives, buckets
from anomreason.archives import is_archive, open_archive
from anomreason.buckets import Address, checked_address, is_address, local_or_address
from anomreason.columns import embedded_column
from anomreason.errors import UnreadableImage, UsageError
from anomreason.files import write_atomically
from anomreason.runs import is_run
from anomreason.sources.manifests import MANIFESTS, check_image_key, check_image_path, listed_path, read_manifest
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
    """Of its file, inside an archive or Parquet file too, or an `Address`."""
    sha256: str | None = None
    """Of its bytes, hex, where that is known before: a file that has changed since is not taken for the image."""
    data: bytes | None = None
    """Of an image in memory, whose file need not exist; None for the bytes of the file at `path`."""
    stat: tuple[int | None, int | None] | None = None
    """Size and time of change (nanoseconds since 1970), where they came with its name: nobody need ask again."""

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
    """The folder that the names are relative to; an `Address` for images in buckets."""
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
    The images of a bucket and those of this machine are for two runs. Raises UsageError for that, for an input that
    matches nothing, for a bucket that cannot be searched, and when nothing at all is found.
    """
    if not inputs:
        raise UsageError("no images were named; give files, folders, globs or manifests")
    inputs = [one for entry in inputs for one in (shards(entry) if isinstance(entry, str) else [entry])]
    search = Search()
    buckets.forget()
    paths: dict[str, HeldImage | FoundFile] = {}
    asked: list[tuple[str | None, str]] = []
    files: set[str] = set()
    for entry in inputs:
        if isinstance(entry, HeldImage):
            path = os.path.abspath(keep / entry.file_name) if keep else "memory:" + entry.file_name
            paths.setdefault(path, entry)
            asked.append((entry.name, path))
            continue
        try:
            for found, listed in _expand(str(entry), search, outside):
                path = found.path if is_address(found.path) else os.path.abspath(found.path)
                if path in paths:
                    continue
                if found.real in files and not listed:
                    search.passed_over.add("further paths to an image that is there already", path)
                    continue
                paths[path] = found
                asked.append((None, path))
                files.add(found.real)
        except UnreadableImage as error:
            raise UsageError(str(error)) from None
    entries = [str(entry) for entry in inputs if not isinstance(entry, HeldImage)]
    root = _common_root(entries, paths, keep)
    images = {path: _image(path, one, root) for path, one in paths.items()}
    names = tuple((images[path].name if name is None else name, images[path].name) for name, path in asked)
    return FoundImages(root, list(images.values()), search.passed_over.sentences(), names)


def _common_root(entries: Sequence[str], paths: Mapping[str, HeldImage | FoundFile], keep: Path | None) -> Path:
    """What the names of the images at these paths are relative to. Raises UsageError for images of two kinds of place.

    keep: folder of those in memory.
    """
    roots = [_root(entry) for entry in entries]
    if keep and any(isinstance(one, HeldImage) for one in paths.values()):
        roots.append(os.path.abspath(keep))
    protocols = sorted({Address(path).protocol for path in paths if is_address(path)})
    here = any(not is_address(path) and not path.startswith("memory:") for path in paths)
    if len(protocols) + here > 1:
        places = [f"{protocol}://" for protocol in protocols] + ["this machine"] * here
        raise UsageError(f"images from {' and from '.join(places)} cannot be in one run; give them to separate runs")
    if protocols:
        top = f"{protocols[0]}://"
        root = Address(os.path.commonpath([root if root.startswith(top) else top for root in roots]))
        below = all(Address(path).is_relative_to(root) for path in paths if is_address(path))
        return root if below else Address(top)  # a list may name images anywhere
    return Path(os.path.commonpath(roots)) if roots else Path.cwd()


def _image(path: str, one: HeldImage | FoundFile, root: Path) -> Image:
    """one: the image in memory or the file that `path` stands for."""
    if isinstance(one, FoundFile):
        return Image(_name(path, root), local_or_address(path), stat=one.stat)
    if path.startswith("memory:"):
        return Image(path, Path(one.name), one.sha256, one.data)
    return Image(_name(path, root), Path(path), one.sha256, one.data)


def _expand(entry: str, search: Search, outside: bool) -> Iterator[tuple[FoundFile, bool]]:
    """The files that an input names, and whether a manifest lists them."""
    if not entry.strip():
        raise UsageError(f"an input is empty ({entry!r}; an unset variable?); give files, folders, globs or manifests")
    if "\0" in entry:
        raise UsageError(f"{entry!r} cannot be a path; give image files, folders, globs or manifests")
    path = _given_path(entry)
    kind = _kind(path)
    if kind == "folder":
        yield from _folder(path, search, outside)
    elif kind == "file" and path.suffix.lower() in MANIFESTS:
        yield from _listed(read_manifest(path), search)
    elif kind == "file" and path.suffix.lower() == ".parquet":
        yield from _in_parquet(path, search)
    elif kind == "file" and is_archive(path):
        yield from _archived(path, search)
    elif kind is not None:
        yield FoundFile(str(path), search.real(str(path)), _stat(path)), False
    elif glob.has_magic(entry):
        yield from _matching(path, search)
    else:
        hint = (
            "; give an address as text, since a Path drops a slash" if re.match(r"[A-Za-z0-9]{2,}:/[^/]", entry) else ""
        )
        raise UsageError(f"{entry!r} does not exist; give image files, folders, globs or a .jsonl/.csv manifest{hint}")


def _given_path(entry: str) -> Path:
    """Raises UsageError for an address that nothing here opens."""
    return checked_address(entry) if is_address(entry) else Path(entry)


def _kind(path: Path) -> Literal["folder", "file", "other"] | None:
    """What there is; None for nothing. Raises UnreadableImage for a bucket that does not say."""
    if isinstance(path, Address):
        found = buckets.facts(path)
        return None if found is None else "folder" if found.folder else "file"
    if os.path.isdir(path):
        return "folder"
    return "file" if os.path.isfile(path) else "other" if os.path.lexists(path) else None


def _stat(path: Path) -> tuple[int | None, int | None] | None:
    """Of what lies in a bucket; the other files are looked at when their turn comes."""
    found = buckets.facts(path) if isinstance(path, Address) else None
    return (found.size, found.mtime) if found else None


def _listed(paths: Iterable[Path], search: Search) -> Iterator[tuple[FoundFile, bool]]:
    return ((FoundFile(str(path), search.real(str(path))), True) for path in paths)


def _in_parquet(path: Path, search: Search) -> Iterator[tuple[FoundFile, bool]]:
    """The images in the rows of a Parquet file, or those whose paths it lists, from its folder. Raises UsageError."""
    table = open_parquet(path)
    if embedded_column(table.columns) is not None:
        real, stat = search.real(str(path)), _stat(path) or archives.stat(path)
        for number in range(sum(table.groups)):
            yield FoundFile(f"{path}/{number}", f"{real}/{number}", stat), False
        return
    key = check_image_key(table.columns, f"the columns of {path}")
    for row in table.rows([key]):
        if row.wrong:
            raise UsageError(row.wrong)
        where = f"{path}, row {row.number}"
        image = listed_path(where, path.parent, check_image_path(where, row.values[key], addresses=True))
        yield from _listed([image], search)


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
        if _kind(folder / name) == "file":
            yield from _listed(read_manifest(folder / name, None if outside else folder), search)
            return
    none, tables = True, list[str]()
    for found in search.files(str(folder), ("**", "*")):
        if os.path.splitext(found.path)[1].lower() in SUFFIXES:
            none = False
            yield found, False
        elif is_archive(local_or_address(found.path)):
            search.passed_over.add("archives (give them as inputs)", found.path)
        elif found.path.lower().endswith(".parquet"):
            tables.append(found.path)
    if none:
        for table in tables:
            search.passed_over.add("Parquet files (give them as inputs)", table)
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
            none, member = False, archive.members[name]
            stat = (member.size, member.mtime) if isinstance(path, Address) else None
            yield FoundFile(str(path / name), os.path.join(search.real(str(path)), name), stat), False
        elif os.path.splitext(last)[1].lower() in SIDECARS and not hidden and not system:
            search.passed_over.add("texts beside the images in archives", str(path / name))
    if none:
        raise UsageError(
            f"the archive {str(path)!r} holds no images ({', '.join(sorted(SUFFIXES))}): give the archive that does, "
            "or unpack it and name the files"
            + "".join(f"; passed over: {sentence}" for sentence in search.passed_over.sentences())
        )


def _matching(pattern: Path, search: Search) -> Iterator[tuple[FoundFile, bool]]:
    """Files that a glob matches."""
    folder = _plain_folder(pattern)
    parts = pattern.parts[len(folder.parts) :]
    above = () if isinstance(folder, Address) else (folder, *Path(os.path.abspath(folder)).parents)
    found = [] if any(map(is_run, above)) else list(search.files(str(folder), parts))
    if not found:
        looked = folder if isinstance(folder, Address) else os.path.abspath(folder)
        raise UsageError(
            f"{str(pattern)!r} matches no file in {str(looked)!r}: check the folder and the pattern"
            + "".join(f"; passed over: {sentence}" for sentence in search.passed_over.sentences())
        )
    for one in found:
        if is_archive(path := local_or_address(one.path)):
            yield from _archived(path, search)
        elif path.suffix.lower() == ".parquet":
            yield from _in_parquet(path, search)
        else:
            yield one, False


def _plain_folder(pattern: Path) -> Path:
    """The part of a glob before its first pattern; empty in the current folder."""
    return type(pattern)(*itertools.takewhile(lambda part: not glob.has_magic(part), pattern.parts))


def _root(entry: str) -> str:
    """What an input's names are relative to. It must not depend on which files there are today."""
    path = _given_path(entry)
    kind = _kind(path)
    if kind is None and glob.has_magic(entry):
        top = _plain_folder(path)
    else:
        top = path if kind == "folder" or (kind == "file" and is_archive(path)) else path.parent
    return str(top) if isinstance(top, Address) else os.path.abspath(top)


def _name(path: str, root: Path) -> str:
    relative = Path(os.path.relpath(path, root)).as_posix()
    return relative.encode("utf-8", "backslashreplace").decode("utf-8")
