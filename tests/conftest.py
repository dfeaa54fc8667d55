"""What tests of several rooms share."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Qwen2.5-VL (see tests/vlm/tiny_qwen.py). Its replies are noise. Do not write into it."""
    module = runpy.run_path(str(Path(__file__).parent / "vlm" / "tiny_qwen.py"))
    folder: Path = module["make_tiny_qwen"](tmp_path_factory.mktemp("models") / "tiny-qwen")
    return folder
