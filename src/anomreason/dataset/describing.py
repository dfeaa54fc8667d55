"""Describes what is to be seen in photographs: the texts that deepfake data need beside the anomalies of AI images.

    setup = describer("gpt-4o", DetectOptions(max_cost=5.0))

The result is a detector like any other, one call an image: budget, cache, retries and resume are those of `detect`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Collection
from dataclasses import dataclass, fields, replace

from anomreason.agent.observer import Observer
from anomreason.agent.replies import read_prose
from anomreason.agent.roles import DESCRIBER, Prompts
from anomreason.anomaly import Detection, Failure
from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.errors import CallFailed, NoEffect, UsageError
from anomreason.images import LoadedImage
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.protocol import Reply, Request, Sampling, Tag, runs_here

IDLE = (
    *("schedule", "max_objects", "judge_source", "two_turns", "source_samples", "abstain", "spread", "boxes"),
    *("crops", "prompts", "card"),
)
"""Options of `detect` that have no effect on descriptions."""


def describer(model: str, options: DetectOptions, given: Collection[str] = ()) -> DescriberSetup:
    """A model set up to describe; `given` as in `detector.set_up`.

    Raises UsageError as that does, for a model that was trained on one question only, and for a given option of IDLE.
    """
    for name in sorted(given):
        if name in IDLE:
            why = "has no effect on descriptions"
            raise NoEffect(name, f"it {why}", f"{name} (--{name.replace('_', '-')}) {why}; leave it out")
    setup = set_up(model, replace(options, schedule="single"), {*given, "schedule"})
    if setup.card is not None:
        raise UsageError(f"{model} was trained on one question only and cannot describe; use another model")
    return DescriberSetup(**{f.name: getattr(setup, f.name) for f in fields(DetectorSetup)})


@dataclass(frozen=True)
class DescriberSetup(DetectorSetup):
    """A model set up to describe images."""

    def deciding(self) -> dict[str, object]:
        """As for a detector: the settings that decide the texts."""
        options = self.options
        bound = None if runs_here(self.model) else options.max_side
        asked = {"seed": options.seed, "temperature": options.temperature, "max_side": bound}
        return {"model": self.model, "describe": hashlib.sha256(_prompt().encode()).hexdigest()[:16], **asked}

    def detector(self, caller: Caller, observer: Observer) -> Describer:
        return Describer(caller, observer, self.options)


class Describer:
    """Turns an image into a detection that holds a description and no anomalies."""

    def __init__(self, caller: Caller, observer: Observer, options: DetectOptions) -> None:
        self.name = f"{caller.vlm.name} description"
        self._caller, self._observer = caller, observer
        self._sampling = Sampling(options.temperature, options.max_reply_tokens, options.seed)

    async def detect(self, loaded: LoadedImage, image: str) -> Detection:
        """Describe one image; a lost call gives a failed detection. Raises Stopped when asked to stop."""
        request = Request((_prompt(), loaded.encoded), Tag(image, DESCRIBER, "describe"), None, self._sampling)
        notes: set[str] = set()

        def read(reply: Reply) -> str:
            if other := self._observer.hear(request, reply):
                notes.add(other)
            return read_prose(reply.text)

        meter, begun = Meter(), time.monotonic()
        text, failure = None, None
        try:
            text = await self._caller.call(request, read, meter)
        except CallFailed as error:
            failure = Failure(kind=error.kind, message=str(error))
        return Detection(
            image=image,
            sha256=loaded.sha256,
            detector=self.name,
            status="failed" if failure else "ok",
            failure=failure,
            description=text,
            sent=loaded.sent.model_copy(update={"notes": (*loaded.sent.notes, *sorted(meter.sent_notes))}),
            notes=tuple(sorted(notes)),
            usage=meter.usage,
            seconds=round(time.monotonic() - begun, 3),
        )


def _prompt() -> str:
    return Prompts.load().render("describe")
