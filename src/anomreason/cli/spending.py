"""Says what a command is expected to spend, and asks before it is much.

agree(usage, f"400 prompts, model gpt-4o: about {spending(usage)}", "the questions are")
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import typer

from anomreason.cli.output import say

if TYPE_CHECKING:
    from anomreason.anomaly import Usage

ASK_ABOVE_DOLLARS = 1.0
ASK_ABOVE_TOKENS = 1_000_000


def agree(usage: Usage, described: str, what: str) -> None:
    """Ask before spending much; `what`, with its verb, names it: `the run is`.

    Raises UsageError when there is no terminal to ask at, and when the answer is no.
    """
    from anomreason.errors import UsageError

    if not much(usage):
        return
    say(described, err=True)
    if not sys.stdin.isatty():
        raise UsageError(
            f"{what} expected to cost more than ${ASK_ABOVE_DOLLARS:g} (or {ASK_ABOVE_TOKENS:,} tokens where the "
            "price is not known) and there is no terminal to ask at: add --yes to go ahead"
        )
    if not typer.confirm("Go ahead?", err=True):
        raise UsageError("nothing was sent")


def much(usage: Usage) -> bool:
    """Whether it is so much that somebody is asked first."""
    return usage.tokens > ASK_ABOVE_TOKENS if usage.cost is None else usage.cost > ASK_ABOVE_DOLLARS


def spending(usage: Usage) -> str:
    """Calls, tokens and money of an estimate."""
    if usage.cost is None:
        money = "price not known (give --prices FILE, or limit with --max-tokens)"
    else:
        money = f"${usage.cost:,.2f}" if usage.cost >= 0.01 or usage.cost == 0 else f"${usage.cost:.4f}"
    return f"{usage.calls:,} calls, {usage.tokens:,} tokens, {money}"
