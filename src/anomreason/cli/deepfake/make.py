"""`anomreason deepfake make`: a set of photographs and AI images from folders."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from anomreason.cli.detect import DONE, FAILED, CommandOptions, note_unfinished, process
from anomreason.cli.output import say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.dataset.describing import DescriberSetup
    from anomreason.dataset.leaks import FormatLeak
    from anomreason.deepfake.folder import SetFolder
    from anomreason.deepfake.make import SetReport, SetSource
    from anomreason.detector import DetectOptions

SHOWN = 5
REENCODING = "jpeg:90"
"""What is offered where the files tell the classes apart."""
_DESCRIBING = ("base_url", "api_key_env", "in_flight", "max_cost", "max_tokens", "prices", "yes")
"""Options of the model that describes."""


def command(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="OUT", help="Folder of the set; made where there is none.")],
    real: Annotated[
        list[str], typer.Option(metavar="[NAME=]FOLDER", help="Folder of photographs; repeat for several sources.")
    ],
    fake: Annotated[
        list[str], typer.Option(metavar="[NAME=]FOLDER", help="Folder of AI images; repeat for several generators.")
    ],
    ratios: Annotated[
        str | None, typer.Option(metavar="NAME=SHARE,...", help="Parts of the set. [default: train=0.5,test=0.5]")
    ] = None,
    salt: Annotated[str, typer.Option(help="Another one gives another division.")] = "anomreason",
    copy: Annotated[bool, typer.Option("--copy", help="Copy the images into OUT, instead of linking to them.")] = False,
    reencode: Annotated[
        str | None, typer.Option(metavar="FORM:QUALITY", help="Save all images alike: jpeg:90, webp:90 or png.")
    ] = None,
    square: Annotated[
        int | None, typer.Option(help="With --reencode: also cut each image to its central square of N x N pixels.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Model that describes the photographs, as for detect. [default: none does]")
    ] = None,
    base_url: Annotated[list[str] | None, typer.Option(help="Server of that model; repeat for several.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key for the servers of --base-url.")
    ] = None,
    in_flight: Annotated[int, typer.Option(help="Concurrent model calls.")] = 32,
    max_cost: Annotated[float | None, typer.Option(help="Limit on the cost of descriptions, in US dollars.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit on the tokens of descriptions.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Price file (TOML) instead of the built-in one.")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
) -> None:
    """Make a set of photographs and AI images from folders, divided, checked for what gives a class away.

    A folder's metadata.jsonl or .csv may give prompt, group, description and anomalies of its images; near-duplicates
    and images of one prompt or group get into one part. The same command again takes in new images and describes what
    is left. Exit code: 0 made, 2 usage error, 3 some photographs were not described, 4 stopped at a limit, 130
    interrupted.
    """
    from anomreason.cli.options import fitting, refuse_unused
    from anomreason.cli.progress import progress
    from anomreason.dataset.describing import describer
    from anomreason.dataset.split import RATIOS, parse_ratios
    from anomreason.deepfake.encoding import Reencoding
    from anomreason.deepfake.folder import SetFolder
    from anomreason.deepfake.make import SetOptions, make_set
    from anomreason.errors import UsageError

    if model is None:
        refuse_unused(context, _DESCRIBING, "without --model")
    if square is not None and reencode is None:
        raise UsageError("--square has no effect without --reencode; leave it out, or add --reencode jpeg:90")
    setup = None if model is None else fitting(context, lambda: describer(model, *_describing(context)))
    sources = [*_sources(real, False), *_sources(fake, True)]
    form = None if reencode is None else Reencoding.parse(reencode, square)
    if form is not None and copy:
        raise UsageError("--copy has no effect with --reencode, which writes every image; leave it out")
    parts = parse_ratios(ratios) if ratios is not None else dict(RATIOS)
    with progress("files") as step:
        report = make_set(
            out, sources, SetOptions(parts, salt, copy, form), lambda what, done, total: step(done, total)
        )
    _print(report, out)
    status = DONE
    if setup is not None:
        status = _describe(SetFolder(out), setup, yes)
    elif not report.described:
        say("No descriptions of the photographs: name a model that writes them with --model, to score descriptions too")
    _print_form(report, sources, out)
    say(f"Next: anomreason deepfake run {shlex.quote(str(out))} --model MODEL")
    if status != DONE:
        raise typer.Exit(status)


def _sources(given: Sequence[str], generated: bool) -> list[SetSource]:
    from anomreason.deepfake.make import SetSource
    from anomreason.sources.annotations import named

    found = []
    for text in given:
        name, folder = named(text)
        found.append(SetSource(name or _usable(folder.resolve().name), folder, generated))
    return found


def _usable(name: str) -> str:
    """The folder's name as a source may be called."""
    import re

    return re.sub(r"[^\w.+-]+", "-", name).strip("-.") or "images"


