"""`anomreason dataset annotate`: detect anomalies in the images of a dataset, or describe its photographs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli import detect
from anomreason.cli.options import borrow_options
from anomreason.cli.output import json_line, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.annotate import AnnotateOptions, AnnotateReport, Annotation
    from anomreason.dataset.store import Store
    from anomreason.detector import DetectorSetup


def command(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(help="Folder of the dataset.")],
    source: Annotated[
        list[str] | None, typer.Option(help="Only images of this source, whatever its kind; repeat for several.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            help="Only images of sources of this kind: ai, photograph or unknown; repeat for several. [default: ai and "
            "unknown; photograph with --describe]",
            show_default=False,
        ),
    ] = None,
    describe: Annotated[
        bool, typer.Option("--describe", help="Describe what the images show, without looking for anomalies.")
    ] = False,
    run: Annotated[
        str | None,
        typer.Option(
            help="Name of the detector in the dataset, where one model is used with several settings. [default: model "
            "and schedule]",
            show_default=False,
        ),
    ] = None,
    json_only: Annotated[
        bool, typer.Option("--json", help="Print the report as one JSON object and nothing else.")
    ] = False,
    **_detector: object,
) -> None:
    """Detect anomalies in the images of a dataset: candidates for people to verify. Or describe its photographs.

    The same command again continues and repeats nothing that is done; failed images are tried again. Exit code: 0 all
    images processed, 2 usage error, 3 some images failed, 4 stopped at a limit, 130 interrupted.
    """
    import anomreason.dataset
    from anomreason.cli.options import fitting, model_options, refuse_unused
    from anomreason.dataset.annotate import AnnotateOptions, annotator

    if describe or json_only:
        refuse_unused(context, ("report",), "with --describe" if describe else "with --json")
    options = AnnotateOptions(tuple(source or ()), tuple(kind or ()), context.params["limit"], describe, run)
    model: str = context.params["model"]
    setup = fitting(
        context,
        lambda: annotator(model, options, detect.detect_options(context), model_options(context) - {"run"}),
    )
    with anomreason.dataset.open(data) as store:
        if context.params["dry_run"]:
            _show_plan(store, setup, options, json_only)
        else:
            chosen = {name: context.params[name] for name in ("yes", "report")}
            chosen["spread"] = detect.spread_options(context)
            raise typer.Exit(
                _annotate(store, setup, options, detect.CommandOptions(None, None, json_only=json_only, **chosen))
            )


borrow_options(command, detect.command, left_out=("inputs", "outside", "batch"))


def _show_plan(store: Store, setup: DetectorSetup, options: AnnotateOptions, json_only: bool) -> None:
    from anomreason.dataset.annotate import selection
    from anomreason.runs import done_in

    selected = selection(store, setup, options)
    todo = selected.todo(done_in(selected.folder))
    detect.show_plan(setup, selected.folder, todo, len(selected.images), json_only)


def _annotate(store: Store, setup: DetectorSetup, options: AnnotateOptions, shown: detect.CommandOptions) -> int:
    from anomreason.dataset.annotate import annotation

    with annotation(store, setup, options) as work:
        images = work.selected.images
        todo = work.selected.todo(work.run.done)
        detect.note_processed(len(images) - len(todo), len(images), work.run.path, shown.json_only)
        status = detect.process(setup, work.run, todo, shown, work.recorded)
        work.store_waiting()
        found = work.report()
        if shown.json_only:
            print(json_line(found.model_dump_json()))
        else:
            _show(work, found, status, shown.report)
        return detect.FAILED if status == detect.DONE and found.failed else status


def _show(work: Annotation, found: AnnotateReport, status: int, report: bool) -> None:
    images = work.selected.images
    if not images:
        kinds = "photographs" if work.describes else "images of generators"
        say(f"There are no {kinds} to annotate among those that are kept; choose others with --source or --kind.")
        return
    if work.describes:
        if work.setup.model.startswith("sim:"):
            say(detect.SIMULATED, err=True)
        failures = "".join(f", {count:,} failed: {reason}" for reason, count in found.failed.items())
        say(f"{found.images:,} images: {found.done:,} described by {found.detector!r}{failures}, {found.left:,} left")
        for message, count in work.failures():
            say(f"  {message}  <- {count:,}")
        detect.note_unfinished(work.run, images, status)
    else:
        report = report and len(images) <= detect.REPORT_UP_TO
        detect.show_results(work.setup, work.run, images, status, json_only=False, report=report)
        also = f", and {found.dropped:,} that it dropped on the way" if found.dropped else ""
        say(f"In the dataset: {found.anomalies:,} candidates of {found.detector!r}{also}")
        if found.out_of_domain:
            strange = counted(found.out_of_domain, "image is", "images are")
            say(f"{strange} out of the detector's domain: not exported as clean. Annotate them with another model.")
    say(f"Next: anomreason dataset split {work.store.folder}")
