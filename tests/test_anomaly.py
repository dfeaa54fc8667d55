"""The nouns: what a record accepts, how it travels as JSON, and the maths of regions."""

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from anomreason.anomaly import (
    Anomaly,
    Basis,
    Candidate,
    Detection,
    Failure,
    PartCount,
    Region,
    SceneObject,
    SentImage,
    SourceJudgement,
    Usage,
)

FINGERS = Anomaly(name="Six fingers", phenomenon="The left hand has six.", reasoning="Hands have five.", severity=5)
HALF = Region(x0=0, y0=0, x1=0.5, y1=1)
FAILED = Failure(kind="truncated", message="the reply was cut at 8192 tokens")


@st.composite
def regions(draw: st.DrawFn) -> Region:
    x0, y0 = draw(st.floats(0, 0.9)), draw(st.floats(0, 0.9))
    return Region(x0=x0, y0=y0, x1=draw(st.floats(x0 + 0.01, 1)), y1=draw(st.floats(y0 + 0.01, 1)))


@pytest.mark.parametrize(
    "record",
    [
        FINGERS.model_copy(update={"objects": ("woman",), "region": HALF, "severity": 12.5}),
        FINGERS.model_copy(
            update={"basis": Basis(role="AttributeAnalyzer", step="inspect", score=85, candidates=(0,))}
        ),
        SceneObject(name="woman", person=True, region=HALF, agreement=0.75, counts=(PartCount(part="hands", count=3),)),
        Candidate(name="a", phenomenon="b", reasoning="c", role="RelationReasoner", step="scan", dropped="seen twice"),
        Usage(calls=2, prompt_tokens=900, completion_tokens=80, cost=0.004),
        Detection(
            image="a.jpg",
            detector="gpt-4o lean",
            status="ok",
            anomalies=(FINGERS,),
            sent=SentImage(mime="image/png", width=64, height=64, bytes=99, notes=("first of 12 frames",)),
        ),
        Detection(
            image="b.jpg",
            detector="x",
            status="ok",
            source=SourceJudgement(answer="unsure", p_generated=0.5, samples=4),
        ),
        Detection(image="c.jpg", detector="x", status="ok", source=SourceJudgement(failure=FAILED)),
        Detection(image="ü/\u2028.jpg", detector="x", status="failed", failure=FAILED, candidates=()),
    ],
)
def test_a_record_survives_json(record: BaseModel) -> None:
    line = record.model_dump_json()
    assert "\n" not in line
    assert type(record).model_validate_json(line) == record


@pytest.mark.parametrize("field", ["name", "phenomenon", "reasoning"])
@pytest.mark.parametrize("text", ["", " \n\t", None, 5])
def test_an_anomaly_needs_each_text(field: str, text: object) -> None:
    with pytest.raises(ValidationError, match=field):
        Anomaly.model_validate(FINGERS.model_dump() | {field: text})


@pytest.mark.parametrize("severity", [-0.1, 100.1, float("nan"), float("inf"), "high", None])
def test_severity_lies_within_0_and_100(severity: object) -> None:
    with pytest.raises(ValidationError, match="severity"):
        Anomaly.model_validate(FINGERS.model_dump() | {"severity": severity})


@pytest.mark.parametrize(("severity", "implausibility"), [(0, 1), (100, 0), (25, 0.75)])
def test_severity_0_is_the_least_plausible(severity: float, implausibility: float) -> None:
    anomaly = FINGERS.model_copy(update={"severity": severity})
    assert anomaly.implausibility == implausibility


def test_texts_are_trimmed_and_a_blank_object_is_refused() -> None:
    assert Anomaly(name="  a\n", phenomenon="b ", reasoning="c", severity=1).name == "a"
    with pytest.raises(ValidationError, match="objects"):
        Anomaly.model_validate(FINGERS.model_dump() | {"objects": [" "]})


def test_records_are_frozen_and_take_no_unknown_field() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        FINGERS.severity = 7  # type: ignore[misc]
    with pytest.raises(ValidationError, match="colour"):
        Anomaly.model_validate(FINGERS.model_dump() | {"colour": "red"})


def test_repr_leaves_out_what_is_not_known() -> None:
    assert "region" not in repr(FINGERS)
    assert "objects" not in repr(FINGERS)
    assert "severity=5.0" in repr(FINGERS)


@pytest.mark.parametrize("box", [(0.5, 0, 0.5, 1), (0.6, 0, 0.5, 1), (0, 1, 1, 0), (-0.1, 0, 1, 1), (0, 0, 1, 1.1)])
def test_a_region_has_a_size_and_lies_in_the_image(box: tuple[float, float, float, float]) -> None:
    with pytest.raises(ValidationError):
        Region(x0=box[0], y0=box[1], x1=box[2], y1=box[3])


