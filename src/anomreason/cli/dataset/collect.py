"""`anomreason dataset collect`: images and prompts into a dataset in work."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.collect import CollectReport
    from anomreason.dataset.collect.annotations import JoinedFile
    from anomreason.dataset.store import Store


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset; made where there is none.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUTS]...",
            help="Images, folders, globs, .jsonl/.csv/.parquet tables, zip and tar archives, folders of scenes.",
        ),
    ] = None,
    prompts: Annotated[
        list[Path] | None, typer.Option(help="List of prompts alone: .txt, .jsonl, .csv or .parquet; repeatable.")
    ] = None,
    annotations: Annotated[
        list[str] | None,
        typer.Option(metavar="[NAME=]PATH", help="Published annotations of the images; repeatable."),
    ] = None,
    splits: Annotated[
        list[Path] | None, typer.Option(help="Published split: a JSON object of lists of image names; repeatable.")
    ] = None,
    source: Annotated[
        str | None, typer.Option(help="Source of the images. [default: as rows say, else the folder's or file's name]")
    ] = None,
    kind: Annotated[
        str | None, typer.Option(help="ai or photograph. [default: as rows or the folders 0_real and 1_fake say]")
    ] = None,
    generator: Annotated[str | None, typer.Option(help="What generated the images.")] = None,
    licence: Annotated[str | None, typer.Option(help="Licence of the images.")] = None,
    terms: Annotated[str | None, typer.Option(help="What may be done with them: a sentence or an address.")] = None,
    copy: Annotated[
        bool, typer.Option("--copy", help="Copy the images into DATA, instead of referring to them.")
    ] = False,
    database: Annotated[
        str | None, typer.Option(help="postgresql+psycopg://USER@HOST/NAME, instead of a SQLite file in DATA.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the report as one JSON object.")] = False,
) -> None:
    """Collect images and prompts. The same command again passes over what it knows; nothing is collected twice."""
    from typing import cast

    import anomreason.dataset
    from anomreason.cli.progress import progress
    from anomreason.dataset.collect import CollectOptions, check, collect
    from anomreason.dataset.collect.entries import SourceKind

    options = CollectOptions(
        prompts=tuple(prompts or ()),
        annotations=tuple(annotations or ()),
        splits=tuple(splits or ()),
        source=source,
        kind=cast("SourceKind | None", kind),
        generator=generator,
        licence=licence,
        terms=terms,
        copy=copy,
    )
    check(inputs or (), options)
    with anomreason.dataset.open(data, database, create=True) as store:
        with progress("collected", quiet=as_json) as step:
            report = collect(store, inputs or (), options, step)
        if as_json:
            say(json_line(json.dumps(asdict(report), ensure_ascii=False)))
        else:
            _print(report, data)
            say(f"{data}: {_size(store)}")
            say(f"Next: anomreason dataset filter {data} --dry-run; what was met: anomreason dataset list {data}")
    if report.problems:
        raise typer.Exit(1)


def _print(report: CollectReport, data: Path) -> None:
    say(f"{report.images:,} new images, {report.duplicates:,} exact duplicates, {report.known:,} files known before")
    if report.prompts or report.prompts_known:
        say(f"{report.prompts:,} new prompts; {report.prompts_known:,} of the lists were there or stand twice")
    if report.candidates:
        say(f"{report.candidates:,} anomalies known from scenes")
    if report.unreadable:
        say(f"Not readable: {_counts(report.unreadable)}; see: anomreason dataset list {data} --status unreadable")
    if report.remarks:
        say(f"Collected with a remark: {_counts(report.remarks)}; see: anomreason dataset list {data} --step collect")
    for where, count in report.without_row.items():
        have = counted(count, "image has", "images have")
        say(f"{have} no row in {where}: collected without a prompt")
    for joined in (*report.annotations, *report.splits):
        _print_joined(joined)
    for sentence in report.passed_over:
        say(f"Passed over: {sentence}")
    for problem in report.problems:
        say(f"Not read to its end: {problem}", err=True)


def _print_joined(joined: JoinedFile) -> None:
    failed = f", {joined.failed:,} failures" if joined.failed else ""
    twice = f", {joined.twice:,} names of the same image again" if joined.twice else ""
    say(f"{joined.file}: {joined.images:,} images, {_counts(joined.new)} new{failed}{twice}")
    _print_left(joined.without_image, joined.without_image_names, "names fit no image")
    _print_left(joined.without_annotation, joined.without_annotation_names, "images are not named in it")


def _print_left(count: int, names: Sequence[str], what: str) -> None:
    if count:
        say(f"  {count:,} {what}: {', '.join(names)}{', ...' if count > len(names) else ''}")


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items()) or "nothing"


def _size(store: Store) -> str:
    from anomreason.dataset.listing import size

    found = size(store)
    return (
        f"{found.kept:,} images kept, {found.dropped:,} dropped, {found.prompts:,} prompts, {found.sources:,} sources"
    )
