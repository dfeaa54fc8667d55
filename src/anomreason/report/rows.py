"""A run as rows of plain values, for pandas and other tables.

import anomreason, pandas
pandas.DataFrame(anomreason.rows("runs/photos"))
pandas.DataFrame(anomreason.rows("runs/photos", each="anomaly"))
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from anomreason.anomaly import Detection
from anomreason.errors import UsageError, shown
from anomreason.metrics.plausibility import image_plausibility
from anomreason.runs import iter_results

Row: TypeAlias = "dict[str, str | int | float | bool | None]"


def rows(
    results: str | Path | Detection | Sequence[Detection], each: Literal["image", "anomaly"] = "image"
) -> list[Row]:
    """One row an image, or one row an anomaly.

    results: a run folder, or what `detect` has given. each: only rows of images show failed and clean images, whose
    numbers are None where nothing is known; rows of anomalies have no place for them.
    Raises UsageError for a folder that holds no run.
    """
    if each not in ("image", "anomaly"):
        raise UsageError(f"each must be 'image' or 'anomaly', not {shown(each)}")
    make = _of_image if each == "image" else _of_anomalies
    return [row for detection in _detections(results) for row in make(detection)]


def _detections(results: str | Path | Detection | Sequence[Detection]) -> Iterable[Detection]:
    if isinstance(results, str | Path):
        return iter_results(Path(results))
    return [results] if isinstance(results, Detection) else results


def _of_image(found: Detection) -> Iterator[Row]:
    searched = found.failure is None and not found.out_of_domain and found.description is None
    scores = image_plausibility([a.severity for a in found.anomalies]) if searched else None
    used = found.usage
    yield {
        "image": found.image,
        "sha256": found.sha256,
        "detector": found.detector,
        "status": found.status,
        "failure": found.failure.kind if found.failure else None,
        "message": found.failure.message if found.failure else None,
        "out_of_domain": found.out_of_domain,
        "anomalies": scores.af if scores else None,
        "worst_severity": found.worst,
        "dropped": sum(c.dropped is not None for c in found.candidates),
        "mai": scores.mai if scores else None,
        "cap": scores.cap if scores else None,
        "description": found.description,
        "source": found.source.answer if found.source else None,
        "p_generated": found.p_generated,
        "calls": used.calls,
        "prompt_tokens": used.prompt_tokens,
        "completion_tokens": used.completion_tokens,
        "cost": used.cost,
        "seconds": found.seconds,
    }


def _of_anomalies(found: Detection) -> Iterator[Row]:
    for number, anomaly in enumerate(found.anomalies):
        basis = anomaly.basis
        box = anomaly.region.box if anomaly.region else (None,) * 4
        yield {
            "image": found.image,
            "detector": found.detector,
            "number": number,
            "name": anomaly.name,
            "severity": anomaly.severity,
            "kind": anomaly.kind,
            "phenomenon": anomaly.phenomenon,
            "reasoning": anomaly.reasoning,
            "objects": ", ".join(anomaly.objects),
            "role": basis.role if basis else None,
            "step": basis.step if basis else None,
            "score": basis.score if basis else None,
            "reason": basis.reason if basis else None,
            **dict(zip(("x0", "y0", "x1", "y1"), box, strict=True)),
        }
