"""Makes the images of an audit: the recipes' images, in the dataset of its folder.

audit = read_audit(Path("audit.toml"))
with AuditFolder(audit, record_of(audit)) as folder:
    print(make_images(folder))
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from anomreason.audit.folder import DATA, PROMPTS, AuditFolder
from anomreason.audit.plan import Audit
from anomreason.dataset.generate import (
    GenerateOptions,
    GenerateReport,
    GeneratorPlan,
    Work,
    generate,
    image_price,
    plan_generation,
)
from anomreason.dataset.generators.opening import open_generator
from anomreason.dataset.generators.protocol import ImageGenerator
from anomreason.dataset.generators.recipe import GeneratorRecipe


def plan_images(audit: Audit, spent: float = 0.0) -> tuple[GeneratorPlan, ...]:
    """What each recipe is to make, before anything is written. spent: US dollars for assessments so far.

    Raises UsageError and RunConflict as `make_images` does.
    """
    import anomreason.dataset

    if not audit.recipes:
        return ()
    if (audit.out / DATA).is_dir():
        with anomreason.dataset.open(audit.out / DATA) as store:
            plans = plan_generation(store, audit.recipes, _options(audit, spent))
    else:
        plans = tuple(_whole(audit, recipe) for recipe in audit.recipes)
    # A prompt that is not collected yet is not in the plan of a dataset.
    images = len(audit.prompts) * len(audit.seeds)
    return tuple(plan.model_copy(update={"images": images, "left": images - plan.done}) for plan in plans)


def _whole(audit: Audit, recipe: GeneratorRecipe) -> GeneratorPlan:
    price, remote = image_price(recipe)
    images = len(audit.prompts) * len(audit.seeds)
    return GeneratorPlan(generator=recipe.name, images=images, done=0, left=images, remote=remote, price=price)


def make_images(
    folder: AuditFolder,
    spent: float = 0.0,
    progress: Callable[[int, int], None] = lambda done, total: None,
    work: Work | None = None,
    opener: Callable[[GeneratorRecipe], ImageGenerator] = open_generator,
) -> GenerateReport:
    """Make what is missing; there is no question before money is spent. spent: US dollars for assessments so far,
    which count towards the limit of the audit.

    Raises UsageError for recipes that cannot be used, RunConflict for one that made images here with other settings.
    """
    import anomreason.dataset
    from anomreason.dataset.collect import CollectOptions, collect

    audit = folder.audit
    if not audit.recipes:
        return GenerateReport(generators=())
    with anomreason.dataset.open(folder.path / DATA, create=True) as store:
        collect(store, [], CollectOptions(prompts=(folder.path / PROMPTS,)))
        return generate(store, audit.recipes, _options(audit, spent), progress, work, opener)


def _options(audit: Audit, spent: float) -> GenerateOptions:
    from anomreason.dataset.store import storable

    left = None if audit.max_cost is None else max(0.0, audit.max_cost - spent)
    texts = tuple(storable(prompt.text) for prompt in audit.prompts)
    return GenerateOptions(seeds=audit.seeds, texts=texts, max_cost=left)


def images_cost(out: Path) -> float:
    """US dollars that the images of an audit cost so far at most, as far as prices are known."""
    if not (out / DATA).is_dir():
        return 0.0
    from sqlalchemy import func, select

    import anomreason.dataset
    from anomreason.dataset.tables import GenerationRow

    with anomreason.dataset.open(out / DATA) as store, store.reading() as session:
        return session.scalar(select(func.sum(GenerationRow.cost))) or 0.0
