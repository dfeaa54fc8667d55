"""The nouns: what is wrong in an image, and the result of one detector for one image.

`anomreason.textform` reads and writes the text form. Try it:

    >>> Anomaly(name="Six fingers", phenomenon="The hand has six fingers.", reasoning="Hands have five.", severity=5)
    Anomaly(name='Six fingers', phenomenon='The hand has six fingers.', reasoning='Hands have five.', severity=5.0)
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from anomreason.english import counted
from anomreason.notebook import CardEntry, CardFold, card_html

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Label = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Point = tuple[Fraction, Fraction]
Kind = Literal[
    "floating",
    "intersection",
    "scale",
    "orientation",
    "out_of_place",
    "missing_part",
    "duplicated_part",
    "colour",
    "shadow",
    "reflection",
    "function",
    "physical_state",
    "text",
    "count",
    "lighting",
    "split",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds of anomaly that scenes plant. `Anomaly.kind` is free: other sources have other labels."""
MAX_POINTS = 2_000
"""Points of one polygon."""
FailureKind = Literal[
    "unreadable_image", "unreachable_image", "refused", "truncated", "unparsable", "endpoint", "budget"
]


class Record(BaseModel):
    """Base of every stored record: frozen, and unknown fields are an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __repr_args__(self) -> Iterable[tuple[str | None, Any]]:
        fields = type(self).model_fields
        return [(k, v) for k, v in self if v != fields[k].get_default(call_default_factory=True)]


class Result(Record):
    """Base of what metrics return and files of results hold; a file that a later version wrote may hold more."""

    model_config = ConfigDict(extra="ignore", allow_inf_nan=False)


class Region(Record):
    """A rectangle in fractions (0..1) of the oriented image; x0 < x1 and y0 < y1. Also read from [x0, y0, x1, y1]."""

    x0: Fraction
    y0: Fraction
    x1: Fraction
    y1: Fraction
    polygon: Annotated[tuple[Point, ...], Field(min_length=3, max_length=MAX_POINTS)] | None = None
    """Outline as (x, y) points, the last joined to the first; the rectangle is its bounding box. None: only a box."""

    @model_validator(mode="before")
    @classmethod
    def _from_list(cls, value: Any) -> Any:
        if not isinstance(value, list | tuple):
            return value
        if len(value) != 4 or not all(isinstance(v, int | float) and not isinstance(v, bool) for v in value):
            raise ValueError("write [x0, y0, x1, y1] in fractions 0..1")
        return dict(zip(("x0", "y0", "x1", "y1"), value, strict=True))

    @model_validator(mode="after")
    def _ordered(self) -> Region:
        if self.x0 >= self.x1 or self.y0 >= self.y1:
            raise ValueError("a region needs x0 < x1 and y0 < y1")
        if self.polygon and any(abs(a - b) > 1e-6 for a, b in zip(_bounds(self.polygon), self.box, strict=True)):
            raise ValueError("the region is not the bounding box of its polygon")
        return self

    @classmethod
    def from_polygon(cls, points: Iterable[tuple[float, float]]) -> Region:
        """The region of an outline: its points (at least 3) and their bounding box. Raises pydantic.ValidationError."""
        points = tuple(points)
        x0, y0, x1, y1 = _bounds(points) if points else (0, 0, 1, 1)
        return cls(x0=x0, y0=y0, x1=x1, y1=y1, polygon=points)

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x0, y0, x1, y1."""
        return self.x0, self.y0, self.x1, self.y1

    @property
    def area(self) -> float:
        """Share of the image covered, 0..1."""
        return (self.x1 - self.x0) * (self.y1 - self.y0)

    def iou(self, other: Region) -> float:
        """Intersection over union, 0..1."""
        width = min(self.x1, other.x1) - max(self.x0, other.x0)
        height = min(self.y1, other.y1) - max(self.y0, other.y0)
        shared = max(width, 0.0) * max(height, 0.0)
        together = self.area + other.area - shared
        return shared / together if together > 0 else 0.0

    def union(self, other: Region) -> Region:
        """The smallest rectangle that holds both; it has no polygon."""
        return Region(
            x0=min(self.x0, other.x0), y0=min(self.y0, other.y0), x1=max(self.x1, other.x1), y1=max(self.y1, other.y1)
        )


