"""`anomreason dataset export`: a dataset in work as a folder to give away."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from anomreason.cli.output import json_line, say
from anomreason.english import counted

_MEANING = {
    "unverified": "nobody decided on any candidate",
    "not_annotated": "nobody looked for anomalies: anomreason dataset annotate",
    "detection_failed": "the detector failed: anomreason dataset annotate tries again",
    "out_of_domain": "the detector does not know such images: anomreason dataset annotate with another model",
    "no_split": "in no split: anomreason dataset split",
    "missing": "the file cannot be read",
    "changed": "the file is not the one that was collected",
}


def command(
    data: Annotated[Path, typer.Argument(help="Folder of the dataset in work.")],
    out: Annotated[Path, typer.Argument(help="New folder, or an export of the same settings, which is replaced.")],
    form: Annotated[
        str,
        typer.Option(
            "--format",
            help="imagefolder, parquet (images inside), published (the authors' JSON), trl, llamafactory, ms-swift, "
            "coco, label-studio, prodigy or csv.",
        ),
    ] = "imagefolder",
    scheme: Annotated[str, typer.Option(help="Division into splits.")] = "default",
    split: Annotated[str | None, typer.Option(help="Only this split.")] = None,
    verdict: Annotated[
        str,
        typer.Option(
            help="Outcomes that go in, e.g. accepted,unverified. What a published dataset, a scene or a person brought "
            "counts as accepted until somebody judges it."
        ),
    ] = "accepted",
    accepted_only: Annotated[bool, typer.Option("--accepted-only", help="Only what people accepted here.")] = False,
    min_agreement: Annotated[
        float | None, typer.Option(help="Least share of a candidate's judges who agree, 0 to 1.")
    ] = None,
    beside_known: Annotated[
        bool,
        typer.Option(
            "--beside-known",
            help="Also a detector's candidates of images whose anomalies are known from a published dataset, a scene "
            "or a person. Without, the known ones are the complete list.",
        ),
    ] = False,
    with_steps: Annotated[
        bool, typer.Option("--with-steps", help="Also objects, all candidates with role, step, score and reason.")
    ] = False,
    images: Annotated[str, typer.Option(help="copy, link (hard links), or none.")] = "copy",
    task: Annotated[str, typer.Option(help="Of chat formats: anomalies or authenticity.")] = "anomalies",
    seed: Annotated[int, typer.Option(help="Of chat formats: order of anomalies, wording of questions.")] = 0,
    json_: Annotated[bool, typer.Option("--json", help="Print the report as JSON.")] = False,
) -> None:
    """Write kept images and verified anomalies into a folder to give away, for Hugging Face and others.

    Severity: 0 = completely implausible, 100 = fully realistic. The folder has a data card and sums of all files.
    """
    import anomreason.dataset
    from anomreason.cli.progress import progress
    from anomreason.dataset.export import ExportOptions, export
    from anomreason.dataset.export.coco import WITHOUT_REGION

    options = ExportOptions(
        form,
        scheme,
        split,
        tuple(dict.fromkeys(part.strip() for part in verdict.split(",") if part.strip())),
        accepted_only,
        min_agreement,
        beside_known,
        with_steps,
        images,  # type: ignore[arg-type]
        task,  # type: ignore[arg-type]
        seed,
    )
    with anomreason.dataset.open(data) as store, progress("images", quiet=json_) as step:
        report = export(store, out, options, step)
    if json_:
        say(json_line(report.model_dump_json()))
        return
    for name, count in report.splits.items():
        anomalies = counted(count.anomalies, "anomaly", "anomalies")
        say(f"{name}: {counted(count.images, 'image', 'images')}, {anomalies}")
    say(f"Wrote {report.files:,} files, {report.bytes / 1e6:,.1f} MB, to {out} ({report.format})")
    if report.format == "coco" and report.without_region:
        without = counted(report.without_region, "anomaly", "anomalies")
        say(f"{without} without a region (in {WITHOUT_REGION} of the images)")
    if report.split_by is None:
        say(f"The dataset is not split: all images are in one split. To split it: anomreason dataset split {data}")
    for reason, left in sorted(report.left_out.items()):
        meaning = _MEANING.get(reason, "this format has no place for them")
        say(f"Left out: {counted(left, 'image', 'images')}, {reason} ({meaning})")
    for problem in report.problems:
        say(f"  {problem}")
    if report.beside_known:
        beside = counted(report.beside_known, "candidate", "candidates")
        say(f"Left out: {beside} of a detector, in images whose anomalies are known. To add them: --beside-known")
    if report.unverified:
        say(f"Unverified candidates, not exported: {report.unverified:,}. To add them: --verdict accepted,unverified")
    say(f"Next: anomreason dataset verify {out}")
