"""The card of a detector that tells AI images from photographs: its rows, and the page `report.html`.

The terminal shows the same rows in the same order. Whatever comes from a model or a file name is escaped.

    write_card_page(result, records, lambda record: CardImage(record, None), Path("judged"))
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, get_args

from markupsafe import Markup

from anomreason.anomaly import Anomaly
from anomreason.english import counted
from anomreason.evaluation.notices import deepfake_notices
from anomreason.evaluation.records import DeepfakeResult, JudgedImage, Outcome
from anomreason.files import write_atomically
from anomreason.images import browser_can_show
from anomreason.metrics.calibration import Calibration
from anomreason.metrics.image_scores import PROFILES
from anomreason.metrics.operating import OperatingCurve
from anomreason.metrics.published import SOURCE, published
from anomreason.report.figures import Mark, RocMark, reliability, roc
from anomreason.report.html import FAILURES, link, templates
from anomreason.stats import Estimate

MOST_SHOWN = 2_000
"""Images on the page; all stand in `judgements.jsonl`."""
MOST_EXPLAINED = 10
"""Explanations of one image that are shown."""
LONGEST_TEXT = 400
REFERENCE = ("Acc", "CSemAP_Phe", "CSemAP_Rea", "CSemAP_Full", "CSemF1_Phe", "CSemF1_Rea", "CSemF1_Full")
"""Columns of the paper's Table 2."""
_ORDER: tuple[Outcome, ...] = get_args(Outcome)
_ASSETS = ("report.css", "scores.css", "deepfake.css", "deepfake.js")


class CardRow(NamedTuple):
    """One number of the card."""

    name: str
    estimate: Estimate
    meaning: str


class PointRow(NamedTuple):
    """One operating point: recall at a rate of false alarms."""

    false_alarms: str
    recall: Estimate
    note: str
    """Its threshold, or why there is no recall."""


class ReferenceRow(NamedTuple):
    """One row of the paper's Table 2."""

    model: str
    values: tuple[float | None, ...]
    """In the order of `REFERENCE`; accuracy in percent."""


@dataclass(frozen=True, slots=True)
class CardImage:
    """One image of the page."""

    record: JudgedImage
    path: Path | None
    """None where the file is not found."""
    explanations: Sequence[Anomaly] = ()
    description: str | None = None
    reasons: Sequence[str] = ()
    """Why the second opinion rated each explanation so."""


def point_rows(curve: OperatingCurve) -> list[PointRow]:
    """The operating points, and the one of the detector's own answers."""
    rows = []
    for point in curve.points:
        note = point.why_not or f"score of at least {point.threshold:.4g}"
        if not point.why_not and point.threshold is None:
            note = "between the highest score and none"
        rows.append(PointRow(f"{100 * point.false_alarms:g} %", point.recall, note))
    alarms = curve.own.false_alarms
    if alarms.value is not None:
        ends = alarms.interval
        spread = f" ({100 * ends.low:.1f} to {100 * ends.high:.1f} %)" if ends else ""
        note = (
            f"its own answers; false alarms{spread} of {counted(alarms.n, 'photograph', 'photographs')} with an answer"
        )
        rows.append(PointRow(f"{100 * alarms.value:.1f} %", curve.own.recall, note))
    return rows


def curve_sentence(curve: OperatingCurve) -> str:
    """What the operating points rest on."""
    if curve.rests_on == "answers":
        return (
            "There is one point only, that of the detector's own answers: no score (p_generated) was given by which "
            "fewer false alarms could be chosen."
        )
    return (
        f"Thresholds are chosen on these very images ({counted(curve.fakes, 'AI image', 'AI images')} and "
        f"{counted(curve.photographs, 'photograph', 'photographs')} "
        "with a score), which the intervals allow for; between two scores the curve is a straight line."
    )


def number_rows(result: DeepfakeResult) -> list[CardRow]:
    """The other numbers, in the order of the card."""
    auroc = result.auroc
    rows = [
        CardRow("accuracy", result.accuracy, "judged right"),
        CardRow("  of those with an answer", result.judged_right, "judged right, where there is a judgement"),
        CardRow("balanced accuracy", result.balanced_accuracy, "mean of the next two; 0.5 by guessing"),
        CardRow("  fake recall", result.fake_recall, "AI images judged right"),
        CardRow("  real specificity", result.real_specificity, "photographs judged right"),
        CardRow("AUROC", auroc, _told("an AI image has the higher score than a photograph; 0.5 by guessing", auroc)),
    ]
    if result.calibration:
        rows += calibration_rows(result.calibration)
    return rows


