"""The text form: what is written is read back equal, and every shape of reply is read or refused, never guessed."""

import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from anomreason.anomaly import Anomaly, Region
from anomreason.errors import ParseError
from anomreason.files import parse_json
from anomreason.textform import (
    anomaly_from_mapping,
    find_json,
    read_anomalies,
    read_severity,
    says_no_anomalies,
    write_anomalies,
)

FINGERS = Anomaly(name="Six fingers", phenomenon="The left hand has six.", reasoning="Hands have five.", severity=5)
CLOCK = Anomaly(name="Two-faced clock", phenomenon="It shows two faces.", reasoning="Clocks have one.", severity=25)
BOTH = (FINGERS, CLOCK)
ENTRY = {
    "Name": "Six fingers",
    "Observed Phenomenon": "The left hand has six.",
    "Reasoning": "Hands have five.",
    "Severity Score": "5/100 (highly unrealistic)",
}

PIECES = st.sampled_from(
    [
        *("\n", "\r\n", "\x0b", "\x0c", "\x1c", "\x1f", "\x85", "\u2028", "\t", "\0", "\\", "\\n", "\\u2028", " "),
        *("Name: x", "\n@2. Name: ", "Phenomenon:", "Reasoning: ", "Severity Score: 20", " - Phenomenon: y", "@1."),
        *("```json\n", '[{"Name": "x"}]', '{"anomalies": []}', "<think>", "</think>", "No anomalies.", "**", "\xa0"),
    ]
)
MESSES = st.lists(st.one_of(PIECES, st.text(max_size=8)), max_size=12).map("".join)


@st.composite
def anomalies(draw: st.DrawFn) -> Anomaly:
    texts = st.lists(st.one_of(PIECES, st.text(st.characters(exclude_categories=["Cs"]), max_size=8)), max_size=6)
    name, phenomenon, reasoning = (draw(texts.map("".join).filter(lambda t: t.strip())) for _ in range(3))
    severity = draw(st.one_of(st.integers(0, 100), st.floats(0, 100)))
    return Anomaly(name=name, phenomenon=phenomenon, reasoning=reasoning, severity=severity)


# --- written and read back


def test_the_written_form_is_four_lines_an_anomaly() -> None:
    assert write_anomalies(BOTH[:1]) == (
        "@1. Name: Six fingers\nPhenomenon: The left hand has six.\nReasoning: Hands have five.\nSeverity Score: 5"
    )
    assert write_anomalies(BOTH).count("\n\n@2. Name: Two-faced clock\n") == 1
    assert write_anomalies([]) == "No anomalies."


@given(st.lists(anomalies(), max_size=4))
def test_whatever_is_written_is_read_back_equal(found: list[Anomaly]) -> None:
    text = write_anomalies(found)
    assert read_anomalies(text) == tuple(found)
    assert len(text.splitlines()) == (5 * len(found) - 1 if found else 1)


@given(st.lists(anomalies(), min_size=1, max_size=2))
def test_line_endings_and_blank_ends_do_not_matter(found: list[Anomaly]) -> None:
    text = write_anomalies(found)
    assert read_anomalies(f"\n{text.replace(chr(10), chr(13) + chr(10))}\r\n") == tuple(found)


def test_kind_objects_and_region_are_not_part_of_the_form() -> None:
    region = Region.from_polygon([(0, 0), (1, 0), (1, 1)])
    located = FINGERS.model_copy(update={"kind": "anatomy", "objects": ("woman",), "region": region})
    assert read_anomalies(write_anomalies([located])) == (FINGERS,)


def test_a_backslash_that_is_no_escape_stays() -> None:
    (found,) = read_anomalies("@1. Name: a\nPhenomenon: \\theta\nReasoning: c\nSeverity Score: 5")
    assert found.phenomenon == "\\theta"


# --- the shapes of replies

