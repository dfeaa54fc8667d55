"""Replies as models really write them: thinking, drafts, JSON that is not quite JSON, other scales, repetitions."""

import asyncio
import json
from typing import Any

import pytest

from anomreason.agent import replies
from anomreason.agent.boxes import BoxReader
from anomreason.agent.forms import Notes
from anomreason.agent.source import read_source
from anomreason.anomaly import Usage
from anomreason.errors import ParseError
from anomreason.textform import find_json, read_anomalies, says_no_anomalies, without_thinking
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.protocol import Reply, Request, Tag

FOUND = {"name": "Six fingers", "phenomenon": "The left hand has six.", "reasoning": "Hands have five."}
ANOMALY = {**FOUND, "severity": 10, "objects": ["hand"], "box": [0, 0, 500, 1000]}
FINAL = json.dumps({"anomalies": [ANOMALY], "no_anomalies": False})
EMPTY = '{"anomalies": [], "no_anomalies": true}'
OTHER = FINAL.replace("Six", "Seven")
EXAMPLE = json.dumps({"anomalies": [{**ANOMALY, "name": "...", "phenomenon": "..."}], "no_anomalies": False})

THINKING = [
    "<think>{}</think>",
    "<think>\n{}\n</think>\n\n",
    "<THINK>{}</THINK>",
    "<thinking>{}</thinking>",
    '<thinking mode="long">{}</thinking>',
    "<thought>{}</thought>",
    "<reasoning>{}</reasoning>",
    "<seed:think>{}</seed:think>",
    "<antthinking>{}</antthinking>",
    "<|think|>{}<|/think|>",
    "[THINK]{}[/THINK]",
    "◁think▷{}◁/think▷",
    "<|begin_of_thought|>{}<|end_of_thought|>",
    "<|START_THINKING|>{}<|END_THINKING|>",
    "<|channel>thought\n{}<channel|>",
    "<unused94>thought\n{}<unused95>",
    "{}</think>",  # the opening tag was part of the prompt
    "{}</thinking>\n",
    "{}\n[/THINK]\n",
    "{}◁/think▷",
    "Sure.\n<think>{}</think>\n",
    "\ufeff<think>{}</think>",
    "<think>one</think><think>{}</think>",
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|start|>assistant<|channel|>analysis<|message|>{}<|start|>assistant<|channel|>final<|constrain|>json<|message|>",
    "<|channel|>commentary to=f <|constrain|>json<|message|>{}<|end|><|channel|>final<|message|>",
    "analysisWe look: {}assistantfinal",
    "Thinking...\n{}\n...done thinking.\n\n",
]
CLOSED = [mark for mark in THINKING if not mark.startswith("{}")]


@pytest.mark.parametrize("draft", [f"First I would say {EMPTY} but look.", 'A brace { and a quote " and [', OTHER])
@pytest.mark.parametrize("mark", THINKING)
def test_thinking_is_no_part_of_any_answer(mark: str, draft: str) -> None:
    thought = mark.format(draft) if "{}" in mark else mark
    (found,) = replies.read_single(thought + FINAL)
    assert found.name == "Six fingers"
    text = "@1. Name: Six fingers\nPhenomenon: p\nReasoning: r\nSeverity Score: 5"
    assert read_anomalies(thought + text)[0].name == "Six fingers"
    assert says_no_anomalies(thought + "No anomalies.") or thought.startswith("Sure")
    assert replies.read_prose(thought + "The left hand has six fingers.").endswith("The left hand has six fingers.")
    assert "First" not in replies.read_prose(thought + "The left hand has six fingers.")
    assert read_source(thought + "generated") == "generated" or thought.startswith("Sure")


@pytest.mark.parametrize("end", ["</s>", "<|im_end|>", "<|return|>", "<|eot_id|><|end|>", "<end_of_turn>", "\ufeff"])
def test_marks_of_the_model_at_the_end_do_not_matter(end: str) -> None:
    assert read_anomalies("No anomalies." + end) == ()
    assert read_source(f"<answer>photograph</answer>{end}") == "photograph"
    assert read_source("<|begin_of_box|>generated<|end_of_box|>" + end) == "generated"


