"""Which options the user gave; those that have no effect in the mode at hand are refused instead of ignored.

Inside a command that takes a `typer.Context`: refuse_unused(context, ("layer", "threads"), "without --backbone")
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterable
from typing import TypeVar

import typer

from anomreason.cli.config import file_of
from anomreason.cli.output import say
from anomreason.errors import NoEffect, UsageError

T = TypeVar("T")
_LEFT_OUT = "anomreason.left_out"
"""Where the context keeps the names."""


def given(context: typer.Context) -> frozenset[str]:
    """Names of the parameters that the user gave, on the command line or in a file of defaults, as the command's
    function has them."""
    sources = {name: context.get_parameter_source(name) for name in context.params}
    return frozenset(name for name, s in sources.items() if s and s.name != "DEFAULT") - left_out(context)


def model_options(context: typer.Context) -> frozenset[str]:
    """The options that the user gave, by their names in Python."""
    return frozenset("base_urls" if name == "base_url" else name for name in given(context))


def left_out(context: typer.Context) -> frozenset[str]:
    """The parameters whose default in the file is not used, since it has no effect."""
    return frozenset(context.meta.get(_LEFT_OUT, ()))


def fitting(context: typer.Context, set_up: Callable[[], T]) -> T:
    """What `set_up` gives, without the file's defaults that have no effect with the model at hand; stderr says so.

    set_up: reads `model_options` and `detect_options` of the context anew at each try. An option that was given on the
    command line and has no effect stays an error.
    """
    while True:
        try:
            return set_up()
        except NoEffect as e:
            name = "base_url" if e.option == "base_urls" else e.option
            if not _from_file(context, name) or name in left_out(context):
                raise
            _leave_out(context, name, e.why)


def _from_file(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


def _leave_out(context: typer.Context, name: str, why: str) -> None:
    context.meta[_LEFT_OUT] = left_out(context) | {name}
    say(f"Not used from {file_of(context)}: {name.replace('_', '-')}, since {why}", err=True)


def refuse_unused(context: typer.Context, names: Iterable[str], mode: str) -> None:
    """UsageError for the first of these parameters that the user gave on the command line; a note for the file's.

    names: as the command's function has them. mode: completes "has no effect ...", e.g. "with --exact".
    """
    user_gave = given(context)
    for name in names:
        if name in user_gave and _from_file(context, name):
            _leave_out(context, name, f"it has no effect {mode}")
        elif name in user_gave:
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
