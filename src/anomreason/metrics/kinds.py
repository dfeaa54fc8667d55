"""Which kind of violation a finding is about, told from its words: a table of cues, weighted, and nothing learned.

Knows no scenes and no pictures; the cues stand in `kind_cues.toml`. A finding that speaks for two kinds about alike
has none, and neither has one that speaks for no kind. Try it:

    >>> kind_of("Floating chair", "The chair hangs in mid-air.")
    'floating'
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache, lru_cache
from importlib.resources import files
from typing import Literal, get_args

Kind = Literal[
    "floating",
    "intersection",
    "scale",
    "orientation",
    "out_of_place",
    "missing_part",
    "duplicated_part",
    "colour",
    "shadow",
    "reflection",
    "function",
    "physical_state",
    "text",
    "count",
    "lighting",
    "split",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
"""The kinds that scenes plant."""
SHARES = (1.5, 1.0, 0.4)
"""How much a cue counts in name, phenomenon and reasoning."""
STRONGEST = 2
"""Cues of one kind that count in one text; more would only reward long texts."""
LEAST = 1.2
"""A kind needs this much to be told at all."""
CLEAR = 0.93
"""The second kind must stay below this share of the first, else the finding names several."""
DECISIVE = 4.0
"""From this weight on, one cue names a kind."""
LONGEST = 2_000
"""Characters of a text that are looked at."""
_WORDS = {
    "{n}": r"(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|thirteen|fourteen|\d{1,2})",
    "{no}": r"(?:no|not|without|never|nothing|none|lacks|lacking|neither|nor|n't|hardly|barely|cannot|fails|absence)",
    "{part}": (
        r"(?:legs?|heads?|wheels?|seats?|handles?|arms?|wings?|tails?|doors?|lids?|faces?|eyes?|ears?|bottoms?|backs?|"
        r"backrests?|tops?|necks?|trunks?|strings?|fingers?|feet|foot|roofs?|windows?|blades?|straps?|soles?|spouts?|"
        r"horns?|beaks?|masts?|stems?|pedals?|saddles?|hands?|noses?|limbs?|tyres?|tires?|base|pole|stand|"
        r"cushions?|drawers?|steering wheel|propellers?|rotors?|sails?|hull|keyboard|screen|mattress|tabletop|"
        r"table ?top|frames?|pillars?|walls?|hooves|paws|fins?|shells?|trunk|antennae?|branches|leaves|crown|torso|"
        r"body|parts?|pieces?|components?|section|support leg|post|shaft|lens|hinge|hinges|cap)"
    ),
}


def kind_of(name: str, phenomenon: str, reasoning: str = "") -> Kind | None:
    """The one kind that the texts speak for; None for several or none."""
    ranked = sorted(evidence(name, phenomenon, reasoning).items(), key=lambda item: -item[1])
    (kind, most), (_, second) = ranked[:2]
    alike = second >= CLEAR * most or most < LEAST
    return None if alike or _names_several(_plain(name), _plain(phenomenon)) else kind


def evidence(name: str, phenomenon: str, reasoning: str = "") -> dict[Kind, float]:
    """How much speaks for each kind: weights of the strongest cues in each text, times the text's share."""
    found = [(share, _found(_plain(t))) for share, t in zip(SHARES, (name, phenomenon, reasoning), strict=True)]
    return {kind: sum(share * sum(cues[kind]) for share, cues in found) for kind in KINDS}


def _names_several(name: str, phenomenon: str) -> bool:
    """Whether two kinds are named alike decisively in the name, or three in the phenomenon."""
    named = sorted((max(cues, default=0.0) for cues in _found(name).values()), reverse=True)
    told = sum(max(cues, default=0.0) >= DECISIVE for cues in _found(phenomenon).values())
    return (named[0] == named[1] and named[1] >= DECISIVE) or told > 2


def _plain(text: str) -> str:
    text = text[:LONGEST].lower().replace("’", "'").replace("_", " ")
    return re.sub(r"\bcolor", "colour", text)


@lru_cache(maxsize=4096)
def _found(text: str) -> Mapping[Kind, tuple[float, ...]]:
    """Weights of the strongest cues of each kind in a text."""
    return {kind: _strongest(kind, text) for kind in KINDS}


def _strongest(kind: Kind, text: str) -> tuple[float, ...]:
    found: list[float] = []
    for weight, cues in _cues()[kind]:
        found += [weight] * sum(cue.search(text) is not None for cue in cues)
        if len(found) >= STRONGEST:
            break
    return tuple(found[:STRONGEST])


@cache
def _cues() -> Mapping[Kind, list[tuple[float, list[re.Pattern[str]]]]]:
    """By kind, the heaviest first."""
    table = tomllib.loads(files("anomreason.metrics").joinpath("kind_cues.toml").read_text(encoding="utf-8"))
    return {
        kind: [(float(w), [_pattern(c) for c in table[kind][w]]) for w in sorted(table[kind])[::-1]] for kind in KINDS
    }


def _pattern(cue: str) -> re.Pattern[str]:
    for word, forms in _WORDS.items():
        cue = cue.replace(word, forms)
    return re.compile(cue)
