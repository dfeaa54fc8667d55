"""The kind of violation that an anomaly's texts describe.

A table of weighted cues, written by hand (`kind_cues.toml`), decides where one kind is clearly ahead. Otherwise the
cues are combined with fitted weights of words: `kind_words.tsv`, written by `tools/fit_kind_words.py`. A text that
names several kinds has no kind, and neither has one that fits none. Try it:

    >>> kind_of("Floating chair", "The chair hangs in mid-air.")
    'floating'
"""

from __future__ import annotations

import math
import re
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
from importlib.resources import files
from itertools import pairwise
from typing import Any

import numpy as np

from anomreason.anomaly import KINDS, Kind
from anomreason.stats import Floats

_CueWeights = Mapping[Kind, tuple[float, ...]]
"""By kind, the weights of the strongest cues in one text."""
SHARES = (1.5, 1.0, 0.4)
"""How much a cue counts in name, phenomenon and reasoning."""
STRONGEST = 2
"""Cues of one kind that count in one text; more would only reward long texts."""
LEAST = 5.0
"""Evidence a kind needs to be chosen by cues alone."""
CLEAR = 0.5
"""Share of the first kind's evidence that the second must stay below for the first to be chosen by cues alone."""
LIKELY = 0.25
"""Probability a kind needs to be chosen by cues and words together."""
DECISIVE, USUAL, INDICATIVE = 4.0, 3.0, 2.0
"""Least weights of a single cue that names a kind, usually decides, or hints at it."""
LONGEST = 2_000
"""Characters of a text that are read."""
CUE_FACTOR = 0.6
"""What a cue of weight 1 adds to the log odds of a kind."""
CUE_LIMIT = 8.0
"""Highest total weight of one kind's cues in one text."""
LONGEST_VECTOR = 4.0
"""Longer vectors of terms are scaled down to this length, so that long texts weigh no more than others."""
TABLE_SCALE = 10.0
"""`kind_words.tsv` holds weights times this, as whole numbers."""
_ENDINGS = (("ies", "y"), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""), ("ly", ""), ("s", ""))
_ARTICLES = frozenset(("a", "an", "the"))
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")


def kind_of(name: str, phenomenon: str, reasoning: str = "") -> Kind | None:
    """The one kind that the texts describe; None for several or none."""
    texts = (normalized(name), normalized(phenomenon), normalized(reasoning))
    if _names_several(*map(_cue_weights, texts)):
        return None
    ranked = sorted(evidence(*texts).items(), key=lambda item: -item[1])
    (kind, most), (_, second) = ranked[:2]
    return kind if most >= LEAST and second < CLEAR * most else _by_words(texts)


def evidence(name: str, phenomenon: str, reasoning: str = "") -> dict[Kind, float]:
    """Evidence for each kind: weights of the strongest cues in each text, times the text's share."""
    weights = np.array(SHARES) @ cue_weights((name, phenomenon, reasoning))
    return dict(zip(KINDS, weights.tolist(), strict=True))


def cue_weights(texts: Sequence[str]) -> Floats:
    """Total weight of the strongest cues: (texts, kinds)."""
    return np.array([[sum(cues) for cues in _cue_weights(normalized(text)).values()] for text in texts])


def normalized(text: str) -> str:
    """The text in the form in which cues and words are searched."""
    text = text[:LONGEST].lower().replace("’", "'").replace("_", " ")
    return re.sub(r"\bcolor", "colour", text)


def _names_several(name: _CueWeights, phenomenon: _CueWeights, reasoning: _CueWeights) -> bool:
    """Whether the name, the phenomenon, or the two against each other, name more than one kind decisively."""
    strongest = max((cue for cues in name.values() for cue in cues), default=0.0)
    named, shown = _kinds_from(max(DECISIVE, strongest), name), _kinds_from(DECISIVE, phenomenon)
    if len(named) > 2 or len(shown) > 2:
        return True
    if len(named) == 2:
        return len(named & (_kinds_from(DECISIVE, phenomenon) & named or _kinds_from(USUAL, phenomenon))) != 1
    agreeing = named & _kinds_from(INDICATIVE, phenomenon) or shown & _kinds_from(INDICATIVE, name)
    apart = bool(named and shown) and not agreeing
    return apart and len((named | shown) & _kinds_from(USUAL, reasoning)) != 1


