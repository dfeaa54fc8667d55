"""Which options the user gave; those that have no effect in the mode at hand are refused instead of ignored.

Inside a command that takes a `typer.Context`: refuse_unused(context, ("layer", "threads"), "without --backbone")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable

import typer

from anomreason.errors import UsageError


def given(context: typer.Context) -> frozenset[str]:
    """Names of the parameters that the user gave, on the command line or in a file of defaults, as the command's
    function has them."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, s in sources.items() if s and s.name != "DEFAULT")


def refuse_unused(context: typer.Context, names: Iterable[str], mode: str) -> None:
    """UsageError for the first of these parameters that the user gave.

    names: as the command's function has them. mode: completes "has no effect ...", e.g. "with --exact".
    """
    user_gave = given(context)
    for name in names:
        if name in user_gave:
            raise UsageError(f"--{name.replace('_', '-')} has no effect {mode}; leave it out")


def borrow_options(
    command: Callable[..., object],
    lender: Callable[..., object],
    names: Iterable[str] | None = None,
    left_out: Collection[str] = (),
) -> None:
    """Give a command that takes `**options` these options of another one; their values stand in the context.

    names: None for all that the command does not have itself, but for those that are left out.
    """
    own = inspect.signature(command, eval_str=True).parameters
    theirs = inspect.signature(lender, eval_str=True).parameters
    chosen = [name for name in theirs if name not in {*left_out, *own}] if names is None else names
    added = [theirs[name].replace(kind=inspect.Parameter.KEYWORD_ONLY) for name in chosen]
    parameters = [p for p in own.values() if p.kind is not p.VAR_KEYWORD] + added
    setattr(command, "__signature__", inspect.Signature(parameters))  # noqa: B010  # a function's type has none
    command.__annotations__ = {p.name: p.annotation for p in parameters}
