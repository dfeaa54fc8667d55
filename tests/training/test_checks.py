"""Facts about the proofs: what they count, and that each of them fails when it must."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from anomreason.errors import UsageError
from anomreason.training.checks import (
    GradientWatch,
    ProofFailed,
    adapters_on,
    check_all_used,
    check_loss_mask,
    check_pixels,
    check_placement,
    check_same,
    check_trainable,
    matched_modules,
    read_tensors,
)
from anomreason.training.data.instance import Instance
from anomreason.training.loading import lora_config, with_conversations
from anomreason.training.recipe import FullPart, LoraPart, Recipe
from anomreason.vlm.local.weights import find_checkpoint, load_model
from anomreason.vlm.protocol import VLMOptions

Conversations = Callable[..., list[Instance]]
Recipes = Callable[..., Recipe]
pytestmark = pytest.mark.filterwarnings("ignore::FutureWarning")


@pytest.fixture(scope="module")
def deep() -> Any:
    """A Qwen2.5-VL of 28 layers, as the 7B has, and of hardly any width; without weights."""
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    text = {"vocab_size": 64, "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 28}
    heads = {"num_attention_heads": 2, "num_key_value_heads": 1, "layer_types": ["full_attention"] * 28}
    vision = {"depth": 2, "hidden_size": 16, "intermediate_size": 16, "num_heads": 2, "out_hidden_size": 16}
    rope = {"rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [1, 1, 2]}}
    with torch.device("meta"):
        return Qwen2_5_VLForConditionalGeneration(
            Qwen2_5_VLConfig(text_config={**text, **heads, **rope}, vision_config=vision)
        )


@pytest.mark.parametrize(("first", "layers"), [(0, [0, 4, 8, 12, 16, 20, 24]), (3, [3, 7, 11, 15, 19, 23, 27])])
def test_the_papers_rule_matches_21_modules_of_28_layers(deep: Any, first: int, layers: list[int]) -> None:
    found = matched_modules(deep, LoraPart(first=first))
    assert len(found) == 21
    assert sorted({int(name.split(".layers.")[1].split(".")[0]) for name in found}) == layers
    assert {name.rpartition(".")[2] for name in found} == {"q_proj", "k_proj", "v_proj"}


def test_peft_puts_adapters_on_just_the_modules_that_were_counted(deep: Any) -> None:
    from peft import get_peft_model

    part = LoraPart(modules=("q_proj", "up_proj", "down_proj"), every=3, first=1)
    expected = matched_modules(deep, part)
    model = get_peft_model(copy.deepcopy(deep), lora_config(part, 28), low_cpu_mem_usage=True)
    assert adapters_on(model) == sorted(expected)
    assert len(expected) == 27
    assert check_placement(model, expected).found.startswith("27 language modules")
    with pytest.raises(ProofFailed, match="27 modules have adapters where the recipe names 26"):
        check_placement(model, expected[:-1])


def test_a_rule_that_matches_nothing_is_told_with_what_there_is(deep: Any) -> None:
    with pytest.raises(UsageError, match=r"no module 'q' in every 4\. of 28 language layers .*q_proj, up_proj, v_proj"):
        matched_modules(deep, LoraPart(modules=("q",)))


def test_adapters_in_the_vision_tower_are_an_error(deep: Any) -> None:
    from peft import LoraConfig, get_peft_model

    wide = LoraConfig(r=2, target_modules=["gate_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(copy.deepcopy(deep), wide, low_cpu_mem_usage=True)
    with pytest.raises(ProofFailed, match=r"outside the language model: model\.visual\.blocks\.0\.mlp\.gate_proj"):
        check_placement(model, matched_modules(deep, LoraPart(modules=("gate_proj",), every=1)))


def test_something_else_that_learns_is_an_error(deep: Any) -> None:
    from peft import get_peft_model

    model = get_peft_model(copy.deepcopy(deep), lora_config(LoraPart(), 28), low_cpu_mem_usage=True)
    model.get_input_embeddings().weight.requires_grad_(True)
    with pytest.raises(ProofFailed, match=r"other weights than the adapters learn: .*embed_tokens"):
        check_placement(model, matched_modules(deep, LoraPart()))


def test_full_training_learns_the_parts_that_the_recipe_names(deep: Any) -> None:
    model = copy.deepcopy(deep)
    with pytest.raises(ProofFailed, match="do not learn as the recipe says"):
        check_trainable(model, FullPart(vision=False, projector=True))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(".visual." not in name or ".merger." in name)
    assert "weights learn" in check_trainable(model, FullPart(vision=False, projector=True)).found
    with pytest.raises(ProofFailed, match="do not learn as the recipe says"):
        check_trainable(model, FullPart(vision=False, projector=False))


class _Adapter(torch.nn.Module):
    """The least that has an adapter's names."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.ModuleDict(
            {"lora_A": torch.nn.ModuleDict({"default": torch.nn.Linear(3, 2, bias=False)})}
        )
        self.layer["lora_B"] = torch.nn.ModuleDict({"default": torch.nn.Linear(2, 3, bias=False)})
        self.frozen = torch.nn.Linear(3, 3).requires_grad_(False)
        torch.nn.init.zeros_(self.b)

    @property
    def a(self) -> Any:
        return self.layer["lora_A"]["default"].weight  # type: ignore[index]

    @property
    def b(self) -> Any:
        return self.layer["lora_B"]["default"].weight  # type: ignore[index]

    def learn(self) -> None:
        x = torch.ones(1, 3)
        (self.frozen(x) + x @ self.a.T @ self.b.T).pow(2).sum().backward()