SHAPES = {
    "as the paper prints it": """
@1 Name: Six fingers

Phenomenon: The left
hand has six.

Reasoning: Hands have five.

Severity Score: 5

@2 Name: Two-faced clock

Phenomenon: It shows two faces.

Reasoning: Clocks have one.

Severity Score: 25.
""",
    "as the paper asks for it": """
- @1. Name: Six fingers - Phenomenon:
The left hand has six. - Reasoning:
Hands have
five. - Severity Score: 5
- @2. Name: Two-faced clock - Phenomenon:
It shows two faces. - Reasoning:
Clocks have one. - Severity Score: 25.
""",
    "all on one line": (
        "@1. Name: Six fingers - Phenomenon: The left hand has six. - Reasoning: Hands have five. - Severity Score: 5 "
        "@2. Name: Two-faced clock - Phenomenon: It shows two faces. - Reasoning: Clocks have one. - Severity Score: 25"
    ),
    "bold labels, bulleted texts": """
@1. **Name**: Six fingers
- **Observed Phenomenon**:
  - The left hand has six.
- **Reasoning**:
  - Hands have five.
- **Severity Score**: 5/100 (highly unrealistic)

@2. **Name**: Two-faced clock
- **Observed Phenomenon**:
  - It shows two faces.
- **Reasoning**:
  - Clocks have one.
- **Severity Score**: 25/100 (noticeable but not highly disruptive).
""",
    "preface, variants, closing remark": """
Here is what I found:

1. **Name:** Six fingers
   * **Phenomenon:** The left hand has six.
   * **Explanation:** Hands have five.
   * **Severity:** [5]

2) __Name__: Two-faced clock
   • OBSERVED: It shows two faces.
   • reasoning: Clocks have one.
   • severity score: **25**

Let me know if you need 3 more!
""",
    "the heading is the name": """
### Findings

1. **Six fingers**
   - Observed Phenomenon: The left hand has six.
   - Reasoning: Hands have five.
   - Severity Score: 5 (out of 100)

---

### 2. Two-faced clock
- Observed Phenomenon: It shows two faces.
- Reasoning: Clocks have one.
- Severity Score (0-100): 25
""",
    "numbered words": """
Anomaly 1: Six fingers
Phenomenon: The left hand has six.
Reasoning: Hands have five.
Severity: 5%
**Anomaly 2:**
Name: Two-faced clock
Phenomenon: It shows two faces.
Reasoning: Clocks have one.
Severity: 25
""",
    "fenced, after thinking": """<think>@1. Name: not this
Severity: 3/10</think>
```
@1. Name: Six fingers
Phenomenon: The left hand has six.
Reasoning: Hands have five.
Severity Score: 5

@2. Name: Two-faced clock
Phenomenon: It shows two faces.
Reasoning: Clocks have one.
Severity Score: 25
```""",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_of_text_is_read(shape: str) -> None:
    assert read_anomalies(SHAPES[shape]) == BOTH


@pytest.mark.parametrize(
    "reply",
    [
        json.dumps([ENTRY]),
        json.dumps({"anomalies": [FINGERS.model_dump(include={"name", "phenomenon", "reasoning", "severity"})]}),
        json.dumps({"findings": [ENTRY], "no_anomalies": False}, indent=2),
        json.dumps(ENTRY),
        f"<think>[hm]</think>Sure, [one] finding:\n```json\n{json.dumps([ENTRY], indent=1)}\n```\nAnything else?",
        f"Reasoning: the hand looks odd.\n\n{json.dumps([ENTRY])} And so on [1].",
    ],
)
def test_json_is_read_bare_fenced_and_in_chatter(reply: str) -> None:
    assert read_anomalies(reply) == (FINGERS,)


TEMPLATES = (
    "@{n}. Name: {a}\nPhenomenon: {b}\nReasoning: {c}\nSeverity Score: {s}.\n\n",
    "{n}. **{a}**\n- Observed Phenomenon: {b}\n- Reasoning: {c}\n- Severity Score: {s}/100 (odd)\n",
    "@{n} **Name:** {a}\n  - **Observed**:\n    - {b}\n  - **Explanation**: {c}\n\n**Severity**: **{s}**\n---\n",
    "### {n}) Name: {a} - Phenomenon: {b} - Reasoning: {c} - Severity: [{s}]\n",
    "@{n}. Name: {a} | Phenomenon: {b} | Reasoning: {c} | Severity Score: {s} ",
)
WORDS = st.from_regex(r"[A-Z][a-z,;:'() -]{0,20}[a-z]", fullmatch=True).map(lambda t: " ".join(t.split()))


@given(
    st.sampled_from(TEMPLATES), st.lists(st.tuples(WORDS, WORDS, WORDS, st.integers(0, 100)), min_size=1, max_size=4)
)
def test_plain_anomalies_are_read_in_every_shape(template: str, rows: list[tuple[str, str, str, int]]) -> None:
    text = "".join(template.format(n=n, a=a, b=b, c=c, s=s) for n, (a, b, c, s) in enumerate(rows, 1))
    read = [(f.name, f.phenomenon, f.reasoning, f.severity) for f in read_anomalies(text)]
    assert read == rows


def test_json_objects_one_a_line_are_all_read() -> None:
    second = ENTRY | {"Name": "Two-faced clock"}
    assert [a.name for a in read_anomalies(f"{json.dumps(ENTRY)}\n{json.dumps(second)}")] == [FINGERS.name, CLOCK.name]


def test_lists_and_paragraphs_in_a_field_keep_their_lines() -> None:
    reply = "1. Name: a\nPhenomenon:\n- one\n  wrapped\n- two\nReasoning: 1. x\n2. y\n\nz\nSeverity: 5\n(low)"
    (found,) = read_anomalies(reply)
    assert found.phenomenon == "one wrapped\ntwo"
    assert found.reasoning == "1. x\n2. y\nz"


def test_a_label_inside_a_sentence_does_not_split_a_field() -> None:
    reply = (
        "Name: a\nPhenomenon: b - name: c\nReasoning: the reasoning: odd - severity: high, phenomenon: d\nSeverity: 5"
    )
    (found,) = read_anomalies(reply)
    assert found.phenomenon == "b - name: c"
    assert found.reasoning == "the reasoning: odd - severity: high, phenomenon: d"
    one_line = "@1. Name: a - Phenomenon: b - well, seen - Reasoning: so the name: c - Severity Score: 5"
    (found,) = read_anomalies(one_line)
    assert (found.phenomenon, found.reasoning) == ("b - well, seen", "so the name: c")


# --- none, said and not said


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "No anomalies.",
            "None",
            "**no anomalies detected**",
            "There are no semantic anomalies in this image",
            "none.",
        ),
        *("I don’t see any anomalies.", "After careful inspection, no visible anomalies were found in the image!"),
        *("No anomalies. The image looks realistic.", "<think>six fingers?</think>\nNo anomalies were found."),
        *('{"anomalies": [], "no_anomalies": true}', "No anomalies.\n```json\n[]\n```"),
        '{"findings": [], "nothing_found": true}',
    ],
)
def test_an_explicit_none_is_an_empty_list(reply: str) -> None:
    assert read_anomalies(reply) == ()


