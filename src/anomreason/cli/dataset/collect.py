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


_ONE = {"candidates": "candidate", "descriptions": "description"}
"""Singular of what a file of annotations adds; a split's name has none."""


def command(
    data: Annotated[Path, typer.Argument(metavar="DATA", help="Folder of the dataset; made where there is none.")],
    inputs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[INPUTS]...",
            help="Images, folders, globs, .jsonl/.csv/.parquet tables, zip and tar archives, folders of scenes; also "
            "s3://..., gs://...",
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
    images = _parts(
        (report.images, "new image", "new images"),
        (report.duplicates, "exact duplicate", "exact duplicates"),
        (report.known, "file known before", "files known before"),
    )
    prompts = _parts(
        (report.prompts, "new prompt", "new prompts"),
        (report.prompts_known, "prompt known before or listed twice", "prompts known before or listed twice"),
    )
    say("\n".join(filter(None, (images, prompts))) or "No new images or prompts")
    if report.candidates:
        say(f"{counted(report.candidates, 'anomaly', 'anomalies')} known from scenes")
    if report.unreadable:
        say(f"Not readable: {_counts(report.unreadable)}; see: anomreason dataset list {data} --status unreadable")
    if report.remarks:
        say(f"Collected with a remark: {_counts(report.remarks)}; see: anomreason dataset list {data} --step collect")
    for where, count in report.without_row.items():
        have = counted(count, "image has", "images have")
        say(f"{have} no row in {where}, and so no prompt from it")
    for joined in (*report.annotations, *report.splits):
        _print_joined(joined)
    for sentence in report.passed_over:
        say(f"Passed over: {sentence}")
    for problem in report.problems:
        say(f"Not read to its end: {problem}", err=True)


def _print_joined(joined: JoinedFile) -> None:
    new = _parts(*((count, _ONE.get(name, name), name) for name, count in joined.new.items())) or "nothing"
    more = _parts(
        (joined.failed, "failure", "failures"),
        (joined.twice, "name of the same image again", "names of the same image again"),
    )
    images = counted(joined.images, "image", "images")
    say(f"{joined.file}: {images}; new: {new}{'; ' * bool(more)}{more}")
    _print_left(joined.without_image, joined.without_image_names, "name fits no image", "names fit no image")
    names = joined.without_annotation_names
    _print_left(joined.without_annotation, names, "image is not named in it", "images are not named in it")


def _print_left(count: int, names: Sequence[str], one: str, many: str) -> None:
    if count:
        say(f"  {counted(count, one, many)}: {', '.join(names)}{', ...' if count > len(names) else ''}")


def _parts(*parts: tuple[int, str, str]) -> str:
    """Number, singular and plural of each part; those of which there are none are left out."""
    return ", ".join(counted(number, one, many) for number, one, many in parts if number)


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in counts.items())


def _size(store: Store) -> str:
    from anomreason.dataset.listing import size

    found = size(store)
    kept = counted(found.kept, "image", "images")
    more = _parts(
        (found.dropped, "dropped", "dropped"),
        (found.prompts, "prompt", "prompts"),
        (found.sources, "source", "sources"),
    )
    return f"{kept} kept{', ' * bool(more)}{more}"
