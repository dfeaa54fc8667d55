"""`anomreason audit`: generators compared on the same prompts. One file a subcommand, with a function `command`."""

from __future__ import annotations

from anomreason.cli.group import Command

COMMANDS: dict[str, Command] = {
    "prompts": Command(
        "audit.prompts:command",
        "Choose the prompts of an audit: without duplicates, diverse, and with enough of each tag.",
    ),
}
"""The subcommands, in the order of the help."""
