"""Results of several commands in one table a kind, columns as in the paper's Tables 1, 2 and 3.

Reads `metrics.json`, `deepfake.json` and `plausibility.json`, nothing else. Numbers that were made in different ways
are not put side by side unless asked, and then marked. Try it:

    for board in boards(find([Path("scores")])):
        print(board.title, len(board.rows))
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError
from anomreason.evaluation.boards import PUBLISHED, Board, Cell, Row, as_csv, html, markdown
from anomreason.evaluation.signature import comparable, differences, line, published_table
from anomreason.evaluation.writing import make_folder
from anomreason.metrics.image_scores import PROFILES
from anomreason.metrics.published import SOURCE, published
from anomreason.runs import write_atomically

KINDS = ("metrics.json", "deepfake.json", "plausibility.json")
SEMANTIC = tuple(f"{metric}_{view}" for metric in ("SemAP", "SemF1") for view in ("Phe", "Rea", "Full"))
DEEPFAKE = ("Acc", "balanced", "recall", "specificity", *(f"C{name}" for name in SEMANTIC))
PLAUSIBILITY = ("MAI", "AF", "CAP", "CAP of means")


@dataclass(frozen=True, slots=True)
class Found:
    """One file of results."""

    kind: str
    path: Path
    data: dict[str, Any]

    @property
    def signature(self) -> dict[str, Any]:
        found: dict[str, Any] = self.data["signature"]
        return found


def find(folders: Sequence[Path]) -> list[Found]:
    """The results in folders and one folder below. UsageError for a folder without any, and for damaged files."""
    found: dict[Path, Found] = {}
    for folder in folders:
        files = [p for kind in KINDS for p in (folder / kind, *sorted(folder.glob(f"*/{kind}"))) if p.is_file()]
        if not files:
            raise UsageError(
                f"{str(folder)!r} holds no results ({', '.join(KINDS)}); give folders that eval, deepfake or "
                "plausibility wrote"
            )
        for path in files:
            found.setdefault(path.resolve(), Found(path.name, path, _read(path)))
    return list(found.values())


def _read(path: Path) -> dict[str, Any]:
    try:
        data = json.loads(path.read_bytes())
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); write it again with the command that made it") from None
    needed = ("signature", "generators") if path.name == "plausibility.json" else ("signature", "name", "n")
    if not isinstance(data, dict) or any(key not in data for key in needed):
        raise UsageError(f"{path} is not what anomreason writes; it needs {', '.join(needed)}")
    return data


def boards(found: Sequence[Found], *, mixed: bool = False) -> list[Board]:
    """One table a kind and, for `eval`, a profile. UsageError when signatures differ and `mixed` is False."""
    made: list[Board] = []
    for kind, of in _MAKERS.items():
        mine = [one for one in found if one.kind == kind]
        if mine:
            try:
                made += of(mine, _marks(mine, mixed))
            except (KeyError, TypeError, AttributeError) as error:
                paths = ", ".join(str(one.path) for one in mine)
                raise UsageError(f"one of {paths} is not what anomreason writes ({error!r}); write it again") from error
    return made


def write_boards(made: Sequence[Board], out: Path) -> list[Path]:
    """`leaderboard.md`, `leaderboard.html`, and a CSV file a table."""
    make_folder(out)
    texts = {"leaderboard.md": markdown(made), "leaderboard.html": html(made)}
    texts |= {f"{board.key}.csv": as_csv(board) for board in made}
    for name, text in texts.items():
        write_atomically(out / name, text)
    return [out / name for name in texts]


def _marks(found: Sequence[Found], mixed: bool) -> list[str]:
    """A letter for each result when signatures differ, else nothing; alike ones share a letter."""
    groups: list[Found] = []
    letters = []
    for one in found:
        place = next((k for k, g in enumerate(groups) if not differences(g.signature, one.signature)), len(groups))
        if place == len(groups):
            groups.append(one)
        letters.append(f"({_letter(place)})")
    if len(groups) == 1:
        return [""] * len(found)
    if not mixed:
        apart = "; ".join(differences(groups[0].signature, groups[1].signature))
        raise UsageError(
            f"{groups[0].path} and {groups[1].path} were not made alike ({apart}), so their numbers cannot be "
            "compared; score them alike, or pass --mixed to show them all the same, marked"
        )
    return letters


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else str(place + 1)


def _names(found: Sequence[Found]) -> list[str]:
    times = Counter(one.data["name"] for one in found)
    return [
        f"{one.data['name']} ({one.path.parent})" if times[one.data["name"]] > 1 else one.data["name"] for one in found
    ]


def _semantic(found: Sequence[Found], marks: Sequence[str]) -> Iterator[Board]:
    for profile in PROFILES:
        rows, without = [], []
        for one, name, mark in zip(found, _names(found), marks, strict=True):
            views = one.data["profiles"].get(profile)
            if views is None:
                without.append(name)
                continue
            cells = {
                f"{label}_{view.capitalize()}": _cell(views[view][metric], views[view]["interval"][metric])
                for metric, label in (("semap", "SemAP"), ("semf1", "SemF1"))
                for view in ("phe", "rea", "full")
            }
            failed, signature = sum(one.data["failures"].values()), line(one.signature, profile)
            simulated = " (simulated)" if one.data.get("simulated") else ""
            rows.append(Row(name + simulated, cells, one.data["n"], failed, mark, signature))
        if not rows:
            continue
        rows.sort(key=lambda row: -row.cells["SemF1_Full"].value)
        notes = [f"Profile {profile}: {PROFILES[profile]}.", "Failed images score 0. Sorted by SemF1_Full."]
        notes += [f"Not scored by this profile: {', '.join(without)}."] if without else []
        notes += _told(rows, found, marks, profile)
        if profile == "release":
            table = published_table(found[0].signature, profile) if len(set(marks)) == 1 else None
            rows += _published(table or 1, SEMANTIC)
            notes.append(f"{PUBLISHED} {_reference(table or 1, bool(table))}")
        if len(set(marks)) == 1:
            notes.append(f"May be compared {comparable(found[0].signature, profile)}.")
        yield Board(f"eval-{profile}", f"Detection and reasoning, profile {profile}", SEMANTIC, rows, notes)


def _deepfake(found: Sequence[Found], marks: Sequence[str]) -> Iterator[Board]:
    for profile in PROFILES:
        rows = []
        for one, name, mark in zip(found, _names(found), marks, strict=True):
            explained = one.data["explained"].get(profile)
            if explained is None and (one.data["explained"] or profile == "release"):
                continue
            told = {"Acc": "accuracy", "balanced": "balanced_accuracy", "recall": "fake_recall"}
            told["specificity"] = "real_specificity"
            cells = {column: _percent(one.data[key]) for column, key in told.items()}
            for view, scores in (explained or {}).items():
                for metric, label in (("semap", "CSemAP"), ("semf1", "CSemF1")):
                    cells[f"{label}_{view.capitalize()}"] = _estimate(scores[metric]["release"])
            failed, signature = sum(one.data["failures"].values()), line(one.signature, profile)
            rows.append(Row(name, {k: v for k, v in cells.items() if v}, one.data["n"], failed, mark, signature))
        if not rows:
            continue
        rows.sort(key=lambda row: -row.cells["balanced"].value if "balanced" in row.cells else 0.0)
        notes = ["Shares in percent; what failed or was not judged counts as wrong. Sorted by balanced accuracy."]
        notes += ["CSemAP and CSemF1 over fakes only, which is what the paper's Table 2 evidently averages."]
        notes += [f"Profile {profile}: {PROFILES[profile]}.", *_told(rows, found, marks, profile)]
        if profile == "release":
            rows += _published(2, DEEPFAKE)
            notes.append(f"{PUBLISHED} {_reference(2, published_table(found[0].signature, profile) == 1)}")
        title = f"AI image or photograph, profile {profile}"
        yield Board(f"deepfake-{profile}", title, DEEPFAKE, rows, notes, decimals=dict.fromkeys(DEEPFAKE[:4], 2))


def _plausibility(found: Sequence[Found], marks: Sequence[str]) -> Iterator[Board]:
    keys = dict(zip(PLAUSIBILITY, ("mai", "af", "cap", "cap_of_means"), strict=True))
    rows = []
    for one, mark in zip(found, marks, strict=True):
        for generator in one.data["generators"]:
            cells = {column: _estimate(generator["scores"][key]) for column, key in keys.items()}
            failed = sum(generator["failures"].values())
            known = {column: cell for column, cell in cells.items() if cell}
            rows.append(Row(generator["generator"], known, generator["n"], failed, mark, line(one.signature)))
    rows.sort(key=lambda row: row.cells["CAP"].value if "CAP" in row.cells else float("inf"))
    notes = [
        "Lower is better, 0 is flawless; failed images are left out. Sorted by CAP.",
        "CAP is the mean over images of MAI x AF; CAP of means is mean MAI x mean AF, which is what the paper prints.",
        *_told(rows, found, marks, None),
    ]
    rows += _published_generators()
    notes.append(f"{PUBLISHED} {SOURCE}, Table 3: other prompts, images and assessors; for orientation only.")
    places = dict.fromkeys(PLAUSIBILITY, 2)
    yield Board("plausibility", "Plausibility of generators", PLAUSIBILITY, rows, notes, True, places)


def _published_generators() -> list[Row]:
    rows: dict[str, dict[str, Cell]] = {}
    for printed in published(table=3):
        column = "CAP of means" if printed.metric == "CAP" else printed.metric
        rows.setdefault(f"{printed.model} by {printed.assessor}", {})[column] = Cell(printed.value)
    return [Row(name, cells, None, None, PUBLISHED) for name, cells in rows.items()]


_MAKERS: dict[str, Callable[[Sequence[Found], Sequence[str]], Iterator[Board]]] = {
    "metrics.json": _semantic,
    "deepfake.json": _deepfake,
    "plausibility.json": _plausibility,
}


def _published(table: int, columns: Sequence[str]) -> list[Row]:
    rows: dict[str, dict[str, Cell]] = {}
    for printed in published(table=table):
        if printed.metric in columns:
            rows.setdefault(printed.model, {})[printed.metric] = Cell(printed.value)
    return [Row(model, cells, None, None, PUBLISHED) for model, cells in rows.items()]


def _reference(table: int, alike: bool) -> str:
    said = f"{SOURCE}, Table {table}, as printed there"
    if alike:
        return f"{said}; comparable if the truth is the paper's test split."
    return f"{said}, with another backbone, layer or truth: not comparable with the rows above."


def _told(rows: Sequence[Row], found: Sequence[Found], marks: Sequence[str], profile: str | None) -> list[str]:
    """How the numbers were made: one signature, or one a mark."""
    first: dict[str, str] = {}
    for one, mark in zip(found, marks, strict=True):
        first.setdefault(mark, line(one.signature, profile))
    if list(first) == [""]:
        return [f"Signature: {first['']}"]
    warning = "These numbers were not made alike and cannot be compared across marks."
    return [warning, *(f"{mark} {said}" for mark, said in first.items() if any(mark in row.mark for row in rows))]


def _cell(value: float, ends: Sequence[float] | None) -> Cell:
    return Cell(value, None if ends is None else (ends[0], ends[1]))


def _estimate(found: dict[str, Any]) -> Cell | None:
    return None if found["value"] is None else _cell(found["value"], found["interval"])


def _percent(found: dict[str, Any]) -> Cell | None:
    cell = _estimate(found)
    if cell is None:
        return None
    ends = cell.interval
    return Cell(100 * cell.value, None if ends is None else (100 * ends[0], 100 * ends[1]))
