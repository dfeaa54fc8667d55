"""Facts about the leaderboard: what may stand together, what is marked, and that names do no harm."""

import csv
import io
import json
import runpy
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from anomreason.errors import UsageError
from anomreason.metrics.published import published
from anomreason.report import leaderboard
from anomreason.report.leaderboard import (
    DEEPFAKE,
    PLAUSIBILITY,
    SEMANTIC,
    Board,
    BoardRow,
    Cell,
    _spreadsheet_name,
    as_csv,
    boards,
    find,
    html,
    markdown,
    write_boards,
)

browser = runpy.run_path(str(Path(__file__).parents[1] / "report" / "test_html.py"))["browser"]
SIGNATURE = {
    "backbone": "distilbert-base-uncased",
    "layer": 5,
    "hub": "distilbert-base-uncased",
    "weights": "w",
    "precision": "fp32",
    "thresholds": [0.7, 0.8, 0.9],
    "rank_by": "severity",
    "truth": "t",
}


def estimate(value: float | None) -> dict[str, Any]:
    return {"value": value, "interval": None if value is None else [value - 0.1, value + 0.1], "n": 10}


def folder(path: Path, kind: str, data: dict[str, Any]) -> Path:
    path.mkdir(parents=True)
    (path / kind).write_text(json.dumps(data))
    return path


def figures(score: float) -> dict[str, Any]:
    """One view, as `metrics.json` has it."""
    shares = {"precision": score, "recall": score, "f1": score}
    row = {"tp": 1, "fp": 1, "fn": 1, **shares, "ap": score, "micro": shares, "possible": 1, "matched": 1.0}
    ends = {"semap": [score - 0.1, score + 0.1], "semf1": None}
    ends |= dict.fromkeys(("micro_precision", "micro_recall", "micro_f1"))
    return {
        "n": 10,
        "semap": score,
        "semf1": score / 2,
        "micro": shares,
        "chance": None,
        "interval": ends,
        "thresholds": {"0.7": row},
        "dropped": None,
    }


JOINED = {"by_path": 8, "by_file_name": 0, "not_in_truth": [], "ambiguous": [], "missing": []}
SEMANTIC_REST = {
    "comparable": {},
    "simulated": False,
    "severity": {},
    "by_truths": [],
    "joined": JOINED,
    "alphas": [0.5],
    "settings": {"failures": "zero", "shuffles": 0, "seed": 0},
    "texts": {"encoded": 1, "truncated": 0, "blank": 0, "limit": 512},
    "left_out": {"photographs": [], "truth_failed": [], "subset_unknown": []},
    "truth": {"path": "truth.json", "images": 10},
    "predictions": {"path": "p.json", "detectors": [], "pictures": None},
    "images": {"answered": 8, "both_empty": 0, "one_empty": 0},
}


def scored(path: Path, score: float, name: str = "m", profiles: tuple[str, ...] = ("release",), **more: Any) -> Path:
    views = {view: figures(score) for view in ("phe", "rea", "full")}
    data = {"name": name, "signature": {**SIGNATURE, **more}, "n": 10, "failures": {"missing": 2}, **SEMANTIC_REST}
    return folder(path, "metrics.json", data | {"profiles": dict.fromkeys(profiles, views)})


SHARES = ("accuracy", "balanced_accuracy", "fake_recall", "real_specificity")


def judged(path: Path, name: str, **more: Any) -> Path:
    others = dict.fromkeys(("auroc", "false_anomalies", "photographs_with_anomalies"), estimate(None))
    data = {
        "name": name,
        "signature": {"truth": "t"},
        "simulated": False,
        "truth": "t.json",
        "n": 9,
        "fakes": 4,
        "photographs": 5,
        "failures": {},
        "abstained": 0,
        "constant_accuracy": 0.6,
        "explained": {},
        **others,
        "sources": [],
        "rule": "",
        "undescribed": 0,
        "unexplained": None,
        "leaks": [],
        "joined": JOINED,
        **dict.fromkeys(SHARES, estimate(0.5)),
    }
    return folder(path, "deepfake.json", data | more)


