"""Searches folders for files, whatever they hold: links, loops, unreadable and system folders. Opens no file.

Folders in buckets are searched alike, from one listing.

search = Search()
for found in search.files("photos", ("**", "*.png")):
    print(found.path)
print(search.passed_over.sentences())
"""

from __future__ import annotations

import fnmatch
import glob
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from anomreason.buckets import Address, FoundObject, is_address, listed
from anomreason.runs import RUN, is_run

SYSTEM_FOLDERS = frozenset(
    {
        *("@eadir", "@recycle", "@recently-snapshot", "@tmp", "@sharebin", "#recycle", "#snapshot", "__macosx"),
        *("$recycle.bin", "recycler", "recycled", "system volume information", "network trash folder"),
        *("temporary items", "lost+found", "lost.dir", "found.000"),
    }
)
"""Thumbnails, bins and bookkeeping of NAS devices and operating systems, in lower case; hidden ones need no entry."""
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r"})
NAMED = 5
"""Names that are given for each reason."""


@dataclass(slots=True)
class PassedOver:
    """What was passed over: how many by reason, and the first names."""

    counts: dict[str, int] = field(default_factory=dict)
    names: dict[str, list[str]] = field(default_factory=dict)

    def add(self, reason: str, name: str) -> None:
        self.counts[reason] = self.counts.get(reason, 0) + 1
        if len(named := self.names.setdefault(reason, [])) < NAMED:
            named.append(name)

    def sentences(self) -> tuple[str, ...]:
        """`2 unreadable folders: 'a', 'b'`, one a reason."""
        return tuple(
            f"{reason} ({count:,}): {', '.join(map(repr, self.names[reason]))}{', ...' * (count > NAMED)}"
            for reason, count in self.counts.items()
        )


class FoundFile(NamedTuple):
    """A file, under the name by which it was found."""

    path: str
    real: str
    """The same file without links."""
    stat: tuple[int | None, int | None] | None = None
    """Size and time of change (nanoseconds since 1970), where they came with its name."""


class _Place(NamedTuple):
    """A folder to look into, and the pattern for what is below it."""

    path: str
    pattern: tuple[str, ...]
    linked: bool
    """Whether it was reached by a link of its own."""


