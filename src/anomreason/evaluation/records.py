"""Records of the files of results: `metrics.json`, `matches.jsonl`, `exact.json`, `deepfake.json`, `plausibility.json`.

The code that computes a result builds its record once; terminal, report and leaderboard read its fields.

    with Matches(Path("scores")) as matches:
        print(sum(len(image.truths) for image in matches), "true anomalies")
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import IO, Literal, Self, TypeVar

from pydantic import AliasChoices, ConfigDict, Field, ValidationError, computed_field, model_validator

from anomreason.anomaly import Anomaly, Result
from anomreason.errors import UsageError, first_error
from anomreason.evaluation.signature import Signature
from anomreason.metrics.bertscore import PrecisionDrift
from anomreason.metrics.calibration import Calibration
from anomreason.metrics.deepfake import ExplanationScores, Judgements, SourceJudgements
from anomreason.metrics.exact import ExactScores
from anomreason.metrics.exact import Failures as ExactFailures
from anomreason.metrics.leaks import Leak
from anomreason.metrics.operating import OperatingCurve
from anomreason.metrics.opinion import SecondOpinion
from anomreason.metrics.plausibility import GeneratorDifference, GeneratorPlausibility, Metric, RankAgreement
from anomreason.metrics.semantic import (
    BothScores,
    Comparison,
    Failures,
    Figures,
    Saturated,
    SemanticResult,
    Share,
)
from anomreason.sources.annotations import ImageAnnotation
from anomreason.sources.joining import Entrant
from anomreason.stats import Estimate, Interval

VIEWS = {"phe": 1.0, "rea": 0.0, "full": 0.5}
"""Views that have a name of their own, and how much the phenomenon weighs in them."""
Outcome = Literal["missed", "false alarm", "unsure", "not asked", "failed", "right"]
"""What became of an image; `missed`: an AI image that was taken for a photograph."""
LEAKS = 0.6
"""Balanced accuracy of a fact about the files from which on it is said to leak."""
R = TypeVar("R", bound=Result)


class JoinedImages(Result):
    """How the predictions' images were found in the truth."""

    by_path: int = 0
    by_file_name: int = 0
    """Matched by the file name alone, since paths differ."""
    by_spelling: int = 0
    """Matched by another spelling: composed letters, percent-encoding, case of the ending."""
    by_upload_prefix: int = 0
    """Matched by the file name behind an upload server's prefix."""
    respelled: tuple[tuple[str, str], ...] = ()
    """Of the last two: name in the predictions, name in the truth."""
    not_in_truth: tuple[str, ...] = ()
    ambiguous: tuple[str, ...] = ()
    """Images of the predictions whose file name alone fits several."""
    missing: tuple[str, ...] = ()
    """Images of the truth that the predictions do not have."""

    @classmethod
    def of(cls, entrant: Entrant, truth: Mapping[str, ImageAnnotation]) -> JoinedImages:
        """truth: the images to score, by normalised name."""
        ways = Counter(entrant.ways.values())
        return cls(
            by_path=len(entrant.answers) - len(entrant.ways),
            by_file_name=ways["file name"],
            by_spelling=ways["spelling"],
            by_upload_prefix=ways["upload prefix"],
            respelled=tuple(
                (entrant.answers[name].image, truth[name].image)
                for name, way in entrant.ways.items()
                if way != "file name" and name in truth
            ),
            not_in_truth=tuple(entrant.named(entrant.strangers)),
            ambiguous=tuple(entrant.named(entrant.ambiguous)),
            missing=tuple(one.image for name, one in truth.items() if name not in entrant.answers),
        )


class SaturatedThreshold(Result):
    """A threshold at which nearly nothing or nearly everything matches."""

    profile: str
    view: str
    threshold: float
    matches: Saturated
    share: float


class CeilingResult(Result):
    """A second annotation scored as if it were predictions, on the images that it has."""

    name: str
    path: str
    n: int
    profiles: dict[str, dict[str, Figures]]


class AgainstResult(Comparison):
    """These predictions minus other ones, on the same images."""

    name: str
    path: str


class GroupScore(Result):
    """A mean over the images of a group."""

    value: float | None
    interval: Interval | None


