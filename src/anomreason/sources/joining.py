"""Matches images across files by relative path, else by what is surely the same name; chooses the images to score.

What the path does not join is joined by another spelling of it, by the file name alone, or by the file name behind an
upload prefix, where that occurs once on either side. Whatever cannot be joined is listed, never dropped in silence.
Try it:

    >>> join(["a/1.png", "a/2.png"], ["a/1.png", "elsewhere/2.png", "3.png"]).strangers
    ('3.png',)
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename, splitext
from typing import Literal
from unicodedata import normalize
from urllib.parse import unquote

from anomreason.errors import UsageError
from anomreason.sources.annotations import ImageAnnotation, Source, key_of, read_names

Way = Literal["spelling", "file name", "upload prefix"]
"""How two names that are not equal were joined."""
_PREFIX = re.compile(
    r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}[-_]|[0-9a-f]{32}[-_]|(?!(?:19|20)\d{6}-)[0-9a-f]{8}-"
)
"""What upload servers write before a file's name, e.g. Label Studio's `3b051792-`; eight digits may be a date."""


def spelled(name: str) -> str:
    """A name in one spelling: composed letters, no percent-encoding, the ending in lower case."""
    decoded = unquote(name)
    stem, ending = splitext(normalize("NFC", name if "\ufffd" in decoded else key_of(decoded)))
    return stem + ending.lower()


def _unprefixed(name: str) -> str:
    last = basename(spelled(name))
    return last[match.end() :] if (match := _PREFIX.match(last)) else last


_FORMS: tuple[tuple[Way, Callable[[str], str]], ...] = (
    ("spelling", spelled),
    ("file name", basename),
    ("spelling", lambda name: basename(spelled(name))),
    ("upload prefix", _unprefixed),
)
"""Forms in which names are compared, the strictest first."""


@dataclass(frozen=True, slots=True)
class Joined:
    """Names of one side by names of the other."""

    of: dict[str, str]
    """Name there, by name here; names without a partner are not in it."""
    ways: dict[str, Way]
    """How, by name here, where the names are not equal."""
    strangers: tuple[str, ...]
    """Names there that fit no name here."""
    ambiguous: tuple[str, ...] = ()
    """Names there that fit names left over here, but in a form that occurs more than once on a side."""


def join(here: Iterable[str], there: Iterable[str]) -> Joined:
    """Join two lists of normalised names (see `key_of`), each without doubles."""
    here, there = list(dict.fromkeys(here)), list(dict.fromkeys(there))
    same = set(here) & set(there)
    found = {name: name for name in here if name in same}
    ways: dict[str, Way] = {}
    rest = [name for name in there if name not in same]
    for way, form in _FORMS if rest and len(found) < len(here) else ():
        mine, theirs = (Counter(map(form, names)) for names in (here, there))
        left = {form(name): name for name in rest if theirs[form(name)] == 1}
        for name in here:
            if name not in found and mine[form(name)] == 1 and form(name) in left:
                found[name], ways[name] = left.pop(form(name)), way
        partners = set(found.values())
        rest = [name for name in rest if name not in partners]
    alone = {_unprefixed(name) for name in here if name not in found}
    return Joined(
        {name: found[name] for name in here if name in found},
        ways,
        strangers=tuple(name for name in rest if _unprefixed(name) not in alone),
        ambiguous=tuple(name for name in rest if _unprefixed(name) in alone),
    )


@dataclass(frozen=True, slots=True)
class Truth:
    """The images that are scored, and what was left out of the truth on the way."""

    source: Source
    images: dict[str, ImageAnnotation]
    """By normalised name, in the truth's order."""
    photographs: tuple[str, ...]
    """Left out: they have no list of anomalies, but a description, or only whether they are AI images is known."""
    failed: tuple[str, ...]
    """Left out: the truth itself failed on them."""
    unknown: tuple[str, ...]
    """Names of the subset that the truth does not have, or that may be one of several of its own."""


def scored_images(truth: Source, subset: Path | str | None) -> Truth:
    """The truth's annotated images that the subset names, or all. UsageError when none is left."""
    names, unknown = chosen(truth, subset)
    failed = tuple(n for n in names if truth.images[n].failure is not None)
    photographs = tuple(n for n in names if not truth.images[n].annotated and truth.images[n].failure is None)
    left = {n: truth.images[n] for n in names if truth.images[n].annotated}
    if not left:
        raise UsageError(
            f"{truth.path} has no annotated image to score"
            + (f" among those that {subset} names" if subset is not None else "")
            + f" ({len(photographs)} photographs, {len(failed)} failed); check both files"
        )
    return Truth(truth, left, photographs, failed, unknown)


def chosen(truth: Source, subset: Path | str | None) -> tuple[list[str], tuple[str, ...]]:
    """The truth's names that a subset names (all of them without one), and the subset's that the truth lacks."""
    if subset is None:
        return list(truth.images), ()
    joined = join(truth.images, [key_of(name) for name in read_names(subset)])
    return [name for name in truth.images if name in joined.of], joined.strangers + joined.ambiguous


@dataclass(frozen=True, slots=True)
class Entrant:
    """One prediction file beside the truth."""

    source: Source
    answers: dict[str, ImageAnnotation]
    """By name of the truth, scored images alone; a missing image is not in it."""
    ways: dict[str, Way]
    """How, for those of these whose names are not equal."""
    strangers: tuple[str, ...]
    """Its images that the whole truth does not have."""
    ambiguous: tuple[str, ...] = ()
    """Its images that may be one of several; see `Joined`."""

    def named(self, keys: Iterable[str]) -> list[str]:
        """Names as its file has them."""
        return [self.source.images[key].image for key in keys]


def entrant(source: Source, truth: Truth) -> Entrant:
    """Join predictions to the truth. UsageError when not one image fits, since then the names must differ in form."""
    joined = join(truth.source.images, source.images)
    if not joined.of:
        one, other = next(iter(source.images)), next(iter(truth.source.images))
        raise UsageError(
            f"{source.path} and {truth.source.path} have no image in common: the first has names like {one!r}, the "
            f"second like {other!r}; they are joined by relative path, else by a file name that occurs once"
        )
    answers = {name: source.images[joined.of[name]] for name in truth.images if name in joined.of}
    ways = {name: way for name, way in joined.ways.items() if name in answers}
    return Entrant(source, answers, ways, joined.strangers, joined.ambiguous)
