"""Drawing, masking and log-probabilities of single steps, on made-up scores."""

from __future__ import annotations

import math

import numpy as np
import pytest

from anomreason.vlm.local.model import ReplyRow, RowLimits, Steering

LOGITS = [2.0, 1.0, 0.0, -1.0, 9.0]
WORDS = 4
"""Ids that have a token; the fifth column of LOGITS is padding of the output layer."""
PROMPT = 3


def spell(token: int) -> str:
    return "abcd"[token]


def softmax(temperature: float) -> list[float]:
    weights = np.exp(np.array(LOGITS[:WORDS]) / temperature)
    return list(weights / weights.sum())


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_softmax_of_logits_over_temperature(temperature: float) -> None:
    import torch

    rows = [ReplyRow(8, temperature=temperature, generator=torch.Generator().manual_seed(seed)) for seed in range(4000)]
    scores = Steering(rows, PROMPT, WORDS, spell)(torch.zeros(len(rows), PROMPT), torch.tensor([LOGITS] * len(rows)))
    shares = np.bincount(scores.argmax(-1).numpy(), minlength=5) / len(rows)
    assert shares[WORDS] == 0
    # 4 standard errors of a share among 4000 draws are at most 0.032.
    assert shares[:WORDS] == pytest.approx(softmax(temperature), abs=0.032)


def test_a_row_without_temperature_keeps_its_scores_beside_one_that_is_drawn() -> None:
    import torch

    rows = [ReplyRow(8), ReplyRow(8, temperature=1.0, generator=torch.Generator().manual_seed(0))]
    scores = Steering(rows, PROMPT, WORDS, spell)(torch.zeros(2, PROMPT), torch.tensor([LOGITS, LOGITS]))
    assert scores[0].tolist() == [2.0, 1.0, 0.0, -1.0, -math.inf]
    assert scores[1, :WORDS].tolist() != LOGITS[:WORDS]


def test_log_probabilities_are_those_of_the_model_before_temperature_and_of_the_first_step_only() -> None:
    import torch

    row = ReplyRow(8, temperature=0.3, generator=torch.Generator().manual_seed(0), wants_logprobs=True)
    steering = Steering([row], PROMPT, WORDS, spell)
    steering(torch.zeros(1, PROMPT), torch.tensor([LOGITS]))
    steering(torch.zeros(1, PROMPT + 1), torch.tensor([LOGITS[::-1]]))
    expected = dict(zip("abcd", np.log(softmax(1.0)), strict=True))
    assert row.logprobs == pytest.approx(expected, abs=1e-5)


def test_tokens_that_spell_the_same_text_add_their_probabilities() -> None:
    import torch

    row = ReplyRow(8, wants_logprobs=True)
    Steering([row], PROMPT, WORDS, lambda token: "ab"[token % 2])(torch.zeros(1, PROMPT), torch.tensor([LOGITS]))
    p = softmax(1.0)
    assert row.logprobs == pytest.approx({"a": math.log(p[0] + p[2]), "b": math.log(p[1] + p[3])}, abs=1e-5)


def test_each_row_stops_at_its_own_limit_or_when_nobody_waits() -> None:
    import torch

    limits = RowLimits([ReplyRow(2), ReplyRow(5), ReplyRow(5, dropped=lambda: True)], PROMPT)
    assert limits(torch.zeros(3, PROMPT + 1), None).tolist() == [False, False, True]
    assert limits(torch.zeros(3, PROMPT + 2), None).tolist() == [True, False, True]
