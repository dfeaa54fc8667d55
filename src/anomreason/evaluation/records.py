"""What `eval` writes, read strictly: `metrics.json` (the figures) and `matches.jsonl` (one line an image).

Images are read one at a time, in any order, so that memory does not grow with their texts. Knows nothing of HTML.

    with Matches(Path("scores")) as matches:
        print(sum(len(image.truths) for image in matches), "true anomalies")
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AliasPath, BaseModel, ConfigDict, Field, ValidationError, model_validator

from anomreason.errors import UsageError

METRICS = ("semap", "semf1")
"""The two scores that each image has, in each profile and view."""
VIEWS = {"phe": 1.0, "rea": 0.0, "full": 0.5}
"""Views that have a name of their own, and how much the phenomenon weighs in them."""
Share = Annotated[float, Field(ge=0, le=1)]
Ends = tuple[float, float]


class Written(BaseModel):
    """Base of what is read here; fields that the report does not show are passed over."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class Spread(Written):
    """Over shuffles of the images."""

    mean: float
    low: float
    high: float


class Chance(Written):
    """What the same predictions get on other images."""

    repeats: int
    semap: float
    semf1: float
    micro_f1: float | None = None
    thresholds: dict[str, dict[str, Spread]]
    """By threshold, then `ap` and `f1`."""


class Micro(Written):
    """Of pooled counts."""

    precision: Share
    recall: Share
    f1: Share


class Row(Written):
    """One threshold; macro but for the counts."""

    tp: int
    fp: int
    fn: int
    precision: Share
    recall: Share
    ap: Share
    f1: Share
    saturated: str | None = None


class View(Written):
    """One profile and view."""

    n: int
    semap: Share
    semf1: Share
    micro: Micro
    chance: Chance | None = None
    interval: dict[str, Ends | None]
    thresholds: dict[str, Row]
    dropped: View | None = None
    """Over the images that did not fail."""


class CeilingRow(Written):
    ap: Share
    f1: Share


class CeilingView(Written):
    semap: Share
    semf1: Share
    thresholds: dict[str, CeilingRow] = {}


class Ceiling(Written):
    """A second annotation, scored as if it were predictions."""

    profiles: dict[str, dict[str, CeilingView]]


class Difference(Written):
    """These predictions minus the others, on the same images."""

    value: float
    interval: Ends | None = None
    p: Share


class Against(Written):
    """The comparison with other predictions."""

    name: str = "the other predictions"
    n: int
    dropped: int = 0
    profiles: dict[str, dict[str, dict[str, Difference]]]


class Score(Written):
    """A mean over images."""

    value: float | None
    interval: Ends | None = None


class ByTruths(Written):
    """Images with so many true anomalies, failed ones at zero."""

    least: int = Field(validation_alias="from")
    most: int | None = Field(None, validation_alias="to")
    """None for all from `least` on."""
    images: int
    profiles: dict[str, dict[str, dict[str, Score]]]
    """By profile, view and METRICS."""


class Bin(Written):
    """Predictions of one range of severities."""

    least: float = Field(validation_alias="from")
    most: float = Field(validation_alias="to")
    predictions: int
    matched: int
    mean_true_severity: float | None
    """Of the matched; None when there are none."""


class Calibration(Written):
    """What predicted severities are worth in one profile, at one threshold, in the view `full`."""

    pairs: int
    mean_absolute_difference: float | None
    bins: list[Bin]


class Texts(Written):
    """What the backbone was given."""

    truncated: int = 0
    """Texts longer than it can read."""
    blank: int = 0
    """Texts with nothing in them; they are like nothing."""


class Drift(Written):
    """How far similarities of a lower precision are off."""

    mean: float
    largest: float


class Joined(Written):
    """How the predictions' images were found in the truth."""

    by_path: int = 0
    by_file_name: int = 0
    not_in_truth: list[str] = []