class TruthGroup(Result):
    """Images with so many true anomalies; failed ones score zero."""

    least: int = Field(validation_alias=AliasChoices("from", "least"), serialization_alias="from")
    most: int | None = Field(validation_alias=AliasChoices("to", "most"), serialization_alias="to")
    """None for all from `least` on."""
    images: int
    profiles: dict[str, dict[str, BothScores[GroupScore]]]


class SeverityBin(Result):
    """Predictions of one range of severities."""

    least: float = Field(validation_alias=AliasChoices("from", "least"), serialization_alias="from")
    most: float = Field(validation_alias=AliasChoices("to", "most"), serialization_alias="to")
    predictions: int
    matched: int
    mean_true_severity: float | None
    """Of the matched; None when there are none."""


class SeverityCalibration(Result):
    """Predicted against true severity of the pairs that matched at one threshold, in the view `full`."""

    pairs: int
    mean_absolute_difference: float | None
    """None without a pair."""
    bins: tuple[SeverityBin, ...]


class EncodedTexts(Result):
    """The texts that the backbone was given."""

    encoded: int
    truncated: int
    """Longer than the backbone reads."""
    blank: int
    """Without a word; they are similar to nothing."""
    unknown: int = 0
    """With words that the backbone's vocabulary cannot represent; no two of those are similar."""
    limit: int
    """Tokens that the backbone reads."""


class LeftOut(Result):
    """Images that were not scored."""

    photographs: tuple[str, ...]
    """Of the truth, with a description instead of anomalies."""
    truth_failed: tuple[str, ...]
    subset_unknown: tuple[str, ...]
    """Names of the subset that the truth does not have."""


class EvalOptions(Result):
    """Options that are no part of the signature."""

    failures: Failures
    """Whether tables show failed images at zero, or leave them out."""
    shuffles: int
    seed: int


class AnnotationsFile(Result):
    """The annotated images."""

    path: str
    images: int


class PredictionsFile(Result):
    """The scored predictions."""

    path: str
    detectors: tuple[str, ...]
    pictures: str | None
    """Folder of the images."""


class ExactOptions(Result):
    """Options of `eval --exact`."""

    failures: ExactFailures
    seed: int


class ExactResult(ExactScores):
    """`exact.json`."""

    name: str
    """Of the predictions."""
    signature: Signature
    simulated: bool
    truth: str
    """Folder of the scenes."""
    settings: ExactOptions
    joined: JoinedImages


class SourceResult(SourceJudgements):
    """The AI images, or the photographs, of one source."""

    explained: dict[str, dict[str, BothScores[Estimate]]]
    """By profile and view."""


class DeepfakeResult(Judgements):
    """`deepfake.json`."""

    name: str
    """Of the predictions."""
    signature: Signature
    simulated: bool
    truth: str
    explained: dict[str, dict[str, BothScores[ExplanationScores]]]
    """By profile and view."""
    sources: tuple[SourceResult, ...]
    rule: str
    """How the explanation of a photograph is scored."""
    undescribed: int
    """Photographs judged right that score 0, since the truth describes them and the detector did not."""
    unexplained: str | None
    """Why no explanations were scored; None where they were."""
    leaks: tuple[Leak, ...]
    """What the files alone give away; empty when there is only one kind of image."""
    joined: JoinedImages
    operating: OperatingCurve | None = None
    """None in files of earlier versions."""
    calibration: Calibration | None = None
    uncalibrated: str | None = None
    """Why there is no calibration."""
    opinion: SecondOpinion | None = None
    """None where no model was asked for it."""

    @property
    def leaking(self) -> tuple[Leak, ...]:
        """What tells AI images from photographs without a look at them, beyond chance and by more than a little."""
        return tuple(
            leak
            for leak in self.leaks
            if (leak.balanced_accuracy.value or 0.0) >= LEAKS
            and leak.cross_validated
            and leak.balanced_accuracy.interval
            and leak.balanced_accuracy.interval.low > 0.5
        )

    @property
    def failed(self) -> int:
        return sum(self.failures.values())


