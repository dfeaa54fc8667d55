"""Answers in which a thing is exchanged for another one that was shown with the same kind of violation.

What is often misplaced would else be said of whatever is misplaced, though the tower shows another thing. Knows tokens
and the words for things, nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass
from typing import Any

import numpy as np

from anomreason.english import plural
from anomreason.scenes.scene import KINDS, Kind
from anomreason.scenes.sprites.table import SpriteThing, table

EXCHANGEABLE: tuple[Kind, ...] = ("floating", "scale", "orientation", "out_of_place", "colour")
"""Kinds that say the same of one thing as of another."""
Ids = Callable[[str], list[int]]
"""Tokens of a text, and the one that ends an answer."""


@dataclass(frozen=True)
class Said:
    """An answer as tokens."""

    ids: tuple[int, ...]
    about: tuple[int, ...]
    """Of a token that is a word for a thing: 1 + the place among KINDS of the anomaly that it tells; of others 0."""
    silent: int | None = None
    """Place of the token by which it says that nothing is wrong, or nothing more."""


class Exchange:
    """For one tokenizer. Looks at `apart` (see `Speech`) each time, so it grows with what was learnt."""

    def __init__(self, ids: Ids, words: Set[int], apart: Any) -> None:
        self._words, self._apart = words, apart
        self._kinds = {1 + KINDS.index(kind) for kind in EXCHANGEABLE}
        self.names = [_spelt(ids, thing) for thing in table().things]
        """By thing, in the order of `thing_names`; see `_spelt`."""

    def __call__(self, rng: np.random.Generator, answer: Said) -> tuple[Said, int, int] | None:
        """The answer with another thing instead of one that it tells of, and which (places among the names): one of
        which the same kind was said before. None where there is none."""
        told = [
            (thing, kind)
            for thing, spelt in enumerate(self.names)
            for kind in sorted(set(answer.about) & self._kinds)
            if spelt and (spelt[0][0], kind) in zip(answer.ids, answer.about, strict=True)
        ]
        if not told:
            return None
        old, kind = told[int(rng.integers(len(told)))]
        fit = [k for k, spelt in enumerate(self.names) if spelt and k != old and not self._apart[kind, spelt[0][0]]]
        if not fit:
            return None
        new = fit[int(rng.integers(len(fit)))]
        made = self._renamed(answer, old, new, kind)
        return (made, old, new) if made.ids != answer.ids else None

    def _renamed(self, answer: Said, old: int, new: int, kind: int) -> Said:
        ids, about, k = list[int](), list[int](), 0
        coloured = slice(0, None, 2) if kind == 1 + KINDS.index("colour") else slice(1, None, 2)
        forms = list(zip(self.names[old][coloured], self.names[new][coloured], strict=True))
        while k < len(answer.ids):
            own = answer.about[k] == kind or answer.ids[k] not in self._words
            here = (pair for pair in forms if own and answer.ids[k : k + len(pair[0])] == pair[0])
            was, now = next(here, (answer.ids[k : k + 1],) * 2)
            about += answer.about[k : k + 1] if was is now else [kind * (one in self._words) for one in now]
            ids, k = [*ids, *now], k + len(was)
        silent = answer.silent if not answer.silent else len(ids) - 1
        return Said(tuple(ids), tuple(about), silent)


def _spelt(ids: Ids, thing: SpriteThing) -> tuple[tuple[int, ...], ...]:
    """Tokens of its name and of its name with its colour, both in small letters, then both with a capital; nothing
    where small ones are not a token a word, or the plural is not formed with an s."""
    texts = [thing.name, f"{thing.colour} {thing.name}" if thing.colour else thing.name]
    texts += [text[:1].upper() + text[1:] for text in texts]
    spelt = tuple(tuple(ids(text)[:-1]) for text in texts)
    usual = [*map(len, spelt[:2])] == [1, 1 + bool(thing.colour)] and plural(thing.name) == thing.name + "s"
    return spelt if usual else ()
