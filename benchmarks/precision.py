"""Training speed of the bundled model's tower on this CPU in float32 and bfloat16, and the cost of a step of Muon.

    python benchmarks/precision.py

Training chooses by the CPU's instructions (`tools/tiny/tower.py`). All ratios are from one run.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from tools.tiny.model import TinyShape, tiny_visual
from tools.tiny.muon import Muon
from tools.tiny.tower import Tower, patches_of, precision

IMAGES = 8
ROUNDS = 3


def seconds(work: Callable[[], Any]) -> float:
    """Median of ROUNDS runs after a warm-up run."""
    work()
    times = []
    for _ in range(ROUNDS):
        begun = time.perf_counter()
        work()
        times.append(time.perf_counter() - begun)
    return float(np.median(times))


def main() -> None:
    shape = TinyShape()
    visual = tiny_visual(shape)
    tower = Tower(visual, shape.side)
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, size=(IMAGES, shape.side, shape.side, 3), dtype=np.uint8)

    def passes(dtype: torch.dtype) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            tower(torch.from_numpy(patches_of(images)).to(dtype)).float().pow(2).mean().backward()

    taken = {str(dtype): seconds(lambda dtype=dtype: passes(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    matrices = [p for name, p in visual.named_parameters() if p.ndim == 2 and name.startswith("blocks")]
    ours, published = Muon(matrices, 0.0), torch.optim.Muon(matrices, lr=0.0)
    steps = {"ours": seconds(ours.step), "published": seconds(published.step)}
    print(
        json.dumps(
            {
                "chosen here": str(precision()),
                "images per second": {name: round(IMAGES / value, 1) for name, value in taken.items()},
                "float32 against bfloat16": round(taken["torch.bfloat16"] / taken["torch.float32"], 2),
                "seconds per step of Muon": {name: round(value, 3) for name, value in steps.items()},
                "ours against the published Muon": round(steps["published"] / steps["ours"], 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
