"""The keys of the review page: those of `page/static/keys.json`, changed by `review/keys.json` in a dataset's folder.

read_keys(Path("data"))["accept"]    # ["KeyA"]
"""

from __future__ import annotations

import json
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path

from anomreason.errors import UsageError
from anomreason.files import read_object

KEYS = Path("review", "keys.json")
_FORM = 'write {"accept": ["KeyA", "Enter"]}: codes of keys, or the one character that a key writes'


def read_keys(folder: Path) -> dict[str, list[str]]:
    """The keys of each action. Raises UsageError for a file that is wrong, or a key that stands for two actions."""
    standard = files("anomreason.review") / "page" / "static" / "keys.json"
    keys: dict[str, list[str]] = json.loads(standard.read_text(encoding="utf-8"))
    path = folder / KEYS
    if not path.is_file():
        return keys
    for action, wanted in read_object(path).items():
        if action not in keys:
            near = get_close_matches(action, keys, 1)
            raise UsageError(f"{path}: unknown action {action!r}; {f'did you mean {near[0]!r}?' if near else _FORM}")
        if not isinstance(wanted, list) or not all(isinstance(key, str) and 0 < len(key) <= 32 for key in wanted):
            raise UsageError(f"{path}: the keys of {action!r} are {wanted!r}; {_FORM}")
        keys[action] = wanted
    of: dict[str, str] = {}
    for action, given in keys.items():
        for key in given:
            if of.setdefault(key, action) != action:
                raise UsageError(
                    f"{path}: the key {key!r} stands for {of[key]!r} and {action!r}; give one of them others"
                )
    return keys
