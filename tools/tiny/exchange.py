"""Answers in which a thing is exchanged for another one, whatever it is but what is held out of training with the kind.

What is often misplaced would else be said of whatever is misplaced, though the tower shows another thing. Things that
no scene shows so stand in answers too (a helicopter that hangs in the air): they are to be named as they are seen, and
whether something is wrong with one is for the tower to see. Knows tokens and the words for things, nothing of models.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from dataclasses import dataclass

import numpy as np
from tools.tiny.corpus import capital, plurals, thing_names, trained_on

from anomreason.anomaly import KINDS, Kind
from anomreason.english import plural
from anomreason.scenes.sprites.table import SpriteThing, table

EXCHANGEABLE: tuple[Kind, ...] = ("floating", "scale", "orientation", "out_of_place", "colour")
"""Kinds that say the same of one thing as of another."""
Ids = Callable[[str], list[int]]
"""Tokens of a text, and the one that ends an answer."""


@dataclass(frozen=True)
class AnswerTokens:
    """An answer as tokens."""

    ids: tuple[int, ...]
    about: tuple[int, ...]
    """Of a token that is a word for a thing: 1 + the place among KINDS of the anomaly that it tells; of others 0."""
    silent: int | None = None
    """Place of the token by which it says that nothing is wrong, or nothing more."""


@dataclass(frozen=True)
class Spelt:
    """A thing's name in tokens: of one, of several, of several with a capital; bare also of one with a capital, as it
    begins the name of an anomaly."""

    coloured: tuple[tuple[int, ...], ...]
    bare: tuple[tuple[int, ...], ...]


class Exchange:
    """For one tokenizer."""

    def __init__(self, ids: Ids, words: Set[int]) -> None:
        self._words = words
        self._kinds = {1 + KINDS.index(kind) for kind in EXCHANGEABLE}
        spelt = [_spelt(ids, *pair) for pair in zip(table().things, plurals(), strict=True)]
        self.names = {thing: one for thing, one in enumerate(spelt) if one}
        """Of the things that are exchanged, by their places in `thing_names`."""

    def __call__(self, rng: np.random.Generator, answer: AnswerTokens) -> tuple[AnswerTokens, int, int] | None:
        """The answer with another thing instead of one that it tells of, and which (places among the names). None where
        there is none."""
        said = set(zip(answer.ids, answer.about, strict=True))
        told = [
            (thing, kind)
            for thing, spelt in self.names.items()
            for kind in sorted(set(answer.about) & self._kinds)
            if (spelt.bare[-1][0], kind) in said
        ]
        if not told:
            return None
        old, kind = told[int(rng.integers(len(told)))]
        things, what = thing_names(), KINDS[kind - 1]
        fit = [thing for thing in self.names if thing != old and trained_on(what, things[thing])]
        new = fit[int(rng.integers(len(fit)))]
        made = _renamed(answer, self.names[old], self.names[new], kind, self._words)
        return (made, old, new) if made.ids != answer.ids else None


def _renamed(answer: AnswerTokens, was: Spelt, now: Spelt, kind: int, words: Set[int]) -> AnswerTokens:
    forms = list(zip(was.bare, now.bare, strict=True))
    if kind != 1 + KINDS.index("colour"):
        forms = [*zip(was.coloured, now.coloured, strict=True), *forms]
    ids, about, k = list[int](), list[int](), 0
    while k < len(answer.ids):
        own = answer.about[k] == kind or answer.ids[k] not in words
        here = (pair for pair in forms if own and answer.ids[k : k + len(pair[0])] == pair[0])
        before, after = next(here, (answer.ids[k : k + 1],) * 2)
        about += answer.about[k : k + 1] if before is after else [kind * (one in words) for one in after]
        ids, k = [*ids, *after], k + len(before)
    silent = answer.silent if not answer.silent else len(ids) - 1
    return AnswerTokens(tuple(ids), tuple(about), silent)


def _spelt(ids: Ids, thing: SpriteThing, several: str) -> Spelt | None:
    """None of what is plural as it is, and of `pieces of red coral`: sentences about these are built otherwise."""
    many = plural(thing.phrase)
    if thing.plural or not many.endswith(several):
        return None

    def tokens(*texts: str) -> tuple[tuple[int, ...], ...]:
        return tuple(tuple(ids(text)[:-1]) for text in texts)

    coloured = tokens(thing.phrase, many, capital(many))
    return Spelt(coloured, tokens(thing.name, several, capital(several), capital(thing.name)))
