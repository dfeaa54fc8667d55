"""Other things are lamps, or fly, where a scene has one that is or does; everything else stays."""

from __future__ import annotations

from tools.tiny.corpus import held_out, trained_on
from tools.tiny.standins import FLYING, aloft, by_lamp_light, stand_ins

from anomreason.scenes.sprites.world import SpriteWorld


def test_none_that_flies_is_held_out_turned() -> None:
    assert not [thing for thing in FLYING if held_out("orientation", thing)]


def test_many_things_are_lamps_and_their_light_is_all_that_a_twin_has_more() -> None:
    world, dark = SpriteWorld(by_lamp_light), set()
    for seed in range(40):
        stage = by_lamp_light(seed)
        lamps = [item.thing for item in stage.items if item.is_lamp]
        assert len(lamps) == 1
        drawn = world.draw(seed, size=64, count=1, kinds=("function",), allow=trained_on)
        if drawn.planted:
            (planted,), (twin,) = drawn.planted, drawn.twins
            assert planted.anomaly.objects == tuple(lamps)
            assert (planted.kind, planted.level) == ("function", "dark_lamp")
            assert sum(twin.image.convert("L").histogram()[160:]) > sum(drawn.image.convert("L").histogram()[160:])
            dark.add(lamps[0])
    assert len(dark) > 5
    assert "street lamp" not in dark


def test_many_things_are_turned_in_the_sky() -> None:
    world, turned = SpriteWorld(aloft), set()
    for seed in range(60):
        flying = stand_ins(aloft(seed))
        assert len(flying) <= 1
        drawn = world.draw(seed, size=64, count=1, kinds=("orientation",), allow=trained_on)
        for planted in drawn.planted:
            if set(planted.anomaly.objects) == flying:
                turned |= flying
    assert len(turned) > 5