@pytest.mark.parametrize(
    "reply",
    [
        *(
            "",
            " \n",
            "[]",
            "{}",
            "```json\n[]\n```",
            '{"anomalies": []}',
            '{"anomalies": [], "no_anomalies": false}',
            "[20]",
        ),
        *(
            "The image looks nice",
            "No anomalies in the background, but the hand has six fingers.",
            "No other anomalies.",
        ),
        *("No anomalies in the background.", "No major anomalies.", "Not sure there are no anomalies."),
        *("No anomalies. The hand has six fingers.", "No anomalies?! Six fingers!", "<think>No anomalies.", "N" * 5000),
    ],
)
def test_what_is_not_an_explicit_none_is_never_an_empty_list(reply: str) -> None:
    with pytest.raises(ParseError):
        read_anomalies(reply)
    assert not says_no_anomalies(reply)


# --- refused, with a message that helps


GOOD = "@1. Name: a\nPhenomenon: b\nReasoning: c\nSeverity Score: 5\n\n"


@pytest.mark.parametrize(
    ("reply", "told"),
    [
        (
            GOOD + "@2. Name: Bad hand\nPhenomenon: b\nSeverity Score: 5",
            "Anomaly 2 ('Bad hand'): 'Reasoning' is missing",
        ),
        (GOOD + "@2. Name: \nPhenomenon: b\nReasoning: c\nSeverity Score: 5", "Anomaly 2: 'Name' is blank"),
        (GOOD + "@2. Bad ha", "Anomaly 2 ('Bad ha'): 'Phenomenon' is missing"),
        (GOOD + "2. **Bad hand**: six fingers", "Anomaly 2"),
        ("Phenomenon: b\nReasoning: c\nSeverity: 5", "Anomaly 1: 'Name' is missing"),
        (GOOD + "Phenomenon: again", "Anomaly 1: 'Phenomenon' stands twice"),
        ("Name: a - Phenomenon: b - Phenomenon: d - Reasoning: c - Severity: 5", "'Phenomenon' stands twice"),
        ("Name: a - Phenomenon: b @2. Name: c - Severity: 5", "the next anomaly starts inside 'Phenomenon'"),
        (GOOD.replace("5", "20-30"), "'Severity Score' is '20-30'; write one number from 0 (completely implausible)"),
        (GOOD.replace("5", ""), "'Severity Score' is ''; write one number"),
        (json.dumps([ENTRY, ENTRY | {"Severity Score": 150}]), "Anomaly 2 ('Six fingers'): 'Severity Score' is 150"),
        (json.dumps([ENTRY, {"Name": "x"}]), "Anomaly 2 ('x'): 'Phenomenon' is missing"),
        (json.dumps([ENTRY, "a hand"]), "Anomaly 2: an anomaly is an object"),
        (json.dumps([ENTRY | {"name": "again"}]), "'Name' stands twice"),
        (json.dumps([ENTRY | {"Reasoning": ["a", "b"]}]), "'Reasoning' is a list; write it as one text"),
        (json.dumps([ENTRY | {"Name": "\ud800"}]), "'Name' holds characters that are not text"),
        (json.dumps({"anomalies": [ENTRY], "no_anomalies": True}), "'no_anomalies' is true"),
        (json.dumps({"anomalies": "none"}), "'anomalies' is 'none'; write a list"),
        (f"{json.dumps([ENTRY])}\n{json.dumps([ENTRY | {'Name': 'Two hands'}])}", "there are several answers"),
        (f"{json.dumps(ENTRY)}\n{json.dumps(ENTRY)[:-9]}", "cut off"),
        (json.dumps([ENTRY, ENTRY])[:-20], "the JSON cannot be read"),
        ('[{"Name": "a", "Name": "b"}]', "the key 'Name' stands twice"),
        ("Everything is odd.", "write each anomaly on four lines"),
    ],
)
def test_a_reply_that_cannot_be_read_is_told_what_is_wrong(reply: str, told: str) -> None:
    with pytest.raises(ParseError) as caught:
        read_anomalies(reply)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 500


