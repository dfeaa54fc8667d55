"""Facts about the triangles of things: vendored models, their parts, cutting and moving."""

import numpy as np
import pytest

from anomreason.errors import UsageError
from anomreason.scenes.rooms.meshes import (
    Finish,
    MeshPart,
    bounds,
    box,
    clipped,
    model,
    normals,
    selected,
    split_off,
    transformed,
    turned,
)
from anomreason.scenes.rooms.room import build, shift, table, turn
from anomreason.scenes.rooms.violations import masks

CLAY = Finish((0.5, 0.4, 0.3))


def area(part: MeshPart) -> float:
    corners = part.corners
    return float(
        np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1).sum() / 2
    )


@pytest.mark.parametrize("thing", table().things, ids=lambda thing: thing.name)
def test_things_have_their_size_of_the_table_and_stand_on_the_floor(thing):
    mesh, colour = build(thing, np.random.default_rng(1))
    low, high = bounds(mesh)
    assert abs(low[2]) < 0.03
    assert abs((high[2] - low[2]) * 100 - thing.size_cm) < max(8.0, 0.08 * thing.size_cm)
    assert colour in (thing.colours or (thing.colour,))


@pytest.mark.parametrize("thing", [t for t in table().things if t.parts], ids=lambda thing: thing.name)
def test_every_part_of_the_table_is_found_and_is_not_the_whole(thing):
    mesh, _ = build(thing, np.random.default_rng(1))
    for part in thing.parts:
        taken, rest = split_off(mesh, masks(mesh, part))
        assert taken, part.name
        assert rest, part.name


def test_every_vendored_model_is_named_with_author_and_licence():
    from importlib.resources import files

    folder = files("anomreason.scenes") / "rooms" / "models"
    notice = (folder / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    models = [path.name for path in folder.iterdir() if path.name.endswith(".npz")]
    assert 40 <= len(models) <= 80
    for name in models:
        line = next(line for line in notice.splitlines() if line.startswith(f"{name}; "))
        assert line.endswith("; CC0 1.0")
        assert len(line.split("; ")) == 4


def test_all_models_together_stay_small():
    from importlib.resources import files

    folder = files("anomreason.scenes") / "rooms" / "models"
    assert sum(len(path.read_bytes()) for path in folder.iterdir()) <= 8_000_000


def test_an_unknown_model_is_said_to_be_missing():
    with pytest.raises(UsageError, match="no model 'spaceship'"):
        model("spaceship")


def test_cutting_a_box_in_two_keeps_its_surface():
    whole = box("b", (0, 0, 0.5), (1, 1, 1), CLAY)
    halves = [clipped((whole,), 0, 0.2, above) for above in (False, True)]
    assert sum(area(part) for half in halves for part in half) == pytest.approx(area(whole))
    assert bounds(halves[0])[1, 0] == pytest.approx(0.2)
    assert bounds(halves[1])[0, 0] == pytest.approx(0.2)


def test_only_pieces_wholly_inside_a_box_are_selected():
    two = (box("a", (0, 0, 0.5), (1, 1, 1), CLAY), box("b", (3, 0, 0.5), (1, 1, 1), CLAY))
    left = selected(two, np.array([[0, 0, 0], [0.5, 1, 1]]))
    assert [mask.all() for mask in left] == [True, False]
    assert not any(mask.any() for mask in selected(two, np.array([[0, 0, 0], [0.1, 1, 1]])))


def test_round_bodies_are_shaded_round_and_boxes_are_not():
    pole = turned("p", [(0.5, 0.0), (0.5, 1.0)], CLAY)
    outward = pole.corners * [1, 1, 0]
    outward /= np.linalg.norm(outward, axis=2, keepdims=True)
    assert (np.abs((normals(pole) * outward).sum(axis=2)) > 0.99).all()
    flat = normals(box("b", (0, 0, 0), (1, 1, 1), CLAY))
    assert np.allclose(np.abs(flat).max(axis=2), 1.0)


def test_a_quarter_turn_moves_the_front_to_the_right():
    front = (box("b", (0, -1, 0), (0.1, 0.1, 0.1), CLAY),)
    moved = transformed(front, shift(5, 0, 0) @ turn(np.pi / 2))
    assert bounds(moved).mean(axis=0) == pytest.approx([6, 0, 0])
