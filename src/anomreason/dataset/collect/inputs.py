"""The images that an input names: folders, globs, tables, archives, imagefolders, WebDataset tars, scenes.

Nothing is opened that need not be: only rows and names are read. A file or row that cannot be read is an entry with the
reason; a folder without images raises UsageError.

    for entry in Inputs(store.place).entries("flux/"):
        print(entry.name, entry.prompt)
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path, PurePosixPath
from typing import Any

from anomreason import archives, buckets
from anomreason.archives import is_archive, open_archive
from anomreason.buckets import Address, checked_address, is_address, local_or_address
from anomreason.columns import embedded_column
from anomreason.containers import HEAD, kind_of
from anomreason.dataset.collect.entries import IMAGES, PROMPT_KEYS, ROW_KEYS, ImageEntry, Remark, SourceRule, described
from anomreason.dataset.store import storable
from anomreason.errors import ParseError, UnreadableImage, UsageError, shown
from anomreason.files import parse_json, read_lines
from anomreason.sources.annotations import key_of
from anomreason.sources.inputs import SUFFIXES
from anomreason.sources.manifests import check_image_key, check_image_path, listed_path
from anomreason.sources.rows import TABLES, count_rows, open_parquet, read_rows
from anomreason.sources.scenes import iter_scenes
from anomreason.sources.searching import SYSTEM_FOLDERS, FoundFile, PassedOver, Search

_METADATA = ("metadata.jsonl", "metadata.csv", "metadata.parquet")
_CAPTIONS = (".txt", ".caption", ".prompt")
"""Endings of the files beside an image in a WebDataset tar that hold its prompt."""
_MOST_SIDECAR = 1 << 20
"""Bytes of such a file."""


def none_known(places: list[str], size: int | None, mtime: int | None) -> bool:
    """Stands for a store that knows no file."""
    return False


@dataclass
class Inputs:
    """Reads the inputs of one command."""

    place: Callable[[Path], str]
    """A path as the store writes it."""
    rule: SourceRule = field(default_factory=SourceRule)
    all_known: Callable[[list[str], int | None, int | None], bool] = none_known
    """Whether the store knows all these places, with this size and time; such rows are not read."""
    passed_over: PassedOver = field(default_factory=PassedOver)
    """What a search left out."""
    whole: list[tuple[str, int | None]] = field(default_factory=list)
    """Place and time of each file that was read to its end."""
    problems: list[str] = field(default_factory=list)
    """What keeps files from being read to their end."""
    known: int = 0
    """Rows that were passed over since all of their row group is known."""
    given: frozenset[str] = frozenset()
    """Places of the files that this command reads anyway; a search does not mention them."""
    without_row: dict[str, int] = field(default_factory=dict)
    """Images of imagefolders that have no row, by the metadata that lacks it."""
    stats: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """Size and time of what lies in buckets, by address, as far as listings told."""

    def entries(self, given: str) -> Iterator[ImageEntry]:
        """The images of one input, in a stable order. Raises UsageError where it cannot be read any further."""
        path = local_or_address(given)
        if isinstance(path, Address):
            yield from self._in_bucket(path)
        elif path.is_dir():
            yield from self._folder(path)
        elif os.path.lexists(given):
            yield from self._file(path, path.parent, storable(path.stem))
        else:
            root = Path(*takewhile(lambda part: not glob.has_magic(part), path.parts))
            for found in _matching(path, self.passed_over):
                yield from self._file(Path(found.path), root, _called(root))

    def _in_bucket(self, given: Address) -> Iterator[ImageEntry]:
        """As `entries`; a bucket that is lost is an input that cannot be read any further."""
        try:
            there = buckets.facts(given)
            if there is not None and there.folder:
                yield from self._folder(given)
            elif there is not None:
                self.stats[str(given)] = there.size, there.mtime
                yield from self._file(given, given.parent, storable(given.stem))
            else:
                root = Address(*takewhile(lambda part: not glob.has_magic(part), given.parts))
                for found in _matching(given, self.passed_over):
                    self.stats[found.path] = found.stat or (None, None)
                    yield from self._file(Address(found.path), root, _called(root))
        except UnreadableImage as error:
            raise UsageError(str(error)) from None

    def _stat(self, path: Path) -> tuple[int | None, int | None]:
        """Size and time of a file; of one in a bucket as its listing told, as each would take a question."""
        if isinstance(path, Address):
            return self.stats.get(str(path), (None, None))
        return archives.stat(path) or (None, None)

    def _file(self, path: Path, root: Path, default: str) -> Iterator[ImageEntry]:
        """The images of a file; where it turns out to be damaged, an entry with the reason is the last."""
        yield from self._guarded(path, default, self._content(path, root, default))

    def _guarded(self, path: Path, default: str, entries: Iterator[ImageEntry]) -> Iterator[ImageEntry]:
        place = storable(self.place(path))
        size, mtime = self._stat(path)
        try:
            yield from entries
        except UsageError as error:
            self.problems.append(str(error))
            wrong = Remark("bad_input", storable(str(error)))
            yield described({}, ImageEntry(place, place, path, size, mtime, unreadable=wrong), default, self.rule)
        else:
            self.whole.append((place, mtime))

    def _content(self, path: Path, root: Path, default: str) -> Iterator[ImageEntry]:
        if path.suffix.lower() in TABLES:
            yield from self._table(path, path.parent, default)
        elif is_archive(path):
            yield from self._archive(path, default)
        else:
            yield self._image(path, root, default)

    def _folder(self, folder: Path) -> Iterator[ImageEntry]:
        default = _called(folder)
        metadata = folder / _METADATA[0]
        if _is_scenes(metadata):
            yield from self._scenes(folder, default)
            return
        found = _listing(folder, self.passed_over, self._is_own)
        self.stats |= found.stats
        if found.images or found.metadata:
            self._mention(found)
        listed: set[str] = set()
        problems = len(self.problems)
        for path in found.metadata:
            for entry in self._guarded(path, default, self._table(path, folder, default, inside=path.parent)):
                listed.add(entry.place)
                yield entry
        if len(self.problems) > problems:
            self.passed_over.add("images without a row so far, since the metadata cannot be read", str(folder))
        elif found.images:
            yield from self._unlisted(folder, default, found.metadata, listed)
        elif not found.metadata:
            for path in found.containers:
                yield from self._file(path, folder, default)

    def _unlisted(
        self, folder: Path, default: str, metadata: list[Path], listed: Collection[str]
    ) -> Iterator[ImageEntry]:
        """The images of a folder that its metadata, if there is any, does not list. listed: places."""
        where = str(metadata[0]) if len(metadata) == 1 else f"the metadata of {folder}"
        for one in Search().files(str(folder), ("**", "*")):
            path = local_or_address(one.path)
            if not _is_image(one.path) or self._is_own(path, folder) or storable(self.place(path)) in listed:
                continue
            if metadata:
                self.without_row[where] = self.without_row.get(where, 0) + 1
            yield self._image(path, folder, default)

    def _mention(self, found: _Listing) -> None:
        """Say which tables and archives beside images are not read."""
        for path in (*found.tables, *found.containers):
            if self.place(path) in self.given:
                continue
            if path.suffix.lower() in TABLES:
                reason = f"tables beside images; give them as inputs, or name them {' or '.join(_METADATA)}"
            else:
                reason = "archives beside images; give them as inputs"
            self.passed_over.add(reason, str(path))

    def _is_own(self, path: Path, folder: Path) -> bool:
        """Whether a search of a folder came upon what the dataset itself keeps: its copies, its runs, its exports."""
        place = self.place(path)
        if isinstance(path, Address):
            return False
        return not os.path.isabs(place) and (place.startswith(f"{IMAGES}/") or not self._is_below(folder))

    def _is_below(self, folder: Path) -> bool:
        place = self.place(folder)
        return not os.path.isabs(place) and place != "."

    def _image(self, path: Path, root: Path, default: str) -> ImageEntry:
        entry = self._placed(path, _name(path, root))
        return described({}, entry, default, self.rule)

    def _placed(self, path: Path, name: str) -> ImageEntry:
        """A file under its name in the source."""
        size, mtime = self._stat(path)
        place = self.place(path)
        if (sound := storable(place)) != place:
            wrong = Remark("bad_name", f"the name {sound!r} is not UTF-8; rename the file")
            return ImageEntry(sound, storable(name), path, size, mtime, unreadable=wrong)
        return ImageEntry(place, storable(name), path, size, mtime)

    def _table(self, path: Path, root: Path, default: str, inside: Path | None = None) -> Iterator[ImageEntry]:
        """inside: a folder that every image must lie in."""
        if path.suffix.lower() == ".parquet":
            yield from self._parquet(path, root, default, inside)
            return
        place, any_good = self.place(path), False
        size, mtime = self._stat(path)
        for row in read_rows(path):
            where = f"{path}, line {row.number}"
            at = ImageEntry(storable(f"{place}/{row.number}"), storable(f"{path.name}/{row.number}"), path, size, mtime)
            try:
                if row.wrong:
                    raise UsageError(row.wrong)
                key = _image_key(row.values, where)
                any_good = True
                image = check_image_path(where, row.values[key], addresses=inside is None)
                entry = self._listed(path.parent, root, image, inside)
            except UsageError as error:
                if not any_good and not row.wrong:
                    raise
                entry = replace(at, unreadable=_wrong_row(error))
            yield described(row.values, entry, default, self.rule)

    def _listed(self, folder: Path, root: Path, image: str, inside: Path | None) -> ImageEntry:
        """The image that a row names. folder: of the table; root: that names are relative to."""
        path = listed_path(str(folder), folder, image)
        entry = self._placed(path, _name(path, root))
        if inside is not None and not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(inside)):
            raise _Outside(
                f"{shown(image)} lies outside of {str(inside)!r}; to allow that, give the list itself as input"
            )
        return entry

    def _parquet(self, path: Path, root: Path, default: str, inside: Path | None) -> Iterator[ImageEntry]:
        table = open_parquet(path)
        key = embedded_column(table.columns) or _image_key(table.columns, str(path))
        columns = [key, *(name for name in table.columns if name.strip().lower() in ROW_KEYS and name != key)]
        place, (size, mtime) = storable(self.place(path)), self._stat(path)

        def wanted(rows: range) -> bool:
            known = table.columns[key] and self.all_known([f"{place}/{n}" for n in rows], size, mtime)
            self.known += len(rows) * known
            return not known

        for row in table.rows(columns, wanted):
            at = ImageEntry(
                f"{place}/{row.number}", f"{path.stem}/{row.number:06}", path / str(row.number), size, mtime
            )
            value = row.values.get(key)
            if row.wrong:
                entry = replace(at, unreadable=Remark("damaged", storable(row.wrong)))
            elif table.columns[key]:
                entry = _embedded(at, value)
            else:
                try:
                    image = check_image_path(f"{path}, row {row.number}", value, addresses=inside is None)
                    entry = self._listed(path.parent, root, image, inside)
                except UsageError as error:
                    entry = replace(at, unreadable=_wrong_row(error))
            yield described({k: v for k, v in row.values.items() if k != key}, entry, default, self.rule)

    def _archive(self, path: Path, default: str) -> Iterator[ImageEntry]:
        """Images in an archive, with the prompts and the metadata of files of the same key, as in WebDataset."""
        archive = open_archive(path, damaged=True)
        for reason, name in archive.passed_over:
            self.passed_over.add(reason, str(path / name))
        for name in sorted(filter(_is_shown, archive.members)):
            if isinstance(path, Address):
                self.stats[str(path / name)] = archive.members[name].size, archive.members[name].mtime
            entry = self._placed(path / name, name)
            values, remark = _beside(archive, name)
            entry = described(values, entry, default, self.rule)
            yield entry if remark is None else replace(entry, remark=remark)
        if archive.damage:
            raise UsageError(
                f"the archive {str(path)!r} is cut off ({archive.damage}): the members before that were read; copy or "
                "download it again"
            )

    def _scenes(self, folder: Path, default: str) -> Iterator[ImageEntry]:
        for _, image, anomalies in iter_scenes(folder):
            scene = f"{self.place(folder)}/{image.twin_of or image.file_name}" if image.seed is None else image.seed
            entry = self._listed(folder, folder, image.file_name, folder)
            world = image.world or "unknown"
            values = {"generator": f"scenes {world}", "source": default}
            entry = described(values, entry, default, self.rule)
            yield replace(entry, group=storable(f"scene {world} {scene}"), anomalies=anomalies)


class _Outside(UsageError):
    """A row names a file that its list may not name."""


def _wrong_row(error: UsageError) -> Remark:
    return Remark("outside" if isinstance(error, _Outside) else "bad_row", storable(str(error)))


def check_input(given: str) -> None:
    """Raises UsageError for an input that is none, before anything is read."""
    if not given.strip() or "\0" in given:
        raise UsageError(f"an input is {given!r} (an unset variable?); give images, folders, globs, tables or archives")
    if is_address(given):
        _check_address(given)
    elif not os.path.lexists(given) and not glob.has_magic(given):
        raise UsageError(f"{given!r} does not exist; give images, folders, globs, tables or archives")
    if Path(given).suffix.lower() in (".json", ".txt") and os.path.isfile(given):
        raise UsageError(
            f"{given!r} names no images: give annotations with --annotations, splits with --splits, and a list of "
            "prompts with --prompts"
        )


def _check_address(given: str) -> None:
    address = checked_address(given)
    try:
        missing = buckets.facts(address) is None and not glob.has_magic(given)
    except UnreadableImage as error:
        raise UsageError(str(error)) from None
    if missing:
        raise UsageError(f"{given!r} does not exist; give images, folders, globs, tables or archives")


def count_entries(given: str) -> int:
    """About how many entries an input has, for progress. Raises UsageError as `Inputs.entries`."""
    path, passed = Path(given), PassedOver()
    if is_address(given):
        return 0  # a listing is not made twice
    if path.is_dir():
        found = _listing(path, passed, lambda path, folder: False)
        return found.images or sum(map(_count, found.containers))
    return _count(path) if os.path.lexists(given) else sum(_count(Path(one.path)) for one in _matching(path, passed))


def _count(path: Path) -> int:
    if path.suffix.lower() in TABLES:
        return count_rows(path)
    return sum(map(_is_shown, open_archive(path, damaged=True).members)) if is_archive(path) else 1


@dataclass(slots=True)
class _Listing:
    """What a folder holds."""

    images: int = 0
    metadata: list[Path] = field(default_factory=list)
    tables: list[Path] = field(default_factory=list)
    """Tables that are no metadata, but for Parquet files."""
    containers: list[Path] = field(default_factory=list)
    """Parquet files and archives, which are read where there are no images."""
    stats: dict[str, tuple[int | None, int | None]] = field(default_factory=dict)
    """As `Inputs.stats`."""


def _listing(folder: Path, passed_over: PassedOver, is_own: Callable[[Path, Path], bool]) -> _Listing:
    search, listing = Search(), _Listing()
    search.passed_over = passed_over
    for found in search.files(str(folder), ("**", "*")):
        path = local_or_address(found.path)
        if is_own(path, folder):
            continue
        if found.stat is not None:
            listing.stats[found.path] = found.stat
        if path.name in _METADATA:
            listing.metadata.append(path)
        elif _is_image(found.path):
            listing.images += 1
        elif path.suffix.lower() == ".parquet" or is_archive(path):
            listing.containers.append(path)
        elif path.suffix.lower() in TABLES:
            listing.tables.append(path)
    if not (listing.images or listing.metadata or listing.containers):
        passed = "".join(f"; passed over: {sentence}" for sentence in passed_over.sentences())
        raise UsageError(
            f"the folder {str(folder)!r} holds no images ({', '.join(sorted(SUFFIXES))}), Parquet files or "
            f"archives: name the folder that does{passed}"
        )
    return listing


def _matching(pattern: Path, passed_over: PassedOver) -> Iterator[FoundFile]:
    head = type(pattern)(*takewhile(lambda part: not glob.has_magic(part), pattern.parts))
    search, none = Search(), True
    search.passed_over = passed_over
    for found in search.files(str(head), pattern.parts[len(head.parts) :]):
        none = False
        yield found
    if none:
        folder = head if isinstance(head, Address) else os.path.abspath(head)
        missing = not isinstance(head, Address) and not head.is_dir()
        looked = f"there is no folder {str(folder)!r}" if missing else f"searched {str(folder)!r}"
        raise UsageError(f"{str(pattern)!r} matches no file ({looked}); check the folder and the pattern")


def _is_scenes(metadata: Path) -> bool:
    try:
        return metadata.is_file() and {"anomalies", "twin_of"} <= next(iter(read_lines(metadata)), (0, {}))[1].keys()
    except UsageError:
        return False


def _image_key(columns: Mapping[str, Any], where: str) -> str:
    try:
        return check_image_key(columns, where)
    except UsageError as error:
        if known := {key.strip().lower() for key in columns} & set(PROMPT_KEYS):
            raise UsageError(
                f"{error}; where {shown(min(known))} holds prompts alone, give it with --prompts"
            ) from None
        raise


def _embedded(at: ImageEntry, value: Any) -> ImageEntry:
    """The image in a cell of a Parquet file: bytes, or {bytes, path}."""
    data, path = (value.get("bytes"), value.get("path")) if isinstance(value, Mapping) else (value, None)
    if not data:
        return replace(at, unreadable=Remark("empty", "the cell holds no image; write its bytes"))
    if isinstance(path, str) and path.strip():
        name = key_of(path).lstrip("/")
    else:
        name = f"{at.name}.{(kind_of(data[:HEAD]) or 'bin').lower()}"
    return replace(at, name=storable(name), data=data)


def _beside(archive: archives.Archive, name: str) -> tuple[Mapping[str, Any], Remark | None]:
    """What the files of the same key as an image of an archive say of it."""
    folder, _, last = name.rpartition("/")
    key = (f"{folder}/" if folder else "") + last.partition(".")[0]
    values: dict[str, Any] = {}
    try:
        for ending in _CAPTIONS:
            if (text := _read_beside(archive, key + ending)) is not None:
                values.setdefault("prompt", text.strip())
        if (text := _read_beside(archive, f"{key}.json")) is not None:
            stated = parse_json(text)
            values = {**stated, **values} if isinstance(stated, dict) else values
    except (UnreadableImage, ParseError) as error:
        return values, Remark("bad_row", storable(f"the file of metadata beside {name!r} cannot be read: {error}"))
    return values, None


def _read_beside(archive: archives.Archive, name: str) -> str | None:
    member = archive.members.get(name)
    if member is None:
        return None
    if member.size > _MOST_SIDECAR:
        raise UnreadableImage(f"{name!r} has {member.size:,} bytes, more than {_MOST_SIDECAR:,}", reason="too_large")
    return archive.read(name).decode("utf-8-sig", "replace")


def _is_image(path: str) -> bool:
    return os.path.splitext(path)[1].lower() in SUFFIXES


def _is_shown(member: str) -> bool:
    """Whether a member of an archive is an image, and not one of the system's or a hidden one."""
    *folders, last = member.split("/")
    hidden = any(part.startswith(".") for part in (*folders, last))
    return _is_image(last) and not hidden and not any(part.lower() in SYSTEM_FOLDERS for part in folders)


def _name(path: Path, root: Path) -> str:
    if isinstance(path, Address):
        place = path.parts[len(root.parts) if path.is_relative_to(root) else 1 :]
        return "/".join(place)
    whole, top = Path(os.path.abspath(path)), Path(os.path.abspath(root))
    inside = whole.is_relative_to(top)
    return PurePosixPath(whole.relative_to(top) if inside else str(path).lstrip("/")).as_posix()


def _called(folder: Path) -> str:
    """The name of a source after its folder."""
    return storable(Path(os.path.abspath(folder)).name) or "images"
