"""`anomreason deepfake run`: from a set of photographs and AI images to the card of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer
from rich.text import Text

from anomreason.cli import detect
from anomreason.cli.detect import CAPPED, DONE, FAILED, CommandOptions, note_unfinished, process
from anomreason.cli.options import borrow_options
from anomreason.cli.output import printable, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.deepfake.folder import SetFolder
    from anomreason.deepfake.judge import ScoredRun
    from anomreason.detector import DetectorSetup
    from anomreason.evaluation.running import Settings
    from anomreason.metrics.bertscore import BackboneSpec
    from anomreason.metrics.robustness import SweepResult
    from anomreason.planning import RunPlan

AnySetup = TypeVar("AnySetup", bound="DetectorSetup")


def command(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="SET", help="Folder that deepfake make has written.")],
    part: Annotated[str, typer.Option(help="Part of the set, or all.")] = "test",
    limit: Annotated[
        int | None, typer.Option(min=2, help="At most N images, photographs and AI images by turns.")
    ] = None,
    sweep: Annotated[
        bool,
        typer.Option("--sweep", help="Also ask about the images compressed, scaled, cropped, blurred, on a screen."),
    ] = False,
    variant: Annotated[
        list[str] | None, typer.Option(help="With --sweep: this variant alone (jpeg-95, half, ...); repeatable.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Folder of the run in SET/runs. [default: the model and its settings]")
    ] = None,
    two_turns: Annotated[
        bool, typer.Option(help="Describe what is judged a photograph, instead of searching it for anomalies.")
    ] = True,
    backbone: Annotated[
        str | None, typer.Option(help="Also score explanations with this model (id or folder).")
    ] = None,
    judge: Annotated[
        str | None,
        typer.Option(
            help="Another model that sees the images and rates each explanation, 1-5: one of OpenAI's, or on a server "
            "with a short name (gemini:NAME, ...)."
        ),
    ] = None,
    controls: Annotated[
        int, typer.Option(min=0, help="Images whose explanations are shown with another image too, with --judge.")
    ] = 50,
    seed: Annotated[int, typer.Option(help="Seed sent with each call, and of the intervals.")] = 0,
    max_cost: Annotated[float | None, typer.Option(help="Limit on the cost of all of it, in US dollars.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit on the tokens of all of it.")] = None,
    **_detector: object,
) -> None:
    """Run a detector on a set and write its card: judgements, then scores, then changed images if asked for.

    The same command again continues and asks nothing twice. Exit code: 0 all images processed, 2 usage error, 3 some
    images failed, 4 stopped at a limit, 130 interrupted.
    """
    from anomreason.cli.options import fitting, model_options, refuse_unused
    from anomreason.deepfake.folder import SetFolder, sample
    from anomreason.deepfake.sweep import chosen
    from anomreason.detector import DetectOptions, set_up
    from anomreason.evaluation.running import Settings
    from anomreason.metrics.bertscore import BackboneSpec

    if not sweep:
        refuse_unused(context, ("variant",), "without --sweep")
    if judge is None:
        refuse_unused(context, ("controls",), "without --judge")
    folder = SetFolder(out)
    names = folder.names(part)
    names = names if limit is None else sample(names, limit)
    taken = {f.name for f in fields(DetectOptions)} - {"two_turns"}

    def detector() -> DetectorSetup:
        options = replace(detect.detect_options(context), judge_source=not two_turns)
        return set_up(context.params["model"], options, model_options(context) & taken)

    setup = fitting(context, detector)
    second = None if judge is None else Judge(judge, controls)
    job = Job(folder, setup, name or run_name(setup), names, chosen(variant) if sweep else (), second)
    if context.params["dry_run"]:
        say(job.described())
        return
    spec = None if backbone is None else BackboneSpec(backbone)
    raise typer.Exit(job.work(context.params["yes"], Settings(seed=seed), spec))


borrow_options(
    command, detect.command, left_out=("inputs", "run", "judge_source", "outside", "json_only", "report", "batch")
)


def run_name(setup: DetectorSetup) -> str:
    """A name that follows from the model and the settings that decide the answers."""
    from anomreason.runs import default_run

    return default_run([setup.model.replace("/", "-")], setup.deciding()).name


@dataclass(frozen=True, slots=True)
class Judge:
    """Who gives a second opinion."""

    model: str
    controls: int
    """Images whose explanations are shown with another image too."""


@dataclass(frozen=True, slots=True)
class Job:
    """One detector on one set."""

    folder: SetFolder
    setup: DetectorSetup
    name: str
    """Of its folder in `SET/runs`."""
    names: Sequence[str]
    """Images to judge."""
    variants: Sequence[str]
    judge: Judge | None = None

    def described(self) -> str:
        """What is left to do and what it will cost, a line each."""
        from anomreason.cli.spending import spending

        plans = self.plans()
        lines = [f"{self.folder.path}: {counted(len(self.names), 'image', 'images')}, model {self.setup.model}"]
        for what, plan in plans.items():
            left = f"{plan.images:,} left, about {spending(plan.usual.usage)}" if plan.images else "nothing left to do"
            lines.append(f"{what}: {left}")
        return "\n".join(lines)

    def plans(self) -> dict[str, RunPlan]:
        """By what is asked: the originals, then each variant, as if all originals get an answer."""
        from anomreason.deepfake.source_only import source_only
        from anomreason.deepfake.sweep import run_folder
        from anomreason.detection import remaining
        from anomreason.planning import plan_for
        from anomreason.runs import done_in

        images = self.folder.listed(self.names)
        place = run_folder(self.folder, self.name)
        found = {"originals": plan_for(self.setup, list(remaining(images, done_in(place))))}
        for variant in self.variants:
            done = done_in(run_folder(self.folder, self.name, variant))
            left = [i for i in images if i.name not in done or not done[i.name].final]
            found[variant] = plan_for(source_only(self.setup), left)
        return found

    def work(self, yes: bool, settings: Settings, backbone: BackboneSpec | None) -> int:
        """Do what is left; gives the exit code. Raises UsageError when nobody agrees to the cost."""
        from anomreason.anomaly import Usage
        from anomreason.cli.spending import agree

        if not yes:
            total = Usage()
            for plan in self.plans().values():
                total += plan.usual.usage
            agree(total, self.described(), "the job is")
        status = self._detect()
        if status not in (DONE, FAILED):
            return status
        status = max(status, self._score(settings, backbone, yes))
        if not self.variants or status not in (DONE, FAILED):
            return status
        return max(status, self._sweep(settings.seed))

    def _detect(self) -> int:
        from anomreason.deepfake.sweep import run_folder
        from anomreason.detection import remaining
        from anomreason.runs import done_in
        from anomreason.sources.inputs import FoundImages

        images, place = self.folder.listed(self.names), run_folder(self.folder, self.name)
        setup = self._within(self.setup, place)
        if setup is None:
            return CAPPED if list(remaining(images, done_in(place))) else DONE
        with setup.open_run(place, FoundImages(self.folder.images.resolve(), images), []) as run:
            todo = list(remaining(images, run.done))
            if len(todo) < len(images):
                say(f"{len(images) - len(todo):,} of {len(images):,} images already judged in {place}", err=True)
            status = process(setup, run, todo, _QUIETLY)
            note_unfinished(run, images, status)
            failed = any(run.done[i.name].status == "failed" for i in images if i.name in run.done)
        return FAILED if status == DONE and failed else status

    def _within(self, setup: AnySetup, place: Path) -> AnySetup | None:
        """With what is left of the limits on cost and tokens, which hold for all runs of this job; None: nothing is."""
        from anomreason.deepfake.sweep import run_folder
        from anomreason.vlm.ledger import spent_in

        options = setup.options
        places = [run_folder(self.folder, self.name, one) for one in (None, *self.variants)] + [self._ratings]
        others = [spent_in(one) for one in places if one != place]
        own = spent_in(place)
        if options.max_cost is not None:
            left = options.max_cost - sum(one.cost or 0.0 for one in others)
            if left <= (own.cost or 0.0):
                return None
            options = replace(options, max_cost=left)
        if options.max_tokens is not None:
            tokens = options.max_tokens - sum(one.tokens for one in others)
            if tokens <= own.tokens:
                return None
            options = replace(options, max_tokens=tokens)
        return replace(setup, options=options)

    @property
    def _ratings(self) -> Path:
        """Run folder of the second opinion."""
        from anomreason.deepfake.opinion import FOLDER

        return self.folder.runs / self.name / "card" / FOLDER

    def _score(self, settings: Settings, backbone: BackboneSpec | None, yes: bool) -> int:
        """Write the card of these images, with a second opinion if asked for, and print it; gives the exit code."""
        import json

        from anomreason.cli.deepfake.score import print_judgements
        from anomreason.cli.progress import progress
        from anomreason.deepfake.card import write_card
        from anomreason.deepfake.judge import score
        from anomreason.deepfake.sweep import run_folder
        from anomreason.files import write_atomically

        place = self.folder.runs / self.name
        subset = place / "images.json"
        write_atomically(subset, json.dumps(list(self.names), ensure_ascii=False) + "\n")
        run = f"{self.name}={run_folder(self.folder, self.name)}"
        with progress("comparing texts", quiet=backbone is None) as step:
            found = score(
                run,
                self.folder.truth,
                backbone,
                settings,
                subset=subset,
                image_folder=self.folder.images,
                progress=step,
            )
        found, status = self._rated(found, yes) if self.judge else (found, DONE)
        page = write_card(found, place / "card")
        print_judgements(found.result)
        say(f"Card: {page}", err=True)
        return status

    def _rated(self, found: ScoredRun, yes: bool) -> tuple[ScoredRun, int]:
        """With the judge's ratings as far as they have come, and the exit code."""
        from anomreason.cli.deepfake.score import ask_judge
        from anomreason.deepfake.opinion import questions
        from anomreason.deepfake.rating import rater
        from anomreason.detector import DetectOptions

        assert self.judge is not None
        options = self.setup.options
        shared = {name: getattr(options, name) for name in _JUDGE_OPTIONS}
        asked = questions(found, self.judge.controls)
        setup = self._within(rater(self.judge.model, DetectOptions(**shared), asked.explanations), self._ratings)
        if setup is None:
            say("Nothing is left of the limit for the second opinion; a higher one continues.", err=True)
            return found, CAPPED
        return ask_judge(setup, found, asked, self._ratings, yes=yes)

    def _sweep(self, seed: int) -> int:
        from anomreason.deepfake.sweep import answered, read_sweep, write_sweep

        asked = answered(self.folder, self.name, self.names)
        ends = {DONE}
        for variant in self.variants if asked else ():
            ends.add(self._ask_about(variant, asked))
            if ends - {DONE, FAILED}:
                return max(ends)
        result = read_sweep(self.folder, self.name, self.names, self.variants, seed)
        page = write_sweep(self.folder, result)
        print_sweep(result)
        say(f"Sweep: {page}", err=True)
        return max(ends)

    def _ask_about(self, variant: str, names: Sequence[str]) -> int:
        """Make the images of a variant and ask about those without an answer."""
        from anomreason.cli.progress import progress
        from anomreason.deepfake.source_only import source_only
        from anomreason.deepfake.sweep import run_folder
        from anomreason.deepfake.variants import FOLDER, VARIANTS, make_images
        from anomreason.detection import remaining
        from anomreason.runs import done_in
        from anomreason.sources.inputs import FoundImages

        place = run_folder(self.folder, self.name, variant)
        with progress(f"made for {variant}") as step:
            images = make_images(self.folder, VARIANTS[variant], names, step)
        setup = self._within(source_only(self.setup), place)
        if setup is None:
            if not list(remaining(images, done_in(place))):
                return DONE
            say(f"{variant}: nothing is left of the limit; the same command with a higher one continues.", err=True)
            return CAPPED
        with setup.open_run(place, FoundImages((self.folder.path / FOLDER / variant).resolve(), images), []) as run:
            todo = list(remaining(images, run.done))
            status = process(setup, run, todo, _QUIETLY)
            note_unfinished(run, images, status)
            failed = any(run.done[i.name].status == "failed" for i in images if i.name in run.done)
        return FAILED if status == DONE and failed else status


