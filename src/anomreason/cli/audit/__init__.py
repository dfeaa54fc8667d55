"""`anomreason audit`: generators compared on the same prompts. One file a subcommand, with a function `command`."""

from __future__ import annotations

from anomreason.cli.group import Command

COMMANDS: dict[str, Command] = {
    "run": Command(
        "audit.run:command",
        "Make the images of an audit, have them assessed, and report which generator is how plausible.",
        default=True,
    ),
    "add": Command("audit.add:command", "Put further generators into an audit, and run what they lack."),
    "report": Command("audit.report:command", "Build the report of an audit anew from what its folder holds."),
    "prompts": Command(
        "audit.prompts:command",
        "Choose the prompts of an audit: without duplicates, diverse, and with enough of each tag.",
    ),
}
"""The subcommands, in the order of the help."""
