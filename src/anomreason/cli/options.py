"""Refuses options that have no effect in the mode at hand, instead of ignoring them.

Inside a command that takes a `typer.Context`: refuse_unused(context, ("layer", "threads"), "without --backbone")
"""

from __future__ import annotations

from collections.abc import Iterable

import typer

from anomreason.errors import UsageError


def refuse_unused(context: typer.Context, names: Iterable[str], mode: str) -> None:
    """UsageError for the first of these parameters that the user gave.

    names: as the command's function has them. mode: completes "has no effect ...", e.g. "with --exact".
    """
    for name in names:
        source = context.get_parameter_source(name)
        if source is not None and source.name not in ("DEFAULT", "DEFAULT_MAP"):
            raise UsageError(f"--{name.replace('_', '-')} has no effect {mode}; leave it out")
