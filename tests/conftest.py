"""What tests of several rooms share."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image

# How long an example takes depends on what else the machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
MAKERS = Path(__file__).parent / "vlm" / "tiny_qwen.py"


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Qwen2.5-VL; its replies are noise. Copy it before you change it."""
    import torch

    # Such small products gain nothing from threads, and lose much on a busy machine.
    torch.set_num_threads(1)
    folder: Path = runpy.run_path(str(MAKERS))["make_tiny_qwen"](tmp_path_factory.mktemp("models") / "tiny-qwen")
    return folder


@pytest.fixture(scope="session")
def tiny_adapter(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random LoRA for `tiny_qwen` that changes its replies. Copy it before you change it."""
    folder: Path = runpy.run_path(str(MAKERS))["make_tiny_adapter"](
        tiny_qwen, tmp_path_factory.mktemp("models") / "lora"
    )
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder of distinct small pictures with `simulator.json` beside them; gives the truth file's path."""

    def make(count: int = 3, side: int = 64) -> Path:
        folder = tmp_path_factory.mktemp("world")
        truth = {}
        for n in range(count):
            pixels = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(folder / f"p{n:03}.png")
            truth[f"p{n:03}.png"] = {**_known(n), "generated": n % 2 == 0}
        file = folder / "simulator.json"
        file.write_text(json.dumps(truth))
        return file

    return make


def _known(n: int) -> dict[str, Any]:
    """Eight objects; four anomalies that make a text format sweat; every third picture is clean."""
    names = ["woman", "man", "dog", "cup", "table", "lamp", "window", "chair"]
    objects = [
        {"name": name, "description": f"A {name} of picture {n}.", "box": [i / 10, 0.1, i / 10 + 0.15, 0.6]}
        for i, name in enumerate(names)
    ]
    anomalies = [
        _anomaly(f"Six fingers {n}", 5, ["woman"], [0.125, 0.1, 0.25, 0.5]),
        _anomaly('Name: "quoted" \\ back', 12, ["cup", "table"], [0.3, 0.1, 0.55, 0.6]),
        _anomaly("Two\nlines, Reasoning: in it", 33, ["lamp"], None),
        _anomaly("Second sun <script>", 47, [], [0, 0, 1, 1]),
    ]
    return {"objects": objects, "anomalies": [] if n % 3 == 2 else anomalies}


def _anomaly(name: str, severity: int, objects: list[str], region: list[float] | None) -> dict[str, Any]:
    known: dict[str, Any] = {"name": name, "severity": severity, "objects": objects}
    known["phenomenon"] = f"What is seen of {name}: @2. Name: x\nSeverity Score: 3"
    known["reasoning"] = f'Why {name} cannot be so: {{"json": [1]}} ```fence```'
    return known | ({"region": region} if region else {})


Served = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def served() -> Served:
    """Starts `anomreason simulate TRUTH --port 0 ...` in another process; gives its URL while it is open."""

    @contextmanager
    def start(truth: Path, *options: str) -> Iterator[str]:
        command = [sys.executable, "-m", "anomreason", "simulate", str(truth), "--port", "0", *options]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
        assert process.stdout is not None
        try:
            ready = process.stdout.readline()
            match = re.search(r"http://\S+", ready)
            assert match, f"the server said {ready!r}"
            yield match[0].rstrip("/").removesuffix("/v1")
        finally:
            process.terminate()
            process.wait(20)
            process.stdout.close()

    return start
