"""The side-by-side page of a comparison: each image with people's anomalies at its left, the detector's at its right.

    write_atomically(Path("out/compare.html"), compare_page(store, compare(store, options), shown=40))

One file that loads nothing else. Names, kinds and texts come from people and models; all are escaped.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from sqlalchemy import select

from anomreason.anomaly import Anomaly
from anomreason.dataset.compare import DatasetComparing
from anomreason.dataset.compare.matching import SETTINGS
from anomreason.dataset.compare.sides import Side
from anomreason.dataset.store import BATCH, Store
from anomreason.dataset.tables import ImageRow
from anomreason.errors import UnreadableImage
from anomreason.images import thumbnail
from anomreason.report.html import templates
from anomreason.report.marks import BoxMark, BoxMarks, mark

SHOWN = 40
"""Images of a page."""
TONES = 6
"""Colours of matches; they come again after these."""
_SIDE = 640
"""Pixels of an image's longer edge."""


@dataclass(frozen=True, slots=True)
class Partner:
    """The other half of a match."""

    label: str
    similarity: float
    """Of the view `full`, 0..1."""


@dataclass(frozen=True, slots=True)
class ComparedAnomaly:
    """One anomaly in its column."""

    label: str
    """`1`, `2` ... of the detector, `a1`, `a2` ... of the first person, `b1` ... of the second."""
    anomaly: Anomaly
    tone: int | None
    """Colour that it shares with its partners; None for one that only its side has."""
    partners: tuple[Partner, ...]


@dataclass(frozen=True, slots=True)
class PersonList:
    """What one person wrote of one image."""

    name: str
    anomalies: tuple[ComparedAnomaly, ...]


@dataclass(frozen=True, slots=True)
class ComparedImage:
    """One image of the page."""

    name: str
    source: str | None
    """A data address; None where the file cannot be opened."""
    people: tuple[PersonList, ...]
    detector: tuple[ComparedAnomaly, ...]
    marks: BoxMarks
    """Of all anomalies with a region: people's as their lists follow each other, then the detector's."""

    def marked(self, mark: BoxMark) -> ComparedAnomaly:
        """The anomaly of a mark."""
        return _all(self.people, self.detector)[mark.number - 1]


def compare_page(store: Store, found: DatasetComparing, shown: int = SHOWN) -> str:
    """The page; of more images than `shown`, so many drawn at random."""
    chosen = np.random.default_rng(found.record.seed).permutation(np.array(found.images, np.int64))[:shown].tolist()
    images = sorted((_image(row, store, found) for row in _rows(store, chosen)), key=lambda image: image.name)
    return (
        templates()
        .get_template("compare.html")
        .render(found=found.record, images=images, threshold=SETTINGS.thresholds[0], tones=TONES)
    )


def _rows(store: Store, ids: Sequence[int]) -> list[ImageRow]:
    rows: list[ImageRow] = []
    with store.reading() as session:
        for start in range(0, len(ids), BATCH):
            rows += session.scalars(select(ImageRow).where(ImageRow.id.in_(ids[start : start + BATCH])))
    return rows


def _image(row: ImageRow, store: Store, found: DatasetComparing) -> ComparedImage:
    people = [person for person in found.people if row.id in person.lists]
    letters = {person.name: _letter(place) for place, person in enumerate(found.people)}
    matches = {
        person.name: found.partners[person.name, row.id].partners
        for person in people
        if (person.name, row.id) in found.partners
    }
    of_detector: dict[int, list[Partner]] = {}
    for name, pairs in matches.items():
        for one, other, similarity in pairs:
            of_detector.setdefault(one, []).append(Partner(f"{letters[name]}{other + 1}", similarity))
    lists = tuple(_person(person, row.id, letters[person.name], matches.get(person.name, ())) for person in people)
    detector = tuple(
        ComparedAnomaly(
            label=str(place + 1),
            anomaly=anomaly,
            tone=place % TONES if place in of_detector else None,
            partners=tuple(of_detector.get(place, ())),
        )
        for place, anomaly in enumerate(found.detector.lists[row.id])
    )
    marks = mark([one.anomaly for one in _all(lists, detector)], (row.width, row.height))
    return ComparedImage(row.name, _source(store, row), lists, detector, marks)


def _all(people: Sequence[PersonList], detector: Sequence[ComparedAnomaly]) -> list[ComparedAnomaly]:
    return [*(one for person in people for one in person.anomalies), *detector]


def _person(person: Side, image: int, letter: str, pairs: Sequence[tuple[int, int, float]]) -> PersonList:
    partner: Mapping[int, tuple[int, float]] = {other: (one, similarity) for one, other, similarity in pairs}
    anomalies = []
    for place, anomaly in enumerate(person.lists[image]):
        one = partner.get(place)
        partners = () if one is None else (Partner(str(one[0] + 1), one[1]),)
        tone = None if one is None else one[0] % TONES
        anomalies.append(ComparedAnomaly(f"{letter}{place + 1}", anomaly, tone, partners))
    return PersonList(person.name, tuple(anomalies))


def _letter(place: int) -> str:
    """a, b ... z, aa, ab ..."""
    before, last = divmod(place, 26)
    return (_letter(before - 1) if before else "") + chr(ord("a") + last)


def _source(store: Store, row: ImageRow) -> str | None:
    try:
        data = thumbnail(store.path(row.path), _SIDE)
    except (UnreadableImage, OSError):
        return None
    return "data:image/jpeg;base64," + base64.b64encode(data).decode("ascii")
