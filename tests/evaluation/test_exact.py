"""Facts about `eval --exact`: what is read of scenes and predictions, how they are joined, and what is said of it."""

import json
from pathlib import Path
from typing import Any

import pytest

from anomreason.anomaly import Anomaly, Detection, Failure, Region
from anomreason.cli.eval import print_exact
from anomreason.errors import UsageError
from anomreason.evaluation.exact import evaluate_exact, write_exact
from anomreason.evaluation.records import ExactResult, JoinedImages
from anomreason.sources.scenes import read_scenes
from anomreason.stats import Estimate

FLOATING = {
    "kind": "floating",
    "level": "high",
    "name": "Floating fire engine",
    "phenomenon": "The fire engine hangs in mid-air.",
    "reasoning": "Gravity pulls it down.",
    "severity": 5.0,
    "objects": ["fire engine"],
    "region": [0.0, 0.0, 0.5, 0.5],
}
SPLIT = {
    **FLOATING,
    "kind": "split",
    "level": "gap",
    "name": "Split cup",
    "phenomenon": "The cup is cut in two halves.",
    "severity": 3.0,
    "objects": ["cup"],
    "region": [0.5, 0.5, 1.0, 1.0],
}
OBJECTS = [
    {"name": "fire engine", "synonyms": ["fire truck"], "box": [0.0, 0.0, 0.5, 0.5]},
    {"name": "cup", "synonyms": [], "box": [0.5, 0.5, 1.0, 1.0]},
]


def line(name: str, anomalies: list[Any], **more: Any) -> dict[str, Any]:
    world = {"scene": 0, "world": "sprites", "world_version": "1", "seed": 1, "size": 64, "place": "street"}
    twins = {"twins": [], "twin_of": "", "mended": -1}
    return {"file_name": f"images/{name}.png", **world, "anomalies": anomalies, "objects": OBJECTS, **twins, **more}


SCENES = [
    line("0", [FLOATING, SPLIT], twins=["images/0-t0.png", "images/0-t1.png"]),
    line("0-t0", [SPLIT], twin_of="images/0.png", mended=0),
    line("0-t1", [FLOATING], twin_of="images/0.png", mended=1),
    line("1", []),
]


def scenes(folder: Path, rows: list[Any] | None = None) -> Path:
    folder.mkdir(exist_ok=True)
    text = "".join(json.dumps(row) + "\n" for row in (SCENES if rows is None else rows))
    (folder / "metadata.jsonl").write_text(text, encoding="utf-8")
    return folder


def anomaly(row: dict[str, Any]) -> Anomaly:
    x0, y0, x1, y1 = row["region"]
    fields = {key: row[key] for key in ("name", "phenomenon", "reasoning", "severity", "objects")}
    return Anomaly(**fields, region=Region(x0=x0, y0=y0, x1=x1, y1=y1))


def run(folder: Path, detections: list[Detection], torn: str = "") -> Path:
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"format": 1, "settings": {}}))
    (folder / "results.jsonl").write_text("".join(d.json_line() + "\n" for d in detections) + torn)
    return folder


def said(name: str, rows: list[dict[str, Any]]) -> Detection:
    anomalies = tuple(anomaly(row) for row in rows)
    return Detection(image=f"images/{name}.png", detector="d", status="ok", anomalies=anomalies)


PERFECT = [said(Path(row["file_name"]).stem, row["anomalies"]) for row in SCENES]


def published(path: Path, rows: list[dict[str, Any]]) -> Path:
    keys = {"Name": "name", "Observed Phenomenon": "phenomenon", "Reasoning": "reasoning", "Severity Score": "severity"}
    value = {row["file_name"]: [{k: a[v] for k, v in keys.items()} for a in row["anomalies"]] for row in rows}
    path.write_text(json.dumps(value))
    return path


