"""Telling AI images from photographs, with reasons."""
