"""`dataset compare`: people's own annotations against a detector's, as in the paper's appendix F.

    with open_store(Path("data")) as store:
        found = compare(store, CompareOptions(people=("ada", "ben"), detector="gpt-4o lean"))
    found.record.difference

Only images count that a person finished on the page *Annotate*, maybe without any anomaly, and that the detector
answered. A failed image is no empty list: it is left out and counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from anomreason.dataset.compare.matching import SETTINGS, ListPair, PairScores, agreement, score_pairs
from anomreason.dataset.compare.records import (
    ComparedTexts,
    DatasetComparison,
    KindCount,
    PaperFigures,
    PersonImages,
    SideAgreement,
    SideCount,
)
from anomreason.dataset.compare.sides import Side, read_detector, read_people
from anomreason.dataset.store import Store
from anomreason.errors import UsageError
from anomreason.evaluation.records import EncodedTexts
from anomreason.metrics.bertscore import Backbone, BackboneSpec
from anomreason.runs import provenance
from anomreason.stats import Estimate, Floats, divided, estimate

POOLED = "people"
"""Name of all people together."""
NO_KIND = "no kind"


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """What is compared with what."""

    people: tuple[str, ...] = ()
    """Who annotated; empty: all who finished an image."""
    detector: str | None = None
    """Name in the store, run folder or file of annotations; None: the store's only one."""
    backbone: BackboneSpec | None = None
    """Compares texts; None: only numbers and kinds."""
    seed: int = 0


@dataclass(frozen=True, slots=True)
class DatasetComparing:
    """A comparison, and what its page shows."""

    record: DatasetComparison
    people: tuple[Side, ...]
    detector: Side
    images: tuple[int, ...]
    """Ids of the compared images."""
    partners: Mapping[tuple[str, int], PairScores]
    """By person and image: the detector's list against the person's; empty without a backbone."""


def compare(
    store: Store, options: CompareOptions, progress: Callable[[int, int], None] = lambda *_: None
) -> DatasetComparing:
    """Compare people with a detector. Raises UsageError when they have no image in common."""
    with store.reading() as session:
        people = read_people(session, options.people)
        detector = read_detector(store, session, options.detector)
    finished = {image for person in people for image in person.lists}
    images = tuple(sorted(finished & detector.lists.keys()))
    failed = Counter(detector.failed[image] for image in finished & detector.failed.keys())
    missing = len(finished - detector.lists.keys() - detector.failed.keys())
    if not images:
        raise UsageError(
            f"{detector.name!r} answered none of the {len(finished):,} images that people finished ({failed.total():,} "
            f"failed, {missing:,} it was never given); annotate them with both"
        )
    rng = np.random.default_rng(options.seed)
    table = _Counts(people, detector, images)
    scores, texts = dict[tuple[str, str], list[PairScores]](), None
    if options.backbone is not None:
        backbone = options.backbone.open()
        scores = _scores(people, detector, images, backbone, progress)
        texts = _compared(backbone)
    record = DatasetComparison(
        dataset=store.folder.resolve().name,
        detector=detector.name,
        simulated=detector.simulated,
        images=len(images),
        failed=dict(failed.most_common()),
        missing=missing,
        people=tuple(_person(person, images) for person in people),
        pooled=table.side(POOLED, people, rng),
        sides=(table.side(detector.name, [detector], rng), *(table.side(one.name, [one], rng) for one in people)),
        difference=table.difference(lambda _: True, rng),
        kinds=table.kinds(rng),
        agreement=tuple(_agreement(scores, people, detector, rng)),
        compared=texts,
        paper=PaperFigures(),
        seed=options.seed,
        code=provenance(),
    )
    partners = {
        (person.name, one.image): one for person in people for one in scores.get((detector.name, person.name), ())
    }
    return DatasetComparing(record, tuple(people), detector, images, partners)


def _person(person: Side, images: Sequence[int]) -> PersonImages:
    shared = len(person.lists.keys() & set(images))
    return PersonImages(
        person=person.name,
        finished=len(person.lists),
        shared=shared,
        begun=person.begun,
        unreadable=person.unreadable,
    )


