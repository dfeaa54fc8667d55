"""The way from an empty folder to a published dataset, as docs/dataset.md shows it."""

import re
import shlex
from pathlib import Path

import datasets
import pytest
from typer.testing import CliRunner

from anomreason.cli import app

PAGE = Path(__file__).parents[1] / "docs" / "dataset.md"


@pytest.mark.slow
def test_the_commands_of_the_page_make_a_dataset_that_opens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    block = re.search(r"```console\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert block
    commands = [line.removeprefix("$ anomreason ") for line in block[1].splitlines()]
    assert len(commands) > 5
    monkeypatch.chdir(tmp_path)
    for command in commands:
        ran = CliRunner().invoke(app, shlex.split(command))
        assert ran.exit_code == 0, f"{command}: {ran.output}"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    opened = datasets.load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert set(opened) == {"train", "test"}
    rows = [row for split in opened.values() for row in split]
    assert len(rows) >= 16
    assert any(row["anomalies"] for row in rows)
    assert rows[0]["image"].size == (512, 512)
