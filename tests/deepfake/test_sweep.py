"""Facts about `deepfake run` and its sweep: what changes is found, and nothing is asked twice, whatever ended it."""

import json
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomreason.anomaly import Usage
from anomreason.cli import app
from anomreason.cli.deepfake.run import Job, Judge
from anomreason.deepfake.folder import SetFolder
from anomreason.deepfake.make import SetSource, make_set
from anomreason.deepfake.sweep import SweepResult, chosen, run_folder
from anomreason.deepfake.variants import VARIANTS, make_images
from anomreason.detector import DetectOptions, set_up
from anomreason.errors import UsageError
from anomreason.evaluation.running import Settings
from anomreason.images import Encoded, inspect_image
from anomreason.runs import read_results
from anomreason.vlm.ledger import spent_in
from anomreason.vlm.protocol import Reply, Request

N = 24
"""Photographs, and AI images."""
PER_CALL = 500
"""Tokens."""
OPTIONS = DetectOptions(two_turns=True, schedule="single", in_flight=1)


class QualityModel:
    """A VLM that calls an image AI-generated when it is a JPEG of a quality under 80."""

    bounds_pixels = False
    name = "by-quality"

    def __init__(self, dies_after: int | None = None) -> None:
        self.asked: Counter[str] = Counter()
        """Requests by step."""
        self._dies_after = dies_after

    async def ask(self, request: Request) -> Reply:
        if self._dies_after is not None and self.asked.total() >= self._dies_after:
            raise KeyboardInterrupt
        self.asked[request.tag.step] += 1
        if request.tag.step != "source":
            text = "A wall." if request.tag.step == "describe" else '{"anomalies": [], "no_anomalies": true}'
            return Reply(text, "stop", Usage(calls=1, prompt_tokens=PER_CALL), self.name)
        (shown,) = (part for part in request.parts if isinstance(part, Encoded))
        quality = inspect_image(Path("shown"), shown.data).facts.jpeg_quality
        p = 0.02 if quality is None else 1 - quality / 100 + (0.35 if quality < 80 else 0.0)
        word = "yes" if p > 0.5 else "no"
        return Reply(
            word, "stop", Usage(calls=1, prompt_tokens=PER_CALL), self.name, {"yes": math.log(p), "no": math.log(1 - p)}
        )

    async def close(self) -> None:
        """Nothing is held open."""


def save(folder: Path, numbers: range, quality: int) -> Path:
    folder.mkdir()
    for n in numbers:
        patches = np.random.default_rng(n).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        image = Image.fromarray(patches).resize((64, 48), Image.Resampling.BICUBIC)
        image.save(folder / f"{n}.jpg", quality=quality)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> SetFolder:
    photos, made = save(tmp_path / "photos", range(N), 90), save(tmp_path / "made", range(100, 100 + N), 70)
    make_set(tmp_path / "set", (SetSource("photos", photos, False), SetSource("flux", made, True)))
    return SetFolder(tmp_path / "set")


def work(folder: SetFolder, model: QualityModel, *variants: str, max_tokens: int | None = None) -> int:
    setup = set_up(model, replace(OPTIONS, max_tokens=max_tokens), {"schedule"})
    names = folder.names("all")
    return Job(folder, setup, "quality", names, chosen(variants or None)).work(True, Settings(), None)


def test_a_second_opinion_shares_the_limits_and_is_asked_for_once(tmp_path: Path, folder: SetFolder) -> None:
    known = {str(path): {"objects": [], "anomalies": [], "generated": False} for path in folder.images.rglob("*.jpg")}
    (tmp_path / "judge.json").write_text(json.dumps(known))
    setup, names = set_up(QualityModel(), OPTIONS, {"schedule"}), folder.names("all")
    job = Job(folder, setup, "quality", names, (), Judge(f"sim:{tmp_path / 'judge.json'}", controls=2))
    card = folder.runs / "quality/card"
    for _ in range(2):
        assert job.work(True, Settings(), None) == 0
        opinion = json.loads((card / "deepfake.json").read_text())["opinion"]
        assert sum(opinion["counts"]) == N, "an explanation for each image judged a photograph"
        assert opinion["usage"]["calls"] == N, "the same words are not rated twice, and the controls are of these"
    spent = spent_in(card / "judge").tokens + spent_in(run_folder(folder, "quality")).tokens
    limited = replace(job, setup=set_up(QualityModel(), replace(OPTIONS, max_tokens=spent), {"schedule"}))
    assert limited.work(True, Settings(), None) == 4, "what the judge has used is part of the limit"


