"""The vision tower of a Qwen2.5-VL on many pictures of one size at once: the same parameters, the same numbers, faster.

The published forward takes pictures of any size one behind the other, and spends most of a small model's time on moving
them. Only for towers whose layers all look at the whole picture. A test holds it against the published one.

    tower = Tower(model.model.visual, side=196)
    tower(pixels)    # (pictures, tokens, width of the language model)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

PATCH, MERGE = 14, 2
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
"""Of the pixels that Qwen's published image processor takes off and divides by."""


def precision() -> Any:
    """bfloat16 on a CPU that has instructions for it, float32 on others: there it is at least ten times as fast."""
    import torch

    return torch.bfloat16 if torch.ops.mkldnn._is_mkldnn_bf16_supported() else torch.float32


def autocast() -> Any:
    """The context in which forward passes are computed in `precision`."""
    import torch

    return torch.autocast("cpu", torch.bfloat16, enabled=precision() == torch.bfloat16)


class Tower:
    """Calls the parameters of a published vision tower; has none of its own."""

    def __init__(self, visual: Any, side: int) -> None:
        import torch

        if len(visual.fullatt_block_indexes) < len(visual.blocks):
            raise ValueError("the tower has layers that look at windows only; this forward is for whole pictures")
        self.visual, self.count = visual, (side // PATCH) ** 2
        grid = torch.tensor([[1, side // PATCH, side // PATCH]])
        angles = torch.cat([_angles(visual, grid)] * 2, dim=-1)  # (patches, head)
        self._cos, self._sin = angles.cos(), angles.sin()

    def __call__(self, patches: Any) -> Any:
        """patches: (pictures, patches, 588) floats, in the order of `patches_of`. Gives (pictures, tokens, width)."""
        import torch.nn.functional as F

        v = self.visual
        # (width, 3, 2, 14, 14): a still picture stands for two moments that are equal, so their weights add up.
        weight = v.patch_embed.proj.weight.sum(dim=2)
        h = F.linear(patches, weight.reshape(weight.shape[0], -1).to(patches.dtype))
        cos, sin = self._cos.to(h.dtype), self._sin.to(h.dtype)
        for block in v.blocks:
            h = h + _attention(block, _norm(h, block.norm1), cos, sin)
            n, mlp = _norm(h, block.norm2), block.mlp
            h = h + mlp.down_proj(F.silu(mlp.gate_proj(n)) * mlp.up_proj(n))
        merged = _norm(h, v.merger.ln_q).view(len(h), self.count // MERGE**2, -1)
        return v.merger.mlp(merged)


def _angles(visual: Any, grid: Any) -> Any:
    import torch

    side = int(grid[0, 1])
    rows, columns = (a.ravel() for a in np.indices((side, side)))
    order = _order(side)
    head = visual.blocks[0].attn.qkv.in_features // visual.blocks[0].attn.num_heads
    steps = 1.0 / (10000.0 ** (torch.arange(0, head // 2, 2, dtype=torch.float) / (head // 2)))
    where = torch.tensor(np.stack([rows[order], columns[order]], 1))  # (patches, 2)
    return (where[:, :, None] * steps).flatten(1)


def _norm(h: Any, norm: Any) -> Any:
    import torch.nn.functional as F

    return F.rms_norm(h, (h.shape[-1],), norm.weight.to(h.dtype), norm.variance_epsilon)


def _attention(block: Any, h: Any, cos: Any, sin: Any) -> Any:
    import torch
    import torch.nn.functional as F

    count, patches, width = h.shape
    heads = block.attn.num_heads
    q, k, v = block.attn.qkv(h).view(count, patches, 3, heads, width // heads).permute(2, 0, 3, 1, 4)

    def turned(x: Any) -> Any:
        first, second = x.chunk(2, dim=-1)
        return x * cos + torch.cat((-second, first), dim=-1) * sin

    seen = F.scaled_dot_product_attention(turned(q), turned(k), v)
    return block.attn.proj(seen.transpose(1, 2).reshape(count, patches, width))


def _order(side: int) -> npt.NDArray[np.int64]:
    """Places (row by row) of the patches in the order in which the tower takes them: the four of a token together."""
    half = side // MERGE
    places = np.arange(side * side).reshape(half, MERGE, half, MERGE)
    return places.transpose(0, 2, 1, 3).ravel()


def mean(trainings: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Of the parameters of trainings that went on from one another, which often is better than each of them (Wortsman
    et al. 2022, arXiv 2203.05482)."""
    return {name: sum(one[name] for one in trainings) / len(trainings) for name in trainings[0]}


def patches_of(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """(pictures, side, side, 3) bytes -> (pictures, patches, 588), scaled as the published image processor does."""
    count, side = pictures.shape[:2]
    mean, deviation = (np.asarray(values, dtype=np.float32) for values in (MEAN, STD))
    scaled = ((pictures.astype(np.float32) / 255 - mean) / deviation).astype(np.float32)
    cut = scaled.reshape(count, side // PATCH, PATCH, side // PATCH, PATCH, 3).transpose(0, 1, 3, 5, 2, 4)
    rows: npt.NDArray[np.float32] = cut.reshape(count, -1, 3 * PATCH * PATCH)[:, _order(side // PATCH)]
    return rows
