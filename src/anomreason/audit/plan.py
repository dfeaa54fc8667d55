"""The file of an audit: which prompts, generators and assessors, read from TOML and checked before anything is paid.

print(read_audit(Path("audit.toml")).generators)
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, field_validator, model_validator

from anomreason.anomaly import Record, Text
from anomreason.audit.prompts.packs import known_packs, read_pack
from anomreason.audit.study import AuditPrompt
from anomreason.dataset.generators.recipe import GeneratorRecipe, Name, read_generator
from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.errors import UsageError, first_error
from anomreason.recipes import parse_toml, toml_bytes, validated
from anomreason.vlm.ledger import FREE

Seed = Annotated[int, Field(ge=0, lt=2**63)]
_OPTIONS: TypeAdapter[DetectOptions] = TypeAdapter(DetectOptions)


class GeneratorPart(Record):
    """One `[[generators]]`: a recipe, or a folder of images that exist."""

    name: Name | None = None
    """None: the recipe's name, or the folder's."""
    recipe: Text | None = None
    """A .toml file, or the name of a recipe of the package."""
    images: Text | None = None
    """Folder of the images."""
    manifest: Text | None = None
    """File that says the prompt and the seed of each image; see `given.read_given`."""

    @model_validator(mode="after")
    def _one_way(self) -> GeneratorPart:
        if (self.recipe is None) == (self.images is None):
            raise ValueError("give one of recipe and images")
        if self.recipe is not None and self.manifest is not None:
            raise ValueError("a manifest belongs to images, not to a recipe; remove it")
        return self


class AssessorPart(Record):
    """One `[[assessors]]`: a model, and the options of `detect` by their names."""

    model_config = ConfigDict(extra="allow")
    name: Name | None = None
    """Also of its run folder; None: the model's."""
    model: Text

    @field_validator("name")
    @classmethod
    def _no_dots(cls, name: str | None) -> str | None:
        if name is not None and not name.strip("."):
            raise ValueError("write some letters")
        return name


class AuditFile(Record):
    """What an `audit.toml` holds. Paths are relative to its folder."""

    out: Text | None = None
    """Folder of the audit; None: beside the file, called like it."""
    prompts: Text
    """A pack's name, or a file of prompts."""
    limit: int | None = Field(default=None, ge=1)
    """Prompts at most, in their order; None for all."""
    seeds: tuple[Seed, ...] = Field(default=(0, 1), min_length=1)
    """Each generator makes one image a prompt for each."""
    max_cost: float | None = Field(default=None, gt=0)
    """US dollars that images and assessments may cost together; None for no limit."""
    generators: tuple[GeneratorPart, ...] = Field(min_length=1)
    assessors: tuple[AssessorPart, ...] = Field(min_length=1)

    @field_validator("seeds")
    @classmethod
    def _each_once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds):
            raise ValueError("write each seed once")
        return seeds


@dataclass(frozen=True, slots=True)
class GivenGenerator:
    """A generator whose images exist in a folder."""

    name: str
    folder: Path
    manifest: Path | None
    """None: what the folder holds under a usual name."""


@dataclass(frozen=True)
class AssessorSetup(DetectorSetup):
    """An assessor set up from its section of the file."""

    written: str = ""
    """The model as the file names it: another working folder does not make it another model."""

    def deciding(self) -> dict[str, object]:
        return super().deciding() | {"model": self.written}


@dataclass(frozen=True, slots=True)
class Assessor:
    """One who assesses the images."""

    name: str
    setup: AssessorSetup

    @property
    def simulated(self) -> bool:
        return self.setup.model.startswith("sim:")


@dataclass(frozen=True, slots=True)
class Audit:
    """An audit as its file asks for it."""

    file: Path
    out: Path
    prompts: tuple[AuditPrompt, ...]
    seeds: tuple[int, ...]
    generators: tuple[GeneratorRecipe | GivenGenerator, ...]
    """In the order of the file."""
    assessors: tuple[Assessor, ...]
    max_cost: float | None
    """US dollars for images and assessments together; None for no limit."""

    @property
    def recipes(self) -> tuple[GeneratorRecipe, ...]:
        return tuple(one for one in self.generators if isinstance(one, GeneratorRecipe))

    @property
    def images(self) -> int:
        """Images that there should be."""
        return len(self.generators) * len(self.prompts) * len(self.seeds)

    @property
    def notes(self) -> tuple[str, ...]:
        """What the choices of the file keep the report from showing."""
        if len(self.seeds) > 1:
            return ()
        return (
            "there is one seed, so how much the images of one generator differ among themselves is not seen; write two "
            "or more under seeds",
        )


def read_audit(file: Path) -> Audit:
    """The audit that a TOML file asks for, with all that it names. Raises UsageError, naming file and key."""
    return audit_from(file, toml_bytes(file, "audit"))


