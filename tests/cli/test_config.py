"""Facts about the file of defaults: it stands for options, and the command line goes before it."""

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from anomreason.cli import app
from anomreason.scenes.make import SceneSettings, make_scenes


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_scenes(tmp_path / "scenes", SceneSettings(n=2), jobs=1)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*line: str) -> Result:
    return CliRunner().invoke(app, list(line))


SIMULATED = '[detect]\nmodel = "sim:scenes/simulator.json"\nin-flight = 3\nschedule = "paper"\n'


def test_options_default_to_the_file_in_this_folder(here: Path) -> None:
    (here / "anomreason.toml").write_text(SIMULATED)
    ran = run("detect", "scenes/images", "--dry-run")
    assert ran.exit_code == 0, ran.output
    assert "Defaults from anomreason.toml, [detect]: model, in-flight, schedule" in ran.stderr
    assert "paper" in ran.stdout


def test_the_command_line_goes_before_the_file(here: Path) -> None:
    (here / "anomreason.toml").write_text(SIMULATED)
    assert "lean" in run("detect", "scenes/images", "--dry-run", "--schedule", "lean").stdout


def test_a_named_file_is_taken_instead(here: Path) -> None:
    (here / "anomreason.toml").write_text('[detect]\nmodel = "nowhere"\n')
    (here / "mine.toml").write_text(SIMULATED.replace("in-flight", "in_flight"))
    ran = run("--config", "mine.toml", "detect", "scenes/images", "--dry-run")
    assert ran.exit_code == 0, ran.output
    assert "Defaults from mine.toml" in ran.stderr


def test_a_table_in_a_table_is_for_a_command_of_a_group(here: Path) -> None:
    (here / "anomreason.toml").write_text('[scenes.make]\nn = 1\nout = "more"\n')
    ran = run("scenes", "make")
    assert ran.exit_code == 0, ran.output
    assert {file.name[:6] for file in (here / "more" / "images").iterdir()} == {"000000"}


def test_other_commands_do_not_hear_of_it(here: Path) -> None:
    (here / "anomreason.toml").write_text(SIMULATED)
    assert "Defaults" not in run("scenes", "make", "--n", "1", "--out", "more").stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[detect]\nmodle = 'x'\n", "anomreason.toml, [detect]: there is no option 'modle'; did you mean 'model'?"),
        ("[scenes]\nmake = 3\n", "'make' is a command; write its options in a table, [scenes.make]"),
        ("[detct]\nmodel = 'x'\n", "anomreason.toml: there is no command 'detct'; did you mean 'detect'?"),
        (SIMULATED + "[detct]\n", "there is no command 'detct'; did you mean 'detect'?"),
        ("model = 'x'\n", "'model' stands in no table; write options in a command's table, e.g. [detect]"),
        ("[scenes.make]\nm = 1\n", "anomreason.toml, [scenes.make]: there is no option 'm'"),
        ("[scenes.mak]\nn = 1\n", "there is no command 'mak'; did you mean 'make'?"),
        ("detect = 3\n", "'detect' is a command; write its options in a table, [detect]"),
        ("[detect\n", "anomreason.toml is no TOML file"),
        (
            "[detect]\nin-flight = 'many'\n",
            "anomreason.toml, [detect]: in-flight cannot be 'many': Input should be a valid integer",
        ),
        ("[detect]\nin-flight = true\n", "anomreason.toml, [detect]: in-flight takes a value, not true"),
        ("[detect]\nmodel = ['a', 'b']\n", "anomreason.toml, [detect]: model takes one value, not ['a', 'b']"),
        (
            "[detect]\nyes = 'perhaps'\n",
            "anomreason.toml, [detect]: yes cannot be 'perhaps': Input should be a valid boolean",
        ),
    ],
)
def test_what_cannot_be_meant_is_an_error_that_says_why(here: Path, text: str, message: str) -> None:
    (here / "anomreason.toml").write_text(text)
    line: list[Any] = ["scenes", "make", "--out", "more"] if "[scenes" in text else ["detect", "scenes/images"]
    ran = run(*line)
    assert ran.exit_code != 0
    assert message in str(ran.exception)


@pytest.mark.parametrize("url", ["'ftp://there'", "['ftp://there']"])
def test_an_option_that_can_be_given_several_times_takes_one_value_or_a_list(here: Path, url: str) -> None:
    (here / "anomreason.toml").write_text(f"[detect]\nmodel = 'any'\nbase-url = {url}\n")
    assert "'ftp://there'" in str(run("detect", "scenes/images", "--dry-run").exception)


def test_options_of_a_group_belong_into_the_table_of_the_command_that_it_runs_by_itself(here: Path) -> None:
    (here / "anomreason.toml").write_text("[audit]\nyes = true\n")
    assert "write them in the table [audit.run]" in str(run("audit", "audit.toml").exception)


def test_a_table_is_named_as_the_file_has_it_however_the_program_was_started(here: Path) -> None:
    (here / "anomreason.toml").write_text("[scenes.make]\nm = 1\n")
    ran = CliRunner().invoke(app, ["scenes", "make"], prog_name="python -m anomreason")
    assert "anomreason.toml, [scenes.make]: there is no option 'm'" in str(ran.exception)


UNSUITED = '[detect]\nmodel = "gpt-4o"\nmax-cost = 5\nschedule = "paper"\n'


def test_what_has_no_effect_with_this_model_is_left_out_when_it_comes_from_the_file(here: Path) -> None:
    (here / "anomreason.toml").write_text(UNSUITED)
    ran = run("detect", "scenes/images", "--model", "tiny", "--dry-run")
    assert ran.exit_code == 0, ran.output
    assert "Not used from anomreason.toml: schedule, since tiny was trained on one question only" in ran.stderr
    assert "Not used from anomreason.toml: max-cost, since it has no effect with 'tiny'" in ran.stderr
    assert "schedule single" in ran.stdout
    kept = run("detect", "scenes/images", "--dry-run")
    assert "schedule paper" in kept.stdout
    assert "Not used" not in kept.stderr


@pytest.mark.parametrize(
    ("option", "message"),
    [(["--max-cost", "5"], "has no effect with 'tiny'"), (["--schedule", "lean"], "use the schedule single")],
)
def test_what_has_no_effect_stays_an_error_on_the_command_line(here: Path, option: list[str], message: str) -> None:
    (here / "anomreason.toml").write_text(UNSUITED)
    assert message in str(run("detect", "scenes/images", "--model", "tiny", "--dry-run", *option).exception)


def test_what_has_no_effect_in_a_mode_is_left_out_when_it_comes_from_the_file(here: Path) -> None:
    (here / "prompts.txt").write_text("a red cup\ntwo dogs at play\n")
    (here / "anomreason.toml").write_text("[audit.prompts]\nembedder = 'words'\nmax-cost = 5\n")
    ran = run("audit", "prompts", "prompts.txt", "--k", "1", "--out", "chosen.jsonl")
    assert ran.exit_code == 0, ran.output
    assert "Not used from anomreason.toml: max-cost, since it has no effect without --model" in ran.stderr


def test_a_file_named_after_the_command_is_an_error_that_says_where_it_goes(here: Path) -> None:
    assert "anomreason --config FILE scenes make ..." in run("scenes", "make", "--config", "mine.toml").output


def test_a_file_that_is_not_there_is_an_error(here: Path) -> None:
    assert "nowhere.toml cannot be read" in str(run("--config", "nowhere.toml", "detect", "x").exception)
