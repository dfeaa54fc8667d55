"""Every token's label is what stands there, in scenes and in their twins."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tools.tiny.corpus import (
    Scenes,
    Size,
    draw_shard,
    held_out,
    label,
    label_twin,
    read_shard,
    thing_names,
)
from tools.tiny.elsewhere import no_scene

from anomreason.anomaly import KINDS
from anomreason.scenes.sprites.world import SpriteWorld
from anomreason.textform import read_anomalies, write_anomalies

SIDE = 196


def test_what_is_planted_is_labelled_on_its_thing_and_gone_in_the_twin() -> None:
    names, world, seen = thing_names(), SpriteWorld(), 0
    for seed in range(60):
        drawn = world.draw(seed, size=128, count=2)
        whole = label(drawn, SIDE)
        assert {names[t - 1] for t in np.unique(whole.things) if t} <= {o.name for o in drawn.objects}
        for k, planted in enumerate(drawn.planted):
            number = 1 + KINDS.index(planted.kind)
            there = {names[t - 1] for t in np.unique(whole.things[whole.kinds == number]) if t}
            assert there & set(planted.anomaly.objects), (seed, planted.kind)
            twin = label_twin(drawn, k, SIDE)
            assert number not in twin.kinds
            others = {1 + KINDS.index(p.kind) for p in drawn.planted if p is not planted}
            assert others <= set(np.unique(twin.kinds).tolist()), (seed, planted.kind)
            seen += 1
    assert seen > 80


def test_answers_are_read_back_and_one_wording_serves_a_kind() -> None:
    told = set()
    for seed in range(80):
        for anomaly in label(SpriteWorld().draw(seed, size=64, count=1, kinds=("floating",)), SIDE).answer or ():
            assert read_anomalies(write_anomalies([anomaly])) == (anomaly,)
            told.add(anomaly.reasoning.split(" the ")[0])
            assert anomaly.name.removesuffix(" in mid-air").lower() in thing_names()
    assert told == {"Gravity pulls"}


@pytest.mark.parametrize("scenes", ["world", "by_lamp_light", "aloft"])
def test_a_shard_is_the_same_each_time_and_holds_no_combination_that_is_held_out(
    tmp_path: Path, scenes: Scenes
) -> None:
    size = Size(pictures=40, side=84, scenes=scenes)
    first, again = (read_shard(draw_shard(tmp_path / name, 3, size)) for name in "ab")
    assert np.array_equal(first.pictures, again.pictures)
    assert first.answers == again.answers
    assert len(first.answers) == 40
    names = thing_names()
    for things, kinds in zip(first.things, first.kinds, strict=True):
        for thing, kind in zip(things.ravel(), kinds.ravel(), strict=True):
            # The second thing of an intersection may be any.
            if kind and KINDS[kind - 1] != "intersection":
                assert not held_out(KINDS[kind - 1], names[thing - 1])


def test_about_a_tenth_is_held_out() -> None:
    share = np.mean([held_out(kind, thing) for kind in KINDS for thing in thing_names()])
    assert 0.08 < share < 0.12


def test_what_is_no_scene_comes_in_many_kinds_and_by_seed() -> None:
    one, two = (no_scene(np.random.default_rng(5)).tobytes() for _ in range(2))
    assert one == two
    assert len({no_scene(np.random.default_rng(k)).tobytes() for k in range(20)}) == 20
