"""The world `sprites`: 2D compositions of emoji and drawn objects. Start at `world.py`."""
