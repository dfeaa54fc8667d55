"""Reads files about images: run folders, JSON lines, foreign formats, manifests and scenes."""
