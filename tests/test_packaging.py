"""What is imported is declared, and what is built works without the checkout."""

import ast
import os
import re
import subprocess
import sys
import sysconfig
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
OURS = {"anomreason", "tools", "tests", "benchmarks"}
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


@cache
def installed() -> Mapping[str, list[str]]:
    """Distributions by the package that they bring; found in the files of each, which takes a second."""
    return packages_distributions()


def undeclared(imports: Iterator[tuple[str, str]], allowed: set[str]) -> str:
    """One line for each import that none of the allowed distributions brings."""
    wrong = []
    for file, top in imports:
        distributions = {normal(name) for name in installed().get(top, [top])}
        if not distributions & allowed and top not in BY_HAND:
            wrong.append(f"{file} imports {top}: declare {' or '.join(sorted(distributions))} in pyproject.toml")
    return "\n".join(wrong)


OF_AN_EXTRA = {
    "src/anomreason/dataset/": "dataset",
    "src/anomreason/assisting.py": "mcp",
    "src/anomreason/review/": "review",
    "src/anomreason/serve/": "serve",
    "src/anomreason/web/": "serve",
}
"""Rooms whose modules are imported only after their entrance has asked for the extra."""


def test_what_the_package_imports_at_once_is_a_dependency() -> None:
    at_start = [(file, top) for file, top in imported("src", at_start=True) if file != IN_MODEL_FOLDER]
    core = ((file, top) for file, top in at_start if not file.startswith(tuple(OF_AN_EXTRA)))
    assert undeclared(core, declared()[""]) == ""
    for folder, extra in OF_AN_EXTRA.items():
        inside = ((file, top) for file, top in at_start if file.startswith(folder))
        assert undeclared(inside, declared()[""] | declared()[extra]) == ""


def test_what_the_package_imports_later_is_a_dependency_or_in_an_extra_for_users() -> None:
    extras = declared()
    del extras["dev"]
    assert undeclared(imported("src"), set().union(*extras.values())) == ""


@pytest.mark.parametrize("folder", ["tests", "tools", "benchmarks"])
def test_what_tests_and_tools_import_is_in_some_extra(folder: str) -> None:
    assert undeclared(imported(folder), set().union(*declared().values())) == ""


def test_every_dependency_is_imported() -> None:
    used = {normal(name) for _, top in imported("src") for name in installed().get(top, [top])}
    assert declared()[""] - used == set()


CONTAINER = {"Dockerfile", "compose.yaml", ".dockerignore"}
WHERE = "import anomreason; print(anomreason.__file__)"


@dataclass(frozen=True)
class Built:
    """Wheel and sdist, and a clean environment with the wheel in it."""

    wheel: Path
    sdist: Path
    environment: Path

    def run(self, program: str, *arguments: str, cwd: Path, **variables: str) -> str:
        """Output of a program of the environment, which does not see the checkout."""
        command = [str(self.environment / "bin" / program), *arguments]
        inherited = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
        ran = subprocess.run(command, capture_output=True, text=True, cwd=cwd, env={**inherited, **variables})
        assert ran.returncode == 0, ran.stdout + ran.stderr
        return ran.stdout


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    for library in ("build", "hatchling"):
        pytest.importorskip(library)
    folder = tmp_path_factory.mktemp("built")

    def run(*command: str) -> None:
        ran = subprocess.run([sys.executable, "-m", *command], capture_output=True, text=True)
        assert ran.returncode == 0, ran.stdout + ran.stderr

    run("build", "--no-isolation", "--outdir", str(folder / "dist"), str(ROOT))
    (wheel,) = (folder / "dist").glob("*.whl")
    (sdist,) = (folder / "dist").glob("*.tar.gz")
    environment = folder / "environment"
    run("venv", "--without-pip", str(environment))
    python = str(environment / "bin" / "python")
    run("pip", "--python", python, "install", "--no-index", "--no-deps", "--disable-pip-version-check", str(wheel))
    # Dependencies come from this environment, behind the wheel; its own link to the checkout is not followed.
    (packages,) = environment.glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n")
    return Built(wheel, sdist, environment)


def contents(folder: str) -> set[str]:
    """All files of a folder of the checkout that belong to it, as paths from the root."""
    files = (f.relative_to(ROOT) for f in (ROOT / folder).rglob("*") if f.is_file())
    return {f.as_posix() for f in files if not any(part == "__pycache__" or part[0] == "." for part in f.parts)}


@pytest.mark.slow
def test_the_wheel_holds_the_package_with_its_data_and_nothing_else(built: Built) -> None:
    names = {name for name in zipfile.ZipFile(built.wheel).namelist() if ".dist-info/" not in name}
    assert names == {name.removeprefix("src/") for name in contents("src")}
    assert {"anomreason/vlm/tiny/model.safetensors", "anomreason/py.typed"} <= names


@pytest.mark.slow
def test_the_sdist_holds_whatever_its_tests_and_its_makefile_need(built: Built) -> None:
    with tarfile.open(built.sdist) as archive:
        names = {member.name.partition("/")[2] for member in archive.getmembers() if member.isfile()}
    expected = set().union(*(contents(folder) for folder in ("src", "tests", "tools", "docs", "benchmarks")))
    assert expected | {"Makefile", "LICENSE", "README.md", "mkdocs.yml", "pyproject.toml", *CONTAINER} <= names


@pytest.mark.slow
def test_the_demo_runs_from_the_wheel_alone_and_ends_by_naming_its_report(built: Built, tmp_path: Path) -> None:
    imported = built.run("python", "-c", WHERE, cwd=tmp_path)
    assert Path(imported.strip()).is_relative_to(built.environment)
    printed = built.run("anomreason", "demo", str(tmp_path / "demo"), cwd=tmp_path, COLUMNS="80")
    assert "SIMULATED" not in printed
    report = Path(printed.strip().splitlines()[-1].rpartition(" ")[2])
    assert report.is_file()
    assert "images/000005.png" in report.read_text(encoding="utf-8")
    recall = re.search(r"^recall +([01]\.\d{4}) .* (\d+) +planted", printed, re.MULTILINE)
    assert recall is not None
    missed = re.findall(r"^  (\S+\.png): .+ \(.+\)\. The model reported: ", printed, re.MULTILINE)
    assert len(missed) == round(int(recall[2]) * (1 - float(recall[1])))
    assert all(Path(image).is_file() for image in missed)
    built.run("anomreason", "demo", str(tmp_path / "demo"), cwd=tmp_path)


@pytest.mark.slow
def test_the_sdist_passes_its_own_tests(built: Built, tmp_path: Path) -> None:
    with tarfile.open(built.sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (folder,) = tmp_path.iterdir()
    some = ("test_anomaly.py", "test_architecture.py", "tools/tiny/test_muon.py")
    source = str(folder / "src")
    imported = built.run("python", "-c", WHERE, cwd=folder, PYTHONPATH=source)
    assert Path(imported.strip()).is_relative_to(source)
    tests = (f"tests/{name}" for name in some)
    printed = built.run(
        *("python", "-m", "pytest", "-p", "no:cacheprovider", "-m", "not slow", *tests), cwd=folder, PYTHONPATH=source
    )
    passed = re.search(r"^(\d+) passed", printed, re.MULTILINE)
    assert passed is not None
    assert int(passed[1]) > 20
