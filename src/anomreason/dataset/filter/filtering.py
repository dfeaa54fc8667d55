"""`dataset filter`: which images stay in a dataset, by rules.

with anomreason.dataset.open("data") as data:
    print(filter_images(data, RULES.read("default")).dropped)
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping

import numpy as np
from sqlalchemy import func, select
from sqlalchemy.orm import Session

from anomreason.dataset.filter.deciding import ClusterUnion, Decider
from anomreason.dataset.filter.measuring import ImageMeasurer, ImageWorkers, RuleFailure
from anomreason.dataset.filter.pool import load_pool
from anomreason.dataset.filter.records import MOST_FAILURES, FilterFailure, FilterOptions, FilterReport, RuleReport
from anomreason.dataset.filter.rules import Rule, Rules
from anomreason.dataset.filter.scoring import Scorer
from anomreason.dataset.filter.sheet import BorderCases, border_cases, write_sheet
from anomreason.dataset.store import Store
from anomreason.dataset.tables import DecisionRow


def filter_images(
    store: Store,
    rules: Rules,
    options: FilterOptions = FilterOptions(),  # noqa: B008
    progress: Callable[[int, int], None] = lambda done, total: None,
    workers: ImageWorkers | None = None,
) -> FilterReport:
    """Decide by the rules, the cheap ones first, which images stay; the same call again continues.

    workers: processes that open the images, e.g. of `anomreason.spread.mapping`; None: this one does.
    Raises UsageError before any work for a rule whose model or function is not there.
    """
    settings = {"rules": rules.model_dump(mode="json", exclude_none=True), "dry_run": options.dry_run}
    with store.command("filter", settings) as command:
        with store.reading() as session:
            pool = load_pool(session, rules.in_force())
        measurer = ImageMeasurer(store, pool, command.id, progress, workers)
        scorer = Scorer(measurer, options.beside, options.device)
        for rule in rules.in_force().values():
            scorer.check(rule)
        run = _Run(scorer, Decider(store, pool, command.id), options)
        for name, rule in rules.in_force().items():
            run.apply(name, rule)
        if run.union is not None:
            foreign = run.decider.foreign_clusters(rules.in_force())
            if foreign is not None:
                run.union.add(foreign)
            run.decider.record_clusters(run.union.roots())
        with store.reading() as session:
            report = run.report(_dropped_elsewhere(session, rules.in_force()))
        if options.dry_run and options.sheet is not None:
            write_sheet(options.sheet, report, run.cases, measurer)
        command.report.update(report.model_dump(mode="json", exclude={"failures"}))
    return report


class _Run:
    """One filter at work."""

    def __init__(self, scorer: Scorer, decider: Decider, options: FilterOptions) -> None:
        self.scorer, self.decider, self.options = scorer, decider, options
        self.pool = scorer.pool
        self.alive = self.pool.candidate.copy()
        self.union: ClusterUnion | None = None
        self.rules: list[RuleReport] = []
        self.failures: dict[int, tuple[str, RuleFailure]] = {}
        """By place: the first rule that could not look at the image, and why."""
        self.cases: list[BorderCases] = []

    def apply(self, name: str, rule: Rule) -> None:
        """Let one rule look at the images that are left."""
        looked, candidate = self.alive.copy(), self.pool.candidate
        dry = self.options.dry_run
        failures = self.scorer.prepare(rule, candidate if dry else looked)
        scores = self.scorer.score(name, rule, looked)
        fine = np.ones(len(self.pool), bool)
        fine[list(failures)] = False
        may_drop = fine & ~self.decider.restored(name)
        alone = None
        if dry:
            whole = self.scorer.score(name, rule, candidate)
            alone = int((whole.drop & candidate & may_drop).sum())
            self.cases.append(border_cases(name, rule, whole, candidate & fine))
        else:
            self.decider.record(name, rule, scores, looked, failures)
            if scores.clusters is not None:
                self.union = self.union or ClusterUnion(len(self.pool))
                self.union.add(scores.clusters)
        dropped = scores.drop & looked & may_drop
        self.alive &= ~dropped
        for place in np.flatnonzero(looked & ~fine).tolist():
            self.failures.setdefault(place, (name, failures[place]))
        self.rules.append(
            RuleReport(
                name=name,
                looked=int(looked.sum()),
                dropped=int(dropped.sum()),
                alone=alone,
                unscored=int((looked & fine & np.isnan(scores.score)).sum()),
                failed=int((looked & ~fine).sum()),
            )
        )

    def report(self, elsewhere: Mapping[str, int]) -> FilterReport:
        listed = dict(sorted(self.failures.items())[:MOST_FAILURES])
        names = self.decider.names(np.array(list(listed), np.int64))
        candidates, kept = int(self.pool.candidate.sum()), int(self.alive.sum())
        return FilterReport(
            dry_run=self.options.dry_run,
            images=candidates,
            dropped=candidates - kept,
            kept=kept,
            opened=self.scorer.measurer.opened,
            elsewhere=dict(elsewhere),
            rules=tuple(self.rules),
            failed=dict(Counter(failure.reason for _, failure in self.failures.values())),
            failures=tuple(
                FilterFailure(image=names[place], rule=rule, reason=failure.reason, message=failure.message)
                for place, (rule, failure) in listed.items()
            ),
        )


def _dropped_elsewhere(session: Session, own: Collection[str]) -> dict[str, int]:
    """Images dropped by rules that are not in force, by rule."""
    query = select(DecisionRow.filter, func.count()).where(
        DecisionRow.keep.is_(False), DecisionRow.restored.is_(False), DecisionRow.filter.not_in(list(own))
    )
    return dict(session.execute(query.group_by(DecisionRow.filter).order_by(DecisionRow.filter)).all())
