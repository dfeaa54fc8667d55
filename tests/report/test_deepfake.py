"""The card's page: what it opens with, what leaks on top, hostile text escaped, and files of earlier versions."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason.deepfake.card import write_card
from anomreason.deepfake.judge import score
from anomreason.evaluation.records import DeepfakeResult, JudgedImage, read_result
from anomreason.report.deepfake import point_rows, reference_rows
from anomreason.report.leaderboard import boards, find

ODD = {"name": "<script>x</script>", "phenomenon": "Six & fingers.", "reasoning": "Hands have five.", "severity": 5}


def made(root: Path, leaking: bool = False, scores: bool = True, n: int = 60) -> tuple[Path, Path]:
    """Predictions and truth: every second image is an AI image, 1 in 10 is answered wrong."""
    rows: list[dict[str, Any]] = []
    for k in range(n):
        fake = k % 2 == 0
        ending = "png" if (fake if leaking else k % 4 < 2) else "jpg"
        name = f"{'1_fake/flux' if fake else '0_real'}/{k:02}.{ending}"
        (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (16, 16), (4 * k, 90, 90)).save(root / "set" / name)
        says = fake if k % 10 else not fake
        row = {"image": name, "generated": says, "anomalies": [ODD] if says else []}
        rows.append(row | ({"p_generated": 0.9 - k / 1000 if says else 0.1 + k / 1000} if scores else {}))
    rows[1]["generated"] = "unsure"
    rows[3] = {"image": rows[3]["image"], "failure": "unparsable"}
    (root / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "p.jsonl", root / "set"


def card(root: Path, **options: Any) -> tuple[DeepfakeResult, str]:
    found = score(*made(root, **options), None)
    page = write_card(found, root / "out")
    assert page is not None
    return found.result, page.read_text()


def test_the_card_opens_with_the_operating_points_and_accuracy_never_stands_alone(tmp_path: Path) -> None:
    result, page = card(tmp_path)
    heads = [page.index(f'id="{part}-head"') for part in ("points", "numbers", "calibration", "clean", "explanations")]
    assert heads == sorted(heads)
    assert "not measurable with 29 photographs" in page
    assert page.count("<svg") == 2
    assert "balanced accuracy" in page
    assert [row.false_alarms for row in point_rows(result.operating)][:3] == ["1 %", "5 %", "10 %"]  # type: ignore[arg-type]
    lines = (tmp_path / "out" / "judgements.jsonl").read_text().splitlines()
    outcomes = [JudgedImage.model_validate_json(line).outcome for line in lines]
    assert {name: outcomes.count(name) for name in ("missed", "false alarm", "unsure", "failed", "right")} == {
        "missed": 6,
        "false alarm": 0,
        "unsure": 1,
        "failed": 1,
        "right": 52,
    }
    assert read_result(tmp_path / "out" / "deepfake.json", DeepfakeResult) == result


def test_without_scores_the_card_says_that_there_is_one_point(tmp_path: Path) -> None:
    result, page = card(tmp_path, scores=False)
    assert result.operating is not None
    assert len(point_rows(result.operating)) == 1
    assert "There is one point only" in page
    assert "There is no calibration: no image has a probability" in page


def test_a_planted_leak_is_named_at_the_top(tmp_path: Path) -> None:
    result, page = card(tmp_path, leaking=True)
    leaks = {leak.fact: leak for leak in result.leaking}
    said = page.index("the file type alone reaches a balanced accuracy of 1.00")
    assert said < page.index('id="points-head"')
    assert leaks["file type"].rule == "AI image when the file type is png"


def test_without_a_leak_nothing_is_named(tmp_path: Path) -> None:
    result, page = card(tmp_path)
    assert "file type" not in {leak.fact for leak in result.leaking}
    assert "the file type alone" not in page


def test_text_of_models_and_files_is_escaped_and_images_are_shown_by_reference(tmp_path: Path) -> None:
    _, page = card(tmp_path)
    assert "<script>x" not in page
    assert "&lt;script&gt;x" in page
    assert 'src="../set/1_fake/flux/00.png"' in page
    assert page.count("<script") == 1


def test_the_papers_table_2_stands_beside_it_as_of_another_dataset(tmp_path: Path) -> None:
    _, page = card(tmp_path)
    assert len(reference_rows()) > 15
    assert all(row.values[0] is not None for row in reference_rows())
    assert "arXiv 2510.10231, Table 2" in page
    assert "another dataset" in page


def test_the_page_goes_where_none_is_wanted(tmp_path: Path) -> None:
    found = score(*made(tmp_path), None)
    write_card(found, tmp_path / "out")
    assert write_card(found, tmp_path / "out", report=False) is None
    assert not (tmp_path / "out" / "report.html").exists()


def test_a_file_of_an_earlier_version_is_still_read(tmp_path: Path) -> None:
    card(tmp_path)
    file = tmp_path / "out" / "deepfake.json"
    old = json.loads(file.read_text())
    for name in (
        "operating",
        "calibration",
        "uncalibrated",
        "opinion",
        "not_asked",
        "answers",
        "judged_right",
        "clean",
    ):
        del old[name]
    for source in old["sources"]:
        del source["not_asked"]
    file.write_text(json.dumps(old))
    result = read_result(file, DeepfakeResult)
    assert (result.operating, result.clean, result.not_asked) == (None, None, 0)
    assert boards(find([tmp_path / "out"]))[0].rows[0].name == "p"


@pytest.mark.parametrize("name", ["report.css", "scores.css", "deepfake.css", "deepfake.js"])
def test_what_the_page_loads_lies_beside_it(name: str, tmp_path: Path) -> None:
    _, page = card(tmp_path)
    assert f'"report/{name}"' in page
    assert (tmp_path / "out" / "report" / name).is_file()