def _bounds(points: Sequence[Point]) -> tuple[float, float, float, float]:
    xs, ys = [x for x, _ in points], [y for _, y in points]
    return min(xs), min(ys), max(xs), max(ys)


class Basis(Record):
    """What an anomaly rests on: who proposed it, and what the check of it said."""

    role: str
    """The agent that proposed it, as in `calls.jsonl`; the one that wrote the report, for an anomaly of its own."""
    step: str
    score: float | None = Field(default=None, ge=0, le=100)
    """How sure the check was that it is there and implausible, 0..100; None when nobody checked it."""
    reason: str | None = None
    """Why the check gave this score; None when it gave no reason."""
    candidates: tuple[Annotated[int, Field(ge=0)], ...] = ()
    """Positions in `Detection.candidates` of those it rests on, the surest first, whose role, step, score and reason
    these are. Empty: the report's own anomaly, or one of schedule `single`."""

    @property
    def sentence(self) -> str:
        """All of it in one line for a person."""
        score = "" if self.score is None else f"; check: score {self.score:g} of 100"
        reason = f"{':' if score else '; check:'} {self.reason}" if self.reason else ""
        return f"{self.role}, {self.step}{score}{reason}"


class Anomaly(Record):
    """One semantic error in one image: the quadruple of the paper, and its kind, objects and place where known."""

    name: Text
    """What is wrong, in a few words."""
    phenomenon: Text
    """Where and how it shows."""
    reasoning: Text
    """Why it cannot be so."""
    severity: float = Field(ge=0, le=100)
    """0 = completely implausible, 100 = fully realistic."""
    kind: Label | None = None
    """What sort of error, e.g. anatomy, physics, lettering; of a scene, the kind that was planted. None: not known."""
    objects: tuple[Text, ...] = ()
    """Names of the objects concerned, the main one first."""
    region: Region | None = None
    """Where it shows; None when not known."""
    basis: Basis | None = None
    """Who proposed it and how it was checked; None when it was not detected by the agents, or by an earlier version."""

    @property
    def implausibility(self) -> float:
        """0..1, 1 = completely implausible."""
        return (100 - self.severity) / 100


class PartCount(Record):
    """How many parts of one sort an object has, as an agent counted them in the image."""

    part: Label
    """E.g. 'hands', 'tails', 'fingers of the left hand'."""
    count: int = Field(ge=0, le=1000)
    """As they are to be seen; what is hidden is not counted."""


class ObjectPart(Record):
    """A small part of an object that decides whether it is right, as the perceiver saw it."""

    name: Text
    """E.g. 'left hand', 'face', 'dial'."""
    region: Region


class SceneObject(Record):
    """One object or person that the perceiver saw."""

    name: Text
    """Unique within its image."""
    description: str = ""
    region: Region | None = None
    person: bool = False
    agreement: float | None = Field(default=None, ge=0, le=1)
    """Mean IoU of its box between the drafts that saw it; None when only one draft gave a box."""
    counts: tuple[PartCount, ...] = ()
    """Its parts, of a person or an animal as a whole, wherever they are listed. Empty: nothing was counted."""
    parts: tuple[ObjectPart, ...] = ()
    """Where such parts are, the most telling first. Empty: the perceiver named none, or was not asked."""

    @property
    def sentence(self) -> str:
        """Its name and the counts, in one line for a person."""
        return f"{self.name}: {', '.join(f'{c.part} {c.count}' for c in self.counts) or 'nothing counted'}"


