"""What people read on a terminal of a `plausibility`: generators, their differences, what the numbers mean."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from anomreason.cli.show_scores import console, interval, kinds, named, p_value, warning
from anomreason.cli.show_tables import ENDS, Blocks, number, words
from anomreason.cli.summary import counted, printable
from anomreason.evaluation.signature import line
from anomreason.metrics.plausibility import METRICS

NAMES = dict(zip(METRICS, ("MAI", "AF", "CAP", "CAP of means"), strict=True))
MOST = 30
"""Pairs of generators that are shown."""


def generators(found: dict[str, Any]) -> None:
    """Everything that one `plausibility.json` says."""
    to = console()
    if found["simulated"]:
        to.print(Text("SIMULATED: no model looked at these pictures.", style="bold red"))
    _generators(found).print(to)
    _differences(found, to)
    to.print()
    _notes(found, to)


def _generators(found: dict[str, Any]) -> Blocks:
    sizes = [number("images"), words("failed", 9)]
    scores = [[number(name)] for name in NAMES.values()]
    table = Blocks("", [words("generator")], [[number("rank")], *scores, sizes])
    for one in sorted(found["generators"], key=_cap):
        cells = []
        for metric in METRICS:
            score = one["scores"][metric]
            value = "-" if score["value"] is None else f"{score['value']:.3f}"
            cells.append(Text(value).append(f"\n{interval(score['interval'])}", style="dim"))
        rank = one["ranks"].get("cap")
        place = f"{rank['rank']}\n({rank['low']}-{rank['high']})" if rank else "-"
        table.add(Text(printable(one["generator"])), place, *cells, f"{one['n']:,}", kinds(one["failures"]) or "none")
    return table


def _cap(generator: dict[str, Any]) -> float:
    """Sorts those without a score last."""
    value = generator["scores"]["cap"]["value"]
    return float("inf") if value is None else float(value)


def _differences(found: dict[str, Any], to: Console) -> None:
    rows = [d for d in found["differences"] if d["metric"] == "cap" and d["difference"]["value"] is not None]
    if not rows:
        return
    title = "Differences in CAP over the same prompts (below 0: the first is more plausible)"
    heads = ("difference", ENDS, "p", "p (Holm)", "prompts")
    table = Blocks(title, [words("first", 8), words("second", 8)], [[number(head) for head in heads]])
    for row in rows[:MOST]:
        score, names = row["difference"], (Text(printable(row[side])) for side in ("one", "other"))
        ps = (p_value(row["p"]), p_value(row["p_holm"]))
        table.add(*names, f"{score['value']:+.3f}", interval(score["interval"]), *ps, f"{score['n']:,}")
    table.print(to)
    if len(rows) > MOST:
        to.print(Text(f"and {len(rows) - MOST:,} more pairs, and those of MAI and AF (see --out)", style="dim"))


def _notes(found: dict[str, Any], to: Console) -> None:
    for metric, said in METRICS.items():
        to.print(Text.assemble((f"{NAMES[metric]}: ", "bold"), said))
    to.print(
        Text.assemble(("Rank: ", "bold"), "by CAP; shared by generators that cannot be told apart, range in brackets")
    )
    if not found["paired"]:
        to.print(Text("No prompts are known, so nothing is paired (see --manifest, --pair-by-name).", style="yellow"))
    for told in found.get("warnings", ()):
        to.print(warning("Warning", told))
    if strangers := found["not_in_manifest"]:
        told = f"Not in the manifest, left out: {counted(len(strangers), 'image', 'images')}: {named(strangers)}"
        to.print(Text(printable(told), style="yellow"))
    for metric, scores in found.get("agreement", {}).items():
        told = ", ".join(f"{kind} {_correlation(scores[kind])}" for kind in ("spearman", "kendall"))
        to.print(Text.assemble((f"Assessors agree on {NAMES[metric]}: ", "bold"), told))
    to.print(Text.assemble(("Signature: ", "bold"), line(found["signature"])), soft_wrap=True)


def _correlation(found: dict[str, Any]) -> str:
    if found["value"] is None:
        return f"undefined (n = {found['n']})"
    ends = "" if found["interval"] is None else f" ({found['interval'][0]:.2f} to {found['interval'][1]:.2f})"
    return f"{found['value']:.2f}{ends} over {counted(found['n'], 'generator', 'generators')}"
