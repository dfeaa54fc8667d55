"""Defaults of options from a file, `anomreason.toml` in the folder at hand or `--config FILE`.

[detect]                         # one table a command, with the options' names
model = "ollama:qwen2.5vl:7b"
in-flight = 4

[dataset.annotate]
model = "gpt-4o"
"""

from __future__ import annotations

from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError

NAME = "anomreason.toml"
_FILE = "anomreason.config"
"""Where the context keeps the file's path."""


def take_defaults(context: Any, path: Path | None) -> Path | None:
    """Let options default to what the file says; without a path, to `anomreason.toml` if there is one.

    Raises UsageError for a file that cannot be read.
    """
    found = path or (Path(NAME) if Path(NAME).is_file() else None)
    if found is None or context.resilient_parsing:
        return path
    import tomllib

    try:
        table = tomllib.loads(found.read_text(encoding="utf-8"))
    except OSError as e:
        raise UsageError(f"{found} cannot be read ({e.strerror}); name a TOML file with --config") from e
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as e:
        raise UsageError(f"{found} is no TOML file: {e}") from e
    context.default_map = table
    context.meta[_FILE] = found
    return path


def check_table(context: Any, command: Any, name: str) -> None:
    """Bring the file's table for a command to the names of its parameters, and say on stderr what it sets.

    Raises UsageError for a name that is no option or command, with the closest one.
    """
    file, tables = context.meta.get(_FILE), context.default_map
    if file is None or not tables or name not in tables:
        return
    from anomreason.cli.output import say

    table, where = tables[name], f"{file}, [{' '.join([*context.command_path.split()[1:], name])}]"
    if not isinstance(table, Mapping):
        raise UsageError(f"{file}: {name!r} is a command; write its options in a table, [{name}]")
    if hasattr(command, "list_commands"):
        _check_names(table, command.list_commands(context), where, "command")
        return
    options = {opt.lstrip("-"): param.name for param in command.params for opt in param.opts if opt.startswith("--")}
    plain = {key.replace("_", "-"): value for key, value in table.items()}
    _check_names(plain, options, where, "option")
    context.default_map = {**tables, name: {options[key]: value for key, value in plain.items()}}
    if plain:
        say(f"Defaults from {where}: {', '.join(plain)}", err=True)


def _check_names(table: Mapping[str, Any], known: Any, where: str, what: str) -> None:
    for key in table:
        if key not in known:
            near = get_close_matches(key, list(known), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise UsageError(f"{where}: there is no {what} {key!r}; {hint}")
