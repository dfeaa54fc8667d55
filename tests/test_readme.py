"""What the README and the help texts show is what happens."""

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import typer
from typer.core import TyperGroup
from typer.main import get_command
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.cli.demo import demo_scenes
from anomreason.scenes.make import make_scenes

FOREIGN = {
    "servers.md": {
        *("--context-length", "--kv-unified", "--mmproj", "--reasoning-budget", "--max-model-len"),
        *("--limit-mm-per-prompt", "--default-chat-template-kwargs", "--model-path", "--enable-cache-report"),
        "--mm-max-concurrent-calls",
    },
    "tiny.md": {"--work", "--trust-remote-code"},
    "training.md": {"--enable-lora", "--lora-modules"},
    "serve.md": {
        *("--tag", "--build-arg", "--rm", "--volume", "--detach", "--name", "--publish", "--env", "--no-deps"),
        *("--data-binary", "--restart", "--stop-timeout", "--build", "--interactive", "--now"),
    },
    "scale.md": {
        *("--read", "--written", "--head", "--address", "--port", "--generate", "--no-deps"),
        *("--max-model-len", "--limit-mm-per-prompt"),
    },
    "benchmarks.md": {"--images", "--neighbours", "--rounds"},
}
"""Options of benchmarks, tools and other programs, by the page that names them."""
ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"


def commands(group: TyperGroup, above: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    """All commands with their full names, the program itself ("") and those of groups such as `scenes` included."""
    yield " ".join(above), group
    for name in group.commands:
        command = group.get_command(typer.Context(group), name)
        if isinstance(command, TyperGroup):
            yield from commands(command, (*above, name))
        else:
            yield " ".join((*above, name)), command


COMMANDS = dict(commands(cast(TyperGroup, get_command(app))))


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "anomreason", *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )


def test_the_output_that_the_readme_shows_is_what_is_printed(tmp_path: Path) -> None:
    make_scenes(tmp_path, demo_scenes(), jobs=1)
    shown = re.search(r"```\n((\S+\.png): .*?)\nReport:", README.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    ran = run("detect", f"images/{shown[2]}", "--model", "tiny", "--no-report", cwd=tmp_path)
    assert [line.rstrip() for line in ran.stdout.strip().splitlines()] == shown[1].splitlines()


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str) -> None:
    ran = CliRunner().invoke(app, [*command.split(), "--help"], prog_name="anomreason", env={"COLUMNS": "80"})
    assert ran.exit_code == 0
    assert f"Usage: anomreason {command}".rstrip() in ran.stdout
    assert len(ran.stdout.splitlines()) > 5


def test_the_program_starts_as_a_module(tmp_path: Path) -> None:
    ran = run("--help", cwd=tmp_path)
    assert ran.returncode == 0
    assert "Usage: python -m anomreason [OPTIONS] COMMAND" in ran.stdout


def test_options_that_the_docs_name_exist() -> None:
    parameters = [parameter for command in COMMANDS.values() for parameter in command.params]
    known = {"--help"}.union(*([*parameter.opts, *parameter.secondary_opts] for parameter in parameters))
    for page in (README, *sorted((ROOT / "docs").glob("*.md"))):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named - known - FOREIGN.get(page.name, set()) == set(), page.name


PAGES = ["README.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))]


def shown_commands(page: str) -> list[list[str]]:
    """The command lines of `anomreason` in a page's blocks of code, without the program's name.

    Those in the README's tables too.
    """
    text = (README if page == "README.md" else ROOT / "docs" / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```\w*\n(.*?)^```|((?:^    \S.*\n(?:^    .*\n)*))", text, flags=re.M | re.S)
    lines = "\n".join(a or b for a, b in blocks).replace("\\\n", " ").splitlines()
    lines += re.findall(r"^\|.*`(anomreason [^`]+)`", text, flags=re.M) if page == "README.md" else []
    return [shlex.split(line, comments=True)[1:] for line in lines if re.match(r" *anomreason \S", line)]


def read_line(line: list[str]) -> None:
    """Raises what the program says of a command line that it cannot read. Nothing runs."""
    command, name, rest = cast(Any, get_command(app)), "anomreason", list(line)
    while isinstance(command, TyperGroup):
        context = command.make_context(name, rest, resilient_parsing=True)
        name, command, rest = cast(Any, command.resolve_command(context, [*context._protected_args, *context.args]))
        assert command is not None, f"there is no command {rest or name}"
    command.make_context(name, rest)


@pytest.mark.parametrize("page", [page for page in PAGES if shown_commands(page)])
def test_the_commands_that_pages_show_are_accepted(page: str) -> None:
    refused = []
    for line in shown_commands(page):
        try:
            read_line(line)
        except Exception as error:
            refused.append(f"{' '.join(line)}: {error}")
    assert refused == []


@pytest.mark.parametrize(
    "line", ["eval a.json --out x --nope", "eval --out x", "audit prompts a.txt --k many", "aduit x"]
)
def test_a_command_line_with_a_fault_is_not_accepted(line: str) -> None:
    with pytest.raises(Exception, match=r".") as error:
        read_line(line.split())
    assert not isinstance(error.value, TypeError)


def test_the_figures_of_the_readme_stand_on_the_pages_that_it_names() -> None:
    text = README.read_text(encoding="utf-8").partition("## What is measured")[2].partition("\n## ")[0]
    rows = [row.strip("|").split("|") for row in text.splitlines() if "](docs/" in row and row.startswith("|")]
    assert len(rows) >= 5
    for _, result, more in rows:
        page = (ROOT / more.partition("](")[2].strip(" )")).read_text(encoding="utf-8")
        assert [figure for figure in re.findall(r"\d[\d.,]*\d", result) if figure not in page] == []


@pytest.mark.parametrize("page", PAGES)
def test_links_between_pages_lead_somewhere(page: str) -> None:
    file = ROOT / page if page == "README.md" else ROOT / "docs" / page
    links = re.findall(r"\]\((?!http)([^)#]+)", file.read_text(encoding="utf-8"))
    assert [link for link in links if not (file.parent / link).exists()] == []


TO_WRAP = {"metrics.md"}
"""Pages whose prose is still wider."""


def test_lines_of_prose_fit_a_terminal() -> None:
    """At most 120 characters, links and pictures not counted; tables and code are as wide as they are."""
    long = []
    for page in (README, *sorted((ROOT / "docs").glob("*.md"))):
        prose = re.sub(r"^```.*?^```", lambda block: "\n" * block[0].count("\n"), page.read_text(), flags=re.M | re.S)
        for number, line in enumerate(prose.splitlines(), 1):
            if len(re.sub(r"\]\([^)]*\)", "]", line)) > 120 and not line.lstrip().startswith(("|", "    ")):
                long.append(f"{page.name}:{number}")
    assert [place for place in long if place.partition(":")[0] not in TO_WRAP] == []
