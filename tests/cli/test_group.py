"""Facts about the tables of commands: a command is imported when it is asked for, and listed as it describes itself."""

import json
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module

import pytest
import typer
from typer.main import get_group
from typer.testing import CliRunner

from anomreason.cli import COMMANDS, app, dataset
from anomreason.cli.group import Command, group_app

GROUPS = [name for name, command in COMMANDS.items() if command.place.endswith(":COMMANDS")]
TABLES = {"dataset": dataset.COMMANDS} | {name: import_module(f"anomreason.cli.{name}").COMMANDS for name in GROUPS}
LINES = [[name] for name in COMMANDS] + [[group, name] for group in GROUPS for name in TABLES[group]]
"""All commands as a user writes them."""
HEAVY = {"numpy", "PIL", "openai", "sqlalchemy", "pydantic", "torch"}


def imported_by(*lines: list[str]) -> set[str]:
    """Modules that one fresh process imports to run these command lines."""
    script = f"""
import contextlib, io, json, sys
from anomreason.cli import app
for line in {lines!r}:
    with contextlib.redirect_stdout(io.StringIO()):
        app(line, standalone_mode=False)
print(json.dumps(sorted(sys.modules)))
"""
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return set(json.loads(ran.stdout))


@pytest.mark.parametrize("table", [COMMANDS, *TABLES.values()])
def test_a_command_is_listed_with_the_first_sentence_of_its_own_help(table: Mapping[str, Command]) -> None:
    group = get_group(group_app("", "", table))
    for command, listed in table.items():
        found = group.get_command(typer.Context(group), command)
        assert found is not None
        assert found.name == command
        assert found.get_short_help_str(limit=200) == listed.help


@pytest.mark.parametrize("line", [["--help"], ["--version"]])
def test_the_program_alone_imports_no_command(line: list[str]) -> None:
    modules = imported_by(line)
    assert modules & HEAVY == set()
    assert {name for name in modules if name.startswith("anomreason.cli.")} == {
        "anomreason.cli.group",
        "anomreason.cli.config",
    }


def test_a_command_imports_no_other() -> None:
    modules = imported_by(["calls", "--help"])
    all_commands = {f"anomreason.cli.{command.place.partition(':')[0]}" for command in COMMANDS.values()}
    assert modules & all_commands == {"anomreason.cli.runs"}


def test_help_of_a_command_imports_nothing_heavy() -> None:
    # Typer itself checks parameters with pydantic.
    assert imported_by(*([*line, "--help"] for line in LINES)) & HEAVY <= {"pydantic"}


def test_help_lists_all_commands_in_whole_sentences() -> None:
    shown = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    assert " ".join(f"{name} {command.help}" for name, command in COMMANDS.items()) in shown
    assert "completion" not in shown


@pytest.mark.parametrize("name", [[], ["score"]])
def test_a_group_runs_its_default_command_when_none_is_named(name: list[str]) -> None:
    ran = CliRunner().invoke(app, ["deepfake", *name, "nowhere", "truth.json"])
    assert "truth.json' does not exist" in str(ran.exception)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ([], "Commands:"),
        (["scenes"], "Commands:"),
        (["detct"], "No such command 'detct'. Did you mean 'detect'?"),
        (["scenes", "mke"], "No such command 'mke'. Did you mean 'make'?"),
        (["zzz"], "No such command 'zzz'."),
        (["--verson"], "No such option: --verson"),
        (["calls"], "Missing argument"),
    ],
)
def test_an_incomplete_or_mistyped_command_line_is_a_usage_error(line: list[str], message: str) -> None:
    ran = CliRunner().invoke(app, line)
    assert ran.exit_code == 2
    assert message in ran.output
