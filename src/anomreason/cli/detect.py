"""`anomreason detect`: find what is semantically wrong in images."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from anomreason.detection import DetectOptions, Session
    from anomreason.runs import RunFolder
    from anomreason.sources.inputs import Image

ASK_ABOVE_DOLLARS = 1.0
ASK_ABOVE_TOKENS = 1_000_000
REPORT_UP_TO = 5000
"""Images up to which the report is built without being asked for."""

DONE, FAILED, CAPPED, INTERRUPTED = 0, 3, 4, 130


def command(
    inputs: Annotated[list[str], typer.Argument(help="Files, folders, globs, .jsonl/.csv manifests.")],
    model: Annotated[
        str,
        typer.Option(
            help="A model behind an OpenAI-compatible endpoint (gpt-4o), tiny (comes with the package, knows scenes "
            "only), local:PATH_OR_ID[+ADAPTER], or sim:TRUTH.json."
        ),
    ],
    base_url: Annotated[
        list[str] | None, typer.Option(help="Server to ask; repeat to spread calls over several.")
    ] = None,
    schedule: Annotated[
        str | None,
        typer.Option(help="How the agents work: lean, paper, release or single. [default: lean; tiny: single]"),
    ] = None,
    run: Annotated[
        Path | None, typer.Option(help="Folder to record in and continue from. [default: runs/NAME]")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many images.")] = None,
    max_objects: Annotated[int, typer.Option(help="Objects looked into, most prominent first, people first.")] = 12,
    max_side: Annotated[int, typer.Option(help="Longest edge sent to an endpoint, pixels.")] = 1536,
    judge_source: Annotated[bool, typer.Option("--judge-source", help="Also ask: AI image or photograph?")] = False,
    in_flight: Annotated[int, typer.Option(help="Model calls at once.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds until one attempt at a call is given up.")] = 120.0,
    retries: Annotated[int, typer.Option(help="Further attempts after a server's fault.")] = 6,
    seed: Annotated[int, typer.Option(help="Sent with each call.")] = 0,
    temperature: Annotated[float, typer.Option(help="Of all calls but those meant to differ.")] = 0.0,
    spread: Annotated[float, typer.Option(help="Temperature of the calls meant to differ.")] = 0.7,
    max_reply_tokens: Annotated[int, typer.Option(help="First cap of a reply; doubled when one is cut.")] = 2048,
    max_cost: Annotated[float | None, typer.Option(help="US dollars the whole run may cost.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Tokens the whole run may use.")] = None,
    prompts: Annotated[Path | None, typer.Option(help="Folder whose .md files replace prompts.")] = None,
    card: Annotated[
        Path | None, typer.Option(help="Folder of the fine-tuned detector that a server runs: asks as it was trained.")
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="Price file (TOML) instead of the built-in one.")] = None,
    device: Annotated[str | None, typer.Option(help="For local models: cpu, cuda, ...")] = None,
    dtype: Annotated[str | None, typer.Option(help="For local models: float32, bfloat16, ...")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what it would take, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    json_only: Annotated[
        bool, typer.Option("--json", help="Print the detections as JSON lines and nothing else.")
    ] = False,
    report: Annotated[bool, typer.Option(help="Build the HTML report at the end.")] = True,
) -> None:
    """Find what is semantically wrong in images, and explain it.

    Severity runs from 0 = completely implausible to 100 = fully realistic. The same command run again continues: what
    is done is not done twice. Exit status: 0 all done, 2 wrong use, 3 some images failed, 4 stopped at a cap, 130
    interrupted.
    """
    given = dict(locals())
    from anomreason.detection import DetectOptions, open_run, remaining, usual_schedule
    from anomreason.runs import default_run, done_in
    from anomreason.sources.inputs import find_images

    given |= {"base_urls": tuple(base_url or ()), "schedule": schedule or usual_schedule(model, card)}
    options = DetectOptions(**{f.name: given[f.name] for f in fields(DetectOptions)})
    options.check()
    root, images = find_images(inputs)
    images = images[:limit]
    from anomreason.agent.roles import Prompts

    folder = run or default_run(
        [str(Path(i).absolute()) for i in inputs], options.deciding(model, Prompts.load(prompts))
    )
    plan = Plan(model, options, images)
    if dry_run:
        left = list(remaining(images, done_in(folder)))
        if len(left) < len(images):
            typer.echo(f"{len(images) - len(left):,} of {len(images):,} images are settled already in {folder}")
        typer.echo(Plan(model, options, left).text() if left else "Nothing is left to do.")
        return
    with open_run(folder, root, inputs, model, options) as opened:
        status = _work(opened, images, plan, yes, json_only)
    built = report and len(images) <= REPORT_UP_TO
    _finish(folder, images, status, json_only, built, model.startswith("sim:"))
    raise typer.Exit(status)


class Plan:
    """What a run is expected to take."""

    def __init__(self, model: str, options: DetectOptions, images: Sequence[Image]) -> None:
        self.model, self.options, self.images = model, options, images

    def usage(self, count: int, objects: int) -> Any:
        """Expected usage of `count` images like these with so many objects each."""
        from anomreason.agent.estimate import expected
        from anomreason.agent.roles import Prompts
        from anomreason.vlm.ledger import price_of

        sizes = _sizes(self.images, self.options.max_side)
        price = price_of(self.model, self.options.prices)
        sampled = expected(self.options.agent(), sizes, Prompts.load(self.options.prompts), price, objects)
        share = count / len(sizes)
        update = {"calls": round(sampled.calls * share), "prompt_tokens": round(sampled.prompt_tokens * share)}
        update["completion_tokens"] = round(sampled.completion_tokens * share)
        cost = None if sampled.cost is None else sampled.cost * share
        return sampled.model_copy(update={**update, "cost": cost})

    def text(self, count: int | None = None) -> str:
        from anomreason.agent.estimate import USUAL_OBJECTS, steps_in_line

        count = len(self.images) if count is None else count
        most = self.options.max_objects
        usual = self.usage(count, min(USUAL_OBJECTS, most))
        lines = [
            f"{count:,} image{'s' * (count != 1)}, schedule {self.options.schedule}, model {self.model}: "
            f"about {usual.calls:,} calls, {usual.tokens:,} tokens, {_money(usual.cost)}"
        ]
        upper = self.usage(count, most)
        if upper.tokens > usual.tokens:
            lines.append(
                f"(taking {min(USUAL_OBJECTS, most)} objects an image; with the most allowed, {most}: {upper.calls:,} "
                f"calls, {upper.tokens:,} tokens, {_money(upper.cost)})"
            )
        waiting = max(usual.calls / self.options.in_flight, steps_in_line(self.options.schedule, most))
        lines.append(f"At {self.options.in_flight} calls at once and 5 s a call: about {_minutes(waiting * 5)}.")
        return "\n".join(lines)

    def agree(self, count: int, yes: bool) -> None:
        """Ask before spending much. Raises UsageError when nobody can be asked."""
        from anomreason.agent.estimate import USUAL_OBJECTS
        from anomreason.errors import UsageError

        usage = self.usage(count, min(USUAL_OBJECTS, self.options.max_objects))
        free = usage.cost == 0.0
        dear = usage.tokens > ASK_ABOVE_TOKENS if usage.cost is None else usage.cost > ASK_ABOVE_DOLLARS
        if yes or free or not dear:
            return
        typer.echo(self.text(count), err=True)
        if not sys.stdin.isatty():
            raise UsageError(
                f"this is expected to take more than ${ASK_ABOVE_DOLLARS:g} (or {ASK_ABOVE_TOKENS:,} tokens where the "
                "price is not known) and there is no terminal to ask at: add --yes to go ahead"
            )
        if not typer.confirm("Go ahead?", err=True):
            raise UsageError("nothing was sent")


def _sizes(images: Sequence[Image], max_side: int) -> list[tuple[int, int]]:
    """Sizes as sent of up to 50 of the images, spread evenly; 1024x1024 when none can be read."""
    from anomreason.errors import UnreadableImage
    from anomreason.images import image_size

    sizes = []
    for image in images[:: max(1, len(images) // 50)][:50]:
        try:
            width, height = image_size(image.path)
        except UnreadableImage:
            continue
        scale = min(1.0, max_side / max(width, height))
        sizes.append((max(1, round(width * scale)), max(1, round(height * scale))))
    return sizes or [(1024, 1024)]


def _work(run: RunFolder, images: Sequence[Image], plan: Plan, yes: bool, json_only: bool) -> int:
    """Detect in what remains; gives the exit status."""
    from anomreason.agent.roles import Prompts
    from anomreason.detection import Session, remaining

    todo = list(remaining(images, run.done))
    if not json_only and len(todo) < len(images):
        typer.echo(f"{len(images) - len(todo):,} of {len(images):,} images are settled already in {run.path}", err=True)
    if not todo:
        return DONE
    plan.agree(len(todo), yes)

    async def session() -> int:
        opened = Session(plan.model, plan.options, Prompts.load(plan.options.prompts), run)
        try:
            return await _watched(opened, todo, quiet=json_only)
        finally:
            await opened.close()

    try:
        return asyncio.run(session())
    except KeyboardInterrupt:
        return INTERRUPTED


async def _watched(session: Session, todo: Sequence[Image], quiet: bool) -> int:
    """Work with a progress bar; the first Ctrl-C lets calls in flight end, the second drops them."""
    from anomreason.cli.show import progress
    from anomreason.detection import HOPELESS, detect_images

    loop = asyncio.get_running_loop()
    work = asyncio.current_task()

    def interrupt() -> None:
        if session.caller.stopping and work:
            work.cancel()
        elif not quiet:
            typer.echo("\nFinishing the calls in flight; Ctrl-C again drops them.", err=True)
        session.caller.stopping = True

    for name in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(name, interrupt)
    try:
        with progress(len(todo), session.caller.ledger, quiet) as done:
            await detect_images(todo, session, done)
    except asyncio.CancelledError:
        return INTERRUPTED
    finally:
        for name in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(name)
    if session.dead and not quiet:
        typer.echo(f"Stopped: {HOPELESS} images in a row were lost to the server. {session.dead}", err=True)
    if session.caller.stopping:
        return INTERRUPTED
    return CAPPED if session.caller.budget_reached else DONE


def _finish(folder: Path, images: Sequence[Image], status: int, json_only: bool, report: bool, simulated: bool) -> None:
    """Print what was found; raises typer.Exit(3) when images failed and nothing else ended the run."""
    from anomreason.cli import show
    from anomreason.runs import iter_results

    names = {i.name for i in images}
    wanted = (d for d in iter_results(folder) if d.image in names)
    if json_only:
        failed = 0
        for detection in wanted:
            failed += detection.status == "failed"
            print(detection.json_line())
    else:
        shown = show.Summary()
        shown.add(wanted)
        shown.print(len(images))
        failed = shown.failed.total()
    _say_why(folder, images, status, simulated and not json_only)
    if report:
        from anomreason.report.html import build_report, is_current

        if not is_current(folder):
            build_report(folder)
        if not json_only:
            typer.echo(f"Report: {folder / 'report.html'}", err=True)
    elif not json_only:
        typer.echo(f"Results: {folder}   (for the report: anomreason report {folder})", err=True)
    if status == DONE and failed:
        raise typer.Exit(FAILED)


def _say_why(folder: Path, images: Sequence[Image], status: int, simulated: bool) -> None:
    """On stderr: what the numbers above must not be taken for."""
    from anomreason.runs import done_in

    if status in (CAPPED, INTERRUPTED):
        done = done_in(folder)
        left = sum(i.name not in done or not done[i.name].final for i in images)
        why = "Stopped at the cap" if status == CAPPED else "Interrupted"
        how = "The same command with a higher cap continues" if status == CAPPED else "The same command continues"
        typer.echo(f"{why} with {left:,} of {len(images):,} images unfinished. {how} ({folder}).", err=True)
    if simulated:
        typer.echo("These answers are SIMULATED: they come from a prepared file, not from a model.", err=True)


def _money(cost: float | None) -> str:
    if cost is None:
        return "price not known (give --prices FILE, or cap with --max-tokens)"
    return f"${cost:,.2f}" if cost >= 0.01 or cost == 0 else f"${cost:.4f}"


def _minutes(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
