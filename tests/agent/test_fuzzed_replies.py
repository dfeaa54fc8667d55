"""Two thousand replies made from real ones: none crashes a reader, none is guessed, and nearly all are read.

Each is changed in one to three ways by a seeded choice. A change that a careful reader sees through must give the
answer of the original; any other must give that answer or be refused, so that the model is asked again.
"""

import json
import random
import re
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from anomreason.agent import replies
from anomreason.errors import ParseError

KEPT = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "replies.jsonl").read_text(encoding="utf-8").splitlines()
]
EMPTY = {
    "single": '{"anomalies": [], "no_anomalies": true}',
    "format": '{"anomalies": [], "no_anomalies": true}',
    "look-again": '{"checks": [], "anomalies": [], "no_anomalies": true}',
    "review-2": '{"checks": [], "findings": [], "nothing_found": true}',
    "attributes-2": '{"findings": [], "nothing_found": true}',
    "relations-2": '{"findings": [], "nothing_found": true}',
}
TAGS = (
    *("<think>{}</think>", "<Thinking>\n{}\n</Thinking>\n", "<thought>{}</thought>", "[THINK]{}[/THINK]"),
    *("◁think▷{}◁/think▷", "{}</think>\n", "{}\n[/THINK]", "\ufeff<think>{}</think>", "<reasoning>{}</reasoning>"),
    "<|channel|>analysis<|message|>{}<|end|><|start|>assistant<|channel|>final<|message|>",
    "<|begin_of_thought|>{}<|end_of_thought|>",
)


class Made(NamedTuple):
    """A reply and what was done to it."""

    text: str
    mendable: bool
    how: str


def reader(kept: dict[str, Any]) -> Callable[[str], Any]:
    step = kept["step"]
    if step.startswith("objects"):
        return replies.read_objects
    readers: dict[str, Callable[[str], Any]] = {
        "single": replies.read_single,
        "inspect": lambda text: replies.inspection_reader(kept["asked"])(text, []),
        "look-again": lambda text: replies.checked_report_reader(kept["ids"])(text, []),
        "format": lambda text: replies.report_reader(kept["ids"])(text, []),
        "review-2": lambda text: replies.reviewed_reader(kept["ids"])(text, []),
        "attributes-2": replies.read_attributes,
        "relations-2": replies.read_proposals,
    }
    return readers.get(step, replies.read_prose)


def plain(value: object) -> str:
    """A value as text in which spaces and line breaks are alike, without the flags, which may be left out."""
    text = re.sub(r" ?(?:no_anomalies|nothing_found)=\w+", "", str(value))
    return " ".join(text.replace("\\n", " ").split())


def draft_of(kept: dict[str, Any], dice: random.Random) -> str:
    """What might have been written first: another answer of the same step, the empty one, or loose brackets."""
    others = [k["reply"] for k in KEPT if k["step"] == kept["step"] and k["reply"].strip() != kept["reply"].strip()]
    return str(dice.choice([dice.choice(others), EMPTY.get(kept["step"], "{}"), 'So { "name": or [ and "', "Hm. "]))