def test_a_run_that_tells_the_truth(tmp_path: Path) -> None:
    got = evaluate_exact(run(tmp_path / "run", PERFECT), scenes(tmp_path / "s"))
    assert (got.n, got.clean, got.twins, got.failures) == (2, 1, 2, {})
    assert [one.value for one in (got.recall, got.precision, got.localisation)] == [1.0, 1.0, 1.0]
    assert got.twin_test.passed == Estimate(1.0, None, 2)
    assert (got.false_on_clean.value, got.severity_error.value) == (0.0, 0.0)
    assert set(got.kinds) == {"floating", "split"}
    assert got.joined == JoinedImages(by_path=4)
    assert ExactResult.model_validate_json(got.model_dump_json()) == got


def test_the_published_form_has_no_regions_but_finds_the_same(tmp_path: Path) -> None:
    got = evaluate_exact(f"mine={published(tmp_path / 'p.json', SCENES)}", scenes(tmp_path / "s"))
    assert (got.name, got.recall.value, got.twin_test.passed.value) == ("mine", 1.0, 1.0)
    assert got.localisation == Estimate(None, None, 0)


def test_our_lines_take_a_region_as_four_numbers(tmp_path: Path) -> None:
    other_kind = {**FLOATING, "name": "Odd fire truck", "phenomenon": "It looks odd.", "reasoning": "It is odd."}
    row = {"image": "images/0.png", "anomalies": [other_kind]}
    path = tmp_path / "mine.jsonl"
    path.write_text(json.dumps(row) + "\n")
    got = evaluate_exact(path, scenes(tmp_path / "s"))
    assert (got.recall.value, got.found_by_region_alone) == (0.5, 1)
    row["anomalies"] = [{**other_kind, "region": [0.5, 0.5, 0.1, 0.1]}]
    path.write_text(json.dumps(row) + "\n")
    with pytest.raises(UsageError, match=r"mine\.jsonl, line 1, image 'images/0\.png', anomaly 1: the region"):
        evaluate_exact(path, tmp_path / "s")


def test_failed_missing_and_unknown_images_are_told(tmp_path: Path) -> None:
    refused = Detection(
        image="images/1.png", detector="d", status="failed", failure=Failure(kind="refused", message="no")
    )
    detections = [PERFECT[0], PERFECT[1], refused, said("elsewhere", [])]
    got = evaluate_exact(run(tmp_path / "run", detections, torn='{"image": "images/'), scenes(tmp_path / "s"))
    assert (got.failures, got.twin_failures, got.twin_test.failed) == ({"refused": 1}, {"missing": 1}, 1)
    assert got.joined.not_in_truth == ("images/elsewhere.png",)
    assert got.joined.missing == ("images/0-t1.png",)


def test_an_image_that_was_not_looked_at_is_no_image_without_claims(tmp_path: Path) -> None:
    path = tmp_path / "mine.jsonl"
    path.write_text('{"image": "images/0.png", "generated": true}\n{"image": "images/1.png", "description": "A cup."}')
    got = evaluate_exact(path, scenes(tmp_path / "s"))
    assert (got.failures, got.false_on_clean.n) == ({"not_assessed": 2}, 0)