@pytest.mark.parametrize(
    "text",
    [
        *(mark.partition("{}")[0] + "Six fingers? " + EMPTY for mark in CLOSED if not mark.startswith("<think>one")),
        *(mark.format(EMPTY) for mark in CLOSED if "Sure" not in mark),
    ],
)
def test_thinking_alone_is_no_answer(text: str) -> None:
    for read in (replies.read_single, replies.read_prose, read_source, replies.read_proposals):
        with pytest.raises(ParseError, match="only thinking came back, and no answer after it"):
            read(text)
    assert not says_no_anomalies(text)
    assert find_json(text) is None


def test_a_tag_inside_of_json_is_text() -> None:
    text = json.dumps({"anomalies": [{**ANOMALY, "phenomenon": "The sign says </think> and <thinking>."}]})
    assert without_thinking(text) == text


# --- which of several answers


@pytest.mark.parametrize(
    "text",
    [
        f"{EMPTY}\nWait, the left hand has six fingers. Corrected:\n{FINAL}",
        f"{OTHER}\nActually, it is six. Final answer:\n```json\n{FINAL}\n```",
        f"```json\n{OTHER}\n```\nOn second thought:\n{FINAL}",
        f"```json\n{EMPTY}\n```\nI see more now.\n```json\n{FINAL}\n```",
        f"If nothing were wrong I would answer {EMPTY}. But I see:\n\n{FINAL}",
        f"{FINAL}\n\nIf nothing were wrong, I would answer {EMPTY}.",
        f"The form is {EXAMPLE}. Here it is:\n{FINAL}",
        f'The form is {{"anomalies": [...], "no_anomalies": true/false}}. Here it is:\n{FINAL}',
        f"{FINAL}\n{FINAL}",
        f"{EMPTY}\n{OTHER}\nI was wrong, revised:\n{FINAL}",
        f"Set {{x}} and [1-3], see [2]: {FINAL} That is all [1].",
        f'The letters {{"A"}} are odd. {FINAL}',
        json.dumps(FINAL),
        FINAL.replace('"', '\\"'),
    ],
)
def test_the_final_answer_counts_where_it_is_plain_which_it_is(text: str) -> None:
    assert [a.name for a in replies.read_single(text)] == ["Six fingers"]


@pytest.mark.parametrize(
    "text",
    [
        f"{FINAL}\n{OTHER}",
        f"{FINAL}\n{EMPTY}",
        f"{OTHER} or {FINAL}",
        f"{EMPTY}\nOtherwise I would have written, for example, {FINAL}",
        f"{FINAL}\nAlternatively: {OTHER}",
        f"{EMPTY}\nWait, the hand has six fingers.",
        f"{EMPTY}\n\nHowever, the left hand has six fingers.",
        f"{EMPTY} But on a closer look the left hand has six.",
        f"{EMPTY}\n@1. Name: Six fingers\nPhenomenon: p\nReasoning: r\nSeverity Score: 5",
        f"@1. Name: Six fingers\nPhenomenon: p\nReasoning: r\nSeverity Score: 5\n{EMPTY}",
        f"{EMPTY}\nActually, I am not sure. Perhaps {FINAL[:60]}",
        FINAL[:-30],
        f"{FINAL[:80]}\n{EMPTY}",
        EXAMPLE,
        json.dumps({"anomalies": [ANOMALY, {**ANOMALY, "name": "..."}], "no_anomalies": False}),
        json.dumps({"anomalies": [{**ANOMALY, "name": "None"}], "no_anomalies": False}),
        '{"anomalies": [' + json.dumps(ANOMALY) + ', ...], "no_anomalies": false}\n' + EMPTY,
    ],
)
def test_it_is_never_guessed_which_answer_counts(text: str) -> None:
    with pytest.raises(ParseError):
        replies.read_single(text)


# --- almost JSON


