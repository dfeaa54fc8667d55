"""What passes and what does not, at the limits and for images that could not be assessed."""

import json
from typing import Any

import pytest

from anomreason.anomaly import Anomaly, Detection, Failure
from anomreason.errors import UsageError
from anomreason.gating.limits import AssessedImage, Limits, judged


def found(*severities: float, **fields: Any) -> Detection:
    anomalies = tuple(Anomaly(name=f"At {s:g}", phenomenon="p", reasoning="r", severity=s) for s in severities)
    return Detection(image="a.png", detector="d", **{"status": "ok", "anomalies": anomalies, **fields})


def failed(kind: Any = "endpoint") -> Detection:
    return found(status="failed", failure=Failure(kind=kind, message="gone"))


@pytest.mark.parametrize(
    ("severities", "limits", "reasons"),
    [
        ((), {"max_cap": 0, "min_severity": 100, "max_anomalies": 0}, ()),
        ((20,), {"max_cap": 0.8}, ()),
        ((20,), {"max_cap": 0.79}, ("CAP 0.8 is above 0.79",)),
        ((20, 60), {"max_cap": 2.4}, ()),
        ((90, 90, 90), {"max_cap": 0.9}, ()),  # 0.1 + 0.1 + 0.1 is a little more than 0.3
        ((20,), {"min_severity": 20}, ()),
        ((19.5, 3), {"min_severity": 20}, ("severity 3 of 'At 3' is below 20", "severity 19.5 of 'At 19.5'")),
        ((50, 50), {"max_anomalies": 2}, ()),
        ((50, 50), {"max_anomalies": 1}, ("2 anomalies are more than 1",)),
        ((0, 0), {"max_cap": 1, "min_severity": 1, "max_anomalies": 1}, ("CAP 4", "severity 0", "severity 0", "2 ano")),
    ],
)
def test_an_image_passes_that_keeps_every_limit(
    severities: tuple[float, ...], limits: dict[str, Any], reasons: tuple[str, ...]
) -> None:
    result = judged(found(*severities), Limits.of(limits))
    assert result.passed is (not reasons)
    assert len(result.reasons) == len(reasons)
    assert all(reason.startswith(start) for reason, start in zip(result.reasons, reasons, strict=True))


def test_the_numbers_are_those_of_plausibility_by_hand() -> None:
    result = AssessedImage.of(found(20, 60))
    assert (result.mai, result.af, result.cap, result.worst) == (1.2, 2, 2.4, 20)
    clean = AssessedImage.of(found())
    assert (clean.mai, clean.af, clean.cap, clean.worst) == (0, 0, 0, None)


@pytest.mark.parametrize("detection", [failed(), found(out_of_domain=True), found(description="A street.")])
@pytest.mark.parametrize(("on_failure", "passed"), [("error", None), ("reject", False), ("pass", True)])
def test_what_could_not_be_assessed_passes_only_where_that_is_asked_for(
    detection: Detection, on_failure: str, passed: bool | None
) -> None:
    result = judged(detection, Limits.of({"max_cap": 100, "on_failure": on_failure}))
    assert result.passed is passed
    assert (result.mai, result.af, result.cap, result.worst) == (None, None, None, None)
    assert len(result.reasons) == 1
    assert result.reasons[0].startswith("not assessed")
    line = json.loads(result.json_line())
    assert (line["pass"], line["cap"], line["anomalies"]) == (passed, None, None)


@pytest.mark.parametrize("on_failure", ["error", "reject", "pass"])
def test_what_the_budget_left_undone_is_neither_passed_nor_rejected(on_failure: str) -> None:
    assert judged(failed("budget"), Limits.of({"max_cap": 1, "on_failure": on_failure})).passed is None


def test_a_line_of_json_holds_the_verdict_the_numbers_and_the_anomalies() -> None:
    line = json.loads(judged(found(20), Limits(min_severity=30)).json_line())
    assert list(line)[:3] == ["image", "pass", "reasons"]
    assert (line["image"], line["pass"], line["mai"], line["af"], line["cap"]) == ("a.png", False, 0.8, 1, 0.8)
    assert (line["worst"], line["failure"], line["unassessed"]) == (20.0, None, None)
    assert line["anomalies"] == [{"name": "At 20", "phenomenon": "p", "reasoning": "r", "severity": 20.0}]


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({}, "no limit is given, so that every image would pass: give max_cap"),
        ({"max_cap": None, "on_failure": "reject"}, "no limit is given"),
        ({"max_cap": -1}, "max_cap must be a number of 0 or more, not -1"),
        ({"max_cap": float("nan")}, "max_cap must be a number"),
        ({"min_severity": 101}, "min_severity must be a number of 0 to 100, not 101"),
        ({"max_anomalies": "2"}, "max_anomalies must be a number of 0 or more, not '2'"),
        ({"max_anomalies": True}, "max_anomalies must be a number"),
        ({"max_cap": 1, "on_failure": "skip"}, "on_failure must be one of error, reject, pass, not 'skip'"),
    ],
)
def test_limits_that_make_no_sense_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError) as refused:
        Limits.of(given)
    assert says in str(refused.value)
