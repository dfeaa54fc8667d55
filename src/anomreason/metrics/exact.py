"""Which planted anomalies a detector found, and whether it reports them on the twin image without them too.

Known images and predictions for them in (see `planted`), numbers out. Try it:

    cup = KnownImage("a.png", (planted,), (KnownObject("cup", ("mug",)),))
    score_exact([cup], {"a.png": ImagePrediction((predicted,))}, np.random.default_rng(0)).recall.value  # 1.0
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Generic, Literal, TypeVar, get_args

import numpy as np

from anomreason.anomaly import KINDS, Anomaly, Result
from anomreason.errors import UsageError
from anomreason.metrics.planted import ImagePrediction, KnownImage, Matcher, check
from anomreason.metrics.semantic import MISSING
from anomreason.stats import RESAMPLES, Estimate, Floats, estimate, ratio, wide, wilson

NO_KIND = "none"
"""Where predictions are counted that name no kind, or several, and found nothing."""
Failures = Literal["missed", "dropped"]


class KindScores(Result):
    """One kind. Predictions count under the kind of what they found, unmatched ones under the kind that they name."""

    recall: Estimate
    precision: Estimate


class TwinTest(Result):
    """Pairs of a scene and its twin without one of its anomalies; both were answered."""

    passed: Estimate
    """Share of pairs where that anomaly is reported on the scene and not on the twin."""
    on_scene: Estimate
    """Share where it is reported on the scene."""
    on_twin: Estimate
    """Share where it is reported on the twin, which does not have it."""
    failed: int
    """Pairs left out, since one of the two images has no answer."""


class PlantedOutcome(Result):
    """One planted anomaly of a scene, and the prediction that found it."""

    anomaly: Anomaly
    found_by: int | None
    """Place of the prediction; None when the anomaly was missed or the scene has no answer."""
    kind_agrees: bool = False
    """Whether that prediction names the same kind."""
    iou: float | None = None
    """Overlap of the two regions; None where one of them has none."""


class TwinOutcome(Result):
    """A twin of a scene, which lacks one of its anomalies."""

    image: str
    mended: int
    """Place of the anomaly that the twin lacks."""
    failure: str | None
    reported: bool | None
    """Whether that anomaly is reported on the twin all the same; None when one of the two images has no answer."""


class SceneOutcome(Result):
    """What happened on one scene."""

    image: str
    failure: str | None
    """Kind; then nothing was predicted."""
    planted: tuple[PlantedOutcome, ...]
    predictions: tuple[Anomaly, ...]
    kinds: tuple[str, ...]
    """Kind under which each prediction counts: of what it found, else the one that it names, else `none`."""
    twins: tuple[TwinOutcome, ...]

    @property
    def hits(self) -> int:
        return sum(one.found_by is not None for one in self.planted)

    @property
    def false(self) -> int:
        """Predictions that found nothing."""
        return len(self.predictions) - self.hits


class ExactScores(Result):
    """Everything is counted over scenes; twins count in the twin test alone.

    Intervals: bootstrap over scenes. Of a share that all or none hit, Wilson's with a scene as one trial.
    """

    n: int
    """Scenes, failed ones included."""
    clean: int
    """Of them without an anomaly."""
    twins: int
    failures: dict[str, int]
    """Scenes without an answer, by kind; their anomalies are missed, or left out."""
    twin_failures: dict[str, int]
    recall: Estimate
    """n: planted anomalies."""
    precision: Estimate
    """n: predictions; no value without any."""
    kinds: dict[str, KindScores]
    """By kind, where it was planted or predicted; see NO_KIND."""
    false_anomalies: Estimate
    """Per answered scene."""
    false_on_clean: Estimate
    false_on_anomalous: Estimate
    clean_with_false: Estimate
    """Share of the answered clean scenes with any prediction."""
    twin_test: TwinTest
    localisation: Estimate
    """Mean IoU over anomalies that were found by a prediction with a region."""
    severity_error: Estimate
    """Mean distance of the predicted severity from the rubric's, over what was found; 0..100."""
    severity_bias: Estimate
    """The same with its sign: above 0, the detector finds anomalies more plausible than the rubric."""
    found_by_region_alone: int
    """Found anomalies whose kind the prediction does not name."""
    images: tuple[SceneOutcome, ...] = ()
    """Every scene, by name."""