@given(st.one_of(st.text(), MESSES))
@example("@1. Name: \ud800\nPhenomenon: a\nReasoning: b\nSeverity: 5")
@example("[" * 3000)
@example('{"a":' * 3000)
def test_no_text_raises_anything_but_the_one_error(text: str) -> None:
    for read in (read_anomalies, read_severity):
        try:
            read(text)
        except ParseError as error:
            str(error).encode("utf-8")
    assert isinstance(says_no_anomalies(text), bool)


# --- numbers and objects


@pytest.mark.parametrize(
    ("value", "severity"),
    [
        *((20, 20), (20.5, 20.5), (0, 0), ("100", 100), ("20", 20), ("20.", 20), ("20/100", 20), ("[20]", 20)),
        *(("5/100 (highly unrealistic)", 5), ("25/100 (noticeable but not highly disruptive).", 25), ("**20**", 20)),
        *(("20 (out of 100)", 20), ("20 - quite odd", 20), ("5/100 (a hand with 6 fingers)", 5), ("1e-05", 1e-05)),
        ("20 (0 = implausible, 100 = realistic)", 20),
    ],
)
def test_one_number_on_the_scale_is_a_severity(value: object, severity: float) -> None:
    assert read_severity(value) == severity


@given(st.floats(0, 100))
def test_a_written_severity_is_read_back_exactly(severity: float) -> None:
    assert read_severity(repr(severity)) == severity
    assert read_severity(f"{severity!r}/100") == severity


