"""`anomreason mcp`: the gate as tools of an assistant that speaks the Model Context Protocol."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli import detect
from anomreason.cli.options import borrow_options, fitting, model_options
from anomreason.cli.output import say
from anomreason.cli.spending import ASK_ABOVE_DOLLARS, ASK_ABOVE_TOKENS, much, spending

if TYPE_CHECKING:
    from anomreason.planning import RunPlan


def command(
    context: typer.Context,
    folder: Annotated[
        list[Path] | None,
        typer.Option(help="Folder whose images may be read, with all below it; may be repeated. [default: this one]"),
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="Folder that keeps detections by the images' content, so that none is paid for twice.")
    ] = Path("runs/gate"),
    yes: Annotated[
        bool, typer.Option("--yes", help="Let one call of a tool cost more than a dollar without a limit.")
    ] = False,
    **_detector: object,
) -> None:
    """Let an assistant look at images: tools over the Model Context Protocol.

    An assistant starts this command itself and speaks with it over standard input and output; docs/gate.md shows its
    settings. Severity: 0 = completely implausible, 100 = fully realistic. --max-cost and --max-tokens limit what the
    cache's detections use together, ever.
    """
    from anomreason.errors import UsageError, require

    require("tools for assistants", "mcp", "mcp")
    from anomreason.assisting import Assistance, make_server
    from anomreason.detection import open_model
    from anomreason.detector import set_up
    from anomreason.gating.cache import DetectionCache
    from anomreason.interrupt import saying

    model: str = context.params["model"]
    setup = fitting(context, lambda: set_up(model, detect.detect_options(context), model_options(context)))
    setup = replace(setup, vlm=open_model(setup))
    folders = tuple(folder or [Path()])
    if not folder and Path.cwd() in (Path("/"), Path.home()):
        raise UsageError(f"all of {Path.cwd()} could be read: give --folder, the folder of the images")
    if missing := next((one for one in folders if not one.is_dir()), None):
        raise UsageError(f"--folder {missing} is no folder")
    limited = yes or setup.options.max_cost is not None or setup.options.max_tokens is not None
    with DetectionCache(cache) as opened, saying(lambda: "ended; what was answered is kept"):
        assistance = Assistance(setup, opened, tuple(one.resolve() for one in folders))
        if not limited:
            assistance.check = cheap
        if setup.model.startswith("sim:"):
            say(detect.SIMULATED, err=True)
        say(f"{setup.model}, schedule {setup.options.schedule}; waiting for an assistant on standard input.", err=True)
        asyncio.run(make_server(assistance).run_stdio_async())


def cheap(plan: RunPlan) -> None:
    """Raises UsageError for what a person would be asked about."""
    from anomreason.errors import UsageError

    if much(plan.usual.usage):
        raise UsageError(
            f"these {plan.images:,} images are expected to take {spending(plan.usual.usage)}, more than "
            f"${ASK_ABOVE_DOLLARS:g} (or {ASK_ABOVE_TOKENS:,} tokens where the price is not known): give fewer at a "
            "time, or let the owner of this server start it with --max-cost, --max-tokens or --yes"
        )


_OF_RUNS = ("inputs", "run", "report", "limit", "dry_run", "json_only", "outside", "batch")
borrow_options(command, detect.command, left_out=(*_OF_RUNS, "engine", "workers", "ray_address"))
