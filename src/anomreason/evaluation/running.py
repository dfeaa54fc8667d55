"""Scoring prediction files against one truth, a chunk of images at a time, so that memory does not grow with them.

The truth's texts are encoded once however many files there are. Images are taken in the order of their names, so that
the order of a file makes no difference.

    contest = Contest(entrant(predictions, truth), Settings())
    run([contest], truth, Backbone.open("distilbert-base-uncased"))
    contest.result().profiles["paper"]["full"].semf1
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from anomreason.anomaly import Anomaly
from anomreason.errors import UsageError
from anomreason.evaluation.breakdowns import SeverityCounter, pairs_of
from anomreason.evaluation.records import ImageMatches, MatchedPair
from anomreason.evaluation.writing import LineStore
from anomreason.metrics.chance import CHUNK, REPEATS, ChanceScorer, chunks
from anomreason.metrics.image_scores import FULL_ALPHA, PROFILES, ImageScores, Profile, SemanticSettings, score_image
from anomreason.metrics.matching import RankBy, rank
from anomreason.metrics.semantic import MISSING, BothScores, Failures, SemanticResult, SemanticScorer
from anomreason.sources.annotations import ImageAnnotation
from anomreason.sources.joining import Entrant, Truth

if TYPE_CHECKING:
    from anomreason.metrics.bertscore import Backbone, Chunk, Similarities

Progress = Callable[[int, int], None]
"""Called with the number of images done and of all images, over all files."""
_CHANCE, _INTERVALS, COMPARISON = 0, 1, 2
"""Each kind of draw has a stream of its own: what is drawn for one does not move the others."""

ALIASES: dict[str, Profile] = {"equations": "paper", "table1": "release"}
"""Profiles by what they compute: the paper's equations, or the numbers of its Table 1."""


@dataclass(frozen=True, slots=True)
class Settings:
    """How files are scored. The command line has the same names and defaults."""

    profile: Literal["paper", "release", "both", "equations", "table1"] = "paper"
    """`equations` is another name of `paper`, `table1` of `release`: what the paper's Table 1 evidently holds."""
    alpha: tuple[float, ...] = ()
    """Further shares of the phenomenon; `full` (0.5) is always there."""
    rank_by: RankBy = "severity"
    failures: Failures = "zero"
    """What tables show and comparisons count: failed images at zero, or left out. Both are always written."""
    shuffles: int = REPEATS
    """How often images are shuffled for the chance level; 0 leaves it out."""
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "profile", ALIASES.get(self.profile, self.profile))
        if self.profile not in (*PROFILES, "both"):
            known = ", ".join(f"{name} (or {alias})" for alias, name in ALIASES.items())
            raise UsageError(f"the profile is {self.profile!r}; choose {known}, or both")
        if self.failures not in get_args(Failures):
            raise UsageError(f"failures are counted as {self.failures!r}; choose {' or '.join(get_args(Failures))}")
        if self.shuffles < 0 or self.seed < 0:
            raise UsageError(f"shuffles ({self.shuffles}) and seed ({self.seed}) cannot be below 0")
        self.semantic  # noqa: B018 - refuses its part at once, not after the texts were read

    @property
    def semantic(self) -> SemanticSettings:
        alphas = tuple(dict.fromkeys((FULL_ALPHA, *self.alpha)))
        profiles: tuple[Profile, ...] = tuple(PROFILES) if self.profile == "both" else (self.profile,)  # type: ignore[assignment]
        return SemanticSettings(alphas=alphas, profiles=profiles, rank_by=self.rank_by)

    def rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, purpose])


@dataclass(frozen=True, slots=True)
class Part:
    """Some images of the truth, to be scored together."""

    names: Sequence[str]
    truths: Sequence[ImageAnnotation]
    chunk: Chunk
    """Their truths, encoded; without texts where no file answered the image."""
    own: int
    """So many of them are scored here; the rest are scored elsewhere and only shuffled with these."""


