"""Writes further generators to the end of an audit's file, and leaves the rest of it as it stands.

audit, added = add_generators(Path("audit.toml"), ["flux.1-dev", "midjourney=mj/"])
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from difflib import get_close_matches
from pathlib import Path

from anomreason.audit.plan import Audit, audit_from, read_audit
from anomreason.dataset.generators.recipe import known_generators
from anomreason.errors import UsageError
from anomreason.files import write_atomically
from anomreason.recipes import parse_toml, toml_bytes


def add_generators(file: Path, generators: Sequence[str], *, write: bool = True) -> tuple[Audit, tuple[str, ...]]:
    """The audit with the generators, and the names of those that are new in it; one that it has already is passed over.

    generators: recipes by name or path, or folders of images; NAME=... gives another name. Raises UsageError for what
    cannot be one, before anything is written.
    """
    before = audit = read_audit(file)
    data = toml_bytes(file, "audit")
    for given in generators:
        section = _section(given, file)
        if parse_toml(section.encode(), given)["generators"][0] in parse_toml(data, str(file))["generators"]:
            continue
        longer = data.rstrip(b"\n") + b"\n\n" + section.encode()
        try:
            audit = audit_from(file, longer)
        except UsageError as error:
            raise UsageError(f"{given!r} cannot be added to the file: {error}") from error
        data = longer
    if write and audit is not before:
        write_atomically(file, data)
    known = {one.name for one in before.generators}
    return audit, tuple(one.name for one in audit.generators if one.name not in known)


def _section(given: str, file: Path) -> str:
    """The lines for one generator."""
    name, equals, source = given.partition("=")
    name, source = (name, source) if equals else ("", given)
    lines = ["[[generators]]", *([f"name = {json.dumps(name, ensure_ascii=False)}"] if name else [])]
    path = Path(source).expanduser()
    if source in known_generators() and not path.is_file():
        key, value = "recipe", source
    elif path.is_dir():
        key, value = "images", _relative(path, file)
    elif path.is_file():
        key, value = "recipe", _relative(path, file)
    else:
        close = get_close_matches(source, known_generators(), 1)
        names = "one of " + ", ".join(known_generators())
        hint = f"did you mean {close[0]!r}? Else give" if close else "give"
        others = "the name of a recipe" if close else names
        raise UsageError(f"there is no generator {source!r}; {hint} a .toml file, a folder of images, or {others}")
    return "\n".join([*lines, f"{key} = {json.dumps(value, ensure_ascii=False)}", ""])


def _relative(path: Path, file: Path) -> str:
    return Path(os.path.relpath(path, file.parent)).as_posix()
