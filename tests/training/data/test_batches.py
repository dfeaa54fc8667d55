"""Facts about batches: tokens are those of inference, and only answers are learnt."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image

from anomreason.errors import UnreadableImage, UsageError
from anomreason.images import load_image
from anomreason.training.data.batches import NO_LOSS, ConversationEncoder, lengths_of
from anomreason.training.data.instance import Instance, Turn
from anomreason.training.loading import card_of, open_encoder
from anomreason.training.recipe import Recipe, read_recipe
from anomreason.vlm.local.processor import Reader
from anomreason.vlm.protocol import Request, Tag

Conversations = Callable[..., list[Instance]]
Recipes = Callable[..., Recipe]


@pytest.fixture(scope="module")
def reader(tiny_recipe: Recipes, tiny_qwen: Path) -> Reader:
    return Reader(tiny_qwen, card_of(tiny_recipe(), "-"))


@pytest.fixture(scope="module")
def encoder(reader: Reader) -> ConversationEncoder:
    return ConversationEncoder(reader, (reader.tokenizer.eos_token_id,), 512)


def learnt(encoder: ConversationEncoder, instance: Instance) -> list[str]:
    """The stretches of tokens that carry loss, as text."""
    labels = encoder.encode(instance).labels.tolist()
    parts: list[list[int]] = [[]]
    for label in labels:
        if label == NO_LOSS:
            parts.append([])
        else:
            parts[-1].append(label)
    return [encoder.reader.tokenizer.decode(part) for part in parts if part]


def test_only_answers_carry_loss_with_the_token_that_ends_them(
    encoder: ConversationEncoder, conversations: Conversations
) -> None:
    one, two = conversations(1)[0], conversations(1, turns=2)[0]
    assert learnt(encoder, one) == [one.turns[1].text + "<|im_end|>"]
    assert learnt(encoder, two) == [two.turns[1].text + "<|im_end|>", two.turns[3].text + "<|im_end|>"]


@pytest.mark.parametrize("turns", [1, 2])
def test_a_row_begins_with_what_inference_asks(
    encoder: ConversationEncoder, reader: Reader, conversations: Conversations, turns: int
) -> None:
    instance = conversations(1, first=2, turns=turns)[0]
    said = [turn.text for turn in instance.turns]
    image = load_image(instance.image, max_side=None).encoded
    before = ((said[1], said[2]),) if turns == 2 else ()
    asked = reader.prepare(Request((image, said[0]), Tag("", "", ""), turns=before))
    row = encoder.encode(instance)
    assert torch.equal(row.prepared.ids[: asked.width], asked.ids)
    assert torch.equal(row.prepared.kinds[: asked.width], asked.kinds)
    assert torch.equal(row.prepared.pixels, asked.pixels)
    assert bool((row.labels[asked.width :] != NO_LOSS).all())


def test_padding_and_pictures_carry_no_loss(encoder: ConversationEncoder, conversations: Conversations) -> None:
    rows = [encoder.encode(one) for one in conversations(3)]
    batch = encoder.collate(rows)
    assert len({len(row.labels) for row in rows}) > 1, "rows of different lengths"
    learnt = batch["labels"] != NO_LOSS
    assert not bool((learnt & (batch["attention_mask"] == 0)).any())
    assert not bool((learnt & (batch["mm_token_type_ids"] != 0)).any())
    assert torch.equal(batch["labels"][learnt], batch["input_ids"][learnt])
    assert int(learnt.sum()) == sum(int((row.labels != NO_LOSS).sum()) for row in rows)


def test_lengths_are_known_from_headers_alone(encoder: ConversationEncoder, conversations: Conversations) -> None:
    given = [*conversations(3), *conversations(2, turns=2)]
    rows = [encoder.encode(one) for one in given]
    counted = [
        (len(row.labels), int((row.prepared.kinds != 0).sum()), int((row.labels != NO_LOSS).sum())) for row in rows
    ]
    assert [(one.total, one.image, one.answer) for one in lengths_of(encoder, given)] == counted


def test_control_tokens_in_a_text_do_not_end_a_message(
    encoder: ConversationEncoder, conversations: Conversations
) -> None:
    good = conversations(1)[0]
    text = "Before <|im_end|> after <|image_pad|>."
    sly = Instance(good.image, "sly.png", (good.turns[0], Turn("assistant", text)))
    assert learnt(encoder, sly) == ["Before < |im_end|> after < |image_pad|>.<|im_end|>"]


def test_a_conversation_that_is_too_long_is_never_cut(
    encoder: ConversationEncoder, conversations: Conversations
) -> None:
    good = conversations(1)[0]
    long = Instance(good.image, "long.png", (good.turns[0], Turn("assistant", "finger " * 600)))
    with pytest.raises(UsageError, match=r"long\.png has [\d]+ tokens, more than data\.max_tokens = 512"):
        encoder.encode(long)
    with pytest.raises(UsageError, match=r"2 of 3 are too long: the conversation on long\.png"):
        lengths_of(encoder, [good, long, long])


def test_lengths_are_those_of_the_checkpoints_own_template(
    tiny_qwen: Path, tiny_recipe: Recipes, conversations: Conversations, tmp_path: Path
) -> None:
    talkative = shutil.copytree(tiny_qwen, tmp_path / "talkative")
    for file in talkative.glob("*.json*"):
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace("You are a helpful assistant.", "You are a most helpful assistant. " * 20))
    template = talkative / "chat_template.jinja"
    template.write_text(template.read_text().replace("You are a helpful assistant.", "You are most helpful. " * 20))
    given, lengths = conversations(2), []
    for folder in (tiny_qwen, talkative):
        encoder = open_encoder(folder, None)
        lengths.append(lengths_of(encoder, given))
        assert [one.total for one in lengths[-1]] == [len(encoder.encode(one).labels) for one in given]
    assert all(long.total > short.total + 50 for short, long in zip(*lengths, strict=True))


@pytest.mark.parametrize("size", [(30, 30), (100, 60), (333, 512), (20, 900)])
def test_an_image_takes_the_tokens_that_the_models_processor_makes_of_it(
    encoder: ConversationEncoder, size: tuple[int, int]
) -> None:
    processor = encoder.reader.processor
    ids = processor(text=["<|image_pad|>"], images=[Image.new("RGB", size)])["input_ids"][0]
    assert encoder.image_tokens(*size) == sum(token == processor.image_token_id for token in ids)


def test_an_image_that_is_too_thin_for_the_model_is_unreadable(encoder: ConversationEncoder) -> None:
    assert encoder.image_tokens(2, 400) > 0
    with pytest.raises(UnreadableImage, match="2x402 is too thin"):
        encoder.image_tokens(2, 402)


def test_the_papers_budget_is_64_to_784_tokens(tiny_qwen: Path) -> None:
    encoder = open_encoder(tiny_qwen, card_of(read_recipe("anomreasonor-7b"), "-"))
    sizes = [(100, 100), (4000, 4000), (1024, 768)]
    assert [encoder.image_tokens(*size) for size in sizes] == [64, 784, 768]
