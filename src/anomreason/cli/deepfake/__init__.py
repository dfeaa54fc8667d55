"""`anomreason deepfake`: AI image or photograph, and what shows it."""

from __future__ import annotations

from anomreason.cli.group import Command

COMMANDS = {
    "score": Command(
        "deepfake.score:command",
        'Score judgements "AI image" or "photograph", and explanations where they can be scored.',
        default=True,
    ),
}
"""The subcommands, in the order of the help."""
