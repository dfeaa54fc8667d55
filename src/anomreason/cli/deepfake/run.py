"""`anomreason deepfake run`: from a set of photographs and AI images to the card of a detector."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from anomreason.cli.detect import CAPPED, DONE, FAILED, CommandOptions, note_unfinished, process
from anomreason.cli.output import printable, say
from anomreason.english import counted

if TYPE_CHECKING:
    from anomreason.deepfake.folder import SetFolder
    from anomreason.detection import DetectorSetup
    from anomreason.evaluation.running import Settings
    from anomreason.metrics.bertscore import BackboneSpec
    from anomreason.metrics.robustness import SweepResult
    from anomreason.planning import RunPlan


def command(
    context: typer.Context,
    out: Annotated[Path, typer.Argument(metavar="SET", help="Folder that deepfake make has written.")],
    model: Annotated[str, typer.Option(help="The detector's model, as for detect.")],
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
    source_samples: Annotated[
        int,
        typer.Option(help="Answers about the source to draw where the endpoint gives no log-probabilities; 1: none."),
    ] = 1,
    abstain: Annotated[
        tuple[float, float] | None,
        typer.Option(metavar="LOW HIGH", help="Probabilities of AI that count as unsure, e.g. 0.3 0.7."),
    ] = None,
    schedule: Annotated[
        str,
        typer.Option(
            help="How anomalies are searched: lean, paper, release or single. [default: lean; single with a card]",
            show_default=False,
        ),
    ] = "lean",
    backbone: Annotated[
        str | None, typer.Option(help="Also score explanations with this model (id or folder).")
    ] = None,
    base_url: Annotated[list[str] | None, typer.Option(help="Server to use; repeat for several.")] = None,
    api_key_env: Annotated[
        str | None, typer.Option(help="Environment variable with the key for the servers of --base-url.")
    ] = None,
    card: Annotated[Path | None, typer.Option(help="Folder of the fine-tuned detector that a server runs.")] = None,
    max_side: Annotated[int, typer.Option(help="Longest edge of the image sent to an endpoint, in pixels.")] = 1536,
    in_flight: Annotated[int, typer.Option(help="Concurrent model calls.")] = 32,
    timeout: Annotated[float, typer.Option(help="Seconds until one attempt at a call is given up.")] = 120.0,
    temperature: Annotated[float, typer.Option(help="Temperature of calls that are made once.")] = 0.0,
    seed: Annotated[int, typer.Option(help="Seed sent with each call, and of the intervals.")] = 0,
    max_cost: Annotated[float | None, typer.Option(help="Limit on the cost of all of it, in US dollars.")] = None,
    max_tokens: Annotated[int | None, typer.Option(help="Limit on the tokens of all of it.")] = None,
    prices: Annotated[Path | None, typer.Option(help="Price file (TOML) instead of the built-in one.")] = None,
    device: Annotated[str | None, typer.Option(help="Device of a local model: cpu, cuda, ...")] = None,
    dtype: Annotated[str | None, typer.Option(help="Precision of a local model: float32, bfloat16, ...")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what it would cost, and stop.")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before spending.")] = False,
) -> None:
    """Run a detector on a set and write its card: judgements, then scores, then changed images if asked for.

    The same command again continues and asks nothing twice. Exit code: 0 all images processed, 2 usage error, 3 some
    images failed, 4 stopped at a limit, 130 interrupted.
    """
    from anomreason.cli.detect import detect_options
    from anomreason.cli.options import fitting, model_options, refuse_unused
    from anomreason.deepfake.folder import SetFolder, sample
    from anomreason.deepfake.sweep import chosen
    from anomreason.detection import DetectOptions, set_up
    from anomreason.evaluation.running import Settings
    from anomreason.metrics.bertscore import BackboneSpec

    if not sweep:
        refuse_unused(context, ("variant",), "without --sweep")
    folder = SetFolder(out)
    names = folder.names(part)
    names = names if limit is None else sample(names, limit)
    taken = {f.name for f in fields(DetectOptions)} - {"two_turns"}

    def judge() -> DetectorSetup:
        options = replace(detect_options(context), judge_source=not two_turns)
        return set_up(model, options, model_options(context) & taken)

    setup = fitting(context, judge)
    job = Job(folder, setup, name or run_name(setup), names, chosen(variant) if sweep else ())
    if dry_run:
        say(job.described())
        return
    spec = None if backbone is None else BackboneSpec(backbone)
    raise typer.Exit(job.work(yes, Settings(seed=seed), spec))


def run_name(setup: DetectorSetup) -> str:
    """A name that follows from the model and the settings that decide the answers."""
    from anomreason.runs import default_run

    return default_run([setup.model.replace("/", "-")], setup.deciding()).name


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
        self._score(settings, backbone)
        return max(status, self._sweep(settings.seed)) if self.variants else status

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

    def _within(self, setup: DetectorSetup, place: Path) -> DetectorSetup | None:
        """With what is left of the limits on cost and tokens, which hold for all runs of this job; None: nothing is."""
        from anomreason.deepfake.sweep import run_folder
        from anomreason.vlm.ledger import spent_in

        options = setup.options
        places = [run_folder(self.folder, self.name, one) for one in (None, *self.variants)]
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

    def _score(self, settings: Settings, backbone: BackboneSpec | None) -> None:
        """Write the card of these images, and print it."""
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
        page = write_card(found, place / "card")
        print_judgements(found.result)
        say(f"Card: {page}", err=True)

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
