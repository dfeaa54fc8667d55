"""English articles and plurals of noun phrases, which are given without an article: `red car`, `glass of milk`.

>>> with_article("hourglass"), plural("glass of milk")
('an hourglass', 'glasses of milk')
"""

from __future__ import annotations

import re

_AN_BEFORE_CONSONANT = re.compile(r"(?:hour|honest|honou?r|heir)|[8]|1[18](?!\d)|[fhlmnrsx]-")
"""Starts with a consonant or a digit in writing and with a vowel in speech."""
_A_BEFORE_VOWEL = re.compile(
    r"uni(?![nmd])|eu|ewe|us[eu]|ut[ei]|uk|ubi|ur[aie]|ufo|u-|u$|one(?![a-z])|once(?![a-z])|oui"
)
"""Starts with a vowel in writing and with `y` or `w` in speech."""
_SPOKEN_WITH_VOWEL = "AEFHILMNORSX"
"""Letters whose names start with a vowel."""
_IRREGULAR = {
    "person": "people",
    "child": "children",
    "foot": "feet",
    "tooth": "teeth",
    "goose": "geese",
    "mouse": "mice",
    "ox": "oxen",
    "cactus": "cacti",
    "leaf": "leaves",
    "knife": "knives",
    "loaf": "loaves",
    "shelf": "shelves",
    "wolf": "wolves",
    "calf": "calves",
    "scarf": "scarves",
    "potato": "potatoes",
    "tomato": "tomatoes",
    "hero": "heroes",
    "torpedo": "torpedoes",
    "volcano": "volcanoes",
    "mango": "mangoes",
}
_SAME = ("fish", "sheep", "deer", "bison", "moose", "salmon", "squid", "shrimp", "aircraft", "spacecraft", "hovercraft")
_NO_MEN = ("human", "shaman", "talisman", "caiman", "german", "roman")
MASS = frozenset(
    ["bread", "butter", "rice", "popcorn", "sushi", "spaghetti", "bacon", "coral", "water", "milk", "fire", "ice"]
)
"""Uncountable nouns."""


def counted(number: int, one: str, many: str) -> str:
    """`1 image`, `1,200 images`."""
    return f"{number:,} {one if number == 1 else many}"


def article(phrase: str) -> str:
    """`a` or `an`, by the sound that the phrase starts with."""
    first = re.split(r"\s", phrase.strip(), maxsplit=1)[0].lstrip("\"'(")
    letters = first.split("-")[0]
    if len(letters) > 1 and letters.isupper():
        return "an" if letters[0] in _SPOKEN_WITH_VOWEL else "a"
    word = first.lower()
    if _A_BEFORE_VOWEL.match(word):
        return "a"
    return "an" if word[:1] in "aeiou" or _AN_BEFORE_CONSONANT.match(word) else "a"


def with_article(phrase: str, plural: bool = False) -> str:
    """`an umbrella`; plural and mass nouns take no article."""
    return phrase if plural or is_mass(phrase) else f"{article(phrase)} {phrase}"


def is_mass(phrase: str) -> bool:
    return _head(phrase)[1].lower() in MASS


def plural(phrase: str) -> str:
    """The plural of a singular noun phrase; its head is the last word, or the one before `of`, `with`, `in`, `on`."""
    before, head, after = _head(phrase)
    return f"{before}{'pieces of ' + head if head.lower() in MASS else _plural(head)}{after}"


def _head(phrase: str) -> tuple[str, str, str]:
    cut = re.search(r"\s(?:of|with|in|on|for|without)\s", phrase)
    noun, after = (phrase[: cut.start()], phrase[cut.start() :]) if cut else (phrase, "")
    before, space, head = noun.rpartition(" ")
    return before + space, head, after


def _plural(word: str) -> str:
    low = word.lower()
    if low.endswith(_SAME):
        return word
    if low.endswith("man") and low not in _NO_MEN:
        return word[:-2] + "en"
    for one, many in _IRREGULAR.items():
        if low == one or (len(one) > 3 and low.endswith(one)):
            return word[: len(word) - len(one)] + many
    if re.search(r"(?:s|x|z|ch|sh)$", low):
        return word + "es"
    return word[:-1] + "ies" if re.search(r"[^aeiou]y$", low) else word + "s"
