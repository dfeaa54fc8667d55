"""Facts about batches: tokens are those of inference, and only answers are learnt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from anomreason.errors import UsageError
from anomreason.images import load_image
from anomreason.training.data.batches import NO_LOSS, Encoder, lengths_of
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.loading import load_reader
from anomreason.training.recipe import Recipe
from anomreason.vlm.local.processor import Reader
from anomreason.vlm.protocol import Request, Tag

Conversations = Callable[..., list[Instance]]
Recipes = Callable[..., Recipe]


@pytest.fixture(scope="module")
def reader(tiny_recipe: Recipes, tiny_qwen: Path) -> Reader:
    return load_reader(tiny_recipe(), tiny_qwen)


@pytest.fixture(scope="module")
def encoder(reader: Reader) -> Encoder:
    return Encoder(reader, (reader.tokenizer.eos_token_id,), 512)


def learnt(encoder: Encoder, instance: Instance) -> list[str]:
    """The stretches of tokens that carry loss, as text."""
    labels = encoder.encode(instance).labels.tolist()
    parts: list[list[int]] = [[]]
    for label in labels:
        if label == NO_LOSS:
            parts.append([])
        else:
            parts[-1].append(label)
    return [encoder.reader.tokenizer.decode(part) for part in parts if part]


def test_only_answers_carry_loss_with_the_token_that_ends_them(encoder: Encoder, conversations: Conversations) -> None:
    one, two = conversations(1)[0], conversations(1, turns=2)[0]
    assert learnt(encoder, one) == [one.turns[1].text + "<|im_end|>"]
    assert learnt(encoder, two) == [two.turns[1].text + "<|im_end|>", two.turns[3].text + "<|im_end|>"]


@pytest.mark.parametrize("turns", [1, 2])
def test_a_row_begins_with_what_inference_asks(
    encoder: Encoder, reader: Reader, conversations: Conversations, turns: int
) -> None:
    instance = conversations(1, first=2, turns=turns)[0]
    said = [turn.text for turn in instance.turns]
    picture = load_image(instance.image, max_side=None).encoded
    before = ((said[1], said[2]),) if turns == 2 else ()
    asked = reader.prepare(Request((picture, said[0]), Tag("", "", ""), turns=before))
    row = encoder.encode(instance)
    assert torch.equal(row.prepared.ids[: asked.width], asked.ids)
    assert torch.equal(row.prepared.kinds[: asked.width], asked.kinds)
    assert torch.equal(row.prepared.pixels, asked.pixels)
    assert bool((row.labels[asked.width :] != NO_LOSS).all())


def test_padding_and_pictures_carry_no_loss(encoder: Encoder, conversations: Conversations) -> None:
    rows = [encoder.encode(one) for one in conversations(3)]
    batch = encoder.collate(rows)
    assert len({len(row.labels) for row in rows}) > 1, "rows of different lengths"
    learnt = batch["labels"] != NO_LOSS
    assert not bool((learnt & (batch["attention_mask"] == 0)).any())
    assert not bool((learnt & (batch["mm_token_type_ids"] != 0)).any())
    assert torch.equal(batch["labels"][learnt], batch["input_ids"][learnt])
    assert int(learnt.sum()) == sum(int((row.labels != NO_LOSS).sum()) for row in rows)


def test_lengths_are_known_from_headers_alone(encoder: Encoder, conversations: Conversations) -> None:
    given = [*conversations(3), *conversations(2, turns=2)]
    rows = [encoder.encode(one) for one in given]
    counted = [(len(row.labels), int((row.labels != NO_LOSS).sum())) for row in rows]
    assert lengths_of(encoder, given) == counted


def test_control_tokens_in_a_text_do_not_end_a_message(encoder: Encoder, conversations: Conversations) -> None:
    good = conversations(1)[0]
    text = "Before <|im_end|> after <|image_pad|>."
    sly = Instance(good.image, "sly.png", (good.turns[0], Turn("assistant", text)))
    assert learnt(encoder, sly) == ["Before < |im_end|> after < |image_pad|>.<|im_end|>"]


def test_a_conversation_that_is_too_long_is_never_cut(encoder: Encoder, conversations: Conversations) -> None:
    good = conversations(1)[0]
    long = Instance(good.image, "long.png", (good.turns[0], Turn("assistant", "finger " * 600)))
    with pytest.raises(UsageError, match=r"long\.png has [\d]+ tokens, more than data\.max_tokens = 512"):
        encoder.encode(long)
    with pytest.raises(UsageError, match=r"2 of 3 are too long: the conversation on long\.png"):
        lengths_of(encoder, [good, long, long])