class _Counts:
    """Numbers of anomalies by image, people pooled: an image with two annotators weighs as both their lists."""

    def __init__(self, people: Sequence[Side], detector: Side, images: Sequence[int]) -> None:
        self._people, self._detector, self._images = people, detector, images

    def side(self, name: str, sides: Sequence[Side], rng: np.random.Generator) -> SideCount:
        images = [image for image in self._images if any(image in side.lists for side in sides)]
        lists = [[side.lists[image] for side in sides if image in side.lists] for image in images]
        return SideCount(
            name=name,
            images=len(images),
            annotations=sum(map(len, lists)),
            anomalies=sum(len(one) for of_image in lists for one in of_image),
            empty=sum(not one for of_image in lists for one in of_image),
            per_list=estimate([[sum(map(len, each)), len(each)] for each in lists], _first, rng),
        )

    def _columns(self, counts: Callable[[str], bool]) -> list[list[float]]:
        """People's anomalies and lists, the detector's anomalies, 1; an image each. counts: whether a kind does."""
        rows = []
        for image in self._images:
            lists = [side.lists[image] for side in self._people if image in side.lists]
            mine = sum(counts(one.kind or NO_KIND) for each in lists for one in each)
            theirs = sum(counts(one.kind or NO_KIND) for one in self._detector.lists[image])
            rows.append([float(mine), float(len(lists)), float(theirs), 1.0])
        return rows

    def difference(self, counts: Callable[[str], bool], rng: np.random.Generator) -> Estimate:
        return estimate(self._columns(counts), _difference, rng)

    def kinds(self, rng: np.random.Generator) -> tuple[KindCount, ...]:
        sides = [*self._people, self._detector]
        lists = (side.lists[image] for side in sides for image in self._images if image in side.lists)
        names = Counter(one.kind or NO_KIND for each in lists for one in each)
        return tuple(self._kind(name, rng) for name, _ in sorted(names.items(), key=lambda item: (-item[1], item[0])))

    def _kind(self, name: str, rng: np.random.Generator) -> KindCount:
        columns = self._columns(lambda kind: kind == name)
        difference = estimate(columns, _difference, rng)
        ends = difference.interval
        return KindCount(
            kind=name,
            people=int(sum(row[0] for row in columns)),
            detector=int(sum(row[2] for row in columns)),
            people_per_image=estimate(columns, _first, rng),
            detector_per_image=estimate(columns, _second, rng),
            difference=difference,
            missed_by=None if ends is None else "people" if ends.low > 0 else "detector" if ends.high < 0 else None,
        )


def _first(sums: Floats) -> Floats:
    return divided(sums[..., 0], sums[..., 1])


def _second(sums: Floats) -> Floats:
    return divided(sums[..., 2], sums[..., 3])


def _difference(sums: Floats) -> Floats:
    both: Floats = _second(sums) - _first(sums)
    return both


def _scores(
    people: Sequence[Side],
    detector: Side,
    images: Sequence[int],
    backbone: Backbone,
    progress: Callable[[int, int], None],
) -> dict[tuple[str, str], list[PairScores]]:
    """By both names: the detector with each person, and people with each other."""
    both = {
        (one.name, other.name): [
            ListPair(image, one.lists[image], other.lists[image])
            for image in images
            if image in one.lists and image in other.lists
        ]
        for one, other in (*((detector, person) for person in people), *combinations(people, 2))
    }
    total, done = sum(map(len, both.values())), 0
    progress(done, total)

    def step(more: int) -> None:
        nonlocal done
        done += more
        progress(done, total)

    return {names: score_pairs(pairs, backbone, step) for names, pairs in both.items()}


def _agreement(
    scores: Mapping[tuple[str, str], Sequence[PairScores]],
    people: Sequence[Side],
    detector: Side,
    rng: np.random.Generator,
) -> list[SideAgreement]:
    if not scores:
        return []
    pooled = [one for person in people for one in scores[detector.name, person.name]]
    found = [agreement(detector.name, POOLED, pooled, rng)] if len(people) > 1 else []
    return found + [agreement(*names, those, rng) for names, those in scores.items() if those]


def _compared(backbone: Backbone) -> ComparedTexts:
    counts = backbone.counts
    return ComparedTexts(
        backbone=dict(backbone.signature),
        thresholds=SETTINGS.thresholds,
        texts=EncodedTexts(
            encoded=counts.texts,
            truncated=counts.truncated,
            blank=counts.blank,
            unknown=counts.unknown,
            limit=backbone.limit,
        ),
    )
