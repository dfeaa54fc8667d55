"""Results of several commands in one table a kind, columns as in the paper's Tables 1, 2 and 3.

Reads `metrics.json`, `deepfake.json` and `plausibility.json`. Numbers that were computed in different ways, or by
different code, are not put side by side unless asked, and then marked.

    for board in boards(find([Path("scores")])):
        print(board.title, len(board.rows))
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Generic, NamedTuple, TypeVar

from anomreason.errors import UsageError
from anomreason.evaluation.records import DeepfakeResult, EvalResult, PlausibilityResult, read_result
from anomreason.evaluation.signature import Signature
from anomreason.evaluation.writing import make_folder
from anomreason.files import write_atomically
from anomreason.metrics.image_scores import PROFILES
from anomreason.metrics.plausibility import Metric
from anomreason.metrics.published import SOURCE, published
from anomreason.report.html import templates
from anomreason.stats import Estimate

AnyResult = EvalResult | DeepfakeResult | PlausibilityResult
KINDS: dict[str, type[AnyResult]] = {
    "metrics.json": EvalResult,
    "deepfake.json": DeepfakeResult,
    "plausibility.json": PlausibilityResult,
}
PUBLISHED = "†"
"""Mark of a row that is the paper's, not ours."""
VIEWS = ("phe", "rea", "full")
SEMANTIC = tuple(f"{metric}_{view.capitalize()}" for metric in ("SemAP", "SemF1") for view in VIEWS)
SHARES = ("Acc", "balanced", "recall", "specificity")
"""Columns of judgements."""
DEEPFAKE = (*SHARES, *(f"C{name}" for name in SEMANTIC))
PLAUSIBILITY: dict[str, Metric] = {"MAI": "mai", "AF": "af", "CAP": "cap", "CAP of means": "cap_of_means"}
R = TypeVar("R", bound=AnyResult, covariant=True)
One = TypeVar("One", bound=AnyResult)


class Cell(NamedTuple):
    """One number."""

    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True)
class BoardRow:
    """One model, or generator."""

    name: str
    cells: dict[str, Cell]
    """By column; a column without a number is not in it."""
    n: int | None = None
    """Images; None where the paper does not say."""
    failed: int | None = 0
    mark: str = ""
    """Letters of the notes that the row needs."""
    signature: str = ""

    @property
    def published(self) -> bool:
        return PUBLISHED in self.mark

    @property
    def label(self) -> str:
        return f"{self.name} {self.mark}".strip()

    @property
    def counts(self) -> tuple[str, str]:
        """Images and failures."""
        images, failed = ("-" if value is None else f"{value:,}" for value in (self.n, self.failed))
        return images, failed


@dataclass(frozen=True, slots=True)
class Board:
    """One table."""

    key: str
    """Name of its CSV file."""
    title: str
    columns: tuple[str, ...]
    rows: list[BoardRow]
    notes: list[str] = field(default_factory=list)
    lower_is_better: bool = False
    decimals: Mapping[str, int] = field(default_factory=dict)
    """Of columns whose numbers are printed with other than four."""

    @property
    def heads(self) -> list[str]:
        return ["model", *self.columns, "images", "failed"]

    def best(self, column: str, mark: str = "") -> float | None:
        """Best of our own rows that bear the same mark, since others cannot be compared; None when one has no rival."""
        own = [row.cells[column].value for row in self.rows if row.mark == mark and column in row.cells]
        return (min(own) if self.lower_is_better else max(own)) if len(own) > 1 else None

    def text(self, row: BoardRow, column: str) -> tuple[str, str]:
        """Number and interval, with three decimals at most, as they are printed; empty where there is none."""
        cell = row.cells.get(column)
        if cell is None:
            return "-", ""
        ends = cell.interval
        places = self.decimals.get(column, 4)
        span = "" if ends is None else "–".join(f"{end:.{min(places, 3)}f}" for end in ends)
        return f"{cell.value:.{places}f}", span

    def is_best(self, row: BoardRow, column: str) -> bool:
        cell = row.cells.get(column)
        return cell is not None and not row.published and cell.value == self.best(column, row.mark)


@dataclass(frozen=True, slots=True)
class ResultFile(Generic[R]):
    """One file of results."""

    path: Path
    result: R

    @property
    def signature(self) -> Signature:
        return self.result.signature


