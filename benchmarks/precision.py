"""How fast the bundled model's tower trains on this CPU in float32 and in bfloat16, and what a step of Muon adds.

    python benchmarks/precision.py

Training takes the faster one by what the CPU has instructions for (`tools/tiny/tower.py`); ratios of one run.
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

PICTURES = 8
ROUNDS = 3


def seconds(work: Callable[[], Any]) -> float:
    """Median of some runs after one that does not count."""
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
    pictures = rng.integers(0, 256, size=(PICTURES, shape.side, shape.side, 3), dtype=np.uint8)

    def passes(dtype: torch.dtype) -> None:
        with torch.autocast("cpu", torch.bfloat16, enabled=dtype == torch.bfloat16):
            tower(torch.from_numpy(patches_of(pictures)).to(dtype)).float().pow(2).mean().backward()

    taken = {str(dtype): seconds(lambda dtype=dtype: passes(dtype)) for dtype in (torch.float32, torch.bfloat16)}
    matrices = [p for name, p in visual.named_parameters() if p.ndim == 2 and name.startswith("blocks")]
    ours, published = Muon(matrices, 0.0), torch.optim.Muon(matrices, lr=0.0)
    steps = {"ours": seconds(ours.step), "published": seconds(published.step)}
    print(
        json.dumps(
            {
                "chosen here": str(precision()),
                "pictures a second": {name: round(PICTURES / value, 1) for name, value in taken.items()},
                "float32 against bfloat16": round(taken["torch.bfloat16"] / taken["torch.float32"], 2),
                "seconds a step of Muon": {name: round(value, 3) for name, value in steps.items()},
                "ours against the published Muon": round(steps["published"] / steps["ours"], 2),
            },
            indent=1,
        )
    )


if __name__ == "__main__":
    main()
