"""Estimates what a training will take before it begins: modules, memory, tokens, steps, time (`train --dry-run`).

The model is built without weights, from its configuration alone, so that a 7B model is planned in seconds on a laptop.
Memory of one device, in bytes, with T tokens in its batch (as long as the longest conversation), layers L of width h,
query width q, key and value width k together, MLP width m, b bytes a number:

    weights      4 a learning weight and one kept in fp32, 2 a frozen one in bf16, 0.53 in 4 bits
    learning     12 a learning weight: gradient, and AdamW's two moments, in fp32
    activations  T * b * (4 h + 2 q + k + 4 m) for each layer: its inputs and what its backward pass reads; T * b * h
                 more for each kind of module with adapters, where there are some; T * b * 8 h at both ends. When they
                 are computed again: T * b * h for each layer, the ends, and one layer in full
    images       patches * b * (4 width + 2 MLP width) of the vision tower, for each block when it learns, else one
    other        a tenth of all that, and 1 GB that CUDA takes for itself

Arithmetic, in operations: 2 a weight and token forward and as much again backward through frozen weights (twice that
through learning ones), once more forward when activations are computed again; the vision tower forward alone unless it
learns; attention adds 2 q a pair of tokens and layer each time. Hours are that over the devices' peak times the share
of it that is used, both from the recipe's [device]; evaluation, loading and waiting for the disk come on top.

    print(plan(prepare(read_recipe("anomreasonor-7b"), ["scenes/"])).text())
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from pathlib import Path
from typing import Any

from anomreason.errors import UsageError
from anomreason.report.html import duration
from anomreason.training.checks import LANGUAGE, VISION, learns, matched_modules
from anomreason.training.data.instance import ConversationLength
from anomreason.training.loading import TrainingData, in_half, require_conversations
from anomreason.training.recipe import Recipe

FOUR_BIT = 0.53
"""Bytes a weight in nf4 with doubly quantised scales: 4 bits and a scale for every 64 weights."""
PATCH_TOKENS = 4
"""Patches behind one image token."""


@dataclass(frozen=True, slots=True)
class TrainingPlan:
    """What a training will take."""

    modules: tuple[str, ...]
    """Modules that get adapters; empty in full training."""
    weights: int
    learning: int
    """Weights that learn."""
    effective_batch: int
    steps: int
    precision: str
    """Of the arithmetic: `fp32` or `bf16`."""
    memory: Mapping[str, int]
    """Bytes on one device, by use."""
    hours: float
    device: str

    @property
    def bytes(self) -> int:
        """Memory that one device needs."""
        return sum(self.memory.values())

    def text(self) -> str:
        """The plan as lines for a terminal."""
        kinds = sorted({name.rpartition(".")[2] for name in self.modules})
        layers = sorted({int(name.split(".layers.")[1].split(".")[0]) for name in self.modules})
        where = (
            f"{len(self.modules)} modules: {', '.join(kinds)} of layers {', '.join(map(str, layers))}"
            if self.modules
            else "the weights themselves"
        )
        parts = ", ".join(f"{name} {size / 1e9:.2f}" for name, size in self.memory.items())
        return "\n".join(
            [
                f"learns        {where}; {self.learning:,} of {self.weights:,} weights",
                f"steps         {self.steps:,} of {self.effective_batch} conversations each",
                f"memory        about {self.bytes / 1e9:.2f} GB per device in {self.precision} ({parts})",
                f"time          about {duration(3600 * self.hours)} on {self.device}, without evaluation and loading",
            ]
        )


def plan(data: TrainingData) -> TrainingPlan:
    """Plan a training. Nothing is trained and no weights are read.

    Raises UsageError for a recipe that does not fit the model, and when there are no conversations.
    """
    require_conversations(data)
    return plan_for(data.recipe, empty_model(data.folder), data.lengths)


def plan_for(recipe: Recipe, model: Any, lengths: Sequence[ConversationLength]) -> TrainingPlan:
    """The plan for a model, which may be without weights, and conversations of these lengths."""
    modules = matched_modules(model, recipe.lora) if recipe.lora else []
    sizes = {name: p.numel() for name, p in model.named_parameters()}
    learning = _learning(recipe, model, sizes, modules)
    rows = [one.total for one in lengths]
    steps = recipe.steps.max_steps or ceil(recipe.steps.epochs * ceil(len(rows) / recipe.effective_batch))
    share = steps * recipe.effective_batch / len(rows)
    memory = _memory(recipe, model, sizes, learning, max(rows))
    operations = share * _operations(recipe, model, sizes, rows)
    device, count = recipe.device, recipe.batch.devices
    return TrainingPlan(
        modules=tuple(modules),
        weights=sum(sizes.values()),
        learning=learning,
        effective_batch=recipe.effective_batch,
        steps=steps,
        precision="bf16" if in_half(recipe) else "fp32",
        memory=memory,
        hours=operations / (count * device.teraflops * 1e12 * device.used) / 3600,
        device=f"{count} x {device.name}" if count > 1 else device.name,
    )


def empty_model(folder: Path) -> Any:
    """The model of a checkpoint's configuration, without weights. Raises UsageError."""
    import torch
    from transformers import AutoConfig, Qwen2_5_VLForConditionalGeneration

    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True)
        if config.model_type != "qwen2_5_vl":
            raise ValueError(f"its model_type is {config.model_type!r}")
        with torch.device("meta"):
            return Qwen2_5_VLForConditionalGeneration(config)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder} holds no configuration of a Qwen2.5-VL ({error}); name another") from error


