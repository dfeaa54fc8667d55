"""A second opinion on the explanations of a scored run: another model rates them, and a control shows whether it looks.

    scored = score("runs/judged", "truth/", None)
    print(second_opinion_on(scored, "gpt-4o", Path("card/judge")).result.opinion.mean.value)

Each image is shown with its own explanations; for a sample the same explanations are shown with another image.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np

from anomreason.anomaly import Detection
from anomreason.deepfake.judge import ScoredRun
from anomreason.deepfake.rating import MOST, Explanation, RaterSetup, ReadRating, rater, ratings_of
from anomreason.detection import detect_images, open_session, remaining
from anomreason.detector import DetectOptions
from anomreason.errors import UsageError
from anomreason.metrics.opinion import RatedControl, RatedImage, second_opinion
from anomreason.runs import ImageStatus, RunFolder, read_results
from anomreason.sources.annotations import ImageAnnotation
from anomreason.sources.inputs import FoundImages, Image
from anomreason.vlm.ledger import spent_in
from anomreason.vlm.protocol import VLM

CONTROLS = 50
"""Images whose explanations are shown with another image too."""
NOT_REACHED = "not reached"
NO_FILE = "no file"
LONGEST = 2_000
"""Characters of a text that are shown to the judge."""
FOLDER = "judge"
"""Run folder of the ratings, inside that of the card."""


@dataclass(frozen=True, slots=True)
class Question:
    """One image with explanations to rate, in the judge's run."""

    shown: Image
    of: str
    """The image, by its name in the truth, whose explanations they are."""
    explanations: tuple[Explanation, ...]
    left_out: int = 0
    control: bool = False


@dataclass(frozen=True, slots=True)
class AskedQuestions:
    """Everything that a judge is asked about one scored run."""

    asked: tuple[Question, ...]
    no_file: tuple[str, ...]
    """Images with explanations whose files are not found."""

    @property
    def explanations(self) -> Mapping[str, Sequence[Explanation]]:
        return {one.shown.name: one.explanations for one in self.asked}

    def todo(self, run: RunFolder) -> list[Image]:
        """The images still to be shown: without ratings, changed, or with other explanations than those rated."""
        done = dict(run.done)
        if any(one.shown.name in done for one in self.asked):
            rated = read_results(run.path)
            for one in self.asked:
                if (known := rated.get(one.shown.name)) and known.failure is None and not _same(one, known):
                    done[one.shown.name] = ImageStatus("failed", None, None, None, None)
        return list(remaining([one.shown for one in self.asked], done))


def _same(question: Question, detection: Detection) -> bool:
    return tuple(one.explanation for one in ratings_of(detection)) == question.explanations


def questions(run: ScoredRun, controls: int = CONTROLS) -> AskedQuestions:
    """What there is to ask: an image's own explanations, and for up to `controls` images the same with another image.

    Which images are controls, and which are shown for them, follows from their names, so that the same command asks
    the same. UsageError for a negative number.
    """
    if controls < 0:
        raise UsageError(f"the number of controls is {controls}; it cannot be negative (0 leaves them out)")
    own, missing = [], []
    for image in run.images:
        found = _explanations(run.entry.answers.get(image.image))
        if not found:
            continue
        path = run.path(image.image)
        if path is None:
            missing.append(image.image)
            continue
        own.append(Question(Image(image.image, path), image.image, found[:MOST], len(found[MOST:])))
    return AskedQuestions((*own, *_controls(own, controls)), tuple(missing))


def _explanations(answer: ImageAnnotation | None) -> tuple[Explanation, ...]:
    if answer is None or answer.failure is not None:
        return ()
    if answer.description is not None:
        return (Explanation("Description", answer.description[:LONGEST]),)
    return tuple(
        Explanation(one.name[:LONGEST], one.phenomenon[:LONGEST], one.reasoning[:LONGEST]) for one in answer.anomalies
    )


def _controls(own: Sequence[Question], most: int) -> Iterator[Question]:
    """Each with the next image in an order by hash; the last with the first."""
    if len(own) < 2:
        return
    order = sorted(own, key=lambda one: hashlib.sha256(os.fsencode(one.of)).digest())
    for place, one in enumerate(order[:most]):
        other = order[(place + 1) % len(order)]
        name = f"{other.shown.name} (explanations of {one.of})"
        yield replace(one, shown=Image(name, other.shown.path), control=True)


