"""Another model rates explanations, 1-5, for being true of an image: one call an image.

    setup = rater("gpt-4o", DetectOptions(max_cost=5.0), {"a.jpg": (Explanation("Hand", "Six fingers.", "Five."),)})

The result is a detector like any other, so that budget, cache, retries and resume are those of `detect`. Its detection
holds no anomalies; each explanation stands among the candidates, with its rating as the score.
"""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib.resources import files
from typing import Annotated, NamedTuple

from pydantic import Field

from anomreason.agent.forms import Form, Remark, schema_of
from anomreason.agent.observer import Observer
from anomreason.agent.replies import read_form
from anomreason.anomaly import Candidate, Detection, Failure
from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.errors import CallFailed, ParseError, UsageError
from anomreason.images import LoadedImage
from anomreason.metrics.opinion import HIGHEST, LOWEST
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.protocol import VLM, Reply, Request, Sampling, Tag, runs_here

MOST = 12
"""Explanations of one image that are rated."""
ROLE, STEP = "Rater", "opinion"
_NOT_SAID = "(rated without a word)"


class Explanation(NamedTuple):
    """What a detector wrote: an anomaly, or the description of a photograph, which has no reasoning."""

    name: str
    phenomenon: str
    reasoning: str = ""


class GivenRating(Form):
    id: Annotated[int, Field(ge=1, le=MOST)]
    seen: Remark = ""
    rating: Annotated[int, Field(ge=LOWEST, le=HIGHEST)]


class GivenRatings(Form):
    ratings: Annotated[list[GivenRating], Field(max_length=MOST)]


class ReadRating(NamedTuple):
    """One rating, read back."""

    explanation: Explanation
    rating: int
    seen: str
    """What the judge saw, in its words; empty where it said nothing."""


def rater(
    model: str | VLM,
    options: DetectOptions,
    asked: Mapping[str, Sequence[Explanation]],
    given: Collection[str] = (),
) -> RaterSetup:
    """A model set up to rate; `given` as in `detector.set_up`. asked: by name of the image in the run.

    Raises UsageError as that does, and for a model that was trained on one question only.
    """
    setup = set_up(model, replace(options, schedule="single"), {*given, "schedule"})
    if setup.card is not None:
        raise UsageError(
            f"{setup.model} was trained on one question only and cannot rate explanations; use another model"
        )
    return RaterSetup(**{f.name: getattr(setup, f.name) for f in fields(DetectorSetup)}, asked=asked)


@dataclass(frozen=True)
class RaterSetup(DetectorSetup):
    """A model set up to rate explanations."""

    asked: Mapping[str, Sequence[Explanation]] = field(default_factory=dict)

    def deciding(self) -> dict[str, object]:
        """As for a detector: the settings that decide the ratings."""
        options = self.options
        bound = None if runs_here(self.model) else options.max_side
        asked = {"seed": options.seed, "temperature": options.temperature, "max_side": bound}
        return {"model": self.model, "opinion": hashlib.sha256(_prompt().encode()).hexdigest()[:16], **asked}

    def detector(self, caller: Caller, observer: Observer) -> Rater:
        return Rater(caller, observer, self.options, self.asked)


class Rater:
    """Turns an image and its explanations into a detection whose candidates are rated."""

    def __init__(
        self,
        caller: Caller,
        observer: Observer,
        options: DetectOptions,
        asked: Mapping[str, Sequence[Explanation]],
    ) -> None:
        self.name = f"{caller.vlm.name} opinion"
        self._caller, self._observer, self._asked = caller, observer, asked
        self._sampling = Sampling(options.temperature, options.max_reply_tokens, options.seed)

    async def detect(self, loaded: LoadedImage, image: str) -> Detection:
        """Rate the explanations; a lost call gives a failed detection. Raises Stopped when asked to stop."""
        explanations = self._asked[image]
        texts = f"The explanations:\n\n{_lines(explanations)}\n\n{_form()}"
        request = Request(
            (_prompt(), loaded.encoded, texts), Tag(image, ROLE, STEP), schema_of(GivenRatings), self._sampling
        )
        notes: list[str] = []

        def read(reply: Reply) -> list[GivenRating]:
            if (other := self._observer.hear(request, reply)) and other not in notes:
                notes.append(other)
            return read_ratings(reply.text, len(explanations))

        meter, begun = Meter(), time.monotonic()
        ratings: list[GivenRating] = []
        failure = None
        try:
            ratings = await self._caller.call(request, read, meter)
        except CallFailed as error:
            failure = Failure(kind=error.kind, message=str(error))
        return Detection(
            image=image,
            sha256=loaded.sha256,
            detector=self.name,
            status="failed" if failure else "ok",
            failure=failure,
            candidates=tuple(
                _candidate(one, given) for one, given in zip(explanations, ratings, strict=failure is None)
            ),
            sent=loaded.sent.model_copy(update={"notes": (*loaded.sent.notes, *sorted(meter.sent_notes))}),
            notes=tuple(notes),
            usage=meter.usage,
            seconds=round(time.monotonic() - begun, 3),
        )


def read_ratings(text: str, count: int) -> list[GivenRating]:
    """The ratings of explanations 1 .. count, in this order. Raises ParseError where one is missing or given twice."""
    given = read_form(GivenRatings, text).ratings
    found = {one.id: one for one in given}
    if sorted(one.id for one in given) != list(range(1, count + 1)):
        ids = [one.id for one in given]
        raise ParseError(f"'ratings' must rate each of the ids 1 to {count} exactly once; it rates {ids}")
    return [found[number] for number in range(1, count + 1)]


def ratings_of(detection: Detection) -> tuple[ReadRating, ...]:
    """The ratings that a rater's detection holds; empty for a failed one."""
    return tuple(
        ReadRating(
            Explanation(one.name, one.phenomenon, "" if one.reasoning == _NOT_SAID else one.reasoning),
            _rating(one.score),
            "" if one.dropped in (None, _NOT_SAID) else str(one.dropped),
        )
        for one in detection.candidates
    )


def _candidate(one: Explanation, given: GivenRating) -> Candidate:
    score = 100 * (given.rating - LOWEST) / (HIGHEST - LOWEST)
    return Candidate(
        name=one.name,
        phenomenon=one.phenomenon,
        reasoning=one.reasoning or _NOT_SAID,
        role=ROLE,
        step=STEP,
        score=score,
        dropped=given.seen or _NOT_SAID,
    )


def _rating(score: float | None) -> int:
    return LOWEST + round((score or 0.0) / 100 * (HIGHEST - LOWEST))


def _lines(explanations: Sequence[Explanation]) -> str:
    """One JSON object a line, numbered from 1."""
    rows = [{"id": number, **one._asdict()} for number, one in enumerate(explanations, 1)]
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in rows)


def _form() -> str:
    example = json.dumps({"ratings": [{"id": 1, "seen": "...", "rating": 3}]})
    return (
        'Answer with JSON only, every id once; "seen" says in a few words what you see at that place, '
        f"before you rate: {example}"
    )


def _prompt() -> str:
    return (files("anomreason.deepfake") / "opinion.md").read_text(encoding="utf-8").strip()
