"""Answers of a model in training, asked as a detector is asked: greedily, each question after its own answers.

Knows nothing of scores. The model comes from outside and is left as it was, its mode included.

    >>> answer(model, encoder, held_out, limit=1024, batch=8)[0].texts
    ('@1. Name: ...',)
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from anomreason.training.checks import as_at_inference
from anomreason.training.data.batches import Encoder
from anomreason.training.data.instance import Instance
from anomreason.vlm.local.processor import PromptTensors


@dataclass(frozen=True, slots=True)
class Answered:
    """What the model said in one conversation."""

    instance: Instance
    """The conversation, with the answers that were to be learnt."""
    texts: tuple[str, ...]
    """The model's answer to each question."""
    cut: bool
    """Whether an answer ran into the limit."""


def answer(model: Any, encoder: Encoder, instances: Sequence[Instance], limit: int, batch: int) -> list[Answered]:
    """One Answered an instance, in their order. limit: most tokens of one answer; batch: conversations at once."""
    found: list[Answered] = []
    with _answering(model, encoder):
        for start in range(0, len(instances), batch):
            found += _together(model, encoder, instances[start : start + batch], limit)
    return found


def _together(model: Any, encoder: Encoder, instances: Sequence[Instance], limit: int) -> list[Answered]:
    said: list[list[str]] = [[] for _ in instances]
    cut = [False] * len(instances)
    for turn in range(max(len(one.turns) // 2 for one in instances)):
        rows = [i for i, one in enumerate(instances) if len(one.turns) // 2 > turn]
        prompts = [encoder.prepare(instances[i], said[i]) for i in rows]
        for i, ids in zip(rows, _generate(model, encoder, prompts, limit), strict=True):
            end = next((k for k, token in enumerate(ids) if token in encoder.ends), None)
            text = encoder.reader.tokenizer.decode(
                ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            said[i].append(text)
            cut[i] = cut[i] or end is None
    return [Answered(one, tuple(texts), c) for one, texts, c in zip(instances, said, cut, strict=True)]


def _generate(model: Any, encoder: Encoder, prompts: Sequence[PromptTensors], limit: int) -> list[list[int]]:
    """Token ids of the answers, each with whatever came after its end."""
    import torch
    from transformers import GenerationConfig

    inputs = {key: value.to(model.device) for key, value in encoder.reader.collate(prompts, encoder.padding).items()}
    width = inputs["input_ids"].shape[1]
    room = model.config.text_config.max_position_embeddings - width
    settings = GenerationConfig(
        do_sample=False,
        max_new_tokens=max(1, min(limit, room)),
        eos_token_id=sorted(encoder.ends),
        pad_token_id=encoder.padding,
    )
    with torch.inference_mode():
        made = model.generate(**inputs, generation_config=settings)
    ids: list[list[int]] = made[:, width:].tolist()
    return ids


@contextmanager
def _answering(model: Any, encoder: Encoder) -> Iterator[None]:
    """The model in evaluation mode, and without the checkpoint's own generation settings, which detection drops too."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=sorted(encoder.ends), pad_token_id=encoder.padding)
    try:
        with as_at_inference(model):
            yield
    finally:
        model.generation_config = own
