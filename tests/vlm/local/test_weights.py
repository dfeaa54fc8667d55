"""What `local:` names is found, checked before it is loaded, and named by its weights."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from anomreason.errors import UsageError
from anomreason.vlm.local.weights import find_checkpoint, load_model
from anomreason.vlm.protocol import VLMOptions

CPU = VLMOptions(device="cpu", dtype="float32")


def test_an_adapter_made_for_other_layers_is_refused_rather_than_ignored(
    tiny_qwen: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    from safetensors.numpy import load_file, save_file

    other = shutil.copytree(tiny_adapter, tmp_path / "other")
    weights = load_file(other / "adapter_model.safetensors")
    renamed = {key.replace("layers", "blocks"): value for key, value in weights.items()}
    save_file(renamed, other / "adapter_model.safetensors")
    with pytest.raises(UsageError, match="does not fit its base"):
        load_model(find_checkpoint(f"{tiny_qwen}+{other}"), CPU)
    wider = {key: np.concatenate([value, value]) for key, value in weights.items()}
    save_file(wider, other / "adapter_model.safetensors")
    with pytest.raises(UsageError, match=r"does not fit its base \(.*size mismatch.*; it was made for ") as failed:
        load_model(find_checkpoint(f"{tiny_qwen}+{other}"), CPU)
    assert len(str(failed.value)) < 700  # and not a line for every tensor


def test_other_weights_in_the_same_folder_are_another_model(tiny_qwen: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(tiny_qwen, tmp_path / "model")
    before = find_checkpoint(str(folder)).name
    assert find_checkpoint(str(folder)).name == before
    weights = load_file(folder / "model.safetensors")
    save_file({key: value * 1.01 for key, value in weights.items()}, folder / "model.safetensors", {"format": "pt"})
    assert find_checkpoint(str(folder)).name != before
    assert before.startswith(f"local:{folder}@")


def test_base_and_adapter_are_told_apart_even_where_their_paths_hold_a_plus(
    tiny_qwen: Path, tiny_adapter: Path, tmp_path: Path
) -> None:
    base = shutil.copytree(tiny_qwen, tmp_path / "base+v2")
    adapter = shutil.copytree(tiny_adapter, tmp_path / "lora+r4")
    source = find_checkpoint(f"{base}+{adapter}")
    assert (source.base, source.adapter) == (base, adapter)


def test_a_path_with_a_plus_that_exists_is_a_path(tiny_qwen: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_qwen, tmp_path / "tiny+v2")
    source = find_checkpoint(str(folder))
    assert (source.base, source.adapter) == (folder, None)


def test_what_cannot_be_opened_says_what_to_do(tiny_qwen: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    text_model = tmp_path / "text"
    text_model.mkdir()
    (text_model / "config.json").write_text('{"model_type": "llama"}')
    cases = {
        "/nowhere/at/all": "no folder",
        "": "no folder",
        str(tmp_path): "config.json",
        str(text_model): "'llama'",
        str(text_model / "config.json"): "is a file",
        str(tiny_adapter): "name its base too",
        f"{tiny_qwen}+{tiny_qwen}": "adapter_config.json",
        f"{tiny_qwen}+/nowhere/at/all": "no folder '/nowhere/at/all'",
    }
    for spec, message in cases.items():
        with pytest.raises(UsageError, match=message):
            find_checkpoint(spec)


def test_damaged_or_missing_weights_are_named(tiny_qwen: Path, tmp_path: Path) -> None:
    from safetensors.numpy import load_file, save_file

    folder = shutil.copytree(tiny_qwen, tmp_path / "model")
    weights = load_file(folder / "model.safetensors")
    kept = {key: value for key, value in weights.items() if "visual" not in key}
    save_file(kept, folder / "model.safetensors", {"format": "pt"})
    with pytest.raises(UsageError, match="lacks weights"):
        load_model(find_checkpoint(str(folder)), CPU)
    (folder / "model.safetensors").write_bytes(b"\0" * 100)
    with pytest.raises(UsageError, match="fetch the checkpoint again"):
        load_model(find_checkpoint(str(folder)), CPU)


def test_a_hub_model_that_cannot_be_fetched_says_what_to_try() -> None:
    code = """
from anomreason.errors import UsageError
from anomreason.vlm.local.weights import find_checkpoint
try:
    find_checkpoint("someone/no-such-model")
except UsageError as error:
    print(error)
"""
    env = {**os.environ, "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env=env, check=True
    )
    assert "'someone/no-such-model'" in done.stdout
    assert "check the name" in done.stdout
