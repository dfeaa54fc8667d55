"""The tables of the store: what a dataset in work is made of.

Every row names the command it came from. Nothing is deleted: what is dropped keeps its row and its reason.

    >>> sorted(Base.metadata.tables)[:3]
    ['candidates', 'commands', 'decisions']
"""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar

from sqlalchemy import (
    JSON,
    BigInteger,
    DateTime,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    UniqueConstraint,
    text,
)
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlalchemy.types import TypeDecorator

Json = dict[str, Any]


class UtcTime(TypeDecorator[datetime]):
    """A moment, always with its time zone; SQLite forgets the zone, so that UTC is what it holds."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: object) -> datetime | None:
        return value and value.astimezone(UTC)

    def process_result_value(self, value: datetime | None, dialect: object) -> datetime | None:
        return value and value.replace(tzinfo=value.tzinfo or UTC)


class Base(DeclarativeBase):
    """What all tables share: names of constraints that later migrations can rely on, and portable types."""

    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        int: BigInteger().with_variant(Integer, "sqlite"),  # SQLite numbers rows by INTEGER PRIMARY KEY alone
        datetime: UtcTime,
        Json: JSON(none_as_null=True),
        list[Any]: JSON(none_as_null=True),
    }


class ImageState(StrEnum):
    """Whether an image is in the dataset."""

    KEPT = "kept"
    DROPPED = "dropped"


class FileState(StrEnum):
    """What became of a file that `collect` met."""

    COLLECTED = "collected"
    """Its image, or all that it lists, is in the store."""
    DUPLICATE = "duplicate"
    """Byte for byte an image that another file brought."""
    UNREADABLE = "unreadable"
    """It could not be read as an image; the reason says why."""


class Outcome(StrEnum):
    """What people say of a candidate."""

    UNVERIFIED = "unverified"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNSURE = "unsure"
    DISPUTED = "disputed"


class Origin(StrEnum):
    """Who proposed a candidate."""

    DETECTOR = "detector"
    """A detector: nobody has verified it."""
    PUBLISHED = "published"
    """A published dataset, as its verified annotations."""
    SCENE = "scene"
    """A scene, whose truth is known."""
    PERSON = "person"
    """A person who annotated freely."""


COMPLETE = (Origin.PUBLISHED, Origin.SCENE)
"""Origins that name all anomalies of an image; a person who annotates freely need not."""


class CommandRow(Base):
    """One command that wrote to the store."""

    __tablename__ = "commands"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    """E.g. `collect`."""
    settings: Mapped[Json]
    version: Mapped[str]
    git_commit: Mapped[str | None]
    dirty: Mapped[bool | None]
    begun: Mapped[datetime]
    ended: Mapped[datetime | None]
    """None: it is still running, or was stopped before its end."""
    report: Mapped[Json | None]
    """What it did, in numbers."""


class SourceRow(Base):
    """Where images come from."""

    __tablename__ = "sources"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    kind: Mapped[str]
    """`ai`, `photograph` or `unknown`."""
    generator: Mapped[str | None]
    licence: Mapped[str | None]
    terms: Mapped[str | None]
    """A sentence or an address: what may be done with the images."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))


class PromptRow(Base):
    """One text that images are generated from."""

    __tablename__ = "prompts"
    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    """Of the text in UTF-8, hex."""
    text: Mapped[str]
    group: Mapped[str | None] = mapped_column(index=True)
    """Prompts of one group never straddle a split; None: a group of its own."""
    source_id: Mapped[int | None] = mapped_column(ForeignKey("sources.id"))
    tags: Mapped[list[Any] | None]
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))


