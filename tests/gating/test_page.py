"""The pipeline that docs/gate.md shows makes images until one passes, and falls back on the most plausible."""

import json
import re
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from anomreason.vlm.simulator.model import Simulator

ROOT = Path(__file__).parents[2]
MAKERS = ROOT / "tests" / "dataset" / "generators" / "tiny_pipelines.py"
SMALL = "num_inference_steps=2, width=32, height=32, max_sequence_length=32"


@pytest.fixture(scope="module")
def names(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the page's example defines, with a tiny pipeline in place of the one that it names."""
    pytest.importorskip("diffusers")
    folder = runpy.run_path(str(MAKERS))["make_tiny_sd3"](tmp_path_factory.mktemp("pipeline") / "tiny")
    page = (ROOT / "docs" / "gate.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(import anomreason\nimport torch\n.*?)```", page, re.DOTALL)
    for shown, instead in {
        "stabilityai/stable-diffusion-3.5-medium": str(folder),
        '"cuda"': '"cpu"',
        "num_inference_steps=28": SMALL,
    }.items():
        assert code.count(shown) == 1
        code = code.replace(shown, instead)
    defined: dict[str, Any] = {}
    exec(code, defined)
    defined["pipeline"].set_progress_bar_config(disable=True)
    return defined


@pytest.fixture
def judge(names: dict[str, Any], tmp_path: Path) -> Callable[..., Simulator]:
    """Makes the images of some seeds and a model that finds anomalies of these severities in them, which it gives."""
    import torch

    def knowing(*images: list[int]) -> Simulator:
        truth = {}
        for seed, severities in enumerate(images):
            settings = {"num_inference_steps": 2, "width": 32, "height": 32, "max_sequence_length": 32}
            made = names["pipeline"]("a cup", generator=torch.Generator().manual_seed(seed), **settings)
            made.images[0].save(tmp_path / f"{seed}.png")
            found = [
                {"name": f"No. {n}", "phenomenon": "p", "reasoning": "r", "severity": s, "objects": ["cup"]}
                for n, s in enumerate(severities)
            ]
            cup = {"name": "cup", "description": "A cup.", "box": [0.1, 0.1, 0.9, 0.9]}
            truth[f"{seed}.png"] = {"objects": [cup], "anomalies": found}
        (tmp_path / "truth.json").write_text(json.dumps(truth))
        vlm = Simulator.from_file(tmp_path / "truth.json")
        names["judge"] |= {"model": vlm, "cache": tmp_path / "cache"}
        return vlm

    return knowing


def test_the_example_stops_at_the_first_image_that_passes(
    names: dict[str, Any], judge: Callable[..., Simulator], tmp_path: Path
) -> None:
    judge([10], [50, 60, 70], [40], [])
    names["make"]("a cup").save(tmp_path / "made.png")
    assert (tmp_path / "made.png").read_bytes() == (tmp_path / "2.png").read_bytes()


def test_the_example_ends_with_the_most_plausible_when_none_passes_and_pays_for_each_once(
    names: dict[str, Any], judge: Callable[..., Simulator], tmp_path: Path
) -> None:
    vlm = judge([10, 10], [15], [5], [10, 50])
    names["make"]("a cup").save(tmp_path / "made.png")
    assert (tmp_path / "made.png").read_bytes() == (tmp_path / "1.png").read_bytes()
    asked = vlm.steps.total()
    names["make"]("a cup")
    assert vlm.steps.total() == asked
