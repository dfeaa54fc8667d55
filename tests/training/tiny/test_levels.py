"""Sound things look equally sound after levelling; what is wrong with them stays, and what else the tower tells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("torch")

import torch

from anomreason.scenes.scene import KINDS
from anomreason.training.tiny.corpus import Size, draw_shard, read_shard, thing_names
from anomreason.training.tiny.dense import Dense, DenseSettings, train_dense
from anomreason.training.tiny.levels import SOUND, level_tower, levelling
from anomreason.training.tiny.model import TinyShape

SHAPE = TinyShape(side=84, vision_depth=1, vision_width=48, depth=1, width=64, heads=2, vocabulary=4096, context=512)
WIDTH, THINGS = 40, 12


def made() -> tuple[list[tuple[torch.Tensor, ...]], torch.Tensor, torch.Tensor]:
    """Tokens of twelve things, each at a level of its own for two kinds; some wrong by one of them."""
    generator = torch.Generator().manual_seed(0)
    weight, bias = torch.zeros(1 + len(KINDS), WIDTH), torch.zeros(1 + len(KINDS))
    weight[1, 0] = weight[2, 1] = 1.0
    own = torch.zeros(1 + len(thing_names()), WIDTH)
    own[1 : 1 + THINGS, 2 : 2 + THINGS] = 4 * torch.eye(THINGS)
    own[1 : 1 + THINGS, :2] = -25 * torch.rand(THINGS, 2, generator=generator)
    chunks = []
    for _ in range(3):
        things = torch.randint(0, 1 + THINGS, (2000,), generator=generator)
        wrong = torch.where(torch.rand(2000, generator=generator) < 0.1, torch.randint(1, 3, (2000,)), 0)
        wrong[things == 0] = 0
        seen = own[things] + 0.3 * torch.randn(2000, WIDTH, generator=generator)
        seen[wrong == 1, 0] += 20
        seen[wrong == 2, 1] += 20
        chunks.append((seen, things, wrong))
    return chunks, weight, bias


def test_things_lie_at_one_level_and_what_is_wrong_far_above_it() -> None:
    chunks, weight, bias = made()
    turn, added = levelling(chunks, weight, bias)
    seen, things, wrong = (torch.cat(part) for part in zip(*chunks, strict=True))
    after = seen @ turn.T + added
    for kind in (1, 2):
        before, now = (part @ weight[kind] for part in (seen, after))
        sound = [float(now[(things == t) & (wrong == 0)].mean()) for t in range(1, 1 + THINGS)]
        assert np.ptp([float(before[(things == t) & (wrong == 0)].mean()) for t in range(1, 1 + THINGS)]) > 15
        assert np.abs(np.array(sound) - SOUND).max() < 1.0
        raised = [float(now[(things == t) & (wrong == kind)].mean()) for t in range(1, 1 + THINGS)]
        assert (np.array(raised) - np.array(sound)).min() > 17  # of 20
    rest = after[:, 2 + THINGS :] - seen[:, 2 + THINGS :]
    assert float(rest.abs().max()) < 0.5


def test_kinds_that_nothing_shows_are_left_as_they_are() -> None:
    chunks, weight, bias = made()
    sound = [(seen[wrong != 2], things[wrong != 2], wrong[wrong != 2]) for seen, things, wrong in chunks]
    turn, added = levelling(sound, weight, bias)
    seen = chunks[0][0]
    assert torch.allclose((seen @ turn.T + added) @ weight[2], seen @ weight[2], atol=0.5)


def test_the_map_becomes_part_of_the_tower_and_other_heads_say_what_they_said(tmp_path: Path) -> None:
    shards = [draw_shard(tmp_path / "corpus", number, Size(pictures=120, side=SHAPE.side)) for number in (0, 1)]
    given = DenseSettings(steps=2, batch=8, shape=SHAPE)
    state = train_dense(tmp_path / "dense", shards, given).with_name("state.pt")
    levelled = level_tower(tmp_path / "levelled", state, shards, given)
    assert {path.name for path in levelled.parent.iterdir()} == {"tower.pt", "words.pt", "kinds.pt", "state.pt"}
    towers = [
        Dense(DenseSettings(steps=1, shape=SHAPE, start=path.with_name("state.pt"))) for path in (state, levelled)
    ]
    pictures = read_shard(shards[0]).pictures[:20]
    with torch.no_grad():
        before, after = (tower.look(pictures).float() for tower in towers)
        assert not torch.allclose(before, after, atol=0.01)
        for name in ("things", "domain", "turned", "places"):
            told = [getattr(tower, name)(seen) for tower, seen in zip(towers, (before, after), strict=True)]
            assert torch.allclose(*told, atol=0.02), name
