"""What an image must keep to pass, and the result for one image.

>>> from anomreason.anomaly import Anomaly, Detection
>>> wrong = Anomaly(name="Six fingers", phenomenon="...", reasoning="...", severity=10)
>>> found = Detection(image="a.png", detector="tiny", status="ok", anomalies=(wrong,))
>>> judged(found, Limits(max_cap=1.5, min_severity=20)).reasons
("severity 10 of 'Six fingers' is below 20 (0 = completely implausible)",)
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from math import isfinite
from typing import Literal, get_args

from anomreason.anomaly import Anomaly, Detection, Failure, Record
from anomreason.errors import UsageError, shown
from anomreason.metrics.plausibility import image_plausibility

OnFailure = Literal["error", "reject", "pass"]
"""What an image is that could not be assessed: neither passed nor rejected, rejected, or passed."""
_ROUNDING = 1e-9


@dataclass(frozen=True, slots=True)
class Limits:
    """What an image must keep to pass; None: whatever it is."""

    max_cap: float | None = None
    """Highest CAP = MAI x AF, where MAI is the sum of (100 - severity) / 100 over its anomalies, AF their number."""
    min_severity: float | None = None
    """Lowest severity that an anomaly may have; 0 = completely implausible, 100 = fully realistic."""
    max_anomalies: int | None = None
    """Most anomalies."""
    on_failure: OnFailure = "error"

    @classmethod
    def of(cls, given: Mapping[str, object]) -> Limits:
        """Those among some keyword arguments. Raises UsageError for a value out of range, and when there is none."""
        names = [f.name for f in fields(cls)]
        limits = cls(**{name: given[name] for name in names if given.get(name) is not None})  # type: ignore[arg-type]
        if limits.on_failure not in get_args(OnFailure):
            raise UsageError(
                f"on_failure must be one of {', '.join(get_args(OnFailure))}, not {shown(limits.on_failure)}"
            )
        most = {"max_cap": float("inf"), "min_severity": 100.0, "max_anomalies": float("inf")}
        for name, largest in most.items():
            value = getattr(limits, name)
            if value is None:
                continue
            number = isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)
            if not number or not 0 <= value <= largest:
                to = "or more" if largest == float("inf") else f"to {largest:g}"
                raise UsageError(f"{name} must be a number of 0 {to}, not {shown(value)}")
        if all(getattr(limits, name) is None for name in most):
            raise UsageError(
                "no limit is given, so that every image would pass: give max_cap (--max-cap, e.g. 1.5), min_severity "
                "(--min-severity, e.g. 20) or max_anomalies (--max-anomalies); over HTTP in the address, ?max_cap=1.5"
            )
        return limits


class AssessedImage(Record):
    """How plausible one image is. The numbers are None when it could not be assessed, which is not flawless."""

    image: str
    """Its path as given; of an image in memory its name."""
    mai: float | None
    """Sum of (100 - severity) / 100 over its anomalies; 0 is flawless."""
    af: int | None
    """Number of its anomalies."""
    cap: float | None
    """MAI x AF; 0 is flawless."""
    worst: float | None
    """Lowest severity of its anomalies, 0 = completely implausible; None without anomalies, too."""
    anomalies: tuple[Anomaly, ...] = ()
    unassessed: str | None = None
    """Why it could not be assessed, for a person; None for an image that was."""
    failure: Failure | None = None

    @classmethod
    def of(cls, found: Detection) -> AssessedImage:
        """From a detection."""
        if why := _why_unassessed(found):
            nothing = dict.fromkeys(("mai", "af", "cap", "worst"))
            return cls(image=found.image, unassessed=why, failure=found.failure, **nothing)
        mai, af, cap = image_plausibility([a.severity for a in found.anomalies])
        return cls(image=found.image, mai=mai, af=af, cap=cap, worst=found.worst, anomalies=found.anomalies)


def _why_unassessed(found: Detection) -> str | None:
    if found.failure:
        return f"{found.failure.kind}: {found.failure.message}"
    if found.out_of_domain:
        return "the detector does not know images of this type"
    if found.description is not None:
        return "it was described and not searched for anomalies, since it was taken for a photograph"
    return None


class GateResult(AssessedImage):
    """Whether one image passes, and why not."""

    passed: bool | None
    """None when it could not be assessed, unless `on_failure` says otherwise."""
    reasons: tuple[str, ...] = ()
    """Each limit that it breaks, or why it could not be assessed."""

    def json_line(self) -> str:
        """One line of JSON; numbers of an image that was not assessed are null."""
        line = self.model_dump(mode="json", exclude={"passed", "reasons", "anomalies"})
        ordered = {"image": line.pop("image"), "pass": self.passed, "reasons": self.reasons, **line}
        assessed = self.unassessed is None
        anomalies = [a.model_dump(mode="json", exclude_defaults=True) for a in self.anomalies] if assessed else None
        return json.dumps({**ordered, "anomalies": anomalies}, ensure_ascii=False)


def judged(found: Detection, limits: Limits) -> GateResult:
    """The result for one detection. What the budget left undone is never passed or rejected."""
    assessed = AssessedImage.of(found)
    about = dict(assessed)
    if why := assessed.unassessed:
        undone = limits.on_failure == "error" or (found.failure is not None and found.failure.kind == "budget")
        return GateResult(
            **about, passed=None if undone else limits.on_failure == "pass", reasons=(f"not assessed: {why}",)
        )
    reasons = _reasons(assessed, limits)
    return GateResult(**about, passed=not reasons, reasons=reasons)


def _reasons(assessed: AssessedImage, limits: Limits) -> tuple[str, ...]:
    reasons = []
    if limits.max_cap is not None and (assessed.cap or 0) > limits.max_cap + _ROUNDING:
        reasons.append(f"CAP {assessed.cap:g} is above {limits.max_cap:g}")
    if limits.min_severity is not None:
        reasons += [
            f"severity {a.severity:g} of {a.name!r} is below {limits.min_severity:g} (0 = completely implausible)"
            for a in sorted(assessed.anomalies, key=lambda a: a.severity)
            if a.severity < limits.min_severity
        ]
    if limits.max_anomalies is not None and (assessed.af or 0) > limits.max_anomalies:
        reasons.append(f"{assessed.af} anomalies are more than {limits.max_anomalies}")
    return tuple(reasons)
