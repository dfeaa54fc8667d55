"""How `anomreason-tiny` is made: labelled pictures, vision tower, language model. See `tools/tiny/make.py`."""
