"""The world `rooms`: path-traced interiors of CC0 furniture; `world.py` is its way in."""