def _kinds_from(least: float, found: _CueWeights) -> set[Kind]:
    """The kinds that have a cue of at least this weight."""
    return {kind for kind, cues in found.items() if max(cues, default=0.0) >= least}


@lru_cache(maxsize=4096)
def _cue_weights(text: str) -> _CueWeights:
    return {kind: _strongest(kind, text) for kind in KINDS}


def _strongest(kind: Kind, text: str) -> tuple[float, ...]:
    found: list[float] = []
    for weight, cues in _cues()[kind]:
        found += [weight] * sum(cue.search(text) is not None for cue in cues)
        if len(found) >= STRONGEST:
            break
    return tuple(found[:STRONGEST])


@cache
def _cue_table() -> Mapping[str, Any]:
    return tomllib.loads(files("anomreason.metrics").joinpath("kind_cues.toml").read_text(encoding="utf-8"))


@cache
def _cues() -> Mapping[Kind, list[tuple[float, list[re.Pattern[str]]]]]:
    """By kind, the heaviest first."""
    table = _cue_table()
    return {
        kind: [(float(w), [_pattern(c) for c in table[kind][w]]) for w in sorted(table[kind])[::-1]] for kind in KINDS
    }


def _pattern(cue: str) -> re.Pattern[str]:
    for name, forms in _cue_table()["placeholders"].items():
        cue = cue.replace(f"{{{name}}}", f"(?:{'|'.join(forms)})")
    return re.compile(cue)


def _by_words(texts: Sequence[str]) -> Kind | None:
    """The most probable kind by cues and words together (a softmax over kinds); None when it is not LIKELY."""
    prior, weights = _word_weights()
    found = terms(texts)
    score = prior + cue_scores(cue_weights(texts))
    for term in sorted(found & weights.keys()):
        score = score + term_factor(len(found)) * weights[term]
    odds = np.exp(score - score.max())
    best = int(odds.argmax())
    return KINDS[best] if odds[best] / odds.sum() >= LIKELY else None


def cue_scores(cues: Floats) -> Floats:
    """What cues add to the log odds of each kind: (texts, kinds) -> (kinds,)."""
    added: Floats = CUE_FACTOR * np.minimum(cues, CUE_LIMIT).sum(axis=0)
    return added


def terms(texts: Sequence[str]) -> set[str]:
    """Stems, and pairs of adjacent stems, without articles."""
    found: set[str] = set()
    for text in texts:
        stems = [_stem(word) for word in _WORD.findall(text.lower()) if word not in _ARTICLES]
        found.update(stems, (f"{one} {after}" for one, after in pairwise(stems)))
    return found


def term_factor(count: int) -> float:
    """What each of `count` terms counts; see LONGEST_VECTOR."""
    return min(1.0, LONGEST_VECTOR / math.sqrt(max(count, 1)))


def _stem(word: str) -> str:
    if word.endswith("n't"):
        return "not"
    word = "#" if word.isdigit() else re.sub(r"'s?$", "", word)
    if len(word) < 4:
        return word
    for ending, instead in _ENDINGS:
        if word.endswith(ending) and not word.endswith("ss") and len(word) - len(ending) >= 3:
            word = word.removesuffix(ending) + instead
            break
    if len(word) > 3 and word[-1] == "e":
        word = word[:-1]
    return word[:-1] if len(word) > 3 and word[-1] == word[-2] and word[-1] not in "lsz" else word


@cache
def _word_weights() -> tuple[Floats, Mapping[str, Floats]]:
    """Prior log odds (kinds,), which is the row without a term, and weights (kinds,) by term; an empty cell is 0."""
    lines = files("anomreason.metrics").joinpath("kind_words.tsv").read_text(encoding="utf-8").splitlines()
    rows = {}
    for line in lines[1:]:
        term, *cells = line.split("\t")
        rows[term] = np.array([float(cell or 0) for cell in cells]) / TABLE_SCALE
    return rows.pop(""), rows
