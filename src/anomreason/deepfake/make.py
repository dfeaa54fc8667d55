"""Makes a set of photographs and AI images from folders: one truth, a grouped split, a check of what the files tell.

    sources = (SetSource("photos", Path("photos"), False), SetSource("flux", Path("generated"), True))
    print(make_set(Path("set"), sources).images)

Images are linked to, not copied, unless asked. The same call again takes in what is new; an image keeps its part.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from pydantic import Field

from anomreason.anomaly import Result
from anomreason.dataset.leaks import FileTable, FormatLeak, format_leak
from anomreason.dataset.split import NEW, RATIOS, SALT, Codes, assign, group_labels, image_keys
from anomreason.deepfake.encoding import LEAST_SIDE, Reencoding
from anomreason.deepfake.folder import SetFolder
from anomreason.deepfake.inspecting import FileRecord, inspect, near_duplicates
from anomreason.errors import ParseError, StorageError, UsageError
from anomreason.files import read_object, write_atomically
from anomreason.images import load_pixels
from anomreason.runs import FolderKind, ResumableFolder, is_run, read_results
from anomreason.sources.inputs import METADATA, find_images
from anomreason.sources.manifests import as_path, manifest_rows, read_split
from anomreason.textform.fields import anomaly_from_json

FOLDER = FolderKind("set", "made.json", "set.lock", "another OUT")
SHOWN = 5
"""Names that a message or report lists of each sort."""
Progress = Callable[[str, int, int], None]
"""Called with what is done, how much of it, and of how much."""
_NAME = r"[\w+.-]+"


class SetSource(NamedTuple):
    """One folder of photographs or of AI images."""

    name: str
    """Of the source or generator, in all tables."""
    folder: Path
    generated: bool
    """AI images (True) or photographs (False)."""


@dataclass(frozen=True, slots=True)
class SetOptions:
    """How a set is made."""

    ratios: Mapping[str, float] = field(default_factory=lambda: dict(RATIOS))
    """Share of each part, adding up to 1."""
    salt: str = SALT
    """Another one gives another division."""
    copy: bool = False
    """Copy the files into the set, instead of linking to them."""
    reencode: Reencoding | None = None
    """Save every image anew, all alike."""


class SourceCount(Result):
    """What became of the files of one source."""

    name: str
    generated: bool
    images: int
    """In the set."""
    duplicates: int
    """Left out, since the same image is in the set already."""
    unreadable: int


class SetReport(Result):
    """A set, and what is to be known about it."""

    settings: dict[str, Any]
    """That decide the files and the division; another value needs another folder."""
    sources: tuple[SourceCount, ...]
    unreadable: dict[str, str] = Field(default_factory=dict)
    """By path, why."""
    passed_over: tuple[str, ...] = ()
    parts: dict[str, dict[str, int]] = Field(default_factory=dict)
    """By part, the number of `photographs` and `ai_images`."""
    without_part: tuple[str, ...] = ()
    """Images that are like images of several parts, and so in none."""
    alike: int = 0
    """Images that are near-duplicates of another one of the set; they are in its part."""
    crossing: tuple[tuple[str, str], ...] = ()
    """Near-duplicates of which one is called a photograph and the other an AI image."""
    described: int = 0
    """Photographs with a description."""
    annotated: int = 0
    """AI images that were searched for anomalies."""
    form: FormatLeak | None = None
    """What the files alone give away."""
    square: int = 0
    """Side in pixels to which 95 % of the images can be cut to a square without being enlarged."""

    @property
    def images(self) -> int:
        return sum(one.images for one in self.sources)


@dataclass(frozen=True, slots=True)
class _Member:
    """One image of the set."""

    source: SetSource
    relative: str
    """To its source's folder."""
    record: FileRecord
    row: Mapping[str, Any]
    """What the source's metadata file says of it."""
    name: str = ""
    """In the set."""


def make_set(
    out: Path,
    sources: Sequence[SetSource],
    options: SetOptions = SetOptions(),
    progress: Progress = lambda what, done, total: None,
) -> SetReport:
    """Make a set, or take in what is new.

    A `metadata.jsonl` or `.csv` of a folder may give `prompt`, `group`, `description` and `anomalies` of each image;
    images of one prompt or group get into one part. Raises UsageError for folders that cannot be used, for an image
    that is in both classes, and when the set was made with other settings; RunConflict while another process makes it.
    """
    _check(out, sources)
    with ResumableFolder(out, FOLDER):
        return _make(SetFolder(out), sources, options, progress)


