"""A second opinion: ratings with a known truth, a judge that does not look, failures, resuming, and agreement."""

import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomreason.anomaly import Usage
from anomreason.cli import app
from anomreason.deepfake.card import write_card
from anomreason.deepfake.judge import ScoredRun, score
from anomreason.deepfake.opinion import NO_FILE, NOT_REACHED, questions, second_opinion_on, with_opinion
from anomreason.deepfake.rating import Explanation, rater, ratings_of, read_ratings
from anomreason.detector import DetectOptions
from anomreason.errors import EndpointError, ParseError, RunConflict, UsageError
from anomreason.evaluation.notices import deepfake_notices
from anomreason.evaluation.records import DeepfakeResult, read_result
from anomreason.images import Encoded
from anomreason.metrics.opinion import RatedControl, RatedImage, SecondOpinion, second_opinion
from anomreason.report.deepfake import opinion_rows
from anomreason.runs import read_results
from anomreason.vlm.protocol import Reply, Request

IMAGES = 24


def anomaly(number: int, k: int = 0) -> dict[str, object]:
    return {
        "name": f"Error {k}",
        "phenomenon": f"Image number {number} has an error at place {k}.",
        "reasoning": "That cannot be.",
        "severity": 10,
    }


def made(root: Path) -> tuple[Path, Path]:
    """Image n is of colour n. AI images claim two anomalies: of themselves if n % 4 == 0, else of another image.
    Every third photograph has a description; the others have nothing to rate."""
    rows: list[dict[str, Any]] = []
    for n in range(IMAGES):
        name = f"{'1_fake' if n % 2 == 0 else '0_real'}/{n:02}.png"
        (root / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 64), (n, n, n)).save(root / "set" / name)
        row: dict[str, Any] = {"image": name, "generated": n % 2 == 0}
        if n % 2 == 0:
            rows.append(row | {"anomalies": [anomaly(n if n % 4 == 0 else 99, k) for k in range(2)]})
        else:
            rows.append(row | ({"description": f"Image number {n} is a photograph."} if n % 3 == 0 else {}))
    (root / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return root / "p.jsonl", root / "set"


class Judge:
    """A VLM that knows an image by its colour and rates 5 what names its number, else 1."""

    name = "fake-judge"
    bounds_pixels = False

    def __init__(self, always: int | None = None, spoils: int | None = None) -> None:
        self.always, self.spoils, self.asked = always, spoils, 0

    async def ask(self, request: Request) -> Reply:
        self.asked += 1
        shown = next(part for part in request.parts if isinstance(part, Encoded))
        number = Image.open(io.BytesIO(shown.data)).convert("RGB").getpixel((0, 0))[0]  # type: ignore[index]
        rows = [json.loads(line) for line in str(request.parts[-1]).split("\n") if line.startswith('{"id"')]
        ratings = [
            {"id": row["id"], "seen": f"<i>{number}</i>", "rating": self.always or (5 if names(row, number) else 1)}
            for row in rows
        ]
        if number == self.spoils:
            ratings = ratings[:-1]
        return Reply(json.dumps({"ratings": ratings}), "stop", Usage(calls=1, prompt_tokens=9), self.name)

    async def close(self) -> None:
        """Nothing is held open."""


def names(row: dict[str, str], number: int) -> bool:
    return f"number {number} " in row["phenomenon"]


def opinion(run: ScoredRun) -> SecondOpinion:
    assert run.result.opinion is not None
    return run.result.opinion


@pytest.fixture
def scored(tmp_path: Path) -> ScoredRun:
    return score(*made(tmp_path), None)


def ask(scored: ScoredRun, folder: Path, judge: Judge, **options: Any) -> ScoredRun:
    setup_options = DetectOptions(retries=0, in_flight=4)
    return second_opinion_on(scored, judge, folder, setup_options, **options)


def test_a_judge_that_looks_tells_true_from_untrue_explanations(scored: ScoredRun, tmp_path: Path) -> None:
    """12 AI images: 6 explained truly, 6 untruly. 4 photographs described truly. Shown elsewhere nothing is true."""
    rated = ask(scored, tmp_path / "judge", Judge())
    found = opinion(rated)
    assert found.counts == (12, 0, 0, 0, 16)
    assert (found.images, found.unexplained, found.explanations, found.failures) == (16, 8, 28, {})
    assert (found.mean.value, found.fakes.value, found.photographs.value) == (3.5, 3, 5)
    assert (found.control.value, found.control.n, found.looks) == (1, 16, True)
    assert found.difference.value == 2.5
    assert rated.ratings["1_fake/00.png"][0].rating == 5
    assert rated.ratings["1_fake/02.png"][1].seen == "<i>2</i>"


def test_a_judge_that_says_five_to_all_is_exposed(scored: ScoredRun, tmp_path: Path) -> None:
    rated = ask(scored, tmp_path / "judge", Judge(always=5))
    assert opinion(rated).mean.value == opinion(rated).control.value == 5
    assert opinion(rated).looks is False
    assert deepfake_notices(rated.result)[0].title == "The second opinion does not look"
    page = write_card(rated, tmp_path / "card")
    assert page is not None
    assert "fake-judge rates explanations as high beside another image as beside their own" in page.read_text()


def test_a_reply_that_leaves_one_out_is_a_failure_and_no_guess(scored: ScoredRun, tmp_path: Path) -> None:
    rated = ask(scored, tmp_path / "judge", Judge(spoils=4))
    found = opinion(rated)
    assert found.failures == {"unparsable": 1}
    assert (found.images, found.explanations) == (16, 26)
    assert rated.ratings["1_fake/04.png"] == ()
    assert found.control_failures == {"unparsable": 1}


def test_the_same_again_asks_nothing_and_other_explanations_are_asked_anew(scored: ScoredRun, tmp_path: Path) -> None:
    first, again = Judge(), Judge()
    one = ask(scored, tmp_path / "judge", first, controls=3)
    assert first.asked == 16 + 3
    two = ask(scored, tmp_path / "judge", again, controls=3)
    assert again.asked == 0
    assert opinion(one) == opinion(two)
    rows = [json.loads(line) for line in (tmp_path / "p.jsonl").read_text().splitlines()]
    rows[0]["anomalies"] = [anomaly(0, 7)]
    (tmp_path / "p.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    third = Judge()
    changed = ask(score(tmp_path / "p.jsonl", tmp_path / "set", None), tmp_path / "judge", third, controls=0)
    assert third.asked == 1
    assert opinion(changed).explanations == 27


def test_what_was_not_reached_or_has_no_file_is_counted(scored: ScoredRun, tmp_path: Path) -> None:
    class Refusing(Judge):
        async def ask(self, request: Request) -> Reply:
            if self.asked >= 5:
                raise EndpointError("rejected", "no more money")
            return await super().ask(request)

    (tmp_path / "set" / "1_fake" / "00.png").unlink()
    asked = questions(scored, controls=0)
    assert asked.no_file == ("1_fake/00.png",)
    ask(scored, tmp_path / "judge", Refusing(), controls=0)
    found = opinion(with_opinion(scored, questions(scored, 5), "m", tmp_path / "judge", np.random.default_rng(0)))
    assert found.failures == {NO_FILE: 1, "endpoint": 10}
    assert found.control_failures == {NOT_REACHED: 5}
    assert found.mean.n == 5


def test_controls_never_show_an_image_with_its_own_explanations(scored: ScoredRun) -> None:
    asked = questions(scored, controls=100)
    controls = [one for one in asked.asked if one.control]
    assert len(controls) == 16
    assert all(not one.shown.name.startswith(one.of) for one in controls)
    assert questions(scored, controls=100) == asked
    assert not [one for one in questions(scored, controls=0).asked if one.control]


def test_another_judge_does_not_continue_the_folder(scored: ScoredRun, tmp_path: Path) -> None:
    ask(scored, tmp_path / "judge", Judge(), controls=0)
    other = Judge()
    other.name = "other"
    with pytest.raises(RunConflict, match="fake-judge"):
        ask(scored, tmp_path / "judge", other)


def test_ratings_survive_in_the_run_folder(scored: ScoredRun, tmp_path: Path) -> None:
    ask(scored, tmp_path / "judge", Judge(), controls=0)
    rated = {name: ratings_of(one) for name, one in read_results(tmp_path / "judge").items()}
    assert rated["0_real/03.png"][0][:2] == (Explanation("Description", "Image number 3 is a photograph."), 5)
    assert [one.rating for one in rated["1_fake/02.png"]] == [1, 1]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ('{"ratings": [{"id": 1, "rating": 5}]}', "exactly once"),
        ('{"ratings": [{"id": 1, "rating": 5}, {"id": 1, "rating": 4}]}', "exactly once"),
        ('{"ratings": [{"id": 1, "rating": 5}, {"id": 2, "rating": 6}]}', "rating"),
        ('{"ratings": [{"id": 1, "rating": 5}, {"id": 2}]}', "rating"),
        ("All of them are true.", "no JSON"),
    ],
)
def test_a_reply_is_read_strictly(text: str, complaint: str) -> None:
    with pytest.raises(ParseError, match=complaint):
        read_ratings(text, 2)


