"""Which names a text holds."""

import pytest

from anomreason.metrics.mentions import Names

NAMES = Names(
    [
        "table",
        "table lamp",
        "lamp",
        "car",
        "fire truck",
        "scissors",
        "knife",
        "glass of milk",
        "glass",
        "T-shirt",
        "jack-o'-lantern",
    ]
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The table floats.", {"table"}),
        ("Table lamp in mid-air", {"table lamp"}),
        ("A lamp on the table", {"lamp", "table"}),
        ("Two TABLES and three table lamps", {"table", "table lamp"}),
        ("The car's wheels", {"car"}),
        ("A scar, a carpet and a tablecloth", set()),
        ("firetruck, fire-truck, fire trucks", {"fire truck"}),
        ("A pair of scissors", {"scissors"}),
        ("Knives without blades", {"knife"}),
        ("glasses of milk", {"glass of milk"}),
        ("A glass, of milk", {"glass"}),
        ("An inverted t-shirt", {"t shirt"}),
        ("The car lamp", {"lamp"}),
        ("A jack-o'-lantern", {"jack o lantern"}),
        ("A car, lamp and table", {"car", "lamp", "table"}),
        ("", set()),
    ],
)
def test_whole_words_the_longest_name_any_number(text: str, expected: set[str]) -> None:
    assert NAMES.mentioned(text) == expected


def test_without_names_nothing_is_mentioned() -> None:
    assert Names([]).mentioned("A car") == frozenset()
    assert Names(["", "-"]).mentioned("A - car") == frozenset()


def test_names_can_be_masked() -> None:
    assert NAMES.masked("Two Table lamps, a car's wheel") == "Two thing, a thing's wheel"
    assert NAMES.masked("nothing here") == "nothing here"