_JUDGE_OPTIONS = (
    *("max_side", "seed", "temperature", "in_flight", "timeout", "retries", "patience", "control_question"),
    *("max_cost", "max_tokens", "prices"),
)
"""Options that hold for the detector and the judge alike."""
_QUIETLY = CommandOptions(None, None, yes=True, json_only=False, report=False)
"""The cost of the whole job was agreed to before."""


def print_sweep(result: SweepResult) -> None:
    """The table of a sweep, and which way verdicts flipped."""
    from anomreason.cli.tables import (
        ENDS,
        TextTable,
        console,
        decimals,
        interval,
        label,
        number,
        print_simulated,
        words,
    )
    from anomreason.deepfake.sweep_page import TITLES, sweep_rows, whys
    from anomreason.metrics.robustness import SCORES

    to = console()
    print_simulated(to, result.simulated)
    rows = sweep_rows(result)
    flips = [number("photographs\nflipped"), number(ENDS), number("AI images\nflipped"), number(ENDS)]
    table = TextTable("Changed images: share of verdicts that flip", [label("change")], [[*flips, number("n")]])
    for row in rows:
        cells = [decimals(row.photographs.value, 3), interval(row.photographs.interval)]
        cells += [decimals(row.fakes.value, 3), interval(row.fakes.interval)]
        table.add(row.variant, *cells, f"{row.pairs:,}")
    table.print(to)
    for place, score in enumerate(SCORES):
        table = TextTable(
            f"Loss of {TITLES[score]} (before - after)",
            [label("change")],
            [[number("loss"), number(ENDS), number("before"), number("after"), words("no answer", 9)]],
        )
        for one, row in zip(result.variants, rows, strict=True):
            loss = one.losses[score]
            ends = [decimals(row.losses[place].value, 3), interval(row.losses[place].interval)]
            table.add(one.variant, *ends, decimals(loss.before, 3), decimals(loss.after, 3), row.failed or "none")
        table.print(to)
    for row in rows:
        if row.ways:
            to.print(Text(printable(f"{row.variant}: {'; '.join(row.ways)}")))
    for why in whys(result):
        to.print(Text(f"No value of {why}", style="yellow"))
