"""The audit's commands as a user meets them: what is told, asked and printed, and the exit codes."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.audit.audits import write_audit, write_given, write_prompts, write_recipe, write_truth
from tests.dataset.generators.images_server import ImagesServer, images_server
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.errors import UsageError


@pytest.fixture
def server() -> Iterator[ImagesServer]:
    with images_server() as running:
        yield running


def shell(*arguments: object, code: int = 0, answer: str = "") -> str:
    """What the command prints, on both streams."""
    result = CliRunner().invoke(app, ["audit", *map(str, arguments)], input=answer, catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture
def file(tmp_path: Path, server: ImagesServer) -> Path:
    """Two prompts, a recipe at 25 cents an image and a folder of images."""
    texts = ("a cup", "a dog")
    write_prompts(tmp_path, texts)
    write_truth(tmp_path, {"neat": 1, "mine": 2, "late": 3}, texts)
    for name in ("neat", "late"):
        write_recipe(tmp_path, name, server.url, 0.25)
    write_given(tmp_path, "mine", texts)
    return write_audit(tmp_path, ["neat.toml", "mine"])


def test_each_step_says_what_it_costs_and_the_results_are_named_at_the_end(file: Path) -> None:
    output = shell(file, "--yes")
    expected = [
        f"{file.parent / 'audit'}: 2 prompts x 2 seeds x 2 generators = 8 images, assessed by sim",
        "neat: 4 images to make, $1.00 at $0.25 each",
        "mine: 4 of 4 images given",
        "neat: 4 images made, $1.00",
        "sim: 8 images to assess, about 8 calls",
        "sim: 8 of 8 images assessed",
        "SIMULATED",
        f"Results: {file.parent / 'audit' / 'audit.json'}",
    ]
    places = [output.index(line) for line in expected]
    assert places == sorted(places)
    assert json.loads((file.parent / "audit" / "audit.json").read_text())["generators"] == ["neat", "mine"]


def test_an_image_that_is_not_in_its_folder_is_named_and_has_the_exit_code_of_failures(file: Path) -> None:
    lost = next((file.parent / "mine").glob("*.png"))
    lost.unlink()
    output = shell(file, "--yes", code=3)
    assert lost.name in output[: output.index("mine: 3 of 4 images given")]


def test_the_same_command_again_has_nothing_to_ask(file: Path, server: ImagesServer) -> None:
    shell(file, "--yes")
    output = shell("run", file)
    assert "neat: 4 images, nothing left to make" in output
    assert "sim: 8 images, nothing left to assess" in output
    assert len(server.requests) == 4


def test_money_is_asked_for_before_anything_is_sent(file: Path, server: ImagesServer) -> None:
    with pytest.raises(UsageError, match="this costs money, or may, and there is no terminal to ask at: add --yes"):
        shell(file)
    assert not (file.parent / "audit").exists()
    assert not server.requests


def test_a_terminal_is_asked_and_a_no_sends_nothing(
    file: Path, server: ImagesServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomreason.cli.audit.run.is_terminal", lambda: True)
    with pytest.raises(UsageError, match="nothing was sent"):
        shell(file, answer="n\n")
    assert not server.requests
    assert "Go ahead?" in shell(file, answer="y\n")
    assert len(server.requests) == 4


def test_a_dry_run_tells_everything_and_leaves_nothing(file: Path, server: ImagesServer) -> None:
    output = shell(file, "--dry-run")
    assert "neat: 4 images to make, $1.00 at $0.25 each" in output
    assert "sim: 8 images to assess, about 8 calls" in output
    assert not (file.parent / "audit").exists()
    assert not server.requests
    shell(file, "--yes")
    assert "sim: 8 images, nothing left to assess" in shell(file, "--dry-run")


def test_a_generator_is_added_and_the_others_are_not_paid_for_again(file: Path, server: ImagesServer) -> None:
    shell(file, "--yes")
    server.requests.clear()
    late = file.parent / "late.toml"
    assert "late: 4 images to make, $1.00" in shell("add", file, late, "--dry-run")
    output = shell("add", file, late, "--yes")
    assert f"Added late to {file}" in output
    assert "sim: 4 of 12 images to assess, about 4 calls" in output
    assert [request["model"] for request in server.requests] == ["style late"] * 4
    assert "nothing left to assess" in shell("add", file, late)
    result = json.loads((file.parent / "audit" / "audit.json").read_text())
    assert result["generators"] == ["neat", "mine", "late"]


def test_the_report_is_built_anew_from_the_folder_alone(file: Path) -> None:
    shell(file, "--yes")
    out = file.parent / "audit"
    before = (out / "audit.json").read_text()
    (out / "audit.json").unlink()
    elsewhere = file.parent / "elsewhere.toml"
    file.rename(elsewhere)
    shell("report", out)
    assert (out / "audit.json").read_text() == before
    elsewhere.rename(file)
    shell("report", file)
    with pytest.raises(UsageError, match=r"is not the folder of an audit \(it has no plan.json\)"):
        shell("report", file.parent)


def test_a_limit_on_the_cost_ends_with_its_own_exit_code_after_the_report(file: Path, server: ImagesServer) -> None:
    file.write_text(f"max_cost = 0.5\n{file.read_text()}")
    output = shell(file, "--yes", code=4)
    assert "neat: 2 images made, 2 left, $0.50, stopped at the limit on the cost" in output
    assert "The same command with a higher max_cost continues" in output
    assert len(server.requests) == 2
    images = json.loads((file.parent / "audit" / "audit.json").read_text())["assessors"][0]["generators"]
    assert [one["assessed"] for one in images] == [2, 4]


def test_the_results_can_be_printed_as_json_and_nothing_else(file: Path) -> None:
    printed = shell(file, "--yes", "--json")
    assert json.loads(printed) == json.loads((file.parent / "audit" / "audit.json").read_text())
    assert json.loads(shell("report", file, "--json")) == json.loads(printed)
    with pytest.raises(UsageError, match="--json has no effect with --dry-run"):
        shell(file, "--dry-run", "--json")


def test_images_that_failed_end_with_their_own_exit_code_after_the_report(file: Path) -> None:
    write_prompts(file.parent, ("a cup", "empty"))
    output = shell(file, "--yes", code=3)
    assert "neat: 2 images made, 2 failed" in output
    assert "sim: 4 images to assess" in output
    assert (file.parent / "audit" / "audit.json").is_file()
