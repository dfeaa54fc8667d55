"""Makes images for the prompts of a dataset: prompt x generator x seed, each once, however often it is stopped.

with anomreason.dataset.open("data") as store:
    print(generate(store, [read_generator("flux.1-dev")], GenerateOptions(seeds=(0, 1), limit=100)))
"""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field
from difflib import get_close_matches
from functools import cached_property
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, func, or_, select
from sqlalchemy.orm import Session

from anomreason.anomaly import Result
from anomreason.dataset.generators.opening import open_generator
from anomreason.dataset.generators.protocol import Generated, ImageGenerator, ImageRequest
from anomreason.dataset.generators.recipe import GeneratorRecipe
from anomreason.dataset.image_facts import image_facts
from anomreason.dataset.store import BATCH, Store, add_new, put, storable
from anomreason.dataset.tables import CommandRow, GenerationRow, ImageRow, ImageState, PromptRow, SourceRow
from anomreason.errors import RunConflict, UsageError
from anomreason.files import remove_drafts, write_atomically
from anomreason.images import inspect_image
from anomreason.runs import settings_difference
from anomreason.vlm.endpoint.address import is_loopback

COMMAND = "generate"
FINAL = ("done", "refused", "blank")
"""What is not tried again: the same seed would bring the same."""
STOP_AFTER = 10
"""Consecutive failures after which a generator is given up."""
_LARGEST_SEED = 2**63 - 1
_MOST_MESSAGES = 1000
_ROUNDING = 1e-6
"""US dollars."""


@dataclass(frozen=True, slots=True)
class GenerateOptions:
    """Which prompts, how many images of each, and what they may cost. The command line has the same defaults."""

    seeds: tuple[int, ...] = (0,)
    """One image of each prompt and generator for each seed."""
    limit: int | None = None
    """Prompts at most, in the order in which they were collected; None for all."""
    kept: bool = False
    """Whether only prompts count that have an image which is kept."""
    sources: tuple[str, ...] = ()
    """Names of sources whose prompts count; empty: all."""
    max_cost: float | None = None
    """US dollars that all images of the dataset may cost together, those of earlier commands included."""
    texts: tuple[str, ...] | None = None
    """The prompts that count, as the store has them; None: all."""

    def check(self) -> None:
        """Raises UsageError for a value that cannot be used."""
        if not self.seeds or any(not 0 <= seed <= _LARGEST_SEED for seed in self.seeds):
            raise UsageError(f"the seeds {list(self.seeds)} cannot be used: give one or more from 0 to 2^63 - 1")
        if len(set(self.seeds)) < len(self.seeds):
            raise UsageError(f"the seeds {list(self.seeds)} hold one twice: remove it")
        if self.limit is not None and self.limit < 1:
            raise UsageError(f"limit must be at least 1, not {self.limit}")
        if self.max_cost is not None and not self.max_cost >= 0:
            raise UsageError(f"max_cost must be 0 or more US dollars, not {self.max_cost}")


class GeneratorPlan(Result):
    """What one generator is to do."""

    generator: str
    images: int
    """Prompts times seeds."""
    done: int
    """Of those, the ones with a result that is not tried again."""
    left: int
    remote: bool
    """Whether another machine is asked, which may charge."""
    price: float | None
    """US dollars an image; None when not known."""

    @property
    def cost(self) -> float | None:
        """US dollars that the rest will cost; None when not known."""
        return None if self.price is None else self.price * self.left


class GeneratorReport(Result):
    """What one generator has done by this command."""

    generator: str
    images: int
    """Prompts times seeds."""
    before: int
    """Of those, the ones that had a result before."""
    done: int
    refused: int
    blank: int
    failed: int
    left: int
    """Those that were not begun."""
    cost: float | None
    """US dollars at most; None where the price is not known."""
    messages: dict[str, int]
    """Why there is no image, with the number of such images."""
    stopped: Literal["interrupted", "cost", "failures"] | None = None
    """Why it ended early."""


