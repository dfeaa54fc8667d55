"""`dataset verify`: whether an export is whole and unchanged, offline.

verify(Path("out")).whole
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

from anomreason.anomaly import Result
from anomreason.dataset.export.folder import MANIFEST, SUMS, places, read_sums, sum_of
from anomreason.dataset.export.formats import FORMATS
from anomreason.errors import UsageError, shown
from anomreason.files import read_object


class Difference(Result):
    """One thing in which an export is not what its sums and manifest say."""

    what: Literal["missing", "changed", "extra", "count"]
    place: str
    """The file, or the split whose numbers differ."""
    message: str = ""


class Verification(Result):
    """What `verify` found."""

    files: int
    """That the sums name."""
    images: int
    anomalies: int
    """As counted in the files; 0 where they cannot be read."""
    differences: tuple[Difference, ...]

    @property
    def whole(self) -> bool:
        return not self.differences


def verify(folder: Path, progress: Callable[[int, int], None] = lambda done, total: None) -> Verification:
    """Recompute sums and counts of an export. Raises UsageError for a folder that is none."""
    if not (folder / SUMS).is_file():
        raise UsageError(f"{str(folder)!r} is no export (it has no {SUMS}); give the folder that export wrote")
    sums = read_sums(folder)
    found: list[Difference] = []
    for done, (place, sha) in enumerate(sums.items(), 1):
        problem = _problem(folder, place, sha)
        if problem:
            found.append(problem)
        progress(done, len(sums))
    found += [Difference(what="extra", place=place) for place in places(folder) if place not in sums and place != SUMS]
    images = anomalies = 0
    if not any(one.place == MANIFEST for one in found):
        damaged = any(one.what != "extra" for one in found)
        images, anomalies, wrong = _counts(folder, damaged)
        found += wrong
    return Verification(files=len(sums), images=images, anomalies=anomalies, differences=tuple(found))


def _problem(folder: Path, place: str, sha: str) -> Difference | None:
    path = folder / place
    if Path(place).is_absolute() or ".." in Path(place).parts:
        return Difference(what="extra", place=place, message="lies outside of the folder, and was not read")
    if path.is_symlink() or not path.is_file():
        return Difference(what="missing", place=place)
    try:
        same = sum_of(path) == sha
    except OSError as error:
        return Difference(what="missing", place=place, message=f"cannot be read: {error.strerror or error}")
    return None if same else Difference(what="changed", place=place)


def _counts(folder: Path, damaged: bool) -> tuple[int, int, list[Difference]]:
    """Images and anomalies in the files, and where the manifest says otherwise."""
    said: dict[str, Any] = read_object(folder / MANIFEST)
    form = FORMATS.get(str(said.get("format")))
    if form is None:
        raise UsageError(f"{folder / MANIFEST}: unknown format {shown(said.get('format'))}; upgrade anomreason")
    try:
        counts = form.count(folder)
    except Exception as error:  # the files' fault, whatever reads them
        why = "files are missing or changed, see the other differences" if damaged else str(error)
        message = f"images and anomalies cannot be counted: {why}"
        return 0, 0, [Difference(what="count", place="all splits", message=message)]
    found = {split: count.model_dump() for split, count in counts.items()}
    splits = said.get("splits")
    expected = splits if isinstance(splits, dict) else {}
    wrong = [
        Difference(
            what="count",
            place=split,
            message=f"the manifest says {_said(expected.get(split))}, the files hold {_said(found.get(split))}",
        )
        for split in sorted({*expected, *found})
        if expected.get(split) != found.get(split)
    ]
    return sum(c.images for c in counts.values()), sum(c.anomalies for c in counts.values()), wrong


def _said(count: Any) -> str:
    if not isinstance(count, dict):
        return "nothing"
    return f"{count.get('images')} images and {count.get('anomalies')} anomalies"
