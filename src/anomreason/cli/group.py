"""Groups of commands that import a command's module only when that command is run.

typer.Typer(cls=group_class({"calls": Command("runs:calls", "Print the calls of a run.")}))
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

if TYPE_CHECKING:
    from typer._click import Command as ClickCommand
    from typer._click import HelpFormatter


class Command(NamedTuple):
    """A line of a table of commands, by which a group lists a command without importing it."""

    place: str
    """`module:name` inside `anomreason.cli`: a function, or the table of a group's subcommands."""
    help: str
    """The first sentence of the function's docstring; for a group, its whole help."""


def new_app(**settings: Any) -> typer.Typer:
    """A Typer app with the settings that the program, its groups and its commands share."""
    return typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None, **settings)


def group_class(table: Mapping[str, Command]) -> type[TyperGroup]:
    """Class of a group with these subcommands, for `typer.Typer(cls=...)`."""

    class TableGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            # Names alone, which is what Typer lists and suggests from; get_command gives the commands.
            self.commands = {name: TyperCommand(name) for name in table}

        def get_command(self, ctx: object, cmd_name: str) -> ClickCommand | None:
            return _load(cmd_name, table[cmd_name]) if cmd_name in table else None

        def format_commands(self, ctx: object, formatter: HelpFormatter) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, command.help) for name, command in table.items()])

    return TableGroup


def _load(name: str, command: Command) -> ClickCommand:
    module, _, attribute = command.place.partition(":")
    found = getattr(import_module(f"anomreason.cli.{module}"), attribute)
    if isinstance(found, Mapping):
        return get_group(new_app(name=name, help=command.help, no_args_is_help=True, cls=group_class(found)))
    app = new_app()
    app.command(name)(found)
    return get_command(app)
