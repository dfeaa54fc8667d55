"""Our Muon is the published one, in float32."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")


@pytest.mark.parametrize("shape", [(24, 64), (64, 24), (32, 32)])
def test_equal_to_the_published_one(shape: tuple[int, int]) -> None:
    from tools.tiny.muon import Muon

    made = torch.Generator().manual_seed(1)
    start = torch.randn(shape, generator=made)
    ours, theirs = (torch.nn.Parameter(start.clone()) for _ in range(2))
    optimizers = (
        Muon([ours], lr=0.02),
        torch.optim.Muon([theirs], lr=0.02, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
    )
    for _ in range(5):
        ours.grad = torch.randn(shape, generator=made)
        theirs.grad = ours.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    moved = float((theirs - start).detach().norm())
    # bfloat16 has three digits; a wrong step, momentum or scale would be off by a large part of the way.
    assert float((ours - theirs).detach().norm()) < 0.02 * moved


def test_singular_values_come_near_one() -> None:
    from tools.tiny.muon import orthogonal

    for shape in ((20, 50), (50, 20)):
        values = torch.linalg.svdvals(orthogonal(torch.randn(shape, generator=torch.Generator().manual_seed(2))))
        assert float(values.min()) > 0.6
        assert float(values.max()) < 1.3