def test_region_maths_by_hand() -> None:
    right = Region(x0=0.25, y0=0, x1=1, y1=0.5)
    assert HALF.area == 0.5
    # Shared: 0.25 x 0.5 = 0.125; together: 0.5 + 0.375 - 0.125 = 0.75.
    assert HALF.iou(right) == pytest.approx(0.125 / 0.75)
    assert HALF.union(right) == Region(x0=0, y0=0, x1=1, y1=1)
    assert HALF.iou(Region(x0=0.5, y0=0, x1=1, y1=1)) == 0


@given(regions(), regions())
def test_iou_is_a_symmetric_share_and_union_holds_both(a: Region, b: Region) -> None:
    assert a.iou(b) == pytest.approx(b.iou(a))
    assert 0 <= a.iou(b) <= 1 + 1e-9
    assert a.iou(a) == pytest.approx(1)
    assert a.union(b).area >= max(a.area, b.area) - 1e-12


@pytest.mark.parametrize(
    ("status", "failure", "anomalies"), [("failed", None, ()), ("ok", FAILED, ()), ("failed", FAILED, (FINGERS,))]
)
def test_a_failed_detection_has_a_failure_and_no_anomalies(
    status: str, failure: Failure | None, anomalies: tuple[Anomaly, ...]
) -> None:
    fields = {"image": "a.jpg", "detector": "x", "status": status, "failure": failure, "anomalies": anomalies}
    with pytest.raises(ValidationError, match="failed detection"):
        Detection.model_validate(fields)


def test_a_description_stands_alone() -> None:
    described = Detection(image="a.jpg", detector="d", status="ok", description="A dog on a lawn.")
    assert Detection.model_validate_json(described.json_line()) == described
    anomaly = Anomaly(name="n", phenomenon="p", reasoning="r", severity=1)
    for beside in ({"anomalies": (anomaly,)}, {"status": "failed", "failure": Failure(kind="refused", message="no")}):
        with pytest.raises(ValidationError, match="a description has neither"):
            Detection.model_validate({**described.model_dump(), **beside})


@pytest.mark.parametrize(
    ("source", "generated", "label"),
    [
        (None, None, None),
        ({"answer": "generated"}, True, "AI-generated"),
        ({"answer": "photograph"}, False, "not AI-generated"),
        ({"answer": "unsure"}, None, "unsure"),
        ({"failure": {"kind": "unparsable", "message": "m"}}, None, "not known (unparsable)"),
    ],
)
def test_unsure_lost_and_never_asked_are_three_things(
    source: dict[str, object] | None, generated: bool | None, label: str | None
) -> None:
    line = json.dumps({"image": "a.jpg", "detector": "x", "status": "ok", "source": source})
    found = Detection.model_validate_json(line)
    assert found.generated is generated
    assert (found.source and found.source.label) == label


@pytest.mark.parametrize("source", [{}, {"answer": "unsure", "failure": {"kind": "refused", "message": "m"}}])
def test_a_source_judgement_is_an_answer_or_a_failure(source: dict[str, object]) -> None:
    with pytest.raises(ValidationError, match="either an answer or a failure"):
        SourceJudgement.model_validate(source)


def test_lines_of_earlier_versions_are_read() -> None:
    base = {"image": "a.jpg", "detector": "x", "status": "ok"}
    lines = ({"generated": True, "p_generated": 0.9}, {"generated": False}, {"p_generated": 0.5}, {"generated": None})
    found = [Detection.model_validate(base | line).source for line in lines]
    assert found == [
        SourceJudgement(answer="generated", p_generated=0.9),
        SourceJudgement(answer="photograph"),
        SourceJudgement(answer="unsure", p_generated=0.5),
        None,
    ]
    with pytest.raises(ValidationError, match="generated"):
        Detection.model_validate(base | {"generated": "yes"})
    texts = {"name": "a", "phenomenon": "b", "reasoning": "c"}
    line = {
        "anomalies": [texts | {"severity": 5}],
        "candidates": [
            texts | {"role": "RelationReasoner", "step": "inspect", "score": 20, "dropped": "it is a glove"}
        ],
        "objects": [{"name": "hand"}],
    }
    old = Detection.model_validate(base | line)
    assert (old.anomalies[0].basis, old.objects[0].counts) == (None, ())
    assert (old.candidates[0].sure, old.candidates[0].innocent, old.candidates[0].reason) == (None, None, None)


def test_the_worst_anomaly_is_that_of_the_lowest_severity() -> None:
    milder = FINGERS.model_copy(update={"severity": 60.0})
    assert Detection(image="a", detector="x", status="ok", anomalies=(milder, FINGERS)).worst == 5
    assert Detection(image="a", detector="x", status="ok").worst is None


