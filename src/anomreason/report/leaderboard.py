"""Results of several commands in one table a kind, columns as in the paper's Tables 1, 2 and 3.

Reads `metrics.json`, `deepfake.json` and `plausibility.json`, nothing else. Numbers that were made in different ways
are not put side by side unless asked, and then marked. Try it:

    for board in boards(find([Path("scores")])):
        print(board.title, len(board.rows))
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError
from anomreason.evaluation.signature import comparable, differences, line, published_table, table_by_name
from anomreason.evaluation.writing import make_folder
from anomreason.metrics.image_scores import PROFILES
from anomreason.metrics.published import SOURCE, published
from anomreason.report.boards import PUBLISHED, Board, Cell, Row, as_csv, html, markdown
from anomreason.runs import write_atomically

KINDS = ("metrics.json", "deepfake.json", "plausibility.json")
SEMANTIC = tuple(f"{metric}_{view}" for metric in ("SemAP", "SemF1") for view in ("Phe", "Rea", "Full"))
SHARES = {
    "Acc": "accuracy",
    "balanced": "balanced_accuracy",
    "recall": "fake_recall",
    "specificity": "real_specificity",
}
"""Columns of judgements, and where their numbers stand."""
DEEPFAKE = (*SHARES, *(f"C{name}" for name in SEMANTIC))
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


def find(given: Sequence[Path]) -> list[Found]:
    """The results in folders and one folder below, and result files given themselves.

    Other files beside them, and the folder of a report, are passed over, so that `scores/*` can be given. UsageError
    when there are no results, for a folder without any, and for damaged files.
    """
    found: dict[Path, Found] = {}
    for path in given:
        files = _files(path)
        if not files and not path.is_file() and not _of_report(path):
            raise UsageError(_nothing(path))
        for file in files:
            found.setdefault(file.resolve(), Found(file.name, file, _read(file)))
    if not found and given:
        raise UsageError(_nothing(given[0]))
    return list(found.values())


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path] if path.name in KINDS else []
    return [file for kind in KINDS for file in (path / kind, *sorted(path.glob(f"*/{kind}"))) if file.is_file()]


def _of_report(folder: Path) -> bool:
    return folder.is_dir() and folder.name == "report" and (folder.parent / "report.html").is_file()


def _nothing(path: Path) -> str:
    return (
        f"{str(path)!r} holds no results ({', '.join(KINDS)}); give folders that eval, deepfake or plausibility wrote"
    )


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
        apart = _apart(groups[0].signature, groups[1].signature)
        raise UsageError(
            f"{groups[0].path} and {groups[1].path} were not made alike ({apart}), so their numbers cannot be "
            "compared; score them alike, or pass --mixed to show them all the same, marked"
        )
    return letters


def _apart(one: dict[str, Any], other: dict[str, Any]) -> str:
    """Why two results cannot be compared."""
    if ("backbone" in one) != ("backbone" in other):
        return "one was scored without --backbone"
    return "; ".join(differences(one, other))


def _letter(place: int) -> str:
    return chr(ord("a") + place) if place < 26 else str(place + 1)


def _names(found: Sequence[Found]) -> list[str]:
    """What rows of detectors are called: with the folder where several have one name, and whether it is simulated."""
    return _told_apart([(one.data["name"], one) for one in found])


def _told_apart(named: Sequence[tuple[str, Found]]) -> list[str]:
    times = Counter(name for name, _ in named)

    def told(name: str, one: Found) -> str:
        folder = f" ({one.path.parent})" if times[name] > 1 else ""
        return name + folder + (" (simulated)" if one.data.get("simulated") else "")

    return [told(name, one) for name, one in named]


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
            failed, made = sum(one.data["failures"].values()), line(one.signature, profile)
            rows.append(Row(name, cells, one.data["n"], failed, mark, made))
        if not rows:
            continue
        rows.sort(key=lambda row: -row.cells["SemF1_Full"].value)
        notes = [f"Profile {profile}: {PROFILES[profile]}.", "Failed images score 0. Sorted by SemF1_Full."]
        notes += [f"Not scored by this profile: {', '.join(without)}."] if without else []
        notes += _told(rows, found, marks)
        if profile == "release":
            signature = found[0].signature if len(set(marks)) == 1 else {}
            table = table_by_name(signature, profile)
            rows += _published(table or 1, SEMANTIC)
            notes.append(f"{PUBLISHED} {_reference(table or 1, signature, table is not None)}")
        if len(set(marks)) == 1:
            notes.append(f"Profile {profile} may be compared {comparable(found[0].signature, profile)}.")
        yield Board(f"eval-{profile}", f"Detection and reasoning, profile {profile}", SEMANTIC, rows, notes)


def _deepfake(found: Sequence[Found], marks: Sequence[str]) -> Iterator[Board]:
    for profile in PROFILES:
        rows = []
        for one, name, mark in zip(found, _names(found), marks, strict=True):
            explained = one.data["explained"].get(profile)
            if explained is None and (one.data["explained"] or profile == "release"):
                continue
            cells = {column: _percent(one.data[key]) for column, key in SHARES.items()}
            for view, scores in (explained or {}).items():
                for metric, label in (("semap", "CSemAP"), ("semf1", "CSemF1")):
                    cells[f"{label}_{view.capitalize()}"] = _estimate(scores[metric]["release"])
            failed, made = sum(one.data["failures"].values()), line(one.signature, profile)
            rows.append(Row(name, {k: v for k, v in cells.items() if v}, one.data["n"], failed, mark, made))
        if not rows:
            continue
        rows.sort(key=lambda row: -row.cells["balanced"].value if "balanced" in row.cells else 0.0)
        reasoned = any(column in row.cells for row in rows for column in DEEPFAKE[len(SHARES) :])
        notes = ["Shares in percent; what failed or was not judged counts as wrong. Sorted by balanced accuracy."]
        if reasoned:
            notes += ["CSemAP and CSemF1 over fakes only, which is what the paper's Table 2 evidently averages."]
            notes += [f"Profile {profile}: {PROFILES[profile]}."]
        notes += _told(rows, found, marks)
        if profile == "release":
            rows += _published(2, DEEPFAKE)
            signature = found[0].signature if len(set(marks)) == 1 else {}
            notes.append(f"{PUBLISHED} {_reference(2, signature, table_by_name(signature, profile) == 1)}")
        title = "AI image or photograph" + (f", profile {profile}" if reasoned else "")
        columns = DEEPFAKE if reasoned else tuple(SHARES)
        yield Board(f"deepfake-{profile}", title, columns, rows, notes, decimals=dict.fromkeys(SHARES, 2))


def _plausibility(found: Sequence[Found], marks: Sequence[str]) -> Iterator[Board]:
    keys = dict(zip(PLAUSIBILITY, ("mai", "af", "cap", "cap_of_means"), strict=True))
    made = [
        (generator, one, mark) for one, mark in zip(found, marks, strict=True) for generator in one.data["generators"]
    ]
    names = _told_apart([(generator["generator"], one) for generator, one, _ in made])
    rows = []
    for name, (generator, one, mark) in zip(names, made, strict=True):
        cells = {column: _estimate(generator["scores"][key]) for column, key in keys.items()}
        failed = sum(generator["failures"].values())
        known = {column: cell for column, cell in cells.items() if cell}
        rows.append(Row(name, known, generator["n"], failed, mark, line(one.signature)))
    rows.sort(key=lambda row: row.cells["CAP"].value if "CAP" in row.cells else float("inf"))
    notes = [
        "Lower is better, 0 is flawless; failed images are left out. Sorted by CAP.",
        "CAP is the mean over images of MAI x AF; CAP of means is mean MAI x mean AF, which is what the paper prints.",
        *_told(rows, found, marks),
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


def _reference(table: int, signature: Mapping[str, Any], alike: bool) -> str:
    """alike: made as the table was, if the weights are what the backbone's name says."""
    said = f"{SOURCE}, Table {table}, as printed there"
    if not alike:
        return f"{said}, with another backbone, layer or truth: not comparable with the rows above."
    weights = "" if published_table(signature, "release") else "the weights are those of the hub and "
    return f"{said}; comparable if {weights}the truth is the paper's test split."


def _told(rows: Sequence[Row], found: Sequence[Found], marks: Sequence[str]) -> list[str]:
    """How the numbers were made: one signature, or one a mark."""
    first: dict[str, str] = {}
    for one, mark in zip(found, marks, strict=True):
        first.setdefault(mark, line(one.signature))
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
