"""Annotations and splits that were published beside images: joined by name, and stored as candidates and splits.

joined = add_annotations(store, command.id, read_source("release/anomalies.json"), {"1_fake/flux/7.png": 12})
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from anomreason.dataset.collect.recording import candidate_rows, searched_row
from anomreason.dataset.store import BATCH, Store, add_new, storable
from anomreason.dataset.tables import CandidateRow, DescriptionRow, DetectionRow, Origin, SplitRow
from anomreason.sources.annotations import ImageAnnotation, Source, key_of
from anomreason.sources.joining import Joined, join
from anomreason.sources.manifests import read_split

T = TypeVar("T")

PUBLISHED = "published"
"""The scheme of splits that came with the images."""
_NAMED = 5
"""Names that a report gives of each sort."""


@dataclass(frozen=True, slots=True)
class JoinedFile:
    """How the names in one file of annotations or splits fit the images."""

    file: str
    images: int
    """Images that it says something about."""
    new: dict[str, int]
    """What was added: `candidates` and `descriptions`, or images by split."""
    failed: int = 0
    """Images that the file has a failure for."""
    without_image: int = 0
    without_image_names: tuple[str, ...] = ()
    """The first names in the file that fit no image, or more than one."""
    without_annotation: int = 0
    without_annotation_names: tuple[str, ...] = ()
    """The first images that the file does not name."""
    twice: int = 0
    """Names of an image that an earlier name means too, e.g. of a duplicate; the first one counts."""


def add_annotations(store: Store, command: int, source: Source, names: Mapping[str, int]) -> JoinedFile:
    """Store anomalies as candidates, and descriptions. names: ids of the images by their normalised name."""
    joined = join(names, source.images)
    of_image: dict[int, ImageAnnotation] = {}
    for name, theirs in joined.of.items():
        of_image.setdefault(names[name], source.images[theirs])
    new = {"candidates": 0, "descriptions": 0}
    for part in _batches(list(of_image.items())):
        candidates = [row for image, one in part for row in _candidates(image, one, source.name, command)]
        described = [(image, one.description) for image, one in part if one.description is not None]
        by = {"author": storable(source.name), "command_id": command}
        searched = [
            searched_row(image, storable(one.detector or source.name), command, one.failure)
            for image, one in part
            if one.annotated or one.failure is not None
        ]
        with store.writing() as session:
            add_new(session, DetectionRow, searched)
            new["candidates"] += add_new(session, CandidateRow, candidates)
            rows = [{"image_id": image, "text": storable(text), **by} for image, text in described]
            new["descriptions"] += add_new(session, DescriptionRow, rows)
    failed = sum(one.failure is not None for one in of_image.values())
    return _report(str(source.path), joined, names, new, len(of_image), failed)


def _candidates(image: int, one: ImageAnnotation, author: str, command: int) -> list[dict[str, object]]:
    rated = one.rated
    origin = Origin.DETECTOR if one.detector else Origin.PUBLISHED
    shared = {"origin": origin, "detector": storable(one.detector or author), "command_id": command}
    rows = candidate_rows(image, [anomaly for anomaly, _ in rated], **shared)
    return [{**row, "score": score} for row, (_, score) in zip(rows, rated, strict=True)]


def add_splits(store: Store, command: int, path: Path, names: Mapping[str, int]) -> JoinedFile:
    """Store in which split a file puts each image. Raises UsageError for a file that is none."""
    split_of = {key_of(name): part for part, listed in reversed(read_split(path).items()) for name in reversed(listed)}
    joined = join(names, split_of)
    of_image: dict[int, str] = {}
    for name, theirs in joined.of.items():
        of_image.setdefault(names[name], split_of[theirs])
    new: dict[str, int] = {}
    for rows in _batches(list(of_image.items())):
        shared = {"scheme": PUBLISHED, "command_id": command}
        with store.writing() as session:
            for part in dict.fromkeys(split for _, split in rows):
                images = [{"image_id": image, "split": part, **shared} for image, split in rows if split == part]
                new[part] = new.get(part, 0) + add_new(session, SplitRow, images)
    return _report(str(path), joined, names, new, len(of_image))


def _report(
    file: str, joined: Joined, names: Mapping[str, int], new: dict[str, int], images: int, failed: int = 0
) -> JoinedFile:
    strangers = joined.strangers + joined.ambiguous
    meant = {names[name] for name in joined.of}
    bare = [name for name, image in names.items() if image not in meant]
    return JoinedFile(
        file=file,
        images=images,
        new=new,
        failed=failed,
        without_image=len(strangers),
        without_image_names=strangers[:_NAMED],
        without_annotation=len(bare),
        without_annotation_names=tuple(bare[:_NAMED]),
        twice=len(joined.of) - images,
    )


def _batches(rows: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(rows), BATCH):
        yield rows[start : start + BATCH]