def test_a_model_trained_on_one_question_cannot_rate() -> None:
    with pytest.raises(UsageError, match="cannot rate explanations"):
        rater("tiny", DetectOptions(), {})


def test_agreement_with_the_text_metric_is_told_with_interval_and_n() -> None:
    draw = np.random.default_rng(0)
    own = []
    for n in range(60):
        truth = draw.random()
        rating = int(np.clip(round(1 + 4 * truth + draw.normal(0, 0.7)), 1, 5))
        own.append(RatedImage(str(n), True, True, (rating,), scores={"semf1": truth} if n < 50 else {}))
    found = second_opinion("m", own, [], np.random.default_rng(0))
    one = found.agreement["semf1"]
    assert one.n == 50
    assert one.value is not None
    assert one.interval is not None
    assert 0.6 < one.interval.low < one.value < one.interval.high
    assert (found.control.value, found.looks) == (None, None)


def test_the_interval_of_the_mean_rating_holds_the_truth_about_as_often_as_it_says() -> None:
    """200 judges that find 70 % of the explanations true: 5 with 0.7, else 1, so 3.8 on average."""
    draw, held = np.random.default_rng(2), 0
    for _ in range(200):
        own = [RatedImage(str(n), True, True, tuple(draw.choice((5, 1), 2, p=(0.7, 0.3)))) for n in range(60)]
        ends = second_opinion("m", own, [], draw, resamples=300).mean.interval
        assert ends is not None
        held += ends.low <= 3.8 <= ends.high
    assert held >= 182


