"""Conversations a second of our trainer against a bare transformers loop, on the same model and data.

    python -m benchmarks.training                   on the CPU, on a random model of anomreason-tiny's shape
    python -m benchmarks.training --steps 60

On a GPU `benchmarks/gpu.sh` trains the largest model that fits.

The bare loop is what one would write: processor, the model's own loss, backward, clipping, AdamW; nothing is logged,
checked or saved. Ours is `train()` itself. The two take turns; of each turn the first steps are not counted, nor is
what comes before and after the steps. Half of the turns begin with ours.
"""

from __future__ import annotations

import argparse
import gc
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tools.tiny.model import TinyShape, make_tiny

from anomreason.training.data.instance import ConversationLength, Instance, Turn
from anomreason.training.loading import with_conversations
from anomreason.training.lora import train
from anomreason.training.recipe import Recipe, recipe_of
from anomreason.vlm.card import DetectorCard

ASKED = "What is semantically wrong in this image?"
BAR = 0.9
WARM = 4
"""Steps at the beginning of a turn that are not counted."""
LARGE: dict[str, tuple[int, int, int, int, int]] = {
    "32B": (5120, 27648, 64, 40, 8),
    "7B": (3584, 18944, 28, 28, 4),
    "3B": (2048, 11008, 36, 16, 2),
    "tiny": (256, 704, 4, 4, 2),
}
"""Width, MLP width, layers, heads and heads of keys of the language models of Qwen2.5-VL (their config.json)."""


def conversations(folder: Path, count: int, side: int) -> list[Instance]:
    """Pictures of random blocks, each with an answer of one to three anomalies."""
    made = []
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
        path = folder / f"{n:04}.png"
        Image.fromarray(pixels).resize((side, side), Image.Resampling.BICUBIC).save(path)
        found = "\n\n".join(
            f"@{k}. Name: Object {k} hangs in the air\nPhenomenon: Object {k} of picture {n % 7} floats over "
            f"the table and nothing holds it.\nReasoning: Things fall.\nSeverity Score: {10 * k}"
            for k in range(1, 2 + n % 3)
        )
        made.append(Instance(path, path.name, (Turn("user", ASKED), Turn("assistant", found))))
    return made


def recipe_for(base: Path, steps: int, batch: int, side: int, **sections: Any) -> Recipe:
    return recipe_of(
        {
            "model": {"base": str(base), "min_pixels": side * side, "max_pixels": side * side, "precision": "fp32"},
            "full": {"vision": True},
            "batch": {"per_device": batch, "accumulation": 1, "checkpointing": False},
            "steps": {"max_steps": steps, "save_every": 10**6, "log_every": 1, "schedule": "constant"},
            **sections,
        },
        "benchmark",
    )


def ours(recipe: Recipe, data: Sequence[Instance], out: Path) -> float:
    """Conversations a second of `train`."""
    stamps: list[float] = []

    def progress(line: Mapping[str, Any]) -> None:
        if "loss" in line:
            stamps.append(time.perf_counter())

    train(with_conversations(recipe, data), out, progress=progress)
    return recipe.batch.per_device * (len(stamps) - 1 - WARM) / (stamps[-1] - stamps[WARM])


def bare(recipe: Recipe, data: Sequence[Instance]) -> float:
    """Conversations a second of the loop that one would write."""
    import torch
    from transformers import Qwen2_5_VLForConditionalGeneration

    from anomreason.vlm.local.processor import load_processor

    folder, batch = Path(recipe.model.base), recipe.batch.per_device
    torch.manual_seed(0)
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).train()
    processor = load_processor(folder)
    side = {"shortest_edge": recipe.model.min_pixels, "longest_edge": recipe.model.max_pixels}
    processor.image_processor.size = side
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.steps.learning_rate, weight_decay=0.0)
    stamps: list[float] = []
    for step in range(recipe.steps.max_steps or 0):
        picked = [data[(step * batch + k) % len(data)] for k in range(batch)]
        inputs = _inputs(processor, picked)
        model(**inputs).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), recipe.steps.max_grad_norm)
        optimizer.step()
        optimizer.zero_grad()
        stamps.append(time.perf_counter())
    return batch * (len(stamps) - 1 - WARM) / (stamps[-1] - stamps[WARM])


def _inputs(processor: Any, picked: Sequence[Instance]) -> dict[str, Any]:
    """A batch with loss on the answers alone."""
    prompts, texts, pictures = [], [], []
    for one in picked:
        user = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": one.turns[0].text}]}
        said = {"role": "assistant", "content": [{"type": "text", "text": one.turns[1].text}]}
        write = processor.tokenizer.apply_chat_template
        template = {"chat_template": processor.chat_template, "tokenize": False}
        prompts.append(write([user], add_generation_prompt=True, **template))
        texts.append(write([user, said], **template))
        with Image.open(one.image) as picture:
            pictures.append(picture.convert("RGB"))
    batch = processor(text=texts, images=pictures, return_tensors="pt", padding=True, padding_side="right")
    labels = batch["input_ids"].masked_fill(batch["attention_mask"] == 0, -100)
    pad = int((batch["input_ids"] == processor.tokenizer.convert_tokens_to_ids("<|image_pad|>"))[0].sum()) - 1
    for i, prompt in enumerate(prompts):
        labels[i, : len(processor.tokenizer(prompt)["input_ids"]) + pad] = -100
    return {**batch, "labels": labels}