class JudgedImage(Result):
    """One line of `judgements.jsonl`."""

    image: str
    """By its name in the truth."""
    generated: bool
    """The truth: AI image (True) or photograph (False)."""
    judged: bool | None
    """The detector's answer; None when it abstained, was not asked, or failed."""
    p_generated: float | None
    claimed: int
    """Anomalies in the answer."""
    failure: str | None
    """Kind; None for an image that was answered."""
    source: str
    asked: bool
    """False where the detector was not asked for the source."""
    anomalous: bool | None
    """Whether the truth has anomalies of this AI image; None for a photograph, and where nobody searched it."""
    explained: dict[str, dict[str, dict[str, float]]] = Field(default_factory=dict)
    """By profile, view, and `semap` or `semf1`: of the explanation, whatever the judgement."""
    ratings: tuple[int, ...] = ()
    """1..5, of the second opinion, one an explanation."""

    @property
    def outcome(self) -> Outcome:
        if self.failure is not None:
            return "failed"
        if self.judged is None:
            return "unsure" if self.asked else "not asked"
        return "right" if self.judged is self.generated else "missed" if self.generated else "false alarm"


class PlausibilityResult(Result):
    """`plausibility.json`."""

    signature: Signature
    simulated: bool
    paired: bool
    """Whether prompts are known, so that images of one prompt can be compared."""
    not_in_manifest: tuple[str, ...]
    generators: tuple[GeneratorPlausibility, ...]
    differences: tuple[GeneratorDifference, ...]
    against: Signature | None = None
    """Of another assessor's results of the same generators."""
    agreement: dict[Metric, RankAgreement] = Field(default_factory=dict)
    """Whether both assessors order the generators alike, by metric."""
    warnings: tuple[str, ...] = ()


class EvalCommon(Result):
    """What the results of one command share."""

    signature: Signature
    comparable: dict[str, str]
    """By profile: which published numbers the results may be compared with."""
    ceiling: CeilingResult | None = None
    settings: EvalOptions
    alphas: tuple[float, ...]
    texts: EncodedTexts
    drift: PrecisionDrift | None = None
    """None for fp32."""
    left_out: LeftOut
    truth: AnnotationsFile


class EvalResult(SemanticResult, EvalCommon):
    """`metrics.json`."""

    name: str
    """Of the predictions."""
    simulated: bool
    against: AgainstResult | None = None
    severity: dict[str, dict[float, SeverityCalibration]]
    """By profile and threshold."""
    by_truths: tuple[TruthGroup, ...]
    joined: JoinedImages
    predictions: PredictionsFile

    @model_validator(mode="after")
    def _even(self) -> Self:
        shapes = [(list(views), list(view.thresholds)) for views in self.profiles.values() for view in views.values()]
        if not shapes or not shapes[0][1] or any(shape != shapes[0] for shape in shapes):
            raise ValueError("every profile must have the same views, and every view the same thresholds")
        for view in shapes[0][0]:
            phenomenon_share(view)
        for threshold in shapes[0][1]:
            if not -1 <= threshold <= 1:
                raise ValueError(f"{threshold!r} is not a threshold")
        return self

    @computed_field  # type: ignore[prop-decorator]
    @property
    def saturated(self) -> list[SaturatedThreshold]:
        """Thresholds that hardly tell detectors apart."""
        return [
            SaturatedThreshold(
                profile=profile, view=view, threshold=threshold, matches=row.saturated, share=row.matched or 0.0
            )
            for profile, views in self.profiles.items()
            for view, score in views.items()
            for threshold, row in score.thresholds.items()
            if row.saturated
        ]

    @property
    def failed(self) -> int:
        return sum(self.failures.values())

    def shown(self, profile: str, view: str) -> Figures:
        """The figures that tables and plots show, failed images counted as `settings` say."""
        figures = self.profiles[profile][view]
        return figures.dropped or figures if self.settings.failures == "drop" else figures

    def beside(self, profile: str, view: str) -> Figures | None:
        """The same with failed images counted the other way; None where there is no other way."""
        figures = self.profiles[profile][view]
        return figures if self.settings.failures == "drop" and figures.dropped else figures.dropped

    @property
    def axes(self) -> ScoreAxes:
        views = next(iter(self.profiles.values()))
        return ScoreAxes(tuple(self.profiles), tuple(views), tuple(next(iter(views.values())).thresholds))