class GenerateReport(Result):
    """What a command has done."""

    generators: tuple[GeneratorReport, ...]


@dataclass
class Work:
    """A generation at work, for whoever watches or stops it from outside."""

    stopping: bool = False
    """Set to begin nothing new: images under way are finished and recorded."""
    counts: Counter[str] = field(default_factory=Counter)
    """Results by status."""
    cost: float = 0.0
    """US dollars so far at most, as far as prices are known."""
    finished: int = 0


def generate(
    store: Store,
    recipes: Sequence[GeneratorRecipe],
    options: GenerateOptions = GenerateOptions(),
    progress: Callable[[int, int], None] = lambda done, total: None,
    work: Work | None = None,
    opener: Callable[[GeneratorRecipe], ImageGenerator] = open_generator,
) -> GenerateReport:
    """Make the images that are missing, one generator after the other. There is no question before money is spent.

    Failed images are tried again, refused and blank ones are not. progress: called with the number of results and of
    all images that were left. Raises UsageError for options and recipes that cannot be used, RunConflict for a
    generator that made images here with other settings.
    """
    if asyncio._get_running_loop() is not None:
        raise UsageError("an event loop is running here (a notebook?): use await asyncio.to_thread(generate, ...)")
    plans = plan_generation(store, recipes, options)
    work = work or Work()
    settings = {
        "deciding": {recipe.name: recipe.deciding() for recipe in recipes},
        "recipes": [recipe.model_dump(mode="json", exclude_none=True) for recipe in recipes],
        **asdict(options),
    }
    total = sum(plan.left for plan in plans)
    progress(0, total)
    reports = []
    with store.command(COMMAND, settings) as command:
        for recipe, plan in zip(recipes, plans, strict=True):
            one = _GeneratorPass(store, recipe, options, work, command.id)
            if plan.left and not work.stopping:
                with (
                    closing(opener(recipe)) as generator,
                    closing(generator.generate(one.batches(generator.batch))) as made,
                ):
                    for results in made:
                        one.record(results, generator)
                        progress(work.finished, total)
            reports.append(one.report(plan))
        report = GenerateReport(generators=tuple(reports))
        command.report.update(report.model_dump(mode="json"))
    return report


def plan_generation(
    store: Store, recipes: Sequence[GeneratorRecipe], options: GenerateOptions
) -> tuple[GeneratorPlan, ...]:
    """What is left to do for each generator. Raises UsageError and RunConflict as `generate` does."""
    options.check()
    names = [recipe.name for recipe in recipes]
    if not names:
        raise UsageError("no generator is given; name one or more recipes")
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"two of the recipes have the name {twice[0]!r}; rename one")
    plans = []
    with store.reading() as session:
        chosen = _chosen(session, options)
        for recipe in recipes:
            _check_source(session, recipe)
            _check_unchanged(session, recipe)
            price, remote = image_price(recipe)
            if price is None and options.max_cost is not None and recipe.endpoint:
                raise UsageError(
                    f"max_cost needs the price of an image, and generator {recipe.name!r} does not say it: add "
                    "price_per_image to [endpoint] (0 for a server of your own)"
                )
            images = len(chosen) * len(options.seeds)
            done = int(_done(session, recipe, options, chosen).sum())
            plans.append(
                GeneratorPlan(
                    generator=recipe.name, images=images, done=done, left=images - done, remote=remote, price=price
                )
            )
    return tuple(plans)


def image_price(recipe: GeneratorRecipe) -> tuple[float | None, bool]:
    """US dollars an image, None when not known; and whether another machine is asked."""
    if recipe.endpoint is None:
        return 0.0, False
    from urllib.parse import urlsplit

    return recipe.endpoint.price_per_image, not is_loopback(urlsplit(recipe.endpoint.base_url).hostname or "")


