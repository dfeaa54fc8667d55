"""Merges an adapter into its base: one folder that any program for Qwen2.5-VL checkpoints can load.

Needs torch, transformers and peft, imported when they are used.

    merge("Qwen/Qwen2.5-VL-7B-Instruct", "anomreasonor", Path("merged")).found    # 'logits differ by at most ...'
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any

from PIL import Image

from anomreason.errors import UsageError, require
from anomreason.files import write_atomically
from anomreason.training.checks import EXACT, ROUNDED, Proof, check_same, logits_of
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.loading import open_encoder
from anomreason.vlm.card import CARD_NAME, DetectorCard
from anomreason.vlm.local.weights import Checkpoint, find_checkpoint, load_model
from anomreason.vlm.protocol import VLMOptions

_MADE_BY_MODEL = ("config.json", "generation_config.json", "adapter_config.json", CARD_NAME)


def merge(base: str, adapter: str, out: Path, dtype: str | None = None) -> Proof:
    """Write base and adapter as one checkpoint into `out`, and prove that both give the same logits.

    dtype: of the merged weights, None for the checkpoint's own. In 16 bits part of the adapter is rounded away: the
    proof says how much, and more than a tenth of the largest logit is an error. Works on the CPU.
    Raises UsageError for folders that cannot be used, ProofFailed.
    """
    require("merging", "train", "torch", "transformers", "peft")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"{str(out)!r} exists and is not an empty folder; give another place for the merged model")
    source = find_checkpoint(f"{base}+{adapter}")
    if source.adapter is None:
        raise UsageError(f"{base!r} and {adapter!r} do not name a base and an adapter; give the two folders or hub ids")
    wanted = dtype or _own_dtype(source)
    options = VLMOptions(device="cpu", dtype=wanted)
    model = load_model(source, options)
    with tempfile.TemporaryDirectory() as place:
        probe = _probe(Path(place), source.card)
        encoder = open_encoder(source.base, source.card)
        before = logits_of(model, encoder, [probe])
        merge_in_place(model)
        out.mkdir(parents=True, exist_ok=True)
        model.save_pretrained(out)
        copy_processor(source.base, out)
        if source.card is not None:
            write_atomically(out / CARD_NAME, source.card.model_dump_json(indent=2, exclude_none=True) + "\n")
        del model
        after = logits_of(load_model(find_checkpoint(str(out)), options), encoder, [probe])
    return check_same("merged", before, after, EXACT if wanted == "float32" else ROUNDED)


def merge_in_place(model: Any) -> None:
    """Add each adapter to the layer under it and leave that layer alone in the model. Raises for adapters with NaN."""
    from peft.tuners.lora import LoraLayer

    for name, layer in [(n, m) for n, m in model.named_modules() if isinstance(m, LoraLayer)]:
        layer.merge(safe_merge=True)
        parent, _, own = name.rpartition(".")
        setattr(model.get_submodule(parent), own, layer.get_base_layer())
    # Left by PEFT; saving would write an adapter otherwise.
    for mark in ("peft_config", "_hf_peft_config_loaded"):
        if mark in vars(model):
            delattr(model, mark)


def copy_processor(base: Path, out: Path) -> None:
    """Copy tokenizer, chat template and image processor of a checkpoint."""
    for file in sorted(p for pattern in ("*.json", "*.jinja", "*.txt", "processing.py") for p in base.glob(pattern)):
        if file.name not in _MADE_BY_MODEL and not file.name.endswith(".index.json"):
            shutil.copyfile(file, out / file.name)


def _own_dtype(source: Checkpoint) -> str:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.base, local_files_only=True)
    return str(config.dtype or "float32").removeprefix("torch.")


def _probe(folder: Path, card: DetectorCard | None) -> Instance:
    """A conversation on an image of colour gradients."""
    ramp = Image.linear_gradient("L").resize((336, 224))
    image = Image.merge("RGB", (ramp, ramp.transpose(Image.Transpose.FLIP_TOP_BOTTOM), ramp.rotate(90)))
    image.save(folder / "probe.png")
    question = Turn("user", card.prompt if card else "What is semantically wrong in this image?")
    return Instance(
        folder / "probe.png", "probe.png", (question, Turn("assistant", "There are no semantic anomalies."))
    )
