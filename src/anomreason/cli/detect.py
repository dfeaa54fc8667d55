"""`anomreason detect`: find what is semantically wrong in images."""

from __future__ import annotations

import asyncio
import io
import signal
from collections.abc import Callable, Sequence
from contextlib import closing, nullcontext, redirect_stdout
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.cli.spending import agree, spending
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.anomaly import Detection
    from anomreason.detection import Session
    from anomreason.detector import DetectOptions, DetectorSetup
    from anomreason.planning import RunPlan
    from anomreason.runs import RunFolder
    from anomreason.sources.inputs import FoundImages, Image
    from anomreason.spread.cluster import SpreadOptions
    from anomreason.spread.driving import Spread
    from anomreason.spread.handover import Handover

REPORT_UP_TO = 5000
"""No report is built for more images; `anomreason report` builds it."""

DONE, FAILED, CAPPED, WAITING, INTERRUPTED = 0, 3, 4, 5, 130
SIMULATED = "These answers are SIMULATED: they come from a prepared file, not from a model."
GRACE = 3.0
"""Seconds that calls in flight get to end after Ctrl-C."""
TIDYING = 10.0
"""Seconds more until the process ends by force, when workers have to end too."""


def command(
    context: typer.Context,
    inputs: Annotated[
        list[str],
        typer.Argument(
            help="Files, folders, globs, .zip/.tar archives, .parquet, lists (.jsonl, .csv); also s3://..., gs://..."
        ),
    ],
    model: Annotated[
        str,
        typer.Option(
            help="A model behind an OpenAI-compatible endpoint (gpt-4o); one on a known server (ollama:NAME, vllm:, "
            "lmstudio:, llamacpp:, sglang:, openrouter:, gemini:, anthropic:, azure:); tiny (comes with the package, "
            "knows only synthetic scenes); local:PATH_OR_ID[+ADAPTER]; or sim:TRUTH.json."
        ),
    ],
    base_url: Annotated[
        list[str] | None, typer.Option(help="Server to use; repeat to spread calls over several.")
    ] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key for the servers of --base-url.")
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            help="How the agents work: lean, paper, release or single. [default: lean; single for a model with a card]",
            show_default=False,
        ),
    ] = "lean",
    run: Annotated[
        Path | None, typer.Option(help="Folder to record in and continue from. [default: runs/NAME]")
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="Process at most N images.")] = None,
    max_objects: Annotated[
        int, typer.Option(help="Objects to inspect in each image, at most 40: people first, then the most prominent.")
    ] = 12,
    max_side: Annotated[int, typer.Option(help="Longest edge of the image sent to an endpoint, in pixels.")] = 1536,
    judge_source: Annotated[
        bool, typer.Option("--judge-source", help="Also ask whether the image is AI-generated or a photograph.")
    ] = False,
    two_turns: Annotated[
        bool,
        typer.Option(
            "--two-turns",
            help="Ask that first; an image judged a photograph is described and not searched for anomalies.",
        ),
    ] = False,
    source_samples: Annotated[
        int,
        typer.Option(help="Answers about the source to draw where the endpoint gives no log-probabilities; 1: none."),
    ] = 1,
    abstain: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Probabilities of AI that count as unsure, e.g. 0.3 0.7."),
    ] = None,
    in_flight: Annotated[int, typer.Option(help="Concurrent model calls, those of all workers together.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds until one attempt at a call is given up.")] = 120.0,
    retries: Annotated[int, typer.Option(help="Retries after a server error.")] = 6,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a server that loads its model.")] = 600.0,
    seed: Annotated[int, typer.Option(help="Seed sent with each call.")] = 0,
    temperature: Annotated[float, typer.Option(help="Temperature of calls that are made once.")] = 0.0,
    spread: Annotated[
        float, typer.Option(help="Temperature of calls that are sampled several times (release, --source-samples).")
    ] = 0.7,
    max_reply_tokens: Annotated[
        int, typer.Option(help="Token limit of a reply at first; doubled while replies are cut.")
    ] = 2048,
    boxes: Annotated[
        str,
        typer.Option(
            help="How the model writes boxes: auto tells it from the replies; thousandths, fractions, percent, pixels "
            "or pixels-28, with yxyx- before it for y first, xywh- for x, y, width, height."
        ),
    ] = "auto",
    crops: Annotated[
        str,
        typer.Option(
            help="Whether the schedule lean shows small objects enlarged beside the image: never, always, or auto, "
            "where a model behind an endpoint sees more that way."
        ),
    ] = "auto",
    control_question: Annotated[
        bool,
        typer.Option(
            help="Ask once about an image of ours where token counts leave in doubt that the server shows images to "
            "the model."
        ),
    ] = True,
    max_cost: Annotated[float | None, typer.Option(help="Limit on the cost of the whole run, in US dollars.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit on the tokens of the whole run.")] = None,
    outside: Annotated[
        bool, typer.Option("--outside", help="Let a folder's metadata file name images outside of the folder.")
    ] = False,
    prompts: Annotated[Path | None, typer.Option(help="Folder whose .md files replace prompts.")] = None,
    card: Annotated[
        Path | None,
        typer.Option(help="Folder of the fine-tuned detector that a server runs; its card says how it is asked."),
    ] = None,
    prices: Annotated[Path | None, typer.Option(help="Price file (TOML) instead of the built-in one.")] = None,
    device: Annotated[str | None, typer.Option(help="Device of a local model: cpu, cuda, ...")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of a local model: float32, bfloat16, ...")] = None,
    batch: Annotated[
        str | None,
        typer.Option(
            metavar="write|read",
            help="Instead of calling: write the requests into files for a provider's batch, or read what it gave back, "
            "from the files named after the images.",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what the run would cost, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    json_only: Annotated[bool, typer.Option("--json", help="Print JSON lines and nothing else.")] = False,
    report: Annotated[bool, typer.Option(help="Build the HTML report at the end.")] = True,
    engine: Annotated[
        str,
        typer.Option(
            help="local: in this process; ray: in worker processes on this machine or many, which all see the run "
            "folder and the images (needs the extra ray)."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(min=1, help="Worker processes. [default: 2 on each machine]", show_default=False),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster, e.g. auto for this machine's. [default: start one here]", show_default=False),
    ] = None,
) -> None:
    """Find what is semantically wrong in images, and explain it.

    Severity: 0 = completely implausible, 100 = fully realistic. The same command again continues the run and repeats
    nothing that is done. Exit code: 0 all images processed, 2 usage error, 3 some images failed, 4 stopped at a limit,
    5 answers of a batch are needed, 130 interrupted.
    """
    from anomreason.cli.options import fitting, model_options, refuse_unused
    from anomreason.detector import set_up

    setup = fitting(context, lambda: set_up(model, detect_options(context), model_options(context)))
    options = CommandOptions(run, limit, yes, json_only, report, spread_options(context))
    if batch is not None:
        from anomreason.cli import batches

        refuse_unused(context, ("engine", "workers", "ray_address"), "with --batch")
        setup, inputs, files = batches.prepared(context, setup, batch, inputs)
        options = replace(options, answers=files)
    if dry_run:
        print_plan(setup, inputs, options)
    else:
        raise typer.Exit(run_detection(setup, inputs, options))


@dataclass(frozen=True, slots=True)
class CommandOptions:
    """Options of the command that do not concern the detector."""

    run: Path | None
    """Folder to record in; None for one whose name says what is asked."""
    limit: int | None
    """Images at most; None for all."""
    yes: bool
    """Whether money may be spent without asking."""
    json_only: bool
    report: bool
    spread: SpreadOptions | None = None
    """Where the workers are; None for this process."""
    answers: tuple[Path, ...] = ()
    """What a batch gave back."""


def spread_options(context: typer.Context) -> SpreadOptions | None:
    """What --engine and its options ask for. Raises UsageError for another engine, and for options without one."""
    from anomreason.cli.options import refuse_unused
    from anomreason.spread.cluster import SpreadOptions

    if context.params["engine"] == "local":
        refuse_unused(context, ("workers", "ray_address"), "without --engine ray")
    return SpreadOptions.of({name: context.params[name] for name in ("engine", "workers", "ray_address")})[0]


def detect_options(context: typer.Context) -> DetectOptions:
    """The options of the detector. The command's parameters have the same names, so that none can be forgotten."""
    from anomreason.cli.options import left_out
    from anomreason.detector import DetectOptions

    values = context.params | {"base_urls": context.params["base_url"] or ()}
    for name in left_out(context):
        values.pop("base_urls" if name == "base_url" else name)
    return DetectOptions.of({f.name: values[f.name] for f in fields(DetectOptions) if f.name in values})


def _found(setup: DetectorSetup, inputs: Sequence[str], options: CommandOptions) -> tuple[FoundImages, Path]:
    """The images that the inputs name, and the run folder; says what was passed over."""
    from anomreason.buckets import local_or_address
    from anomreason.runs import default_run
    from anomreason.sources.inputs import find_images

    found = find_images(inputs, setup.options.outside)
    for sentence in found.passed_over:
        say(f"Passed over: {sentence}", err=True)
    return found, options.run or default_run([str(local_or_address(i).absolute()) for i in inputs], setup.deciding())


def print_plan(setup: DetectorSetup, inputs: Sequence[str], options: CommandOptions) -> None:
    """Print what the run would cost."""
    from anomreason.detection import remaining
    from anomreason.runs import done_in

    found, folder = _found(setup, inputs, options)
    images = found.images[: options.limit]
    todo = list(remaining(images, done_in(folder)))
    show_plan(setup, folder, todo, len(images), options.json_only)


def show_plan(setup: DetectorSetup, folder: Path, todo: Sequence[Image], total: int, json_only: bool) -> None:
    """Print what it would cost to process what is left of `total` images in this run folder."""
    from anomreason.planning import plan_for
    from anomreason.vlm.ledger import spent_in

    note_processed(total - len(todo), total, folder, json_only, err=False)
    print_estimate(plan_for(setup, todo, spent_in(folder)), json_only)


def print_estimate(plan: RunPlan, json_only: bool) -> None:
    """Print what is left to do, and what it would cost."""
    say(plan.model_dump_json() if json_only else _described(plan) if plan.images else "Nothing is left to do.")


def run_detection(setup: DetectorSetup, inputs: Sequence[str], options: CommandOptions) -> int:
    """Detect in what is left of the images, record and print it; gives the exit code."""
    from anomreason.cli.batches import refuse_waiting
    from anomreason.detection import remaining

    found, folder = _found(setup, inputs, options)
    images = found.images[: options.limit]
    with setup.open_run(folder, found, inputs) as opened:
        todo = list(remaining(images, opened.done))
        note_processed(len(images) - len(todo), len(images), folder, options.json_only)
        report = options.report and len(images) <= REPORT_UP_TO
        if setup.in_batches:
            status = process_in_batches(setup, opened, images, replace(options, report=report))
        else:
            refuse_waiting(opened)
            status = process(setup, opened, todo, options)
            show_results(setup, opened, images, status, options.json_only, report)
        failed = any(opened.done[i.name].status == "failed" for i in images if i.name in opened.done)
    return FAILED if status == DONE and failed else status


def process_in_batches(setup: DetectorSetup, run: RunFolder, images: Sequence[Image], options: CommandOptions) -> int:
    """Take what is left of the images as far as the answers reach, write what they ask beyond that, and show both.

    Gives DONE, CAPPED, WAITING or INTERRUPTED.
    """
    from anomreason.cli.batches import opened_batch, tell_answers, tell_round
    from anomreason.detection import remaining

    reading = bool(options.answers)
    with opened_batch(setup, run, options.answers) as batch:
        working, options = replace(setup, vlm=batch), replace(options, yes=options.yes or reading)

        def todo() -> list[Image]:
            # Only writing begins failed images anew: else each round would pay for those that no model can do.
            left, anew = remaining(images, run.done), batch.begun_anew
            return [image for image in left if not reading or image.name not in run.done or image.name in anew]

        status = process(working, run, todo(), options)
        if batch.over and reading and status == DONE:
            # What had no answer yet was counted at its most, also where the answer came later in the same files.
            batch.over = None
            status = process(working, run, todo(), options)
        written = batch.finish()
        if reading:
            tell_answers(batch, run, options.json_only)
        if status == DONE and (batch.over or batch.waiting()):
            status = CAPPED if batch.over else WAITING
        if any(image.name in run.done for image in images):
            show_results(setup, run, images, status, options.json_only, options.report)
        tell_round(batch, written, options.json_only)
    return status


def process(
    setup: DetectorSetup,
    run: RunFolder,
    todo: Sequence[Image],
    options: CommandOptions,
    recorded: Callable[[Detection], None] = lambda _: None,
) -> int:
    """Detect in these images after asking before much is spent; gives DONE, CAPPED or INTERRUPTED.

    recorded: gets each detection after it was recorded in the run folder. Raises UsageError when nobody agrees.
    """
    from anomreason.planning import plan_for
    from anomreason.vlm.ledger import spent_in

    if not todo:
        return DONE
    if not options.yes:
        agree_to(plan_for(setup, todo, spent_in(run.path)))
    # What Ray prints of a worker that died says nothing that the driver does not, and would stand among the results.
    with redirect_stdout(io.StringIO()) if options.spread else nullcontext():
        try:
            return asyncio.run(detect_watched(setup, run, todo, options.json_only, recorded, options.spread))
        except KeyboardInterrupt:
            return INTERRUPTED


def note_processed(done: int, total: int, folder: Path, quiet: bool, err: bool = True) -> None:
    if done and not quiet:
        say(f"{done:,} of {total:,} images already processed in {folder}", err=err)


async def detect_watched(
    setup: DetectorSetup,
    run: RunFolder,
    todo: Sequence[Image],
    quiet: bool = False,
    recorded: Callable[[Detection], None] = lambda _: None,
    spread: SpreadOptions | None = None,
) -> int:
    """Detect with a progress bar; the first Ctrl-C lets calls in flight end for GRACE seconds, the second drops them.

    spread: where the workers are; None for this process. Gives DONE, CAPPED or INTERRUPTED.
    """
    from anomreason.cli.progress import progress
    from anomreason.interrupt import end_after, watch_again
    from anomreason.spread.handover import open_engine

    loop, work = asyncio.get_running_loop(), asyncio.current_task()
    failed = done = 0
    ends: list[asyncio.TimerHandle] = []
    async with open_engine(setup, run, spread) as session:
        before = session.spent

        def interrupt() -> None:
            if session.stopping and work:
                work.cancel()
            elif not quiet:
                say(f"\nFinishing the calls in flight, {GRACE:g} s at most; Ctrl-C again drops them.", err=True)
            if not session.stopping and work:
                ends.append(loop.call_later(GRACE, work.cancel))
                tidy = 1.0 if spread is None else TIDYING
                end_after(GRACE + tidy, f"interrupted; the same command continues ({run.path})")
            session.stop()

        def spent() -> str:
            total = session.spent
            money = "" if total.cost is None else f", ${total.cost - (before.cost or 0.0):.2f}"
            calls, tokens = total.calls - before.calls, total.tokens - before.tokens
            about = "about " if total.estimated else ""
            waiting = f"; {session.waiting}" if session.waiting else ""
            return f"{failed:,} failed, {calls:,} calls, {about}{tokens:,} tokens{money}{waiting}"

        for name in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(name, interrupt)
        try:
            with progress("images", spent, quiet) as step:

                def one_more(detection: Detection) -> None:
                    nonlocal failed, done
                    failed, done = failed + (detection.status == "failed"), done + 1
                    recorded(detection)
                    step(done, len(todo))

                def put_off(_: str) -> None:
                    nonlocal done
                    done += 1
                    step(done, len(todo))

                step(0, len(todo))
                await session.detect(todo, one_more, put_off)
        except asyncio.CancelledError:
            return INTERRUPTED
        finally:
            for end in ends:
                end.cancel()  # what is open is closed in peace
            for name in (signal.SIGINT, signal.SIGTERM):
                loop.remove_signal_handler(name)
            watch_again()
    if not quiet:
        _warn(session, setup.model, run)
    if session.stopping:
        return INTERRUPTED
    return CAPPED if session.budget_reached else DONE


def _warn(session: Session | Handover | Spread, model: str, run: RunFolder) -> None:
    """Say what happened on the way that bears on the results."""
    from anomreason.agent.observer import other_models
    from anomreason.spread.handover import PAYS, Handover

    if isinstance(session, Handover) and session.unaided:
        say(f"Warning: no workers have helped. {session.unaided}", err=True)
    elif isinstance(session, Handover) and session.alone and not session.stopping:
        say(f"Ray was not started: the images took this process no more than {PAYS:g} s.", err=True)
    if session.dead:
        say(f"Stopped: {session.dead}", err=True)
    if other := other_models(model, session.others):
        say(f"Warning: {other}.", err=True)
    if session.estimated:
        say(_estimates(run, session.spent.calls), err=True)


def _estimates(run: RunFolder, calls: int) -> str:
    """For how many of the run's calls the tokens were estimated, and why."""
    from anomreason.vlm.ledger import read_calls

    outcomes = [call.outcome for call in read_calls(run.path) if call.estimated]
    answered = sum(outcome in ("ok", "length", "refused", "unparsable", "unused") for outcome in outcomes)
    why = (
        (answered, "came without usable token counts"),
        (len(outcomes) - answered, "cut off before the answer came (killed, timed out or connection lost)"),
    )
    reasons = ", ".join(f"{number:,} {reason}" for number, reason in why if number)
    return f"Tokens and cost are estimated for {len(outcomes):,} of {calls:,} calls: {reasons}."


def show_results(
    setup: DetectorSetup, run: RunFolder, images: Sequence[Image], status: int, json_only: bool, report: bool
) -> None:
    """Print the results of these images, build the report if asked to, and say what limits the results."""
    from anomreason.cli.summary import Summary
    from anomreason.report.html import build_report, is_current
    from anomreason.report.results import Results
    from anomreason.runs import iter_results

    names = {i.name for i in images}
    with closing(Results(run.path)) as results:
        if json_only:
            for detection in iter_results(run.path):
                if detection.image in names:
                    print(json_line(detection.json_line()))
        else:
            summary = Summary()
            for batch in results.batches():
                for detection in (d for d in batch if d.image in names):
                    summary.add(detection)
            summary.print(len(images))
        if report and not is_current(run.path):
            build_report(run.path, results)
    note_unfinished(run, images, status)
    if json_only:
        return
    if setup.model.startswith("sim:"):
        say(SIMULATED, err=True)
    if report:
        say(f"Report: {run.path / 'report.html'}", err=True)
    else:
        say(f"Results: {run.path}   (for the report: anomreason report {run.path})", err=True)


def note_unfinished(run: RunFolder, images: Sequence[Image], status: int) -> None:
    """Say how many of the images are left when the command was stopped."""
    names = {i.name for i in images}
    if status in (CAPPED, INTERRUPTED):
        left = sum(name not in run.done or not run.done[name].final for name in names)
        why = "Stopped at the limit" if status == CAPPED else "Interrupted"
        how = "The same command with a higher limit continues" if status == CAPPED else "The same command continues"
        say(f"{why} with {left:,} of {len(images):,} images unfinished. {how} ({run.path}).", err=True)


def agree_to(plan: RunPlan) -> None:
    """Ask before spending much. Raises UsageError when there is no terminal to ask at."""
    agree(plan.usual.usage, _described(plan), "the run is")


def _described(plan: RunPlan) -> str:
    lines = [
        f"{plan.images:,} image{'s' * (plan.images != 1)}, schedule {plan.schedule}, model {plan.model}: "
        f"about {spending(plan.usual.usage)}"
    ]
    if plan.upper.usage.tokens > plan.usual.usage.tokens:
        most = f"for {plan.upper.objects}, the most allowed: {spending(plan.upper.usage)}"
        lines.append(f"(for {plan.usual.objects} objects in each image; {most})")
    if plan.fitting is not None:
        lines.append(f"The limit on cost or tokens is expected to finish {plan.fitting:,} of them.")
    if plan.rounds is not None:
        lines.append(f"In {counted(plan.rounds, 'round', 'rounds')} of batches, at their price.")
    else:
        lines.append(f"At {plan.in_flight} concurrent calls and 5 s a call: about {_duration(plan.usual.seconds)}.")
    return "\n".join(lines)


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} seconds"
    return f"{seconds / 60:.0f} minutes" if seconds < 5400 else f"{seconds / 3600:.1f} hours"