def score_exact(
    known: Sequence[KnownImage],
    answers: Mapping[str, ImagePrediction],
    rng: np.random.Generator,
    *,
    failures: Failures = "missed",
    resamples: int = RESAMPLES,
) -> ExactScores:
    """All numbers. answers: by image; one that is not there is a failure of the kind `missing`.

    failures: whether anomalies of failed scenes count as missed or are left out. Neither the order of images nor that
    of predictions makes a difference. UsageError for no scene, an image that stands twice, a twin of nothing.
    """
    if failures not in get_args(Failures):
        raise UsageError(f"failures are counted as {failures!r}; choose {' or '.join(get_args(Failures))}")
    check(known)
    matcher = Matcher(known)
    given = {one.image: answers.get(one.image, ImagePrediction(failure=MISSING)) for one in known}
    scenes = sorted((one for one in known if not one.twin_of), key=lambda one: one.image)
    twins = [one for one in known if one.twin_of]
    of_scene: dict[str, list[KnownImage]] = {}
    for twin in twins:
        of_scene.setdefault(twin.twin_of, []).append(twin)
    outcomes = [_outcome(scene, of_scene.get(scene.image, ()), given, matcher) for scene in scenes]
    rows = [_scene_sums(outcome, failures) for outcome in outcomes]
    tests = [_twin_sums(outcome) for outcome in outcomes if outcome.twins]
    draw = _Bootstrap(rows, rng, resamples)
    return ExactScores(
        n=len(scenes),
        clean=sum(not scene.anomalies for scene in scenes),
        twins=len(twins),
        failures=_failures(scenes, given),
        twin_failures=_failures(twins, given),
        recall=draw.share(lambda r: (r.found.total(), r.planted.total())),
        precision=draw.share(lambda r: (r.found.total(), r.claims.total())),
        kinds=_by_kind(rows, draw),
        false_anomalies=draw.mean(lambda r: (r.false, r.answered)),
        false_on_clean=draw.mean(lambda r: (r.false * r.clean, r.answered * r.clean)),
        false_on_anomalous=draw.mean(lambda r: (r.false * (not r.clean), r.answered * (not r.clean))),
        clean_with_false=draw.share(lambda r: ((r.false > 0) * r.clean, r.answered * r.clean)),
        twin_test=_twin_test(tests, rng, resamples),
        localisation=draw.mean(lambda r: (sum(r.ious), len(r.ious))),
        severity_error=draw.mean(lambda r: (sum(map(abs, r.off)), len(r.off))),
        severity_bias=draw.mean(lambda r: (sum(r.off), len(r.off))),
        found_by_region_alone=sum(r.by_region for r in rows),
        images=tuple(outcomes),
    )


@dataclass(slots=True)
class _SceneSums:
    """What one scene adds to the sums."""

    clean: bool
    answered: bool
    planted: Counter[str] = field(default_factory=Counter)
    found: Counter[str] = field(default_factory=Counter)
    claims: Counter[str] = field(default_factory=Counter)
    ious: list[float] = field(default_factory=list)
    off: list[float] = field(default_factory=list)
    by_region: int = 0

    @property
    def false(self) -> int:
        return self.claims.total() - self.found.total()


def _outcome(
    scene: KnownImage, twins: Sequence[KnownImage], given: Mapping[str, ImagePrediction], matcher: Matcher
) -> SceneOutcome:
    answer = given[scene.image]
    pairs = {pair.planted: pair for pair in matcher.pairs(scene, answer.anomalies)}
    finder = {pair.predicted: scene.anomalies[place] for place, pair in pairs.items()}
    return SceneOutcome(
        image=scene.image,
        failure=answer.failure,
        planted=tuple(
            PlantedOutcome(anomaly=anomaly, found_by=pair.predicted, kind_agrees=pair.kind_agrees, iou=pair.iou)
            if (pair := pairs.get(place))
            else PlantedOutcome(anomaly=anomaly, found_by=None)
            for place, anomaly in enumerate(scene.anomalies)
        ),
        predictions=tuple(answer.anomalies),
        kinds=tuple(
            str(finder[n].kind if n in finder else matcher.kind(anomaly) or NO_KIND)
            for n, anomaly in enumerate(answer.anomalies)
        ),
        twins=tuple(_twin_outcome(scene, answer, twin, given[twin.image], matcher) for twin in twins),
    )