class ImageRow(Base):
    """One image, known by its bytes."""

    __tablename__ = "images"
    id: Mapped[int] = mapped_column(primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), unique=True)
    """Of the file's bytes, hex."""
    path: Mapped[str]
    """Where it lies: relative to the dataset's folder when inside, absolute otherwise; may lead into an archive."""
    name: Mapped[str] = mapped_column(index=True)
    """As its source calls it, with forward slashes; annotations and exports use it. Not unique over sources."""
    source_id: Mapped[int] = mapped_column(ForeignKey("sources.id"))
    prompt_id: Mapped[int | None] = mapped_column(ForeignKey("prompts.id"), index=True)
    group: Mapped[str | None] = mapped_column(index=True)
    """Images of one group (a scene and its twins) never straddle a split; None: prompt and cluster alone decide."""
    cluster: Mapped[str | None] = mapped_column(index=True)
    """Near-duplicates share one; the sha256 of one of them. None: no near-duplicate is known."""
    seed: Mapped[int | None]
    settings: Mapped[Json | None]
    """How it was generated; None when not known."""
    width: Mapped[int]
    height: Mapped[int]
    """Pixels of the oriented image."""
    format: Mapped[str]
    """As Pillow names it, e.g. `JPEG`."""
    bytes: Mapped[int]
    phash: Mapped[int | None]
    """Perceptual hash, 64 bits as a signed number."""
    facts: Mapped[Json]
    """What could give the source away: JPEG quality, chroma subsampling, kinds of metadata, colour mode."""
    status: Mapped[str] = mapped_column(default=ImageState.KEPT)
    reason: Mapped[str | None]
    """Why it is dropped: the reason of its first decision against it."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (
        Index(None, "status", "reason"),
        Index(None, "source_id", "status"),
    )


class FileRow(Base):
    """One file that `collect` met, and what became of it."""

    __tablename__ = "files"
    id: Mapped[int] = mapped_column(primary_key=True)
    path: Mapped[str] = mapped_column(unique=True)
    """As `ImageRow.path`; a row of a Parquet file or a record of a shard is `FILE/NUMBER`."""
    size: Mapped[int | None]
    mtime: Mapped[int | None]
    """Bytes and nanoseconds since 1970 of the file on disk; with them a later `collect` passes over the same file."""
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"), index=True)
    source_id: Mapped[int | None] = mapped_column(ForeignKey("sources.id"))
    """None for lists of prompts, and their rows."""
    status: Mapped[str]
    reason: Mapped[str | None]
    """A word to list by, e.g. `exact_duplicate`, `damaged`, `other_prompt`; `list` for a list of prompts."""
    message: Mapped[str | None]
    """The same for a person."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (Index(None, "status", "reason"),)


class DecisionRow(Base):
    """What one filter decided about one image; the last decision of a filter counts."""

    __tablename__ = "decisions"
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    filter: Mapped[str] = mapped_column(primary_key=True)
    """Name of the rule, e.g. `blurry`."""
    score: Mapped[float | None]
    keep: Mapped[bool]
    reason: Mapped[str | None]
    """Why it drops the image, as a word to list by; or why the rule failed, which keeps it; None otherwise."""
    message: Mapped[str | None]
    restored: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether somebody brought the image back: then this decision does not drop it."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (Index(None, "filter", "keep", "reason"),)


class MeasureRow(Base):
    """What was measured on one image: other thresholds decide anew from it, without opening the image again."""

    __tablename__ = "measures"
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    """`pixels 1`, or the function that measured, with a hash of its code."""
    record: Mapped[Json]
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (Index(None, "name"),)


