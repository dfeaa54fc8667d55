"""A detector's card: read as written, refused with the field's name, never half believed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from anomreason.errors import UsageError
from anomreason.vlm.card import CARD_NAME, DetectorCard, read_card


def write(folder: Path, card: object) -> Path:
    (folder / CARD_NAME).write_text(json.dumps(card), encoding="utf-8")
    return folder


def test_a_folder_without_a_card_has_none(tmp_path: Path) -> None:
    assert read_card(tmp_path) is None


def test_a_card_is_read_as_written(tmp_path: Path) -> None:
    card = {"min_pixels": 3136, "max_pixels": 100352, "prompt": "List every anomaly.", "answer": "json"}
    assert read_card(write(tmp_path, card)) == DetectorCard(
        prompt="List every anomaly.", answer="json", min_pixels=3136, max_pixels=100352
    )


def test_a_prompt_is_enough_and_the_answer_is_then_text(tmp_path: Path) -> None:
    card = read_card(write(tmp_path, {"prompt": "List every anomaly."}))
    assert card == DetectorCard(prompt="List every anomaly.", answer="text", min_pixels=None, max_pixels=None)


@pytest.mark.parametrize(
    ("card", "names"),
    [
        ({"answer": "json"}, "prompt"),
        ({"prompt": "  "}, "prompt"),
        ({"prompt": "p", "answer": "yaml"}, "answer"),
        ({"prompt": "p", "max_pixels": 100}, "max_pixels"),
        ({"prompt": "p", "min_pixels": 10**6, "max_pixels": 10**5}, "min_pixels"),
        ({"prompt": "p", "maxpixels": 10**6}, "maxpixels"),
        (["prompt"], "object"),
    ],
)
def test_a_card_that_cannot_be_used_names_file_and_field(tmp_path: Path, card: object, names: str) -> None:
    with pytest.raises(UsageError, match=f"{CARD_NAME}.*{names}"):
        read_card(write(tmp_path, card))


@pytest.mark.parametrize("data", [b"", b"\xff\xfe", b"{" * 5000, b'{"prompt": "' + b"a" * (1 << 20) + b'"}'])
def test_a_file_that_is_no_card_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / CARD_NAME).write_bytes(data)
    with pytest.raises(UsageError, match=CARD_NAME):
        read_card(tmp_path)
