"""What docs/metrics.md and the module pages show is what happens."""

import doctest
import importlib
import re
from pathlib import Path

import pytest
from typer.main import get_command

from anomreason.cli import app

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def test_the_python_of_the_page_does_what_it_shows() -> None:
    result = doctest.testfile(str(PAGE), module_relative=False)
    assert result.attempted >= 30
    assert result.failed == 0


@pytest.mark.parametrize("module", ["sources.joining", "evaluation.pairs", "evaluation.signature", "report.boards"])
def test_the_examples_of_modules_do_what_they_show(module: str) -> None:
    opened = importlib.import_module(f"anomreason.{module}")
    result = doctest.testmod(opened, extraglobs={"SemanticSettings": _settings()})
    assert result.attempted > 0
    assert result.failed == 0


def _settings() -> type:
    from anomreason.metrics.image_scores import SemanticSettings

    return SemanticSettings


def test_options_that_the_page_names_exist() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    known = {option for command in commands.values() for parameter in command.params for option in parameter.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE.read_text(encoding="utf-8")))
    assert len(named) > 10
    assert named - known == set()
