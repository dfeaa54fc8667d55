"""With cut-outs in a picture every token is still named by what covers it, whatever was done to the cut-out."""

from __future__ import annotations

import numpy as np
import pytest
from tools.tiny.corpus import held_out, thing_names
from tools.tiny.cutouts import (
    LARGEST,
    SMALLEST,
    TURNED,
    UNKNOWN,
    Cutout,
    View,
    _softened,
    changed,
    changed_tokens,
    cut,
    drawn,
    repainted,
    tokens,
    told_upright,
    with_cutouts,
)

from anomreason.scenes.sprites.table import table
from tools.tiny import cutouts

SIDE = 196
DOG, BALL, HORSE = (1 + thing_names().index(name) for name in ("dog", "football", "horse"))


def view(thing: int = DOG, turned: int = 0) -> View:
    """On grey, a thing up on the right whose left half is red and whose right half is blue."""
    picture = np.full((SIDE, SIDE, 3), 128, dtype=np.uint8)
    outlines = np.zeros((SIDE, SIDE), dtype=np.uint8)
    picture[24:72, 60:120], picture[24:72, 120:180] = (200, 40, 90), (20, 40, 190)
    outlines[24:72, 60:180] = thing
    return View(picture, outlines, np.where(outlines > 0, turned, 0).astype(np.uint8))


def empty() -> View:
    nothing = np.zeros((SIDE, SIDE), dtype=np.uint8)
    return View(np.full((SIDE, SIDE, 3), 128, dtype=np.uint8), nothing, nothing)


def piece_of(seed: int) -> View:
    """The dog, changed."""
    found = (cut(np.random.default_rng([seed, k]), view(), DOG) for k in range(99))
    return next(one.piece for one in found if one and one.corner is None)


def both(seed: int) -> list[Cutout]:
    rng = np.random.default_rng([seed, 1])
    return [one for one in (cut(rng, view(), DOG), cut(rng, view(BALL), BALL)) if one]


def test_labels_are_where_the_thing_is_set_down_and_nowhere_else() -> None:
    there = 0
    for seed in range(60):
        made, touched = with_cutouts(np.random.default_rng(seed), empty(), both(seed))
        seen = np.ptp(made.picture.astype(int), axis=2) > 60
        labelled = made.outlines > 0
        assert not (labelled & ~touched).any()
        assert (made.picture[~touched] == 128).all()
        # A tint colours what is around the thing as well; faded edges are neither.
        assert (labelled & ~seen).sum() <= 0.3 * labelled.sum()
        there += set(np.unique(made.outlines)) >= {DOG, BALL}
    assert there > 40  # for two large ones there is not always room


def test_what_stands_in_the_picture_stays_as_it_was() -> None:
    for seed in range(40):
        whole = view(HORSE)
        made, touched = with_cutouts(np.random.default_rng(seed), whole, both(seed))
        assert not (touched & (whole.outlines > 0)).any()
        assert np.array_equal(made.picture[24:72, 60:180], whole.picture[24:72, 60:180])
        assert np.array_equal(whole.picture, view(HORSE).picture)
    full = View(whole.picture, np.full((SIDE, SIDE), HORSE, np.uint8), whole.turned)
    made, touched = with_cutouts(np.random.default_rng(0), full, both(0))
    assert not touched.any()
    assert np.array_equal(made.picture, full.picture)


def test_the_same_seed_makes_the_same_picture() -> None:
    one, two = (with_cutouts(np.random.default_rng(4), empty(), both(4))[0] for _ in range(2))
    assert np.array_equal(one.picture, two.picture)
    assert np.array_equal(one.outlines, two.outlines)


def test_what_is_turned_is_known_to_be_turned() -> None:
    told = []
    whole = view()
    piece = View(*(part[20:76, 56:184] for part in (whole.picture, whole.outlines, whole.turned)))
    for seed in range(60):
        made = changed(np.random.default_rng(seed), piece)
        (state,) = set(made.turned[made.outlines > 0].tolist())
        upright = made.outlines.shape == piece.outlines.shape and state == 0
        told.append(state == TURNED)
        assert upright or state == TURNED
        again = changed(np.random.default_rng(seed), View(piece.picture, piece.outlines, piece.turned + UNKNOWN))
        if state == TURNED:
            assert set(again.turned.ravel().tolist()) == {UNKNOWN}
    assert 15 < sum(told) < 45


def test_labels_turn_with_the_picture() -> None:
    """Red is left and blue right in the picture; so are two labels made to be."""
    whole = view()
    outlines = whole.outlines.copy()
    outlines[24:72, 120:180] = BALL
    for seed in range(40):
        made = changed(np.random.default_rng(seed), View(whole.picture, outlines, whole.turned))
        red, blue = (made.picture[..., k] for k in (0, 2))
        if np.ptp(made.picture.reshape(-1, 3), axis=0).min() < 20 or (red.max(), blue.max()) != (200, 190):
            continue  # tinted
        assert set(made.outlines[red == 200].tolist()) == {DOG}
        assert set(made.outlines[blue == 190].tolist()) == {BALL}


