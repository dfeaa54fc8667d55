"""`anomreason gate`: let images through or reject them by their anomalies."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import chain, count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.buckets import Address
from anomreason.cli import detect
from anomreason.cli.options import borrow_options
from anomreason.cli.output import json_line, printable, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.anomaly import Detection
    from anomreason.detection import Session
    from anomreason.detector import DetectorSetup
    from anomreason.gating.cache import DetectionCache
    from anomreason.gating.limits import GateResult
    from anomreason.sources.inputs import Image

REJECTED = 5
"""Exit status when all images were assessed and some are rejected."""
UNMOVED = 1
"""Exit status when a rejected file could not be moved."""


def command(
    context: typer.Context,
    inputs: Annotated[
        list[str], typer.Argument(help="Files, folders, globs, .zip/.tar archives, lists (.jsonl, .csv, .parquet).")
    ],
    max_cap: Annotated[
        float | None,
        typer.Option(
            help="Reject an image whose CAP is higher. CAP = MAI x AF: MAI is the sum of (100 - severity) / 100 over "
            "its anomalies, AF their number; 0 is flawless."
        ),
    ] = None,
    min_severity: Annotated[
        float | None,
        typer.Option(
            help="Reject an image with an anomaly of a lower severity: 0 = completely implausible, 100 = fully "
            "realistic."
        ),
    ] = None,
    max_anomalies: Annotated[int | None, typer.Option(help="Reject an image with more anomalies.")] = None,
    on_failure: Annotated[
        str,
        typer.Option(
            help="What becomes of an image that could not be assessed: error (neither passed nor rejected; exit code "
            "3), reject or pass."
        ),
    ] = "error",
    move: Annotated[
        Path | None,
        typer.Option(help="Move rejected files into this folder; a file that is there is never overwritten."),
    ] = None,
    junit: Annotated[
        Path | None,
        typer.Option(help="Write the results to this file as JUnit XML too, which services that build software show."),
    ] = None,
    cache: Annotated[
        Path, typer.Option(help="Folder that keeps detections by the images' content, so that none is paid for twice.")
    ] = Path("runs/gate"),
    **_detector: object,
) -> None:
    """Let images through or reject them by their anomalies, for use in a pipeline.

    Give at least one of --max-cap, --min-severity and --max-anomalies. Severity: 0 = completely implausible, 100 =
    fully realistic. Exit code: 0 all images pass, 5 some are rejected, 1 a file could not be moved, 2 usage error, 3
    some could not be assessed, 4 stopped at a limit on cost or tokens, 130 interrupted.
    """
    from anomreason.cli.options import fitting, model_options
    from anomreason.detector import set_up
    from anomreason.errors import UsageError
    from anomreason.gating.assessing import unassessed
    from anomreason.gating.cache import DetectionCache
    from anomreason.gating.junit import write_junit
    from anomreason.gating.limits import Limits, judged
    from anomreason.planning import plan_for

    limits = Limits.of({name: context.params[name] for name in _LIMITS})
    model: str = context.params["model"]
    setup = fitting(context, lambda: set_up(model, detect.detect_options(context), model_options(context)))
    images = _images(inputs, setup.options.outside, move)[: context.params["limit"]]
    json_only: bool = context.params["json_only"]
    if junit and not junit.absolute().parent.is_dir():
        raise UsageError(f"--junit: there is no folder {str(junit.absolute().parent)!r}; make it first")
    with DetectionCache(cache) as opened:
        todo = unassessed(images, setup, opened)
        detect.note_processed(len(images) - len(todo), len(images), cache, json_only)
        plan = plan_for(setup, todo, opened.spent())
        if context.params["dry_run"]:
            detect.print_estimate(plan, json_only)
            return
        if not context.params["yes"]:
            detect.agree_to(plan)
        found = _assessed(images, setup, opened, json_only)
    if found is None:
        raise typer.Exit(detect.INTERRUPTED)
    results = [judged(d, limits) for d in found]
    if junit:
        write_junit(junit, results)
    status = _let_through(images, results, move, json_only)
    if setup.model.startswith("sim:") and not json_only:
        say(detect.SIMULATED, err=True)
    raise typer.Exit(status)


_LIMITS = ("max_cap", "min_severity", "max_anomalies", "on_failure")
borrow_options(command, detect.command, left_out=("run", "report", "batch", "engine", "workers", "ray_address"))


def _images(inputs: Sequence[str], outside: bool, move: Path | None) -> list[Image]:
    """The images that the inputs name, less those that were moved before; says what was passed over."""
    from anomreason.gating.assessing import hashed
    from anomreason.sources.inputs import find_images

    found = find_images(inputs, outside)
    for sentence in found.passed_over:
        say(f"Passed over: {sentence}", err=True)
    left = [image for image in found.images if move is None or not _is_below(image.path, move)]
    if len(left) < len(found.images):
        say(f"Passed over: {counted(len(found.images) - len(left), 'image', 'images')} in {move}", err=True)
    return list(hashed(replace(image, name=_shown(image.path)) for image in left))


def _is_below(path: Path, folder: Path) -> bool:
    return Path(os.path.realpath(path.parent)).is_relative_to(os.path.realpath(folder))


def _shown(path: Path) -> str:
    """The path from where the command runs, or the whole path where it lies elsewhere."""
    below = ".." if isinstance(path, Address) else os.path.relpath(path)
    return (str(path) if below.startswith("..") else below).encode("utf-8", "backslashreplace").decode("utf-8")


def _assessed(
    images: Sequence[Image], setup: DetectorSetup, cache: DetectionCache, json_only: bool
) -> list[Detection] | None:
    """The detections; None when Ctrl-C came, which lets calls in flight end for a while, so that they are kept."""
    from anomreason.cli.progress import progress
    from anomreason.gating.assessing import assess
    from anomreason.interrupt import end_after, first_ctrl_c, saying

    sessions: list[Session] = []
    again = f"interrupted; the same command continues ({cache.folder})"
    interrupted = False

    def stop() -> None:
        nonlocal interrupted
        interrupted = True
        for session in sessions:
            session.caller.stopping = True
        end_after(detect.GRACE, again)
        say(f"\nFinishing the calls in flight, {detect.GRACE:g} s at most; Ctrl-C again drops them.", err=True)

    with progress("images", quiet=json_only) as step, saying(lambda: again), first_ctrl_c(stop):
        found = asyncio.run(
            assess(images, setup, cache, done=lambda number: step(number, len(images)), opened=sessions.append)
        )
    if interrupted:
        say(again, err=True)
    return None if interrupted else found


def _let_through(images: Sequence[Image], results: Sequence[GateResult], move: Path | None, json_only: bool) -> int:
    """Print each result and move what is rejected; gives the exit status."""
    unmoved = 0
    faults = Counter(f"{result.failure.kind}: {result.failure.message}" for result in results if result.failure)
    for image, result in zip(images, results, strict=True):
        to = why = None
        if move and result.passed is False:
            to, why = _moved(image.path, move)
            unmoved += to is None
        place = None if to is None else _shown(to)
        print(json_line(_with_place(result, place)) if json_only else printable(_line(result, place, faults)))
        if why:
            say(f"Not moved: {result.image!r} {why}", err=True)
    if not json_only:
        for fault, number in faults.items():
            if number > 1:
                say(printable(f"Not assessed, {number:,} images: {fault}"))
        counts = Counter(result.passed for result in results)
        say(
            f"{counted(len(results), 'image', 'images')}: {counts[True]:,} passed, {counts[False]:,} rejected, "
            f"{counts[None]:,} not assessed   (severity: 0 = completely implausible, 100 = fully realistic)"
        )
    if unmoved:
        return UNMOVED
    if any(result.failure and result.failure.kind == "budget" for result in results):
        return detect.CAPPED
    verdicts = {result.passed for result in results}
    return detect.FAILED if None in verdicts else REJECTED if False in verdicts else detect.DONE


def _line(result: GateResult, place: str | None, faults: Mapping[str, int]) -> str:
    """faults: how many images each failure concerns; one of several is explained once, below them."""
    verdict = {True: "pass", False: "REJECT", None: "FAILED"}[result.passed]
    anomalies = counted(result.af or 0, "anomaly", "anomalies")
    numbers = "" if result.cap is None else f"CAP {result.cap:g}, {anomalies}"
    worst = "" if result.worst is None else f", worst severity {result.worst:g}"
    why = "; ".join(result.reasons) if result.reasons else numbers + worst
    if result.failure and faults[f"{result.failure.kind}: {result.failure.message}"] > 1:
        why = f"not assessed: {result.failure.kind}, see below"
    return f"{verdict:6}  {result.image}   {why}" + (f"   -> {place}" if place else "")


def _with_place(result: GateResult, place: str | None) -> str:
    return json.dumps({**json.loads(result.json_line()), "moved": place}, ensure_ascii=False)


def _moved(path: Path, folder: Path) -> tuple[Path | None, str | None]:
    """Where a file was moved to, under a new name where its own is taken; or why it was not."""
    if path.is_symlink():
        return None, "is a link; move what it points to, or remove it"
    if not path.is_file():
        where = "in a bucket" if isinstance(path, Address) else "inside an archive or Parquet file"
        return None, f"lies {where}; copy it into a folder first"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in chain([path.name], (f"{path.stem}-{n}{path.suffix}" for n in count(2))):
            with suppress(FileExistsError):
                # An empty file takes the name, so that nobody else's is replaced.
                os.close(os.open(folder / name, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o644))
                break
        return _replaced(path, folder / name), None
    except OSError as error:
        return None, f"cannot be moved to {str(folder)!r}: {error.strerror or error}"


def _replaced(path: Path, taken: Path) -> Path:
    """Move a file over an empty one of our own, to another disk too."""
    draft = taken.with_name(f".{taken.name}.{os.getpid()}.part")
    try:
        try:
            os.replace(path, taken)
        except OSError as error:
            if error.errno != errno.EXDEV:
                raise
            shutil.copy2(path, draft)
            os.replace(draft, taken)
            path.unlink()
    except OSError:
        draft.unlink(missing_ok=True)
        if taken.exists() and not taken.stat().st_size:
            taken.unlink()
        raise
    return taken
