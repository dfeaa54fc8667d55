"""`anomreason dataset generate`: images for the prompts of a dataset, by diffusers or an images endpoint."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.generate import GenerateReport, GeneratorPlan, GeneratorReport

SHOWN = 5
"""Messages that are shown of each generator; --json has all."""


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset.")],
    generators: Annotated[
        list[str],
        typer.Argument(
            metavar="GENERATOR...",
            help="Recipes: .toml files, or names of those that come with the package, e.g. flux.1-dev, gpt-image-1, "
            "qwen-image (a wrong name lists all).",
        ),
    ],
    seeds: Annotated[
        str, typer.Option(metavar="N,...", help="One image of each prompt and generator for each of these.")
    ] = "0",
    limit: Annotated[
        int | None, typer.Option(min=1, help="Take at most N prompts, in the order in which they were collected.")
    ] = None,
    kept: Annotated[bool, typer.Option("--kept", help="Take only prompts that have an image which is kept.")] = False,
    source: Annotated[
        list[str] | None, typer.Option(help="Take only prompts of this source; repeat for several.")
    ] = None,
    max_cost: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="Limit on the cost of all generated images of the dataset, in US dollars; needs price_per_image.",
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what would be made and its cost, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object and nothing else.")] = False,
) -> None:
    """Make images for the prompts of a dataset, by a diffusers pipeline or an OpenAI-compatible images endpoint.

    The same command again continues and makes nothing twice; failed images are tried again, refused and blank ones are
    not. Exit code: 0 all images have a result, 2 usage error, 3 some images failed, 4 stopped at the limit on the cost,
    130 interrupted.
    """
    import anomreason.dataset
    from anomreason.cli.detect import CAPPED, FAILED, INTERRUPTED
    from anomreason.cli.progress import progress
    from anomreason.dataset.generate import GenerateOptions, Work, generate, plan_generation
    from anomreason.dataset.generators.recipe import read_generator
    from anomreason.interrupt import first_ctrl_c

    recipes = [read_generator(name) for name in generators]
    options = GenerateOptions(_numbers(seeds), limit, kept, tuple(source or ()), max_cost)
    with anomreason.dataset.open(data) as store:
        plans = plan_generation(store, recipes, options)
        if dry_run:
            say(json_line(_as_json(plans)) if json else _described(plans))
            return
        if not yes:
            _agree(plans)
        work = Work()

        def stop() -> None:
            work.stopping = True
            say("\nFinishing the images under way; Ctrl-C again drops them.", err=True)

        def status() -> str:
            bad = [f"{work.counts[name]:,} {name}" for name in ("refused", "blank", "failed") if work.counts[name]]
            return ", ".join([*bad, *([f"${work.cost:.2f}"] if work.cost else [])])

        with progress("images", status, json) as step, first_ctrl_c(stop):
            report = generate(store, recipes, options, step, work)
    if json:
        say(json_line(report.model_dump_json()))
    else:
        _show(report, data)
    ends = {one.stopped for one in report.generators}
    if "interrupted" in ends:
        raise typer.Exit(INTERRUPTED)
    if "cost" in ends:
        raise typer.Exit(CAPPED)
    if any(one.failed for one in report.generators):
        raise typer.Exit(FAILED)


def _numbers(text: str) -> tuple[int, ...]:
    from anomreason.errors import UsageError

    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"the seeds {text!r} are no numbers; write them as 0,1,2") from None


def _as_json(plans: Sequence[GeneratorPlan]) -> str:
    import json

    return json.dumps({"generators": [plan.model_dump(mode="json") | {"cost": plan.cost} for plan in plans]})


def _described(plans: Sequence[GeneratorPlan]) -> str:
    return "\n".join(map(plan_line, plans))


def plan_line(plan: GeneratorPlan) -> str:
    """What a generator is to make, and what that costs."""
    already = f" of {plan.images:,}" if plan.done else ""
    line = f"{plan.generator}: {plan.left:,}{already} {'image' if plan.images == 1 else 'images'} to make"
    if plan.cost is None:
        return line + ", price not known (price_per_image under [endpoint] says it)"
    return line + (f", ${plan.cost:,.2f} at ${plan.price:g} each" if plan.price else "")


def _agree(plans: Sequence[GeneratorPlan]) -> None:
    """Ask before spending much, or an unknown amount. Raises UsageError when there is no terminal to ask at."""
    from anomreason.cli.spending import ASK_ABOVE_DOLLARS
    from anomreason.errors import UsageError

    unknown = any(plan.left and plan.remote and plan.cost is None for plan in plans)
    if sum(plan.cost or 0.0 for plan in plans) <= ASK_ABOVE_DOLLARS and not unknown:
        return
    say(_described(plans), err=True)
    if not sys.stdin.isatty():
        raise UsageError(
            f"the images are expected to cost more than ${ASK_ABOVE_DOLLARS:g} (or their price is not known) and there "
            "is no terminal to ask at: add --yes to go ahead"
        )
    if not typer.confirm("Go ahead?", err=True):
        raise UsageError("nothing was sent")


def _show(report: GenerateReport, data: Path) -> None:
    for one in report.generators:
        say(made_line(one))
        for message, count in list(one.messages.items())[:SHOWN]:
            say(f"  {message}  <- {count:,}")
        if len(one.messages) > SHOWN:
            say(f"  and {len(one.messages) - SHOWN:,} more messages; --json prints all")
    if any(one.left or one.failed for one in report.generators):
        ends = {one.stopped for one in report.generators}
        how = " with a higher --max-cost" if "cost" in ends else ""
        say(f"The same command{how} goes on with what is left.", err=True)
    say(f"Next: anomreason dataset filter {data}")


def made_line(one: GeneratorReport) -> str:
    """What a generator has made."""
    ends = {"interrupted": "interrupted", "cost": "stopped at the limit on the cost", "failures": "given up"}
    counts = [f"{getattr(one, name):,} {name}" for name in ("refused", "blank", "failed") if getattr(one, name)]
    counts += [f"{one.before:,} from before"] if one.before else []
    counts += [f"{one.left:,} left"] if one.left else []
    counts += [f"${one.cost:,.2f}"] if one.cost else []
    counts += [ends[one.stopped]] if one.stopped else []
    return ", ".join([f"{one.generator}: {counted(one.done, 'image', 'images')} made", *counts])