def test_usage_adds_up_and_keeps_unknown_prices_apart() -> None:
    known, unknown = Usage(calls=1, prompt_tokens=10, completion_tokens=5, cost=0.5), Usage(calls=1, cached_tokens=3)
    assert (known + unknown) == Usage(calls=2, prompt_tokens=10, cached_tokens=3, completion_tokens=5, cost=0.5)
    assert (known + known).cost == 1.0
    assert (unknown + unknown).cost is None
    assert known.tokens == 15


TRIANGLE = ((0.1, 0.2), (0.5, 0.2), (0.3, 0.75))


def test_kind_and_polygon_survive_json_and_are_not_written_when_unset() -> None:
    region = Region.from_polygon(TRIANGLE)
    assert region.box == (0.1, 0.2, 0.5, 0.75)
    full = FINGERS.model_copy(update={"kind": "anatomy", "region": region})
    detection = Detection(image="a.jpg", detector="x", status="ok", anomalies=(full, FINGERS))
    line = detection.json_line()
    assert Detection.model_validate_json(line) == detection
    first, second = json.loads(line)["anomalies"]
    assert first["kind"] == "anatomy"
    assert first["region"]["polygon"] == [[0.1, 0.2], [0.5, 0.2], [0.3, 0.75]]
    assert second.keys() == {"name", "phenomenon", "reasoning", "severity"}
    assert HALF.model_dump(exclude_defaults=True).keys() == {"x0", "y0", "x1", "y1"}


def test_a_region_is_also_read_from_a_list() -> None:
    assert Region.model_validate([0, 0, 0.5, 1]) == HALF
    for wrong in ([0, 0, 1], [0, 0, True, 1], [0, 0, "1", 1], [0, 0, 1, 1, 1], []):
        with pytest.raises(ValidationError, match=r"write \[x0, y0, x1, y1\]"):
            Region.model_validate(wrong)


@pytest.mark.parametrize(
    ("points", "message"),
    [
        ((), "at least 3 items"),
        (TRIANGLE[:2], "at least 3 items"),
        (((0.1, 0.2), (0.5, 1.01), (0.3, 0.7)), "less than or equal to 1"),
        (((-0.1, 0.2), (0.5, 0.2), (0.3, 0.7)), "greater than or equal to 0"),
        (((0.1, 0.2), (0.5, math.nan), (0.3, 0.7)), "less than or equal to 1|greater than or equal to 0"),
        (((0.1, 0.2), (0.5, math.inf), (0.3, 0.7)), "less than or equal to 1"),
        (((0.1, 0.2),) * 3, "x0 < x1 and y0 < y1"),
        (((0.1, 0.2), (0.5, 0.2), (0.3, 0.2)), "x0 < x1 and y0 < y1"),
        (tuple((n / 10_000, n**2 % 10_000 / 10_000) for n in range(10_000)), "at most 2000 items"),
    ],
)
def test_an_outline_that_is_none_is_refused(points: tuple[tuple[float, float], ...], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Region.from_polygon(points)


@pytest.mark.parametrize(
    ("polygon", "message"),
    [
        (TRIANGLE, "not the bounding box"),
        ([[0, 0], [0.5, 1], [math.nan, 0]], "polygon.2.0"),
        ([[0, 0], [0.5, 1, 7], [0.5, 0]], "polygon.1"),
        ([[0, 0], [0.5, 1], "x"], "polygon.2"),
        ("outline", "polygon"),
    ],
)
def test_a_polygon_that_does_not_fit_its_box_or_is_none_is_refused(polygon: object, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        Region.model_validate({"x0": 0, "y0": 0, "x1": 0.5, "y1": 1, "polygon": polygon})


@pytest.mark.parametrize("kind", ["", " ", 7, "x" * 101, ["anatomy"]])
def test_a_kind_is_a_short_label(kind: object) -> None:
    with pytest.raises(ValidationError, match="kind"):
        Anomaly.model_validate(FINGERS.model_dump() | {"kind": kind})


def test_one_estimated_call_makes_a_sum_estimated() -> None:
    counted, guessed = Usage(calls=1, prompt_tokens=5), Usage(calls=1, prompt_tokens=7, estimated=True)
    assert (counted + counted).estimated is False
    assert (counted + guessed) == Usage(calls=2, prompt_tokens=12, estimated=True)


@pytest.mark.parametrize(("answer", "written"), [("generated", True), ("photograph", False), ("unsure", None)])
def test_a_line_says_the_source_also_as_one_value(answer: str, written: bool | None) -> None:
    line = {"image": "a", "detector": "d", "status": "ok", "source": {"answer": answer, "p_generated": 0.5}}
    found = Detection.model_validate(line)
    assert json.loads(found.json_line()).get("generated") is written
    assert Detection.model_validate_json(found.json_line()) == found