def generated(path: Path, cap: float | None, generators: tuple[str, ...] = ("flux",), **more: Any) -> Path:
    known = {"mai": 1.0, "af": 2.0, "cap": cap, "cap_of_means": 2.0}
    scores = {name: estimate(value if cap is not None else None) for name, value in known.items()}
    rated = [
        {"generator": name, "n": 4, "failures": {"refused": 1}, "scores": scores, "ranks": {}} for name in generators
    ]
    data = {
        "signature": {"assessor": ["a"]},
        "simulated": False,
        "paired": False,
        "not_in_manifest": [],
        "generators": rated,
        "differences": [],
        "warnings": [],
    }
    return folder(path, "plausibility.json", data | more)


def test_rows_are_models_and_the_columns_those_of_table_1(tmp_path: Path) -> None:
    scored(tmp_path / "all" / "one", 0.3, "one")
    two = scored(tmp_path / "two", 0.6, "two")
    (board,) = boards(find([tmp_path / "all", two, two]))
    assert board.columns == SEMANTIC == tuple(dict.fromkeys(r.metric for r in published(table=1)))
    assert [row.name for row in board.rows[:2]] == ["two", "one"]
    assert board.rows[0].cells["SemAP_Full"] == Cell(0.6, (0.5, 0.7))
    assert (board.rows[0].n, board.rows[0].failed) == (10, 2)
    assert board.is_best(board.rows[0], "SemF1_Phe")
    assert not board.is_best(board.rows[1], "SemF1_Phe")


def test_the_papers_rows_stand_marked_beside_what_they_may_be_compared_with(tmp_path: Path) -> None:
    (board,) = boards(find([scored(tmp_path / "a", 0.3)]))
    row = next(row for row in board.rows if row.name == "GPT-4o")
    assert row.published
    assert row.cells["SemAP_Full"].value == 0.4727
    assert any("Table 1" in note and "comparable if" in note for note in board.notes)
    other = scored(tmp_path / "b", 0.3, backbone="roberta-large-mnli", hub="roberta-large-mnli", layer=19)
    (roberta,) = boards(find([other]))
    assert next(row for row in roberta.rows if row.name == "GPT-4o").cells["SemAP_Full"].value == 0.3083
    (small,) = boards(find([scored(tmp_path / "c", 0.3, backbone="mini", layer=6)]))
    assert any("not comparable" in note for note in small.notes)
    (paper,) = boards(find([scored(tmp_path / "d", 0.3, profiles=("paper",))]))
    assert not any(row.published for row in paper.rows)


def test_results_that_were_not_made_alike_are_refused_or_marked(tmp_path: Path) -> None:
    folders = [scored(tmp_path / name, 0.3, name, layer=layer) for name, layer in (("a", 5), ("b", 6), ("c", 5))]
    with pytest.raises(UsageError, match=r"layer 5 and 6.*--mixed"):
        boards(find(folders))
    (board,) = boards(find(folders), mixed=True)
    assert {row.name: row.mark for row in board.rows if not row.published} == {"a": "(a)", "b": "(b)", "c": "(a)"}
    assert sum("layer:" in note for note in board.notes) == 2
    assert "(b)" in markdown([board])
    assert any("not comparable" in note for note in board.notes)
    truths = [scored(tmp_path / f"t{n}", 0.3, truth=n) for n in "xy"]
    with pytest.raises(UsageError, match="truth x and y"):
        boards(find(truths))


def test_results_that_share_no_profile_get_a_table_each(tmp_path: Path) -> None:
    folders = [scored(tmp_path / p, 0.3, f"by-{p}", (p,)) for p in ("paper", "release")]
    made = {board.key: board for board in boards(find(folders))}
    assert list(made) == ["eval-paper", "eval-release"]
    assert "Not scored by this profile: by-release." in made["eval-paper"].notes