class Search:
    """Finds files by patterns; keeps what it passed over."""

    def __init__(self) -> None:
        self.passed_over = PassedOver()
        self._folders: dict[str, str] = {}

    def real(self, path: str) -> str:
        """As os.path.realpath, but fast for many files of one folder; an address as it is."""
        if is_address(path):
            return path
        if os.path.islink(path):
            return os.path.realpath(path)
        folder, name = os.path.split(os.path.abspath(path))
        if folder not in self._folders:
            self._folders[folder] = os.path.realpath(folder)
        return os.path.join(self._folders[folder], name)

    def files(self, folder: str, pattern: tuple[str, ...]) -> Iterator[FoundFile]:
        """Files below `folder` that fit the parts of a glob, e.g. `("**", "*.png")`; sorted within each folder.

        Linked folders are searched after all others, and no folder twice, so that a loop ends and an image is found
        under its own name first; links to files come last for the same reason. Hidden and system folders, and run
        folders, are entered only where the pattern names them; an unreadable folder is passed over. In a bucket nothing
        is unreadable on its own, so that UnreadableImage is raised.
        """
        if is_address(folder):
            yield from self._in_bucket(Address(folder), pattern)
            return
        above = set(Path(os.path.realpath(folder)).parents)
        seen: set[tuple[str, int]] = set()
        pending, linked, links = [_Place(folder, pattern, False)], list[_Place](), list[str]()
        while pending or linked:
            place = pending.pop() if pending else linked.pop(0)
            real = os.path.realpath(place.path)
            if (real, len(place.pattern)) in seen or Path(real) in above:
                if place.linked:
                    self.passed_over.add("links to folders that were searched already", place.path)
                continue
            seen.add((real, len(place.pattern)))
            below: list[_Place] = []
            for entry, rest in self._fitting(place, place.path == folder):
                if rest and _holds(entry.is_dir):
                    below.append(_Place(entry.path, rest, entry.is_symlink()))
                elif not rest and entry.is_symlink() and not _holds(entry.is_dir):
                    links.append(entry.path)
                elif not rest and _holds(entry.is_file):
                    yield FoundFile(entry.path, os.path.join(real, entry.name))
                elif not rest and not _holds(entry.is_dir):
                    self.passed_over.add("pipes, sockets and devices", entry.path)
            linked += [one for one in below if one.linked]
            pending += [one for one in reversed(below) if not one.linked]
        for path in links:
            if os.path.isfile(path) or not os.path.exists(path):  # a link that leads nowhere fails as an image, by name
                yield FoundFile(path, os.path.realpath(path))
            else:
                self.passed_over.add("pipes, sockets and devices", path)

    def _fitting(self, place: _Place, top: bool) -> Iterator[tuple[os.DirEntry[str], tuple[str, ...]]]:
        """Entries of a folder that fit, each with the pattern that is left for what is below it, () for a file."""
        patterns = [place.pattern]
        while patterns[-1][0] == "**":
            patterns.append(patterns[-1][1:] or ("*",))
        try:
            with os.scandir(place.path) as entries:
                listed = sorted(entries, key=lambda entry: entry.name)
            if not top and is_run(Path(place.path)):
                return
        except OSError as error:
            self.passed_over.add(f"folders that could not be read ({error.strerror})", place.path)
            return
        names = {entry.name for entry in listed}
        for entry in listed:
            for pattern in patterns:
                if pattern[0] == "**":
                    if self._enterable(entry):
                        yield entry, pattern
                elif entry.name == pattern[0] or (
                    pattern[0] not in names
                    and _fits(entry.name, pattern[0])
                    and (len(pattern) == 1 or self._enterable(entry, hidden=pattern[0].startswith(".")))
                ):
                    yield entry, pattern[1:]

    def _enterable(self, entry: os.DirEntry[str], hidden: bool = False) -> bool:
        """Whether a folder is one that is searched without being named."""
        if not _holds(entry.is_dir) or (entry.name.startswith(".") and not hidden):
            return False
        if entry.name.lower() in SYSTEM_FOLDERS:
            self.passed_over.add("folders of the system (thumbnails, bins)", entry.path)
            return False
        return True

    def _in_bucket(self, folder: Address, pattern: tuple[str, ...]) -> Iterator[FoundFile]:
        """The same of a folder in a bucket."""
        found = listed(folder, None if "**" in pattern else len(pattern))
        names = {one.name for one in found}
        settings = (name.removesuffix(f"/{RUN.settings}") for name in names if name.endswith(f"/{RUN.settings}"))
        runs = {place for place in settings if f"{place}/{RUN.lock}" in names}
        for one in sorted(found, key=_place_in_search):
            parts = tuple(one.name.split("/"))
            path = f"{folder}/{one.name}"
            above = {"/".join(parts[:n]) for n in range(1, len(parts))}
            if any(part in ("", ".", "..") for part in parts):
                self.passed_over.add("names in the bucket that no path can have", path)
            elif not above & runs and _matches(parts, pattern, partial(self._is_system, path)):
                yield FoundFile(path, path, (one.size, one.mtime))

    def _is_system(self, path: str, folder: str) -> bool:
        if folder.lower() not in SYSTEM_FOLDERS:
            return False
        self.passed_over.add("files in folders of the system (thumbnails, bins)", path)
        return True


def _place_in_search(found: FoundObject) -> tuple[tuple[int, str], ...]:
    """Sorts as folders are searched: the files of a folder, then its folders."""
    *folders, name = found.name.split("/")
    return (*((1, folder) for folder in folders), (0, name))


def _matches(parts: tuple[str, ...], pattern: tuple[str, ...], system: Callable[[str], bool]) -> bool:
    """Whether the parts of a name fit those of a glob, as `Search.files` takes them. system: folders not to enter."""
    if not parts or not pattern:
        return not parts and not pattern
    first, *others = pattern
    rest = tuple(others)
    if first == "**":
        if _matches(parts, rest or ("*",), system):
            return True
        enterable = len(parts) > 1 and not parts[0].startswith(".") and not system(parts[0])
        return enterable and _matches(parts[1:], pattern, system)
    if parts[0] == first:
        return _matches(parts[1:], rest, system)
    return _fits(parts[0], first) and not (len(parts) > 1 and system(parts[0])) and _matches(parts[1:], rest, system)


def _holds(check: Callable[[], bool]) -> bool:
    """What a directory entry says of itself; False when that cannot be seen."""
    try:
        return check()
    except OSError:
        return False


def _fits(name: str, pattern: str) -> bool:
    if name.startswith(".") and not pattern.startswith("."):
        return False
    return glob.has_magic(pattern) and name.lower() not in SYSTEM_FILES and fnmatch.fnmatchcase(name, pattern)