def _make(folder: SetFolder, sources: Sequence[SetSource], options: SetOptions, progress: Progress) -> SetReport:
    settings = _settings(options)
    before = _before(folder, settings)
    members, counts, unreadable, passed_over = _gathered(folder, sources, progress)
    members = _named(_distinct(members, counts), options.reencode)
    _place(folder, members, options, progress)
    report = SetReport(settings=settings, sources=(), unreadable=unreadable, passed_over=passed_over)
    leaders = near_duplicates([one.record for one in members])
    keys = _keys(members, leaders)
    labels = group_labels(keys)
    parts, without = _divide(folder, members, keys, options)
    files = [one.record for one in members]
    if options.reencode:
        files = inspect([folder.images / one.name for one in members], folder.files, _step(progress, "files"))
    described = _write_truth(folder, members)
    for stale in before - {one.name for one in members}:
        with suppress(OSError):
            (folder.images / stale).unlink()
    crossing = [
        (members[a].name, members[b].name) if members[b].source.generated else (members[b].name, members[a].name)
        for b, a in enumerate(leaders.tolist())
        if members[a].source.generated != members[b].source.generated
    ]
    report = report.model_copy(
        update={
            "sources": tuple(
                SourceCount(
                    name=one.name,
                    generated=one.generated,
                    images=sum(member.source == one for member in members),
                    duplicates=counts[one, "duplicates"],
                    unreadable=counts[one, "unreadable"],
                )
                for one in sources
            ),
            "parts": parts,
            "without_part": without,
            "alike": int((leaders != np.arange(len(members))).sum()),
            "crossing": tuple(crossing),
            "annotated": sum(one.source.generated and _anomalies(one) is not None for one in members),
            "described": described,
            "form": _form(members, files, labels),
            "square": max(LEAST_SIDE, int(np.percentile([min(one.width, one.height) for one in files], 5))),
        }
    )
    write_report(folder, report)
    return report