ALMOST = {
    "a comma too many": FINAL[:-1] + ",}",
    "commas too many": FINAL.replace("]", ",]").replace("}", ", }"),
    "a line comment": "{// what I see\n" + FINAL[1:],
    "a block comment": FINAL.replace('"no_', '/* sure */ "no_'),
    "a hash comment": FINAL.replace('"no_', '# sure\n"no_'),
    "Python": str(json.loads(FINAL)),
    "curly quotes": FINAL.replace('"', "“", 1).replace('"', "”", 1),
    "keys without quotes": FINAL.replace('"no_anomalies"', "no_anomalies").replace('"anomalies"', "anomalies"),
    "capital words": FINAL.replace("false", "FALSE"),
    "an escaped apostrophe": FINAL.replace("Hands have", "Hand\\'s have"),
}


@pytest.mark.parametrize("what", ALMOST)
def test_almost_json_is_read_with_a_note(what: str) -> None:
    for text in (ALMOST[what], f"Here:\n```json\n{ALMOST[what]}\n```"):
        notes: Notes = []
        (found,) = replies.read_single(text, notes, BoxReader((640, 480), convention="thousandths"))
        assert (found.name, found.phenomenon, found.severity) == ("Six fingers", "The left hand has six.", 10)
        assert found.region is not None
        assert "not JSON to the letter" in notes[0]


def test_line_breaks_and_quotes_inside_of_a_text_are_read() -> None:
    (found,) = replies.read_single(FINAL.replace("hand has six.", 'hand\nhas "six" of them.'))
    assert found.phenomenon == 'The left hand\nhas "six" of them.'


@pytest.mark.parametrize("text", [*ALMOST.values(), FINAL])
def test_no_cut_of_almost_json_is_mended_into_a_whole(text: str) -> None:
    for end in range(1, len(text.rstrip("} \n,"))):
        with pytest.raises(ParseError):
            replies.read_single(text[:end])


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (FINAL.replace('"severity": 10', '"severity": '), "a value is expected"),
        (FINAL.replace('"name": ', '"name" '), "':' is expected"),
        (FINAL.replace('", "reasoning"', ', "reasoning"'), "a text does not end, or a quote"),
        (FINAL.replace("]", "", 1), "a text does not end, or a quote"),
        (FINAL.replace(', "no_an', ' "no_an'), "',' or '}' is expected"),
        (FINAL.replace('"severity"', '"name"'), "the key 'name' stands twice"),
        (FINAL[:60], "it is cut off at the end"),
        (FINAL.replace("10", "NaN"), "a value is expected"),
        (FINAL.replace("10", "10%"), "',' or '}' is expected"),
    ],
)
def test_what_cannot_be_read_is_named_with_its_place(text: str, told: str) -> None:
    for read in (replies.read_single, replies.report_reader([])):
        with pytest.raises(ParseError) as caught:
            read(text)
        assert told in str(caught.value)
        assert "there is no JSON" not in str(caught.value)


# --- trifles


def inspected(**change: Any) -> str:
    finding = {**FOUND, "objects": ["hand"], "sure": 70, "innocent": "a glove"}
    item = {"object": "hand", "look": "Six fingers.", "findings": [finding | change.pop("finding", {})]}
    return json.dumps({"objects": [item | change]})


@pytest.mark.parametrize(
    "text",
    [
        *(inspected(finding={"sure": sure}) for sure in ("70", "70 %", 70.0)),
        *(inspected(finding={"objects": objects}) for objects in (None, "hand", [])),
        *(inspected(object=name) for name in ("1. hand", "Hand", "(1) the hand", "'hand'", "Object 1: hand")),
        *(inspected(look=look) for look in (None, "", "The hand has six fingers. " * 36)),
        inspected(findings={**FOUND, "objects": ["hand"], "sure": 70}),
        json.dumps(json.loads(inspected())["objects"]),
        json.dumps(json.loads(inspected())["objects"][0]),
        json.dumps({"answer": json.loads(inspected())}),
        inspected().replace('"objects": [{', '"Objects": [{').replace("phenomenon", "Phenomenon"),
    ],
)
def test_a_trifle_does_not_lose_an_inspection(text: str) -> None:
    (item,) = replies.inspection_reader(["hand"])(text, [])
    (found,) = item.findings
    assert (item.object, found.sure, found.name) == ("hand", 70, "Six fingers")


