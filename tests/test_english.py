"""Articles by sound, and plurals."""

import pytest

from anomreason.english import article, plural, with_article


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("umbrella", "an"),
        ("unicorn", "a"),
        ("uninteresting poster", "an"),
        ("unidentified animal", "an"),
        ("unmade bed", "an"),
        ("hourglass", "an"),
        ("horse", "a"),
        ("honest dealer", "an"),
        ("European flag", "a"),
        ("eucalyptus tree", "a"),
        ("elephant", "an"),
        ("used tyre", "a"),
        ("usher", "an"),
        ("utensil", "a"),
        ("utter mess", "an"),
        ("ukulele", "a"),
        ("urn", "an"),
        ("urinal", "a"),
        ("one-armed bandit", "a"),
        ("onion", "an"),
        ("UFO", "a"),
        ("LED lamp", "an"),
        ("TV set", "a"),
        ("SUV", "an"),
        ("X-ray machine", "an"),
        ("U-shaped sofa", "a"),
        ("8-ball", "an"),
        ("11-inch screen", "an"),
        ("100-year-old tree", "a"),
        ("orange cat", "an"),
        ("red umbrella", "a"),
        ("yacht", "a"),
    ],
)
def test_an_goes_by_sound(phrase: str, expected: str) -> None:
    assert article(phrase) == expected


@pytest.mark.parametrize(
    ("phrase", "expected"),
    [
        ("red car", "red cars"),
        ("bus", "buses"),
        ("watch", "watches"),
        ("box", "boxes"),
        ("butterfly", "butterflies"),
        ("monkey", "monkeys"),
        ("bookshelf", "bookshelves"),
        ("knife", "knives"),
        ("goldfish", "goldfish"),
        ("sheep", "sheep"),
        ("snowman", "snowmen"),
        ("human", "humans"),
        ("mouse", "mice"),
        ("ox", "oxen"),
        ("fox", "foxes"),
        ("tomato", "tomatoes"),
        ("piano", "pianos"),
        ("giraffe", "giraffes"),
        ("glass of milk", "glasses of milk"),
        ("chest of drawers", "chests of drawers"),
        ("person with umbrella", "people with umbrella"),
        ("bread", "pieces of bread"),
    ],
)
def test_plural_of_the_head_noun(phrase: str, expected: str) -> None:
    assert plural(phrase) == expected


def test_plural_and_mass_nouns_take_no_article() -> None:
    assert with_article("scissors", plural=True) == "scissors"
    assert with_article("bread") == "bread"
    assert with_article("old umbrella") == "an old umbrella"
