"""Facts about reading what the steps answer: strict, and never a guess."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomreason.agent import forms, replies
from anomreason.agent.boxes import BoxReader
from anomreason.agent.source import read_source
from anomreason.errors import ParseError

FOUND = {"name": "n", "phenomenon": "p", "reasoning": "r", "objects": ["o"]}
ANOMALY = {**FOUND, "severity": 10, "box": [0, 0, 500, 1000], "from": [1]}
CHECK = {"id": 1, "score": 80, "reason": "x"}

READERS: list[Any] = [
    replies.read_objects,
    replies.read_proposals,
    replies.inspection_reader(["cup"]),
    replies.checks_reader([1]),
    replies.reviewed_reader([1]),
    replies.report_reader([1]),
    replies.checked_report_reader([1]),
    replies.read_single,
    read_source,
    replies.read_prose,
]


@given(st.one_of(st.text(), st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps)))
def test_whatever_a_model_says_nothing_but_a_parse_error_is_raised(text: str) -> None:
    for read in READERS:
        said: list[str] = []
        try:
            read(text)
        except ParseError as e:
            said.append(str(e))
        assert "" not in said


def test_an_empty_list_needs_its_word() -> None:
    assert replies.read_proposals('{"findings": [], "nothing_found": true}') == ()
    assert replies.read_single('{"anomalies": [], "no_anomalies": true}') == ()
    assert replies.read_single("No anomalies.") == ()
    for read, text in [
        (replies.read_proposals, {"findings": [], "nothing_found": False}),
        (replies.read_proposals, {"findings": [FOUND], "nothing_found": True}),
        (replies.read_single, {"anomalies": [], "no_anomalies": False}),
        (replies.read_single, {"anomalies": []}),
        (replies.report_reader([1]), {"anomalies": [], "no_anomalies": False}),
    ]:
        with pytest.raises(ParseError):
            read(json.dumps(text))


def test_every_asked_object_and_every_id_must_be_spoken_of() -> None:
    inspection = {"object": "Cup", "look": "x", "findings": []}
    read = replies.inspection_reader(["cup"])
    assert read(json.dumps({"objects": [inspection]}))[0].object == "cup"
    with pytest.raises(ParseError, match="'lamp'"):
        replies.inspection_reader(["cup", "lamp"])(json.dumps({"objects": [inspection]}))
    for checks in ([], [CHECK, CHECK], [CHECK, {**CHECK, "id": 2}]):
        with pytest.raises(ParseError, match="exactly once"):
            replies.checks_reader([1])(json.dumps({"checks": checks}))
    with pytest.raises(ParseError, match=r"ids \[7\]"):
        replies.report_reader([1])(json.dumps({"anomalies": [{**ANOMALY, "from": [7]}], "no_anomalies": False}))


@pytest.mark.parametrize("severity", [-1, 101, "150/100", "high", None, "3/10", True])
def test_a_severity_out_of_range_is_no_severity(severity: object) -> None:
    with pytest.raises(ParseError, match="severity"):
        replies.read_single(json.dumps({"anomalies": [{**ANOMALY, "severity": severity}], "no_anomalies": False}))


def test_a_box_that_makes_no_sense_is_left_out_and_a_sound_one_kept() -> None:
    def region(box: object) -> object:
        text = json.dumps({"anomalies": [{**ANOMALY, "box": box}], "no_anomalies": False})
        return replies.read_single(text, boxes=BoxReader((640, 480), "sim:truth"))[0].region

    kept = region([0, 0, 500, 1000])
    assert kept is not None
    for odd in (
        None,
        [],
        [5, 5, 5, 9],
        [0, 0, 1400, 900],
        ["a", 0, 1, 2],
        {"x": 1},
        [True, 0, 5, 5],
        [0, 0, 5e-324, 9],
    ):
        assert region(odd) is None


def test_equal_names_are_told_apart() -> None:
    item = {"name": "man", "description": "", "person": True, "box": None}
    read = replies.read_objects(json.dumps({"objects": [item, {**item, "name": "Man"}, item]}))
    assert [o.name for o in read] == ["man", "Man #2", "man #3"]


def test_a_text_that_is_too_long_is_shortened_with_a_note() -> None:
    notes: forms.Notes = []
    (item,) = replies.inspection_reader(["cup"])(
        json.dumps({"objects": [{"object": "cup", "look": "It is whole. " * 90, "findings": []}]}), notes
    )
    assert len(item.look) == 800
    assert item.look.startswith("It is whole. It is whole.")
    assert notes == ["the text 'look' of a reply was shortened to 800 characters"]