def test_a_rating_outside_its_scale_is_refused() -> None:
    with pytest.raises(UsageError, match=r"1\.\.5"):
        second_opinion("m", [RatedImage("a", True, True, (6,))], [], np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"1\.\.5"):
        second_opinion("m", [], [RatedControl("a", (0,))], np.random.default_rng(0))


def test_the_command_asks_a_simulated_judge_and_writes_the_card(tmp_path: Path) -> None:
    predictions, folder = made(tmp_path)
    truth = {}
    for n in range(IMAGES):
        name = f"{'1_fake' if n % 2 == 0 else '0_real'}/{n:02}.png"
        truth[name] = {"objects": [], "anomalies": [anomaly(n, k) for k in range(2)] if n % 2 == 0 else []}
        colours = np.random.default_rng(n).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(colours).save(folder / name)
    (folder / "truth.json").write_text(json.dumps(truth))
    command = ["deepfake", "score", str(predictions), str(folder), "--out", str(tmp_path / "card")]
    judge = ["--judge", f"sim:{folder / 'truth.json'}", "--controls", "6"]
    ran = CliRunner().invoke(app, [*command, *judge])
    assert ran.exit_code == 0, ran.output
    result = read_result(tmp_path / "card" / "deepfake.json", DeepfakeResult)
    assert result.opinion is not None
    assert result.opinion.simulated
    assert result.opinion.counts[3] + result.opinion.counts[4] == 12
    assert [row.name for row in opinion_rows(result)][:3] == ["mean rating", "  judged right", "  judged wrong"]
    assert "A second opinion on the explanations" in ran.output
    assert "A second opinion" in (tmp_path / "card" / "report.html").read_text()
    calls = (tmp_path / "card" / "judge" / "calls.jsonl").read_text()
    assert CliRunner().invoke(app, [*command, *judge]).exit_code == 0
    assert (tmp_path / "card" / "judge" / "calls.jsonl").read_text() == calls

    ran = CliRunner().invoke(app, command)
    assert "add --judge to have them in the card" in ran.output
    assert read_result(tmp_path / "card" / "deepfake.json", DeepfakeResult).opinion is None


def test_a_cap_ends_the_work_and_the_card_counts_what_was_not_reached(tmp_path: Path) -> None:
    predictions, folder = made(tmp_path)
    names = [f"{'1_fake' if n % 2 == 0 else '0_real'}/{n:02}.png" for n in range(IMAGES)]
    for n, name in enumerate(names):
        colours = np.random.default_rng(n).integers(0, 256, (64, 80, 3), dtype=np.uint8)
        Image.fromarray(colours).save(folder / name)
    (folder / "truth.json").write_text(json.dumps({name: {"objects": [], "anomalies": []} for name in names}))
    command = ["deepfake", "score", str(predictions), str(folder), "--out", str(tmp_path / "card")]
    command += ["--judge", f"sim:{folder / 'truth.json'}", "--controls", "0"]
    ran = CliRunner().invoke(app, [*command, "--max-tokens", "4000"])
    assert ran.exit_code == 4, ran.output
    result = read_result(tmp_path / "card" / "deepfake.json", DeepfakeResult)
    assert result.opinion is not None
    assert 0 < result.opinion.mean.n < 16
    assert sum(result.opinion.failures.values()) == 16 - result.opinion.mean.n
    assert CliRunner().invoke(app, command).exit_code == 0
    assert read_result(tmp_path / "card" / "deepfake.json", DeepfakeResult).opinion.failures == {}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--judge", "gpt-4o"], "--out"),
        (["--max-cost", "3"], "has no effect without --judge"),
        (["--controls", "3"], "has no effect without --judge"),
    ],
)
def test_options_that_cannot_be_meant_are_named(options: list[str], says: str, tmp_path: Path) -> None:
    predictions, folder = made(tmp_path)
    ran = CliRunner().invoke(app, ["deepfake", "score", str(predictions), str(folder), *options])
    assert ran.exit_code != 0
    assert says in str(ran.exception)


def test_a_replaced_image_is_shown_again(scored: ScoredRun, tmp_path: Path) -> None:
    ask(scored, tmp_path / "judge", Judge(), controls=0)
    Image.new("RGB", (90, 64), (0, 0, 0)).save(tmp_path / "set" / "1_fake" / "00.png")
    again = Judge()
    ask(replace(scored), tmp_path / "judge", again, controls=0)
    assert again.asked == 1