class Candidate(Record):
    """An anomaly that was proposed on the way; kept with who proposed it, how it was checked and, if dropped, why."""

    name: Text
    phenomenon: Text
    reasoning: Text
    objects: tuple[Text, ...] = ()
    role: str
    """The agent that proposed it, as in `calls.jsonl`."""
    step: str
    sure: float | None = Field(default=None, ge=0, le=100)
    """How sure that agent was, 0..100; None when it did not say."""
    innocent: str | None = None
    """The likeliest innocent explanation that it gave; None when it gave none."""
    score: float | None = Field(default=None, ge=0, le=100)
    """How sure the check was that it is there and implausible, 0..100; None when it never came to that."""
    reason: str | None = None
    """Why the check gave this score; None when it gave no reason, or when there was no check."""
    dropped: str | None = None
    """Why it is not among the anomalies; None when it is, or when the image failed before that was decided."""

    @property
    def sentence(self) -> str:
        """Name, score and why it was dropped, in one line for a person."""
        score = "" if self.score is None else f" (score {self.score:g} of 100)"
        return f"{self.name}{score}: {self.dropped or 'kept'}"


class Failure(Record):
    """Why an image has no result. Never an empty list of anomalies, never a guess."""

    kind: FailureKind
    message: str


class SourceJudgement(Record):
    """Whether an image is AI-generated, as a detector judged it: an answer, or why there is none."""

    answer: Literal["generated", "photograph", "unsure"] | None = None
    """`photograph`: not AI-generated, so a painting, a render or a slide made by people too. `unsure`: the detector
    abstained, or its probability is within the abstain band. None: the answer is lost, for the reason in `failure`."""
    p_generated: float | None = Field(default=None, ge=0, le=1)
    """Probability that the image is AI-generated; None when the endpoint gives no log-probabilities and no samples were
    drawn."""
    samples: int | None = Field(default=None, ge=1)
    """Sampled answers that `p_generated` is the share of; None when it comes from log-probabilities."""
    failure: Failure | None = None

    @model_validator(mode="after")
    def _answered_xor_lost(self) -> SourceJudgement:
        if (self.answer is None) != (self.failure is not None):
            raise ValueError("a source judgement has either an answer or a failure")
        return self

    @property
    def label(self) -> str:
        """The judgement in a few words for a person."""
        words = {"generated": "AI-generated", "photograph": "not AI-generated", "unsure": "unsure"}
        return words[self.answer] if self.answer else f"not known ({self.failure.kind if self.failure else ''})"


class Usage(Record):
    """What model calls used. Tokens as the endpoint reports them, or as they were estimated."""

    calls: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    """Part of prompt_tokens that the provider served from its prompt cache."""
    completion_tokens: int = 0
    cost: float | None = None
    """US dollars; None when the model's price is not known."""
    estimated: bool = False
    """Whether any of these tokens were estimated, since the endpoint gave no usable count."""

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def __add__(self, other: Usage) -> Usage:
        costs = [c for c in (self.cost, other.cost) if c is not None]
        return Usage(
            calls=self.calls + other.calls,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            cached_tokens=self.cached_tokens + other.cached_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
            cost=sum(costs) if costs else None,
            estimated=self.estimated or other.estimated,
        )


class SentImage(Record):
    """The image as the model got it, and how the file was changed for that."""

    mime: str
    width: int
    height: int
    bytes: int
    notes: tuple[str, ...] = ()
    """E.g. 'first of 12 frames', 'turned by EXIF orientation 6', 'scaled from 4000x3000'."""


