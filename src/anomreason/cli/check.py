"""`anomreason check`: what a model and its server can do, before a run depends on it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.checking import ModelCheck

UNUSABLE = 3
_SCHEMAS = {
    "kept": "kept: replies come in the requested form",
    "ignored": "ignored: replies are read as they come",
    "refused": "refused: asked without",
    None: "not found out",
}
_THINKING = {
    "none": "none seen",
    "aloud": "aloud, in the reply; it is cut away",
    "hidden": "hidden, but it counts as reply",
    None: "not found out",
}


def command(
    context: typer.Context,
    model: Annotated[str, typer.Option(help="As for detect, e.g. gpt-4o, ollama:NAME or vllm:NAME.")],
    base_url: Annotated[list[str] | None, typer.Option(help="Server to ask; the first is checked.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key for the server of --base-url.")
    ] = None,
    timeout: Annotated[float, typer.Option(help="Seconds until one attempt at a call is given up.")] = 120.0,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a server that loads its model.")] = 600.0,
    max_reply_tokens: Annotated[
        int, typer.Option(help="Token limit of a reply at first; doubled while replies are cut.")
    ] = 2048,
    prices: Annotated[Path | None, typer.Option(help="Price file (TOML) instead of the built-in one.")] = None,
    json_only: Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")] = False,
) -> None:
    """Find out with a few small questions what a model and its server can do, and which options suit it.

    It sends about 25 short calls, two of them with an image, whose answers are known. Exit code: 0 usable, 2 usage
    error, 3 it does not answer or does not see images.
    """
    from anomreason.checking import check
    from anomreason.cli.detect import detect_options
    from anomreason.cli.options import fitting, model_options
    from anomreason.detector import DetectorSetup, set_up

    def setup() -> DetectorSetup:
        options = detect_options(context)
        return set_up(model, replace(options, base_urls=options.base_urls[:1]), model_options(context))

    found = asyncio.run(check(fitting(context, setup)))
    if json_only:
        typer.echo(found.model_dump_json(indent=2))
    else:
        for line in lines(found, model):
            say(line)
    raise typer.Exit(0 if found.usable else UNUSABLE)


def lines(found: ModelCheck, spec: str | None = None) -> list[str]:
    """The check in a few lines. spec: the model as the user named it."""
    if found.answers_as is None:
        return [f"{spec or found.model} gives no answer: {reason}" for reason in found.failed.values()]
    simulated = found.model.startswith("sim:")
    named = ", simulated" if simulated else f", answers as {found.answers_as}"
    rows = [
        ("model", (spec or found.model) + (named if simulated or found.answers_as != found.model else "")),
        ("images", {True: "seen", False: "NOT SEEN", None: "unclear: it answered beside the question"}[found.sees]),
        ("schemas", _SCHEMAS[found.schemas]),
        ("boxes", _boxes(found)),
        ("thinking", _THINKING[found.thinking]),
        ("log-probs", {True: "given", False: "not given", None: "not found out"}[found.logprobs]),
        ("tokens", "counted by the server" if found.counts_tokens else "not counted: estimated"),
        *([] if simulated else [("at once", _at_once(found)), ("speed", _speed(found))]),
    ]
    text = [f"{name:<10}{value}" for name, value in rows]
    text += [f"{'left out':<10}{refused}" for refused in found.left_out]
    text += [f"{'failed':<10}{what}: {reason}" for what, reason in found.failed.items()]
    text += ["", "An image of 1024x1024 with 8 objects takes, by schedule", *_costs(found)]
    return [*text, *(("", "Advice", *(f"- {line}" for line in found.advice)) if found.advice else ())]


def _boxes(found: ModelCheck) -> str:
    if found.boxes:
        return f"{found.boxes}, " + ("read so unaided" if found.boxes_unaided else f"only with --boxes {found.boxes}")
    return "not found out" if found.boxes_unaided is None else "wrong under every convention"


def _at_once(found: ModelCheck) -> str:
    if found.at_once is None:
        return "not found out"
    return "seems to answer one call at a time" if found.at_once < 1.5 else f"about {found.at_once:.0f} of 8 calls"


def _speed(found: ModelCheck) -> str:
    seconds = "-" if found.seconds is None else f"{found.seconds:.1f} s a call with an image"
    return seconds + (f", {found.tokens_a_second:.0f} tokens of reply a second" if found.tokens_a_second else "")


def _costs(found: ModelCheck) -> list[str]:
    costs = sorted(found.costs.items(), key=lambda item: item[1].tokens)
    calls = [counted(cost.calls, "call", "calls") for _, cost in costs]
    dollars = ["" if cost.dollars is None else f"  ${cost.dollars:.3f}" for _, cost in costs]
    return [
        f"  {name:<8}{asked:>9} {cost.tokens:>7,} tokens{price}"
        for (name, cost), asked, price in zip(costs, calls, dollars, strict=True)
    ]
