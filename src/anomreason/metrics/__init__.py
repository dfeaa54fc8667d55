"""Numbers for detectors and generators, over plain records; each says how sure it is."""
