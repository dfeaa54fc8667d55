"""What passes between the review page and the server, bounded in every field.

    VerdictSent.model_validate({"key": "0a1b2c3d", "candidate": 7, "choice": "accept"})

A reply never holds the detector's score or another person's verdict, so that people judge for themselves.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from anomreason.anomaly import Region
from anomreason.dataset.store import storable
from anomreason.review.queue import Choice

Id = Annotated[int, Field(ge=1, le=2**63 - 1)]
Key = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{8,64}$")]
"""Made by the page, at random, for each thing it sends; sent again, it is the same thing."""
ShortText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=200), AfterValidator(storable)
]
LongText = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=4_000), AfterValidator(storable)
]
Severity = Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)]
"""0 = completely implausible, 100 = fully realistic."""
Objects = Annotated[list[ShortText], Field(max_length=20)]


class Sent(BaseModel):
    """Base of what the page sends: unknown fields are an error."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)


class EditSent(Sent):
    """Fields of a candidate that a person wrote anew; those left out stay as they are."""

    name: ShortText | None = None
    phenomenon: LongText | None = None
    reasoning: LongText | None = None
    severity: Severity | None = None
    kind: ShortText | None = None
    objects: Objects | None = None
    region: Region | None = None
    """Sent as null: there is no place to mark."""

    def fields(self) -> dict[str, Any] | None:
        """What was written anew, as JSON; None when nothing was."""
        written = self.model_dump(mode="json", exclude_none=True)
        if "region" in self.model_fields_set and self.region is None:
            written["region"] = None
        return written or None


class VerdictSent(Sent):
    """One verdict."""

    key: Key
    candidate: Id
    choice: Choice
    """`flag` asks the owner to look; the candidate still waits for a verdict."""
    seconds: Annotated[float, Field(ge=0, le=86_400)] | None = None
    reason: ShortText | None = None
    edit: EditSent | None = None
    final: bool = False
    """Settles a disagreement; for the owner alone."""


class UndoSent(Sent):
    """Take the latest verdict of the one who asks back."""

    key: Key


class ImageDecisionSent(Sent):
    """Keep or drop a whole image."""

    key: Key
    keep: bool
    reason: ShortText | None = None


class AnnotationSent(Sent):
    """An anomaly that a person found."""

    key: Key
    image: Id
    name: ShortText
    phenomenon: LongText
    reasoning: LongText
    severity: Severity
    kind: ShortText | None = None
    objects: Objects = []
    region: Region | None = None


class AnnotationTakenBack(Sent):
    """Take an anomaly that a person found back."""

    key: Key
    annotation: Key
    """The key that it was sent with."""


class AnnotatedSent(Sent):
    """A person has written down all anomalies of an image, maybe none."""

    key: Key
    image: Id


class ItemImage(BaseModel):
    """An image as the page shows it."""

    image: int
    width: int
    height: int
    """Pixels of the oriented original."""
    src: str
    """Where the page gets it; may be kept for ever."""
    source: str
    prompt: str | None


class Item(ItemImage):
    """One candidate as a person sees it."""

    candidate: int
    name: str
    phenomenon: str
    reasoning: str
    severity: float | None
    """0 = completely implausible, 100 = fully realistic."""
    kind: str | None
    objects: list[str]
    region: Region | None
    crop: str | None
    """Where the page gets the enlarged region; None without a region."""


class PageProgress(BaseModel):
    """How far the round is. The share of correct candidates is for the owner alone, so that it steers nobody."""

    verdicts: int
    wanted: int
    """Verdicts until every item is judged as often as it should be."""
    mine: int
    mine_today: int
    """Since midnight, UTC."""
    share: float | None = None
    low: float | None = None
    high: float | None = None


class NextItems(BaseModel):
    """Items to judge."""

    items: list[Item]
    progress: PageProgress
    state: Literal["working", "finished", "empty"]
    """`finished`: the round is; `empty`: nothing waits for this person, but others are not done."""


class Taken(BaseModel):
    """The server has what was sent."""

    new: bool
    """False when it came before."""
    progress: PageProgress


class UndoneChoice(BaseModel):
    """The verdict that an undo took back."""

    candidate: int
    choice: str


class Undoing(BaseModel):
    """What an undo did."""

    undone: UndoneChoice | None
    item: Item | None
    progress: PageProgress


class KeptAnnotation(BaseModel):
    """The server has a person's annotation."""

    candidate: int
    new: bool


class Items(BaseModel):
    """Several candidates."""

    items: list[Item]


class ItemImages(BaseModel):
    """Several images."""

    images: list[ItemImage]


class Me(BaseModel):
    """Who uses the page, and for what."""

    person: str
    owner: bool
    round: str
    begun: datetime
    """When the round was begun. With the name it tells it from rounds of other datasets, so that a page sends what
    waits in the browser to the right one."""
    kinds: list[str]
    """Of the round's candidates, to choose from."""
    keys: dict[str, list[str]]
    """Keys of the keyboard for each action."""


class Opinion(BaseModel):
    """One person's verdict, shown when a disagreement is opened."""

    person: str
    choice: str
    reason: str | None
    edit: dict[str, Any] | None
    seconds: float | None


class Opinions(BaseModel):
    """All verdicts on one candidate that count."""

    opinions: list[Opinion]