def _told(meaning: str, one: Estimate) -> str:
    """The meaning, and why there is no interval where a reader would look for one."""
    if one.value is None or one.interval is not None or one.n < 2:
        return meaning
    return f"{meaning}; no interval, as resamples of the {one.n:,} images do not differ"


def calibration_rows(found: Calibration) -> list[CardRow]:
    return [
        CardRow(
            "Brier score",
            found.brier,
            f"squared error of the probability; lower is better, {found.constant_brier:.4f} by a constant",
        ),
        CardRow(
            "ECE",
            found.ece,
            f"probability off the share of AI images; up to {found.lucky_ece:.4f} by luck when perfectly calibrated",
        ),
    ]


def clean_rows(result: DeepfakeResult) -> list[CardRow]:
    """Images in which no anomaly shows what they are, and anomalies claimed where none is."""
    rows = []
    claimed = result.false_anomalies
    if (clean := result.clean) and clean.clean_fakes:
        rows += [
            CardRow("accuracy on clean images", clean.accuracy, "AI images without a true anomaly, and photographs"),
            CardRow("  balanced", clean.balanced_accuracy, "0.5 by guessing, and by going by anomalies alone"),
            CardRow("  clean AI images", clean.clean_recall, "judged right"),
            CardRow("  AI images with anomalies", clean.anomalous_recall, "judged right"),
            CardRow(
                "  anomalies claimed",
                clean.false_anomalies,
                _told("per clean AI image; all are false", clean.false_anomalies),
            ),
        ]
    return [
        *rows,
        CardRow("false anomalies", claimed, _told("anomalies claimed per photograph", claimed)),
        CardRow("  photographs with any", result.photographs_with_anomalies, "photographs in which one was claimed"),
    ]


def clean_sentence(result: DeepfakeResult) -> str:
    """What is known of clean images, where that is not all."""
    clean = result.clean
    if clean is None:
        return ""
    if not clean.clean_fakes:
        unknown = f"; {counted(clean.unsearched_fakes, 'has', 'have')} no annotation" if clean.unsearched_fakes else ""
        return f"The truth says of no AI image that it has no anomaly{unknown}: no accuracy on clean images."
    if clean.unsearched_fakes:
        further = counted(clean.unsearched_fakes, "further AI image", "further AI images")
        return f"Of {further} the truth does not say whether there are anomalies."
    return ""


def opinion_rows(result: DeepfakeResult) -> list[CardRow]:
    """What another model holds of the explanations."""
    if (found := result.opinion) is None:
        return []
    rows = [
        CardRow(
            "mean rating", found.mean, "1 = not true of the image, 5 = wholly true; mean of an image's explanations"
        ),
        CardRow("  judged right", found.right, "images that the detector judged right"),
        CardRow("  judged wrong", found.wrong, "the others"),
        CardRow("  AI images", found.fakes, ""),
        CardRow("  photographs", found.photographs, ""),
        CardRow("control", found.control, "the same explanations shown with other images"),
        CardRow("  difference", found.difference, "own image minus another one; above 0 if the judge looks"),
    ]
    for metric, one in found.agreement.items():
        name = {"semap": "SemAP", "semf1": "SemF1"}.get(metric, metric)
        meaning = f"Spearman's rho of an image's mean rating and its {name} against the truth's texts"
        rows.append(CardRow(f"agreement with {name}", Estimate(one.value, one.interval, one.n), meaning))
    return rows


def reference_rows() -> list[ReferenceRow]:
    """The paper's Table 2, which is of other images."""
    rows: dict[str, dict[str, float]] = {}
    for one in published(table=2):
        rows.setdefault(one.model, {})[one.metric] = one.value
    return [ReferenceRow(model, tuple(values.get(name) for name in REFERENCE)) for model, values in rows.items()]


def reference_sentence() -> str:
    accuracies = [row.values[0] for row in reference_rows() if row.values[0] is not None]
    return (
        f"For orientation only, as they are of another dataset: {SOURCE}, Table 2, has accuracies from "
        f"{min(accuracies):.1f} % to {max(accuracies):.1f} %, without false alarms or intervals."
    )