def test_deepfake_and_plausibility_have_tables_of_their_own(tmp_path: Path) -> None:
    one = {"release": estimate(0.4), "over_all": estimate(0.3), "described": 0, "by_claims": 0}
    explained = {"release": {view: {"semap": one, "semf1": one} for view in ("phe", "rea", "full")}}
    folders = [
        judged(tmp_path / "j", "j", signature=SIGNATURE, explained=explained),
        judged(tmp_path / "b", "bare", signature=SIGNATURE, real_specificity=estimate(None)),
        generated(tmp_path / "p", 3.0),
        generated(tmp_path / "q", None, ("none",)),
    ]
    made = {board.key: board for board in boards(find(folders))}
    assert list(made) == ["deepfake-paper", "deepfake-release", "plausibility"]
    release = made["deepfake-release"]
    assert release.columns == DEEPFAKE
    assert release.rows[0].cells["Acc"].value == 50
    assert release.rows[0].cells["CSemF1_Full"].value == 0.4
    assert next(row for row in release.rows if row.name == "GPT-4o").cells["Acc"].value == 87.76
    assert [row.name for row in made["deepfake-paper"].rows] == ["bare"]
    plausible = made["plausibility"]
    assert plausible.columns == tuple(PLAUSIBILITY)
    assert [row.name for row in plausible.rows[:2]] == ["flux", "none"]
    assert plausible.rows[0].failed == 1
    assert next(r for r in plausible.rows if r.name == "Sana 1.5 by AnomAgent").cells["CAP of means"].value == 60.49
    for text in (markdown(list(made.values())), html(list(made.values()))):
        assert "flux" in text


def test_numbers_of_different_code_do_not_stand_side_by_side(tmp_path: Path) -> None:
    folders = [scored(tmp_path / commit, 0.3, commit=commit * 12) for commit in "ab"]
    with pytest.raises(UsageError, match=r"commit a{12} and b{12}.*--mixed"):
        boards(find(folders))
    old = scored(tmp_path / "old", 0.3)
    with pytest.raises(UsageError, match=r"commit a{12} and unknown"):
        boards(find([folders[0], old]))


def test_a_fault_of_our_own_is_not_blamed_on_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise KeyError("ours")

    monkeypatch.setattr(leaderboard, "_semantic", broken)
    with pytest.raises(KeyError, match="ours"):
        boards(find([scored(tmp_path / "a", 0.3)]))


