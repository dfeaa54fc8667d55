"""The sprites world: what a seed draws, and that all that is said of it is true of its pixels."""

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from itertools import combinations

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from anomreason.anomaly import Kind, Region
from anomreason.errors import UsageError
from anomreason.scenes.phrases import levels
from anomreason.scenes.scene import Scene
from anomreason.scenes.sprites.layout import lay_out
from anomreason.scenes.sprites.scene import drawn_height, overlap
from anomreason.scenes.sprites.table import LOOKS, table
from anomreason.scenes.sprites.world import SpriteWorld, plant

WORLD = SpriteWorld()
LIGHT_EVERYWHERE = ("lighting", "function")
"""Kinds that may change the light of the whole image: outside the region a twin may differ."""
SIZE = 96
LIGHT_MARGIN = 0.4
"""How far from a violation its shadow, mirror image or lamp light may change the image, in fractions of the edge."""


def pixels(image: Image.Image) -> NDArray[np.int16]:
    return np.asarray(image, dtype=np.int16)


def changed(a: Image.Image, b: Image.Image) -> NDArray[np.bool_]:
    return np.asarray((pixels(a) != pixels(b)).any(axis=2))


def box(region: Region, size: int) -> tuple[int, int, int, int]:
    return tuple(round(v * size) for v in (region.x0, region.y0, region.x1, region.y1))  # type: ignore[return-value]


def planted_scenes() -> Iterator[Scene]:
    """A few scenes of every kind."""
    for kind in WORLD.kinds:
        found = 0
        for seed in range(400):
            drawn = WORLD.draw(seed, size=SIZE, count=1, kinds=(kind,))
            if drawn.planted:
                found += 1
                yield drawn
            if found == 4:
                break
        assert found == 4, f"{kind} in fewer than four of 400 seeds"


@pytest.fixture(scope="module")
def scenes() -> list[Scene]:
    return list(planted_scenes())


def test_the_same_arguments_give_the_same_bytes() -> None:
    for seed in range(8):
        one, other = (WORLD.draw(seed, size=SIZE, count=2) for _ in range(2))
        assert one.image.tobytes() == other.image.tobytes()
        assert [t.image.tobytes() for t in one.twins] == [t.image.tobytes() for t in other.twins]
        assert one.planted == other.planted
        assert one.objects == other.objects


def test_another_process_with_another_hash_seed_gives_the_same_bytes() -> None:
    code = (
        "import hashlib; from anomreason.scenes.sprites.world import SpriteWorld\n"
        "d = [SpriteWorld().draw(s, size=64, count=2) for s in (9, 4)]\n"
        "print(hashlib.sha256(b''.join(x.image.tobytes() + repr(x.planted).encode() for x in d)).hexdigest())"
    )
    runs = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": s, "PYTHONPATH": ":".join(sys.path)},
            capture_output=True, text=True, check=True,
        ).stdout
        for s in ("1", "2")
    }  # fmt: skip
    assert len(runs) == 1
    assert len(runs.pop().strip()) == 64


def test_the_clean_scene_does_not_depend_on_what_is_asked_to_be_wrong() -> None:
    for seed in range(12):
        clean = WORLD.draw(seed, size=SIZE)
        assert clean.planted == ()
        assert clean.twins == ()
        for kinds in ((), ("split",), ("floating", "colour")):
            drawn = WORLD.draw(seed, size=SIZE, count=1, kinds=kinds)
            for twin in drawn.twins:
                assert twin.image.tobytes() == clean.image.tobytes()
                assert twin.objects == clean.objects


def test_seeds_differ_and_all_places_come() -> None:
    assert len({WORLD.draw(seed, size=32).image.tobytes() for seed in range(30)}) == 30
    assert {lay_out(seed).place for seed in range(300)} == {look.name for look in LOOKS}


