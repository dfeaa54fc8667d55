"""The way from two folders to a card and a sweep, as docs/deepfake.md shows it."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.deepfake.variants import VARIANTS

PAGE = (Path(__file__).parents[1] / "docs" / "deepfake.md").read_text(encoding="utf-8")


def blocks(heading: str, language: str) -> list[str]:
    """The code blocks of a section."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", PAGE, re.M | re.S)
    assert section
    return re.findall(rf"```{language}\n(.*?)```", section[1], re.S)


def test_the_commands_of_the_page_go_from_two_folders_to_a_card_and_a_sweep(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def anomreason(block: str) -> None:
        for line in block.splitlines():
            done = CliRunner().invoke(app, shlex.split(line.removeprefix("$ anomreason ")))
            assert done.exit_code == 0, f"{line}: {done.output}"

    monkeypatch.chdir(tmp_path)
    scenes, job = blocks("The whole job", "console")
    anomreason(scenes)
    exec(blocks("The whole job", "python")[0], {})
    anomreason(job)
    card = json.loads(Path("set/runs/try/card/deepfake.json").read_text())
    assert card["accuracy"]["value"] == 1.0
    assert card["fakes"] + card["photographs"] == card["n"] > 10
    sweep = json.loads(Path("set/runs/try/sweep.json").read_text())
    assert [one["variant"] for one in sweep["variants"]] == ["jpeg-50", "half"]
    described = [json.loads(line) for line in Path("set/truth.jsonl").read_text().splitlines()]
    assert all("description" in one for one in described if not one["generated"])
    assert all("anomalies" in one for one in described if one["generated"])


def test_the_page_names_every_variant() -> None:
    section = PAGE.partition("\n## Robustness\n")[2]
    assert re.findall(r"`([a-z]+(?:-\d+)?)`", section.partition("\n- ")[0]) == list(VARIANTS)
