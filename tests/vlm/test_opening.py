"""A spec names one model; its card is read without loading it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from anomreason.errors import UsageError
from anomreason.vlm.card import CARD_NAME
from anomreason.vlm.opening import card_of, open_vlm
from anomreason.vlm.protocol import VLMOptions


def checkpoint(folder: Path, prompt: str | None) -> Path:
    folder.mkdir()
    if prompt is not None:
        (folder / CARD_NAME).write_text(json.dumps({"prompt": prompt}))
    return folder


@pytest.mark.parametrize(
    ("base", "adapter", "prompt"),
    [(None, None, None), ("b", None, "b"), (None, "a", "a"), ("b", "a", "a")],
)
def test_the_adapters_card_comes_before_the_bases(
    tmp_path: Path, base: str | None, adapter: str | None, prompt: str | None
) -> None:
    spec = f"local:{checkpoint(tmp_path / 'base', base)}+{checkpoint(tmp_path / 'adapter', adapter)}"
    card = card_of(spec)
    assert (card.prompt if card else None) == prompt


def test_only_local_models_have_cards() -> None:
    assert card_of("gpt-4o") is card_of("sim:nowhere.json") is None
    assert card_of("tiny") == card_of("local:tiny") is not None


def test_reading_a_card_imports_neither_torch_nor_transformers() -> None:
    code = """
import sys
from anomreason.vlm.opening import card_of
assert card_of("tiny").out_of_domain
print(sorted({"torch", "transformers", "peft"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("tiny+small", "write local:tiny[+]small"),
        ("sim:", "names no truth file"),
        ("local:", "names no model"),
        ("local:/nowhere/at/all", "no folder '/nowhere/at/all'"),
        ("local:tiny+/nowhere/at/all", "no folder '/nowhere/at/all'"),
    ],
)
def test_a_spec_that_names_no_model_is_refused_before_anything_is_loaded(spec: str, message: str) -> None:
    for use in (card_of, open_vlm):
        with pytest.raises(UsageError, match=message):
            use(spec)


@pytest.mark.parametrize("spec", ["tiny", "local:x", "sim:x.json"])
def test_a_base_url_is_refused_where_it_has_no_effect(spec: str) -> None:
    with pytest.raises(UsageError, match="has no effect"):
        open_vlm(spec, VLMOptions(base_urls=("http://127.0.0.1:1/v1",)))
