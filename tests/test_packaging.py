"""What is imported is declared."""

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"anomreason", "tools", "tests"}
IN_MODEL_FOLDER = "src/anomreason/vlm/tiny/processing.py"
"""Imported by transformers alone, from the folder of the bundled model."""
BY_HAND = {"fast_simplification": "tools/vendor_rooms.py, which says how to install it"}
"""Imports that no extra installs, and where."""


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def declared() -> dict[str, set[str]]:
    """Distributions by the extra that declares them ("" for the core), extras of ours inside extras resolved."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines: dict[str, list[str]] = {"": project["dependencies"], **project["optional-dependencies"]}

    def resolve(extra: str) -> set[str]:
        found = set()
        for line in lines[extra]:
            inner = re.match(r"anomreason\[([\w,]+)\]", line)
            if inner:
                found |= set().union(*(resolve(name) for name in inner[1].split(",")))
            else:
                found.add(normal(re.match(r"[\w.-]+", line)[0]))  # type: ignore[index]
        return found

    return {extra: resolve(extra) for extra in lines}


def imported(folder: str, *, at_start: bool = False) -> Iterator[tuple[str, str]]:
    """(file, top-level package) of each import of something that is neither ours nor Python's.

    `at_start` leaves out imports inside functions and under TYPE_CHECKING."""
    for file in sorted((ROOT / folder).rglob("*.py")):
        tree = ast.parse(file.read_text(encoding="utf-8"))
        for node in tree.body if at_start else ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for top in {name.partition(".")[0] for name in names} - sys.stdlib_module_names - OURS:
                yield str(file.relative_to(ROOT)), top


def undeclared(imports: Iterator[tuple[str, str]], allowed: set[str]) -> str:
    """One line for each import that none of the allowed distributions brings."""
    installed = packages_distributions()
    wrong = []
    for file, top in imports:
        distributions = {normal(name) for name in installed.get(top, [top])}
        if not distributions & allowed and top not in BY_HAND:
            wrong.append(f"{file} imports {top}: declare {' or '.join(sorted(distributions))} in pyproject.toml")
    return "\n".join(wrong)


def test_what_the_package_imports_at_once_is_a_dependency() -> None:
    imports = ((file, top) for file, top in imported("src", at_start=True) if file != IN_MODEL_FOLDER)
    assert undeclared(imports, declared()[""]) == ""


def test_what_the_package_imports_later_is_a_dependency_or_in_an_extra_for_users() -> None:
    extras = declared()
    del extras["dev"]
    assert undeclared(imported("src"), set().union(*extras.values())) == ""


@pytest.mark.parametrize("folder", ["tests", "tools", "benchmarks"])
def test_what_tests_and_tools_import_is_in_some_extra(folder: str) -> None:
    assert undeclared(imported(folder), set().union(*declared().values())) == ""


def test_every_dependency_is_imported() -> None:
    installed = packages_distributions()
    used = {normal(name) for _, top in imported("src") for name in installed.get(top, [top])}
    assert declared()[""] - used == set()
