"""Facts about path-traced rooms. Images are small and coarse here: the checks need no more."""

from functools import lru_cache

import numpy as np
import pytest

pytest.importorskip("mitsuba")
pytest.importorskip("mitsuba_oidn")

from anomreason.errors import UsageError
from anomreason.scenes.rooms.layout import furnish, plans
from anomreason.scenes.rooms.room import differing, overlap
from anomreason.scenes.rooms.world import RoomWorld, clean_room
from anomreason.scenes.scene import Scene

LIGHT_EVERYWHERE = ("lighting", "function")
"""Kinds that may change the light of the whole image: outside the region a twin may differ."""
SIZE = 64
WORLD = RoomWorld(samples=2)
NOISE = 0.02
"""Share of the pixels outside of region and shadow that may differ visibly between a scene and its twin."""


SEVERAL = (3, 2, ("floating", "split"))
"""Arguments of a scene with two violations; rooms are slow to draw, so tests share scenes."""
ONE = (5, 1, ("colour", "out_of_place"))
LIGHT = (8, 2, ("reflection", "lighting"))
"""A room whose mirror and window are wrong, which no moved object can show."""


@lru_cache(maxsize=16)
def drawn(seed: int, count: int, kinds: tuple = ()) -> Scene:
    return WORLD.draw(seed, size=SIZE, count=count, kinds=kinds)


@pytest.mark.parametrize("place", list(plans()))
@pytest.mark.parametrize("seed", range(6))
def test_no_two_things_of_a_layout_overlap(place, seed):
    layout = furnish(place, np.random.default_rng(seed))
    things = [item for item in layout.items if item.thing.group != "rug"]
    for i, one in enumerate(things):
        for other in things[i + 1 :]:
            assert not overlap(one.box, other.box, -0.012), f"{one.phrase} and {other.phrase}"
        assert (one.box[0] >= [-layout.width / 2 - 0.02, 0, -0.02]).all()
        assert (one.box[1] <= [layout.width / 2 + 0.02, layout.depth + 0.02, layout.height]).all()


def test_an_unknown_kind_is_refused():
    with pytest.raises(UsageError, match="'rotting'"):
        WORLD.draw(1, size=SIZE, count=1, kinds=("rotting",))  # type: ignore[arg-type]


@pytest.mark.slow
def test_the_same_arguments_give_the_same_pixels():
    again = RoomWorld(samples=2).draw(5, size=SIZE, count=1, kinds=ONE[2])
    first = drawn(*ONE)
    assert np.array_equal(np.asarray(first.image), np.asarray(again.image))
    assert first.planted == again.planted


@pytest.mark.slow
def test_the_clean_scene_does_not_depend_on_what_is_planted():
    """With one violation its twin is the clean scene."""
    clean, wrong = drawn(5, 0), drawn(*ONE)
    assert wrong.planted
    assert np.array_equal(np.asarray(clean.image), np.asarray(wrong.twins[0].image))
    assert clean.objects == wrong.twins[0].objects


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [SEVERAL, ONE, LIGHT])
def test_regions_cover_what_changed_and_little_changes_elsewhere(arguments):
    scene = drawn(*arguments)
    assert scene.planted
    for planted, twin in zip(scene.planted, scene.twins, strict=True):
        different = differing(np.asarray(scene.image), np.asarray(twin.image), 30)
        region = planted.anomaly.region
        x0, y0, x1, y1 = (round(v * SIZE) for v in (region.x0, region.y0, region.x1, region.y1))
        assert different[y0:y1, x0:x1].any()
        if planted.kind not in LIGHT_EVERYWHERE:
            # The shadow lies below and beside the thing.
            pad = SIZE // 5
            outside = different.copy()
            outside[max(0, y0 - pad) : y1 + pad, max(0, x0 - pad) : x1 + pad] = False
            assert outside.mean() <= NOISE


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [SEVERAL, ONE, LIGHT])
def test_only_the_kinds_asked_for_are_planted(arguments):
    assert {planted.kind for planted in drawn(*arguments).planted} <= set(arguments[2])


@pytest.mark.slow
def test_only_the_objects_allowed_are_touched():
    names = {shown.name for shown in drawn(5, 0).objects}
    nothing = WORLD.draw(5, size=SIZE, count=2, allow=lambda kind, thing: thing not in names)
    assert not nothing.planted


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [SEVERAL, LIGHT])
def test_every_planted_anomaly_is_described_in_full_and_points_at_its_objects(arguments):
    scene = drawn(*arguments)
    assert len(scene.planted) >= 2
    assert len(scene.twins) == len(scene.planted)
    for planted in scene.planted:
        anomaly = planted.anomaly
        text = f"{anomaly.name} {anomaly.phenomenon} {anomaly.reasoning}"
        assert not set("{}_") & set(text)
        assert planted.objects
        assert scene.objects[planted.objects[0]].name in set(anomaly.objects)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [SEVERAL, LIGHT])
def test_owners_name_only_objects_that_are_listed_and_their_boxes(arguments):
    scene = drawn(*arguments)
    seen = set(np.unique(scene.owners).tolist()) - {0}
    assert seen == set(range(1, len(scene.objects) + 1))
    for k, shown in enumerate(scene.objects):
        rows, columns = np.nonzero(scene.owners == k + 1)
        box = (columns.min() / SIZE, rows.min() / SIZE, (columns.max() + 1) / SIZE, (rows.max() + 1) / SIZE)
        assert box == pytest.approx((shown.region.x0, shown.region.y0, shown.region.x1, shown.region.y1))


@pytest.mark.slow
def test_mirrors_and_windows_can_be_wrong():
    assert {planted.kind for planted in drawn(*LIGHT).planted} == {"reflection", "lighting"}


@pytest.mark.slow
def test_rooms_hold_several_things():
    assert all(4 <= len(clean_room(seed).items) <= 11 for seed in (3, 5, 8))
