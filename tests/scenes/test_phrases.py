"""Every text of a world is whole, agrees with itself and is read back as it was written."""

import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.anomaly import KINDS, Anomaly, Kind
from anomreason.scenes.phrases import definition, describe, fill, levels, wordings
from anomreason.scenes.scene import Slots
from anomreason.textform import read_anomalies, write_anomalies

ROWS: list[tuple[Kind, str]] = [(kind, level) for kind in KINDS for level in levels(kind)]
DETAILS: dict[str, str] = {
    "out_of_place": "the bathroom",
    "missing_part": "its seat",
    "duplicated_part": "a second handle",
    "colour": "bright blue",
    "reflection": "a green vase",
    "function": "spraying water although no pipe leads to it",
    "text": "the number 13 at the top of its dial",
    "count": "five legs instead of four",
}
FIELDS = ("names", "phenomena", "reasoning")


def slots(kind: str, thing: str = "red car", **more: Any) -> Slots:
    given = {"place": "on the street", "other": "old oak", "detail": DETAILS.get(kind, "as tall as the house"), **more}
    return Slots(thing, **given)


def test_the_rubric_is_the_one_agreed_on() -> None:
    assert {kind: dict(levels(kind)) for kind in KINDS} == {
        "floating": {"high": 5, "low": 15},
        "intersection": {"deep": 5, "shallow": 15},
        "scale": {"giant": 8, "tiny": 15},
        "orientation": {"upside_down": 15, "sideways": 25},
        "out_of_place": {"impossible": 15, "strange": 35},
        "missing_part": {"vital": 10, "other": 25},
        "duplicated_part": {"duplicated": 10, "fused": 8},
        "colour": {"impossible": 20, "material": 25},
        "shadow": {"missing": 25, "wrong_way": 20},
        "reflection": {"other": 8, "missing": 12},
        "function": {"dark_lamp": 20, "under_water": 5, "running": 15},
        "physical_state": {"tilted_liquid": 8, "steep": 12},
        "text": {"clock": 10, "sign": 15},
        "count": {"many": 12, "few": 15},
        "lighting": {"two_suns": 5, "two_directions": 15},
        "split": {"gap": 3},
    }


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_is_defined_in_one_sentence(kind: Kind) -> None:
    assert re.fullmatch(r"[A-Z][^.]+\.", definition(kind))


@pytest.mark.parametrize(("kind", "level"), ROWS)
def test_at_least_six_phrasings_need_no_more_than_the_slots_asked_for(kind: Kind, level: str) -> None:
    wording = wordings(kind)[level]
    allowed = {"thing", "place", *wording.needs}
    for field in FIELDS:
        templates = getattr(wording, field)
        usable = [
            t for t in templates if not {"other", "detail"} - allowed & set(re.findall(r"other|detail", holes(t)))
        ]
        assert len(set(usable)) >= 6, field
        assert len({len(t.split()) for t in usable}) >= (2 if field == "names" else 3), "all of one length"


def holes(template: str) -> str:
    return " ".join(re.findall(r"\{[^}]*\}", template))


@pytest.mark.parametrize(("kind", "level"), ROWS)
def test_every_name_and_phenomenon_tells_the_thing(kind: Kind, level: str) -> None:
    wording = wordings(kind)[level]
    assert all(re.search(r"thing", holes(t)) for t in (*wording.names, *wording.phenomena))


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize(("kind", "level"), ROWS)
def test_filled_templates_are_whole_sentences(kind: Kind, level: str, several: bool, field: str) -> None:
    several = several and level != "two_suns"  # of suns only one is the right number
    given = slots(kind, "scissors" if several else "umbrella", plural=several, other="shears", other_plural=True)
    for template in getattr(wordings(kind)[level], field):
        text = fill(template, given)
        assert not re.search(r"[{}/]|  | [,.;:]|^[a-z]|\ba [aeiou]|\ban [^aeiouh]", text), text
        assert (field == "names") != text.endswith("."), text
        wrong = (
            "is|has|does|was|hangs|floats|needs|looks|seems|shows|stands|lies|casts" if several else "are|have|do|hang"
        )
        assert not re.search(rf"(?:^|[.:;] )(?:the |an )?(?:scissors|umbrella) (?:{wrong})\b", text, re.I), text
        assert not re.search(r"\bscissorses\b|\ba scissors|[^-]\bone scissors|\bevery scissors", text), text


WORDS = st.sampled_from(["car", "red car", "hourglass", "round wooden table", "unicorn", "glass of milk"])


@settings(max_examples=200)
@given(row=st.sampled_from(ROWS), thing=WORDS, other=WORDS, seed=st.integers(0, 2**32))
def test_a_description_is_read_back_equal(row: tuple[Kind, str], thing: str, other: str, seed: int) -> None:
    kind, level = row
    told = describe(kind, level, slots(kind, thing, other=other), np.random.default_rng(seed))
    name, phenomenon, reasoning, severity = told
    anomaly = Anomaly(name=name, phenomenon=phenomenon, reasoning=reasoning, severity=severity)
    assert read_anomalies(write_anomalies([anomaly])) == (anomaly,)
    assert severity == levels(kind)[level]
    assert 2 <= len(name.split()) <= 7
    assert thing.split()[-1] in f"{name} {phenomenon}".lower()
    assert told == describe(kind, level, slots(kind, thing, other=other), np.random.default_rng(seed))


def test_all_phrasings_come_up() -> None:
    rng = np.random.default_rng(5)
    told = [describe("floating", "high", slots("floating"), rng) for _ in range(300)]
    assert [len({t[field] for t in told}) for field in range(3)] == [7, 7, 7]


def test_forms_agree_with_the_thing_they_belong_to() -> None:
    given = Slots("scissors", "on the table", other="oak", plural=True)
    template = "{a thing} {hangs/hang}, {the other} {other:stands/stand}: {a real other}, {things}. {it/they} {place}"
    assert fill(template, given) == "Scissors hang, the oak stands: a real oak, scissors. They on the table"


def test_wrong_arguments_say_what_to_do() -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(ValueError, match="no level 'far'; its levels are high, low"):
        describe("floating", "far", slots("floating"), rng)
    with pytest.raises(ValueError, match="needs the slot 'other'; fill it"):
        describe("intersection", "deep", slots("intersection", other=""), rng)
    with pytest.raises(ValueError, match="needs the slot 'place'"):
        describe("split", "gap", slots("split", place=" "), rng)
    with pytest.raises(ValueError, match=r"a template has \{nonsense\}"):
        fill("{nonsense}", slots("split"))


def test_optional_slots_may_stay_empty() -> None:
    rng = np.random.default_rng(0)
    for _ in range(100):
        name, phenomenon, reasoning, _ = describe("scale", "giant", Slots("car", "on the street"), rng)
        assert "  " not in name + phenomenon + reasoning
        assert " the ," not in phenomenon + reasoning