def test_a_region_lies_in_the_image_and_covers_changed_pixels_of_its_objects(scenes: list[Scene]) -> None:
    for drawn in scenes:
        (planted,) = drawn.planted
        assert planted.anomaly.region is not None
        x0, y0, x1, y1 = box(planted.anomaly.region, SIZE)
        inside = changed(drawn.image, drawn.twins[0].image)[y0:y1, x0:x1]
        assert inside.any(), planted
        edges = (inside[0], inside[-1], inside[:, 0], inside[:, -1])
        assert all(edge.any() for edge in edges), f"the region of {planted} is larger than what changed"


def test_outside_the_region_and_its_shadow_the_twin_is_identical(scenes: list[Scene]) -> None:
    for drawn in scenes:
        (planted,) = drawn.planted
        difference = changed(drawn.image, drawn.twins[0].image)
        if planted.kind in LIGHT_EVERYWHERE:
            continue
        region = planted.anomaly.region
        assert region is not None
        reach = LIGHT_MARGIN + (region.y1 - region.y0)
        x0, y0, x1, y1 = region.x0 - reach, region.y0 - 0.02, region.x1 + reach, region.y1 + reach
        far = difference.copy()
        far[max(0, int(y0 * SIZE)) : int(y1 * SIZE) + 1, max(0, int(x0 * SIZE)) : int(x1 * SIZE) + 1] = False
        assert not far.any(), planted


def test_what_changes_outside_the_region_belongs_to_no_other_thing(scenes: list[Scene]) -> None:
    for drawn in scenes:
        (planted,) = drawn.planted
        if planted.kind in LIGHT_EVERYWHERE or planted.kind in ("shadow", "reflection"):
            continue
        assert planted.anomaly.region is not None
        difference = changed(drawn.image, drawn.twins[0].image)
        x0, y0, x1, y1 = box(planted.anomaly.region, SIZE)
        difference[y0:y1, x0:x1] = False
        for i in set(range(len(drawn.objects))) - set(planted.objects):
            mine = drawn.owners == i + 1
            # half-transparent edges and glass let a changed shadow show through
            assert (mine & difference).sum() <= 0.2 * mine.sum(), (planted, drawn.objects[i].name)


def test_several_violations_are_of_different_kinds_and_each_twin_mends_one() -> None:
    full = 0
    for seed in range(40):
        drawn = WORLD.draw(seed, size=SIZE, count=3)
        assert len(drawn.twins) == len(drawn.planted)
        assert len({p.kind for p in drawn.planted}) == len(drawn.planted)
        assert len({i for p in drawn.planted for i in p.objects}) == sum(len(p.objects) for p in drawn.planted)
        full += len(drawn.planted) == 3
        for planted, twin in zip(drawn.planted, drawn.twins, strict=True):
            x0, y0, x1, y1 = box(planted.anomaly.region, SIZE) if planted.anomaly.region else (0, 0, 0, 0)
            assert changed(drawn.image, twin.image)[y0:y1, x0:x1].any()
    assert full >= 30


def test_in_a_clean_scene_nothing_lies_over_another_thing_but_what_stands_on_it() -> None:
    for seed in range(300):
        items = lay_out(seed).items
        assert 2 <= len(items) <= 6
        for (i, a), (j, b) in combinations(enumerate(items), 2):
            if a.host == j or b.host == i:
                continue
            assert overlap(a.box, b.box) == 0, (seed, a.thing, b.thing)


def test_sizes_keep_their_order_at_one_depth() -> None:
    heights = [drawn_height(cm, 0.3, 150) for cm in (2, 8, 30, 59, 61, 150, 600, 2000)]
    assert heights == sorted(heights)
    assert drawn_height(60, 0.3, 150) == pytest.approx(drawn_height(60.0001, 0.3, 150), rel=1e-4)