def open_ratings(setup: RaterSetup, run: ScoredRun, asked: AskedQuestions, folder: Path) -> RunFolder:
    """Create or continue the run folder of the ratings. Raises RunConflict where it has those of another judge."""
    root = Path(os.path.relpath(run.folder or ".", folder))
    return setup.open_run(folder, FoundImages(root, [one.shown for one in asked.asked]), [str(run.entry.source.path)])


def with_opinion(
    run: ScoredRun, asked: AskedQuestions, model: str, folder: Path, rng: np.random.Generator
) -> ScoredRun:
    """The scored run with the ratings that the folder holds by now; what it lacks is counted as not reached."""
    results = read_results(folder)
    answers = {one.shown.name: results.get(one.shown.name) for one in asked.asked}
    own, ratings = [], {}
    by_name = {one.of: one for one in asked.asked if not one.control}
    scores = _text_scores(run)
    for place, image in enumerate(run.images):
        rated = RatedImage(image.image, image.generated, image.right, scores=scores[place])
        if question := by_name.get(image.image):
            given, failure = _read(question, answers[question.shown.name])
            ratings[image.image] = given
            rated = replace(
                rated, ratings=tuple(one.rating for one in given), failure=failure, left_out=question.left_out
            )
        elif image.image in asked.no_file:
            rated = replace(rated, failure=NO_FILE)
        own.append(rated)
    controls = []
    for question in (one for one in asked.asked if one.control):
        given, failure = _read(question, answers[question.shown.name])
        controls.append(RatedControl(question.of, tuple(one.rating for one in given), failure))
    found = second_opinion(model, own, controls, rng).model_copy(
        update={"simulated": model.startswith("sim:"), "usage": spent_in(folder)}
    )
    return replace(run, ratings=ratings, result=run.result.model_copy(update={"opinion": found}))


def _read(question: Question, detection: Detection | None) -> tuple[tuple[ReadRating, ...], str | None]:
    """Ratings and kind of failure; a result of other explanations counts as not reached."""
    if detection is None:
        return (), NOT_REACHED
    if detection.failure is not None:
        return (), detection.failure.kind
    return (ratings_of(detection), None) if _same(question, detection) else ((), NOT_REACHED)


def _text_scores(run: ScoredRun) -> list[dict[str, float]]:
    """For each image how well its explanation agrees with the truth's texts, in the first profile and view `full`."""
    found: list[dict[str, float]] = [{} for _ in run.images]
    profile = next(iter(run.explained), (None, None, None))[0]
    for (of, view, metric), values in run.explained.items():
        if (of, view) == (profile, "full"):
            for scores, value in zip(found, values, strict=True):
                if value is not None:
                    scores[metric] = value
    return found


def second_opinion_on(
    run: ScoredRun,
    model: str | VLM,
    folder: Path,
    options: DetectOptions = DetectOptions(),  # noqa: B008
    controls: int = CONTROLS,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> ScoredRun:
    """Ask what is left of the ratings, and give the scored run with them. There is no question before money is spent:
    set max_cost or max_tokens.

    folder: where ratings are kept and continued. Raises UsageError for options that cannot be used and inside an event
    loop, RunConflict for a folder with ratings of another judge.
    """
    if asyncio._get_running_loop() is not None:
        raise UsageError("an event loop is running here (a notebook?): use asyncio.to_thread(second_opinion_on, ...)")
    given = {f.name for f in fields(DetectOptions) if getattr(options, f.name) != f.default}
    asked = questions(run, controls)
    setup = rater(model, options, asked.explanations, given)
    with open_ratings(setup, run, asked, folder) as ratings:
        asyncio.run(_ask(setup, ratings, asked.todo(ratings), progress))
        return with_opinion(run, asked, setup.model, folder, np.random.default_rng([options.seed, 3]))


async def _ask(
    setup: RaterSetup, ratings: RunFolder, todo: Sequence[Image], progress: Callable[[int, int], None]
) -> None:
    done = 0

    def one_more(_: Detection) -> None:
        nonlocal done
        done += 1
        progress(done, len(todo))

    if todo:
        async with open_session(setup, ratings) as session:
            await detect_images(todo, session, one_more)