def _numbers(session: Session, query: Select[int]) -> npt.NDArray[np.int64]:
    """One column of numbers; half a million prompts take 5 MB."""
    return np.fromiter(session.scalars(query.execution_options(yield_per=10_000)), np.int64)


def _chosen(session: Session, options: GenerateOptions) -> npt.NDArray[np.int64]:
    """Ids of the prompts that count, in ascending order. Raises UsageError for a source that is not there."""
    known = dict(session.execute(select(SourceRow.name, SourceRow.id)).all())
    for name in options.sources:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(map(repr, sorted(known)[:20]))}"
            raise UsageError(f"the dataset has no source {name!r}; {hint}")
    sources = [known[name] for name in options.sources]
    images = select(ImageRow.prompt_id).where(ImageRow.prompt_id.is_not(None))
    images = images.where(ImageRow.source_id.in_(sources)) if sources else images
    chosen = select(PromptRow.id)
    if options.kept:
        chosen = chosen.where(PromptRow.id.in_(images.where(ImageRow.status == ImageState.KEPT)))
    elif sources:
        chosen = chosen.where(or_(PromptRow.source_id.in_(sources), PromptRow.id.in_(images)))
    ids = _numbers(session, chosen.order_by(PromptRow.id).limit(options.limit if options.texts is None else None))
    if options.texts is None:
        return ids
    wanted = {hashlib.sha256(text.encode()).hexdigest() for text in options.texts}
    named = session.execute(select(PromptRow.id, PromptRow.sha256).execution_options(yield_per=10_000))
    return ids[np.isin(ids, [id for id, sha256 in named if sha256 in wanted])][: options.limit]