def _learning(recipe: Recipe, model: Any, sizes: Mapping[str, int], modules: Sequence[str]) -> int:
    if recipe.lora is None:
        assert recipe.full is not None
        return sum(size for name, size in sizes.items() if learns(name, recipe.full))
    layers = [model.get_submodule(name) for name in modules]
    return sum(recipe.lora.rank * (layer.in_features + layer.out_features) for layer in layers)


def _memory(recipe: Recipe, model: Any, sizes: Mapping[str, int], learning: int, longest: int) -> dict[str, int]:
    text, vision = model.config.text_config, model.config.vision_config
    half = in_half(recipe)
    b, tokens = (2 if half else 4), recipe.batch.per_device * longest
    head = text.hidden_size // text.num_attention_heads
    q, k = text.num_attention_heads * head, 2 * text.num_key_value_heads * head
    h, deep = text.hidden_size, text.num_hidden_layers
    layer = tokens * b * (4 * h + 2 * q + k + 4 * text.intermediate_size)
    adapted = tokens * b * h * (len(recipe.lora.modules) if recipe.lora else 0)
    if recipe.batch.checkpointing:
        kept = layer + adapted + tokens * b * h * (deep + 8)
    else:
        with_adapters = len(range(recipe.lora.first, deep, recipe.lora.every)) if recipe.lora else 0
        kept = layer * deep + adapted * with_adapters + tokens * b * h * 8
    patches = recipe.batch.per_device * recipe.model.max_pixels // vision.patch_size**2
    block = patches * b * (4 * vision.hidden_size + 2 * vision.intermediate_size)
    memory = {
        "weights": int(sum(_bytes_of(recipe, name, half) * size for name, size in sizes.items())),
        "learning": 12 * learning + (4 * learning if recipe.lora else 0),
        "activations": kept,
        "images": block * (vision.depth if recipe.full and recipe.full.vision else 1),
    }
    own = 10**9 if recipe.device.memory_gb else 0
    return memory | {"other": sum(memory.values()) // 10 + own}


def _bytes_of(recipe: Recipe, name: str, half: bool) -> float:
    """Of one weight in memory. Weights that learn, and all of a model that learns, stay in fp32."""
    if recipe.lora is None or not half:
        return 4.0
    linear = f"{LANGUAGE}.layers." in name and name.endswith("proj.weight")
    return FOUR_BIT if recipe.model.four_bit and linear else 2.0


def _operations(recipe: Recipe, model: Any, sizes: Mapping[str, int], rows: Sequence[int]) -> float:
    """Of one pass over all conversations, backward pass included."""
    text = model.config.text_config
    seen = sum(size for name, size in sizes.items() if f".{VISION}." in f".{name}")
    language = sum(size for name, size in sizes.items() if "embed_tokens" not in name) - seen
    again = 1 if recipe.batch.checkpointing else 0
    times = (2 if recipe.lora else 3) + again
    pairs = 2.0 * text.hidden_size * text.num_hidden_layers * sum(row * row for row in rows)
    # At most the whole row is image; counting it so keeps the estimate on the safe side.
    patches = PATCH_TOKENS * sum(min(row, recipe.model.max_pixels // 28**2) for row in rows)
    eyes = 2.0 * seen * patches * (3 if recipe.full and recipe.full.vision else 1)
    return float(times * (2.0 * language * sum(rows) + pairs) + eyes)
