"""Recipes: the settings of a long piece of work, read from TOML; a wrong setting is named with its place.

The package carries recipes of its own, which are named without a path.

    RECIPES = RecipeShelf(Recipe, "anomreason.training", "recipe")
    RECIPES.read("anomreasonor-7b").effective_batch
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, Generic, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from anomreason.errors import UsageError

R = TypeVar("R", bound=BaseModel)
_LARGEST = 1 << 20


@dataclass(frozen=True)
class RecipeShelf(Generic[R]):
    """Recipes of one sort: those that the package carries, and files of the user's own."""

    model: type[R]
    package: str
    """Its folder `recipes` holds those that come with it."""
    noun: str
    """What a recipe is called in messages."""

    def read(self, source: str | Path) -> R:
        """A recipe by the path of its TOML file, or by the name of one of the package's own.

        Raises UsageError, naming file and key.
        """
        name, data = self._bytes_of(source)
        return self.validate(parse_toml(data, name), name)

    def validate(self, table: dict[str, Any], name: str) -> R:
        """A recipe from what TOML holds; `name` is where it comes from, for messages. Raises UsageError."""
        return validated(self.model, table, name)

    def names(self) -> list[str]:
        """Those that the package carries."""
        entries = (files(self.package) / "recipes").iterdir()
        return sorted(entry.name.removesuffix(".toml") for entry in entries if entry.name.endswith(".toml"))

    def _bytes_of(self, source: str | Path) -> tuple[str, bytes]:
        names = self.names()
        if source in names:
            return f"{self.noun} {source!r}", (files(self.package) / "recipes" / f"{source}.toml").read_bytes()
        path = Path(source).expanduser()
        if path.suffix != ".toml" and not path.is_file():
            raise UsageError(f"there is no {self.noun} {str(source)!r}; give a .toml file or one of {', '.join(names)}")
        return str(path), toml_bytes(path, self.noun)


def toml_bytes(path: Path, noun: str) -> bytes:
    """What a file of settings holds. noun: what it is called in messages. Raises UsageError."""
    try:
        if path.stat().st_size > _LARGEST:
            raise UsageError(f"{path} is larger than {_LARGEST} bytes, so it is no {noun}; give a {noun}'s .toml file")
        return path.read_bytes()
    except OSError as error:
        why = error.strerror or error
        raise UsageError(f"the {noun} {str(path)!r} cannot be read ({why}); check the path") from error


def parse_toml(data: bytes, name: str) -> dict[str, Any]:
    """What TOML holds; `name` is where it comes from, for messages. Raises UsageError."""
    try:
        return tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise UsageError(f"{name} is not valid TOML ({error}); correct that line") from error


def validated(model: type[R], table: dict[str, Any], name: str) -> R:
    """Settings from what TOML holds; `name` is where they come from, for messages. Raises UsageError, naming keys."""
    try:
        return model.model_validate(table)
    except ValidationError as error:
        messages = (_message(one, model) for one in error.errors()[:5])
        raise UsageError(f"{name}: {'; '.join(messages)}") from error


def _settings(part: type[BaseModel], before: str = "") -> list[str]:
    """Keys of a recipe with their sections, as they are written with dots."""
    found = list[str]()
    for name, field in part.model_fields.items():
        kinds = (field.annotation, *get_args(field.annotation))
        section = next((one for one in kinds if isinstance(one, type) and issubclass(one, BaseModel)), None)
        found += _settings(section, f"{before}{name}.") if section else [before + name]
    return found


def _numbered(near: str, place: tuple[str | int, ...]) -> str:
    """A known key with the numbers of the sections that the mistaken one is in: `generators.1.images`."""
    names, known = near.split("."), list(place)
    written, rest = list[str](), names
    while rest and known and rest[0] == known[0]:
        written.append(rest[0])
        rest, known = rest[1:], known[1:]
        while rest and known and isinstance(known[0], int):
            written.append(f"{known[0] + 1}")
            known = known[1:]
    return ".".join([*written, *rest])


def _message(error: Any, model: type[BaseModel]) -> str:
    """One error with its key as it stands in the file; in a list of sections with its number, from 1."""
    places = (f"{part + 1}" if isinstance(part, int) else str(part) for part in error["loc"])
    key = ".".join(places) or "the file"
    if error["type"] == "extra_forbidden":
        settings = _settings(model)
        sections = {name.rpartition(".")[0] for name in settings} - {""}
        plain = ".".join(part for part in error["loc"] if isinstance(part, str))
        near = get_close_matches(plain, [*settings, *sorted(sections)], n=1)
        hint = (
            f"did you mean {_numbered(near[0], error['loc'])!r}?" if near else f"known settings: {', '.join(settings)}"
        )
        return f"unknown setting {key!r}; {hint}"
    if error["type"] == "missing":
        return f"{key!r} is missing; add it"
    message = str(error["msg"]).removeprefix("Value error, ")
    given = "" if isinstance(error["input"], dict) else f" (it is {error['input']!r})"
    return f"{key}: {message[:1].lower()}{message[1:]}{given}"
