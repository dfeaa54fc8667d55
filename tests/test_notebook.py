"""The card that a notebook shows: escaped, with the direction of severity, and plain about failures."""

import re
from xml.etree import ElementTree

import pytest

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
)
from anomreason.notebook import CardEntry, card_html

EVIL = '<script>alert("1")</script>&\'"'


def test_whatever_a_model_says_is_escaped_and_the_card_is_well_formed() -> None:
    anomaly = Anomaly(
        name=EVIL, phenomenon=EVIL, reasoning=EVIL, severity=5, region=Region(x0=0.25, y0=0, x1=0.5, y1=1)
    )
    sent = SentImage(mime="image/png", width=400, height=200, bytes=1)
    found = Detection(image=EVIL, detector=EVIL, status="ok", anomalies=(anomaly,), sent=sent)
    card = found._repr_html_()
    tree = ElementTree.fromstring(card.replace("<br>", "<br/>"))
    assert "<script" not in card
    assert {element.tag for element in tree.iter()} == {
        *("div", "b", "i", "br", "table", "tr", "td", "svg", "path", "rect", "text")
    }
    assert "".join(tree.itertext()).count(EVIL) == 5
    (rect,) = tree.iter("rect")
    assert [rect.get(name) for name in ("x", "y", "width", "height")] == ["40.0", "0.0", "40.0", "80.0"]
    assert "severity: 0 = completely implausible, 100 = fully realistic" in card


def test_the_worst_comes_first_and_long_lists_are_cut_and_counted() -> None:
    entries = [CardEntry(f"at {s}", s, "p", "r", (0.1, 0.1, 0.2, 0.2)) for s in range(60, 0, -1)]
    card = card_html("a.png", "60 anomalies", entries, (10, 100_000))
    assert re.findall(r"<b>at (\d+)</b>", card)[:2] == ["1", "2"]
    assert "and 10 more" in card
    assert card.count("<rect") == 50


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"failure": Failure(kind="refused", message="no")}, "failed (refused), which is not a clean image: no"),
        ({"out_of_domain": True}, "the detector does not know images of this type"),
        ({"description": "A street."}, "A street."),
        ({}, "searched, no anomalies found"),
        ({"source": SourceJudgement(answer="unsure")}, "source: unsure"),
        ({"source_only": True}, "not searched for anomalies"),
    ],
)
def test_an_image_without_anomalies_says_why(fields: dict[str, object], says: str) -> None:
    status = "failed" if "failure" in fields else "ok"
    found = Detection.model_validate({"image": "a.png", "detector": "d", "status": status, **fields})
    assert says in found._repr_html_()
    assert "<svg" not in found._repr_html_()


def test_the_check_of_an_anomaly_and_what_was_dropped_are_told_escaped() -> None:
    basis = Basis(role="AttributeAnalyzer", step="inspect", score=85, reason=EVIL)
    kept = Anomaly(name="Three hands", phenomenon="p", reasoning="r", severity=5, basis=basis)
    gone = Candidate(name=EVIL, phenomenon="p", reasoning="r", role="a", step="s", score=20, dropped="a reflection")
    woman = SceneObject(name="woman", counts=(PartCount(part="hands", count=3),))
    found = Detection(image="a.png", detector="d", status="ok", anomalies=(kept,), candidates=(gone,), objects=(woman,))
    words = "".join(ElementTree.fromstring(found._repr_html_().replace("<br>", "<br/>")).itertext())
    assert f"AttributeAnalyzer, inspect; check: score 85 of 100: {EVIL}" in words
    assert f"Dropped candidates: 1{EVIL} (score 20 of 100): a reflection" in words
    assert "woman: hands 3" in words