def _twin_outcome(
    scene: KnownImage, answer: ImagePrediction, twin: KnownImage, on_twin: ImagePrediction, matcher: Matcher
) -> TwinOutcome:
    answered = answer.failure is None and on_twin.failure is None
    reported = matcher.reports(twin, on_twin.anomalies, scene.anomalies[twin.mended]) if answered else None
    return TwinOutcome(image=twin.image, mended=twin.mended, failure=on_twin.failure, reported=reported)


def _scene_sums(scene: SceneOutcome, failures: Failures) -> _SceneSums:
    row = _SceneSums(clean=not scene.planted, answered=scene.failure is None)
    if row.answered or failures == "missed":
        row.planted.update(str(one.anomaly.kind) for one in scene.planted)
    found = [(one, scene.predictions[one.found_by]) for one in scene.planted if one.found_by is not None]
    row.claims.update(scene.kinds)
    row.found.update(str(one.anomaly.kind) for one, _ in found)
    # Sums of floats in one order, whatever the order of the predictions.
    row.ious = sorted(one.iou for one, _ in found if one.iou is not None)
    row.off = sorted(prediction.severity - one.anomaly.severity for one, prediction in found)
    row.by_region = sum(not one.kind_agrees for one, _ in found)
    return row


_R = TypeVar("_R")


class _Bootstrap(Generic[_R]):
    """Ratios of sums over scenes, with intervals by drawing scenes."""

    def __init__(self, rows: Sequence[_R], rng: np.random.Generator, resamples: int) -> None:
        self._rows, self._rng, self._resamples = rows, rng, resamples

    def mean(self, of: Callable[[_R], tuple[float, float]]) -> Estimate:
        """of: one row -> (sum, of how many)."""
        return self._estimate(of)[0]

    def share(self, of: Callable[[_R], tuple[float, float]]) -> Estimate:
        """of: one row -> (how many hit, out of how many)."""
        found, scenes = self._estimate(of)
        if found.value in (0, 1) and scenes > 1:
            return Estimate(found.value, wilson(float(found.value), scenes), found.n)
        return found

    def _estimate(self, of: Callable[[_R], tuple[float, float]]) -> tuple[Estimate, int]:
        """And how many scenes it rests on."""
        table: Floats = np.array([of(row) for row in self._rows], dtype=np.float64).reshape(-1, 2)
        found = estimate(table, ratio, self._rng, int(table[:, 1].sum()), self._resamples)
        scenes = int(np.count_nonzero(table[:, 1]))
        # One scene shows no spread, however many anomalies it has.
        return Estimate(found.value, wide(found.interval) if scenes > 1 else None, found.n), scenes


def _by_kind(rows: Sequence[_SceneSums], draw: _Bootstrap[_SceneSums]) -> dict[str, KindScores]:
    seen = {kind for row in rows for kind in (*row.planted, *row.claims)}
    return {kind: _kind_scores(kind, draw) for kind in (*KINDS, NO_KIND) if kind in seen}


def _kind_scores(kind: str, draw: _Bootstrap[_SceneSums]) -> KindScores:
    return KindScores(
        recall=draw.share(lambda r: (r.found[kind], r.planted[kind])),
        precision=draw.share(lambda r: (r.found[kind], r.claims[kind])),
    )


@dataclass(frozen=True, slots=True)
class _TwinSums:
    """The pairs of one scene."""

    pairs: int
    failed: int
    passed: int
    on_scene: int
    on_twin: int


def _twin_sums(scene: SceneOutcome) -> _TwinSums:
    asked = [twin for twin in scene.twins if twin.reported is not None]
    here = [scene.planted[twin.mended].found_by is not None for twin in asked]
    passed = sum(found and not twin.reported for found, twin in zip(here, asked, strict=True))
    reported = sum(bool(twin.reported) for twin in asked)
    return _TwinSums(len(asked), len(scene.twins) - len(asked), passed, sum(here), reported)


def _twin_test(tests: Sequence[_TwinSums], rng: np.random.Generator, resamples: int) -> TwinTest:
    draw = _Bootstrap(tests, rng, resamples)
    return TwinTest(
        passed=draw.share(lambda t: (t.passed, t.pairs)),
        on_scene=draw.share(lambda t: (t.on_scene, t.pairs)),
        on_twin=draw.share(lambda t: (t.on_twin, t.pairs)),
        failed=sum(t.failed for t in tests),
    )


def _failures(images: Sequence[KnownImage], given: Mapping[str, ImagePrediction]) -> dict[str, int]:
    kinds = [given[one.image].failure for one in images]
    return dict(sorted(Counter(kind for kind in kinds if kind).items()))
