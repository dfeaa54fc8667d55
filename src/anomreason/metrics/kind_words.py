"""How likely each kind is by the words of a finding and its cues: weights of stems and of pairs of stems, from a table.

Knows no cues of its own and no templates. The table `kind_words.tsv` is written by `tools/fit_kind_words.py`: a column
a kind, a row a stem or a pair; a blank is 0. The row without a term is what speaks for a kind before a word is read.
Try it (7 is colour):

    >>> chances(("Turquoise lemon", "", ""), np.zeros((3, 16))).argmax()
    7
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from itertools import pairwise

import numpy as np
import numpy.typing as npt

CUE = 0.6
"""What a cue of weight 1 adds to the logarithm of a kind's odds."""
MOST = 8.0
"""Weight of one kind's cues in one text that counts."""
LENGTH = 4.0
"""A longer vector of terms is shortened to this, so that long texts weigh no more than others."""
SCALE = 10.0
"""The table holds weights times this, as whole numbers."""
_ENDINGS = (("ies", "y"), ("ing", ""), ("edly", ""), ("ed", ""), ("es", ""), ("ly", ""), ("s", ""))
_ARTICLES = frozenset(("a", "an", "the"))
_WORD = re.compile(r"[a-z]+(?:'[a-z]+)?|\d+")

Floats = npt.NDArray[np.float64]


def chances(texts: Sequence[str], cues: Floats) -> Floats:
    """Probability of each kind, by texts and the weights of cues in each of them; cues have shape (texts, kinds)."""
    start, weights = _table()
    found = terms(texts)
    score = start + from_cues(cues)
    for term in sorted(found & weights.keys()):
        score = score + shortened(len(found)) * weights[term]
    odds = np.exp(score - score.max())
    likely: Floats = odds / odds.sum()
    return likely


def from_cues(cues: Floats) -> Floats:
    """What cues add to the logarithm of each kind's odds; shape (texts, kinds) to (kinds,)."""
    added: Floats = CUE * np.minimum(cues, MOST).sum(axis=0)
    return added


def terms(texts: Sequence[str]) -> set[str]:
    """Stems, and pairs of stems that stand side by side, without articles."""
    found: set[str] = set()
    for text in texts:
        stems = [_stem(word) for word in _WORD.findall(text.lower()) if word not in _ARTICLES]
        found.update(stems, (f"{one} {after}" for one, after in pairwise(stems)))
    return found


def shortened(terms_found: int) -> float:
    """What each of so many terms counts."""
    return min(1.0, LENGTH / math.sqrt(max(terms_found, 1)))


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
def _table() -> tuple[Floats, Mapping[str, Floats]]:
    lines = files("anomreason.metrics").joinpath("kind_words.tsv").read_text(encoding="utf-8").splitlines()
    rows = {}
    for line in lines[1:]:
        term, *cells = line.split("\t")
        rows[term] = np.array([float(cell or 0) for cell in cells]) / SCALE
    return rows.pop(""), rows