@pytest.mark.parametrize(("sure", "notes"), [(None, 0), ("", 0), ("very", 1), (0.8, 1), (150, 1), ([], 1)])
def test_a_proposal_without_a_number_for_its_doubt_is_kept_and_none_is_guessed(sure: object, notes: int) -> None:
    said: Notes = []
    (item,) = replies.inspection_reader(["hand"])(inspected(finding={"sure": sure, "innocent": None}), said)
    assert (item.findings[0].sure, item.findings[0].innocent, len(said)) == (None, "", notes)


@pytest.mark.parametrize(
    ("counts", "read"),
    [
        ([{"part": "hands", "count": 3}, {"part": "tails", "count": "0"}], [("hands", 3), ("tails", 0)]),
        ({"hands": 3}, [("hands", 3)]),
        ({"part": "hands", "count": 3.0}, [("hands", 3)]),
        ([{"part": "fingers", "count": "cannot be counted"}, {"part": "hands", "count": None}, "two legs"], []),
        ([{"part": "hands", "count": -1}, {"part": "", "count": 1}, {"part": "hands", "count": True}], []),
        (None, []),
    ],
)
def test_what_cannot_be_counted_has_no_count(counts: object, read: list[tuple[str, int]]) -> None:
    (item,) = replies.inspection_reader(["hand"])(inspected(counts=counts), [])
    assert [(c.part, c.count) for c in item.counts] == read


def test_names_that_differ_in_more_than_spelling_are_asked_again() -> None:
    for name in ("left hand", "hands", "2", ""):
        with pytest.raises(ParseError):
            replies.inspection_reader(["hand"])(inspected(object=name), [])
    both = ["1. hand", "2. hand"]
    text = json.dumps({"objects": [{"object": name, "look": "", "findings": []} for name in both]})
    assert [i.object for i in replies.inspection_reader(both)(text, [])] == both


def test_null_and_missing_fields_of_an_object_are_nothing() -> None:
    text = json.dumps({"objects": [{"name": "hand", "person": None}, {"name": "cup", "description": None}]})
    assert [(o.name, o.description, o.person) for o in replies.read_objects(text, [])] == [
        ("hand", "", False),
        ("cup", "", False),
    ]
    assert replies.read_objects('{"objects": []}', []) == ()


def report(checks: list[dict[str, Any]], *anomalies: dict[str, Any], **flag: Any) -> str:
    return json.dumps({"checks": checks, "anomalies": list(anomalies)} | flag)


CHECK = {"id": 1, "score": 80, "reason": "x"}


@pytest.mark.parametrize("sources", [1, "1", [1], ["1"], [1, 1]])
def test_one_id_is_a_list_of_it(sources: object) -> None:
    reply = replies.checked_report_reader([1])(report([CHECK], {**ANOMALY, "from": sources}), [])
    assert set(reply.anomalies[0].sources) == {1}


def test_ids_where_nobody_proposed_anything_are_left_out_with_notes() -> None:
    notes: Notes = []
    text = report([CHECK], {**ANOMALY, "from": [1]}, no_anomalies=False)
    reply = replies.checked_report_reader([])(text, notes)
    assert (reply.checks, reply.anomalies[0].sources) == ([], [])
    assert len(notes) == 2


def test_more_anomalies_than_asked_for_leave_a_note() -> None:
    many = [{**ANOMALY, "name": f"Error {i}"} for i in range(30)]
    notes: Notes = []
    assert len(replies.read_single(json.dumps({"anomalies": many}), notes)) == 25
    assert notes == ["a reply held 30 anomalies, of which the first 25 were read"]