class Detection(Record):
    """The result of one detector for one image. One JSON line of `results.jsonl`."""

    image: str
    """The image's path as the run names it."""
    sha256: str | None = None
    """Of the file's bytes; None when it could not be read."""
    detector: str
    """Model and schedule, e.g. 'gpt-4o lean'."""
    status: Literal["ok", "failed"]
    anomalies: tuple[Anomaly, ...] = ()
    """Empty for a clean image and for a failed one: ask `status` (or `failure`) before counting."""
    failure: Failure | None = None
    description: str | None = None
    """What is to be seen, where that was asked for and anomalies were not (a photograph, in two turns); else None."""
    candidates: tuple[Candidate, ...] = ()
    objects: tuple[SceneObject, ...] = ()
    source: SourceJudgement | None = None
    """Whether the image is AI-generated; None when that was not asked."""
    source_only: bool = False
    """Whether nothing but that was asked, so that nobody looked for anomalies."""
    out_of_domain: bool | None = None
    """True when the detector says that it does not know such images; None when it cannot say."""
    sent: SentImage | None = None
    boxes: str | None = None
    """How the model's boxes were read, e.g. 'thousandths' or 'pixels'; None when it gave none."""
    notes: tuple[str, ...] = ()
    """What was assumed, repaired or left out while the replies were read, in sentences for a person."""
    usage: Usage = Usage()
    seconds: float | None = None
    file_size: int | None = None
    """Bytes; with file_mtime it tells a later run whether the file is still the same."""
    file_mtime: int | None = None
    """Nanoseconds since 1970."""

    @model_validator(mode="before")
    @classmethod
    def _from_earlier(cls, value: Any) -> Any:
        """Earlier versions wrote `generated` and `p_generated`; only the latter when the detector abstained."""
        if not isinstance(value, dict) or not isinstance(generated := value.get("generated"), bool | None):
            return value
        line = {key: v for key, v in value.items() if key not in ("generated", "p_generated")}
        p = value.get("p_generated")
        if generated is not None or p is not None:
            answer = "unsure" if generated is None else "generated" if generated else "photograph"
            line.setdefault("source", {"answer": answer, "p_generated": p})
        return line

    @model_validator(mode="after")
    def _failed_xor_ok(self) -> Detection:
        if (self.status == "failed") != (self.failure is not None) or (self.failure and self.anomalies):
            raise ValueError("a failed detection has a failure and no anomalies, an ok one has no failure")
        if self.description is not None and (self.failure or self.anomalies):
            raise ValueError("a description has neither a failure nor anomalies beside it")
        return self

    def json_line(self) -> str:
        """One line of JSON. `anomalies` is written for every `ok` image, empty or not, and never for a failed one."""
        line = self.model_dump(mode="json", exclude_defaults=True)
        if self.status == "ok":
            line["anomalies"] = line.get("anomalies", [])
        if self.generated is not None:
            line["generated"] = self.generated  # the answer in one word, for programs that read only this
        return json.dumps(line, ensure_ascii=False)

    @property
    def generated(self) -> bool | None:
        """AI image (True) or not (False); None when not asked, unsure or lost, which `source` tells apart."""
        answer = self.source.answer if self.source else None
        return None if answer in (None, "unsure") else answer == "generated"

    @property
    def p_generated(self) -> float | None:
        """Probability that the image is AI-generated; None when not known."""
        return self.source.p_generated if self.source else None

    @property
    def searched(self) -> bool:
        """Whether no anomalies means that none were found: it neither failed, nor was something else asked instead, nor
        does the detector say that it does not know such images."""
        asked = self.description is None and not self.source_only
        return self.failure is None and asked and not self.out_of_domain

    @property
    def worst(self) -> float | None:
        """Severity of the worst anomaly (0 = completely implausible); None when there is none."""
        return min((a.severity for a in self.anomalies), default=None)

    def _repr_html_(self) -> str:
        """A card, by which notebooks show a detection."""
        if self.failure:
            summary = f"failed ({self.failure.kind}), which is not a clean image: {self.failure.message}"
        elif self.description is not None:
            summary = self.description
        elif self.out_of_domain:
            summary = "the detector does not know images of this type"
        else:
            nothing = "searched, no anomalies found" if self.searched else "not searched for anomalies"
            summary = counted(len(self.anomalies), "anomaly", "anomalies") if self.anomalies else nothing
        entries = [
            CardEntry(
                *(a.name, a.severity, a.phenomenon, a.reasoning),
                a.region.box if a.region else None,
                a.basis.sentence if a.basis else "",
            )
            for a in self.anomalies
        ]
        dropped = [c.sentence for c in self.candidates if c.dropped is not None]
        parts = [o.sentence for o in self.objects if o.counts]
        folds = (CardFold(f"Dropped candidates: {len(dropped)}", dropped), CardFold("Counted", parts))
        size = (self.sent.width, self.sent.height) if self.sent else (1, 1)
        source = f"; source: {self.source.label}" if self.source else ""
        return card_html(self.image, summary, entries, size, folds, self.detector + source)