AnyFile = ResultFile[AnyResult]


def find(given: Sequence[Path]) -> list[AnyFile]:
    """The results in folders and one folder below, and result files given themselves.

    Other files beside them, and the folder of a report, are passed over, so that `scores/*` can be given. UsageError
    when there are no results, for a folder without any, and for damaged files.
    """
    found: dict[Path, AnyFile] = {}
    for path in given:
        files = _files(path)
        if not files and not path.is_file() and not _of_report(path):
            raise UsageError(_nothing(path))
        for file in files:
            found.setdefault(file.resolve(), ResultFile(file, read_result(file, KINDS[file.name])))
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
        f"{str(path)!r} holds no results that can be compared ({', '.join(KINDS)}); give folders that eval (without "
        "--exact), deepfake or plausibility wrote"
    )


def boards(found: Sequence[AnyFile], *, mixed: bool = False) -> list[Board]:
    """One table a kind and, for `eval`, a profile. UsageError when signatures differ and `mixed` is False."""
    evals, judged, rated = _of(found, EvalResult), _of(found, DeepfakeResult), _of(found, PlausibilityResult)
    return [
        *_semantic(evals, _marks(evals, mixed)),
        *_deepfake(judged, _marks(judged, mixed)),
        *_plausibility(rated, _marks(rated, mixed)),
    ]


def _of(found: Sequence[AnyFile], kind: type[One]) -> list[ResultFile[One]]:
    return [ResultFile(one.path, one.result) for one in found if isinstance(one.result, kind)]


def write_boards(made: Sequence[Board], out: Path) -> list[Path]:
    """`leaderboard.md`, `leaderboard.html`, and a CSV file a table."""
    make_folder(out)
    texts = {"leaderboard.md": markdown(made), "leaderboard.html": html(made)}
    texts |= {f"{board.key}.csv": as_csv(board) for board in made}
    for name, text in texts.items():
        write_atomically(out / name, text)
    return [out / name for name in texts]


def _marks(found: Sequence[AnyFile], mixed: bool) -> list[str]:
    """A letter for each result when signatures differ, else nothing; alike ones share a letter."""
    groups: list[AnyFile] = []
    letters = []
    for found_one in found:
        place = next((k for k, g in enumerate(groups) if not g.signature.differences(found_one.signature)), len(groups))
        if place == len(groups):
            groups.append(found_one)
        letters.append(f"({chr(ord('a') + place) if place < 26 else place + 1})")
    if len(groups) <= 1:
        return [""] * len(found)
    if not mixed:
        one, other = groups[0].signature, groups[1].signature
        backbones = (one.backbone is None) != (other.backbone is None)
        apart = "one was scored without --backbone" if backbones else "; ".join(one.differences(other))
        raise UsageError(
            f"{groups[0].path} and {groups[1].path} were not computed alike ({apart}), so their numbers cannot be "
            "compared; score them alike, or pass --mixed to show them all, marked"
        )
    return letters


def _names(named: Sequence[tuple[str, AnyFile]]) -> list[str]:
    """Names of rows: with the folder where several have one name, and whether the result is simulated."""
    times = Counter(name for name, _ in named)

    def unique(name: str, one: AnyFile) -> str:
        folder = f" ({one.path.parent})" if times[name] > 1 else ""
        return name + folder + (" (simulated)" if one.result.simulated else "")

    return [unique(name, one) for name, one in named]


