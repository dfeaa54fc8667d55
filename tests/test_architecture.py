"""The plan of the house, held against the imports, and a light core."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import anomreason

PACKAGE = Path(anomreason.__file__).parent
FLOORS = {
    "errors": 1,
    "english": 1,
    "stats": 1,
    "anomaly": 2,
    "containers": 2,
    "textform": 2,
    "images": 2,
    "formats": 3,
    "runs": 3,
    "vlm": 4,
    "metrics": 4,
    "scenes": 4,
    "inputs": 4,
    "agent": 5,
    "report": 5,
    "detection": 6,
    "evaluation": 6,
    "training": 8,
    "cli": 9,
}
NEIGHBOURS = {("textform", "anomaly"), ("images", "anomaly"), ("images", "containers")}
"""Rooms of one floor that may know each other: the nouns are everybody's."""


def room(module: str) -> str:
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def imports() -> list[tuple[str, str, bool]]:
    """(importing module, imported module, at module level) inside the package."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        own = ".".join(("anomreason", *file.relative_to(PACKAGE).with_suffix("").parts)).removesuffix(".__init__")
        tree = ast.parse(file.read_text(encoding="utf-8"))
        top = {id(n) for n in tree.body}
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "anomreason":
                names = [node.module] if "." in node.module else [f"{node.module}.{a.name}" for a in node.names]
                found += [(own, name, id(node) in top) for name in names]
    return found


def test_every_module_has_its_room() -> None:
    rooms = {f.stem if f.is_file() else f.name for f in PACKAGE.iterdir() if not f.name.startswith((".", "__"))}
    assert rooms - {"py"} == set(FLOORS), "a new room needs its floor here and in docs/architecture.md"


def test_no_arrow_runs_up_and_neighbours_do_not_know_each_other() -> None:
    wrong = []
    for own, other, _ in imports():
        here, there = room(own), room(other)
        if here in ("__init__", "__main__") or here == there:
            continue
        if FLOORS[there] > FLOORS[here] or (FLOORS[there] == FLOORS[here] and (here, there) not in NEIGHBOURS):
            wrong.append(f"{own} imports {other}")
    assert wrong == []


def test_nobody_imports_the_command_line() -> None:
    assert [own for own, other, _ in imports() if room(other) == "cli" and room(own) not in ("cli", "__main__")] == []


def test_no_circle_of_modules() -> None:
    graph: dict[str, set[str]] = {}
    for own, other, top in imports():
        if top and own != other:
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
        "import anomreason.vlm.local",
    ],
)
def test_nothing_heavy_is_imported_by_the_core(code: str) -> None:
    heavy = {"torch", "transformers", "fastapi", "flask", "aiohttp.web", "peft", "llguidance", "matplotlib"}
    script = f"{code}\nimport sys\nprint(*sorted({heavy!r} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == ""