@pytest.mark.parametrize(
    "value",
    [
        *("", "high", "-5", "101", "150/100", "3/10", "3 out of 10", "20/1000", "20-30", "20 – 30", "20 to 30"),
        *("20 or 30", "20/100-30/100", "20 (or 30)", "2,5", "20k", "20 30", "nan", "inf", "٣", "9" * 99, -1),
        *(100.5, float("nan"), float("inf"), True, None, [20], {}),
    ],
)
def test_anything_else_is_no_severity(value: object) -> None:
    with pytest.raises(ParseError, match="write one number from 0"):
        read_severity(value)


def test_a_huge_number_is_refused_without_being_printed() -> None:
    with pytest.raises(ParseError, match="is a huge number"):
        read_severity(10**5000)


def test_a_mapping_takes_the_published_keys_in_any_case_and_variant() -> None:
    assert anomaly_from_mapping(ENTRY) == FINGERS
    short = {
        "NAME": "Six fingers",
        "Observed": "The left hand has six.",
        "explanation": "Hands have five.",
        "severity": 5,
    }
    assert anomaly_from_mapping(short | {"id": 3}) == FINGERS
    assert anomaly_from_mapping({**ENTRY, "objects": ["woman", "hand"]}).objects == ("woman", "hand")


@pytest.mark.parametrize("objects", ["woman", [1], [""], {"a": 1}, ["\ud800"]])
def test_objects_are_a_list_of_names(objects: object) -> None:
    with pytest.raises(ParseError, match="objects"):
        anomaly_from_mapping({**ENTRY, "objects": objects})


# --- JSON


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ('{"a": 1}', {"a": 1}),
        (" [] ", []),
        ("Sure!\n```json\n[1, 2]\n```\nbye", [1, 2]),
        ('see [1] and {x}: {"a": [{"b": "}\\"]"}]} bye]', {"a": [{"b": '}"]'}]}),
        ('<think>{"a": 0}</think>{"a": 1}', {"a": 1}),
        ('{"a": "</think>"}', {"a": "</think>"}),
        *(("", None), ("20", None), ("no", None), ('{"a": NaN}', None), ("[Infinity]", None), ("[1e999]", None)),
        *(
            ('[{"a": 1}, {"a"', None),
            ('{"a": 1, "a": 2}', None),
            ("[" * 101 + "]" * 101, None),
            (f"[{'9' * 5000}]", None),
        ),
        ("[" * 100_000 + "]" * 100_000, None),
    ],
)
def test_json_is_found_whole_or_not_at_all(text: str, value: Any) -> None:
    assert find_json(text) == value


@given(st.one_of(st.text(), MESSES, st.text('[]{}",:\\` \n1a', max_size=60)))
def test_looking_for_json_never_raises(text: str) -> None:
    assert isinstance(find_json(text), dict | list | None)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), JSON_VALUES, min_size=1, max_size=3), st.booleans(), st.booleans())
def test_json_is_found_equal_whatever_it_holds(value: dict[str, Any], fenced: bool, ascii_only: bool) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=1)
    assert find_json(f"Here:\n```json\n{text}\n```\nDone." if fenced else text) == value


@pytest.mark.parametrize(
    "text", ["", "[1,]", '{"a": 1, "a": 2}', "[NaN]", "[1e999]", "[" * 100_000, "[" + "9" * 5000 + "]"]
)
def test_strict_json_refuses_what_is_not_json(text: str) -> None:
    with pytest.raises(ParseError, match="JSON"):
        parse_json(text)


# --- in time proportional to the length


@pytest.mark.slow
@pytest.mark.parametrize(
    "piece", ["[", "[]", "<think>", "{'a", '{"a":', " - name:", "\nName: ", "**a**\n", " 1.  ", "("]
)
def test_long_texts_are_read_in_time_proportional_to_their_length(piece: str) -> None:
    text = "@1. Name: a\nPhenomenon: " + piece * (200_000 // len(piece))
    with pytest.raises(ParseError):
        read_anomalies(text)
    assert not says_no_anomalies(text)
    assert find_json(text) in (None, [])