def _semantic(found: Sequence[ResultFile[EvalResult]], marks: Sequence[str]) -> Iterator[Board]:
    names = _names([(one.result.name, one) for one in found])
    for profile in PROFILES:
        rows, without = [], []
        for one, name, mark in zip(found, names, marks, strict=True):
            views = one.result.profiles.get(profile)
            if views is None:
                without.append(name)
                continue
            cells = {}
            for view in VIEWS:
                scores, ends = views[view], views[view].interval
                cells[f"SemAP_{view.capitalize()}"] = Cell(scores.semap, ends.semap)
                cells[f"SemF1_{view.capitalize()}"] = Cell(scores.semf1, ends.semf1)
            made = one.signature.line(profile)
            rows.append(BoardRow(name, cells, one.result.n, one.result.failed, mark, made))
        if not rows:
            continue
        rows.sort(key=lambda row: -row.cells["SemF1_Full"].value)
        notes = [f"Profile {profile}: {PROFILES[profile]}.", "Failed images score 0. Sorted by SemF1_Full."]
        notes += [f"Not scored by this profile: {', '.join(without)}."] if without else []
        notes += _signature_notes(rows, found, marks)
        alike = len(set(marks)) == 1
        if profile == "release":
            signature = found[0].signature if alike else Signature()
            table = signature.table_by_name(profile)
            rows += _published(table or 1, SEMANTIC)
            notes.append(f"{PUBLISHED} {_reference(table or 1, signature, table is not None)}")
        if alike:
            notes.append(f"Profile {profile} may be compared {found[0].signature.comparable(profile)}.")
        yield Board(f"eval-{profile}", f"Detection and reasoning, profile {profile}", SEMANTIC, rows, notes)


def _deepfake(found: Sequence[ResultFile[DeepfakeResult]], marks: Sequence[str]) -> Iterator[Board]:
    names = _names([(one.result.name, one) for one in found])
    for profile in PROFILES:
        rows = []
        for one, name, mark in zip(found, names, marks, strict=True):
            result = one.result
            explained = result.explained.get(profile)
            if explained is None and (result.explained or profile == "release"):
                continue
            shares = (result.accuracy, result.balanced_accuracy, result.fake_recall, result.real_specificity)
            known = _cells(dict(zip(SHARES, shares, strict=True)), 100)
            for view, scores in (explained or {}).items():
                both = {"CSemAP": scores.semap.release, "CSemF1": scores.semf1.release}
                known |= _cells({f"{name}_{view.capitalize()}": one for name, one in both.items()})
            failed = sum(result.failures.values())
            rows.append(BoardRow(name, known, result.n, failed, mark, one.signature.line(profile)))
        if not rows:
            continue
        rows.sort(key=lambda row: -row.cells["balanced"].value if "balanced" in row.cells else 0.0)
        reasoned = any(column in row.cells for row in rows for column in DEEPFAKE[len(SHARES) :])
        notes = ["Shares in percent; what failed or was not judged counts as wrong. Sorted by balanced accuracy."]
        if reasoned:
            notes += ["CSemAP and CSemF1 over fakes only, which is what the paper's Table 2 evidently averages."]
            notes += [f"Profile {profile}: {PROFILES[profile]}."]
        notes += _signature_notes(rows, found, marks)
        if profile == "release":
            rows += _published(2, DEEPFAKE)
            signature = found[0].signature if len(set(marks)) == 1 else Signature()
            notes.append(f"{PUBLISHED} {_reference(2, signature, signature.table_by_name(profile) == 1)}")
        title = "AI image or photograph" + (f", profile {profile}" if reasoned else "")
        columns = DEEPFAKE if reasoned else SHARES
        yield Board(f"deepfake-{profile}", title, columns, rows, notes, decimals=dict.fromkeys(SHARES, 2))


def _plausibility(found: Sequence[ResultFile[PlausibilityResult]], marks: Sequence[str]) -> Iterator[Board]:
    if not found:
        return
    made = [
        (generator, one, mark) for one, mark in zip(found, marks, strict=True) for generator in one.result.generators
    ]
    names = _names([(generator.generator, one) for generator, one, _ in made])
    rows = []
    for name, (generator, one, mark) in zip(names, made, strict=True):
        known = _cells({column: generator.scores[metric] for column, metric in PLAUSIBILITY.items()})
        failed = sum(generator.failures.values())
        rows.append(BoardRow(name, known, generator.n, failed, mark, one.signature.line()))
    rows.sort(key=lambda row: row.cells["CAP"].value if "CAP" in row.cells else float("inf"))
    notes = [
        "Lower is better, 0 is flawless; failed images are left out. Sorted by CAP.",
        "CAP is the mean over images of MAI x AF; CAP of means is mean MAI x mean AF, which is what the paper prints.",
        *_signature_notes(rows, found, marks),
    ]
    rows += _published(3, PLAUSIBILITY)
    notes.append(f"{PUBLISHED} {SOURCE}, Table 3: other prompts, images and assessors; for orientation only.")
    places = dict.fromkeys(PLAUSIBILITY, 2)
    yield Board("plausibility", "Plausibility of generators", tuple(PLAUSIBILITY), rows, notes, True, places)