@pytest.mark.parametrize("content", ["{", "[]", '{"name": 1}', '{"signature": {}, "name": "x", "n": 1, "profiles": 5}'])
def test_a_damaged_file_is_named(content: str, tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text(content)
    with pytest.raises(UsageError, match=r"metrics\.json"):
        boards(find([tmp_path]))


def test_a_folder_without_results_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no results"):
        find([tmp_path])


class Cells(HTMLParser):
    """Texts of the cells of a page, and its tags."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


EVIL = "=a|b\n<script>alert(1)</script> *x* `y`"


def test_names_do_no_harm_in_any_form(tmp_path: Path) -> None:
    board = Board("k", EVIL, ("X",), [BoardRow(EVIL, {"X": Cell(0.5)}, 1, 0), BoardRow("b", {}, 1, 0)], [EVIL])
    row = next(line for line in markdown([board]).splitlines() if "alert" in line and line.startswith("| "))
    assert row.replace("\\|", "").count("|") == 5
    assert "<script" not in row
    page = Cells(html([board]))
    assert "script" not in page.tags
    assert page.text.count("<script>alert(1)</script>") == 3
    first = next(csv.DictReader(io.StringIO(as_csv(board))))
    assert first["model"] == f"'{EVIL}"
    assert (first["X"], first["X_low"], first["published"]) == ("0.5", "", "no")


def test_plain_files_and_reports_beside_results_are_passed_over(tmp_path: Path) -> None:
    out = scored(tmp_path / "scores", 0.3)
    scored(out / "more", 0.4, "more")
    (out / "matches.jsonl").write_text("")
    (out / "report.html").write_text("")
    (out / "report" / "scores").mkdir(parents=True)
    assert [one.result.name for one in find(sorted(out.iterdir()))] == ["m", "more"]
    for wrong in ([out / "matches.jsonl"], [out, tmp_path / "nowhere"]):
        with pytest.raises(UsageError, match="holds no results"):
            find(wrong)


def test_simulated_rows_are_marked_in_every_table(tmp_path: Path) -> None:
    folders = [
        judged(tmp_path / "d", "j", simulated=True),
        generated(tmp_path / "p", 1.0, simulated=True),
        generated(tmp_path / "q", 2.0, ("sdxl",), simulated=False),
    ]
    found = {board.key: [r.name for r in board.rows if not r.published] for board in boards(find(folders))}
    assert found == {"deepfake-paper": ["j (simulated)"], "plausibility": ["flux (simulated)", "sdxl"]}


def test_generators_of_several_folders_are_told_apart(tmp_path: Path) -> None:
    folders = [generated(tmp_path / "one", 1.0), generated(tmp_path / "two", 2.0, ("flux", "sdxl"))]
    (board,) = boards(find(folders))
    ours = [row.name for row in board.rows if not row.published]
    assert ours == [f"flux ({folders[0]})", f"flux ({folders[1]})", "sdxl"]


def test_judgements_without_explanations_have_no_columns_of_them(tmp_path: Path) -> None:
    folders = [judged(tmp_path / "a", "a")]
    (board,) = boards(find(folders))
    assert board.columns == DEEPFAKE[:4]
    assert not any("CSem" in note for note in board.notes)
    assert "CSem" not in markdown([board]) + html([board]) + as_csv(board)
    folders.append(judged(tmp_path / "b", "b", signature={"truth": "t", "backbone": "mini"}))
    with pytest.raises(UsageError, match=r"\(one was scored without --backbone\)"):
        boards(find(folders))


def test_the_best_is_told_among_those_that_can_be_compared(tmp_path: Path) -> None:
    given = [("a", 0.3, 5), ("b", 0.9, 6), ("c", 0.4, 5)]
    folders = [scored(tmp_path / name, score, name, layer=layer) for name, score, layer in given]
    (board,) = boards(find(folders), mixed=True)
    assert [row.name for row in board.rows if board.is_best(row, "SemAP_Full")] == ["c"]


def test_intervals_have_the_decimals_of_their_numbers_up_to_three(tmp_path: Path) -> None:
    (board,) = boards(find([generated(tmp_path / "p", 1.0)]))
    assert board.text(board.rows[0], "CAP") == ("1.00", "0.90–1.10")
    assert Board("k", "t", ("X",), []).text(BoardRow("a", {"X": Cell(0.5, (0.4, 0.6))}), "X") == (
        "0.5000",
        "0.400–0.600",
    )


def test_local_weights_with_a_name_of_the_paper_are_not_taken_for_its_own(tmp_path: Path) -> None:
    (board,) = boards(find([scored(tmp_path / "a", 0.3, hub=None)]))
    assert any("comparable if the weights are those of the hub and the truth" in note for note in board.notes)


def test_the_page_does_not_scroll_sideways_and_breaks_no_number(tmp_path: Path, browser: Any) -> None:
    write_boards(boards(find([scored(tmp_path / "a", 0.3, "long-name-" * 9, weights="w" * 300)])), tmp_path)
    browser.open((tmp_path / "leaderboard.html").as_uri())
    assert browser.see("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
    lines = "[...document.querySelectorAll('small')].map(e => e.getClientRects().length && e.offsetHeight < 30)"
    assert browser.see(lines) == [True] * 3


def test_the_best_needs_somebody_to_beat() -> None:
    one, other = BoardRow("a", {"X": Cell(1.0)}), BoardRow("b", {"X": Cell(2.0)})
    assert not Board("k", "t", ("X",), [one]).is_best(one, "X")
    assert Board("k", "t", ("X",), [one, other]).is_best(other, "X")
    assert Board("k", "t", ("X",), [one, other], lower_is_better=True).is_best(one, "X")


def test_all_files_are_written(tmp_path: Path) -> None:
    made = boards(find([scored(tmp_path / "a", 0.3, profiles=("paper", "release"))]))
    names = {path.name for path in write_boards(made, tmp_path / "out")}
    assert names == {"leaderboard.md", "leaderboard.html", "eval-paper.csv", "eval-release.csv"}
    assert {path.name for path in (tmp_path / "out").iterdir()} == names


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_no_name_is_a_formula_to_a_spreadsheet(start: str) -> None:
    assert _spreadsheet_name(f"{start}cmd") == f"'{start}cmd"
    assert _spreadsheet_name("cmd") == "cmd"
