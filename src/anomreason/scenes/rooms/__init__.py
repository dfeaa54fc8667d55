"""The world `rooms`: path-traced interiors with CC0 furniture. Start at `world.py`."""