def _published(table: int, columns: Collection[str]) -> list[BoardRow]:
    rows: dict[str, dict[str, Cell]] = {}
    for printed in published(table=table):
        metric = "CAP of means" if printed.metric == "CAP" else printed.metric
        if metric in columns:
            name = f"{printed.model} by {printed.assessor}" if printed.assessor else printed.model
            rows.setdefault(name, {})[metric] = Cell(printed.value)
    return [BoardRow(name, cells, None, None, PUBLISHED) for name, cells in rows.items()]


def _reference(table: int, signature: Signature, alike: bool) -> str:
    """alike: computed as the table was, if the weights are what the backbone's name says."""
    source = f"{SOURCE}, Table {table}, as printed there"
    if not alike:
        return f"{source}, with another backbone, layer or truth: not comparable with the rows above."
    weights = "" if signature.published_table("release") else "the weights are those of the hub and "
    return f"{source}; comparable if {weights}the truth is the paper's test split."


def _signature_notes(rows: Sequence[BoardRow], found: Sequence[AnyFile], marks: Sequence[str]) -> list[str]:
    """How the numbers were computed: one signature, or one a mark."""
    first: dict[str, str] = {}
    for one, mark in zip(found, marks, strict=True):
        first.setdefault(mark, one.signature.line())
    if list(first) == [""]:
        return [f"Signature: {first['']}"]
    warning = "These numbers were not computed alike and cannot be compared across marks."
    return [warning, *(f"{mark} {made}" for mark, made in first.items() if any(mark in row.mark for row in rows))]


def _cells(found: Mapping[str, Estimate], factor: float = 1) -> dict[str, Cell]:
    """By column, where there is a value."""
    return {
        column: Cell(factor * one.value, one.interval and (factor * one.interval.low, factor * one.interval.high))
        for column, one in found.items()
        if one.value is not None
    }


def markdown(boards: Sequence[Board]) -> str:
    """All tables, with their notes."""
    return "\n".join(line for board in boards for line in _markdown(board)) + "\n"


def _markdown(board: Board) -> list[str]:
    lines = [f"## {_md(board.title)}", "", *(f"- {_md(note)}" for note in board.notes), ""]
    lines += [_line(board.heads), _line(["---", *["---:"] * (len(board.heads) - 1)])]
    for row in board.rows:
        cells = []
        for column in board.columns:
            number, ends = board.text(row, column)
            number = f"**{number}**" if board.is_best(row, column) else number
            cells.append(f"{number} ({ends})" if ends else number)
        lines.append(_line([_md(row.label), *cells, *row.counts]))
    return lines


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md(text: str) -> str:
    """Text as it stands: what Markdown or HTML would make something of is escaped, and lines stay lines."""
    plain = " ".join(text.split())
    for mark in "\\`*_|[]":
        plain = plain.replace(mark, "\\" + mark)
    return escape(plain, quote=False)


def as_csv(board: Board) -> str:
    """One row a model, numbers in full; each column has its interval beside it."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, lineterminator="\n")
    ends = [f"{column}_{end}" for column in board.columns for end in ("low", "high")]
    writer.writerow(["model", "published", *board.columns, "images", "failed", *ends, "notes", "signature"])
    for row in board.rows:
        cells = [row.cells.get(column) for column in board.columns]
        numbers = [None if cell is None else cell.value for cell in cells]
        spans = [end for cell in cells for end in ((cell and cell.interval) or (None, None))]
        values = ["yes" if row.published else "no", *numbers, row.n, row.failed, *spans, row.mark, row.signature]
        writer.writerow([_spreadsheet_name(row.name), *values])
    return out.getvalue()


def _spreadsheet_name(name: str) -> str:
    """A name that a spreadsheet would take for a formula gets an apostrophe."""
    return f"'{name}" if name.startswith(("=", "+", "-", "@", "\t", "\r", "\n")) else name


def html(boards: Sequence[Board]) -> str:
    """One page without scripts."""
    return templates().get_template("leaderboard.html").render(boards=boards)
