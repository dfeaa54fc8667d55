"""Matches images across files by relative path, then by unique file name; chooses the images to score.

Names are compared as relative paths; what is left over is joined by the file name
alone, where it occurs once on either side. Whatever cannot be joined is listed, never dropped in silence. Try it:

    >>> join(["a/1.png", "a/2.png"], ["a/1.png", "elsewhere/2.png", "3.png"]).strangers
    ('3.png',)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from posixpath import basename

from anomreason.errors import UsageError
from anomreason.sources.annotations import ImageAnnotation, Source, key_of, read_names


@dataclass(frozen=True, slots=True)
class Joined:
    """Names of one side by names of the other."""

    of: dict[str, str]
    """Name there, by name here; names without a partner are not in it."""
    by_file_name: int
    """Of these, joined by the file name alone."""
    strangers: tuple[str, ...]
    """Names there that fit no name here."""
    ambiguous: tuple[str, ...] = ()
    """Names there whose file name is that of names left over here, but occurs more than once on a side."""


def join(here: Iterable[str], there: Iterable[str]) -> Joined:
    """Join two lists of normalised names (see `key_of`), each without doubles."""
    here, there = list(dict.fromkeys(here)), list(dict.fromkeys(there))
    same = set(here) & set(there)
    found = {name: name for name in here if name in same}
    mine, theirs = (Counter(basename(name) for name in names) for names in (here, there))
    left = {basename(name): name for name in there if name not in same and theirs[basename(name)] == 1}
    for name in here:
        last = basename(name)
        if name not in same and mine[last] == 1 and last in left:
            found[name] = left.pop(last)
    partners = set(found.values())
    alone = {basename(name) for name in here if name not in found}
    rest = [name for name in there if name not in partners]
    return Joined(
        found,
        len(found) - len(same),
        strangers=tuple(name for name in rest if basename(name) not in alone),
        ambiguous=tuple(name for name in rest if basename(name) in alone),
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
    by_file_name: int
    """Of these, joined by the file name alone."""
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
    by_file_name = sum(joined.of[name] != name for name in answers)
    return Entrant(source, answers, by_file_name, joined.strangers, joined.ambiguous)
