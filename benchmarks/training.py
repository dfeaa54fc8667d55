"""Conversations a second of our trainer against a bare transformers loop, on the same model and data.

    python -m benchmarks.training                   on the CPU, on a random model of anomreason-tiny's shape
    python -m benchmarks.training --steps 60
    python -m benchmarks.training --largest         on a GPU: peak memory and speed of the largest model that fits

The bare loop is what one would write: processor, the model's own loss, backward, clipping, AdamW; nothing is logged,
checked or saved. Ours is `train()` itself. The two take turns; of each turn the first steps are not counted, nor is
what comes before and after the steps. Half of the turns begin with ours.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
import warnings
from collections.abc import Mapping, Sequence
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
LARGE: dict[str, dict[str, int]] = {
    "7B": {"hidden_size": 3584, "intermediate_size": 18944, "num_hidden_layers": 28, "num_attention_heads": 28},
    "3B": {"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36, "num_attention_heads": 16},
    "tiny": {"hidden_size": 256, "intermediate_size": 704, "num_hidden_layers": 4, "num_attention_heads": 4},
}


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


def shaped(own: Any, text: Mapping[str, int], vocabulary: int) -> Any:
    """A configuration with a large language model; special tokens and vision tower are those of `own`."""
    from transformers import Qwen2_5_VLConfig

    half = text["hidden_size"] // text["num_attention_heads"] // 2
    section = [half // 4, half // 4, half - 2 * (half // 4)]
    language = {
        **own.text_config.to_dict(),
        **text,
        "num_key_value_heads": 2,
        "layer_types": ["full_attention"] * text["num_hidden_layers"],
        "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": section},
        "vocab_size": vocabulary,
    }
    tokens = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
    vision = {**own.vision_config.to_dict(), "out_hidden_size": text["hidden_size"]}
    return Qwen2_5_VLConfig(text_config=language, vision_config=vision, **{name: getattr(own, name) for name in tokens})


def largest(steps: int) -> None:
    """The paper's adapters on the largest random model that fits by our estimate, which is held against the peak."""
    import torch
    from transformers import Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    from anomreason.training.plan import TrainingPlan, plan_for

    gpu = torch.cuda.is_available()
    room = torch.cuda.get_device_properties(0).total_memory if gpu else 10**9
    side = 784 if gpu else 224
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = conversations(folder, 32, side)
        texts = [turn.text for one in data for turn in one.turns]
        base = make_tiny(folder / "base", texts, DetectorCard(prompt=ASKED), TinyShape(context=4096))
        table = recipe_for(base, steps + 1 + WARM, 4, side).model_dump(exclude_none=True)
        del table["full"]
        table["model"]["precision"] = "bf16" if gpu else "fp32"
        table["batch"]["checkpointing"] = True
        table["lora"] = {"dropout": 0.5}
        recipe, own = recipe_of(table, "benchmark"), Qwen2_5_VLConfig.from_pretrained(base)

        def planned(config: Any) -> TrainingPlan:
            with torch.device("meta"):
                return plan_for(
                    recipe,
                    Qwen2_5_VLForConditionalGeneration(config),
                    [ConversationLength(side**2 // 784 + 200, side**2 // 784, 99)] * 32,
                )

        configs = [shaped(own, text, 152064 if gpu else own.text_config.vocab_size) for text in LARGE.values()]
        plans = [planned(config) for config in configs]
        picked = next(k for k, made in enumerate(plans) if made.bytes < room)
        with torch.device("cuda" if gpu else "cpu"):
            dtype = torch.bfloat16 if gpu else torch.float32
            model = Qwen2_5_VLForConditionalGeneration._from_config(configs[picked], dtype=dtype)
        model.generation_config.eos_token_id = own.text_config.eos_token_id
        model.save_pretrained(base)
        del model
        if gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        speed = ours(recipe, data, folder / "out")
        peak = f"{torch.cuda.max_memory_allocated() / 1e9:.2f} GB" if gpu else "not measured without a GPU"
    made = plans[picked]
    print(f"shape {list(LARGE)[picked]}: {made.weights:,} weights, {len(made.modules)} modules with adapters")
    print(f"{speed:.2f} conversations/s; peak {peak}, estimated {made.bytes / 1e9:.2f} GB")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--largest", action="store_true")
    chosen = parser.parse_args()
    import torch

    warnings.simplefilter("ignore", FutureWarning)
    if chosen.threads:
        torch.set_num_threads(chosen.threads)
    if chosen.largest:
        largest(chosen.steps)
    elif not compare(chosen.turns, chosen.steps, chosen.batch):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
