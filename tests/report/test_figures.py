"""Plots of large numbers: inside their frame, on an axis with few digits."""

import re

from hypothesis import given
from hypothesis import strategies as st

from anomreason.report.figures import BOTTOM, HEIGHT, TOP, Group, Mark, bars


def test_an_axis_of_thousands_has_few_digits_and_the_bar_its_number() -> None:
    plot = bars([Group("flux", "", [Mark(6983, "5 more dropped")])], ("kept",), "Images", "source", "images")
    assert re.findall(r'class="tick end"[^>]*>([^<]*)', plot) == ["0", "2k", "4k", "6k", "8k"]
    assert "source flux: kept 6,983, 5 more dropped" in plot


@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=5))
def test_no_bar_leaves_the_frame(values: list[float]) -> None:
    plot = bars([Group("", "", [Mark(v, "") for v in values])], ["s"] * len(values), "t", "below", "beside")
    heights = [float(h) for h in re.findall(r'<rect [^>]*height="([^"]*)"', plot)]
    assert len(heights) == len(values)
    inside = HEIGHT - TOP - BOTTOM
    assert all(h <= inside for h in heights)
    if max(values) > 1:
        assert max(heights) > 0.5 * inside