def test_where_results_cannot_go_is_found_before_anything_is_scored(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for out in (tmp_path / "file" / "out", tmp_path / ("x" * 300)):
        with pytest.raises(UsageError, match=out.name):
            write_exact([run(tmp_path / f"run{len(out.name)}", PERFECT)], tmp_path / "nowhere", out)


def test_the_last_answer_of_a_run_counts(tmp_path: Path) -> None:
    twice = [said("0", []), *PERFECT]
    assert evaluate_exact(run(tmp_path / "run", twice), scenes(tmp_path / "s")).recall.value == 1.0


def test_names_may_differ_in_their_folder(tmp_path: Path) -> None:
    moved = [d.model_copy(update={"image": Path(d.image).name}) for d in PERFECT]
    got = evaluate_exact(run(tmp_path / "run", moved), scenes(tmp_path / "s"))
    assert (got.recall.value, got.joined.by_file_name) == (1.0, 4)


def test_the_signature_tells_scenes_and_counting_apart(tmp_path: Path) -> None:
    predictions = run(tmp_path / "run", PERFECT)
    one = evaluate_exact(predictions, scenes(tmp_path / "s")).signature
    turned = evaluate_exact(predictions, scenes(tmp_path / "turned", SCENES[::-1])).signature
    dropped = evaluate_exact(predictions, tmp_path / "s", failures="dropped").signature
    fewer = evaluate_exact(predictions, scenes(tmp_path / "fewer", SCENES[:3])).signature
    assert one == turned
    assert dropped == one.model_copy(update={"failures": "dropped"})
    assert fewer.truth != one.truth


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (
            {**SCENES[0], "file_name": "x.png", "anomalies": [{**FLOATING, "kind": "odd"}]},
            "line 2, anomaly 1: the kind is 'odd'",
        ),
        (
            {**SCENES[0], "file_name": "x.png", "anomalies": [{**FLOATING, "objects": []}]},
            "line 2, anomaly 1: it names no object",
        ),
        (
            {**SCENES[0], "file_name": "x.png", "anomalies": [{**FLOATING, "severity": 101}]},
            "line 2, anomaly 1: 'Severity Score' is 101",
        ),
        (
            {**SCENES[0], "file_name": "x.png", "anomalies": [{**FLOATING, "region": [1, 0, 0, 1]}]},
            "line 2, anomaly 1: the region is a list",
        ),
        ({"file_name": "x.png", "anomalies": []}, "line 2: 'objects' is missing"),
        ([1], "line 2: write one JSON object, not a list"),
        (SCENES[1] | {"twin_of": "nowhere.png"}, "twin of 'nowhere.png'"),
        (SCENES[1] | {"mended": 7}, "lacks anomaly 7"),
        (SCENES[0], "duplicate image"),
    ],
)
def test_a_wrong_metadata_file_is_an_error_that_says_where(row: Any, message: str, tmp_path: Path) -> None:
    folder = scenes(tmp_path / "s", [SCENES[0], row])
    with pytest.raises(UsageError, match=message) as error:
        read_scenes(folder)
    assert "metadata.jsonl" in str(error.value)


def test_missing_empty_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"metadata\.jsonl.*does not exist|does not exist"):
        read_scenes(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="lists no images"):
        read_scenes(scenes(tmp_path / "s", []))
    (tmp_path / "s" / "metadata.jsonl").write_text('{"file_name": NaN}\n')
    with pytest.raises(UsageError, match=r"line 1: .*NaN"):
        read_scenes(tmp_path / "s")
    (tmp_path / "s" / "metadata.jsonl").write_bytes(b"\xff\xfe\n")
    with pytest.raises(UsageError, match="not UTF-8"):
        read_scenes(tmp_path / "s")


def test_the_file_itself_may_be_named(tmp_path: Path) -> None:
    folder = scenes(tmp_path / "s")
    assert read_scenes(folder / "metadata.jsonl") == read_scenes(folder)


def test_what_is_shown_holds_every_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    detections = [PERFECT[0], PERFECT[1], PERFECT[2], said("bad\x1b[31m", [])]
    found = evaluate_exact(f"my\u202erun={run(tmp_path / 'run', detections)}", scenes(tmp_path / "s"))
    print_exact(found)
    shown = capsys.readouterr().out
    for text in (
        "recall",
        "twin test",
        "localisation IoU",
        "severity bias",
        "floating",
        "split",
        "1 missing",
        "1.0000",
    ):
        assert text in shown
    assert "\x1b" not in shown
    assert "\u202e" not in shown


def test_nothing_heavy_is_needed() -> None:
    import subprocess
    import sys

    code = "import sys, anomreason.evaluation.exact, anomreason.cli.eval; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
