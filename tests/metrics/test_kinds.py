"""Kinds told from words: on our own templates, and on paraphrases by a person who had not seen the cues.

The paraphrases (`tests/data/kind_paraphrases.jsonl`, 208 lines, 13 a kind) were written before the cues were first run
on them. First look, nothing mended: 183 of 208 right (0.880), on the even lines 91 of 104 (0.875). Then the odd lines
(1, 3, 5, ...) were read and used for mending. The even lines were never read, but their accuracy was taken again after
each round of mending on other texts: 96, then always 98 of 104 (0.942, where 0.95 was the aim). Over all lines, the
mended half among them, it is 202 of 208 (0.971).
"""

import json
import re
import tomllib
from collections import Counter
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from anomreason.metrics.kinds import KINDS, evidence, kind_of
from anomreason.scenes.phrases import Slots, describe, levels
from anomreason.scenes.scene import KINDS as PLANTED

PARAPHRASES = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "kind_paraphrases.jsonl").read_text("utf-8").splitlines()
]
DETAILS = {
    "out_of_place": ["the bathroom", "the sea"],
    "missing_part": ["its seat", "three of its four legs", "its handle"],
    "duplicated_part": ["a second handle", "a second head"],
    "colour": ["bright blue", "purple"],
    "reflection": ["a red chair", "a potted plant"],
    "function": ["spraying water although no pipe leads to it", "running while it is unplugged"],
    "count": ["five legs instead of four", "three wheels instead of four"],
    "material": ["glass", "fur"],
    "clock": ["the number 13 at the top of its dial"],
    "sign": ["letters that spell no word"],
}
THINGS = ["red car", "penguin", "round wooden table", "wall clock", "desk lamp", "candle", "mirror", "palm tree"]
PLACES = ["on the street", "to the right of the sofa", "in the living room", "near the left edge"]


def told() -> list[tuple[str, str, str, str]]:
    """(kind, name, phenomenon, reasoning): 20 of every kind and level, things such as mirrors and lamps among them."""
    rng, found = np.random.default_rng(4), []
    for kind in PLANTED:
        for level in levels(kind):
            for n in range(20):
                details = DETAILS.get(level, DETAILS.get(kind, [""]))
                thing, other = (str(t) for t in rng.choice(THINGS, 2))
                sun = level == "two_suns"
                place = "in the sky" if sun else str(rng.choice(PLACES))
                slots = Slots("sun" if sun else thing, place, other, details[n % len(details)])
                found.append((kind, *describe(kind, level, slots, rng)[:3]))
    return found


def right(rows: list[Any]) -> float:
    return sum(kind_of(r["name"], r["phenomenon"], r["reasoning"]) == r["kind"] for r in rows) / len(rows)


def test_the_kinds_are_those_that_scenes_plant() -> None:
    assert KINDS == PLANTED


def test_confusion_on_our_own_templates() -> None:
    rows = told()
    wrong = Counter((k, kind_of(n, p, r)) for k, n, p, r in rows if kind_of(n, p, r) != k)
    print("confused (planted, told):", dict(wrong))
    assert wrong.total() <= 0.01 * len(rows), wrong
    without = Counter((k, kind_of(n, p)) for k, n, p, _ in rows if kind_of(n, p) != k)
    assert without.total() <= 0.02 * len(rows), without


def test_paraphrases_cover_every_kind_alike() -> None:
    assert Counter(row["kind"] for row in PARAPHRASES) == dict.fromkeys(KINDS, 13)


def test_paraphrases_all_together() -> None:
    assert right(PARAPHRASES) >= 0.95


def test_paraphrases_used_for_mending() -> None:
    assert right(PARAPHRASES[::2]) >= 0.95


def test_paraphrases_never_read() -> None:
    assert right(PARAPHRASES[1::2]) >= 0.94


@pytest.mark.parametrize(
    ("name", "phenomenon"),
    [
        ("Floating upside-down chair", "The chair hovers upside down."),
        ("Giant floating cat", "A huge cat levitates above the house."),
        ("Several errors", "Chairs float, a clock has a wrong dial and the sun appears twice."),
        ("Floating chair without a shadow", "The chair hovers, and no shadow falls on the floor."),
    ],
)
def test_a_finding_that_names_several_kinds_has_none(name: str, phenomenon: str) -> None:
    assert kind_of(name, phenomenon) is None


@pytest.mark.parametrize("text", ["", "Nice picture.", "A dog and a cat", "???", "不思議な絵", "x" * 10_000])
def test_a_text_that_speaks_for_no_kind_has_none(text: str) -> None:
    assert kind_of(text, text, text) is None


def test_letter_case_and_american_spelling_make_no_difference() -> None:
    assert kind_of("WRONGLY COLORED BANANA", "THE BANANA IS BLUE.") == "colour"
    assert evidence("Impossible color", "") == evidence("impossible colour", "")


def test_every_kind_has_cues_and_every_cue_compiles() -> None:
    table = tomllib.loads(files("anomreason.metrics").joinpath("kind_cues.toml").read_text(encoding="utf-8"))
    assert tuple(table) == KINDS
    assert all(weight in "12345" and cues for cues_of in table.values() for weight, cues in cues_of.items())
    for cue in (cue for cues_of in table.values() for cues in cues_of.values() for cue in cues):
        re.compile(cue.replace("{n}", "x").replace("{no}", "x").replace("{part}", "x"))


@pytest.mark.parametrize("text", ["a " * 1000, "no " * 1000, "half of " * 300, "the surface of " * 200, "-" * 2000])
def test_hostile_texts_are_read_in_bounded_time(text: str) -> None:
    assert kind_of(text, text, text) in (None, *KINDS)
