"""Known images, predictions for them, and which predicted anomaly finds which planted one.

A predicted anomaly finds a planted one when it names one of its objects and either describes its kind (see `kinds`) or
has a region that overlaps enough; one to one. The objects that count are those in its name and its `objects`; the
phenomenon counts only where these name nothing in the image. Try it:

    cup = KnownImage("a.png", (planted,), (KnownObject("cup", ("mug",)),))
    Matcher([cup]).pairs(cup, [predicted])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from anomreason.anomaly import Anomaly, Kind
from anomreason.errors import UsageError
from anomreason.metrics.kinds import kind_of
from anomreason.metrics.mentions import Names, key

OVERLAP = 0.5
"""From this IoU on, a region tells the anomaly as its kind would."""
MOST = 12
"""Planted anomalies of one image; the best matching is looked for among all subsets of them."""


@dataclass(frozen=True, slots=True)
class KnownObject:
    """One object of an image."""

    name: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownImage:
    """An image of which all is known."""

    image: str
    anomalies: tuple[Anomaly, ...] = ()
    """Those planted: each has a kind of KINDS, severity by the rubric, and objects, of which one must be named."""
    objects: tuple[KnownObject, ...] = ()
    twin_of: str = ""
    """The scene that this is the twin of; empty for a scene."""
    mended: int = -1
    """Which of the scene's anomalies this twin lacks."""


@dataclass(frozen=True, slots=True)
class ImagePrediction:
    """The result of a detector for one image."""

    anomalies: tuple[Anomaly, ...] = ()
    failure: str | None = None
    """Kind; then there are no anomalies."""


class PlantedMatch(NamedTuple):
    """A planted anomaly and the predicted one that found it, by their places in the image."""

    planted: int
    predicted: int
    kind_agrees: bool
    iou: float | None
    """None where one of the two has no region."""


def check(known: Sequence[KnownImage]) -> None:
    """Raise UsageError for images that cannot be scored as they stand."""
    by_name = {one.image: one for one in known}
    if len(by_name) < len(known):
        twice = next(name for name, times in Counter(one.image for one in known).items() if times > 1)
        raise UsageError(f"duplicate image {twice!r} among the known images: remove one of the two")
    if not any(not one.twin_of for one in known):
        raise UsageError("there is no scene to score among the known images; twins alone are not enough")
    for one in known:
        if len(one.anomalies) > MOST:
            raise UsageError(f"image {one.image!r} has {len(one.anomalies)} planted anomalies, more than {MOST}")
        if one.twin_of:
            scene = by_name.get(one.twin_of)
            if scene is None or scene.twin_of:
                raise UsageError(f"image {one.image!r} is the twin of {one.twin_of!r}, which is no scene here")
            if not 0 <= one.mended < len(scene.anomalies):
                raise UsageError(
                    f"image {one.image!r} lacks anomaly {one.mended} of {one.twin_of!r}, which has "
                    f"{len(scene.anomalies)} (counted from 0)"
                )


