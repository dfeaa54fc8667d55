"""Facts about the numbers of boxes: beside their own box in whatever size, within the margin, none on another."""

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.badges import Box, margin, place_badges

WIDTHS = (240.0, 480.0, 960.0)
SHARES = st.tuples(st.integers(0, 99), st.integers(1, 100))


@st.composite
def boxes(draw: st.DrawFn) -> list[Box]:
    """Boxes of any size, the edges of the image and equal ones included."""
    sides = draw(st.lists(st.tuples(SHARES, SHARES), min_size=1, max_size=8))
    return [(x / 100, y / 100, min(x + w, 100) / 100, min(y + h, 100) / 100) for (x, w), (y, h) in sides]


def shared(a: Box, b: Box) -> bool:
    return min(a[2], b[2]) - max(a[0], b[0]) > 1e-6 and min(a[3], b[3]) - max(a[1], b[1]) > 1e-6


@settings(max_examples=60, deadline=None)
@given(boxes(), st.sampled_from([0.5, 1.0, 2.0]))
def test_a_number_is_never_on_its_box_and_stays_within_the_margin(found: list[Box], ratio: float) -> None:
    badges = place_badges(found, WIDTHS, ratio)
    for width in (*WIDTHS, 333.0, 2000.0):
        height = width * ratio
        for badge, (x0, y0, x1, y1) in zip(badges, found, strict=True):
            square = badge.square(width, height)
            assert not shared(square, (x0 * width, y0 * height, x1 * width, y1 * height))
            if width in WIDTHS:
                around = margin()
                assert min(square[:2]) >= -around - 1e-6
                assert square[2] <= width + around + 1e-6
                assert square[3] <= height + around + 1e-6


@settings(max_examples=60, deadline=None)
@given(boxes())
def test_numbers_do_not_cover_each_other(found: list[Box]) -> None:
    badges = place_badges(found, WIDTHS, 1.0)
    for width in WIDTHS:
        squares = [badge.square(width, width) for badge in badges]
        assert [pair for pair in combinations(squares, 2) if shared(*pair)] == []


def test_a_number_leads_to_its_box_by_a_line_only_when_it_stands_apart() -> None:
    dot = (0.5, 0.5, 0.501, 0.501)
    assert [badge.apart for badge in place_badges([dot], WIDTHS, 1.0)] == [False]
    assert any(badge.apart for badge in place_badges([dot] * 12, WIDTHS, 1.0))
