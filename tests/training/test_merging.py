"""Facts about merging: one folder that says what base and adapter said."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from anomreason import detect
from anomreason.errors import UsageError
from anomreason.training.merging import merge


def test_a_merged_model_says_what_base_and_adapter_said(
    tiny_qwen: Path, tiny_adapter: Path, tmp_path: Path, world: object
) -> None:
    from PIL import Image

    carded = shutil.copytree(tiny_adapter, tmp_path / "carded")
    (carded / "anomreason.json").write_text(json.dumps({"prompt": "What is wrong here?", "max_pixels": 12544}))
    proof = merge(str(tiny_qwen), str(carded), tmp_path / "merged")
    assert proof.name == "merged"
    before, after = load_file(tiny_qwen / "model.safetensors"), load_file(tmp_path / "merged" / "model.safetensors")
    changed = {name for name in after if not torch.equal(before[name], after[name])}
    assert before.keys() == after.keys()
    assert changed == {name for name in after if name.endswith(("q_proj.weight", "v_proj.weight")) and "layers" in name}
    assert json.loads((tmp_path / "merged" / "anomreason.json").read_text())["prompt"] == "What is wrong here?"
    Image.linear_gradient("L").save(tmp_path / "picture.png")
    options = {"schedule": "single", "device": "cpu", "max_reply_tokens": 32}
    whole = detect(tmp_path / "picture.png", model=f"local:{tmp_path / 'merged'}", **options)
    halves = detect(tmp_path / "picture.png", model=f"local:{tiny_qwen}+{carded}", **options)
    assert (whole.status, whole.anomalies) == (halves.status, halves.anomalies)
    assert not (tmp_path / "merged" / "adapter_config.json").exists()


def test_sixteen_bits_are_merged_with_the_loss_told(tiny_qwen: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    proof = merge(str(tiny_qwen), str(tiny_adapter), tmp_path / "half", dtype="bfloat16")
    assert "of the largest" in proof.found
    assert {tensor.dtype for tensor in load_file(tmp_path / "half" / "model.safetensors").values()} == {torch.bfloat16}


def test_nothing_is_written_over(tiny_qwen: Path, tiny_adapter: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(UsageError, match="is not an empty folder"):
        merge(str(tiny_qwen), str(tiny_adapter), tmp_path)
    with pytest.raises(UsageError, match=r"no adapter_config\.json"):
        merge(str(tiny_qwen), str(tiny_qwen), tmp_path / "new")
