"""Groups of commands that import a command's module only when that command is run.

table = {"calls": Command("runs:calls", "Print the calls of a run.")}
get_group(group_app("runs", "Look at runs.", table))(["calls", "--help"])
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
from typer._click.exceptions import NoSuchOption
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command, get_group

from anomreason.cli.config import check_names, check_table

if TYPE_CHECKING:
    from typer._click import Command as ClickCommand
    from typer._click import HelpFormatter


class Command(NamedTuple):
    """A line of a table of commands, by which a group lists a command without importing it."""

    place: str
    """`module:name` inside `anomreason.cli`: a function, or the table of a group's subcommands."""
    help: str
    """The first sentence of the function's docstring; for a group, its whole help."""
    default: bool = False
    """Whether the group runs this command when its first argument names none: `deepfake RUN TRUTH`."""


def group_app(name: str, help: str, table: Mapping[str, Command]) -> typer.Typer:
    """The program or a group in it, with the commands of a table."""
    default = next((name for name, command in table.items() if command.default), None)

    class TableGroup(TyperGroup):
        def __init__(self, **settings: Any) -> None:
            super().__init__(**settings)
            # Only the names count, from which Typer takes its suggestions; get_command gives the commands.
            self.commands = {name: TyperCommand(name) for name in table}
            self.default_command = default

        def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
            if default and args and args[0] not in (*table, "--help"):
                args = [default, *args]
            return super().parse_args(ctx, args)

        def resolve_command(self, ctx: Any, args: list[str]) -> Any:
            name, command, rest = super().resolve_command(ctx, args)
            if name and command is not None and ctx.default_map:
                check_names(ctx, list(table))
                check_table(ctx, command, name)
            return name, command, rest

        def get_command(self, ctx: object, cmd_name: str) -> ClickCommand | None:
            return _load(cmd_name, table[cmd_name]) if cmd_name in table else None

        def format_commands(self, ctx: object, formatter: HelpFormatter) -> None:
            with formatter.section("Commands"):
                formatter.write_dl([(name, command.help) for name, command in table.items()])

    return typer.Typer(
        name=name,
        help=help,
        cls=TableGroup,
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )


class _TableCommand(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except NoSuchOption as e:
            if e.option_name == "--config":
                names = ctx.command_path.removeprefix(ctx.find_root().command_path).strip()
                e.message = f"--config stands before the command: anomreason --config FILE {names} ..."
                e.possibilities = None
            raise


def _load(name: str, command: Command) -> ClickCommand:
    module, _, attribute = command.place.partition(":")
    found = getattr(import_module(f"anomreason.cli.{module}"), attribute)
    if isinstance(found, Mapping):
        return get_group(group_app(name, command.help, found))
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(name, cls=_TableCommand)(found)
    return get_command(app)