def _describing(context: typer.Context) -> tuple[DetectOptions, frozenset[str]]:
    """The options of the model that describes, and those that the user gave."""
    from anomreason.cli.detect import detect_options
    from anomreason.cli.options import model_options
    from anomreason.detector import DetectOptions

    return detect_options(context), model_options(context) & {f.name for f in fields(DetectOptions)}


def _print(report: SetReport, out: Path) -> None:
    for one in report.sources:
        kind = "AI images" if one.generated else "photographs"
        left = [f"{one.duplicates:,} further copies left out"] * bool(one.duplicates)
        left += [f"{one.unreadable:,} cannot be read"] * bool(one.unreadable)
        say(f"{one.name}: {one.images:,} {kind}{''.join(f', {part}' for part in left)}")
    for path, why in list(report.unreadable.items())[:SHOWN]:
        say(f"  not readable: {path}: {why}", err=True)
    if len(report.unreadable) > SHOWN:
        say(f"  and {len(report.unreadable) - SHOWN:,} more; all are named in {out / 'made.json'}", err=True)
    for sentence in report.passed_over:
        say(f"Passed over: {sentence}", err=True)
    for name, part in report.parts.items():
        say(f"Part {name}: {part['photographs']:,} photographs, {part['ai_images']:,} AI images")
        if not part["photographs"] or not part["ai_images"]:
            say(f"Note: part {name} lacks one of the two; add images, or try another --salt in a new folder", err=True)
    if report.alike:
        say(f"{counted(report.alike, 'image is', 'images are')} near-duplicates of another; each is in its part")
    if report.without_part:
        count = counted(len(report.without_part), "new image is", "new images are")
        say(f"{count} like images of several parts, and so in none: {', '.join(report.without_part[:SHOWN])}")
    if report.crossing:
        pairs = ", ".join(f"{a} and {b}" for a, b in report.crossing[:SHOWN])
        say(f"Note: {len(report.crossing):,} AI images look like a photograph of the set: {pairs}", err=True)
    if report.annotated or report.described:
        known = f"{report.annotated:,} AI images with known anomalies, {report.described:,} photographs described"
        say(f"Known: {known}")


def _describe(folder: SetFolder, setup: DescriberSetup, yes: bool) -> int:
    """Have the photographs described that have no description yet; gives DONE, FAILED, CAPPED or INTERRUPTED."""
    from anomreason.deepfake.make import take_descriptions, undescribed
    from anomreason.detection import remaining
    from anomreason.sources.inputs import FoundImages

    images = folder.listed(undescribed(folder))
    with setup.open_run(folder.descriptions, FoundImages(folder.images, images), []) as run:
        todo = list(remaining(images, run.done))
        status = process(setup, run, todo, CommandOptions(None, None, yes, json_only=False, report=False))
        note_unfinished(run, images, status)
        failed = sum(run.done[image.name].status == "failed" for image in images if image.name in run.done)
    described = take_descriptions(folder)
    say(f"{described:,} photographs described" + (f", {failed:,} failed" if failed else ""))
    return FAILED if status == DONE and failed else status


def _print_form(report: SetReport, sources: Sequence[SetSource], out: Path) -> None:
    """What the files alone give away, and what can be done about it."""
    form = report.form
    if form is None:
        return
    if not form.leaks:
        say("The files alone do not tell photographs from AI images (leak check)")
        return
    say("WARNING: the files alone tell photographs from AI images, so a detector can score well without looking:")
    for line in _telling(form):
        say(f"  {line}")
    done = report.settings["reencode"]
    if done and report.settings["square"]:
        say("The files have one form and size: what is left comes from what the images show (smooth ones are smaller)")
        return
    again = ["anomreason", "deepfake", "make", f"{out}-alike"]
    for one in sources:
        again += ["--fake" if one.generated else "--real", f"{one.name}={one.folder}"]
    again += ["--reencode", done or REENCODING, "--square", str(report.square)]
    say(f"To make both classes alike, in a set of its own:\n  {shlex.join(again)}")
    say(
        f"This cuts each image to its central square, scales it to {report.square} x {report.square} pixels "
        "(smaller ones are\nenlarged) and saves all in one form without metadata. It may hide what shows that an "
        "image is generated:\ncompression and scaling remove fine traces of generators, cutting removes the edges, and "
        "traces of earlier\ncompression stay. Scores then hold for images treated so."
    )


def _telling(form: FormatLeak) -> list[str]:
    lines = []
    for leak in form.telling:
        found = leak.balanced_accuracy
        ends = "" if found.interval is None else f" [{found.interval.low:.2f}, {found.interval.high:.2f}]"
        lines.append(f"{leak.fact}: balanced accuracy {found.value:.2f}{ends} (0.5 by guessing): {leak.rule}")
    together = form.together
    if together is not None and together.balanced_accuracy.value is not None:
        lines.append(f"all facts together: balanced accuracy {together.balanced_accuracy.value:.2f}")
    return lines