class Contest:
    """One prediction file while it is scored."""

    def __init__(self, entrant: Entrant, settings: Settings, store: LineStore | None = None) -> None:
        """store: takes the lines of `matches.jsonl`; None: only figures are computed, without a chance level.

        UsageError, naming file and image, when predictions cannot be ranked as asked.
        """
        self.entrant, self.settings = entrant, settings
        check_ranking(entrant, entrant.answers, settings.semantic)
        self.scorer = SemanticScorer(settings.semantic)
        self.calibration = SeverityCounter(settings.semantic)
        self._store = store
        self._chance = ChanceScorer(settings.semantic, settings.shuffles) if store and settings.shuffles else None
        self._chance_rng = settings.rng(_CHANCE)

    def answered(self, image: str) -> bool:
        answer = self.entrant.answers.get(image)
        return answer is not None and answer.unanswered is None

    def result(self) -> SemanticResult:
        """All figures, once every image was added."""
        return self.scorer.result(self.settings.rng(_INTERVALS), self._chance.totals if self._chance else ())

    def groups(self, blocks: Sequence[range], names: Sequence[str]) -> list[list[int]]:
        """For each block the places of the images that are shuffled together; empty without a chance level."""
        if not self._chance:
            return [[] for _ in blocks]
        return shuffled_together(blocks, [self.answered(name) for name in names])

    def add(self, part: Part, group: Sequence[int]) -> None:
        """Score one part; group: places in it of the images that are shuffled."""
        names, truths = part.names, part.truths
        found = [self.entrant.answers.get(name) for name in names]
        answers = [one if one and one.unanswered is None else None for one in found]
        deals = self._chance.deals(len(group), self._chance_rng) if self._chance and group else []
        # Whose truths each answered image meets in the shuffles, each once.
        partners = {place: list(dict.fromkeys(group[deal[own]] for deal in deals)) for own, place in enumerate(group)}
        texts = [
            _texts(one.anomalies) if one and (p < part.own or p in partners) else {} for p, one in enumerate(answers)
        ]
        shuffled: dict[tuple[int, int], Any] = {}
        for place, alike in enumerate(part.chunk.score(texts, [partners.get(p, ()) for p in range(len(names))])):
            answer = answers[place]
            for partner, other in zip(partners.get(place, ()), alike.partners, strict=True):
                shuffled[place, partner] = other["phe"], other["rea"]
            if place < part.own and answer:
                self._score(names[place], answer, truths[place], alike)
            elif place < part.own:
                failed = found[place]
                self._fail(names[place], MISSING if failed is None else str(failed.unanswered), truths[place])
        if self._chance and deals:
            orders = [self._order(names[p], answers[p]) for p in group]
            self._chance.add(orders, lambda i, j: shuffled[group[i], group[j]], deals)

    def _order(self, name: str, answer: ImageAnnotation | None) -> list[int]:
        return self.scorer.order(*ranking(answer), name)

    def _score(self, name: str, answer: ImageAnnotation, truth: ImageAnnotation, found: Similarities) -> None:
        phe, rea = found.own["phe"], found.own["rea"]
        order = self._order(name, answer)
        scores = score_image(phe, rea, order, self.scorer.settings, name)
        self.scorer.add_scores(name, scores)
        if self._store:
            pairs = pairs_of(phe, rea, scores)
            self.calibration.add(answer.anomalies, truth.anomalies, pairs)
            self._store.add(name, _record(truth, None, answer.anomalies, pairs, scores))

    def _fail(self, name: str, kind: str, truth: ImageAnnotation) -> None:
        self.scorer.add_failure(name, kind, len(truth.anomalies))
        if self._store:
            nothing = ImageScores.failed(self.scorer.settings, len(truth.anomalies))
            self._store.add(name, _record(truth, kind, (), [], nothing))


def run(contests: Sequence[Contest], truth: Truth, backbone: Backbone, progress: Progress = lambda *_: None) -> None:
    """Score every file on every image of the truth."""
    names = sorted(truth.images)
    done, total = 0, len(names) * len(contests)
    progress(done, total)
    blocks = chunks(len(names), CHUNK) or [range(len(names))]
    groups = [contest.groups(blocks, names) for contest in contests]
    for number, block in enumerate(blocks):
        places = list(dict.fromkeys([*block, *(place for group in groups for place in group[number])]))
        mine = [names[place] for place in places]
        truths = [truth.images[name] for name in mine]
        # The texts of an image that no file answered are compared with nothing.
        needed = [any(contest.answered(name) for contest in contests) for name in mine]
        texts = [_texts(one.anomalies) if used else {} for one, used in zip(truths, needed, strict=True)]
        part = Part(mine, truths, backbone.hold(texts), len(block))
        at = {place: here for here, place in enumerate(places)}
        for contest, group in zip(contests, groups, strict=True):
            contest.add(part, [at[place] for place in group[number]])
            done += len(block)
            progress(done, total)


def shuffled_together(blocks: Sequence[range], answered: Sequence[bool]) -> list[list[int]]:
    """For each block the places of its answered images, which are shuffled among themselves.

    A single one has no partner: it joins those of the next blocks, or, at the end, of the last block that has some.
    """
    groups: list[list[int]] = [[] for _ in blocks]
    waiting: list[int] = []
    last = None
    for number, block in enumerate(blocks):
        group = [*waiting, *(place for place in block if answered[place])]
        waiting = group if len(group) == 1 else []
        if len(group) > 1:
            groups[number], last = group, number
    if last is not None:
        groups[last] += waiting
    return groups


def _texts(anomalies: Sequence[Anomaly]) -> dict[str, list[str]]:
    return {"phe": [a.phenomenon for a in anomalies], "rea": [a.reasoning for a in anomalies]}


def ranking(annotation: ImageAnnotation | None) -> tuple[list[float], list[float] | None]:
    """Severities, and confidences where every anomaly has one."""
    rated = annotation.rated if annotation else []
    sure = [confidence for _, confidence in rated if confidence is not None]
    return [anomaly.severity for anomaly, _ in rated], sure if len(sure) == len(rated) else None


def check_ranking(entrant: Entrant, names: Iterable[str], settings: SemanticSettings) -> None:
    """UsageError, naming file and image, where predictions for these images cannot be ranked as asked."""
    if settings.ranking != "confidence":
        return
    for name in names:
        answer = entrant.answers.get(name)
        try:
            rank(*ranking(answer), settings.ranking)
        except UsageError as error:
            raise UsageError(f"{entrant.source.path}, image {name!r}: {error}") from None


def _record(
    truth: ImageAnnotation,
    failure: str | None,
    predictions: Sequence[Anomaly],
    pairs: Sequence[MatchedPair],
    scores: ImageScores,
) -> ImageMatches:
    settings = scores.settings
    return ImageMatches(
        image=truth.image,
        failure=failure,
        predictions=tuple(predictions),
        truths=tuple(truth.anomalies),
        pairs=tuple(pairs),
        scores={
            profile: {
                view: BothScores(
                    semap=scores.semap(profile, view),
                    semf1=scores.semf1(profile, view) if failure is None else 0.0,
                )
                for view in settings.views
            }
            for profile in settings.profiles
        },
    )
