"""Words a planted anomaly: name, phenomenon, reasoning, and the severity of the rubric. All text is in `kinds.toml`.

    slots = Slots(thing="red car", place="on the street")
    print(describe("floating", "high", slots, numpy.random.default_rng(0)))

A template holds `{thing}`, `{a thing}`, `{the thing}`, `{a real thing}`, `{things}` (its plural), the same of `other`,
`{place}`, `{detail}`, and `{hangs/hang}`: the singular and the plural form (`{other:hangs/hang}` agrees with the other
thing).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np

from anomreason.anomaly import KINDS, Anomaly, Kind
from anomreason.english import plural, with_article
from anomreason.scenes.scene import Change, Mask, PlantedAnomaly, Slots, region_of

LONGEST_NAME = 7
"""Words; templates that would make a longer name are passed over while there is another."""
_FIELDS = ("names", "phenomena", "reasoning")
_HOLE = re.compile(r"\{([^{}]*)\}")
_NOUN = re.compile(r"(?:(a|the) )?((?:[a-z-]+ )*?)(thing|other)(s?)")
_FORMS = re.compile(r"(?:(other):)?([^/]+)/([^/]+)")
_START = re.compile(r"(?:^|(?<=[.!?] ))(\W*)(\w)")


@dataclass(frozen=True)
class PhraseTemplates:
    """The templates of one kind at one level."""

    severity: float
    """0 = completely implausible, 100 = fully realistic."""
    needs: tuple[str, ...]
    """Slots that must be filled besides thing and place."""
    names: tuple[str, ...]
    phenomena: tuple[str, ...]
    reasoning: tuple[str, ...]


def definition(kind: Kind) -> str:
    """What the kind means, in one sentence."""
    return str(_table()[kind]["definition"])


def levels(kind: Kind) -> Mapping[str, float]:
    """The rubric: severity (0 = completely implausible) by level."""
    return {level: float(severity) for level, severity in _table()[kind]["levels"].items()}


def describe(kind: Kind, level: str, slots: Slots, rng: np.random.Generator) -> tuple[str, str, str, float]:
    """Name, phenomenon, reasoning and severity. ValueError for an unknown level, or a slot that is needed and empty."""
    wording = wordings(kind).get(level)
    if wording is None:
        raise ValueError(f"{kind} has no level {level!r}; its levels are {', '.join(levels(kind))}")
    for slot in ("thing", "place", *wording.needs):
        if not getattr(slots, slot).strip():
            raise ValueError(f"{kind} at level {level!r} needs the slot {slot!r}; fill it")
    usable = [[fill(t, slots) for t in getattr(wording, field) if has_slots(t, slots)] for field in _FIELDS]
    short = [name for name in usable[0] if len(name.split()) <= LONGEST_NAME]
    usable[0] = short or [min(usable[0], key=lambda name: len(name.split()))]
    name, phenomenon, reasoning = (texts[int(rng.integers(len(texts)))] for texts in usable)
    return name, phenomenon, reasoning, wording.severity


def planted_anomaly(
    change: Change, slots: Slots, objects: Mapping[int, str], mask: Mask, rng: np.random.Generator
) -> PlantedAnomaly:
    """The whole record of a violation. objects: names by index in the scene, the main one first; mask: its pixels."""
    name, phenomenon, reasoning, severity = describe(change.kind, change.level, slots, rng)
    anomaly = Anomaly(
        name=name, phenomenon=phenomenon, reasoning=reasoning, severity=severity, kind=change.kind,
        objects=tuple(objects.values()), region=region_of(mask),
    )  # fmt: skip
    return PlantedAnomaly(change.kind, change.level, anomaly, tuple(objects), slots)


def wordings(kind: Kind) -> Mapping[str, PhraseTemplates]:
    """By level: its own templates where it has some, else those of the kind."""
    return _wordings()[kind]


def fill(template: str, slots: Slots) -> str:
    """One text: slots filled in, forms agreeing, every sentence with a capital. ValueError for an unknown hole."""
    text = " ".join(_HOLE.sub(lambda hole: _value(hole[1], slots), template).split())
    return _START.sub(lambda m: m[1] + m[2].upper(), text)


def _value(hole: str, slots: Slots) -> str:
    if hole in ("place", "detail"):
        return str(getattr(slots, hole))
    if noun := _NOUN.fullmatch(hole):
        article, before, which, several = noun.groups()
        phrase, many = (slots.thing, slots.plural) if which == "thing" else (slots.other, slots.other_plural)
        phrase = before + (plural(phrase) if several and not many else phrase)
        if article == "a":
            return with_article(phrase, many)
        return f"the {phrase}" if article else phrase
    if forms := _FORMS.fullmatch(hole):
        return forms[3] if (slots.other_plural if forms[1] else slots.plural) else forms[2]
    raise ValueError(f"a template has {{{hole}}}; see the head of phrases.py for what it may have")


def has_slots(template: str, slots: Slots) -> bool:
    """Whether every slot that the template mentions is filled."""
    holes = " ".join(_HOLE.findall(template))
    return bool(slots.other or "other" not in holes) and bool(slots.detail or "detail" not in holes)


@cache
def _table() -> Mapping[str, Any]:
    text = files("anomreason.scenes").joinpath("kinds.toml").read_text(encoding="utf-8")
    return tomllib.loads(text)


@cache
def _wordings() -> Mapping[Kind, Mapping[str, PhraseTemplates]]:
    return {kind: {level: _wording(kind, level) for level in _table()[kind]["levels"]} for kind in KINDS}


def _wording(kind: Kind, level: str) -> PhraseTemplates:
    whole = _table()[kind]
    own = {**whole, **whole.get(level, {})}
    texts = {field: tuple(own[field]) for field in _FIELDS}
    return PhraseTemplates(float(whole["levels"][level]), tuple(own.get("needs", ())), **texts)
