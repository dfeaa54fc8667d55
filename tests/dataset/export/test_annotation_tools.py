"""COCO, Label Studio, Prodigy and CSV: what annotation tools and spreadsheets read."""

import csv
import json
from pathlib import Path
from typing import Any
from urllib.parse import unquote
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.dataset.export.filling import HAND, SHADOW, SIGN

from anomreason.dataset.export import ExportOptions, export
from anomreason.dataset.export.csv import escaped, unescaped
from anomreason.dataset.store import Store

BOTH = ExportOptions(verdicts=("accepted", "unverified", "rejected"))


def lines(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def test_pycocotools_opens_boxes_outlines_and_kinds(filled: Store, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", exc_type=ImportError)
    from pycocotools import mask

    export(filled, tmp_path / "out", ExportOptions("coco"))
    opened = coco.COCO(str(tmp_path / "out/annotations/instances_train.json"))
    kinds = {c["id"]: c["name"] for c in opened.loadCats(opened.getCatIds())}
    assert sorted(kinds.values()) == ["anatomy", "lettering"]
    images = {i["name"]: i for i in opened.loadImgs(opened.getImgIds())}
    assert sorted(images) == ["0_real/park.png", "cats/one.png", "flux/two.jpg", "scene.png"]
    for image in images.values():
        assert (tmp_path / "out/images/train" / image["file_name"]).is_file()
    (hand,) = opened.loadAnns(opened.getAnnIds(images["scene.png"]["id"]))
    assert (hand["bbox"], hand["area"], hand["segmentation"]) == ([6.0, 8.0, 12.0, 8.0], 96.0, [])
    assert kinds[hand["category_id"]] == "anatomy"
    assert (hand["attributes"]["severity"], hand["attributes"]["objects"]) == (12.5, ["hand", "woman"])
    (sign,) = opened.loadAnns(opened.getAnnIds(images["flux/two.jpg"]["id"]))
    assert (sign["segmentation"], sign["area"]) == ([[0.0, 0.0, 12.0, 0.0, 0.0, 8.0]], 48.0)
    assert mask.area(opened.annToRLE(sign)) > 30
    assert sign["attributes"]["phenomenon"] == SIGN["phenomenon"]
    (without,) = images["flux/two.jpg"]["anomalies_without_region"]
    assert (without["category"], without["name"], without["severity"]) == ("anomaly", "No shadow", 70.0)


def test_pycocotools_scores_an_export_as_its_own_truth(filled: Store, tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco", exc_type=ImportError)
    from pycocotools.cocoeval import COCOeval

    export(filled, tmp_path / "out", ExportOptions("coco"))
    truth = coco.COCO(str(tmp_path / "out/annotations/instances_train.json"))
    found = [{k: a[k] for k in ("image_id", "category_id", "bbox")} | {"score": 1.0} for a in truth.anns.values()]
    scored = COCOeval(truth, truth.loadRes(found), "bbox")
    scored.evaluate()
    scored.accumulate()
    scored.summarize()
    assert scored.stats[0] == 1.0


def test_kinds_have_one_number_in_all_splits(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out", ExportOptions("coco"))
    held = [json.loads(f.read_text()) for f in sorted((tmp_path / "out/annotations").iterdir())]
    assert held[0]["categories"] == held[1]["categories"]
    ids = [annotation["id"] for one in held for annotation in one["annotations"]]
    assert len(set(ids)) == len(ids)


def test_label_studio_shows_each_candidate_with_box_outline_score_and_verdict(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out, ExportOptions("label-studio", verdicts=BOTH.verdicts))
    tasks = {
        (t["data"]["file_name"], t["data"]["name"]): t
        for split in ("train", "test")
        for t in json.loads((out / f"tasks-{split}.json").read_text(encoding="utf-8"))
    }
    for task in tasks.values():
        served = unquote(task["data"]["image"].removeprefix("/data/local-files/?d="))
        assert (out / served).is_file()
    (prediction,) = tasks["undecided.png", "Six fingers"]["predictions"]
    assert (prediction["model_version"], prediction["score"]) == ("reader lean", 0.8)
    (box,) = prediction["result"]
    assert box["value"] == {
        "x": 25.0,
        "y": 50.0,
        "width": 50.0,
        "height": 50.0,
        "rotation": 0,
        "rectanglelabels": ["anatomy"],
    }
    assert (box["original_width"], box["original_height"], box["type"]) == (24, 16, "rectanglelabels")
    outline, choice = tasks["flux/two.jpg", SIGN["name"]]["predictions"][0]["result"]
    assert outline["value"]["points"] == [[0, 0], [50, 0], [0, 50]]
    assert choice["value"] == {"choices": ["ACCEPT"]}
    rejected = tasks["cats/one.png", "No shadow"]["predictions"][0]["result"]
    assert [one["value"] for one in rejected] == [{"choices": ["REJECT"]}]
    assert tasks["clean.webp", "No anomaly is known"]["predictions"] == []


def test_label_studio_s_interface_names_all_that_the_tasks_use(filled: Store, tmp_path: Path) -> None:
    export(filled, tmp_path / "out", ExportOptions("label-studio", verdicts=BOTH.verdicts))
    view = ElementTree.parse(tmp_path / "out/labels.xml")
    controls = {tag.get("name"): {child.get("value") for child in tag} for tag in view.getroot() if tag.get("name")}
    assert controls["verdict"] == {"ACCEPT", "REJECT", "UNSURE"}
    shown = {v[1:] for tag in view.iter() if (v := tag.get("value") or "").startswith("$")}
    for split in ("train", "test"):
        for task in json.loads((tmp_path / f"out/tasks-{split}.json").read_text(encoding="utf-8")):
            assert shown <= set(task["data"])
            for result in (r for p in task["predictions"] for r in p["result"]):
                assert controls[result["from_name"]] >= set(result["value"].get(result["type"]))


def test_prodigy_s_tasks_have_spans_in_pixels_and_answers_where_people_judged(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out, ExportOptions("prodigy", verdicts=BOTH.verdicts))
    tasks = [task for split in ("train", "test") for task in lines(out / f"{split}.jsonl")]
    by = {(t["meta"]["file_name"], t.get("text", "").partition("\n")[0]): t for t in tasks}
    undecided = by["undecided.png", "Six fingers"]
    assert "answer" not in undecided
    (span,) = undecided["spans"]
    assert (span["x"], span["y"], span["width"], span["height"]) == (6, 8, 12, 8)
    assert span["points"] == [[6, 8], [6, 16], [18, 16], [18, 8]]
    assert by["cats/one.png", "A sixth finger"]["answer"] == "accept"
    assert by["cats/one.png", "No shadow"]["answer"] == "reject"
    assert by["clean.webp", ""]["spans"] == []
    assert len({task["_task_hash"] for task in tasks}) == len(tasks)
    assert len({task["_input_hash"] for task in tasks}) == len({task["image"] for task in tasks})
    assert all((out / task["image"]).is_file() for task in tasks)


def test_csv_gives_back_every_text_and_no_cell_is_a_formula(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out, ExportOptions("csv", with_steps=True))
    with (out / "anomalies.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in rows for cell in row.values())
    sign = next(row for row in rows if row["image"] == "images/train/flux/two.jpg" and row["kind"] == "lettering")
    assert {name: unescaped(sign[name]) for name in ("name", "phenomenon", "reasoning")} == {
        name: SIGN[name] for name in ("name", "phenomenon", "reasoning")
    }
    assert (sign["severity"], sign["x1"], sign["agreement"], sign["selected"]) == ("40.0", "0.5", str(2 / 3), "1")
    cats = [row for row in rows if row["image"] == "images/train/cats/one.png"]
    assert [(r["name"], r["selected"], r["outcome"], r["dropped"]) for r in cats] == [
        ("A sixth finger", "1", "accepted", ""),
        (SHADOW["name"], "0", "rejected", ""),
        (SHADOW["name"], "0", "unverified", "score under 50"),
    ]
    assert cats[0]["objects"] == "; ".join(HAND["objects"])
    with (out / "images.csv").open(encoding="utf-8", newline="") as file:
        images = {row["image"]: row for row in csv.DictReader(file)}
    assert all((out / image).is_file() for image in images)
    assert images["images/train/cats/one.png"]["prompt"] == "A cat, photograph"
    assert unescaped(images["images/train/0_real/park.png"]["description"]) == "A park\nwith a bench."


@given(st.text())
def test_a_cell_is_never_a_formula_and_gives_its_text_back(text: str) -> None:
    cell = escaped(text)
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert unescaped(cell) == text


@pytest.mark.parametrize("form", ["published", "coco", "label-studio", "prodigy", "csv"])
def test_an_export_can_do_without_the_images(filled: Store, tmp_path: Path, form: str) -> None:
    report = export(filled, tmp_path / "out", ExportOptions(form, images="none"))
    assert report.images == 7
    assert not [p for p in (tmp_path / "out").rglob("*") if p.suffix in (".png", ".jpg", ".webp")]
