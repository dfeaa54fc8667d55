"""What the README and the help texts show is what happens."""

import doctest
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anomreason.cli.demo import DEMO
from anomreason.scenes.make import make_scenes

FOREIGN = {"--work", "--trust-remote-code", "--version", "--images", "--rounds", "--enable-lora", "--lora-modules"}
"""Options of benchmarks, of the program itself and of other programs."""
ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
COMMANDS = (
    *("detect", "report", "calls", "eval", "leaderboard", "plausibility", "deepfake"),
    *("scenes", "train", "merge", "simulate", "demo"),
)


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "80"}
    return subprocess.run(
        [sys.executable, "-m", "anomreason", *arguments], capture_output=True, text=True, cwd=cwd, env=environment
    )


def test_the_python_of_the_readme_does_what_it_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_scenes(tmp_path / "demo" / "scenes", DEMO, jobs=1)
    monkeypatch.chdir(tmp_path)
    result = doctest.testfile(str(README), module_relative=False)
    assert result.attempted >= 3
    assert result.failed == 0


def test_the_output_that_the_readme_shows_is_what_is_printed(tmp_path: Path) -> None:
    make_scenes(tmp_path, DEMO, jobs=1)
    shown = re.search(r"```\n((\S+\.png): .*?)\nReport:", README.read_text(encoding="utf-8"), re.DOTALL)
    assert shown is not None
    ran = run("detect", f"images/{shown[2]}", "--model", "tiny", "--no-report", cwd=tmp_path)
    assert [line.rstrip() for line in ran.stdout.strip().splitlines()] == shown[1].splitlines()


def test_the_demo_asks_the_bundled_model_and_ends_by_naming_its_report(tmp_path: Path) -> None:
    ran = run("demo", str(tmp_path / "demo"), cwd=tmp_path)
    assert ran.returncode == 0
    assert "SIMULATED" not in ran.stdout
    report = Path(ran.stdout.strip().splitlines()[-1].rpartition(" ")[2])
    assert report.is_file()
    assert "images/000005.png" in report.read_text(encoding="utf-8")
    assert re.search(r"^recall +[01]\.\d{4}", ran.stdout, re.MULTILINE)
    assert run("demo", str(tmp_path / "demo"), cwd=tmp_path).returncode == 0


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(command: str, tmp_path: Path) -> None:
    ran = run(command, "--help", cwd=tmp_path)
    assert ran.returncode == 0
    assert f"Usage: python -m anomreason {command}" in ran.stdout
    assert len(ran.stdout.splitlines()) > 5


def test_options_that_the_docs_name_exist() -> None:
    helps = [run(*c.split(), "--help", cwd=ROOT).stdout for c in (*COMMANDS, "scenes make")]
    known = set(re.findall(r"--[a-z][a-z-]+", " ".join(helps)))
    for page in (README, *sorted((ROOT / "docs").glob("*.md"))):
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", page.read_text(encoding="utf-8")))
        assert named - known - FOREIGN == set(), page.name


@pytest.mark.parametrize("page", ["README.md", *sorted(p.name for p in (ROOT / "docs").glob("*.md"))])
def test_links_between_pages_lead_somewhere(page: str) -> None:
    file = ROOT / page if page == "README.md" else ROOT / "docs" / page
    links = re.findall(r"\]\((?!http)([^)#]+)", file.read_text(encoding="utf-8"))
    assert [link for link in links if not (file.parent / link).exists()] == []