def audit_from(file: Path, data: bytes) -> Audit:
    """The same, from what the file holds or is to hold."""
    asked = validated(AuditFile, parse_toml(data, str(file)), str(file))
    folder = file.parent
    generators = tuple(_generator(part, folder) for part in asked.generators)
    _each_once("generators", (one.name for one in generators), file)
    assessors = tuple(_assessor(part, folder, f"{file}: assessors.{n}") for n, part in enumerate(asked.assessors, 1))
    # Their names are folders, and some disks do not tell capitals from small letters.
    _each_once("assessors", (one.name.casefold() for one in assessors), file)
    for one in assessors:
        if asked.max_cost is not None and one.setup.price is None:
            raise UsageError(
                f"{file}: max_cost needs the price of each model, and that of {one.setup.written!r} is not known: name "
                "a price file with prices under the assessor, or remove max_cost"
            )
    for recipe in generators:
        endpoint = recipe.endpoint if isinstance(recipe, GeneratorRecipe) else None
        if asked.max_cost is not None and endpoint is not None and endpoint.price_per_image is None:
            raise UsageError(
                f"{file}: max_cost needs the price of an image, and the recipe of {recipe.name!r} does not say it: add "
                "price_per_image to its [endpoint] (0 for a server of your own), or remove max_cost"
            )
    prompts = _prompts(asked, folder, file)
    out = folder / Path(asked.out).expanduser() if asked.out else file.with_suffix("")
    if out == file:
        raise UsageError(f"{file}: give the file an ending such as .toml, or name a folder with out")
    return Audit(file, out, prompts, asked.seeds, generators, assessors, asked.max_cost)


def _prompts(asked: AuditFile, folder: Path, file: Path) -> tuple[AuditPrompt, ...]:
    beside = folder / Path(asked.prompts).expanduser()
    named = asked.prompts in known_packs() or not beside.exists()
    prompts = read_pack(asked.prompts if named else beside)[: asked.limit]
    for what in ("id", "text"):
        seen: set[str] = set()
        for prompt in prompts:
            if (value := getattr(prompt, what)) in seen:
                raise UsageError(f"{file}: two of the prompts have the {what} {value!r}; remove or change one")
            seen.add(value)
    if not prompts:
        raise UsageError(f"{file}: {asked.prompts!r} holds no prompts; write some, or name a pack")
    return prompts


def _generator(part: GeneratorPart, folder: Path) -> GeneratorRecipe | GivenGenerator:
    if part.images is not None:
        images = folder / Path(part.images).expanduser()
        manifest = folder / Path(part.manifest).expanduser() if part.manifest else None
        return GivenGenerator(part.name or images.resolve().name, images, manifest)
    assert part.recipe is not None
    beside = folder / Path(part.recipe).expanduser()
    recipe = read_generator(beside if beside.is_file() else part.recipe)
    return recipe.model_copy(update={"name": part.name or recipe.name})


def _assessor(part: AssessorPart, folder: Path, where: str) -> Assessor:
    options = dict(part.model_extra or {})
    if "base_url" in options:
        options["base_urls"] = options.pop("base_url")
    try:
        checked = _checked(options, folder)
        model = _found(part.model, folder)
        setup = set_up(model, checked, options.keys())
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error
    parts = {name: getattr(setup, name) for name in ("model", "options", "prompts", "card", "price", "vlm")}
    name = part.name or re.sub(r"[^\w.+-]+", "-", part.model).strip("-.") or "assessor"
    return Assessor(name, AssessorSetup(**parts, written=part.model))


def _checked(options: Mapping[str, Any], folder: Path) -> DetectOptions:
    """The options of a detection with the types that they have. Raises UsageError."""
    known = DetectOptions.__dataclass_fields__
    for name in options:
        if name not in known:
            close = get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"known settings: name, model, {', '.join(known)}"
            raise UsageError(f"unknown setting {name!r}; {hint}")
    values = dict(options)
    if isinstance(values.get("base_urls"), str):
        values["base_urls"] = [values["base_urls"]]
    try:
        checked = _OPTIONS.validate_python(values)
    except ValidationError as error:
        raise UsageError(first_error(error, "the section")) from error
    paths = {name: getattr(checked, name) for name in ("prompts", "card", "prices")}
    return replace(checked, **{name: folder / path.expanduser() for name, path in paths.items() if path is not None})


def _found(model: str, folder: Path) -> str:
    """The model's spec, with a file or folder beside the audit's file as a path from where the program runs."""
    kind, colon, name = model.partition(":")
    path, plus, adapter = (name.partition("+")) if kind == "local" else (name, "", "")
    if kind not in ("sim", "local") or not (folder / path).exists():
        return model
    adapter = str(folder / adapter) if adapter and (folder / adapter).exists() else adapter
    return f"{kind}{colon}{os.path.normpath(folder / path)}{plus}{adapter}"


def _each_once(what: str, names: Iterable[str], file: Path) -> None:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise UsageError(f"{file}: two of the {what} are called {name!r}; give one of them another name")
        seen.add(name)


def is_free(assessor: Assessor) -> bool:
    """Whether its answers cost nothing."""
    return assessor.setup.price == FREE
