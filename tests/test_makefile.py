"""`make demo` and `make test` stop early where Python is too old, and install what they say."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
STAND_IN = """#!/bin/sh
# Python {version}, as far as the set-up looks; writes down what it is asked to install and run.
folder={folder}
case "$1 $2" in
    "-c import pip") test -e "$folder/pip" ;;
    "-m venv") mkdir -p "$3/bin"; touch "$folder/pip"
        for name in python anomreason mkdocs; do cp "$0" "$3/bin/$name"; done ;;
    "-c "*) code="import sys; sys.version_info = {version}; $2"; shift 2; exec {python} -S -c "$code" "$@" ;;
    *) echo "$@" >> "$folder/ran" ;;
esac
"""


class Checkout:
    """A folder with the Makefile and a stand-in for Python of a chosen version."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "tools").mkdir()
        for name in ("Makefile", "pyproject.toml", "tools/venv.sh"):
            shutil.copy(ROOT / name, folder / name)

    def python(self, *version: int) -> Path:
        file = self.folder / f"python{version[0]}.{version[1]}"
        file.write_text(STAND_IN.format(version=version, folder=self.folder, python=sys.executable))
        file.chmod(0o755)
        return file

    def make(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        return subprocess.run(["make", *arguments], capture_output=True, text=True, cwd=self.folder, env=inherited)

    @property
    def ran(self) -> list[str]:
        file = self.folder / "ran"
        return file.read_text().splitlines() if file.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


@pytest.mark.parametrize("goal", ["demo", "test"])
def test_an_old_python_is_refused_before_anything_is_made(checkout: Checkout, goal: str) -> None:
    old = checkout.python(3, 9, 18)
    ran = checkout.make(goal, f"PYTHON={old}")
    assert ran.returncode != 0
    message = ran.stderr.splitlines()[0]
    assert message == f"anomreason needs Python 3.11 or newer, '{old}' is 3.9: type  make {goal} PYTHON=python3.11"
    assert not (checkout.folder / ".venv").exists()
    assert checkout.ran == []


def test_a_python_that_is_not_there_is_refused(checkout: Checkout) -> None:
    ran = checkout.make("PYTHON=/nowhere/python3")
    assert ran.returncode != 0
    assert "'/nowhere/python3' does not run: type  make demo PYTHON=python3.11" in ran.stderr


@pytest.mark.parametrize("goal", ["demo", "test"])
def test_an_environment_of_an_old_python_is_refused_with_what_to_type(checkout: Checkout, goal: str) -> None:
    subprocess.run([checkout.python(3, 9, 18), "-m", "venv", checkout.folder / ".venv"], check=True)
    ran = checkout.make(goal, f"PYTHON={checkout.python(3, 12, 1)}")
    assert ran.returncode != 0
    assert f".venv has 3.9: type  rm -rf .venv && make {goal} PYTHON=python3.11" in ran.stderr
    assert checkout.ran == []


def test_an_interrupted_environment_is_made_again(checkout: Checkout) -> None:
    python = checkout.python(3, 12, 1)
    (checkout.folder / ".venv" / "bin").mkdir(parents=True)
    shutil.copy(python, checkout.folder / ".venv" / "bin" / "python")
    (checkout.folder / ".venv" / "left over").touch()
    ran = checkout.make("demo", f"PYTHON={python}")
    assert ran.returncode == 0, ran.stderr
    assert ".venv is incomplete; making it again." in ran.stdout
    assert not (checkout.folder / ".venv" / "left over").exists()
    assert checkout.ran[-1] == "demo"


def test_the_cpu_build_is_asked_for_torch_alone(checkout: Checkout) -> None:
    ran = checkout.make("demo", f"PYTHON={checkout.python(3, 11, 2)}", "CPU=1")
    assert ran.returncode == 0, ran.stderr
    pip = "-m pip --disable-pip-version-check install"
    cpu = "--index-url https://download.pytorch.org/whl/cpu"
    assert checkout.ran == [f"{pip} torch {cpu}", f"{pip} --editable .[local]", "demo"]


def test_the_size_of_the_download_comes_first(checkout: Checkout) -> None:
    ran = checkout.make("test", f"PYTHON={checkout.python(3, 13, 0)}", "JOBS=3")
    assert ran.returncode == 0, ran.stderr
    assert ("several GB: 'make test CPU=1' takes a small build" in ran.stdout) == (sys.platform == "linux")
    assert "Installing the other packages ..." in ran.stdout
    assert checkout.ran[0].endswith("install torch==2.13.0")
    assert checkout.ran[-1].startswith("-m pytest -n 3 ")
    assert checkout.make("test", "PYTHON=false").returncode == 0, "what is installed is not looked at again"


def test_the_site_is_built_beside_the_environment_of_the_demo(checkout: Checkout) -> None:
    ran = checkout.make("docs", f"PYTHON={checkout.python(3, 12, 1)}")
    assert ran.returncode == 0, ran.stderr
    assert checkout.ran == ["-m pip --disable-pip-version-check install --editable .[docs]", "build --quiet"]
    assert not (checkout.folder / ".venv").exists()