class Metrics(Written):
    """`metrics.json`; whatever else stands there is kept in `model_extra`."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False, extra="allow")

    name: str = ""
    """Of the predictions."""
    signature: str | dict[str, Any]
    simulated: bool = False
    comparable: dict[str, str] = {}
    """By profile, in words: which published numbers the results may stand beside."""
    n: int
    failures: dict[str, int]
    profiles: Annotated[dict[str, Annotated[dict[str, View], Field(min_length=1)]], Field(min_length=1)]
    images: dict[str, int] = {}
    """How many were answered, have both sides empty, or one."""
    failures_count: Literal["zero", "drop"] = Field("zero", validation_alias=AliasPath("settings", "failures"))
    """Whether the tables show failed images at zero, or leave them out."""
    texts: Texts = Texts()
    drift: Drift | None = None
    joined: Joined = Joined()
    ceiling: Ceiling | None = None
    against: Against | None = None
    by_truths: list[ByTruths] = []
    severity: dict[str, dict[str, Calibration]] = {}
    """By profile and threshold."""

    @model_validator(mode="after")
    def _even(self) -> Self:
        shapes = [(list(views), list(view.thresholds)) for views in self.profiles.values() for view in views.values()]
        if not shapes[0][1] or any(shape != shapes[0] for shape in shapes):
            raise ValueError("every profile must have the same views, and every view the same thresholds")
        for view in shapes[0][0]:
            phenomenon_share(view)
        for threshold in shapes[0][1]:
            if not -1 <= float(threshold) <= 1:
                raise ValueError(f"{threshold!r} is not a threshold")
        return self

    def shown(self, profile: str, view: str) -> View:
        """The figures that tables and plots show."""
        figures = self.profiles[profile][view]
        return figures.dropped or figures if self.failures_count == "drop" else figures

    def beside(self, profile: str, view: str) -> View | None:
        """The same with failed images counted the other way; None where there is no other way."""
        figures = self.profiles[profile][view]
        return figures if self.failures_count == "drop" and figures.dropped else figures.dropped

    @property
    def axes(self) -> Axes:
        views = next(iter(self.profiles.values()))
        return Axes(tuple(self.profiles), tuple(views), tuple(next(iter(views.values())).thresholds))


@dataclass(frozen=True)
class Axes:
    """Names of what was scored, in the order of every list of cells: profiles, then views, then thresholds."""

    profiles: tuple[str, ...]
    views: tuple[str, ...]
    thresholds: tuple[str, ...]

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Each profile with each view."""
        return [(profile, view) for profile in self.profiles for view in self.views]

    @cached_property
    def cells(self) -> dict[tuple[str, str, str], int]:
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


class Said(Written):
    """One anomaly, predicted or true."""

    name: str
    phenomenon: str = ""
    reasoning: str = ""
    severity: float | None = None
    """0 = completely implausible, 100 = fully realistic."""


class Pair(Written):
    """A prediction and a truth that matched somewhere, or that are each other's nearest."""

    p: int
    t: int
    phe: float
    rea: float
    matched: dict[str, dict[str, list[float]]] = {}
    """By profile and view: the thresholds at which they matched."""
    why: str | None = None

    def cells(self, axes: Axes) -> list[int]:
        """Numbers of the cells in which they matched."""
        keys = ((p, v, f"{t:.10g}") for p, views in self.matched.items() for v, ts in views.items() for t in ts)
        return [axes.cells[key] for key in keys if key in axes.cells]


class ImageScore(Written):
    semap: Share
    semf1: Share


class ImageMatches(Written):
    """One line of `matches.jsonl`."""

    image: str
    failure: str | None = None
    predictions: list[Said]
    truths: list[Said]
    pairs: list[Pair] = []
    scores: dict[str, dict[str, ImageScore]] = {}

    @model_validator(mode="after")
    def _inside(self) -> Self:
        for pair in self.pairs:
            if not (0 <= pair.p < len(self.predictions) and 0 <= pair.t < len(self.truths)):
                raise ValueError(f"pair ({pair.p}, {pair.t}) is of no prediction and truth of this image")
        return self

    def score(self, profile: str, view: str) -> tuple[float, float]:
        """METRICS of this image; zeros where none is written, as for a failed image."""
        found = self.scores.get(profile, {}).get(view)
        return (found.semap, found.semf1) if found else (0.0, 0.0)


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
        try:
            return ImageMatches.model_validate_json(_characters(line))
        except ValidationError as error:
            raise _unreadable(f"{self._path}, line {place + 1}", error) from error

    def __iter__(self) -> Iterator[ImageMatches]:
        return (self[place] for place in range(len(self)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def read_metrics(out: Path) -> Metrics:
    """The figures of a folder. UsageError that names the file and the place in it."""
    path = out / "metrics.json"
    with _opened(path) as file:
        try:
            return Metrics.model_validate_json(file.read())
        except ValidationError as error:
            raise _unreadable(str(path), error) from error


def _characters(line: bytes) -> bytes:
    """The line without halves of characters, which names of files can hold and which no page can show."""
    if b"\\ud" not in line:
        return line
    try:
        return json.dumps(json.loads(line), ensure_ascii=False).encode("utf-8", "replace")
    except ValueError:
        return line


def _opened(path: Path) -> Any:
    try:
        return path.open("rb")
    except OSError as error:
        raise UsageError(f"cannot read {path} ({error.strerror}); give the folder that `eval --out` wrote") from error


def _unreadable(where: str, error: ValidationError) -> UsageError:
    first = error.errors(include_url=False, include_input=False)[0]
    place = ".".join(str(part) for part in first["loc"]) or "the whole"
    return UsageError(f"{where}: {place}: {first['msg']}; write the folder anew with `eval`")
