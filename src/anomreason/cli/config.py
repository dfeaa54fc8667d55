"""Defaults of options from a file, `anomreason.toml` in the folder at hand or `--config FILE`.

[detect]                         # one table a command, with the options' names
model = "ollama:qwen2.5vl:7b"
in-flight = 4

[dataset.annotate]
model = "gpt-4o"
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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


def file_of(context: Any) -> Path | None:
    """The file of defaults; None without one."""
    file: Path | None = context.meta.get(_FILE)
    return file


def check_names(context: Any, commands: Sequence[str]) -> None:
    """Raise UsageError for a name in the file that is no command of the program, with the closest one.

    What stands in the tables of its groups is checked by `check_table`, as far as they are run.
    """
    if context.parent is not None or file_of(context) is None:
        return
    for name, table in context.default_map.items():
        if not isinstance(table, Mapping) and name not in commands:
            raise UsageError(
                f"{file_of(context)}: {name!r} stands in no table; write options in a command's table, e.g. [detect]"
            )
    _check_names(context.default_map, commands, str(file_of(context)), "command")


def check_table(context: Any, command: Any, name: str) -> None:
    """Bring the file's table for a command to the names of its parameters, and say on stderr what it sets.

    Raises UsageError for a name that is no option or command, with the closest one, and for a value of a wrong type.
    """
    file, tables = file_of(context), context.default_map
    if file is None or not tables or name not in tables:
        return
    from anomreason.cli.output import say

    table, dotted = tables[name], ".".join([*_groups(context), name])
    where, default = f"{file}, [{dotted}]", getattr(command, "default_command", None)
    if not isinstance(table, Mapping):
        form = f"[{dotted}.{default}]" if default else f"[{dotted}]"
        raise UsageError(f"{file}: {name!r} is a command; write its options in a table, {form}")
    if hasattr(command, "list_commands"):
        for key, value in table.items():
            if default and key not in command.list_commands(context) and not isinstance(value, Mapping):
                raise UsageError(
                    f"{where}: there is no command {key!r}; options of `{dotted.replace('.', ' ')}` without a command "
                    f"are those of `{default}`: write them in the table [{dotted}.{default}]"
                )
        _check_names(table, command.list_commands(context), where, "command")
        return
    options = {opt.lstrip("-"): param for param in command.params for opt in param.opts if opt.startswith("--")}
    plain = {key.replace("_", "-"): value for key, value in table.items()}
    _check_names(plain, options, where, "option")
    values = {
        options[key].name: _value(context, options[key], value, f"{where}: {key}") for key, value in plain.items()
    }
    context.default_map = {**tables, name: values}
    if plain:
        say(f"Defaults from {where}: {', '.join(plain)}", err=True)


def _value(context: Any, option: Any, value: Any, where: str) -> Any:
    """The value as the option takes it: one that can be given several times takes a single one, too."""
    from typer._click.exceptions import UsageError as ClickError

    if option.multiple and not isinstance(value, list):
        value = [value]
    if isinstance(value, Mapping) or (isinstance(value, list) and not option.multiple and option.nargs == 1):
        raise UsageError(f"{where} takes one value, not {value!r}")
    if isinstance(value, bool) and not option.is_flag:
        raise UsageError(f"{where} takes a value, not {str(value).lower()}")
    try:
        option.process_value(context, value)
    except ClickError as e:
        raise UsageError(f"{where} cannot be {value!r}: {e.message}") from e
    return value


def _groups(context: Any) -> list[str]:
    """Names of the groups that lead to a context, without the program's own."""
    return [] if context.parent is None else [*_groups(context.parent), context.info_name]


def _check_names(table: Mapping[str, Any], known: Any, where: str, what: str) -> None:
    for key in table:
        if key not in known:
            near = get_close_matches(key, list(known), 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise UsageError(f"{where}: there is no {what} {key!r}; {hint}")