def result(folder: SetFolder) -> SweepResult:
    return SweepResult.model_validate_json((folder.runs / "quality/sweep.json").read_text())


def test_flips_of_a_model_that_answers_by_jpeg_quality_are_found(folder: SetFolder) -> None:
    assert work(folder, QualityModel()) == 0
    found = {one.variant: one for one in result(folder).variants}
    assert list(found) == list(VARIANTS)
    for name, one in found.items():
        worse = name in ("jpeg-50", "jpeg-75")  # all images look AI-generated to it, else all like photographs
        assert one.flips["photographs"].flipped.value == float(worse), name
        assert one.flips["fakes"].flipped.value == float(not worse), name
        assert one.failures == {}
        assert one.losses["accuracy"].loss.value == one.losses["auroc"].loss.value == 0.5
        ends = one.losses["auroc"].loss.interval
        assert ends is not None
        assert ends.low > 0
    assert found["jpeg-50"].flips["photographs"].ways == {"photograph to generated": N}
    assert found["blur"].losses["recall_at_5"].loss.value == pytest.approx(0.95)
    page = (folder.runs / "quality/sweep.html").read_text()
    assert "photographs: 24 from photograph to AI image" in page
    assert 'href="card/report.html"' in page


def test_the_source_alone_is_asked_of_changed_images_and_nothing_twice(folder: SetFolder) -> None:
    model = QualityModel()
    work(folder, model, "jpeg-50", "half")
    assert model.asked == {"source": 3 * 2 * N, "single": N, "describe": N}
    first = result(folder)
    again = QualityModel()
    work(folder, again, "jpeg-50", "half")
    assert again.asked.total() == 0
    assert result(folder) == first
    further = QualityModel()
    work(folder, further, "jpeg-50", "half", "blur")
    assert further.asked == {"source": 2 * N}


def test_changed_images_that_were_removed_are_made_again_and_not_asked_again(folder: SetFolder) -> None:
    work(folder, QualityModel(), "webp")
    for path in (folder.path / "variants/webp").rglob("*.webp"):
        path.unlink()
    again = QualityModel()
    work(folder, again, "webp")
    assert again.asked.total() == 0


@pytest.mark.parametrize("after", [3, 2 * 2 * N - 5, 2 * 2 * N + 7])
def test_a_job_that_was_killed_is_continued(folder: SetFolder, tmp_path: Path, after: int) -> None:
    model = QualityModel(dies_after=after)
    assert work(folder, model, "jpeg-50") == 130
    rest = QualityModel()
    assert work(folder, rest, "jpeg-50") == 0
    assert (model.asked + rest.asked).total() == 2 * 3 * N
    results = read_results(run_folder(folder, "quality", "jpeg-50"))
    assert set(results) == set(folder.names("all"))
    assert not any(one.searched for one in results.values())
    assert result(folder).variants[0].flips["photographs"].ways == {"photograph to generated": N}


def test_images_without_an_answer_are_in_no_pair_and_are_counted(folder: SetFolder) -> None:
    target = (folder.images / "0_real/photos/3.jpg").resolve()
    target.write_bytes(b"broken since")
    assert work(folder, QualityModel(), "jpeg-50") == 3
    found = result(folder)
    assert found.unanswered == {"unreadable_image": 1}
    assert (found.photographs, found.fakes, found.variants[0].pairs) == (N - 1, N, 2 * N - 1)


