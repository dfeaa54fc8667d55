"""Second stage: a language model learns to say what the trained vision tower has seen. The tower rests.

Answers are in the ordinary text form, in one wording for each kind of violation, with the thing before what is wrong
with it. What the tower makes of a picture is computed once and kept (`spoken.py`); the language model then reads it
many times. Words of things begin as what the tower's head of things learnt, so that to say a word is to pass on what is
seen. Stops and resumes at any time.

    train_language(Path("language"), Path("base"), shards, LanguageSettings(steps=1500))
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tools.tiny.corpus import thing_words, varying_words
from tools.tiny.model import TinyShape, make_tiny
from tools.tiny.speech import CARD, Speech, answer_of
from tools.tiny.spoken import Spoken
from tools.tiny.tower import mean

from anomreason.anomaly import Kind


@dataclass(frozen=True)
class LanguageSettings:
    steps: int
    batch: int = 48
    rate: float = 2e-3
    warm_up: int = 100
    decay: float = 0.4
    seed: int = 0
    save_every: int = 250
    steps_a_shard: int = 60
    """Steps after each shard whose features are computed, until all are; those are drawn from all that are there."""
    shape: TinyShape = field(default_factory=TinyShape)
    kinds: tuple[Kind, ...] = ()
    """Pictures in which another kind stands are left out; empty: none is."""
    read: float = 0.0
    """Share of the batches that are texts alone, of every kind: words are known before their pictures are."""
    silence: float = 1.0
    """While the rate falls: what it costs to go on where nothing more is wrong, beside what any other wrong word costs.
    Below 1 it is sooner said that something is wrong. Until then 1."""
    exchanged: float = 0.0
    """Share of the answers in which a thing is exchanged for another one; see `exchange.py`."""
    alarmed: float = 0.0
    """Share of the clean scenes in which one thing is seen as wrong things are, and said to be so."""
    start: Path | None = None
    """The state.pt of another training, whose model is that to begin with."""


def make_model(
    folder: Path, tower: Path, shards: Sequence[Path], shape: TinyShape, seed: int, words: Path | None = None
) -> Path:
    """An untrained model around the trained tower, with a tokenizer made from the answers of these shards.

    words: what the tower's head of things learnt; where the words for things begin.
    """
    import torch
    from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

    told = [one for path in shards for one in json.loads((path / "answers.json").read_text(encoding="utf-8"))]
    make_tiny(folder, [CARD.prompt, *map(answer_of, told)], CARD, shape, seed, varying_words())
    model = Qwen2_5_VLForConditionalGeneration.from_pretrained(folder)
    model.model.visual.load_state_dict(torch.load(tower))
    if words:
        _meant(model, AutoTokenizer.from_pretrained(folder), torch.load(words))
    model.save_pretrained(folder)
    return folder


def _meant(model: Any, tokenizer: Any, words: Any) -> None:
    """Give the words for things the directions of the head of things, a little longer than words are else."""
    import torch

    vectors = model.get_input_embeddings().weight
    length = 2 * float(vectors.detach().norm(dim=1).mean())
    with torch.no_grad():
        for names, row in zip(thing_words(), words[1:], strict=True):
            for word in names:
                ids = tokenizer(word, add_special_tokens=False)["input_ids"]
                if len(ids) == 1:
                    vectors[ids[0]] = row / row.norm() * length


def train_language(folder: Path, base: Path, shards: Sequence[Path], given: LanguageSettings) -> Path:
    """Trains the language half of the model in `base` (see `make_model`); writes it to folder/model, and log.jsonl."""
    import torch
    from tools.tiny.muon import Muon

    folder.mkdir(parents=True, exist_ok=True)
    speech = Speech(base, given.shape)
    if given.start:
        speech.model.load_state_dict(torch.load(given.start)["model"])
    for parameter in speech.model.model.visual.parameters():
        parameter.requires_grad_(False)
    matrices, others = halves(speech.model.model.language_model)
    optimizers = [
        Muon(matrices, given.rate),
        torch.optim.AdamW(others, lr=given.rate, weight_decay=0.01, betas=(0.9, 0.98)),
    ]
    state, first = folder / "state.pt", 0
    if state.exists():
        held = torch.load(state)
        speech.model.load_state_dict(held["model"])
        for optimizer, there in zip(optimizers, held["optimizers"], strict=True):
            optimizer.load_state_dict(there)
        first = held["step"]
    spoken = Spoken(speech, folder / "features", shards, given.kinds, given.exchanged, given.alarmed)
    sums = list[float]()
    began = time.monotonic()
    for step in range(given.steps):
        if step % given.steps_a_shard == 0:
            spoken.more()
        if step < first:
            continue
        left = (given.steps - step) / (given.steps * given.decay)
        rate = given.rate * min((step + 1) / given.warm_up, 1.0, left)
        for optimizer in optimizers:
            optimizer.zero_grad(set_to_none=True)
            for group in optimizer.param_groups:
                group["lr"] = rate
        rng = np.random.default_rng([given.seed, 1, step])
        batch = spoken.reading if given.read and rng.random() < given.read else spoken.batch
        loss = speech.loss(*batch(rng, given.batch), silence=given.silence if left < 1 else 1.0)
        loss.backward()
        torch.nn.utils.clip_grad_norm_([*matrices, *others], 1.0, error_if_nonfinite=True)
        for optimizer in optimizers:
            optimizer.step()
        sums.append(float(loss.detach()))
        if (step + 1) % given.save_every == 0 or step + 1 == given.steps:
            line = {"step": step + 1, "loss": float(np.mean(sums)), "seconds": time.monotonic() - began, "rate": rate}
            sums = []
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            whole = {
                "model": speech.model.state_dict(),
                "optimizers": [o.state_dict() for o in optimizers],
                "step": step + 1,
            }
            torch.save(whole, folder / "state.part")
            (folder / "state.part").replace(state)
    return save(speech, base, folder / "model")


def mean_model(folder: Path, base: Path, states: Sequence[Path], shape: TinyShape) -> Path:
    """Writes the mean of these state.pt, which began from `base`, as a model in `folder`."""
    import torch

    speech = Speech(base, shape)
    speech.model.load_state_dict(mean([torch.load(state)["model"] for state in states]))
    return save(speech, base, folder)


def save(speech: Speech, base: Path, folder: Path) -> Path:
    """The model in half precision, with all that a checkpoint needs beside it."""
    import shutil

    import torch

    if not folder.exists():
        shutil.copytree(base, folder)
    dtype = speech.model.dtype
    speech.model.to(torch.bfloat16).save_pretrained(folder)
    speech.model.to(dtype)
    return folder


def halves(module: Any) -> tuple[list[Any], list[Any]]:
    """Matrices inside layers, which Muon trains, and all other parameters."""
    named = list(module.named_parameters())
    inside = [p for n, p in named if p.ndim == 2 and "layers." in n]
    there = {id(p) for p in inside}
    return inside, [p for _, p in named if id(p) not in there]