def _done(
    session: Session, recipe: GeneratorRecipe, options: GenerateOptions, chosen: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """For each of these prompts, how many of its images have a result that is not tried again."""
    there = select(GenerationRow.prompt_id).where(
        GenerationRow.generator == recipe.name,
        GenerationRow.seed.in_(options.seeds),
        GenerationRow.status.in_(FINAL),
    )
    prompts = _numbers(session, there)
    return np.bincount(np.searchsorted(chosen, prompts[np.isin(prompts, chosen)]), minlength=len(chosen))


def _check_source(session: Session, recipe: GeneratorRecipe) -> None:
    kind = session.scalar(select(SourceRow.kind).where(SourceRow.name == recipe.name))
    if kind not in (None, "ai"):
        raise UsageError(
            f"the dataset has a source {recipe.name!r} of kind {kind!r}, not of AI images; give the recipe another name"
        )


def _check_unchanged(session: Session, recipe: GeneratorRecipe) -> None:
    """Raise RunConflict where the generator made images with other settings."""
    made = select(GenerationRow.command_id).where(GenerationRow.generator == recipe.name)
    first = made.where(GenerationRow.status.in_(FINAL)).limit(1).scalar_subquery()
    settings = session.scalar(select(CommandRow.settings).where(CommandRow.id == first))
    before = (settings or {}).get("deciding", {}).get(recipe.name)
    if before is not None and (differences := settings_difference(before, recipe.deciding())):
        raise RunConflict(
            f"generator {recipe.name!r} made images here with other settings ({'; '.join(differences)}); give the "
            "recipe another name, or the settings it had"
        )


@dataclass(frozen=True, slots=True)
class _Wanted:
    """One image that is wanted of a generator."""

    number: int
    """Its place among all images that are wanted of the generator, those that are there included."""
    prompt_id: int
    prompt_hash: str
    request: ImageRequest
    recorded: GenerationRow | None
    """What became of it before."""


class _GeneratorPass:
    """One generator's way through the prompts."""

    def __init__(
        self, store: Store, recipe: GeneratorRecipe, options: GenerateOptions, work: Work, command_id: int
    ) -> None:
        self._store, self._recipe, self._options, self._work = store, recipe, options, work
        self._command_id = command_id
        self._price = image_price(recipe)[0] or None
        self._most = math.inf if options.max_cost is None else options.max_cost
        self._settings = recipe.model_dump(mode="json", exclude_none=True)
        self._under_way: dict[int, _Wanted] = {}
        """By the identity of the request."""
        self._counts: Counter[str] = Counter()
        self._messages: Counter[str] = Counter()
        self._failures = 0
        """In a row."""
        self._cost = 0.0
        self._stopped: Literal["interrupted", "cost", "failures"] | None = None
        self._swept: set[Path] = set()
        with store.reading() as session:
            self._chosen = _chosen(session, options)
            done = _done(session, recipe, options, self._chosen)
            self._open = np.flatnonzero(done < len(options.seeds))
            """Places of the prompts among the chosen ones that lack an image."""
            self._spent = session.scalar(select(func.sum(GenerationRow.cost))) or 0.0
            """US dollars of the whole dataset, with what is under way."""

    def batches(self, size: int) -> Iterator[list[ImageRequest]]:
        """The requests that are left, in batches that are the same however often the work was stopped.

        Those that failed before come last, so that a row of hopeless ones never keeps the others from their turn.
        """
        for again in (False, True):
            for _, batch in groupby(self._wanted(), lambda wanted: wanted.number // size):
                left = [wanted for wanted in batch if self._is_due(wanted.recorded, again)]
                if not left:
                    continue
                if self._must_stop(len(left)):
                    return
                self._ask(left)
                yield [wanted.request for wanted in left]

    def _is_due(self, recorded: GenerationRow | None, again: bool) -> bool:
        if recorded is None or recorded.status == "asked":
            return not again
        return again and recorded.status not in FINAL and recorded.command_id != self._command_id

    def _must_stop(self, images: int) -> bool:
        if self._work.stopping:
            self._stopped = "interrupted"
        elif self._price and self._spent + images * self._price > self._most + _ROUNDING:
            self._stopped = self._stopped or "cost"
        return self._stopped is not None

    def _ask(self, left: Sequence[_Wanted]) -> None:
        """Note what is asked for. Where it costs money, this is stored at once, so that a kill forgets no cost."""
        self._under_way.update({id(wanted.request): wanted for wanted in left})
        if not self._price:
            return
        self._spent += len(left) * self._price
        rows = [self._row(wanted, "asked", charged=True) for wanted in left]
        with self._store.writing() as session:
            put(session, GenerationRow, rows, ("generator", "prompt_id", "seed"))

    def _wanted(self) -> Iterator[_Wanted]:
        """Every image of the prompts that lack one, by prompt and then by seed; a page of prompts is held at a time."""
        seeds = self._options.seeds
        for start in range(0, len(self._open), BATCH):
            places = {int(self._chosen[place]): int(place) for place in self._open[start : start + BATCH]}
            ids = list(places)
            with self._store.reading() as session:
                prompts = session.scalars(select(PromptRow).where(PromptRow.id.in_(ids)).order_by(PromptRow.id)).all()
                there = select(GenerationRow).where(
                    GenerationRow.generator == self._recipe.name, GenerationRow.prompt_id.in_(ids)
                )
                known = {(row.prompt_id, row.seed): row for row in session.scalars(there)}
            for prompt in prompts:
                for nth, seed in enumerate(seeds):
                    number, request = places[prompt.id] * len(seeds) + nth, ImageRequest(prompt.text, seed)
                    yield _Wanted(number, prompt.id, prompt.sha256, request, known.get((prompt.id, seed)))

    def record(self, results: Sequence[Generated], generator: ImageGenerator) -> None:
        """Store the results of one batch: files first, then all rows in one transaction."""
        images = {id(r.request): self._image(r, generator) for r in results if r.image is not None}
        with self._store.writing() as session:
            add_new(session, ImageRow, list(images.values()))
            hashes = [str(row["sha256"]) for row in images.values()]
            stored = {row.sha256: row for row in session.scalars(select(ImageRow).where(ImageRow.sha256.in_(hashes)))}
            rows = []
            for result in results:
                wanted, image = self._under_way.pop(id(result.request)), images.get(id(result.request))
                status, message, image_id = result.status, result.message, None
                if image is not None:
                    row = stored[image["sha256"]]
                    if (row.prompt_id, row.source_id) != (wanted.prompt_id, self._source):
                        status, message = "refused", f"the bytes are those of image {row.id}, which has another prompt"
                    else:
                        image_id = row.id
                        message = None if row.seed == wanted.request.seed else f"the bytes are those of seed {row.seed}"
                self._count(status, message, result)
                made = self._row(wanted, status, charged=result.charged)
                told = {"message": message and storable(message), "image_id": image_id, "seconds": result.seconds}
                rows.append(made | told)
            put(session, GenerationRow, rows, ("generator", "prompt_id", "seed"))

    def _count(self, status: str, message: str | None, result: Generated) -> None:
        self._counts[status] += 1
        self._work.counts[status] += 1
        self._work.finished += 1
        if message and (message in self._messages or len(self._messages) < _MOST_MESSAGES):
            self._messages[message] += 1
        self._failures = self._failures + 1 if status == "failed" else 0
        if result.stop or self._failures >= STOP_AFTER:
            self._stopped = "failures"
        if self._price and result.charged:
            self._cost += self._price
            self._work.cost += self._price
        elif self._price:
            self._spent -= self._price

    def _row(self, wanted: _Wanted, status: str, *, charged: bool) -> dict[str, Any]:
        """The row of an image that is asked for."""
        cost = wanted.recorded.cost if wanted.recorded else None
        if self._price:
            cost = (cost or 0.0) + (self._price if charged else 0.0)
        return {
            "prompt_id": wanted.prompt_id,
            "generator": self._recipe.name,
            "seed": wanted.request.seed,
            "status": status,
            "message": None,
            "image_id": None,
            "seconds": None,
            "cost": cost,
            "command_id": self._command_id,
        }

    def _image(self, result: Generated, generator: ImageGenerator) -> dict[str, Any]:
        """Write an image's file, and give its row."""
        assert result.image is not None
        wanted, image = self._under_way[id(result.request)], result.image
        path = self._store.folder / "images" / image.sha256[:3] / f"{image.sha256}.png"
        if path.parent not in self._swept:
            path.parent.mkdir(parents=True, exist_ok=True)
            remove_drafts(path.parent)
            self._swept.add(path.parent)
        if not path.is_file():
            write_atomically(path, image.data)
        return {
            **image_facts(inspect_image(path, image.data)),
            "path": self._store.place(path),
            "name": f"{wanted.prompt_hash[:16]}-{result.request.seed}.png",
            "source_id": self._source,
            "prompt_id": wanted.prompt_id,
            "seed": result.request.seed,
            "settings": {"recipe": self._settings, "made_by": dict(generator.made_by), **result.notes},
            "status": ImageState.KEPT,
            "command_id": self._command_id,
        }

    @cached_property
    def _source(self) -> int:
        recipe = self._recipe
        row = {"name": recipe.name, "kind": "ai", "generator": recipe.name, "licence": recipe.licence}
        with self._store.writing() as session:
            add_new(session, SourceRow, [row | {"terms": recipe.terms, "command_id": self._command_id}])
            return session.scalars(select(SourceRow.id).where(SourceRow.name == recipe.name)).one()

    def report(self, plan: GeneratorPlan) -> GeneratorReport:
        """What it has done."""
        if self._work.stopping and self._counts.total() < plan.left:
            self._stopped = self._stopped or "interrupted"
        return GeneratorReport(
            generator=plan.generator,
            images=plan.images,
            before=plan.done,
            done=self._counts["done"],
            refused=self._counts["refused"],
            blank=self._counts["blank"],
            failed=self._counts["failed"],
            left=plan.left - self._counts.total(),
            cost=None if plan.price is None else self._cost,
            messages=dict(self._messages.most_common()),
            stopped=self._stopped,
        )
