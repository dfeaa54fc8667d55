"""Facts about tables on a terminal: no number is ever cut, whatever the width, and nothing is lost between blocks."""

import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from anomreason.cli.tables import TextTable, number, words


def printed(table: TextTable, width: int) -> str:
    out = io.StringIO()
    table.print(Console(file=out, width=width))
    return out.getvalue()


def sample(name: str = "x", groups: int = 3, hide_empty: bool = False) -> TextTable:
    heads = [[number(f"g{g}"), number("95 %\ninterval")] for g in range(groups)]
    table = TextTable("Title", [words("name")], [*heads, [words("said", 10)]], hide_empty)
    for row in range(3):
        cells = [cell for g in range(groups) for cell in (f"0.{row}{g}11", f"0.{row}{g}0–0.{row}{g}9")]
        table.add(f"{name}{row}", *cells, "what it is a share of")
    return table


@given(width=st.integers(8, 140), name=st.text("ab-", min_size=1, max_size=60), groups=st.integers(1, 6))
def test_every_number_is_whole_at_every_width(width: int, name: str, groups: int) -> None:
    text = printed(sample(name, groups), width)
    assert "…" not in text
    for row in range(3):
        for g in range(groups):
            assert text.count(f"0.{row}{g}11") == 1
            assert text.count(f"0.{row}{g}0–0.{row}{g}9") == 1
    assert text.count("Title") == 1


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_lines_stay_within_the_terminal(width: int) -> None:
    assert max(map(len, printed(sample("n" * 50, 5), width).splitlines())) <= width


def test_what_does_not_fit_stands_below_with_the_names_again() -> None:
    text = printed(sample(), 45)
    assert len(re.findall("name", text)) == 3
    assert len(re.findall("x1 ", text)) == 3
    assert len(re.findall("name", printed(sample(), 120))) == 1


def test_long_names_fold_rather_than_make_one_block_more() -> None:
    table = TextTable("", [words("name")], [[number("a" * 20)], [number("b" * 20)]])
    table.add("n" * 40, "1", "2")
    assert printed(table, 70).count("name") == 1
    assert printed(table, 110).count("n" * 40) == 1


def test_rows_without_numbers_are_left_out_of_a_block_when_asked() -> None:
    table = TextTable("", [words("name")], [[number("a" * 30)], [number("b" * 30)]], hide_empty=True)
    table.add("one", "1", "-")
    table.add("two", "2", "3")
    first, second = printed(table, 50).strip().split("\n\n")
    assert "one" in first
    assert "one" not in second
    assert "two" in second


def test_sections_are_set_apart_by_one_blank_line_and_none_at_the_end() -> None:
    table = TextTable("", [words("name")], [[number("a")]])
    for name in ("one", "two"):
        table.add(name, "1")
        table.section()
    assert [line.strip() for line in printed(table, 40).splitlines()] == ["", "name  a", "one   1", "", "two   1"]
