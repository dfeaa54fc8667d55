"""Packs of prompts: those that come with the package, by name, and the user's own lists as they are.

>>> len(read_pack("photo-246")), known_packs()
(246, ('photo-246',))
"""

from __future__ import annotations

import re
from importlib.resources import files
from pathlib import Path

from anomreason.audit.study import AuditPrompt
from anomreason.errors import UsageError
from anomreason.files import read_lines, read_record

ID = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)
"""Ids name files, so they are plain."""


def known_packs() -> tuple[str, ...]:
    """Names of the packs that come with the package."""
    names = (entry.name for entry in (files("anomreason.audit") / "packs").iterdir())
    return tuple(sorted(name.removesuffix(".jsonl") for name in names if name.endswith(".jsonl")))


def read_pack(source: str | Path) -> tuple[AuditPrompt, ...]:
    """All prompts of a pack in their order, each with an id of its own.

    source: a name of `known_packs`, or a list as `reading.read_listed` takes it. Prompts of a list without ids are
    numbered p001, p002 ... Raises UsageError for a source that cannot be read, for a row that cannot be, and for an id
    that is there twice or cannot name a file.
    """
    if (name := str(source)) in known_packs():
        return _bundled(name)
    from anomreason.audit.prompts.reading import read_listed

    if not (path := Path(source).expanduser()).exists() and not path.suffix and "://" not in name:
        raise UsageError(
            f"there is no pack {name!r}; give one of {', '.join(known_packs())}, or a file or dataset that exists"
        )
    listed, damaged = read_listed(source)
    if damaged:
        raise UsageError(f"{damaged[0].place}: {damaged[0].message}; repair or remove the row")
    ids = [prompt.id for prompt in listed]
    if not any(ids):
        ids = numbered(len(listed))
    found: dict[str, AuditPrompt] = {}
    for id, prompt in zip(ids, listed, strict=True):
        if id is None:
            raise UsageError(
                f"{prompt.place}: there is no id, while other prompts have one; write it, or leave all out"
            )
        if not ID.fullmatch(id):
            raise UsageError(
                f"{prompt.place}: the id {id!r} cannot name files; write letters, digits, '-', '_' and '.'"
            )
        if id in found:
            raise UsageError(
                f"{prompt.place}: the id {id!r} is there twice; give each prompt its own, or leave ids out"
            )
        found[id] = AuditPrompt(id=id, text=prompt.text, tags=prompt.tags)
    return tuple(found.values())


def numbered(count: int) -> list[str | None]:
    """Ids p001, p002 ..., all of one length."""
    width = max(3, len(str(count)))
    return [f"p{number:0{width}}" for number in range(1, count + 1)]


def _bundled(name: str) -> tuple[AuditPrompt, ...]:
    path = Path(str(files("anomreason.audit") / "packs" / f"{name}.jsonl"))
    return tuple(
        read_record(
            line, AuditPrompt.model_validate, lambda _: AuditPrompt.model_fields, f"{path}, line {n}", "a prompt"
        )
        for n, line in read_lines(path)
    )
