"""With cut-outs in a picture every token is still named by what covers it, whatever was done to the cut-out."""

from __future__ import annotations

import numpy as np

from anomreason.training.tiny.corpus import GRAIN, thing_names
from anomreason.training.tiny.cutouts import (
    TURNED,
    UNKNOWN,
    View,
    _changed,
    _cut,
    changed_tokens,
    sided,
    tokens,
    with_cutouts,
)

SIDE = 196
CELLS = SIDE // GRAIN
DOG, BALL, HORSE = (1 + thing_names().index(name) for name in ("dog", "football", "horse"))


def view(thing: int = DOG, turned: int = 0) -> View:
    """On grey, a thing up on the right whose left half is red and whose right half is blue."""
    picture = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    outlines = np.zeros((CELLS, CELLS), dtype=np.uint8)
    picture[24:72, 60:120], picture[24:72, 120:180] = (200, 40, 90), (20, 40, 190)
    outlines[6:18, 15:45] = thing
    return View(picture, outlines, np.where(outlines > 0, turned, 0).astype(np.uint8))


def empty() -> View:
    nothing = np.zeros((CELLS, CELLS), dtype=np.uint8)
    return View(np.full((SIDE, SIDE, 3), 128, dtype=np.uint8), nothing, nothing)


def test_labels_are_where_the_thing_is_set_down_and_nowhere_else() -> None:
    there = 0
    for seed in range(60):
        made, touched = with_cutouts(np.random.default_rng(seed), empty(), [view(), view(BALL)])
        coloured = np.ptp(made.picture.astype(int), axis=2) > 60
        seen = coloured.reshape(CELLS, GRAIN, CELLS, GRAIN).mean(axis=(1, 3)) > 0.5
        labelled = made.outlines > 0
        assert not (labelled & ~touched).any()
        assert (made.picture[~np.kron(touched, np.ones((GRAIN, GRAIN), bool))] == 128).all()
        # A tint colours what is around the thing as well; faded edges are neither.
        assert (labelled & ~seen).sum() <= 0.3 * labelled.sum()
        there += set(np.unique(made.outlines)) >= {DOG, BALL}
    assert there > 40  # for two large ones there is not always room


def test_what_stands_in_the_picture_stays_as_it_was() -> None:
    for seed in range(40):
        whole = view(HORSE)
        made, touched = with_cutouts(np.random.default_rng(seed), whole, [view(), view(BALL)])
        assert not (touched & (whole.outlines > 0)).any()
        assert np.array_equal(made.picture[24:72, 60:180], whole.picture[24:72, 60:180])
        assert np.array_equal(whole.picture, view(HORSE).picture)
    full = View(whole.picture, np.full((CELLS, CELLS), HORSE, np.uint8), whole.turned)
    made, touched = with_cutouts(np.random.default_rng(0), full, [view()])
    assert not touched.any()
    assert np.array_equal(made.picture, full.picture)


def test_the_same_seed_makes_the_same_picture() -> None:
    one, two = (with_cutouts(np.random.default_rng(4), empty(), [view(), view(BALL)])[0] for _ in range(2))
    assert np.array_equal(one.picture, two.picture)
    assert np.array_equal(one.outlines, two.outlines)


def test_what_is_turned_is_known_to_be_turned() -> None:
    told = []
    for seed in range(60):
        piece = _cut(np.random.default_rng(seed), view())
        assert piece is not None
        made = _changed(np.random.default_rng(seed), piece)
        (state,) = set(made.turned[made.outlines > 0].tolist())
        upright = made.outlines.shape == piece.outlines.shape and state == 0
        told.append(state == TURNED)
        assert upright or state == TURNED
        again = _changed(np.random.default_rng(seed), View(piece.picture, piece.outlines, piece.turned + UNKNOWN))
        if state == TURNED:
            assert set(again.turned.ravel().tolist()) == {UNKNOWN}
    assert 15 < sum(told) < 45


def test_labels_turn_with_the_picture() -> None:
    """Red is left and blue right in the picture; so are two labels made to be."""
    whole = view()
    outlines = whole.outlines.copy()
    outlines[6:18, 30:45] = BALL
    for seed in range(40):
        made = _changed(np.random.default_rng(seed), View(whole.picture, outlines, whole.turned))
        red, blue = (made.picture.reshape(CELLS, GRAIN, CELLS, GRAIN, 3).mean(axis=(1, 3))[..., k] for k in (0, 2))
        if np.ptp(made.picture.reshape(-1, 3), axis=0).min() < 20 or (red.max(), blue.max()) != (200, 190):
            continue  # tinted
        assert set(made.outlines[red == 200].tolist()) == {DOG}
        assert set(made.outlines[blue == 190].tolist()) == {BALL}


def test_tokens_of_a_thing_without_an_upper_side_are_not_asked_for_it() -> None:
    things, turned = tokens(view(DOG, TURNED))
    assert set(turned[things == DOG].tolist()) == {1}
    things, turned = tokens(view(BALL, TURNED))
    assert not sided()[BALL]
    assert (things == BALL).any()
    assert set(turned.tolist()) == {-1}


def test_a_splinter_of_a_thing_has_no_label() -> None:
    outlines = np.zeros((CELLS, CELLS), dtype=np.uint8)
    outlines[0, :5] = DOG  # 5 of the 49 cells of the first token
    outlines[7:14, 0:4] = DOG  # 28 of 49, in the one below
    things, _ = tokens(View(np.zeros((SIDE, SIDE, 3), np.uint8), outlines, np.zeros_like(outlines)))
    assert things.tolist()[:8] == [-1, 0, 0, 0, 0, 0, 0, DOG]
    touched = np.zeros((CELLS, CELLS), dtype=np.bool_)
    touched[8, 3] = True
    assert np.flatnonzero(changed_tokens(touched)).tolist() == [7]


def test_cut_outs_are_of_all_sizes_and_hold_their_thing() -> None:
    pieces = [_cut(np.random.default_rng(seed), view()) for seed in range(40)]
    edges = [max(piece.outlines.shape) for piece in pieces if piece]
    assert len(edges) == 40
    assert min(edges) < 18
    assert max(edges) > 28
    assert all(piece is not None and (piece.outlines == DOG).mean() > 0.3 for piece in pieces)
    assert _cut(np.random.default_rng(0), empty()) is None
