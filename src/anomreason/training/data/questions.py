"""The questions a model is trained with: several wordings of each, with a version.

Read from the package's `prompts.toml`, or from a file of the same form.

    >>> Questions.load().version
    1
"""

from __future__ import annotations

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

from anomreason.errors import UsageError, shown

Task = Literal["anomalies", "authenticity"]
"""`anomalies`: one turn, the list of all. `authenticity`: generated or photograph, then the list or a description."""

CONTROL = re.compile(r"<\|[^|<>]{1,40}\|>|<(?:image|video|audio|bbox|ref-object|cot-process|start-image)>")
"""Tokens that end a message or stand for an image in some model: no text may hold one."""
_LISTS = {"anomalies": ("ask",), "authenticity": ("source", "explain")}
_TEXTS = {"anomalies": (), "authenticity": ("generated", "photograph")}


@dataclass(frozen=True, slots=True)
class Questions:
    """All questions, and the two fixed answers."""

    version: int
    sha256: str
    """Of the file, hex."""
    ask: tuple[str, ...]
    """Asks for all anomalies."""
    source: tuple[str, ...]
    """Asks whether the image is generated or a photograph."""
    explain: tuple[str, ...]
    """Asks for the list or the description, after `source` was answered."""
    generated: str
    photograph: str

    @classmethod
    def load(cls, path: Path | None = None) -> Questions:
        """The package's own, or a file of the same form. Raises UsageError, naming the place."""
        where = str(path or "prompts.toml")
        try:
            data = (path or files("anomreason.training.data") / "prompts.toml").read_bytes()
            table = tomllib.loads(data.decode("utf-8"))
        except OSError as error:
            raise UsageError(f"{where} cannot be read: {error.strerror or error}") from None
        except ValueError as error:
            raise UsageError(f"{where} is not a TOML file of prompts: {error}") from None
        version = table.pop("version", None)
        if isinstance(version, bool) or not isinstance(version, int) or version < 1:
            raise UsageError(f"{where}: 'version' is {shown(version)}; write a whole number from 1")
        if wrong := sorted(table.keys() ^ _LISTS.keys()):
            raise UsageError(f"{where}: [{wrong[0]}] is missing or unknown; the parts are {', '.join(_LISTS)}")
        found = {key: value for part in _LISTS for key, value in _part(table[part], part, where).items()}
        return cls(version, hashlib.sha256(data).hexdigest(), **found)

    def only(self, question: str) -> Questions:
        """The same with a single question for all anomalies."""
        return replace(self, ask=(question,))


def _part(table: Any, part: str, where: str) -> dict[str, Any]:
    wanted = (*_LISTS[part], *_TEXTS[part])
    if not isinstance(table, Mapping) or set(table) != set(wanted):
        raise UsageError(f"{where}: [{part}] must have the keys {', '.join(wanted)}, and no other")
    found: dict[str, Any] = {}
    for key in _LISTS[part]:
        if not isinstance(table[key], list) or not table[key]:
            raise UsageError(f"{where}: {part}.{key} is {shown(table[key])}; write a list of texts")
        found[key] = tuple(_text(text, f"{where}: {part}.{key}") for text in table[key])
    return found | {key: _text(table[key], f"{where}: {part}.{key}") for key in _TEXTS[part]}


def _text(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where} holds {shown(value)}; write a text")
    if found := CONTROL.search(value):
        raise UsageError(f"{where} holds {found[0]!r}, which stands for an image or ends a message; remove it")
    return value.strip()
