"""The model of a recipe, ready to learn: loaded as detection loads it, in the recipe's precision, on this device.

Knows nothing of data. Needs torch and transformers, imported when they are used.

    >>> base = load_base(read_recipe("tiny-lora"), find_checkpoint("tiny-base"))
"""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomreason.errors import MissingExtra, UsageError
from anomreason.training.checks import VISION, learns
from anomreason.training.data.batches import Encoder
from anomreason.training.data.instance import Instance
from anomreason.training.recipe import LoraPart, Recipe
from anomreason.vlm.card import DetectorCard
from anomreason.vlm.local.model import end_ids
from anomreason.vlm.local.processor import Reader
from anomreason.vlm.local.weights import Checkpoint, load_model, require_libraries
from anomreason.vlm.protocol import VLMOptions

_LIBRARIES = ("trl", "peft", "datasets", "accelerate", "transformers", "torch")


@dataclass(frozen=True, slots=True)
class Base:
    """A model and how its conversations are written."""

    model: Any
    reader: Reader
    ends: tuple[int, ...]
    """Ids that end a reply."""
    context: int
    """Most tokens that the model holds."""

    def encoder(self, max_tokens: int) -> Encoder:
        return Encoder(self.reader, self.ends, min(max_tokens, self.context))


def require_training(recipe: Recipe) -> None:
    """Raise MissingExtra unless everything that the recipe needs is installed; imports nothing heavy."""
    if any(importlib.util.find_spec(library) is None for library in _LIBRARIES):
        raise MissingExtra("training", "train")
    require_libraries()
    if recipe.model.four_bit and importlib.util.find_spec("bitsandbytes") is None:
        raise MissingExtra("training on 4-bit weights (model.four_bit)", "qlora")


def require_conversations(instances: Sequence[Instance]) -> None:
    """Raise UsageError when there are none."""
    if not instances:
        raise UsageError(
            "there are no conversations to learn from; name sources by --data, or by data.train in the recipe, and "
            "read above what was left out of them"
        )


def device_here() -> str:
    """Where this process trains: its own GPU where there is one, else the CPU."""
    import torch
    from accelerate import PartialState

    if not torch.cuda.is_available():
        return "cpu"
    return f"cuda:{PartialState().local_process_index}"


def in_half(recipe: Recipe) -> bool:
    """Whether training computes in bf16."""
    import torch

    if recipe.model.precision == "auto":
        return bool(torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False))
    return recipe.model.precision == "bf16"


def weights_dtype(recipe: Recipe) -> str:
    """Of the weights in memory. Weights that learn stay in fp32, or small steps would be rounded away."""
    return "bfloat16" if recipe.lora is not None and in_half(recipe) else "float32"


def card_of(recipe: Recipe, prompt: str) -> DetectorCard:
    """How a detector that was trained by this recipe is asked."""
    model = recipe.model
    return DetectorCard(
        prompt=prompt, answer=recipe.data.answer, min_pixels=model.min_pixels, max_pixels=model.max_pixels
    )


def load_reader(recipe: Recipe, folder: Path) -> Reader:
    """The base's processor within the recipe's pixel budget. Raises UsageError."""
    return Reader(folder, card_of(recipe, "-"))


def load_base(recipe: Recipe, source: Checkpoint) -> Base:
    """Model and processor. Raises UsageError for what cannot be loaded."""
    if source.adapter is not None:
        raise UsageError(
            f"model.base: {source.spec!r} is a base with an adapter; merge the two first (anomreason merge), then name "
            "the merged folder"
        )
    model = _four_bit(source.base) if recipe.model.four_bit else _plain(recipe, source)
    reader = load_reader(recipe, source.base)
    ends = end_ids(model.generation_config.eos_token_id, reader.tokenizer.eos_token_id)
    if not ends:
        raise UsageError(f"{source.base} does not say which token ends a reply; add eos_token_id to its config")
    return Base(model, reader, tuple(ends), model.config.text_config.max_position_embeddings)


def prepare_full(recipe: Recipe, model: Any) -> None:
    """Freeze what full training leaves as it is."""
    assert recipe.full is not None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(learns(name, recipe.full))


def lora_config(part: LoraPart, layers: int) -> Any:
    """PEFT's settings for the recipe's adapters on a model with so many language layers."""
    from peft import LoraConfig

    return LoraConfig(
        r=part.rank,
        lora_alpha=part.alpha,
        lora_dropout=part.dropout,
        target_modules=list(part.modules),
        layers_to_transform=list(range(part.first, layers, part.every)),
        # The vision tower's are called blocks.
        layers_pattern="layers",
        bias="none",
        task_type="CAUSAL_LM",
    )


def _plain(recipe: Recipe, source: Checkpoint) -> Any:
    return load_model(source, VLMOptions(device=device_here(), dtype=weights_dtype(recipe)))


def _four_bit(folder: Path) -> Any:
    import torch
    from transformers import BitsAndBytesConfig, Qwen2_5_VLForConditionalGeneration

    if device_here() == "cpu":
        # On a CPU the library packs weights anew when they are evaluated, and cannot train on them afterwards.
        raise UsageError("model.four_bit needs a GPU; set it to false, or train where there is one")
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=[f"model.{VISION}", "lm_head"],
    )
    try:
        return Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder,
            quantization_config=quantised,
            dtype=torch.bfloat16,
            device_map={"": device_here()},
            use_safetensors=True,
            local_files_only=True,
        )
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UsageError(f"{folder} cannot be loaded in 4 bits ({error}); set model.four_bit = false") from error
