"""The tags of prompts: what a prompt asks of a generator that generators are known to get wrong.

>>> plain_tag("People in  motion")
'people in motion'
"""

from __future__ import annotations

TAGS = {
    "objects interacting": "several objects that touch, support, hold or change one another",
    "people in motion": "people who walk, run, dance, climb, carry or play: whole bodies in action",
    "hands at work": "hands that grip, shape or handle something and are to be seen clearly",
    "animals": "one or several animals, wild or tame",
    "physics": "weight, balance, falling, wind, fire, smoke or forces, so that the scene shows what they do",
    "lettering": "words or numbers that are to be read in the image, on signs, labels, screens or paper",
    "reflections": "mirrors, polished surfaces, still water or marked shadows that have to fit what causes them",
    "glass and liquids": "glass and other transparent things, and water or other liquids that pour, splash or stand",
    "crowds and counting": "a crowd, a row of like things, or a stated number of things",
    "tools and machines": "tools, instruments, devices and machines with parts that fit one another",
    "food": "meals, ingredients, cooking and eating",
    "sport": "people at a sport or a game with its equipment",
    "vehicles": "cars, bicycles, boats, trains, carts and other vehicles",
}
"""The closed list, each with what it means; a prompt has one to three of them."""


def plain_tag(tag: str) -> str:
    """A tag in one spelling: that of the list for one of its tags, else as it is, without superfluous spaces."""
    words = " ".join(tag.split())
    return words.casefold() if words.casefold() in TAGS else words
