"""`anomreason audit prompts`: the prompts that generators are to be compared on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.options import fitting, model_options, refuse_unused
from anomreason.cli.output import json_line, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.audit.prompts.selection import PromptSelection, SelectReport
    from anomreason.audit.prompts.tagging import PromptAnswers, TaggingPlan
    from anomreason.detector import DetectorSetup

_ASKING = (
    *("base_url", "api_key_env", "in_flight", "timeout", "retries", "patience", "max_cost", "max_tokens", "prices"),
    *("dtype", "dry_run", "yes", "any_style"),
)
"""Parameters that have no effect without a model to ask."""
_TAGS = 20
"""Tags whose counts are printed."""
_SHOWN = 10
"""Tags that are named of those with too few prompts."""


def command(
    context: typer.Context,
    source: Annotated[
        str,
        typer.Argument(
            metavar="IN",
            help="List of prompts (.txt, .jsonl, .csv, .tsv, .parquet), folder or PostgreSQL address of a dataset, or "
            "the pack photo-246.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="File to write, ending in .jsonl.")] = Path("prompts.jsonl"),
    k: Annotated[int, typer.Option("--k", help="Prompts to choose.")] = 246,
    embedder: Annotated[
        str,
        typer.Option(
            help="Text encoder by which prompts are compared: a folder or hub id of a sentence encoder, CLIP or "
            "SigLIP; or words, which needs no model."
        ),
    ] = "sentence-transformers/all-MiniLM-L6-v2",
    near: Annotated[
        float | None,
        typer.Option(
            help="Similarity from which on two prompts are near-duplicates. [default: 0.9; 0.95 for CLIP, 0.8 for "
            "words]",
            show_default=False,
        ),
    ] = None,
    per_tag: Annotated[
        int | None,
        typer.Option(help="Prompts wanted of each tag. [default: an equal share]", show_default=False),
    ] = None,
    any_style: Annotated[
        bool, typer.Option("--any-style", help="Keep prompts that no photograph could show, too.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Decides the first prompt that is chosen; sent with each call.")] = 0,
    model: Annotated[
        str | None,
        typer.Option(
            help="Model to ask whether each prompt is one for a photograph, and for its tags, as --model of detect. "
            "[default: no question; prompts keep the tags that they have]",
            show_default=False,
        ),
    ] = None,
    base_url: Annotated[list[str] | None, typer.Option(help="Server to use; repeatable.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key for the servers of --base-url.")
    ] = None,
    in_flight: Annotated[int, typer.Option(help="Concurrent model calls.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds until one attempt at a call is given up.")] = 120.0,
    retries: Annotated[int, typer.Option(help="Retries after a server error.")] = 6,
    patience: Annotated[float, typer.Option(help="Seconds to wait for a server that loads its model.")] = 600.0,
    max_cost: Annotated[float | None, typer.Option(help="Limit on the cost of all questions, in US dollars.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit on the tokens of all questions.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Price file (TOML) instead of the built-in one.")] = None,
    device: Annotated[str | None, typer.Option(help="Device of the embedder and a local model: cpu, cuda, ...")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of a local model: float32, bfloat16, ...")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what the questions would cost, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    json_only: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object and nothing else.")
    ] = False,
) -> None:
    """Choose the prompts of an audit: without duplicates, diverse, and with enough of each tag.

    Dropped prompts are listed with their reasons beside the output. The same command again continues and asks nothing
    twice. Exit code: 0 done, 2 usage error, 3 done, but some prompts have no answer that can be used (the same command
    asks again), 4 stopped at a limit, 130 interrupted.
    """
    from anomreason.audit.prompts.selection import SelectOptions, selecting
    from anomreason.cli.detect import CAPPED, FAILED, INTERRUPTED, SIMULATED, detect_options
    from anomreason.cli.progress import progress

    options = SelectOptions(k, embedder, near, per_tag, any_style, seed, device)
    setup = None
    if model is None:
        refuse_unused(context, _ASKING, "without --model")
    else:
        from anomreason.audit.prompts.tagging import tagger

        asked = model  # not None, as a lambda does not see
        setup = fitting(
            context, lambda: tagger(asked, detect_options(context), model_options(context) - {"device", "seed"})
        )
    with selecting(source, out, options, setup) as work:
        with progress("prompts embedded", quiet=json_only) as step:
            work.embed(step)
        with progress("prompts compared", quiet=json_only) as step:
            work.compare(step)
        answers = None
        if setup is not None:
            answers = _ask(work, setup, json_only, dry_run, yes)
            if answers is None:
                return
            if answers.stopped:
                left = counted(len(answers.left(work.prompts)), "prompt is", "prompts are")
                why = {"limit": "Stopped at the limit", "interrupted": "Interrupted"}.get(answers.stopped, "Stopped")
                say(f"{why}: {left} left to ask about, and nothing is written yet.", err=True)
                if why == "Stopped":
                    say(answers.stopped, err=True)
                say("The same command continues.", err=True)
                raise typer.Exit({"limit": CAPPED, "interrupted": INTERRUPTED}.get(answers.stopped, FAILED))
        report = work.choose(answers, setup.model if setup else None)
    if json_only:
        say(json_line(report.model_dump_json()))
    else:
        _show(report, out)
        if setup is not None and setup.model.startswith("sim:"):
            say(SIMULATED, err=True)
    if report.dropped.get("unreadable") or report.dropped.get("unanswered"):
        raise typer.Exit(FAILED)


def _ask(work: PromptSelection, setup: DetectorSetup, quiet: bool, dry_run: bool, yes: bool) -> PromptAnswers | None:
    """Ask about the prompts that are left, after asking before much is spent; None after a dry run."""
    from anomreason.audit.prompts.tagging import ask, plan_tagging, read_answers
    from anomreason.cli.progress import progress
    from anomreason.cli.spending import agree
    from anomreason.interrupt import first_ctrl_c

    answers = read_answers(work.prompts, setup, work.folder)
    plan = plan_tagging(work.prompts, setup, answers)
    if dry_run:
        say(json_line(plan.model_dump_json()) if quiet else _described(plan))
        return None
    if not yes:
        agree(plan.usage, _described(plan), "the questions are")

    def stop() -> None:
        say("\nFinishing the calls in flight; Ctrl-C again drops them.", err=True)
        answers.stop()

    def status() -> str:
        spent = answers.caller.ledger.total if answers.caller else answers.usage
        money = "" if spent.cost is None else f", ${spent.cost:.2f}"
        return f"{len(answers.failed):,} failed, {spent.tokens:,} tokens{money}"

    with progress("prompts asked about", status, quiet) as step, first_ctrl_c(stop):
        asyncio.run(ask(work.prompts, setup, work.folder, answers, step))
    return answers


def _described(plan: TaggingPlan) -> str:
    from anomreason.cli.spending import spending

    prompts = counted(plan.prompts, "prompt", "prompts")
    return f"{prompts} to ask about, model {plan.model}: about {spending(plan.usage)}"


def _show(report: SelectReport, out: Path) -> None:
    from anomreason.audit.prompts.selection import dropped_file

    say(f"{report.read:,} prompts read, {report.chosen:,} chosen")
    for reason, count in report.dropped.items():
        near = f" (similarity {report.near:g} or more)" if reason == "near-duplicate" else ""
        say(f"  {count:>7,}  {reason}{near}")
    if report.chosen < report.wanted:
        say(f"Only {report.chosen:,} of {report.wanted:,} could be chosen: no more are left.", err=True)
    if report.tags:
        say("Chosen by tag:")
        by_number = sorted(report.tags.items(), key=lambda entry: -entry[1].chosen)
        for tag, number in by_number[:_TAGS]:
            say(f"  {number.chosen:>7,}  {tag}")
        if len(by_number) > _TAGS:
            say(f"  and {len(by_number) - _TAGS:,} more tags (--json has all)")
    short = {tag: number for tag, number in report.tags.items() if number.chosen < number.wanted}
    for tag, number in [*short.items()][:_SHOWN]:
        say(f"Too few of {tag!r}: {number.chosen:,} of {number.wanted:,} wanted, {number.there:,} there.", err=True)
    if len(short) > _SHOWN:
        say(f"and of {len(short) - _SHOWN:,} more tags (--json has all)", err=True)
    if report.model is None:
        say(f"Photo style was not asked for{'' if report.tags else ', nor were tags'} (--model does).", err=True)
    if report.nearest is not None:
        say(f"Nearest two: {' and '.join(report.nearest_pair)}, similarity {report.nearest:.2f} ({report.embedder})")
    say(f"Written: {out}; what was dropped, and why: {dropped_file(out)}")
