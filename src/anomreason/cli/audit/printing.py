"""The result of an audit on a terminal: the answer in sentences, ranks, pairs, failures, seeds, kinds, agreement.

print_audit(read_result(Path("audit/audit.json"), AuditResult))
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from anomreason.audit.rates import fails_at
from anomreason.audit.sentences import MAIN, NAMES, agreeing, answer, failing, places_text, significant
from anomreason.cli.output import printable
from anomreason.cli.tables import (
    ENDS,
    TextTable,
    console,
    decimals,
    failure_kinds,
    interval,
    note,
    number,
    p_value,
    print_simulated,
    words,
)
from anomreason.english import counted
from anomreason.metrics.plausibility import METRICS
from anomreason.stats import Interval

if TYPE_CHECKING:
    from anomreason.audit.results import AssessorResult, AuditResult
    from anomreason.stats import Correlation

MOST = 30
"""Pairs of generators that are shown."""


def print_audit(result: AuditResult) -> None:
    """Everything but the rates by tag and the single images, which the page has."""
    to = console()
    print_simulated(to, result.simulated)
    sizes = [
        counted(len(result.generators), "generator", "generators"),
        counted(result.prompts, "prompt", "prompts"),
        counted(len(result.seeds), "seed", "seeds"),
    ]
    to.print(note("Audit", ", ".join(sizes)))
    for found in result.assessors:
        _print_assessor(found, to)
    for agreement in result.agreement:
        to.print()
        to.print(Text(printable(f"{agreement.one} and {agreement.other}"), style="bold"))
        for metric in NAMES:
            ranks = agreement.ranks[metric]
            both = f"Spearman {_correlation(ranks.spearman)}, Kendall {_correlation(ranks.kendall)}"
            to.print(Text(printable(f"{agreeing(agreement, metric)} {both}.")))
    to.print()
    for metric, name in NAMES.items():
        to.print(note(name, METRICS[metric]))
    to.print(
        note("Direction", "lower is better and 0 is flawless; severity runs from 0 (implausible) to 100 (realistic)")
    )
    to.print(note("Interval", "95 %, a bootstrap over prompts; - where resamples of the prompts do not differ"))
    to.print(note("Place", f"by {NAMES[MAIN]}; a range where the data hold no single one, - where they hold none"))
    for warning in result.warnings:
        to.print(Text.assemble(("Warning: ", "bold yellow"), printable(warning)))
    to.print(note("Signature", result.signature.line()), soft_wrap=True)


def _print_assessor(found: AssessorResult, to: Console) -> None:
    to.print()
    to.print(Text(printable(f"{found.name}: {found.common:,} prompts common to all ranked generators"), style="bold"))
    for sentence in answer(found, MAIN):
        to.print(Text(f"  {printable(sentence)}"))
    _scores(found).print(to)
    if pairs := [p for p in found.pairs if p.metric == MAIN and p.difference.value is not None]:
        _pairs(found).print(to)
        if len(pairs) > MOST:
            to.print(Text(f"and {len(pairs) - MOST:,} more pairs, and those of the other metrics", style="dim"))
    if any(g.missing or g.failed for g in found.generators):
        _failures(found).print(to)
    for generator in found.generators:
        if failures := fails_at(found.kinds, generator.generator):
            text = "; ".join(map(failing, failures))
            to.print(note(f"{printable(generator.generator)} fails at", text))


def _scores(found: AssessorResult) -> TextTable:
    scores = [[number(name)] for name in NAMES.values()]
    seeds = [number("other seeds,\nCAP within")]
    table = TextTable("", [words("generator", 10)], [[number("place")], *scores, seeds, [number("images")]])
    for one in found.ordered(MAIN):
        cells = []
        for metric in NAMES:
            score = one.scores[metric] if one.unranked is None else one.own[metric]
            cells.append(Text(decimals(score.value, 3)).append(f"\n{interval(score.interval)}", style="dim"))
        spread = one.seeds[MAIN].repeat
        repeat = "-" if spread is None else f"±{spread:.3f}"
        table.add(
            printable(one.generator), places_text(one, MAIN).replace("–", "-"), *cells, repeat, f"{one.assessed:,}"
        )
    return table


def _pairs(found: AssessorResult) -> TextTable:
    title = f"Differences in {NAMES[MAIN]} over the same prompts: the more plausible one less the other"
    heads = ("difference", ENDS, "p (Holm)", "prompts", "left out")
    groups = [[number(head) for head in heads], [words("told apart", 10)], [number("further\nprompts")]]
    table = TextTable(title, [words("first", 8), words("second", 8)], groups)
    order = {g.generator: place for place, g in enumerate(found.ordered(MAIN))}
    pairs = [p for p in found.pairs if p.metric == MAIN and p.difference.value is not None]
    for pair in sorted(pairs, key=lambda p: sorted((order[p.one], order[p.other])))[:MOST]:
        score, ends, first, second = pair.difference, pair.difference.interval, pair.one, pair.other
        value = score.value or 0.0
        if value > 0:
            first, second, value = second, first, -value
            ends = Interval(-ends.high, -ends.low) if ends else None
        table.add(
            printable(first),
            printable(second),
            f"{value:.3f}",
            f"{ends.low:.3f} to {ends.high:.3f}" if ends else "-",
            p_value(pair.p_holm),
            f"{score.n:,}",
            f"{pair.left_out:,}",
            "yes" if pair.better else f"no: {pair.why}",
            "-" if pair.needed is None else significant(pair.needed),
        )
    return table


def _failures(found: AssessorResult) -> TextTable:
    title = f"Images without an assessment, and {NAMES[MAIN]} if they were all clean, or all as bad as the worst 5 %"
    groups = [[number("images"), words("no image", 9), words("not assessed", 9)], [number("bounds")]]
    table = TextTable(title, [words("generator", 10)], groups)
    for one in found.ordered(MAIN):
        table.add(
            printable(one.generator),
            f"{one.images:,}",
            failure_kinds(one.missing) or "none",
            failure_kinds(one.failed) or "none",
            interval(one.bounds.get(MAIN)),
        )
    return table


def _correlation(found: Correlation) -> str:
    if found.value is None:
        return f"undefined (n = {found.n})"
    ends = "" if found.interval is None else f" ({found.interval.low:.2f} to {found.interval.high:.2f})"
    return f"{found.value:.2f}{ends} over {counted(found.n, 'generator', 'generators')}"
