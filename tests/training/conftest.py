"""What the tests of training share: images, conversations about them, and recipes for the tiny model."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomreason.training.data.instance import Instance, Turn
from anomreason.training.recipe import Recipe, recipe_of

ASKED = "What is semantically wrong in this image?"
Conversations = Callable[..., list[Instance]]
Recipes = Callable[..., Recipe]


@pytest.fixture(scope="session")
def conversations(tmp_path_factory: pytest.TempPathFactory) -> Conversations:
    """Makes `count` conversations of one or two turns on small images, from number `first` on."""
    folder = tmp_path_factory.mktemp("images")

    def make(count: int, first: int = 0, turns: int = 1) -> list[Instance]:
        return [_conversation(folder, number, turns) for number in range(first, first + count)]

    return make


def _conversation(folder: Path, number: int, turns: int) -> Instance:
    path = folder / f"{number:03}.png"
    if not path.exists():
        pixels = np.random.default_rng(number).integers(0, 256, (4, 4, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((60 + 20 * (number % 3), 56), Image.Resampling.NEAREST).save(path)
    found = f"@1. Name: Six fingers\nPhenomenon: The hand {'really ' * (number % 3)}has six.\nSeverity Score: {number}"
    said = [Turn("user", ASKED), Turn("assistant", found)]
    if turns == 2:
        said = [Turn("user", "Is it generated?"), Turn("assistant", "Yes, this image is generated."), *said]
    return Instance(path, path.name, tuple(said))


@pytest.fixture(scope="session")
def tiny_recipe(tiny_qwen: Path) -> Recipes:
    """Makes a recipe for the tiny model; sections given replace single settings of it."""
    for library in ("trl", "peft", "transformers"):
        with suppress(ImportError):
            importlib.import_module(library)
    # Each training collects garbage three times; of what the libraries made when they were imported there is none.
    gc.collect()
    gc.freeze()

    def make(**sections: dict[str, Any]) -> Recipe:
        table: dict[str, Any] = {
            "model": {"base": str(tiny_qwen), "precision": "fp32", "min_pixels": 56 * 56, "max_pixels": 28 * 28 * 16},
            "data": {"max_tokens": 512},
            "batch": {"per_device": 2, "accumulation": 2, "checkpointing": False},
            "steps": {"max_steps": 4, "learning_rate": 1e-2, "warmup": 0.0, "log_every": 1, "save_every": 2},
            "evaluation": {"every": 2, "sample": 2, "max_reply_tokens": 8},
        }
        if "full" not in sections:
            table["lora"] = {"every": 1, "dropout": 0.5}
        for name, settings in sections.items():
            table[name] = {**table.get(name, {}), **settings} if isinstance(settings, dict) else settings
        return recipe_of(table, "test recipe")

    return make