class Matcher:
    """Matches predicted anomalies to planted ones; knows every object name that occurs in the images."""

    def __init__(self, known: Sequence[KnownImage]) -> None:
        every = {name for one in known for o in one.objects for name in (o.name, *o.synonyms)}
        self._names = Names(sorted(every | {name for one in known for a in one.anomalies for name in a.objects}))
        self._kinds: dict[tuple[str, str, str], Kind | None] = {}

    def kind(self, anomaly: Anomaly) -> Kind | None:
        """As `kind_of`; where that is undecided, once more without the names of objects, which are no evidence."""
        texts = (anomaly.name, anomaly.phenomenon, anomaly.reasoning)
        if texts not in self._kinds:
            self._kinds[texts] = kind_of(*texts) or kind_of(*map(self._names.masked, texts))
        return self._kinds[texts]

    def pairs(self, image: KnownImage, predicted: Sequence[Anomaly]) -> list[PlantedMatch]:
        """One to one, as many as possible; of equally many those whose kinds agree and regions overlap best."""
        order = sorted(range(len(predicted)), key=lambda n: _rank_predicted(predicted[n]))
        truths = sorted(range(len(image.anomalies)), key=lambda n: _rank_planted(image.anomalies[n]))
        fits = self._fits(image, [predicted[n] for n in order], [image.anomalies[n] for n in truths])
        found = best_matching({edge: pair.kind_agrees + (pair.iou or 0.0) for edge, pair in fits.items()})
        return sorted(fits[edge]._replace(planted=truths[edge[1]], predicted=order[edge[0]]) for edge in found)

    def reports(self, image: KnownImage, predicted: Sequence[Anomaly], missing: Anomaly) -> bool:
        """Whether a prediction finds an anomaly that the image lacks, and is not needed for one that it has."""
        more = KnownImage(image.image, (*image.anomalies, missing), image.objects)
        return len(self.pairs(more, predicted)) > len(self.pairs(image, predicted))

    def _fits(
        self, image: KnownImage, predicted: Sequence[Anomaly], planted: Sequence[Anomaly]
    ) -> dict[tuple[int, int], PlantedMatch]:
        """By place of predicted and planted anomaly: every pair that may be made."""
        called = _called(image)
        present = frozenset().union(*called.values(), {key(name) for a in planted for name in a.objects})
        fits = {}
        for p, prediction in enumerate(predicted):
            named = self._named(prediction, present)
            for t, truth in enumerate(planted):
                names = frozenset().union(*(called.get(key(name), {key(name)}) for name in truth.objects))
                if not named & names:
                    continue
                iou = round(prediction.region.iou(truth.region), 9) if prediction.region and truth.region else None
                agrees = self.kind(prediction) == truth.kind
                if agrees or (iou or 0.0) >= OVERLAP:
                    fits[p, t] = PlantedMatch(t, p, agrees, iou)
        return fits

    def _named(self, anomaly: Anomaly, present: frozenset[str]) -> frozenset[str]:
        texts = (anomaly.name, *anomaly.objects)
        named = frozenset().union(*(self._names.mentioned(text) for text in texts)) & present
        return named or self._names.mentioned(anomaly.phenomenon) & present


def best_matching(worth: Mapping[tuple[int, int], float]) -> list[tuple[int, int]]:
    """Most (left, right) pairs that share no side; of equally many those of most worth, then the first.

    worth: by pair that may be made, 0 or more. Time grows with 2 to the number of right sides (see MOST).
    """
    rights = sorted({right for _, right in worth})
    bit = {right: 1 << n for n, right in enumerate(rights)}
    best: dict[int, tuple[int, float, tuple[tuple[int, int], ...]]] = {0: (0, 0.0, ())}
    for left in sorted({left for left, _ in worth}):
        for taken, (count, total, pairs) in list(best.items()):
            for right in rights:
                if (left, right) not in worth or taken & bit[right]:
                    continue
                state = (count + 1, total + worth[left, right], (*pairs, (left, right)))
                old = best.get(taken | bit[right])
                if old is None or state[:2] > old[:2]:
                    best[taken | bit[right]] = state
    return list(max(best.values(), key=lambda state: state[:2])[2])


def _called(image: KnownImage) -> dict[str, frozenset[str]]:
    """By name of an object: all that it may be called."""
    called: dict[str, frozenset[str]] = {}
    for o in image.objects:
        names = frozenset(map(key, (o.name, *o.synonyms)))
        called[key(o.name)] = called.get(key(o.name), frozenset()) | names
    return called


def _rank_predicted(anomaly: Anomaly) -> tuple[Any, ...]:
    a = anomaly
    return a.name, a.phenomenon, a.reasoning, a.severity, a.objects, a.region.box if a.region else ()


def _rank_planted(anomaly: Anomaly) -> tuple[Any, ...]:
    return str(anomaly.kind), anomaly.objects, anomaly.severity, anomaly.region.box if anomaly.region else ()
