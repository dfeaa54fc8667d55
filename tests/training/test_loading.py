"""From sources to training data, and from the command line to an adapter that detection uses."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

pytest.importorskip("trl")

from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.errors import UsageError
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.training.loading import prepare
from anomreason.training.recipe import Recipe, read_recipe, recipe_of
from anomreason.vlm.card import read_card
from anomreason.vlm.local.weights import BUNDLED

Recipes = Callable[..., Recipe]


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `scenes` (4 and their twins) and `held` (2)."""
    folder = tmp_path_factory.mktemp("scenes")
    for name, n, seed in (("scenes", 4, 0), ("held", 2, 1)):
        make_scenes(folder / name, SceneSettings(n=n, seed=seed, size=64), jobs=1)
    return folder


def test_images_that_are_learnt_are_not_held_out(tiny_recipe: Recipes, scenes: Path) -> None:
    recipe = tiny_recipe(data={"max_tokens": 2048})
    apart = prepare(recipe, [scenes / "scenes"], [scenes / "held"])
    assert apart.instances
    assert apart.held_out
    with pytest.raises(UsageError, match="both learnt from and held out"):
        prepare(recipe, [scenes / "scenes"], [scenes / "held", scenes / "held" / ".." / "scenes"])


def test_lengths_are_counted_once_by_the_encoder_that_trains(tiny_recipe: Recipes, scenes: Path) -> None:
    data = prepare(tiny_recipe(data={"max_tokens": 2048}), [scenes / "scenes"])
    rows = [data.encoder.encode(one) for one in data.instances]
    assert [one.total for one in data.lengths] == [len(row.labels) for row in rows]
    longest = max(one.total for one in data.lengths)
    exact = prepare(tiny_recipe(data={"max_tokens": longest}), [scenes / "scenes"])
    assert exact.instances == data.instances
    fewer = prepare(tiny_recipe(data={"max_tokens": longest - 1}), [scenes / "scenes"])
    assert fewer.instances != data.instances


def questions(recipe: Recipe, source: Path) -> set[str]:
    return {one.turns[0].text for one in prepare(recipe, [source]).instances}


def test_a_base_with_a_card_is_asked_in_its_own_words(tiny_recipe: Recipes, scenes: Path) -> None:
    card = read_card(BUNDLED)
    assert card is not None
    assert questions(read_recipe("tiny-lora"), scenes / "scenes") == {card.prompt}
    mine = read_recipe("tiny-lora").model_dump(exclude_none=True)
    mine["data"]["prompt"] = "What is odd?"
    assert questions(recipe_of(mine, "x"), scenes / "scenes") == {"What is odd?"}
    assert len(questions(tiny_recipe(data={"max_tokens": 2048}), scenes / "scenes")) > 1, "no card: several wordings"


def command(*arguments: str) -> tuple[str, str]:
    ran = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert ran.exit_code in (0, 3), ran.stderr
    return ran.stdout, ran.stderr


def test_the_command_trains_an_adapter_that_detect_uses(
    tiny_qwen: Path, scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The model is noise, so its answers cannot be read, and that is what the command says."""
    source = Path(str(read_recipe.__code__.co_filename)).parent / "recipes" / "tiny-lora.toml"
    short = re.sub(r"max_reply_tokens = \d+", "max_reply_tokens = 8", source.read_text(encoding="utf-8"))
    short = short.replace("[steps]", "[steps]\nmax_steps = 2").replace("log_every = 20", "log_every = 1")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "r.toml").write_text(short, encoding="utf-8")
    given = ("--base", str(tiny_qwen), "--data", str(scenes / "scenes"), "--held-out", str(scenes / "held"))
    dry, _ = command("train", "r.toml", *given, "--out", "adapter", "--dry-run")
    assert "conversations" in dry
    assert "14 modules" in dry
    assert not (tmp_path / "adapter").exists()
    out, err = command("train", "r.toml", *given, "--out", "adapter")
    log = [json.loads(line) for line in (tmp_path / "adapter" / "train-log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "learning_rate" in line] == [1, 2]
    assert re.search(r"Warning: \d of \d sample answers cannot be read as anomalies .*max_reply_tokens", err)
    assert "cannot be read as anomalies" in (tmp_path / "adapter" / "curve.html").read_text()
    model = re.search(r"--model (local:\S+)", out)
    assert model is not None
    image = str(scenes / "held" / "images" / "000000.png")
    assert "000000.png" in command("detect", image, "--schedule", "single", "--model", model[1])[0]
    merged, _ = command("merge", str(tiny_qwen), "adapter", "--out", "merged")
    assert merged.startswith("Merged into merged: logits differ by")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