@dataclass(frozen=True)
class ScoreAxes:
    """Names of what was scored, in the order of every list of cells: profiles, then views, then thresholds."""

    profiles: tuple[str, ...]
    views: tuple[str, ...]
    thresholds: tuple[float, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each profile with each view."""
        return [(profile, view) for profile in self.profiles for view in self.views]

    @cached_property
    def cells(self) -> dict[tuple[str, str, float], int]:
        """Number of each (profile, view, threshold)."""
        keys = [(*pair, threshold) for pair in self.pairs for threshold in self.thresholds]
        return {key: number for number, key in enumerate(keys)}


def phenomenon_share(view: str) -> float:
    """How much the phenomenon weighs in a view, 0..1; ValueError for a name that is none."""
    if view in VIEWS:
        return VIEWS[view]
    head, _, share = view.partition("@")
    if head != "full" or not 0 <= float(share) <= 1:
        raise ValueError(f"{view!r} is not a view; they are phe, rea, full, and the like of full@0.3")
    return float(share)


class MatchedPair(Result):
    """A prediction and a truth that matched somewhere, or that are each other's nearest; further views are kept too."""

    model_config = ConfigDict(extra="allow")

    p: int
    """Place of the prediction."""
    t: int
    """Place of the truth."""
    phe: float
    rea: float
    matched: dict[str, dict[str, list[float]]] = Field(default_factory=dict)
    """By profile and view: the thresholds at which they matched."""
    why: str = ""
    """Why they did not match at every threshold; empty when they did."""

    def cells(self, axes: ScoreAxes) -> list[int]:
        """Numbers of the cells in which they matched."""
        keys = ((p, v, t) for p, views in self.matched.items() for v, ts in views.items() for t in ts)
        return [axes.cells[key] for key in keys if key in axes.cells]


class ImageMatches(Result):
    """One line of `matches.jsonl`."""

    image: str
    failure: str | None = None
    """Kind; then nothing was predicted and every score is 0."""
    predictions: tuple[Anomaly, ...]
    truths: tuple[Anomaly, ...]
    pairs: tuple[MatchedPair, ...]
    scores: dict[str, dict[str, BothScores[Share]]]
    """By profile and view."""

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for pair in self.pairs:
            if not (0 <= pair.p < len(self.predictions) and 0 <= pair.t < len(self.truths)):
                raise ValueError(f"pair ({pair.p}, {pair.t}) is of no prediction and truth of this image")
        return self


class Matches:
    """`matches.jsonl` of a folder, as a sequence whose lines are read when they are asked for."""

    def __init__(self, out: Path) -> None:
        self._path = out / "matches.jsonl"
        self._file = _opened(self._path)
        self._starts = [0]
        for line in self._file:
            self._starts.append(self._starts[-1] + len(line))

    def __len__(self) -> int:
        return len(self._starts) - 1

    def __getitem__(self, place: int) -> ImageMatches:
        """UsageError that names the line when it is not what `eval` writes."""
        self._file.seek(self._starts[place])
        line = self._file.read(self._starts[place + 1] - self._starts[place])
        return _parsed(ImageMatches, _characters(line), f"{self._path}, line {place + 1}")

    def __iter__(self) -> Iterator[ImageMatches]:
        return (self[place] for place in range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_result(path: Path, kind: type[R]) -> R:
    """A file of results. UsageError that names the file and the place in it."""
    with _opened(path) as file:
        return _parsed(kind, file.read(), str(path))


def _parsed(kind: type[R], data: bytes, where: str) -> R:
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        raise UsageError(f"{where}: {first_error(error, 'the whole')}; run the command that wrote it again") from error


def _characters(line: bytes) -> bytes:
    """The line without halves of characters, which names of files can hold and which no page can show."""
    if b"\\ud" not in line:
        return line
    try:
        return json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", "replace")
    except ValueError:
        return line


def _opened(path: Path) -> IO[bytes]:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}); give the folder that --out named") from error
