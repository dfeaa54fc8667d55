"""Known pictures, what was said of them, and which claim finds which planted anomaly.

Knows no files and no scores. A claim finds a planted anomaly when it names one of its objects and either tells its kind
(see `kinds`) or shows a region that overlaps enough; one to one. The objects that count are those that name and
`objects` of the claim tell; only where these name nothing in the picture is the phenomenon asked. Try it:

    cup = KnownImage("a.png", (KnownAnomaly("floating", ("cup",), 5),), (KnownObject("cup", ("mug",)),))
    Matcher([cup]).pairs(cup, [Claim("Floating mug", "The mug hangs in mid-air.", "Gravity.", 10)])
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from anomreason.anomaly import Kind, Region
from anomreason.errors import UsageError
from anomreason.metrics.kinds import kind_of
from anomreason.metrics.mentions import Names, key

OVERLAP = 0.5
"""From this IoU on, a region tells the anomaly as its kind would."""
MOST = 12
"""Planted anomalies of one image; the best matching is looked for among all subsets of them."""


@dataclass(frozen=True, slots=True)
class KnownObject:
    """One object of a picture."""

    name: str
    synonyms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class KnownAnomaly:
    """One planted anomaly."""

    kind: Kind
    objects: tuple[str, ...]
    """Names of the objects concerned; to name one of them is enough."""
    severity: float
    """By the rubric; 0 = completely implausible."""
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class KnownImage:
    """A picture of which all is known."""

    image: str
    anomalies: tuple[KnownAnomaly, ...] = ()
    objects: tuple[KnownObject, ...] = ()
    twin_of: str = ""
    """The scene that this is the twin of; empty for a scene."""
    mended: int = -1
    """Which of the scene's anomalies this twin lacks."""


@dataclass(frozen=True, slots=True)
class Claim:
    """One anomaly that a detector reported."""

    name: str
    phenomenon: str
    reasoning: str
    severity: float
    objects: tuple[str, ...] = ()
    region: Region | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What a detector said of one image."""

    claims: tuple[Claim, ...] = ()
    failure: str | None = None
    """Kind; then there are no claims."""


class Pair(NamedTuple):
    """A planted anomaly and the claim that found it, by their places in the image."""

    anomaly: int
    claim: int
    kind_agrees: bool
    iou: float | None
    """None where one of the two has no region."""


def check(known: Sequence[KnownImage]) -> None:
    """Raise UsageError for pictures that cannot be scored as they stand."""
    by_name = {one.image: one for one in known}
    if len(by_name) < len(known):
        twice = next(name for name, times in Counter(one.image for one in known).items() if times > 1)
        raise UsageError(f"image {twice!r} stands twice among the known pictures; keep it once")
    if not any(not one.twin_of for one in known):
        raise UsageError("there is no scene to score among the known pictures; twins alone are not enough")
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
    """Tells which claims find which anomalies; knows every name that occurs in the pictures."""

    def __init__(self, known: Sequence[KnownImage]) -> None:
        every = {name for one in known for thing in one.objects for name in (thing.name, *thing.synonyms)}
        self._names = Names(sorted(every | {name for one in known for a in one.anomalies for name in a.objects}))
        self._kinds: dict[tuple[str, str, str], Kind | None] = {}

    def kind(self, claim: Claim) -> Kind | None:
        """As `kind_of`; where that is torn, once more without the names of things, which are no evidence."""
        texts = (claim.name, claim.phenomenon, claim.reasoning)
        if texts not in self._kinds:
            self._kinds[texts] = kind_of(*texts) or kind_of(*map(self._names.masked, texts))
        return self._kinds[texts]

    def pairs(self, image: KnownImage, claims: Sequence[Claim]) -> list[Pair]:
        """One to one, as many as possible; of equally many those whose kinds agree and regions overlap best."""
        order = sorted(range(len(claims)), key=lambda n: _rank_claim(claims[n]))
        truths = sorted(range(len(image.anomalies)), key=lambda n: _rank_anomaly(image.anomalies[n]))
        fits = self._fits(image, [claims[n] for n in order], [image.anomalies[n] for n in truths])
        found = best_matching({edge: pair.kind_agrees + (pair.iou or 0.0) for edge, pair in fits.items()})
        pairs = [fits[edge]._replace(anomaly=truths[edge[1]], claim=order[edge[0]]) for edge in found]
        return sorted(pairs)

    def reports(self, image: KnownImage, claims: Sequence[Claim], missing: KnownAnomaly) -> bool:
        """Whether a claim finds an anomaly that the picture lacks, and is not needed for one that it has."""
        more = KnownImage(image.image, (*image.anomalies, missing), image.objects)
        return len(self.pairs(more, claims)) > len(self.pairs(image, claims))

    def _fits(
        self, image: KnownImage, claims: Sequence[Claim], anomalies: Sequence[KnownAnomaly]
    ) -> dict[tuple[int, int], Pair]:
        """By place of claim and anomaly: every pair that may be made."""
        called = _called(image)
        present = frozenset().union(*called.values())
        fits = {}
        for c, claim in enumerate(claims):
            named = self._named(claim, present | {key(name) for a in anomalies for name in a.objects})
            for a, anomaly in enumerate(anomalies):
                names = frozenset().union(*(called.get(key(name), {key(name)}) for name in anomaly.objects))
                if not named & names:
                    continue
                iou = round(claim.region.iou(anomaly.region), 9) if claim.region and anomaly.region else None
                agrees = self.kind(claim) == anomaly.kind
                if agrees or (iou or 0.0) >= OVERLAP:
                    fits[c, a] = Pair(a, c, agrees, iou)
        return fits

    def _named(self, claim: Claim, present: frozenset[str]) -> frozenset[str]:
        told = frozenset().union(*(self._names.mentioned(text) for text in (claim.name, *claim.objects))) & present
        return told or self._names.mentioned(claim.phenomenon) & present


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
    for thing in image.objects:
        names = frozenset(map(key, (thing.name, *thing.synonyms)))
        called[key(thing.name)] = called.get(key(thing.name), frozenset()) | names
    return called


def _corners(region: Region | None) -> tuple[float, ...]:
    return (region.x0, region.y0, region.x1, region.y1) if region else ()


def _rank_claim(claim: Claim) -> tuple[Any, ...]:
    return claim.name, claim.phenomenon, claim.reasoning, claim.severity, claim.objects, _corners(claim.region)


def _rank_anomaly(anomaly: KnownAnomaly) -> tuple[Any, ...]:
    return anomaly.kind, anomaly.objects, anomaly.severity, _corners(anomaly.region)
