"""Facts about the plan of a training."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tools.tiny.model import TinyShape, make_tiny

from anomreason.errors import UsageError
from anomreason.training.data.instance import ConversationLength, Instance
from anomreason.training.loading import lora_config, with_conversations
from anomreason.training.plan import empty_model, plan, plan_for
from anomreason.training.recipe import Recipe, read_recipe, recipe_of
from anomreason.vlm.card import DetectorCard

Conversations = Callable[..., list[Instance]]
Recipes = Callable[..., Recipe]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


def test_a_plan_tells_modules_tokens_steps_and_memory(tiny_recipe: Recipes, conversations: Conversations) -> None:
    table = tiny_recipe(steps={"epochs": 3}, lora={"modules": ["q_proj"], "rank": 4}).model_dump(exclude_none=True)
    del table["steps"]["max_steps"]
    data = with_conversations(recipe_of(table, "test recipe"), conversations(9))
    made = plan(data)
    assert len(made.modules) == 2
    assert made.learning == 2 * 4 * (64 + 64)
    assert made.steps == 9, "three epochs of three batches of four, the last one short"
    assert len(data.lengths) == 9
    assert all(one.total > one.answer > 0 for one in data.lengths)
    assert made.bytes == sum(made.memory.values()) > 4 * made.weights
    assert "2 modules: q_proj of layers 0, 1" in made.text()
    assert f"{made.learning:,} of {made.weights:,} weights" in made.text()


def test_the_papers_recipe_fits_its_gpus_and_takes_hours(tmp_path: Path) -> None:
    from transformers import Qwen2_5_VLConfig

    text = {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28}
    more = {"num_key_value_heads": 4, "vocab_size": 152064, "tie_word_embeddings": False}
    vision = {"hidden_size": 1280, "intermediate_size": 3420, "num_heads": 16, "depth": 32, "out_hidden_size": 3584}
    Qwen2_5_VLConfig(text_config={**text, **more}, vision_config=vision, tie_word_embeddings=False).save_pretrained(
        tmp_path
    )
    model = empty_model(tmp_path)
    made = plan_for(read_recipe("anomreasonor-7b"), model, [ConversationLength(2048, 784, 900)] * 17_000)
    assert made.weights == pytest.approx(8.29e9, rel=0.01)
    assert len(made.modules) == 21
    assert made.steps == 133
    assert 16e9 < made.bytes < 48e9
    assert 0.5 < made.hours < 12
    four = plan_for(read_recipe("qlora-24gb"), model, [ConversationLength(2048, 784, 900)] * 17_000)
    assert four.bytes < 24e9
    assert four.memory["weights"] < 0.5 * made.memory["weights"]


@pytest.mark.parametrize("every", [1, 2])
def test_the_estimate_of_activations_is_near_what_autograd_keeps(
    conversations: Conversations, tmp_path: Path, every: int
) -> None:
    from peft import get_peft_model
    from transformers import Qwen2_5_VLForConditionalGeneration

    data = conversations(4)
    base = make_tiny(tmp_path, [turn.text for one in data for turn in one.turns], DetectorCard(prompt="x"), TinyShape())
    table = {"model": {"base": str(base), "precision": "fp32", "min_pixels": 196**2, "max_pixels": 196**2}}
    recipe = recipe_of({**table, "lora": {"every": every}, "batch": {"checkpointing": False}}, "test recipe")
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(base)
    training = with_conversations(recipe, data)
    encoder = training.encoder
    estimate = plan_for(recipe, model, training.lengths).memory["activations"]
    assert recipe.lora is not None
    learner = get_peft_model(model, lora_config(recipe.lora, 4)).train()
    weights = {parameter.untyped_storage().data_ptr() for parameter in learner.parameters()}
    kept: dict[int, torch.UntypedStorage] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage
        return tensor

    batch = encoder.collate([encoder.encode(one) for one in data])
    del batch["labels"]
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        seen = learner.get_base_model().model(**batch, use_cache=False)
    assert seen is not None
    measured = sum(storage.nbytes() for storage in kept.values())
    assert 0.95 * measured < estimate < 1.5 * measured, "frozen layers keep a little less than is counted"


def test_a_plan_needs_conversations_and_a_model(
    tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match="no conversations"):
        plan(with_conversations(tiny_recipe(), []))
    table = tiny_recipe().model_dump(exclude_none=True)
    table["model"]["base"] = str(conversations(1)[0].image.parent)
    with pytest.raises(UsageError, match="lacks a usable image processor"):
        with_conversations(recipe_of(table, "x"), conversations(1))
    (tmp_path / "config.json").write_text('{"model_type": "qwen2_vl"}')
    with pytest.raises(UsageError, match="no configuration of a Qwen"):
        empty_model(tmp_path)


def test_a_cpu_is_planned_with_the_precision_it_trains_in_and_short_times_are_readable(
    tiny_recipe: Recipes, conversations: Conversations
) -> None:
    if torch.cuda.is_available():
        pytest.skip("for machines without a GPU")
    data = conversations(4)
    auto, full = (plan(with_conversations(tiny_recipe(model={"precision": p}), data)) for p in ("auto", "fp32"))
    assert auto.memory == full.memory
    assert plan(with_conversations(tiny_recipe(model={"precision": "bf16"}), data)).bytes < full.bytes
    assert "per device in fp32" in auto.text()
    assert auto.hours < 0.05
    assert re.search(r"about [\d.]+ s on this machine", auto.text())
