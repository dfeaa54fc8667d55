"""The world `sprites`: flat pictures composed of emoji and drawn things; `world.py` is its way in."""