def test_gradients_reach_b_first_and_a_once_b_has_moved() -> None:
    model, watch = _Adapter(), GradientWatch(lora=True)
    model.learn()
    first = watch.look(model, rate=0.0)
    assert first is not None
    assert "all 1 adapter B, none anywhere else" in first.found
    assert watch.look(model, rate=0.1) is None, "nothing has moved: with a learning rate of 0 A gets no gradient yet"
    with torch.no_grad():
        model.b.add_(model.b.grad, alpha=-0.1)
    model.zero_grad()
    model.learn()
    second = watch.look(model, rate=0.1)
    assert second is not None
    assert "all 2 learning tensors, A and B" in second.found
    assert watch.done


def test_missing_or_stray_gradients_are_errors() -> None:
    model = _Adapter()
    with pytest.raises(ProofFailed, match=r"lora_B\.default\.weight gets no gradient"):
        GradientWatch(lora=True).look(model, 0.1)
    model.learn()
    model.frozen.weight.grad = torch.ones(3, 3)
    with pytest.raises(ProofFailed, match=r"frozen weights have a gradient: frozen\.weight"):
        GradientWatch(lora=True).look(model, 0.1)
    model.frozen.weight.grad = None
    model.b.grad[0, 0] = float("nan")
    with pytest.raises(ProofFailed, match="is not finite"):
        GradientWatch(lora=True).look(model, 0.1)
    watch, dead = GradientWatch(lora=True), _Adapter()
    dead.learn()
    watch.look(dead, 0.1)
    with pytest.raises(ProofFailed, match=r"lora_A\.default\.weight gets no gradient"):
        watch.look(dead, 0.1)


def test_images_beyond_the_pixel_budget_are_an_error(tiny_recipe: Recipes, conversations: Conversations) -> None:
    encoder = with_conversations(tiny_recipe(), []).encoder
    assert "2 images were scaled to 3,136 to 4,704 pixels" in check_pixels(encoder, conversations(2)).found
    assert "tokens carry loss" in check_loss_mask(encoder, conversations(2, turns=2)).found
    encoder.reader.processor.image_processor.size = {"shortest_edge": 56 * 56, "longest_edge": 28 * 28 * 64}
    big = conversations(1)[0]
    from PIL import Image

    wide = big.image.with_name("wide.png")
    Image.new("RGB", (400, 400)).save(wide)
    with pytest.raises(ProofFailed, match="does not keep the pixel budget"):
        check_pixels(encoder, [Instance(wide, "wide.png", big.turns)])


def test_logits_that_differ_are_an_error_and_the_difference_is_told() -> None:
    logits = torch.tensor([[1.0, -50.0]])
    assert check_same("x", logits, logits + 1e-4).found == "logits differ by at most 0.0001, 2e-06 of the largest"
    with pytest.raises(ProofFailed, match=r"x: logits differ by 0\.01"):
        check_same("x", logits, logits + 0.01)
    with pytest.raises(ProofFailed):
        check_same("x", logits, logits * float("nan"))


def test_every_tensor_of_an_adapter_must_be_in_the_loaded_model(tiny_qwen: Path, tiny_adapter: Path) -> None:
    model = load_model(find_checkpoint(f"{tiny_qwen}+{tiny_adapter}"), VLMOptions(device="cpu", dtype="float32"))
    saved = read_tensors(tiny_adapter)
    assert check_all_used(saved, model).found.startswith(f"all {len(saved)} tensors")
    name = next(iter(saved))
    with pytest.raises(ProofFailed, match="is in the model alone"):
        check_all_used({key: value for key, value in saved.items() if key != name}, model)
    with pytest.raises(ProofFailed, match="is in the file alone"):
        check_all_used({**saved, name.replace("layers.0", "layers.9"): saved[name]}, model)
    with pytest.raises(ProofFailed, match="other values than were saved"):
        check_all_used({**saved, name: saved[name] + 1}, model)
