"""Answers of a model in training, asked as a detector is asked, and how good they are: SemF1 and SemAP.

Each question is asked greedily after the model's own earlier answers. An answer that cannot be read scores zero, as in
`anomreason eval`.

    score = semantic_score(Backbone.open("distilbert-base-uncased"))
    train(data, Path("out"), score)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from anomreason.anomaly import Anomaly
from anomreason.errors import ParseError, UsageError
from anomreason.metrics.image_scores import SemanticSettings
from anomreason.metrics.semantic import SemanticScorer
from anomreason.textform import read_anomalies
from anomreason.training.checks import as_at_inference
from anomreason.training.data.batches import ConversationEncoder
from anomreason.training.data.instance import Instance
from anomreason.vlm.local.processor import PromptTensors

if TYPE_CHECKING:
    from anomreason.metrics.bertscore import Backbone


@dataclass(frozen=True, slots=True)
class Answers:
    """The model's answers in one conversation."""

    instance: Instance
    """The conversation, with the answers that were to be learnt."""
    texts: tuple[str, ...]
    """The model's answer to each question."""
    cut: bool
    """Whether an answer ran into the limit."""

    @property
    def truth(self) -> tuple[Anomaly, ...] | None:
        """The anomalies of the image; None where the last answer is a description."""
        return _anomalies(self.instance.turns[-1].text)

    @property
    def anomalies(self) -> tuple[Anomaly, ...] | None:
        """The anomalies of the last answer; None where it cannot be read or was cut off."""
        return None if self.cut else _anomalies(self.texts[-1])

    @property
    def readable(self) -> bool:
        """Whether detection could use the answer: a list of anomalies, or any text in place of a description."""
        return not self.cut and (self.truth is None or self.anomalies is not None)


Score = Callable[[Sequence[Answers]], Mapping[str, float]]
"""Numbers for the answers on held-out images, larger being better; the first one decides."""


def answer(
    model: Any, encoder: ConversationEncoder, instances: Sequence[Instance], limit: int, batch: int
) -> list[Answers]:
    """Answers to each instance, in their order. limit: most tokens of one answer; batch: conversations at once."""
    found: list[Answers] = []
    with _answering(model, encoder):
        for start in range(0, len(instances), batch):
            found += _together(model, encoder, instances[start : start + batch], limit)
    return found


def semantic_score(backbone: Backbone, seed: int = 0) -> Score:
    """A `Score`: semf1 (it decides), semap, readable, all 0..1; both profiles agree on semf1, semap is `paper`'s."""

    def score(answers: Sequence[Answers]) -> dict[str, float]:
        lists = [(one, one.truth, one.anomalies) for one in answers]
        scored = [(one, truth, found) for one, truth, found in lists if truth is not None]
        if not scored:
            raise UsageError(
                "no held-out image has a list of anomalies to score; leave out --backbone, or hold out some"
            )
        scorer = SemanticScorer(SemanticSettings(profiles=("paper",)))
        chunk = backbone.hold([_texts(truth) for _, truth, _ in scored])
        similarities = chunk.score([_texts(found or ()) for _, _, found in scored])
        for place, (alike, (one, truth, found)) in enumerate(zip(similarities, scored, strict=True)):
            name = f"{place:06} {one.instance.name}"
            if found is None:
                scorer.add_failure(name, "unparsable", len(truth))
            else:
                scorer.add(name, alike.own["phe"], alike.own["rea"], [a.severity for a in found])
        view = scorer.result(np.random.default_rng(seed)).profiles["paper"]["full"]
        readable = sum(one.readable for one in answers) / len(answers)
        return {"semf1": view.semf1, "semap": view.semap, "readable": readable}

    return score


def _anomalies(text: str) -> tuple[Anomaly, ...] | None:
    try:
        return read_anomalies(text)
    except ParseError:
        return None


def _texts(anomalies: Sequence[Anomaly]) -> dict[str, list[str]]:
    return {"phe": [a.phenomenon for a in anomalies], "rea": [a.reasoning for a in anomalies]}


def _together(model: Any, encoder: ConversationEncoder, instances: Sequence[Instance], limit: int) -> list[Answers]:
    texts: list[list[str]] = [[] for _ in instances]
    cut = [False] * len(instances)
    for turn in range(max(len(one.turns) // 2 for one in instances)):
        rows = [i for i, one in enumerate(instances) if len(one.turns) // 2 > turn]
        prompts = [encoder.prepare(instances[i], texts[i]) for i in rows]
        for i, ids in zip(rows, _generate(model, encoder, prompts, limit), strict=True):
            end = next((k for k, token in enumerate(ids) if token in encoder.ends), None)
            text = encoder.reader.tokenizer.decode(
                ids[:end], skip_special_tokens=True, clean_up_tokenization_spaces=False
            )
            texts[i].append(text)
            cut[i] = cut[i] or end is None
    return [Answers(one, tuple(own), c) for one, own, c in zip(instances, texts, cut, strict=True)]


def _generate(
    model: Any, encoder: ConversationEncoder, prompts: Sequence[PromptTensors], limit: int
) -> list[list[int]]:
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
def _answering(model: Any, encoder: ConversationEncoder) -> Iterator[None]:
    """The model in evaluation mode, and without the checkpoint's own generation settings, which detection drops too."""
    from transformers import GenerationConfig

    own = model.generation_config
    model.generation_config = GenerationConfig(eos_token_id=sorted(encoder.ends), pad_token_id=encoder.padding)
    try:
        with as_at_inference(model):
            yield
    finally:
        model.generation_config = own
