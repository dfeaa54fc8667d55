"""`anomreason deepfake`: AI image or photograph, and what shows it."""

from __future__ import annotations

from anomreason.cli.group import Command

COMMANDS = {
    "score": Command(
        "deepfake.score:command",
        'Score judgements "AI image" or "photograph", and explanations where they can be scored.',
        default=True,
    ),
    "make": Command(
        "deepfake.make:command",
        "Make a set of photographs and AI images from folders, divided, checked for what gives a class away.",
    ),
    "run": Command(
        "deepfake.run:command",
        "Run a detector on a set and write its card: judgements, then scores, then changed images if asked for.",
    ),
}
"""The subcommands, in the order of the help."""