def test_tokens_of_a_thing_without_an_upper_side_are_not_asked_for_it() -> None:
    things, turned = tokens(view(DOG, TURNED))
    assert set(turned[things == DOG].tolist()) == {1}
    things, turned = tokens(view(BALL, TURNED))
    assert not told_upright()[BALL]
    assert (things == BALL).any()
    assert set(turned.tolist()) == {-1}


def test_a_splinter_of_a_thing_has_no_label() -> None:
    outlines = np.zeros((SIDE, SIDE), dtype=np.uint8)
    outlines[0:4, :20] = DOG  # 80 of the 784 pixels of the first token
    outlines[28:56, 0:16] = DOG  # 448 in the one below
    things, _ = tokens(View(np.zeros((SIDE, SIDE, 3), np.uint8), outlines, np.zeros_like(outlines)))
    assert things.tolist()[:8] == [-1, 0, 0, 0, 0, 0, 0, DOG]
    touched = np.zeros((SIDE, SIDE), dtype=np.bool_)
    touched[32, 12] = True
    assert np.flatnonzero(changed_tokens(touched)).tolist() == [7]


def test_cut_outs_are_of_all_sizes_and_hold_their_thing() -> None:
    pieces = [piece_of(seed) for seed in range(40)]
    edges = [max(piece.outlines.shape) for piece in pieces]
    assert min(edges) < 72
    assert max(edges) > 112
    assert all((piece.outlines == DOG).mean() > 0.3 for piece in pieces)
    assert cut(np.random.default_rng(0), view(), BALL) is None


def test_a_silhouette_is_the_thing_alone() -> None:
    piece = piece_of(1)
    cover = _softened(piece.outlines > 0)
    assert (cover[piece.outlines > 0] >= 0.5).all()
    assert (cover[piece.outlines == 0] < 0.5).all()
    high, wide = (np.ptp(edge) + 1 for edge in np.nonzero(piece.outlines))
    assert (cover > 0).sum() <= high * wide + 2 * (high + wide)


def test_what_stays_as_it_stood_keeps_place_size_and_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cutouts, "AS_IT_STOOD", 1.0)
    monkeypatch.setattr(cutouts, "SHADOWED", 0.0)
    whole, rng = view(), np.random.default_rng(0)
    stood = cut(rng, whole, DOG)
    assert stood is not None
    made, touched = with_cutouts(rng, empty(), [stood])
    assert np.array_equal(made.outlines, whole.outlines)
    assert np.array_equal(touched, whole.outlines > 0)
    inside = np.s_[26:70, 62:178]
    assert np.array_equal(made.picture[inside], whole.picture[inside])
    whole.outlines[24:72, 120:180] = BALL  # beside it another thing, which is left where it is
    stood = cut(rng, whole, DOG)
    assert stood is not None
    made, _ = with_cutouts(rng, empty(), [stood])
    assert set(np.unique(made.outlines).tolist()) == {0, DOG}
    assert (made.picture[:, 121:] == 128).all()


def test_one_thing_is_repainted_and_nothing_else() -> None:
    whole = view()
    whole.outlines[24:72, 120:180] = BALL
    hues = []
    for seed in range(40):
        made, touched = repainted(np.random.default_rng(seed), whole)
        (thing,) = set(whole.outlines[touched].tolist())
        assert np.array_equal(touched, whole.outlines == thing)
        assert np.array_equal(made.picture[~touched], whole.picture[~touched])
        assert np.array_equal(made.outlines, whole.outlines)
        hues.append(tuple(made.picture[48, 90 if thing == DOG else 150].tolist()))
    assert len(set(hues)) > 20
    made, touched = repainted(np.random.default_rng(0), empty())
    assert not touched.any()
    assert np.array_equal(made.picture, empty().picture)


def test_a_thing_s_own_picture_is_cut_out_in_any_size_with_its_label() -> None:
    made = [drawn(np.random.default_rng(seed), "horse", SIDE) for seed in range(40)]
    assert all(one.corner is None for one in made)
    assert {tuple(np.unique(one.piece.outlines).tolist()) for one in made} == {(0, HORSE)}
    edges = [max(one.piece.outlines.shape) for one in made]
    assert SMALLEST <= min(edges) < 40
    assert 110 < max(edges) <= LARGEST * SIDE + 1
    turned = [set(one.piece.turned.ravel().tolist()) for one in made]
    assert 10 < sum(state == {TURNED} for state in turned) < 30
    assert all(state in ({0}, {TURNED}) for state in turned)


def test_of_a_held_out_turning_nothing_is_told() -> None:
    names = [t.name for t in table().things if t.up and held_out("orientation", t.name)]
    assert len(names) > 5
    for name in names:
        for state in (0, TURNED):
            things, turned = tokens(view(1 + thing_names().index(name), state))
            assert (things > 0).any()
            assert set(turned.tolist()) == {-1}
