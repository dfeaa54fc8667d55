"""The page of a sweep: one table, beside the card of the run.

write_sweep_page(result, Path("set/runs/gpt-4o/sweep.html"), "card/report.html")
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

from anomreason.files import write_atomically
from anomreason.metrics.robustness import SCORES, SweepResult, VariantResult
from anomreason.report.html import templates
from anomreason.stats import Estimate

TITLES: Mapping[str, str] = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "auroc": "AUROC",
    "recall_at_5": "recall at 5 % false alarms",
}
"""What people read for each of SCORES."""
WORDS: Mapping[str, str] = {"generated": "AI image", "photograph": "photograph", "unsure": "unsure"}
"""What people read for each verdict."""


class SweepRow(NamedTuple):
    """One variant, as terminal and page show it."""

    variant: str
    meaning: str
    pairs: int
    failed: str
    """E.g. `3 missing`; empty when nothing failed."""
    photographs: Estimate
    """Share of photographs whose verdict flipped."""
    fakes: Estimate
    losses: tuple[Estimate, ...]
    """In the order of SCORES."""
    ways: tuple[str, ...]
    """E.g. `photographs: 3 photograph to AI image`."""
    sure: bool
    """Whether any loss has an interval above 0."""


def sweep_rows(result: SweepResult) -> list[SweepRow]:
    """The rows of a sweep, a variant each."""
    return [_row(one) for one in result.variants]


def whys(result: SweepResult) -> list[str]:
    """Why scores have no loss, once each."""
    found = {
        f"{TITLES[name]}: {loss.why_not}": None
        for one in result.variants
        for name, loss in one.losses.items()
        if loss.why_not
    }
    return list(found)


def _row(one: VariantResult) -> SweepRow:
    losses = tuple(one.losses[name].loss for name in SCORES)
    return SweepRow(
        variant=one.variant,
        meaning=one.meaning,
        pairs=one.pairs,
        failed=", ".join(f"{n:,} {kind.replace('_', ' ')}" for kind, n in one.failures.items()),
        photographs=one.flips["photographs"].flipped,
        fakes=one.flips["fakes"].flipped,
        losses=losses,
        ways=tuple(_ways(one)),
        sure=any(loss.interval is not None and loss.interval.low > 0 for loss in losses),
    )


def _ways(one: VariantResult) -> Iterator[str]:
    for kind, title in (("photographs", "photographs"), ("fakes", "AI images")):
        for way, count in one.flips[kind].ways.items():
            before, after = way.split(" to ")
            yield f"{title}: {count:,} from {WORDS[before]} to {WORDS[after]}"


def write_sweep_page(result: SweepResult, path: Path, card: str | None) -> Path:
    """Write the page; gives its path. card: address of the card, from the page's folder."""
    before = {
        TITLES[name]: value
        for name in SCORES
        for one in result.variants[:1]
        if (value := one.losses[name].before) is not None
    }
    page = (
        templates()
        .get_template("sweep.html")
        .render(
            result=result,
            rows=sweep_rows(result),
            titles=[TITLES[name] for name in SCORES],
            before=before,
            whys=whys(result),
            card=card,
        )
    )
    write_atomically(path, page)
    return path