def compare(turns: int, steps: int, batch: int) -> bool:
    """Print speeds and their ratio; whether the bar is held."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        shape = TinyShape()
        data = conversations(folder, 64, shape.side)
        texts = [turn.text for one in data for turn in one.turns]
        base = make_tiny(folder / "base", texts, DetectorCard(prompt=ASKED), shape)
        recipe = recipe_for(base, steps + 1 + WARM, batch, shape.side)
        speeds: dict[str, list[float]] = {"ours": [], "bare": []}
        for turn in range(turns):
            for which in ("ours", "bare") if turn % 2 == 0 else ("bare", "ours"):
                made = ours(recipe, data, folder / f"out{turn}") if which == "ours" else bare(recipe, data)
                speeds[which].append(made)
                print(f"turn {turn + 1}: {which} {made:.2f} conversations/s", flush=True)
        ratio = statistics.median(speeds["ours"]) / statistics.median(speeds["bare"])
        print(f"ratio of the medians, ours / bare: {ratio:.2f} (bar {BAR}: {'held' if ratio >= BAR else 'missed'})")
        return ratio >= BAR


def shaped(own: Any, text: tuple[int, int, int, int, int], vocabulary: int) -> Any:
    """A configuration with a large language model; special tokens and vision tower are those of `own`."""
    from transformers import Qwen2_5_VLConfig

    width, mlp, layers, heads, key_heads = text
    half = width // heads // 2
    section = [half // 4, half // 4, half - 2 * (half // 4)]
    language = {
        **own.text_config.to_dict(),
        "hidden_size": width,
        "intermediate_size": mlp,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": key_heads,
        "layer_types": ["full_attention"] * layers,
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": section},
        "vocab_size": vocabulary,
    }
    tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    vision = {**own.vision_config.to_dict(), "out_hidden_size": width}
    return Qwen2_5_VLConfig(text_config=language, vision_config=vision, **{name: getattr(own, name) for name in tokens})


@dataclass(frozen=True)
class LargeModel:
    """A random model that fits, in a folder, with the data and the recipe to train its adapters."""

    shape: str
    weights: int
    estimated: int
    """Bytes of the device's memory that the training takes by our estimate."""
    base: Path
    recipe: Recipe
    data: Sequence[Instance]


def largest_model(folder: Path, steps: int, toy: bool) -> LargeModel:
    """Make the largest random model whose training fits into the GPU by our estimate, and whose file into the disk."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from anomreason.training.plan import TrainingPlan, plan_for

    room = 10**9 if toy else torch.cuda.get_device_properties(0).total_memory
    side, batch = (112, 2) if toy else (784, 4)
    data = conversations(folder, 32, side)
    texts = [turn.text for one in data for turn in one.turns]
    base = make_tiny(folder / "base", texts, DetectorCard(prompt=ASKED), TinyShape(context=4096))
    table = recipe_for(base, steps + 1 + WARM, batch, side).model_dump(exclude_none=True)
    del table["full"]
    table["model"]["precision"] = "fp32" if toy else "bf16"
    table["batch"]["checkpointing"] = True
    table["lora"] = {"dropout": 0.5}
    table["evaluation"] = {"max_reply_tokens": 8}  # random weights never end a reply, nor is it looked at
    recipe, own = recipe_of(table, "benchmark"), Qwen2_5_VLConfig.from_pretrained(base)

    def planned(config: Any) -> TrainingPlan:
        lengths = [ConversationLength(side**2 // 784 + 200, side**2 // 784, 99)] * 32
        with torch.device("meta"):
            return plan_for(recipe, Qwen2_5_VLForConditionalGeneration(config), lengths)

    def fits(plan: TrainingPlan) -> bool:
        return plan.bytes < room and 2.2 * plan.weights < shutil.disk_usage(folder).free

    vocabulary = own.text_config.vocab_size if toy else 152064
    shapes = {"tiny": LARGE["tiny"]} if toy else LARGE
    configs = {name: shaped(own, text, vocabulary) for name, text in shapes.items()}
    shape, plan = next((n, p) for n, config in configs.items() if fits(p := planned(config)) or n == "tiny")
    with torch.device("cpu" if toy else "cuda"):
        dtype = torch.float32 if toy else torch.bfloat16
        model = Qwen2_5_VLForConditionalGeneration._from_config(configs[shape], dtype=dtype)
    model.generation_config.eos_token_id = own.text_config.eos_token_id
    for small in base.glob("*.safetensors"):  # it would be found before the shards of a large one
        small.unlink()
    model.save_pretrained(base)
    return LargeModel(shape, plan.weights, plan.bytes, base, recipe, data)


def train_largest(made: LargeModel, out: Path) -> tuple[float, float | None]:
    """Conversations a second of the paper's adapters on it, and the peak of the GPU's memory, GB; None without one."""
    import torch

    gpu = torch.cuda.is_available() and made.shape != "tiny"
    if gpu:
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    speed = ours(made.recipe, made.data, out)
    return speed, torch.cuda.max_memory_allocated() / 1e9 if gpu else None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int)
    chosen = parser.parse_args()
    import torch

    warnings.simplefilter("ignore", FutureWarning)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if not compare(chosen.turns, chosen.steps, chosen.batch):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