@pytest.mark.parametrize("count", [2, 20, 26, 200])
def test_a_repeated_anomaly_counts_once_with_a_note(count: int) -> None:
    lines = "@{}. Name: Six fingers\nPhenomenon: p\nReasoning: r\nSeverity Score: 5\n\n"
    for text in (
        json.dumps({"anomalies": [ANOMALY] * count, "no_anomalies": False}),
        json.dumps({"anomalies": [{**ANOMALY, "box": [i, 0, i + 9, 9], "severity": 9} for i in range(count)]}),
        "".join(lines.format(n + 1) for n in range(count)),
    ):
        notes: Notes = []
        (found,) = replies.read_single(text, notes)
        assert found.name == "Six fingers"
        assert notes == [
            f"the model repeated itself: 'Six fingers' came {count} times in one reply and counts once",
        ]


def test_anomalies_of_one_name_at_several_objects_are_several() -> None:
    pair = [ANOMALY, {**ANOMALY, "objects": ["other hand"]}]
    assert len(replies.read_single(json.dumps({"anomalies": pair}), [])) == 2


# --- scales


@pytest.mark.parametrize("scores", [[0.92], [0.9, 0.1], [1.0, 0.0], ["0.9", 0], [1, 0.5], [7.5, 9], [0.5, 90]])
def test_scores_on_another_scale_are_asked_again(scores: list[object]) -> None:
    ids = range(1, len(scores) + 1)
    checks = [{"id": n, "score": s, "reason": ""} for n, s in zip(ids, scores, strict=True)]
    for read in (replies.checks_reader(ids), replies.checked_report_reader(ids)):
        with pytest.raises(ParseError):
            read(report(checks, no_anomalies=True), [])


@pytest.mark.parametrize("score", [1, 4, 9, 49])
def test_a_score_that_contradicts_the_final_list_is_asked_again(score: int) -> None:
    with pytest.raises(ParseError, match=r"'Six fingers' is in the final list, but 'checks' gives its ids only"):
        replies.checked_report_reader([1])(report([{**CHECK, "score": score}], {**ANOMALY, "from": [1]}), [])
    with pytest.raises(ParseError, match="the final list is empty"):
        replies.checked_report_reader([1])(report([CHECK], no_anomalies=True), [])


@pytest.mark.parametrize("severity", [0.1, 0.95, "0.3", 4.5, "8/10", "3 out of 5", 1.0])
def test_severities_on_another_scale_are_asked_again(severity: object) -> None:
    for flag in ({}, {"no_anomalies": False}):
        with pytest.raises(ParseError, match=r"[sS]everity"):
            replies.read_single(json.dumps({"anomalies": [{**ANOMALY, "severity": severity}], **flag}), [])
    for good in (0, 1, 10, 12.5, "85", "20/100"):
        assert replies.read_single(json.dumps({"anomalies": [{**ANOMALY, "severity": good}]}), [])


@pytest.mark.parametrize(
    ("severities", "noted"),
    [
        ((2, 7, 9), True),
        ((1, 10, "5"), True),
        ((9, 9, 4, 6), True),
        ((5, 8), False),
        ((5, 8, 8, 5), False),
        ((0, 5, 8), False),
        ((5, 8, 12), False),
        ((5, 8, 90), False),
    ],
)
def test_severities_that_may_be_on_a_scale_of_1_to_10_are_noted_and_never_rescaled(
    severities: tuple[object, ...], noted: bool
) -> None:
    found = [{**ANOMALY, "name": f"Error {n}", "severity": s, "from": [1]} for n, s in enumerate(severities)]
    blocks = [
        f"@{n}. Name: Error {n}\nPhenomenon: A.\nReasoning: B.\nSeverity: {s}" for n, s in enumerate(severities, 1)
    ]
    for read, text in (
        (replies.read_single, json.dumps({"anomalies": found})),
        (replies.read_single, "\n\n".join(blocks)),
        (lambda text, notes: replies.report_reader([1])(text, notes).anomalies, json.dumps({"anomalies": found})),
        (
            lambda text, notes: replies.checked_report_reader([1])(text, notes).anomalies,
            json.dumps({"checks": [CHECK], "anomalies": found}),
        ),
    ):
        notes: Notes = []
        assert [a.severity for a in read(text, notes)] == [float(str(s)) for s in severities]
        assert any("a scale of 1 to 10" in note for note in notes) == noted


# --- what counts when the model repeats itself