def write_card_page(
    result: DeepfakeResult, records: Sequence[JudgedImage], image_of: Callable[[JudgedImage], CardImage], out: Path
) -> Path:
    """Write `report.html` and what it loads into `out`; gives the path. image_of: asked for those that are shown."""
    shown = sorted(records, key=_worst_first)[:MOST_SHOWN]
    counts = Counter(one.outcome for one in records)
    page = (
        templates()
        .get_template("deepfake.html")
        .render(
            result=result,
            simulated=result.simulated,
            notices=deepfake_notices(result),
            points=point_rows(result.operating) if result.operating else [],
            sentence=curve_sentence(result.operating) if result.operating else "",
            curve=_roc(result.operating) if result.operating else None,
            reliability=_reliability(result.calibration) if result.calibration else None,
            numbers=number_rows(result),
            clean=clean_rows(result),
            clean_sentence=clean_sentence(result),
            opinion=opinion_rows(result),
            profiles=PROFILES,
            reference=reference_rows(),
            reference_columns=REFERENCE,
            source=SOURCE,
            images=[_shown(image_of(one), out) for one in shown],
            total=len(records),
            outcomes=[(name, n) for name in _ORDER if (n := counts[name])],
        )
    )
    (out / "report").mkdir(parents=True, exist_ok=True)
    for name in _ASSETS:
        write_atomically(out / "report" / name, (files(__package__) / "templates" / name).read_text("utf-8"))
    write_atomically(out / "report.html", page)
    return out / "report.html"


class RenderedImage(NamedTuple):
    """One image as the template takes it."""

    record: JudgedImage
    css: str
    address: str | None
    explanations: list[tuple[str, str, str, int | None, str]]
    """Name, phenomenon, reasoning, rating, and why it was rated so."""
    more: int
    """Explanations that are not shown."""
    failure: str
    rating: float | None


def _shown(one: CardImage, out: Path) -> RenderedImage:
    path, record = one.path, one.record
    texts = [(a.name, a.phenomenon, a.reasoning) for a in one.explanations]
    texts += [("Description", one.description, "")] if one.description is not None else []
    rated = [*record.ratings, *[None] * (len(texts) - len(record.ratings))]
    why = [*one.reasons, *[""] * (len(texts) - len(one.reasons))]
    explanations = [
        (_cut(name), _cut(phenomenon), _cut(reasoning), rating, _cut(reason))
        for (name, phenomenon, reasoning), rating, reason in zip(texts, rated, why, strict=False)
    ]
    kind = record.failure or ""
    return RenderedImage(
        record=record,
        css=record.outcome.replace(" ", "-"),
        address=link(path, out) if path is not None and _shows(path) else None,
        explanations=explanations[:MOST_EXPLAINED],
        more=max(len(explanations) - MOST_EXPLAINED, 0),
        failure=FAILURES.get(kind, (kind.replace("_", " "), ""))[0],
        rating=sum(record.ratings) / len(record.ratings) if record.ratings else None,
    )


def _shows(path: Path) -> bool:
    try:
        return path.is_file() and browser_can_show(path)  # not of an archive
    except OSError:
        return False


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_TEXT else f"{text[: LONGEST_TEXT - 1]}…"


def _worst_first(record: JudgedImage) -> tuple[int, float, str]:
    """Wrong and sure first, right and sure last."""
    sure = 0.0 if record.p_generated is None else abs(record.p_generated - 0.5)
    place = _ORDER.index(record.outcome)
    return (0 if place == 1 else place), sure if record.outcome == "right" else -sure, os.fspath(record.image)


def _roc(curve: OperatingCurve) -> Markup:
    marks = [
        RocMark(
            point.false_alarms,
            point.recall.value,
            f"{100 * point.false_alarms:g} % false alarms: recall {point.recall.value:.3f}",
            y_ends=point.recall.interval,
        )
        for point in curve.points
        if point.recall.value is not None
    ]
    own = curve.own
    if own.false_alarms.value is not None and own.recall.value is not None:
        says = f"its own answers: {own.false_alarms.value:.3f} false alarms, recall {own.recall.value:.3f}"
        ends = own.false_alarms.interval, own.recall.interval
        marks.append(RocMark(own.false_alarms.value, own.recall.value, says, *ends, own=True))
    return roc(curve.vertices, curve.band, marks)


def _reliability(found: Calibration) -> Markup:
    return reliability(
        [
            (one.mean_p, Mark(one.generated.value or 0.0, counted(one.n, "image", "images"), one.generated.interval))
            for one in found.bins
        ]
    )