def test_variants_are_the_same_bytes_each_time_and_follow_their_original(folder: SetFolder) -> None:
    names = folder.names("all")[:3]
    for variant in VARIANTS.values():
        images = make_images(folder, variant, names)
        before = [image.path.read_bytes() for image in images]
        for image in images:
            image.path.unlink()
        assert [image.path.read_bytes() for image in make_images(folder, variant, names)] == before
    Image.new("RGB", (64, 48), "red").save((folder.images / names[0]).resolve())
    with Image.open(make_images(folder, VARIANTS["half"], names)[0].path) as half:
        assert half.size == (32, 24)
        assert half.getpixel((5, 5)) == pytest.approx((254, 0, 0), abs=2)
    with Image.open(make_images(folder, VARIANTS["crop"], names)[0].path) as cropped:
        assert cropped.size == (58, 44)


def test_the_plan_counts_what_is_left_and_one_call_for_each_changed_image(folder: SetFolder) -> None:
    job = Job(folder, set_up(QualityModel(), OPTIONS, {"schedule"}), "quality", folder.names("all"), ("half",))
    assert {what: plan.images for what, plan in job.plans().items()} == {"originals": 2 * N, "half": 2 * N}
    assert job.plans()["half"].usual.usage.calls == 2 * N
    work(folder, QualityModel(), "half")
    assert {what: plan.images for what, plan in job.plans().items()} == {"originals": 0, "half": 0}
    assert "half: nothing left to do" in job.described()


def test_a_limit_holds_for_originals_and_variants_together_and_a_higher_one_continues(folder: SetFolder) -> None:
    first = QualityModel()
    assert work(folder, first, "half", max_tokens=PER_CALL * (2 * 2 * N + 10)) == 4
    assert 2 * 2 * N <= first.asked.total() <= 2 * 2 * N + 10
    assert work(folder, QualityModel(), "half", max_tokens=PER_CALL * (2 * 2 * N + 1)) == 4
    rest = QualityModel()
    assert work(folder, rest, "half", max_tokens=PER_CALL * 1000) == 0
    assert (first.asked + rest.asked).total() >= 2 * 3 * N
    assert rest.asked.total() <= 2 * N


def test_a_set_goes_from_two_folders_to_a_card_and_a_sweep_in_two_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save(Path("photos"), range(12), 90), save(Path("made"), range(100, 112), 90)
    known = {f"photos/{n}.jpg": {"objects": [], "anomalies": [], "generated": False} for n in range(12)}
    known |= {f"made/{n}.jpg": {"objects": [], "anomalies": [], "generated": True} for n in range(100, 112)}
    Path("sim.json").write_text(json.dumps(known))
    run = ["deepfake", "run", "set", "--model", "sim:sim.json", "--part", "all"]
    for command in (
        ["deepfake", "make", "set", "--real", "photos", "--fake", "made"],
        [*run, "--dry-run"],
        [*run, "--sweep", "--variant", "jpeg-75", "--name", "mine"],
        [*run, "--limit", "6"],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
    assert json.loads(Path("set/runs/mine/card/deepfake.json").read_text())["n"] == 24
    assert json.loads(Path("set/runs/mine/sweep.json").read_text())["simulated"] is True
    (other,) = (path for path in Path("set/runs").iterdir() if path.name != "mine")
    assert json.loads((other / "card/deepfake.json").read_text())["n"] == 6
    for wrong, message in (
        ([*run, "--variant", "half"], "has no effect without --sweep"),
        ([*run, "--sweep", "--variant", "upside-down"], "there is no variant"),
        ([*run[:-1], "validation"], "has no part 'validation'; the parts are train, test, all"),
    ):
        refused = CliRunner().invoke(app, wrong)
        assert isinstance(refused.exception, UsageError) or refused.exit_code == 2
        assert message in f"{refused.output}{refused.exception}"
