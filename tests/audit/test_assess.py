"""Facts about `plausibility`: which image is whose, what is paired, what is left out."""

import json
from pathlib import Path
from typing import Any

import pytest

from anomreason.audit.assess import assess
from anomreason.errors import UsageError
from anomreason.evaluation.records import PlausibilityResult


def said(*severities: float) -> list[dict[str, Any]]:
    return [{"name": "x", "phenomenon": "y", "reasoning": "z", "severity": s} for s in severities]


def written(path: Path, value: Any) -> Path:
    if isinstance(value, str):
        path.write_text(value)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in value))
    else:
        path.write_text(json.dumps(value))
    return path


def scores(found: PlausibilityResult, metric: Any) -> dict[str, Any]:
    return {g.generator: g.scores[metric].value for g in found.generators}


@pytest.fixture
def two(tmp_path: Path) -> tuple[str, str]:
    good = written(tmp_path / "g.json", {"p1.png": said(80), "p2.png": [], "p3.png": said(50)})
    bad = written(tmp_path / "b.json", {"p1.jpg": said(0, 20), "p2.jpg": said(0), "p3.jpg": said(10, 10)})
    return f"good={good}", f"bad={bad}"


def test_an_input_is_a_generator(two: tuple[str, str]) -> None:
    found = assess(two)
    assert scores(found, "mai") == {"good": pytest.approx(0.7 / 3), "bad": pytest.approx((1.8 + 1 + 1.8) / 3)}
    assert scores(found, "cap")["bad"] == pytest.approx((3.6 + 1 + 3.6) / 3)
    assert scores(found, "cap_of_means")["bad"] == pytest.approx((4.6 / 3) * (5 / 3))
    assert not found.paired
    assert all(d.difference.n == 0 for d in found.differences)
    assert PlausibilityResult.model_validate_json(found.model_dump_json()) == found


def test_images_of_one_name_are_paired_when_asked(two: tuple[str, str]) -> None:
    found = assess(two, pair_by_name=True)
    assert found.paired
    (mai,) = [d for d in found.differences if d.metric == "mai"]
    assert (mai.one, mai.other, mai.difference.n) == ("bad", "good", 3)
    assert mai.difference.value == pytest.approx((1.6 + 1 + 1.3) / 3)


def test_a_manifest_tells_generator_and_prompt(tmp_path: Path) -> None:
    rows = "file_name,generator,prompt\na/1.png,flux,a cat\nb/1.png,sdxl,a cat\na/2.png,flux,\nb/2.png,sdxl,a dog\n"
    manifest = written(tmp_path / "m.csv", rows)
    results = [
        {"image": "a/1.png", "anomalies": said(40)},
        {"image": "b/1.png", "anomalies": said(90)},
        {"image": "a/2.png", "failure": "refused"},
        {"image": "other.png", "anomalies": []},
    ]
    file = written(tmp_path / "r.jsonl", results)
    found = assess([file], manifest=manifest)
    assert scores(found, "mai") == {"flux": pytest.approx(0.6), "sdxl": pytest.approx(0.1)}
    assert {g.generator: g.failures for g in found.generators} == {
        "flux": {"refused": 1},
        "sdxl": {"missing": 1},
    }
    assert found.not_in_manifest == ("other.png",)
    assert {d.difference.n for d in found.differences} == {1}
    lines = [{"image": "a/1.png", "generator": "flux"}, {"image": "b/1.png", "generator": "sdxl"}]
    assert set(scores(assess([file], manifest=written(tmp_path / "m.jsonl", lines)), "af")) == {"flux", "sdxl"}


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ("file_name,prompt\na.png,x\n", ("m.csv", "line 2", "generator")),
        ("file_name,generator\na.png,\n", ("m.csv", "line 2", "generator")),
        ("file_name,generator\na.png,x\n./a.png,y\n", ("m.csv", "line 3", "duplicate image")),
        ("file_name,generator\nz.png,x\n", ("no image of the manifest", "m.csv", "r.json")),
        ("picture,generator\na.png,x\n", ("m.csv", "file_name")),
    ],
)
def test_a_manifest_that_cannot_be_used_is_named_with_the_line(
    rows: str, told: tuple[str, ...], tmp_path: Path
) -> None:
    results = written(tmp_path / "r.json", {"a.png": []})
    with pytest.raises(UsageError) as raised:
        assess([results], manifest=written(tmp_path / "m.csv", rows))
    assert [part for part in told if part not in str(raised.value)] == []


@pytest.mark.parametrize("manifest", ["m.csv", "m.jsonl"])
def test_the_image_is_named_by_the_same_column_as_elsewhere(manifest: str, tmp_path: Path) -> None:
    """The first known column counts; a row that leaves it empty is an error, and no other column stands in for it."""
    rows: Any = [{"file_name": "a.png", "image": "other.png", "generator": "flux"}]
    if manifest == "m.csv":
        rows = "file_name,image,generator\na.png,other.png,flux\n"
    results = written(tmp_path / "r.json", {"a.png": said(50)})
    found = assess([results], manifest=written(tmp_path / manifest, rows))
    assert scores(found, "mai") == {"flux": 0.5}
    rows = [rows[0] | {"file_name": ""}] if manifest == "m.jsonl" else rows.replace("a.png", "")
    with pytest.raises(UsageError, match=rf"{manifest}, line \d: write the path"):
        assess([results], manifest=written(tmp_path / manifest, rows))


