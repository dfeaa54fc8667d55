"""Two tables for a spreadsheet or a data frame: `images.csv`, one row an image, and `anomalies.csv`, one a candidate.

A text that a spreadsheet would take for a formula (it begins with `=`, `+`, `-`, `@`, a tab or a carriage return), or
that begins with an apostrophe, has an apostrophe before it. `unescaped` takes it away again.

    >>> escaped("=1+1"), unescaped("'=1+1")
    ("'=1+1", '=1+1')
"""

from __future__ import annotations

import csv
from contextlib import ExitStack
from io import TextIOWrapper
from pathlib import Path
from typing import Any

from anomreason.dataset.export.folder import Draft
from anomreason.dataset.export.options import Counts, ExportOptions, split_counts
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedCandidate, ExportedImage
from anomreason.dataset.export.rows import Row
from anomreason.dataset.export.writing import FileLayout, Writer

_FORMULA = ("=", "+", "-", "@", "\t", "\r", "'")
IMAGES, ANOMALIES = "images.csv", "anomalies.csv"
_IMAGE = (
    *("image", "split", "source", "source_kind", "generator", "licence", "prompt", "seed", "width", "height"),
    *("sha256", "description", "anomalies", "undecided"),
)
_ANOMALY = (
    *("image", "split", "candidate", "selected", "name", "phenomenon", "reasoning", "severity", "kind", "objects"),
    *("x0", "y0", "x1", "y1", "origin", "detector", "role", "step", "score", "dropped", "outcome", "agreement"),
)


def escaped(value: object) -> str:
    """A cell; numbers stay as they are."""
    if isinstance(value, str):
        text = value.encode("utf-8", "replace").decode()
        return f"'{text}" if text.startswith(_FORMULA) else text
    return "" if value is None else str(value)


def unescaped(cell: str) -> str:
    """The text that was escaped."""
    return cell.removeprefix("'")


class Csv(Writer):
    """Writes both tables in UTF-8 with commas; `--with-steps` adds the candidates that are not selected."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._stack = ExitStack()
        self._images = self._table(IMAGES, _IMAGE)
        self._anomalies = self._table(ANOMALIES, _ANOMALY)

    def _table(self, place: str, columns: tuple[str, ...]) -> Any:
        file = self._stack.enter_context(self.draft.open(place))
        text = self._stack.enter_context(TextIOWrapper(file, "utf-8", newline=""))
        table = csv.writer(text, lineterminator="\n")
        table.writerow(columns)
        return table

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        about = {
            "image": self.place(image) if self.options.images != "none" else image.name,
            "split": image.split,
            "source": image.source,
            "source_kind": image.source_kind,
            "generator": image.generator,
            "licence": image.licence,
            "prompt": image.prompt,
            "seed": image.seed,
            "width": image.width,
            "height": image.height,
            "sha256": image.sha256,
            "description": image.description,
            "anomalies": len(image.anomalies),
            "undecided": image.undecided,
        }
        self._images.writerow([escaped(about[column]) for column in _IMAGE])
        chosen = {one.id for one in image.anomalies}
        others = [one for one in image.candidates if one.id not in chosen]
        for one in (*image.anomalies, *others):
            row = {"image": about["image"], "split": image.split, "selected": int(one.id in chosen), **_cells(one)}
            self._anomalies.writerow([escaped(row[column]) for column in _ANOMALY])

    def finish(self) -> FileLayout:
        self._stack.close()
        return FileLayout(
            f"`{IMAGES}` has one row an image, `{ANOMALIES}` one a candidate (`selected` 1: it is in this export). "
            "Regions are fractions of\nthe image. Texts that a spreadsheet would take for formulas have an apostrophe "
            "(') before them, as have texts that\nbegin with one: take one away to have the text."
        )


def _cells(one: ExportedCandidate) -> Row:
    name, phenomenon, reasoning = one.texts
    row: Row = {"name": name, "phenomenon": phenomenon, "reasoning": reasoning}
    row |= dict.fromkeys(("severity", "kind", "objects", "x0", "y0", "x1", "y1"))
    if one.anomaly:
        row |= one.anomaly.model_dump(exclude={"region", "objects", "basis"})
        row["objects"] = "; ".join(one.anomaly.objects)
        if one.anomaly.region:
            row |= dict(zip(("x0", "y0", "x1", "y1"), one.anomaly.region.box, strict=True))
    names = ("origin", "detector", "role", "step", "score", "dropped", "outcome", "agreement")
    return row | {"candidate": one.id} | {name: getattr(one, name) for name in names}


def count(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    limit = csv.field_size_limit(1 << 30)  # of the whole process
    try:
        found = _counted(folder)
    finally:
        csv.field_size_limit(limit)
    return split_counts({split: (images, anomalies) for split, (images, anomalies) in found.items()})


def _counted(folder: Path) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at, table in enumerate((IMAGES, ANOMALIES)):
        with (folder / table).open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                found.setdefault(unescaped(row["split"]), [0, 0])[at] += int(row.get("selected") or 1 - at)
    return found
