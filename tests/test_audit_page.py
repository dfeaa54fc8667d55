"""The way from nothing to a report, as docs/audit.md shows it."""

import json
import re
import shlex
from collections import Counter
from pathlib import Path

import pytest
from tests.forking import run_command
from typer.testing import CliRunner

from anomreason.audit.plan import AuditFile
from anomreason.audit.prompts.packs import read_pack
from anomreason.audit.prompts.tags import TAGS
from anomreason.cli import app
from anomreason.dataset.generators.recipe import known_generators
from anomreason.metrics.published import published
from anomreason.recipes import parse_toml, validated

PAGE = (Path(__file__).parents[1] / "docs" / "audit.md").read_text(encoding="utf-8")
NOTHING = re.search(r"^## An audit from nothing\n(.*?)^## ", PAGE, re.M | re.S)


def blocks(language: str) -> list[str]:
    """The code blocks of the section that starts from nothing."""
    assert NOTHING
    return re.findall(rf"```{language}\n(.*?)```", NOTHING[1], re.S)


@pytest.mark.slow
def test_the_commands_of_the_page_go_from_nothing_to_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def run(block: str) -> list[str]:
        told = []
        for line in block.splitlines():
            ran = CliRunner().invoke(app, shlex.split(line.removeprefix("$ anomreason ")))
            assert ran.exit_code == 0, f"{line}: {ran.output}"
            told.append(ran.stderr)
        return told

    def quartered(text: str) -> str:
        """A quarter of the page's prompts and images: the bundled model takes a while for each image."""
        return text.replace("--n 40", "--n 10").replace("[:20]", "[:5]").replace("limit = 20", "limit = 5")

    scenes, audit = blocks("console")
    assert len(run(quartered(scenes))) == 3
    exec(quartered(blocks("python")[0]))
    Path("audit.toml").write_text(quartered(blocks("toml")[0]))
    told = run(audit)
    assert "tiny: 20 images to assess" in told[1]
    assert "tiny: 10 of 30 images to assess" in told[2]
    result = json.loads(Path("audit/audit.json").read_text())
    assert result["generators"] == ["careful", "careless", "average"]
    scores = {one["generator"]: one["scores"]["af"]["value"] for one in result["assessors"][0]["generators"]}
    assert scores["careful"] < scores["average"] < scores["careless"]


def test_the_files_that_the_page_shows_are_read() -> None:
    for text in blocks("toml"):
        assert validated(AuditFile, parse_toml(text.encode(), "the page"), "the page").prompts == "photo-246"


def test_the_choice_of_prompts_on_the_page_prints_what_it_shows(tmp_path: Path) -> None:
    section = PAGE.partition("## Prompts\n")[2]
    listed, session = (re.search(rf"```{start}(.*?)```", section, re.S) for start in ("csv\n", r"\n\$ anomreason "))
    assert listed
    assert session
    (tmp_path / "ideas.csv").write_text(listed[1])
    command, _, shown = session[1].partition("\n")
    ran = run_command(shlex.split(command), cwd=tmp_path)
    assert ran.stdout + ran.stderr == shown


def test_the_page_describes_each_tag_and_the_pack_as_they_are() -> None:
    pack = PAGE.partition("### The pack photo-246")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `([a-z ]+)` \| (.+) \|$", pack, re.M))
    assert rows == TAGS
    counts = Counter(tag for prompt in read_pack("photo-246") for tag in prompt.tags)
    assert f"Every tag occurs at least {min(counts.values())} times" in " ".join(PAGE.split())


def test_the_page_names_the_recipe_of_each_generator_of_the_paper() -> None:
    rows = dict(re.findall(r"^\| ([^|`]+) \| `([^`|]+)` \| (?:diffusers|an endpoint)", PAGE, re.M))
    assert set(rows) == {figure.model for figure in published(table=3)}
    assert set(rows.values()) <= set(known_generators())