class GenerationRow(Base):
    """One image asked of one generator."""

    __tablename__ = "generations"
    id: Mapped[int] = mapped_column(primary_key=True)
    prompt_id: Mapped[int] = mapped_column(ForeignKey("prompts.id"))
    generator: Mapped[str]
    seed: Mapped[int]
    status: Mapped[str]
    """`done`, `refused`, `blank` or `failed`; `asked`: sent to a server that charges, and not answered so far."""
    message: Mapped[str | None]
    image_id: Mapped[int | None] = mapped_column(ForeignKey("images.id"))
    seconds: Mapped[float | None]
    cost: Mapped[float | None]
    """US dollars that were charged for it at most, over all commands; None where the price is not known."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (
        UniqueConstraint("generator", "prompt_id", "seed"),
        Index(None, "generator", "status"),
    )


AGAIN = "retry"
"""Status of a failed detection that `dataset retry` marked."""


class DetectionRow(Base):
    """All that one detector said of one image: how it ended; its anomalies are candidates."""

    __tablename__ = "detections"
    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    detector: Mapped[str]
    status: Mapped[str]
    """`ok`, `failed` or AGAIN."""
    reason: Mapped[str | None]
    """Kind of the failure."""
    message: Mapped[str | None]
    record: Mapped[Json]
    """The detection as `results.jsonl` has it, less its anomalies and candidates."""
    calls: Mapped[int]
    tokens: Mapped[int]
    cost: Mapped[float | None]
    """US dollars; None when the price is not known."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (
        UniqueConstraint("image_id", "detector"),
        Index(None, "detector", "status", "reason"),
    )


OUT_OF_DOMAIN = DetectionRow.record["out_of_domain"].as_boolean().is_(True)
"""Whether the detector said that it does not know such images: no anomalies then does not mean that there are none."""


class DescriptionRow(Base):
    """What is to be seen in an image, no anomaly: what deepfake data say of photographs."""

    __tablename__ = "descriptions"
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    author: Mapped[str] = mapped_column(primary_key=True)
    """A model, or the published dataset."""
    text: Mapped[str | None]
    """None: it failed."""
    message: Mapped[str | None]
    """Why it failed."""
    record: Mapped[Json | None]
    """Tokens and cost, where a model wrote it."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))


class CandidateRow(Base):
    """One anomaly that was proposed for one image."""

    __tablename__ = "candidates"
    id: Mapped[int] = mapped_column(primary_key=True)
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"))
    detection_id: Mapped[int | None] = mapped_column(ForeignKey("detections.id"), index=True)
    number: Mapped[int]
    """Its place among those of the same image and detector, from 0."""
    name: Mapped[str]
    phenomenon: Mapped[str]
    reasoning: Mapped[str]
    severity: Mapped[float | None]
    """0 = completely implausible, 100 = fully realistic; None for one that the detector itself dropped."""
    kind: Mapped[str | None]
    objects: Mapped[list[Any] | None]
    region: Mapped[Json | None]
    """A `Region`, in fractions of the oriented image."""
    origin: Mapped[str]
    detector: Mapped[str]
    """The detector, the published dataset or the person that proposed it."""
    role: Mapped[str | None]
    step: Mapped[str | None]
    score: Mapped[float | None]
    """How sure the detector's last look was, 0..100."""
    dropped: Mapped[str | None]
    """Why the detector itself dropped it on the way; None: it is one of the detection's anomalies."""
    outcome: Mapped[str] = mapped_column(default=Outcome.UNVERIFIED)
    """What the verdicts together say; kept up to date with every verdict."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (
        UniqueConstraint("image_id", "detector", "number"),
        Index(None, "outcome", "detector"),
        # Holds all that `stats` counts, which is several times faster than a pass over the texts.
        Index(
            None,
            *("origin", "detector", "role", "kind", "outcome", "severity"),
            sqlite_where=text("dropped IS NULL"),
            postgresql_where=text("dropped IS NULL"),
        ),
    )


class VerdictRow(Base):
    """What one person said of one candidate. Append only: the last one of a person that was not undone counts."""

    __tablename__ = "verdicts"
    id: Mapped[int] = mapped_column(primary_key=True)
    key: Mapped[str] = mapped_column(unique=True)
    """Made by whoever sends it, so that one that is sent twice counts once."""
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"), index=True)
    person: Mapped[str]
    at: Mapped[datetime]
    seconds: Mapped[float | None]
    choice: Mapped[str]
    """`accept`, `reject` or `unsure`; `undo` takes an earlier verdict back, `flag` asks the owner to look."""
    undoes: Mapped[int | None] = mapped_column(index=True)
    """With `undo`: id of the verdict that is taken back."""
    final: Mapped[bool] = mapped_column(default=False, server_default=text("false"))
    """Whether it settles a disagreement: then it counts alone."""
    edit: Mapped[Json | None]
    """Fields that the person wrote anew; the original stays in the candidate."""
    reason: Mapped[str | None]
    round: Mapped[int] = mapped_column(default=0, server_default=text("0"))
    """Id of the review round; 0: it came from elsewhere."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (Index(None, "round", "person", "id"),)


