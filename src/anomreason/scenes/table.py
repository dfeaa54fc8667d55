"""Reads the table of a world: what each object is called, how large it is, where it stands and what it needs.

A table is a TOML file with one [[thing]] an object. A world that needs more columns declares them in a subclass of
Thing (and of TablePart), so that a mistyped column is an error.

    load_table("sprites/things.toml", SpriteThing).named("banana").size_cm
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from typing import Any, Generic, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from anomreason.anomaly import Text
from anomreason.errors import UsageError

Support = Literal["floor", "table", "wall", "ceiling", "water", "underwater", "seabed", "air", "held"]
Box = tuple[float, float, float, float]
"""x0, y0, x1, y1 in fractions, x to the right and y down, or the same with a third axis left out."""


class TablePart(BaseModel):
    """A part that must be there."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Text
    box: Box | None = None
    """In fractions of the object's image; None where a world finds the part in another way."""
    vital: bool = False
    """Whether the thing cannot stand, live or work without it."""

    @model_validator(mode="after")
    def _inside(self) -> Self:
        if self.box is not None:
            x0, y0, x1, y1 = self.box
            if not (0 <= x0 < x1 <= 1 and 0 <= y0 < y1 <= 1):
                raise ValueError(f"the box {list(self.box)} of part {self.name!r} needs 0 <= x0 < x1 <= 1, same for y")
        return self


class Thing(BaseModel):
    """One object of a world."""

    model_config = ConfigDict(frozen=True, extra="allow")

    name: Text
    """Without article; unique in the table."""
    plural: bool = False
    """Whether the name is a plural noun (`scissors`)."""
    synonyms: tuple[Text, ...] = ()
    size_cm: float = Field(gt=0)
    """Its real height."""
    colour: str = ""
    """In a word or two, as it is drawn; empty when it has none that one would name."""
    support: Support
    """What carries it."""
    places: tuple[Text, ...] = ()
    """Where it belongs; empty for what a world only brings in to be wrong."""
    parts: tuple[TablePart, ...] = ()
    does: tuple[Text, ...] = ()
    """`lit`, `running`, `wet`, `hot`."""
    front: str = ""
    """The side it looks to as drawn, e.g. `left`; empty when it looks the same from both sides."""
    up: bool = True
    """Whether it has a top that must point upwards."""
    never: tuple[Text, ...] = ()
    """Colours it never has."""
    impossible: tuple[Text, ...] = ()
    """Places that it cannot get to, live at or work in."""
    strange: tuple[Text, ...] = ()
    """Places that nobody would bring it to."""
    home: str = ""
    """Where it belongs, as a text says it (`a bathroom`); empty: one of its places."""

    @property
    def phrase(self) -> str:
        """With its colour: `red car`."""
        return f"{self.colour} {self.name}" if self.colour else self.name


Row = TypeVar("Row", bound=Thing)


@dataclass(frozen=True)
class ObjectTable(Generic[Row]):
    """All objects of a world."""

    version: str
    """Changes whenever a change of the table changes what a seed draws."""
    things: tuple[Row, ...]
    more: Mapping[str, Any]
    """The file's other tables."""

    @cached_property
    def _by_name(self) -> Mapping[str, Row]:
        return {thing.name: thing for thing in self.things}

    def named(self, name: str) -> Row:
        """UsageError when there is none of that name."""
        if name not in self._by_name:
            raise UsageError(f"the world's table has no thing named {name!r}; see its [[thing]] entries")
        return self._by_name[name]

    def at(self, place: str) -> tuple[Row, ...]:
        """What belongs to a place, in the order of the table."""
        return tuple(thing for thing in self.things if place in thing.places)


def load_table(name: str, row: type[Row]) -> ObjectTable[Row]:
    """The table of that file name that comes with the package."""
    return read_table(files("anomreason.scenes").joinpath(name).read_text(encoding="utf-8"), name, row)


def read_table(text: str, source: str, row: type[Row]) -> ObjectTable[Row]:
    """UsageError that names the source, the thing and the column when the table is not as it must be."""
    try:
        raw = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise UsageError(f"{source} is not TOML: {error}; correct it there") from None
    rows = raw.get("thing")
    if not isinstance(rows, list) or not rows:
        raise UsageError(f"{source} has no [[thing]] entries; a world needs at least one")
    if not isinstance(raw.get("version"), str):
        raise UsageError(f'{source} has version {raw.get("version")!r}; write version = "1" or higher at its top')
    things = tuple(_row(entry, number, source, row) for number, entry in enumerate(rows, 1))
    _no_name_twice(things, source)
    return ObjectTable(raw.pop("version"), things, {key: raw[key] for key in raw.keys() - {"thing"}})


def _row(entry: Any, number: int, source: str, row: type[Row]) -> Row:
    try:
        return row.model_validate(entry)
    except ValidationError as error:
        first = error.errors()[0]
        name = entry.get("name", "without name") if isinstance(entry, dict) else "not a table"
        column = ".".join(map(str, first["loc"])) or "the whole"
        value = "" if first["type"] == "missing" else f", not {first['input']!r}"
        raise UsageError(
            f"{source}: thing {number} ({name!r}), column {column}: {first['msg']}{value}; correct that entry"
        ) from None


def _no_name_twice(things: Sequence[Thing], source: str) -> None:
    names = [thing.name for thing in things]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise UsageError(f"{source} has more than one thing named {twice[0]!r}; names must differ")
