"""Has the images of an audit assessed: one run folder an assessor, in which further images join the earlier ones.

work = assessor_work(audit, audit.assessors[0], images)
with work.open_run() as run:
    asyncio.run(assess(work, run))
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from anomreason.anomaly import Detection
from anomreason.audit.folder import ASSESSORS, IMAGES
from anomreason.audit.making import images_cost
from anomreason.audit.plan import Assessor, AssessorSetup, Audit
from anomreason.detection import remaining
from anomreason.planning import RunPlan, plan_for
from anomreason.runs import RunFolder, done_in
from anomreason.sources.inputs import FoundImages, Image
from anomreason.spread.cluster import SpreadOptions
from anomreason.spread.handover import open_engine
from anomreason.vlm.ledger import FREE, spent_in


@dataclass(frozen=True, slots=True)
class AssessorWork:
    """What one assessor is to do."""

    assessor: Assessor
    setup: AssessorSetup
    """With what is left of the audit's limit on the cost."""
    folder: Path
    """Of its run."""
    images: list[Image]
    """All that are to be assessed, under the names that the run gives them."""
    todo: list[Image]
    """Those without a final result."""
    plan: RunPlan
    """What these are expected to cost."""
    exhausted: bool
    """Whether the audit's limit on the cost leaves nothing for it."""

    def open_run(self) -> RunFolder:
        """Create or continue the run. Raises RunConflict where it was made with other settings."""
        return self.setup.open_run(self.folder, FoundImages(Path("..", IMAGES), self.images), [IMAGES])


def assessor_work(audit: Audit, assessor: Assessor, images: list[Image]) -> AssessorWork:
    """The work of an assessor on these images, within what the audit may still cost."""
    folder, setup = audit.out / ASSESSORS / assessor.name, assessor.setup
    exhausted, spent = False, spent_in(folder)
    if audit.max_cost is not None and setup.price != FREE:
        # The limit of a run counts its own calls of earlier commands.
        left = audit.max_cost - images_cost(audit.out) - assessments_cost(audit, without=assessor)
        own = setup.options.max_cost
        setup = replace(setup, options=replace(setup.options, max_cost=left if own is None else min(own, left)))
        exhausted = left <= (spent.cost or 0.0)
    todo = list(remaining(images, done_in(folder)))
    return AssessorWork(assessor, setup, folder, images, todo, plan_for(setup, todo, spent), exhausted)


def assessments_cost(audit: Audit, without: Assessor | None = None) -> float:
    """US dollars that assessments cost so far, as far as prices are known: also those of assessors that the file no
    longer names.
    """
    folders = audit.out / ASSESSORS
    names = sorted(os.listdir(folders)) if folders.is_dir() else []
    return sum(spent_in(folders / name).cost or 0.0 for name in names if without is None or name != without.name)


async def assess(
    work: AssessorWork,
    run: RunFolder,
    progress: Callable[[int, int], None] = lambda done, total: None,
    spread: SpreadOptions | None = None,
) -> None:
    """Assess what is left; there is no question before money is spent.

    spread: where the workers are; None for this process.
    """
    todo, done = work.todo, 0
    if not todo or work.exhausted:
        return

    def one_more(_: Detection) -> None:
        nonlocal done
        done += 1
        progress(done, len(todo))

    async with open_engine(work.setup, run, spread) as session:
        await session.detect(todo, one_more)


def expected(images: Sequence[Image], total: int) -> list[Image]:
    """These images, and others that do not exist yet up to this number: for an estimate before they are made."""
    return [*images, *(Image(f"expected-{n}", Path(f"expected-{n}")) for n in range(total - len(images)))]
