"""Tokens of pictures and conversations, against the model's own processor."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from anomreason.errors import UnreadableImage, UsageError
from anomreason.training.data.instance import Turn
from anomreason.training.data.lengths import (
    PAPER_PIXELS,
    Room,
    Tokens,
    chatml,
    picture_tokens,
    spread,
    spread_of,
    table,
)


def test_the_paper_s_budget_is_64_to_784_tokens() -> None:
    assert picture_tokens(100, 100, *PAPER_PIXELS) == 64
    assert picture_tokens(4000, 4000, *PAPER_PIXELS) == 784
    assert picture_tokens(1024, 768, *PAPER_PIXELS) == 768


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(1, 5000), st.sampled_from([(3136, 12_544), PAPER_PIXELS, (784, 784)]))
def test_a_picture_takes_the_tokens_that_the_model_s_processor_makes_of_it(
    width: int, height: int, budget: tuple[int, int]
) -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

    if max(width, height) > 200 * min(width, height):
        with pytest.raises(UnreadableImage, match="too thin"):
            picture_tokens(width, height, *budget)
        return
    down, across = smart_resize(height, width, 28, *budget)
    assert picture_tokens(width, height, *budget) == down * across // 28**2


@pytest.mark.parametrize("size", [(30, 30), (100, 60), (333, 512), (20, 900)])
def test_a_conversation_is_as_long_as_the_processor_makes_it(tiny_qwen: Path, size: tuple[int, int]) -> None:
    from anomreason.vlm.local.processor import load_processor

    processor = load_processor(tiny_qwen)
    tokenizer, budget = processor.tokenizer, processor.image_processor.size
    room = Room(
        lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"]),
        min_pixels=budget["shortest_edge"],
        max_pixels=budget["longest_edge"],
    )
    turns = [Turn("user", "What is odd?"), Turn("assistant", "A hand."), Turn("user", "Why?"), Turn("assistant", "So.")]
    messages = [{"role": turn.role, "content": [{"type": "text", "text": turn.text}]} for turn in turns]
    messages[0]["content"].insert(0, {"type": "image"})
    text = tokenizer.apply_chat_template(messages, chat_template=processor.chat_template, tokenize=False)
    ids = processor(text=[text], images=[Image.new("RGB", size)])["input_ids"][0]
    found = room.measure(turns, room.picture(*size))
    assert found.total == len(ids)
    assert found.picture == sum(token == processor.image_token_id for token in ids)
    assert found.answer == sum(room.count_text(said) for said in ("A hand.", "So."))


def test_the_trainer_counts_no_more_than_was_planned_with(tiny_qwen: Path, tmp_path: Path) -> None:
    from anomreason.training.data.batches import Encoder
    from anomreason.training.data.instance import Instance
    from anomreason.vlm.local.processor import Reader

    reader = Reader(tiny_qwen, None)
    room = Room(
        lambda text: len(reader.tokenizer(text, add_special_tokens=False)["input_ids"]),
        min_pixels=reader.min_pixels,
        max_pixels=reader.max_pixels,
    )
    Image.new("RGB", (90, 70)).save(tmp_path / "a.png")
    turns = Turn("user", "What is odd?"), Turn("assistant", "No anomalies.")
    ends = [reader.tokenizer.convert_tokens_to_ids("<|im_end|>")]
    row = Encoder(reader, ends, 4096).encode(Instance(tmp_path / "a.png", "a.png", turns))
    assert 0 <= room.measure(turns, room.picture(90, 70)).total - len(row.labels) <= 2


def test_the_template_shows_the_picture_before_the_first_question_alone() -> None:
    text = chatml([Turn("user", "Q1"), Turn("assistant", "A1"), Turn("user", "Q2"), Turn("assistant", "A2")])
    assert text.count("<|vision_start|><|vision_end|>Q1<|im_end|>") == text.count("<|vision_start|>") == 1
    assert text.endswith("<|im_start|>assistant\nA2<|im_end|>\n")


@pytest.mark.parametrize("wrong", [{"max_tokens": 0}, {"min_pixels": 0}, {"max_pixels": 100}, {"side": 0}])
def test_limits_that_cannot_be_meant_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="cannot be"):
        Room(len, **wrong)


@given(st.lists(st.integers(0, 10_000), min_size=1))
def test_percentiles_are_lengths_that_occur(values: list[int]) -> None:
    found = spread(values)
    assert set(found.values()) <= set(values)
    assert list(found.values()) == sorted(found.values())
    assert found["max"] == max(values)


def test_half_of_the_lengths_are_at_most_the_median() -> None:
    assert spread(range(1, 101)) == {"p5": 5, "p50": 50, "p90": 90, "p95": 95, "p99": 99, "max": 100}
    assert spread([]) == {}


def test_a_table_keeps_its_columns_and_shows_where_nothing_was_counted() -> None:
    lines = table(["p50", "max"], {**spread_of([Tokens(1500, 756, 700)]), "none": {}})
    assert lines[1].split() == ["instance", "1,500", "1,500"]
    assert lines[4].split() == ["none", "-", "-"]
    assert len({len(line) for line in lines}) == 1
