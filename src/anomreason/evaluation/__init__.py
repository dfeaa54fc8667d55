"""Scoring prediction files against truth: what `anomreason eval` does, without its printing."""