def test_most_kinds_occur_in_most_seeds() -> None:
    counts: Counter[Kind] = Counter()
    seeds = 80
    for seed in range(seeds):
        stage = lay_out(seed)
        for kind in WORLD.kinds:
            counts[kind] += bool(plant(stage, 1, (kind,), lambda _k, _t: True, np.random.default_rng((seed, 2))))
    assert len(WORLD.kinds) >= 12
    for kind in ("floating", "orientation", "out_of_place", "missing_part", "split"):
        assert counts[kind] / seeds >= 0.85, (kind, counts[kind])
    for kind in ("intersection", "scale", "duplicated_part", "colour", "shadow"):
        assert counts[kind] / seeds >= 0.55, (kind, counts[kind])
    assert all(counts[kind] for kind in WORLD.kinds)


def test_every_seed_holds_some_violation() -> None:
    for seed in range(150):
        assert plant(lay_out(seed), 1, WORLD.kinds, lambda _k, _t: True, np.random.default_rng((seed, 2))), seed


def test_only_the_kinds_and_things_that_are_allowed_are_touched() -> None:
    for seed in range(30):
        drawn = WORLD.draw(seed, size=48, count=3, kinds=("split", "colour"))
        assert {p.kind for p in drawn.planted} <= {"split", "colour"}
        kept = WORLD.draw(seed, size=48, count=2, allow=lambda kind, thing: kind != "split" and thing > "m")
        assert all(p.kind != "split" and p.anomaly.objects[0] > "m" for p in kept.planted)
        assert WORLD.draw(seed, size=48, count=2, allow=lambda _k, _t: False).planted == ()


def test_the_quadruple_is_whole_and_names_what_can_be_seen(scenes: list[Scene]) -> None:
    for drawn in scenes:
        (planted,) = drawn.planted
        anomaly = planted.anomaly
        for text in (anomaly.name, anomaly.phenomenon, anomaly.reasoning):
            assert "{" not in text
            assert "  " not in text
            assert not text.startswith(" ")
        assert anomaly.severity == levels(planted.kind)[planted.level]
        assert anomaly.objects == tuple(drawn.objects[i].name for i in planted.objects)
        assert anomaly.phenomenon.endswith((".", "!"))


def test_owners_agree_with_the_boxes(scenes: list[Scene]) -> None:
    for drawn in scenes:
        assert drawn.owners.shape == (SIZE, SIZE)
        assert drawn.owners.dtype == np.uint8
        assert drawn.owners.max() <= len(drawn.objects)
        for i, shown in enumerate(drawn.objects):
            x0, y0, x1, y1 = box(shown.region, SIZE)
            mine = drawn.owners == i + 1
            assert mine.any(), shown
            assert mine.sum() == mine[y0:y1, x0:x1].sum()
            assert shown.synonyms == table().named(shown.name).synonyms


def test_twins_show_the_objects_of_the_mended_scene(scenes: list[Scene]) -> None:
    for drawn in scenes:
        names = [o.name for o in drawn.objects]
        twin = [o.name for o in drawn.twins[0].objects]
        if drawn.planted[0].kind in ("out_of_place", "function", "lighting"):
            assert names != twin or drawn.planted[0].level == "dark_lamp"
        else:
            assert names == twin


@pytest.mark.parametrize("size", [64, 200, 512])
def test_a_size_changes_the_image_but_not_the_scene(size: int) -> None:
    small, large = WORLD.draw(3, size=48, count=2), WORLD.draw(3, size=size, count=2)
    assert large.image.size == (size, size)
    assert large.image.mode == "RGB"
    assert [(p.kind, p.anomaly.name) for p in large.planted] == [(p.kind, p.anomaly.name) for p in small.planted]


def test_names_that_are_plural_are_said_to_be() -> None:
    for thing in table().things:
        several = thing.name.endswith("s") and not thing.name.endswith(("ss", "us", "os"))
        assert thing.plural == several, thing.name


def test_what_cannot_be_drawn_is_a_usage_error() -> None:
    for wrong in ({"size": 8}, {"size": 64, "count": -1}, {"size": 64, "kinds": ("melting",)}):
        with pytest.raises(UsageError):
            WORLD.draw(1, **wrong)  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        WORLD.draw(-1, size=64)