def asked_twice(read: Any, text: str) -> tuple[Any, int]:
    class Stubborn:
        name, bounds_pixels = "m", False
        asked = 0

        async def ask(self, request: Request) -> Reply:
            self.asked += 1
            return Reply(text, "stop", Usage(calls=1), "m")

    vlm = Stubborn()
    request = Request(("?",), Tag("a", "r", "s"), schema={})
    return asyncio.run(Caller(vlm).call(request, lambda reply: read(reply.text), Meter())), vlm.asked


def test_a_listed_anomaly_beside_the_word_for_none_counts_once_it_is_repeated() -> None:
    text = json.dumps({"anomalies": [ANOMALY], "no_anomalies": True})
    with pytest.raises(ParseError, match="one must be wrong"):
        replies.read_single(text, [])
    found, asked = asked_twice(replies.read_single, text)
    assert ([a.name for a in found], asked) == (["Six fingers"], 2)
    proposals = json.dumps({"findings": [FOUND], "nothing_found": True})
    assert len(asked_twice(replies.read_proposals, proposals)[0]) == 1


def test_scores_as_shares_count_once_they_are_repeated_and_the_list_agrees() -> None:
    read = replies.checked_report_reader([1, 2])
    checks = [{"id": 1, "score": 0.92, "reason": ""}, {"id": 2, "score": 0.2, "reason": ""}]
    found, asked = asked_twice(read, report(checks, {**ANOMALY, "from": [1]}))
    assert ([round(c.score) for c in found.checks], asked) == ([92, 20], 2)


@pytest.mark.parametrize(
    "tag", ["inner_monologue", "chain-of-thought", "scratchpad", "thinking_process", "my:reasoning"]
)
def test_any_tag_that_names_thinking_is_one(tag: str) -> None:
    assert without_thinking(f"<{tag}>{EMPTY}</{tag}>{FINAL}") == FINAL
    assert without_thinking(f"<{tag}/>\n{FINAL}") == FINAL


def test_the_marked_answer_counts() -> None:
    assert replies.read_single(f"{OTHER}\n<answer>{FINAL}</answer>")[0].name == "Six fingers"
    assert read_source("It looks like a photo. <answer>generated</answer>") == "generated"


def test_a_corrected_list_in_the_text_form_counts_alone() -> None:
    one = "@1. Name: {}\nPhenomenon: p\nReasoning: r\nSeverity Score: 5\n"
    text = one.format("Seven fingers") + "\nWait, that is not right. Corrected list:\n\n" + one.format("Six fingers")
    assert [a.name for a in read_anomalies(text)] == ["Six fingers"]
    with pytest.raises(ParseError, match="taken back"):
        read_anomalies(one.format("Seven fingers") + "\nWait, it is a glove.")


@pytest.mark.parametrize(
    "text",
    [
        '{"no_anomalies": true}',
        '{"anomalies": null, "no_anomalies": true}',
        '{"anomalies": "none", "no_anomalies": "true"}',
        json.dumps({"anomalies": [{**ANOMALY, "name": "None", "phenomenon": "No anomalies."}], "no_anomalies": True}),
        json.dumps({"anomalies": [None], "no_anomalies": True}),
    ],
)
def test_nothing_is_nothing_however_it_is_written(text: str) -> None:
    assert replies.read_single(text, []) == ()
    assert replies.report_reader([1])(text, []).anomalies == []


def test_a_list_under_another_name_is_not_nothing() -> None:
    text = json.dumps({"my findings": [FOUND], "nothing_found": True})
    with pytest.raises(ParseError, match="'findings' is missing; there is 'my_findings' instead"):
        replies.read_proposals(text)


@pytest.mark.parametrize("scores", [[8, 9], [7], [10, 8, 0]])
def test_scores_from_0_to_10_are_asked_again_where_no_list_tells(scores: list[int]) -> None:
    ids = range(1, len(scores) + 1)
    checks = [{"id": n, "score": s, "reason": ""} for n, s in zip(ids, scores, strict=True)]
    with pytest.raises(ParseError, match="from 0 to 10"):
        replies.checks_reader(ids)(json.dumps({"checks": checks}), [])