def thinking(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    return Made(dice.choice(TAGS).format(f"Let me see. {draft_of(kept, dice)} But no.") + text, True, "thinking")


def unending(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    opened = dice.choice([tag for tag in TAGS if not tag.startswith("{}")]).partition("{}")[0]
    return Made(opened + text, False, "thinking that never ends")


def chatter(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    if kept["schedule"] == "paper" and not text.lstrip().startswith(("{", "`")):
        return Made(text, True, "as it was")
    frames = (
        "Sure! Here it is:\n{}",
        "```json\n{}\n```",
        "I looked [twice] at it.\n\n```\n{}\n```\nDone!",
        "{}\nDone.",
    )
    return Made(dice.choice(frames).format(text), True, "words around")


def draft(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    first = draft_of(kept, dice)
    if not text.lstrip().startswith("{") or not first.startswith("{"):
        return Made(text, True, "as it was")
    if dice.random() < 0.5:
        words = dice.choice(("Wait, I looked again. Corrected:", "Actually:", "On second thought, the final answer:"))
        return Made(f"{first}\n{words}\n{text}", True, "draft and correction")
    both = [f"{first}\n{text}", f"{first} or {text}"]
    if not re.search(
        r'": ?true}\s*\Z', kept["reply"]
    ):  # an empty answer before a full one is that of the prompt: the full one counts
        both.append(f"{text}\n{first}")
    return Made(dice.choice(both), False, "two answers")


def cut(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    if not text.rstrip().endswith("}"):
        return Made(text, True, "as it was")
    return Made(text[: dice.randrange(len(text))], False, "cut")


def almost(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    if not text.lstrip().startswith("{"):
        return Made(text, True, "as it was")
    value = json.loads(text)
    ways = (
        lambda: str(value),
        lambda: re.sub(r"([\]}])(?=\s*[\]}])", r"\1,", text),
        lambda: text.replace("{", "{ // so\n", 1),
        lambda: re.sub(r'(?<=[a-z]) (?=[a-z][^":]*"[,}])', "\n", text, count=1),
        lambda: re.sub(r'"(\w+)":', r"\1:", json.dumps(value, indent=1)),
        lambda: json.dumps(value, indent=2).replace("true", "True").replace("false", "False").replace("null", "None"),
        lambda: json.dumps(value).replace('", "', '", /* and */ "', 1),
    )
    return Made(dice.choice(ways)(), True, "almost JSON")


def other_scale(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    scaled = re.sub(r'("(?:score|severity)": *)(\d+)', lambda m: f"{m[1]}{int(m[2]) / 100}", text)
    return Made(scaled, scaled == text, "another scale")


def trifle(text: str, kept: dict[str, Any], dice: random.Random) -> Made:
    if not text.lstrip().startswith("{"):
        return Made(text, True, "as it was")
    value = json.loads(text)
    for key in ("findings", "anomalies"):
        entries = value.get(key)
        if entries:
            value[key] = [entry for entry in entries for _ in range(dice.choice((1, 1, 3)))]
            value.pop(dice.choice(("nothing_found", "no_anomalies", "")), None)
    for number, item in enumerate(value.get("objects", []), start=1):
        if "findings" in item:
            item["object"] = dice.choice((item["object"].upper(), f"{number}. {item['object']}", item["object"]))
            item["findings"] = item["findings"] or dice.choice((None, []))
        elif not item.get("person"):
            item["person"] = dice.choice((None, False))
        for entry in item.get("findings") or []:
            entry["kind"] = dice.choice((entry["kind"].title(), entry["kind"]))
    for entry in [*value.get("findings", []), *value.get("anomalies", [])]:
        for key in ("objects", "from"):
            if isinstance(entry.get(key), list) and len(entry[key]) == 1:
                entry[key] = dice.choice((entry[key], entry[key][0]))
    return Made(json.dumps(value, ensure_ascii=False), True, "a trifle")


LAST = (thinking, chatter, draft, cut, unending, thinking)


def made(kept: dict[str, Any], dice: random.Random) -> Made:
    """A reply changed inside, then around."""
    text, mendable, how = kept["reply"], True, []
    inner = dice.choice((almost, trifle, other_scale, None))
    changes = [*([inner] if inner else []), *dice.sample(LAST, dice.choice((0, 1, 1, 2)) if inner else 1)]
    for change in changes:
        step = change(text, kept, dice)
        text, mendable = step.text, mendable and step.mendable
        how.append(step.how)
    return Made(text, mendable, ", ".join(sorted(set(how) - {"as it was"})) or "as it was")


def test_two_thousand_replies_are_read_or_refused_and_never_guessed() -> None:
    dice = random.Random(20)
    counts: Counter[str] = Counter()
    lost, guessed = [], []
    for _ in range(2000):
        kept = dice.choice(KEPT)
        read = reader(kept)
        right = plain(read(kept["reply"]))
        reply = made(kept, dice)
        try:
            value = plain(read(reply.text))
        except ParseError as error:
            counts["refused, and mendable" if reply.mendable else "refused"] += 1
            if reply.mendable:
                lost.append((kept["step"], reply.how, str(error), reply.text))
            continue
        counts["read"] += value == right
        if value != right:
            guessed.append((kept["step"], reply.how, value, reply.text))
        counts["mendable"] += reply.mendable
    counts["mendable"] += len(lost)
    print(f"\n{dict(counts)}, guessed {len(guessed)}")
    assert guessed == []
    assert len(lost) <= 0.02 * counts["mendable"]
    assert counts["mendable"] > 1000
    assert counts["refused"] > 300