def test_what_was_not_looked_at_is_not_flawless(tmp_path: Path) -> None:
    described = written(tmp_path / "d.json", {"a.png": "a photo of a cat", "b.png": said(50)})
    judged = written(tmp_path / "j.jsonl", [{"image": "a.png", "generated": True}])
    looked = written(tmp_path / "l.jsonl", [{"image": "a.png", "anomalies": []}])
    found = {g.generator: g for g in assess([described, judged, looked]).generators}
    assert {name: g.failures for name, g in found.items()} == {
        "d": {"not_assessed": 1},
        "j": {"not_assessed": 1},
        "l": {},
    }
    assert {name: g.scores["mai"].value for name, g in found.items()} == {"d": 0.5, "j": None, "l": 0}
    assert (found["j"].ranks, found["l"].ranks["mai"].rank) == ({}, 1)


def test_names_in_the_generators_own_folder_are_paired_too(tmp_path: Path) -> None:
    flux = written(tmp_path / "flux.json", {f"flux/{n:03}.png": said(50) for n in range(3)})
    other = written(tmp_path / "sd15.json", {f"sd15/{n:03}.jpg": said(0) for n in range(3)})
    found = assess([flux, other], pair_by_name=True)
    assert ({d.difference.n for d in found.differences}, found.warnings) == ({3}, ())
    manifest = "file_name,generator\n" + "".join(f"{g}/{n:03}.png,{g}\n" for g in ("flux", "sd15") for n in range(3))
    both = written(tmp_path / "both.json", {f"{g}/{n:03}.png": said(50) for g in ("flux", "sd15") for n in range(3)})
    found = assess([both], manifest=written(tmp_path / "m.csv", manifest), pair_by_name=True)
    assert {d.difference.n for d in found.differences} == {3}


def test_a_name_that_a_generator_has_twice_is_told_apart_by_its_folder(tmp_path: Path) -> None:
    one = written(tmp_path / "one.json", {"cat/0.png": said(50), "dog/0.png": said(0), "dog/1.png": said(0)})
    other = written(tmp_path / "other.json", {"cat/0.png": said(50), "x/1.png": said(100)})
    mai = assess([one, other], pair_by_name=True).differences[0].difference
    assert (mai.n, mai.value) == (2, pytest.approx((0 + 1) / 2))


def test_when_no_prompt_is_shared_that_is_said(two: tuple[str, str], tmp_path: Path) -> None:
    strange = f"third={written(tmp_path / 't.json', {'other.png': said(0)})}"
    assert ["no prompt is common" in w for w in assess([two[0], strange], pair_by_name=True).warnings] == [True]
    assert assess([*two, strange], pair_by_name=True).warnings == ()
    assert assess([two[0], strange]).warnings == ()


def test_an_image_that_fits_several_rows_of_the_manifest_is_told(tmp_path: Path) -> None:
    manifest = written(tmp_path / "m.csv", "file_name,generator\na/1.png,flux\nb/1.png,sdxl\nc/2.png,sdxl\n")
    found = assess([written(tmp_path / "r.json", {"1.png": [], "2.png": []})], manifest=manifest)
    (warning,) = found.warnings
    assert [part for part in ("r.json", "several", "'1.png'") if part not in warning] == []
    assert found.not_in_manifest == ()


def test_a_generator_must_be_text(tmp_path: Path) -> None:
    manifest = tmp_path / "m.jsonl"
    manifest.write_text('{"image": "a.png", "generator": "\\ud800"}')
    with pytest.raises(UsageError, match=r"m\.jsonl, line 1.*not text"):
        assess([written(tmp_path / "r.json", {"a.png": []})], manifest=manifest)


def test_what_is_ambiguous_is_refused(two: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="NAME=PATH"):
        assess([two[0], two[0]])
    manifest = written(tmp_path / "m.csv", "file_name,generator\np1.png,x\n")
    with pytest.raises(UsageError, match=r"p1\.png.*another input"):
        assess([two[0], two[0]], manifest=manifest)


def test_two_assessors_agree_or_not(two: tuple[str, str], tmp_path: Path) -> None:
    third = f"third={written(tmp_path / 't.json', {'p1.png': said(0, 0, 0)})}"
    same = assess([*two, third], against=[*two, third])
    assert same.agreement["mai"].spearman.value == 1
    turned = [two[0].replace("good=", "bad="), two[1].replace("bad=", "good="), third]
    other = assess([*two, third], against=turned).agreement["mai"]
    assert other.spearman.value == pytest.approx(0.5)
    assert other.kendall.n == 3
    assert other.spearman.interval is None, "of three generators"


def test_the_other_assessor_must_speak_of_the_same_generators(two: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"g\.json.*'goood'.*'bad', 'good'"):
        assess(two, against=[two[0].replace("good=", "goood=")])
    found = assess(two, against=[two[0]])
    assert found.warnings == ("only one assessor has results of 'bad', left out of the agreement",)
    assert found.agreement["mai"].spearman.n == 1


def test_generators_that_different_detectors_assessed_are_warned_of(tmp_path: Path) -> None:
    for name, detector in (("a", "gpt-4o lean"), ("b", "gpt-4o lean"), ("c", "qwen single")):
        line = {"image": "1.png", "anomalies": [], "detector": detector}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(line) + "\n")
    a, b, c = (tmp_path / f"{name}.jsonl" for name in "abc")
    assert assess([a, b]).warnings == ()
    (warning,) = assess([a, c]).warnings
    assert "different detectors (gpt-4o lean, qwen single)" in warning
