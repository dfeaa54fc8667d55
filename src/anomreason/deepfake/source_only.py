"""A detector that is asked whether an image is AI-generated and nothing else: one call an image, as a sweep needs it.

    setup = source_only(set_up("gpt-4o", DetectOptions(two_turns=True)))

The question is the one of `detect`, byte for byte, so that its answers and those of a whole detection compare.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, fields

from anomreason.agent.observer import Observer
from anomreason.agent.pipeline import Look, source
from anomreason.anomaly import Detection, Failure
from anomreason.detector import DetectorSetup
from anomreason.errors import CallFailed, UsageError
from anomreason.images import LoadedImage
from anomreason.vlm.calling import Caller
from anomreason.vlm.card import DetectorCard


def source_only(setup: DetectorSetup) -> SourceSetup:
    """The same detector, asked for the source alone. Raises UsageError for one that is not asked for it at all."""
    if not setup.options.source_calls:
        raise UsageError(f"{setup.model} is not asked whether images are AI-generated; set two_turns or judge_source")
    return SourceSetup(**{f.name: getattr(setup, f.name) for f in fields(DetectorSetup)})


@dataclass(frozen=True)
class SourceSetup(DetectorSetup):
    """A model set up to be asked for the source alone."""

    def deciding(self) -> dict[str, object]:
        """As for a detector, with what it is asked for."""
        return {**super().deciding(), "asks": "source"}

    @property
    def steps(self) -> Mapping[str, int]:
        return {"source": self.options.source_calls}

    def detector(self, caller: Caller, observer: Observer) -> SourceDetector:
        return SourceDetector(caller, observer, self)


class SourceDetector:
    """Turns an image into a detection that holds a source judgement and no anomalies."""

    def __init__(self, caller: Caller, observer: Observer, setup: DetectorSetup) -> None:
        self.name = f"{caller.vlm.name} source"
        self._caller, self._observer, self._setup = caller, observer, setup
        self._card: DetectorCard | None = setup.card or getattr(caller.vlm, "card", None)

    async def detect(self, loaded: LoadedImage, image: str) -> Detection:
        """Judge one image; a lost call gives a failed detection. Raises Stopped when asked to stop."""
        setup = self._setup
        look = Look(self._caller, setup.prompts, loaded, image, setup.options, card=self._card, observer=self._observer)
        begun, judged, failure = time.monotonic(), None, None
        try:
            judged = await source(look)
        except CallFailed as error:
            lost = look.meter.lost or error
            failure = Failure(kind=lost.kind, message=str(lost))
        return Detection(
            image=image,
            sha256=loaded.sha256,
            detector=self.name,
            status="failed" if failure else "ok",
            failure=failure,
            source=judged,
            source_only=True,
            sent=loaded.sent.model_copy(update={"notes": (*loaded.sent.notes, *sorted(look.meter.sent_notes))}),
            notes=tuple(dict.fromkeys(look.notes)),
            usage=look.meter.usage,
            seconds=round(time.monotonic() - begun, 3),
        )
