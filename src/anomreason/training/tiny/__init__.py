"""How `anomreason-tiny` is made: labelled pictures, vision tower, language model. See `tools/make_tiny.py`."""

from anomreason.scenes.scene import Kind

KNOWN: tuple[Kind, ...] = (
    "floating",
    "scale",
    "orientation",
    "out_of_place",
    "colour",
    "reflection",
    "function",
    "count",
)
"""Kinds that the bundled model was taught to name."""
