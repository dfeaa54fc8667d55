"""Facts about prompts: complete, versioned, replaceable, and safe to fill."""

import json
from pathlib import Path

import pytest

from anomreason.agent.forms import schema_of
from anomreason.agent.roles import OF_CUTOUTS, STEPS, Prompts
from anomreason.errors import UsageError

HEAD = "---\nversion: 7\n---\n"


def test_every_step_can_be_asked_with_its_placeholders_and_no_prompt_is_left_over() -> None:
    prompts = Prompts.load()
    for name, step in STEPS.items():
        text = prompts.render(name, **{p: f"<{p}>" for p in step.asks_with})
        assert all(f"<{p}>" in text for p in step.asks_with)
    assert set(prompts.by_name) == {s.prompt for s in STEPS.values()} | {"common", "severity", *OF_CUTOUTS}
    assert '"parts"' in prompts.of_parts
    assert "7: a hand" in prompts.of_cutouts("7: a hand", boxes=True)


def test_what_a_model_said_is_filled_in_as_it_is() -> None:
    evil = "$limit ${notes} {object} %s \\n"
    assert evil in Prompts.load().render("scan", others=evil)


def test_the_direction_of_severity_is_said_to_every_role_that_gives_one() -> None:
    prompts = Prompts.load()
    for name, step in STEPS.items():
        gives_one = step.form is not None and '"severity"' in json.dumps(schema_of(step.form))
        said = prompts.render(name, **dict.fromkeys(step.asks_with, ""))
        assert ("0 = completely implausible to 100 = fully realistic" in said) == gives_one


def test_only_the_steps_that_decide_leave_out_what_is_not_sure() -> None:
    prompts = Prompts.load()
    saying = {name for name, prompt in prompts.by_name.items() if "leave it out" in prompt.text}
    assert saying == {"look-again", "single"}
    assert "Propose whatever looks wrong, also what you doubt" in prompts.by_name["inspect"].text


def test_a_folder_replaces_prompts_and_the_record_shows_it(tmp_path: Path) -> None:
    (tmp_path / "scan.md").write_text(HEAD + "Costs $$5? Known: $others")
    prompts = Prompts.load(tmp_path)
    assert prompts.render("scan", others="x") == "Costs $5? Known: x"
    assert prompts.hashes()["scan"].startswith("v7 ")
    assert prompts.hashes()["scan"] != Prompts.load().hashes()["scan"]
    assert prompts.hashes()["verify"] == Prompts.load().hashes()["verify"]


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("scan", "no front matter", "version: N"),
        ("scan", HEAD + "$object", r"\['\$others'\]"),
        ("scan", HEAD + "5 $ and $others", "plain dollar"),
        ("scam", HEAD + "x", "replaces no prompt"),
        ("single", HEAD + "Find all anomalies.", r"write \$severity"),
    ],
)
def test_a_wrong_prompt_is_named_with_what_would_be_right(tmp_path: Path, name: str, text: str, says: str) -> None:
    (tmp_path / f"{name}.md").write_text(text)
    with pytest.raises(UsageError, match=says):
        Prompts.load(tmp_path)


def test_an_empty_or_missing_folder_is_said(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(UsageError, match="--prompts"):
            Prompts.load(folder)
