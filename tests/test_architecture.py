"""The plan of the house, held against the imports, and a light core."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import anomreason

PACKAGE = Path(anomreason.__file__).parent
FLOORS = {
    "errors": 0,
    "english": 0,
    "badges": 0,
    "notebook": 0,
    "columns": 0,
    "files": 1,
    "databases": 1,
    "recipes": 1,
    "stats": 1,
    "anomaly": 1,
    "containers": 1,
    "archives": 1,
    "buckets": 1,
    "parquet": 1,
    "decoding": 1,
    "facts": 1,
    "pixels": 1,
    "interrupt": 1,
    "textform": 2,
    "images": 2,
    "runs": 2,
    "metrics": 2,
    "sources": 3,
    "vlm": 3,
    "agent": 4,
    "scenes": 4,
    "evaluation": 4,
    "detection": 5,
    "detector": 5,
    "report": 5,
    "planning": 6,
    "gating": 6,
    "spread": 6,
    "training": 6,
    "detecting": 7,
    "checking": 7,
    "assisting": 7,
    "dataset": 6,
    "web": 6,
    "review": 7,
    "serve": 7,
    "audit": 7,
    "deepfake": 7,
    "cli": 8,
}
NEIGHBOURS = {
    ("dataset", "training"),  # exports of conversations ask what training asks
    ("dataset", "spread"),  # annotations are spread over workers
    ("detection", "detector"),  # sessions are opened for a detector and its options
    ("archives", "buckets"),  # files that hold images lie in buckets too
    ("parquet", "buckets"),
    ("archives", "parquet"),  # size and time of whatever is inside of a file
    ("notebook", "badges"),  # cards number their boxes as reports do
}
"""Rooms of one floor that may know each other."""


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def is_module(name: str) -> bool:
    path = PACKAGE.joinpath(*name.split(".")[1:])
    return path.is_dir() or path.with_suffix(".py").is_file()


parsed = cache(ast.parse)
"""Each file is asked about several times."""


def imported(code: str, own: str) -> Iterator[str]:
    """Modules of the package that a module imports: at once, inside functions, and for type checkers alone.

    A room that knows another's type knows the room, so imports under TYPE_CHECKING count as well."""
    for node in ast.walk(parsed(code)):
        if isinstance(node, ast.Import):
            whole = [(alias.name, "anomreason") for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{own}: write the whole name instead of a relative import"
            whole = [(f"{node.module}.{alias.name}", node.module or "") for alias in node.names]
        else:
            continue
        for name, module in whole:
            if name.partition(".")[0] == "anomreason":
                yield name if is_module(name) else module


@cache
def imports() -> list[tuple[str, str]]:
    """All pairs (importing module, imported module) inside the package."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        own = ".".join(("anomreason", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        found += [(own, other) for other in imported(file.read_text(encoding="utf-8"), own)]
    return found


def test_imports_are_seen_wherever_they_stand() -> None:
    code = """
import anomreason.stats, json
from anomreason.anomaly import Anomaly
if TYPE_CHECKING:
    from anomreason.vlm import card
def later():
    import anomreason.vlm.opening as opening
    from anomreason import runs, detect
"""
    names = ("stats", "anomaly", "vlm.card", "vlm.opening", "runs")
    assert sorted(imported(code, "x")) == sorted(["anomreason", *(f"anomreason.{name}" for name in names)])


def test_every_module_has_its_room() -> None:
    rooms = {f.stem if f.is_file() else f.name for f in PACKAGE.iterdir() if not f.name.startswith((".", "__"))}
    assert rooms - {"py"} == set(FLOORS), "a new room needs its floor here and in docs/architecture.md"


def test_no_arrow_runs_up_and_neighbours_do_not_know_each_other() -> None:
    wrong = []
    for own, other in imports():
        here, there = room(own), room(other)
        if here in ("__init__", "__main__") or here == there:
            continue
        if FLOORS[there] > FLOORS[here] or (FLOORS[there] == FLOORS[here] and (here, there) not in NEIGHBOURS):
            wrong.append(f"{own} imports {other}")
    assert wrong == []


def test_no_module_is_a_drawer_for_whatever() -> None:
    vague = {"utils", "util", "helpers", "helper", "common", "base", "registry", "misc", "core"}
    parts = {part for file in PACKAGE.rglob("*.py") for part in file.relative_to(PACKAGE).with_suffix("").parts}
    assert parts & vague == set()


def test_nobody_imports_the_command_line() -> None:
    assert [own for own, other in imports() if room(other) == "cli" and room(own) not in ("cli", "__main__")] == []


def test_no_circle_of_modules() -> None:
    graph: dict[str, set[str]] = {}
    for own, other in imports():
        if own != other:
            graph.setdefault(own, set()).add(other)
    done: set[str] = set()

    def visit(module: str, path: tuple[str, ...]) -> None:
        assert module not in path, f"circle: {' -> '.join((*path, module))}"
        if module not in done:
            for other in graph.get(module, ()):
                visit(other, (*path, module))
            done.add(module)

    for module in list(graph):
        visit(module, ())
    assert len(done) > 20


@pytest.mark.parametrize(
    "code",
    [
        "import anomreason",
        "from anomreason import detect",
        "from anomreason.cli import app",
        "import anomreason.vlm.local.model",
    ],
)
def test_nothing_heavy_is_imported_by_the_core(code: str) -> None:
    heavy = {"torch", "transformers", "fastapi", "flask", "aiohttp.web", "peft", "llguidance", "matplotlib"}
    script = f"{code}\nimport sys\nprint(*sorted({heavy!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""


OPEN_RECORDS = {"report/curve.py": "each event of a training's log has fields of its own"}
"""Modules of evaluation and report whose records have no fixed fields, and why."""


def definitions(kind: type[ast.AST] | tuple[type[ast.AST], ...], *rooms: str) -> Iterator[tuple[str, Any]]:
    """(module, node) of all definitions of a kind in some rooms, or in all of the package."""
    for file in sorted(PACKAGE.rglob("*.py")):
        if not rooms or file.relative_to(PACKAGE).parts[0] in rooms:
            tree = parsed(file.read_text(encoding="utf-8"))
            yield from ((str(file.relative_to(PACKAGE)), node) for node in ast.walk(tree) if isinstance(node, kind))


def test_a_class_name_is_given_once() -> None:
    places: dict[str, list[str]] = {}
    for module, node in definitions(ast.ClassDef):
        places.setdefault(node.name, []).append(module)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def test_results_are_records_and_not_dictionaries_of_whatever() -> None:
    found = []
    for module, node in definitions((ast.FunctionDef, ast.AsyncFunctionDef), "evaluation", "report"):
        arguments = (*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs, node.args.vararg, node.args.kwarg)
        types = [argument.annotation for argument in arguments if argument] + [node.returns]
        loose = any(re.search(r"\b(dict|Mapping)\[str, Any\]", ast.unparse(kind)) for kind in types if kind)
        if loose and not node.name.startswith("_") and module not in OPEN_RECORDS:
            found.append(f"{module}: {node.name}")
    assert found == [], "pass a typed record"


def test_docstrings_say_what_a_module_is() -> None:
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    texts = [ast.get_docstring(node) or "" for _, node in definitions(kinds)]
    vain = [text for text in texts if "nows nothing of" in " ".join(text.split())]
    assert vain == [], "say what the module is instead of what it knows nothing of"
