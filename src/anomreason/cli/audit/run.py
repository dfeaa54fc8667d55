"""`anomreason audit run`: from the file of an audit to its report."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.detect import (
    CAPPED,
    DONE,
    FAILED,
    INTERRUPTED,
    CommandOptions,
    note_unfinished,
    process,
    spread_options,
)
from anomreason.cli.detect import command as detect_command
from anomreason.cli.options import borrow_options
from anomreason.cli.output import json_line, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.audit.assessing import AssessorWork
    from anomreason.audit.folder import AuditFolder, AuditRecord
    from anomreason.audit.plan import Audit
    from anomreason.dataset.generate import GeneratorPlan, GeneratorReport
    from anomreason.spread.cluster import SpreadOptions

JsonOption = Annotated[bool, typer.Option("--json", help="Print audit.json and nothing else.")]
SHOWN = 3
"""Messages that are shown of each generator."""


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of the command that do not concern the audit."""

    yes: bool
    """Whether money may be spent without asking."""
    quiet: bool = False
    """Whether nothing but the result is printed, as JSON."""
    spread: SpreadOptions | None = None
    """Where the workers are that assess; None for this process."""

    def tell(self, line: str) -> None:
        """Say what is going on."""
        if not self.quiet:
            say(line, err=True)


def command(
    context: typer.Context,
    file: Annotated[Path, typer.Argument(metavar="AUDIT.TOML", help="File of the audit.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print what is left to do and its cost, and stop.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
    as_json: JsonOption = False,
    **_engine: object,
) -> None:
    """Make the images of an audit, have them assessed, and report which generator is how plausible.

    Each step says what it will cost before it begins, and asks where that is not nothing. The same command again
    continues, makes no image and asks no question twice, and tries again what failed. Exit code: 0 all images there and
    assessed, 2 usage error, 3 some missing or failed, 4 stopped at a limit on the cost, 130 interrupted.
    """
    from anomreason.audit.plan import read_audit
    from anomreason.errors import UsageError

    if dry_run and as_json:
        raise UsageError("--json has no effect with --dry-run; leave it out")
    audit, spread = read_audit(file), spread_options(context)
    if spread is not None:
        for assessor in audit.assessors:
            spread.check(assessor.setup)
    if dry_run:
        show_plan(audit)
    else:
        raise typer.Exit(work_through(audit, RunOptions(yes, as_json, spread)))


borrow_options(command, detect_command, ("engine", "workers", "ray_address"))


def show_plan(audit: Audit) -> None:
    """Print what is left to do, and what it is expected to cost."""
    from anomreason.audit.folder import record_of

    record = record_of(audit)
    plans = _plans(audit)
    for line in (_described(audit), *_image_lines(audit, record, plans)):
        say(line)
    for work in _expected_works(audit, record, plans):
        say(_work_line(work))
    for note in (*audit.notes, *record.notes):
        say(f"Note: {note}", err=True)


def work_through(audit: Audit, options: RunOptions) -> int:
    """Do what is left of an audit and report it; gives the exit code."""
    from anomreason.audit.assessing import assessor_work
    from anomreason.audit.folder import AuditFolder, all_images, link_images, present, record_of

    record = record_of(audit)
    plans = _plans(audit)
    options.tell(_described(audit))
    for note in record.notes:
        options.tell(f"Note: {note}")
    _check_terminal(audit, record, plans, options)
    with AuditFolder(audit, record) as folder:
        ends = {_make(folder, plans, options)}
        if INTERRUPTED in ends:
            return INTERRUPTED
        if any(len(one.images) < len(audit.prompts) * len(audit.seeds) for one in record.generators if one.images):
            ends.add(FAILED)
        images = present(tuple(all_images(folder.path, record)))
        link_images(folder.path, images)
        for assessor in audit.assessors:
            ends.add(_assess(assessor_work(audit, assessor, images), options))
            if INTERRUPTED in ends:
                return INTERRUPTED
        show_report(folder.path, options.quiet)
    return max(ends)


def _plans(audit: Audit) -> tuple[GeneratorPlan, ...]:
    from anomreason.audit.assessing import assessments_cost
    from anomreason.audit.making import plan_images

    return plan_images(audit, assessments_cost(audit))


def _described(audit: Audit) -> str:
    sizes = (
        counted(len(audit.prompts), "prompt", "prompts"),
        counted(len(audit.seeds), "seed", "seeds"),
        counted(len(audit.generators), "generator", "generators"),
    )
    assessors = ", ".join(one.name for one in audit.assessors)
    return f"{audit.out}: {' x '.join(sizes)} = {counted(audit.images, 'image', 'images')}, assessed by {assessors}"


def _image_lines(audit: Audit, record: AuditRecord, plans: Sequence[GeneratorPlan]) -> list[str]:
    """A line a generator, in the order of the file."""
    by_name = {plan.generator: plan for plan in plans}
    each = len(audit.prompts) * len(audit.seeds)
    return [
        f"{one.name}: {len(one.images):,} of {each:,} images given"
        if one.images is not None
        else _plan_line(by_name[one.name])
        for one in record.generators
    ]


def _plan_line(plan: GeneratorPlan) -> str:
    from anomreason.cli.dataset.generate import plan_line

    if not plan.left:
        return f"{plan.generator}: {counted(plan.images, 'image', 'images')}, nothing left to make"
    return plan_line(plan)


def _work_line(work: AssessorWork) -> str:
    from anomreason.cli.spending import spending

    plan, name = work.plan, work.assessor.name
    if not plan.images:
        return f"{name}: {counted(len(work.images), 'image', 'images')}, nothing left to assess"
    already = f" of {len(work.images):,}" if plan.images < len(work.images) else ""
    images = f"{plan.images:,}{already} {'image' if len(work.images) == 1 else 'images'}"
    line = f"{name}: {images} to assess, about {spending(plan.usual.usage)}"
    if plan.fitting is not None and plan.fitting < plan.images:
        line += f"; the limit on the cost is expected to finish {plan.fitting:,} of them"
    return line


def _expected_works(audit: Audit, record: AuditRecord, plans: Sequence[GeneratorPlan]) -> list[AssessorWork]:
    """The work of all assessors if every image that is left is made."""
    from anomreason.audit.assessing import assessor_work, expected
    from anomreason.audit.folder import all_images, present

    there = present(tuple(all_images(audit.out, record)))
    listed = expected(there, len(there) + sum(plan.left for plan in plans))
    return [assessor_work(audit, one, listed) for one in audit.assessors]


def _costs(plan: GeneratorPlan) -> bool:
    """Whether making images takes money, or may."""
    return plan.left > 0 and (bool(plan.cost) or (plan.cost is None and plan.remote))


def _may_cost(work: AssessorWork) -> bool:
    """Whether assessing takes money, or may."""
    from urllib.parse import urlsplit

    from anomreason.vlm.endpoint.address import is_loopback

    cost = work.plan.usual.usage.cost
    urls = work.setup.options.base_urls
    own = bool(urls) and all(is_loopback(urlsplit(url).hostname or "") for url in urls)
    return bool(work.todo) and (cost > 0 if cost is not None else not own)


def _check_terminal(audit: Audit, record: AuditRecord, plans: Sequence[GeneratorPlan], options: RunOptions) -> None:
    """Raises UsageError where a step would ask, and there is nobody to answer."""
    from anomreason.errors import UsageError

    if options.yes or is_terminal():
        return
    works = _expected_works(audit, record, plans)
    if any(map(_costs, plans)) or any(map(_may_cost, works)):
        for line in [*_image_lines(audit, record, plans), *map(_work_line, works)]:
            say(line, err=True)
        raise UsageError("this costs money, or may, and there is no terminal to ask at: add --yes to go ahead")


def is_terminal() -> bool:
    """Whether somebody can answer a question."""
    return sys.stdin.isatty()


def _agree(options: RunOptions) -> None:
    from anomreason.errors import UsageError

    if not options.yes and not typer.confirm("Go ahead?", err=True):
        raise UsageError("nothing was sent; the same command asks again")


def _make(folder: AuditFolder, plans: Sequence[GeneratorPlan], options: RunOptions) -> int:
    """Make the images that are missing; gives DONE, FAILED, CAPPED or INTERRUPTED."""
    from anomreason.audit.assessing import assessments_cost
    from anomreason.audit.making import make_images
    from anomreason.cli.progress import progress
    from anomreason.dataset.generate import Work
    from anomreason.interrupt import first_ctrl_c

    for line in _image_lines(folder.audit, folder.contents, plans):
        options.tell(line)
    if not any(plan.left for plan in plans):
        return DONE
    if any(map(_costs, plans)):
        _agree(options)
    work = Work()

    def stop() -> None:
        work.stopping = True
        say("\nFinishing the images under way; Ctrl-C again drops them.", err=True)

    def status() -> str:
        bad = [f"{work.counts[name]:,} {name}" for name in ("refused", "blank", "failed") if work.counts[name]]
        return ", ".join([*bad, *([f"${work.cost:.2f}"] if work.cost else [])])

    with progress("images", status, options.quiet) as step, first_ctrl_c(stop):
        report = make_images(folder, assessments_cost(folder.audit), step, work)
    for one in report.generators:
        _tell_made(one, options)
    ends = {one.stopped for one in report.generators}
    if "interrupted" in ends:
        say(f"Interrupted. The same command continues ({folder.path}).", err=True)
        return INTERRUPTED
    if "cost" in ends:
        say("The same command with a higher max_cost continues.", err=True)
        return CAPPED
    return FAILED if any(one.failed or one.left for one in report.generators) else DONE


def _tell_made(one: GeneratorReport, options: RunOptions) -> None:
    from anomreason.cli.dataset.generate import made_line

    if one.before == one.images:
        return
    options.tell(made_line(one))
    for message, count in list(one.messages.items())[:SHOWN]:
        options.tell(f"  {message}  <- {count:,}")


def _assess(work: AssessorWork, options: RunOptions) -> int:
    """Assess what is left; gives DONE, FAILED, CAPPED or INTERRUPTED."""
    options.tell(_work_line(work))
    name = work.assessor.name
    if work.exhausted and work.todo:
        say(f"{name}: nothing of max_cost is left; raise it to have the rest assessed.", err=True)
        return CAPPED
    if work.todo and _may_cost(work):
        _agree(options)
    shown = CommandOptions(None, None, yes=True, json_only=options.quiet, report=False, spread=options.spread)
    with work.open_run() as run:
        status = process(work.setup, run, work.todo, shown)
        note_unfinished(run, work.images, status)
        results = [run.done[image.name] for image in work.images if image.name in run.done]
    failed = Counter(one.failure for one in results if one.failure)
    if work.todo or failed:
        bad = "".join(f", {count:,} failed: {kind}" for kind, count in failed.most_common())
        good = len(results) - failed.total()
        options.tell(f"{name}: {good:,} of {counted(len(work.images), 'image', 'images')} assessed{bad}")
    return FAILED if status == DONE and failed else status


def show_report(out: Path, as_json: bool = False) -> None:
    """Build the report of an audit's folder, and print it."""
    from anomreason.audit.folder import PAGE, RESULT
    from anomreason.audit.running import write_report
    from anomreason.cli.audit.printing import print_audit

    result = write_report(out)
    if as_json:
        say(json_line(result.model_dump_json()))
        return
    print_audit(result)
    say(f"Results: {out / RESULT}", err=True)
    say(f"Report: {out / PAGE}", err=True)