def write_report(folder: SetFolder, report: SetReport) -> None:
    """Write what a set is, and what was found."""
    write_atomically(folder.made, json.dumps(report.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")


def take_descriptions(folder: SetFolder) -> int:
    """Write the descriptions that the set's run made into the truth; gives the number of photographs with one."""
    results = read_results(folder.descriptions) if is_run(folder.descriptions) else {}
    found = {name: one.description for name, one in results.items() if one.description}
    rows = [json.loads(line) for line in folder.truth.read_text(encoding="utf-8").splitlines()]
    for row in rows:
        if not row["generated"] and "description" not in row and row["image"] in found:
            row["description"] = found[row["image"]]
    _write_rows(folder, rows)
    return sum("description" in row for row in rows)


def undescribed(folder: SetFolder) -> tuple[str, ...]:
    """The photographs of a set that no metadata file describes: what a model is to describe."""
    results = read_results(folder.descriptions) if is_run(folder.descriptions) else {}
    return tuple(
        row["image"]
        for row in map(json.loads, folder.truth.read_text(encoding="utf-8").splitlines())
        if not row["generated"] and ("description" not in row or row["image"] in results)
    )


def _check(out: Path, sources: Sequence[SetSource]) -> None:
    for generated, option, what in ((False, "--real", "photographs"), (True, "--fake", "AI images")):
        if not any(one.generated is generated for one in sources):
            raise UsageError(f"no folder of {what} is named; give one with {option} FOLDER")
    for name, times in Counter(one.name.casefold() for one in sources).items():
        if times > 1:
            raise UsageError(f"{times} folders are called {name!r}; give each a name of its own as NAME=FOLDER")
    for one in sources:
        if not re.fullmatch(_NAME, one.name) or not one.name.strip("."):
            raise UsageError(f"{one.name!r} cannot name a source; use letters, digits and -_.+, as NAME=FOLDER")
        if not one.folder.is_dir():
            raise UsageError(f"{str(one.folder)!r} is no folder; give a folder of images as [NAME=]FOLDER")
        if out.resolve() == one.folder.resolve():
            raise UsageError(f"{str(out)!r} is a folder of images itself; choose another one for the set")


def _settings(options: SetOptions) -> dict[str, Any]:
    form = options.reencode
    return {
        "ratios": dict(options.ratios),
        "salt": options.salt,
        "reencode": form.text if form else None,
        "square": form.square if form else None,
    }


def _before(folder: SetFolder, settings: Mapping[str, Any]) -> set[str]:
    """Names of the images of an earlier set here. Raises UsageError where it was made with other settings."""
    if not folder.made.is_file():
        write_atomically(folder.made, json.dumps({"settings": settings, "sources": []}) + "\n")
        return set()
    made = read_object(folder.made).get("settings")
    for name, value in settings.items():
        if not isinstance(made, dict) or made.get(name) != value:
            was = made.get(name) if isinstance(made, dict) else None
            raise UsageError(
                f"{folder.path} was made with {name} {was!r}, not {value!r}; make another set in a new folder"
            )
    if not folder.truth.is_file():
        return set()
    return {json.loads(line)["image"] for line in folder.truth.read_text(encoding="utf-8").splitlines()}


def _gathered(
    folder: SetFolder, sources: Sequence[SetSource], progress: Progress
) -> tuple[list[_Member], Counter[tuple[SetSource, str]], dict[str, str], tuple[str, ...]]:
    """All readable images, what was counted, the unreadable files, and what a search passed over."""
    searched = [(one, find_images([one.folder])) for one in sources]
    everything = [(one, image) for one, listed in searched for image in listed.images]
    found = [(one, image) for one, image in everything if _is_text(str(image.path))]
    passed_over = tuple(sentence for _, listed in searched for sentence in listed.passed_over)
    rows = {one: _rows(one.folder) for one in sources}
    records = inspect([image.path for _, image in found], folder.files, _step(progress, "images"))
    counts = Counter((one, "unreadable") for one, image in everything if not _is_text(str(image.path)))
    members = []
    unreadable = {
        ascii(str(image.path)): "its name is not UTF-8; rename the file"
        for _, image in everything
        if not _is_text(str(image.path))
    }
    for (source, image), record in zip(found, records, strict=True):
        if record.failure is None:
            row = rows[source].get(os.path.abspath(image.path), {})
            members.append(_Member(source, image.name, record, row))
        else:
            counts[source, "unreadable"] += 1
            unreadable[str(image.path)] = record.failure
    for one in sources:
        if not any(member.source == one for member in members):
            raise UsageError(
                f"no image in {str(one.folder)!r} can be read; the first: {next(iter(unreadable.items()))}"
            )
    return members, counts, unreadable, passed_over


def _is_text(path: str) -> bool:
    try:
        path.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _step(progress: Progress, what: str) -> Callable[[int, int], None]:
    return lambda done, total: progress(what, done, total)


def _rows(folder: Path) -> dict[str, Mapping[str, Any]]:
    """What the metadata file of a folder says, by absolute path."""
    for name in METADATA:
        if (folder / name).is_file():
            return {os.path.abspath(as_path(folder, row.image)): row.values for row in manifest_rows(folder / name)}
    return {}


def _distinct(members: Sequence[_Member], counts: Counter[tuple[SetSource, str]]) -> list[_Member]:
    """Each image once. Raises UsageError for one that is called both a photograph and an AI image."""
    first: dict[str, _Member] = {}
    kept, both = [], []
    for one in members:
        same = first.get(one.record.sha256) or first.get(one.record.pixels)
        if same is None:
            first[one.record.sha256] = first[one.record.pixels] = one
            kept.append(one)
        elif same.source.generated is one.source.generated:
            counts[one.source, "duplicates"] += 1
        else:
            both.append((same.record.path, one.record.path))
    if both:
        listed = "; ".join(f"{a!r} and {b!r}" for a, b in both[:SHOWN])
        more = f" and {len(both) - SHOWN:,} more" if len(both) > SHOWN else ""
        raise UsageError(
            f"{len(both):,} image{'s are' if len(both) > 1 else ' is'} in both classes: {listed}{more}; remove one of "
            "the two files, since an image is either a photograph or AI-generated"
        )
    return kept


def _named(members: Sequence[_Member], form: Reencoding | None) -> list[_Member]:
    """With a name in the set each: that of its file, and of its content where that is not enough."""
    plain = [_plain(one, form) for one in members]
    times = Counter(name.casefold() for name in plain)
    named = []
    for one, name in zip(members, plain, strict=True):
        if times[name.casefold()] > 1:
            path = PurePosixPath(name)
            name = str(path.with_name(f"{path.stem}-{one.record.sha256[:12]}{path.suffix}"))
        named.append(replace(one, name=name))
    return named


def _plain(member: _Member, form: Reencoding | None) -> str:
    path = PurePosixPath(member.relative.replace("../", "").replace("/", "-"))
    name = path.name if form is None else path.stem + form.suffix
    return f"{'1_fake' if member.source.generated else '0_real'}/{member.source.name}/{name}"


def _place(folder: SetFolder, members: Sequence[_Member], options: SetOptions, progress: Progress) -> None:
    """Put the files where the set has them; those that are there already stay."""
    for n, one in enumerate(members, 1):
        path, origin = folder.images / one.name, Path(one.record.path)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if options.reencode:
                _save_anew(path, origin, options.reencode)
            elif options.copy:
                _copy(path, origin, one.record)
            elif not (path.is_symlink() and os.readlink(path) == str(origin)):
                path.unlink(missing_ok=True)
                path.symlink_to(origin)
        except OSError as error:
            raise StorageError(
                f"cannot write {str(path)!r}: {error.strerror or error}; check folder and space"
            ) from None
        progress("written", n, len(members))


def _save_anew(path: Path, origin: Path, form: Reencoding) -> None:
    if path.is_file() and path.stat().st_mtime >= origin.stat().st_mtime:
        return
    write_atomically(path, form.apply(load_pixels(origin)[0]), sync=False)


def _copy(path: Path, origin: Path, record: FileRecord) -> None:
    there = path.is_file() and not path.is_symlink()
    if there and (path.stat().st_size, path.stat().st_mtime) == (record.size, record.mtime):
        return
    path.unlink(missing_ok=True)
    draft = path.with_name(f".{path.name}.part")
    shutil.copy2(origin, draft)
    os.replace(draft, path)


def _keys(members: Sequence[_Member], leaders: np.ndarray[Any, np.dtype[np.int64]]) -> Codes:
    """What binds images to each other, as `dataset.split` takes it."""
    rows = []
    for one, leader in zip(members, leaders.tolist(), strict=True):
        prompt, group = _text(one.row.get("prompt")), _text(one.row.get("group"))
        if group is None and "twin_of" in one.row:  # scenes, as `scenes make` writes them
            group = _text(one.row["twin_of"]) or one.relative
        group = None if group is None else f"{one.source.folder}\0{group}"
        rows.append(image_keys(one.record.sha256, group, members[leader].record.sha256, prompt, None))
    return np.array(rows, dtype=np.uint64)


def _text(value: object) -> str | None:
    return " ".join(value.split()) or None if isinstance(value, str) else None


def _divide(
    folder: SetFolder, members: Sequence[_Member], keys: Codes, options: SetOptions
) -> tuple[dict[str, dict[str, int]], tuple[str, ...]]:
    """Write the parts; gives their numbers, and the images that are in none."""
    names = list(options.ratios)
    placed = {name: n for n, part in enumerate(names) for name in _earlier(folder).get(part, ())}
    start = np.array([placed.get(one.name, NEW) for one in members], dtype=np.int64)
    after = assign(keys, start, options.ratios, options.salt).tolist()
    parts: dict[str, list[str]] = {name: [] for name in names}
    without: list[str] = []
    for one, place in zip(members, after, strict=True):
        (parts[names[place]] if place >= 0 else without).append(one.name)
    write_atomically(folder.split, json.dumps(parts, indent=1, ensure_ascii=False) + "\n")
    kinds = {one.name: "ai_images" if one.source.generated else "photographs" for one in members}
    counted = {part: Counter(kinds[name] for name in found) for part, found in parts.items()}
    return {
        part: {kind: found[kind] for kind in ("photographs", "ai_images")} for part, found in counted.items()
    }, tuple(without)


def _earlier(folder: SetFolder) -> Mapping[str, Sequence[str]]:
    return read_split(folder.split) if folder.split.is_file() else {}


def _anomalies(member: _Member) -> list[Any] | None:
    """As the metadata file has them. Raises UsageError for what is no anomaly."""
    found = member.row.get("anomalies")
    if not isinstance(found, list):
        return None
    try:
        for entry in found:
            anomaly_from_json(entry)
    except ParseError as error:
        where = f"{member.source.folder}, image {member.relative!r}"
        raise UsageError(f"{where}: an anomaly of its metadata file cannot be read: {error}") from None
    return found


def _description(member: _Member) -> str | None:
    return None if member.source.generated else _text(member.row.get("description"))


def _write_truth(folder: SetFolder, members: Sequence[_Member]) -> int:
    """Gives the number of photographs with a description."""
    rows = []
    for one in members:
        row: dict[str, Any] = {"image": one.name, "generated": one.source.generated}
        if one.source.generated and (anomalies := _anomalies(one)) is not None:
            row["anomalies"] = anomalies
        if (description := _description(one)) is not None:
            row["description"] = description
        rows.append(row)
    _write_rows(folder, rows)
    return take_descriptions(folder)


def _write_rows(folder: SetFolder, rows: Sequence[Mapping[str, Any]]) -> None:
    write_atomically(folder.truth, (f"{json.dumps(row, ensure_ascii=False)}\n".encode() for row in rows))


def _form(
    members: Sequence[_Member], files: Sequence[FileRecord], labels: np.ndarray[Any, np.dtype[np.int64]]
) -> FormatLeak:
    table = FileTable()
    for one, file in zip(members, files, strict=True):
        table.add(one.source.generated, file.format, (file.size, file.width, file.height), file.facts)
    return format_leak(table, labels, np.random.default_rng(0))
