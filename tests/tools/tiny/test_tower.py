"""The fast tower gives what the published one gives."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from tools.tiny.model import TinyShape, tiny_visual
from tools.tiny.tower import Tower, patches_of

torch = pytest.importorskip("torch")
SHAPE = TinyShape(side=84, vision_depth=2, vision_width=96, width=64)


def test_equal_to_the_published_forward() -> None:
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    torch.manual_seed(1)
    visual = tiny_visual(SHAPE).eval()
    pictures = np.random.default_rng(0).integers(0, 256, size=(3, 84, 84, 3), dtype=np.uint8)
    budget = {"shortest_edge": 84 * 84, "longest_edge": 84 * 84}
    made = Qwen2VLImageProcessorPil(size=budget)(images=[Image.fromarray(p) for p in pictures], return_tensors="pt")
    with torch.no_grad():
        published = visual(made["pixel_values"], grid_thw=made["image_grid_thw"]).pooler_output
        ours = Tower(visual, 84)(torch.from_numpy(patches_of(pictures)))
    assert ours.shape == (3, 9, 64)
    assert torch.allclose(ours.flatten(0, 1), published, atol=1e-5)


def test_a_tower_that_looks_at_windows_is_refused() -> None:
    visual = tiny_visual(SHAPE)
    visual.fullatt_block_indexes = [1]
    with pytest.raises(ValueError, match="windows"):
        Tower(visual, 84)