class SplitRow(Base):
    """In which split an image is."""

    __tablename__ = "splits"
    scheme: Mapped[str] = mapped_column(primary_key=True)
    """`default`, or another division of the same images, e.g. `published`."""
    image_id: Mapped[int] = mapped_column(ForeignKey("images.id"), primary_key=True)
    split: Mapped[str]
    """E.g. `train`."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))

    __table_args__ = (Index(None, "scheme", "split"),)


class PersonRow(Base):
    """Somebody who gives verdicts."""

    __tablename__ = "people"
    name: Mapped[str] = mapped_column(primary_key=True)
    token_sha256: Mapped[str] = mapped_column(String(64), unique=True)
    """Of the secret in the person's link, hex; the secret itself is never stored."""
    owner: Mapped[bool]
    """Whether the person may see the progress of all, settle disagreements and export."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))


class RoundRow(Base):
    """One pass of review over chosen candidates, in an order fixed when it begins."""

    __tablename__ = "rounds"
    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(unique=True)
    settings: Mapped[Json]
    """How candidates were chosen and ordered; see `review.rounds.RoundOptions`."""
    size: Mapped[int]
    """Items, gold ones left out."""
    passes: Mapped[int]
    """Verdicts until each of these is judged as often as it should be."""
    command_id: Mapped[int] = mapped_column(ForeignKey("commands.id"))


class ItemRow(Base):
    """One candidate in one round."""

    __tablename__ = "items"
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    candidate_id: Mapped[int] = mapped_column(ForeignKey("candidates.id"), primary_key=True)
    position: Mapped[int]
    """Its place in the order in which people get the items, from 0."""
    rank: Mapped[int]
    """Its place by worth alone, from 0."""
    random: Mapped[bool]
    """Whether it was drawn at random; else it has its position for its worth."""
    gold: Mapped[str | None]
    """The right choice where it is known and people are tested by it."""
    passes: Mapped[int]
    """How many people are to judge it, 1 or 2."""
    needed: Mapped[int]
    """How many of them have not yet."""
    done: Mapped[bool]
    """Whether nobody is needed any more."""
    first_person: Mapped[str] = mapped_column(default="", server_default="")
    """Who judged it while another one is still needed; that other one must be somebody else."""

    __table_args__ = (Index(None, "round_id", "done", "first_person", "position"),)


class LeaseRow(Base):
    """Who has an item open, so that nobody else gets it."""

    __tablename__ = "leases"
    round_id: Mapped[int] = mapped_column(primary_key=True)
    candidate_id: Mapped[int] = mapped_column(primary_key=True)
    person: Mapped[str]
    until: Mapped[datetime]

    __table_args__ = (Index(None, "round_id", "person"),)


class TallyRow(Base):
    """How often one person made one choice about one sort of candidates: kept with each verdict."""

    __tablename__ = "tallies"
    round_id: Mapped[int] = mapped_column(ForeignKey("rounds.id"), primary_key=True)
    person: Mapped[str] = mapped_column(primary_key=True)
    source: Mapped[str] = mapped_column(primary_key=True)
    detector: Mapped[str] = mapped_column(primary_key=True)
    role: Mapped[str] = mapped_column(primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    gold: Mapped[str] = mapped_column(primary_key=True)
    """The right choice of gold items; empty for all others."""
    choice: Mapped[str] = mapped_column(primary_key=True)
    count: Mapped[int]
    seconds: Mapped[float]
    """Together."""
