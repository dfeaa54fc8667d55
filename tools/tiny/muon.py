"""Muon in float32: the update of `torch.optim.Muon`, which computes in bfloat16 whatever the CPU.

Where a CPU has no instructions for bfloat16, that takes longer than forward and backward pass together. A test holds
this against the published one. See https://kellerjordan.github.io/posts/muon for the method.

    Muon([weight], lr=1e-3)
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

MOMENTUM, STEPS = 0.95, 5
A, B, C = 3.4445, -4.7750, 2.0315
"""Of the quintic that brings singular values near 1."""


class Muon(torch.optim.Optimizer):  # type: ignore[misc]
    """For matrices. The rate is scaled so that an update is as large as AdamW's would be (`match_rms_adamw`)."""

    def __init__(self, matrices: Iterable[Any], lr: float, weight_decay: float = 0.01) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()  # type: ignore[untyped-decorator]
    def step(self, closure: Any = None) -> None:
        for group in self.param_groups:
            for matrix in group["params"]:
                if matrix.grad is None:
                    continue
                state = self.state[matrix]
                if not state:
                    state["momentum_buffer"] = torch.zeros_like(matrix)
                kept = state["momentum_buffer"].lerp_(matrix.grad, 1 - MOMENTUM)
                update = orthogonal(matrix.grad.lerp(kept, MOMENTUM))
                matrix.mul_(1 - group["lr"] * group["weight_decay"])
                matrix.add_(update, alpha=-group["lr"] * 0.2 * max(matrix.shape) ** 0.5)


def orthogonal(matrix: Any) -> Any:
    """The nearest matrix of orthonormal rows or columns, roughly: singular values come out between 0.7 and 1.2."""
    x = matrix / matrix.norm().clamp(min=1e-7)
    tall = x.shape[0] > x.shape[1]
    x = x.T if tall else x
    for _ in range(STEPS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=B, alpha=C), x, beta=A)
    return x.T if tall else x
