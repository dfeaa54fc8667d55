"""`anomreason dataset filter`: which images stay, by rules."""

from __future__ import annotations

import io
from contextlib import nullcontext, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.options import refuse_unused
from anomreason.cli.output import json_line, printable, say

if TYPE_CHECKING:
    from anomreason.dataset.filter.records import FilterReport
    from anomreason.spread.mapping import Workers

_SHOWN = 10
"""Failures that are printed."""


def _print(asked: bool) -> None:
    if asked:
        from anomreason.dataset.filter.rules import default_text

        typer.echo(default_text(), nl=False)
        raise typer.Exit


def command(
    context: typer.Context,
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset.")],
    rules: Annotated[str, typer.Option(help="A TOML file of rules.")] = "default",
    print_rules: Annotated[
        bool,
        typer.Option(
            "--print-rules", help="Print the default rules, to copy and change.", callback=_print, is_eager=True
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Count what each rule would drop, and show the border cases.")
    ] = False,
    sheet: Annotated[
        Path | None, typer.Option(help="Page of border cases of a dry run. [default: DATA/filter.html]")
    ] = None,
    device: Annotated[str | None, typer.Option(help="Device of models. [default: a GPU if there is one]")] = None,
    engine: Annotated[
        str,
        typer.Option(
            help="local: on this machine; ray: in worker processes on this machine or many, which all see the dataset "
            "and the images (needs the extra ray)."
        ),
    ] = "local",
    workers: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Worker processes that open the images. [default: none, but threads; with ray one on each free CPU]",
            show_default=False,
        ),
    ] = None,
    ray_address: Annotated[
        str | None,
        typer.Option(help="Ray cluster, e.g. auto for this machine's. [default: start one here]", show_default=False),
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Drop images by rules: blurry, dark, near-duplicates, not what the prompt says, no photograph, and your own.

    Rules run cheapest first. What was measured is kept, so that other thresholds decide anew without opening images.
    Whatever is dropped stays in the dataset with its reason, and can be restored.
    """
    from anomreason import dataset
    from anomreason.cli.progress import progress
    from anomreason.dataset.filter.filtering import filter_images
    from anomreason.dataset.filter.records import FilterOptions
    from anomreason.dataset.filter.rules import RULES

    if not dry_run:
        refuse_unused(context, ("sheet",), "without --dry-run")
    read = RULES.read(rules)
    beside = Path(rules).expanduser().resolve().parent if rules not in RULES.names() else None
    page = (sheet or data / "filter.html") if dry_run else None
    options = FilterOptions(dry_run=dry_run, sheet=page, beside=beside, device=device)
    pool = _workers(context)
    with (
        redirect_stdout(io.StringIO()) if pool else nullcontext(),  # Ray writes of workers that died there
        dataset.open(data) as store,
        progress("images measured", lambda: pool.status if pool else "", quiet=json) as step,
        pool or nullcontext(),
    ):
        report = filter_images(store, read, options, step, pool)
    if json:
        typer.echo(json_line(report.model_dump_json()))
        return
    print_report(report, data, rules, page)


def _workers(context: typer.Context) -> Workers | None:
    """The processes that --engine and its options ask for; None for threads of this one. Raises UsageError."""
    from anomreason.errors import UsageError

    engine, workers, address = (context.params[name] for name in ("engine", "workers", "ray_address"))
    if engine not in ("local", "ray"):
        raise UsageError(f"--engine must be local or ray, not {engine!r}")
    if engine == "local":
        refuse_unused(context, ("ray_address",), "without --engine ray")
        if workers is None:
            return None
    from anomreason.spread.cluster import SpreadOptions
    from anomreason.spread.mapping import local_workers, ray_workers

    return local_workers(workers) if engine == "local" else ray_workers(SpreadOptions(workers, address))


def print_report(report: FilterReport, data: Path, rules: str, page: Path | None) -> None:
    """For a person: counts by rule, failures, and the next command."""
    would = "would be " if report.dry_run else ""
    rows = [("rule", *(("alone",) if report.dry_run else ()), "dropped", "of", "failed")]
    for rule in report.rules:
        alone = (f"{rule.alone or 0:,}",) if report.dry_run else ()
        rows.append((printable(rule.name), *alone, f"{rule.dropped:,}", f"{rule.looked:,}", f"{rule.failed:,}"))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for name, *numbers in rows:
        cells = (number.rjust(width) for number, width in zip(numbers, widths[1:], strict=True))
        say("  ".join((name.ljust(widths[0]), *cells)))
    say(f"{report.images:,} images: {report.kept:,} {would}kept, {report.dropped:,} {would}dropped")
    for name, count in report.elsewhere.items():
        say(f"Left as it was: {count:,} dropped by {name!r} (anomreason dataset restore {data} --filter {name})")
    if report.failed:
        by_reason = ", ".join(f"{count:,} {reason}" for reason, count in report.failed.items())
        say(f"Kept because a rule could not look at them: {by_reason}")
        for failure in report.failures[:_SHOWN]:
            say(f"  {failure.image} ({failure.rule}): {failure.message}")
        if (more := sum(report.failed.values()) - _SHOWN) > 0:
            say(f"  and {more:,} more (--json lists them)")
    if page is not None:
        say(f"Border cases: {page}")
        chosen = "" if rules == "default" else f" --rules {rules}"
        say("Other thresholds: anomreason dataset filter --print-rules > rules.toml, change it, add --rules rules.toml")
        say(f"Next: anomreason dataset filter {data}{chosen}")
    elif report.dropped:
        say(f"Next: anomreason dataset list {data} --status dropped")
    else:
        say(f"Next: anomreason dataset annotate {data}")
