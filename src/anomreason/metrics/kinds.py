"""Which kind of violation a finding is about, told from its words in two stages.

First a table of weighted cues, written by hand (`kind_cues.toml`), which decides where one kind is clearly ahead; else
these cues and fitted weights of words together (`kind_words`). Knows no scenes and no pictures. A finding that names
several kinds has none, and neither has one that speaks for no kind. Try it:

    >>> kind_of("Floating chair", "The chair hangs in mid-air.")
    'floating'
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files

import numpy as np

from anomreason.anomaly import KINDS, Kind
from anomreason.metrics.kind_words import Floats, chances

_Found = Mapping[Kind, tuple[float, ...]]
"""By kind, the weights of the strongest cues in one text."""
SHARES = (1.5, 1.0, 0.4)
"""How much a cue counts in name, phenomenon and reasoning."""
STRONGEST = 2
"""Cues of one kind that count in one text; more would only reward long texts."""
LEAST = 5.0
"""Evidence that a kind needs to be told by cues alone."""
CLEAR = 0.5
"""Share of the first kind's evidence below which the second must stay for the first to be told by cues alone."""
LIKELY = 0.25
"""Probability that a kind needs to be told by cues and words together."""
DECISIVE, USUAL, SPEAKS = 4.0, 3.0, 2.0
"""From these weights on, one cue names a kind, usually decides, or speaks for it."""
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
    texts = (plain(name), plain(phenomenon), plain(reasoning))
    if _names_several(*map(_found, texts)):
        return None
    ranked = sorted(evidence(*texts).items(), key=lambda item: -item[1])
    (kind, most), (_, second) = ranked[:2]
    return kind if most >= LEAST and second < CLEAR * most else _by_words(texts)


def evidence(name: str, phenomenon: str, reasoning: str = "") -> dict[Kind, float]:
    """How much speaks for each kind: weights of the strongest cues in each text, times the text's share."""
    weights = np.array(SHARES) @ weights_found((name, phenomenon, reasoning))
    return dict(zip(KINDS, weights.tolist(), strict=True))


def weights_found(texts: Sequence[str]) -> Floats:
    """Weights of the strongest cues in name, phenomenon and reasoning; shape (3, kinds)."""
    return np.array([[sum(cues) for cues in _found(plain(text)).values()] for text in texts])


def plain(text: str) -> str:
    """The text as cues and words are looked for in it."""
    text = text[:LONGEST].lower().replace("’", "'").replace("_", " ")
    return re.sub(r"\bcolor", "colour", text)


def _by_words(texts: Sequence[str]) -> Kind | None:
    likely = chances(texts, weights_found(texts))
    best = int(likely.argmax())
    return KINDS[best] if likely[best] >= LIKELY else None


def _names_several(name: _Found, phenomenon: _Found, reasoning: _Found) -> bool:
    """Whether the name, the phenomenon, or the two against each other, name more than one kind decisively."""
    strongest = max((cue for cues in name.values() for cue in cues), default=0.0)
    named, told = _from(max(DECISIVE, strongest), name), _from(DECISIVE, phenomenon)
    if len(named) > 2 or len(told) > 2:
        return True
    if len(named) == 2:
        return len(named & (_from(DECISIVE, phenomenon) & named or _from(USUAL, phenomenon))) != 1
    apart = bool(named and told) and not (named & _from(SPEAKS, phenomenon) or told & _from(SPEAKS, name))
    return apart and len((named | told) & _from(USUAL, reasoning)) != 1


def _from(least: float, found: _Found) -> set[Kind]:
    """The kinds that have a cue of at least this weight."""
    return {kind for kind, cues in found.items() if max(cues, default=0.0) >= least}


@lru_cache(maxsize=4096)
def _found(text: str) -> _Found:
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
