"""What people read on a terminal of an `eval`: one table of scores, one of thresholds, and what to make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from anomreason.cli.show import printable
from anomreason.evaluation.signature import line
from anomreason.metrics.image_scores import PROFILES

VIEWS = {"phe": "phenomenon", "rea": "reasoning", "full": "both"}
NAMED = 5
"""How many images of a list are named; files hold them all."""
WIDE = 120
"""Columns of what is not a terminal, such as a log."""


def console() -> Console:
    found = Console()
    return found if found.is_terminal else Console(width=max(WIDE, found.width))


def evaluation(metrics: dict[str, Any], folder: Path) -> None:
    """Everything that one `metrics.json` says, in the order in which a reader asks."""
    out = console()
    _head(out, metrics)
    out.print(_scores(metrics))
    out.print(_thresholds(metrics))
    if "against" in metrics:
        out.print(_against(metrics))
    for text in _notes(metrics):
        out.print(text, soft_wrap=text.plain.startswith("Signature"))
    out.print(Text(f"Files: {folder / 'metrics.json'}, matches.jsonl", style="dim"))


def _head(out: Console, metrics: dict[str, Any]) -> None:
    if metrics["simulated"]:
        out.print(Text("SIMULATED: no model looked at these pictures.", style="bold red"))
    failed = sum(metrics["failures"].values())
    by_kind = f" ({kinds(metrics['failures'])})" if failed else ""
    head = Text.assemble(("\n" + printable(metrics["name"]), "bold"), f" against {metrics['truth']['path']}: ")
    head.append(f"{metrics['n']:,} images, {metrics['images']['answered']:,} answered, {failed:,} failed{by_kind}")
    out.print(head, soft_wrap=True)


def kinds(failures: dict[str, int]) -> str:
    """`3 missing, 1 refused`; empty when nothing failed."""
    return ", ".join(f"{n:,} {kind}" for kind, n in failures.items())


def _scores(metrics: dict[str, Any]) -> Table:
    failed, ceiling = bool(metrics["failures"]), metrics.get("ceiling")
    dropped = metrics["settings"]["failures"] == "drop"
    table = Table(box=None, pad_edge=False)
    heads = ["value", "95 % interval", "chance", *(["ceiling"] if ceiling else []), "pooled"]
    heads += [("failed at 0" if dropped else "failed left out")] if failed else []
    for name in ("profile", "score", "compares"):
        table.add_column(name, no_wrap=True)
    for name in (*heads, "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for profile, views in metrics["profiles"].items():
        for view, zero in views.items():
            shown, other = (zero["dropped"], zero) if dropped else (zero, zero["dropped"])
            for metric, name in (("semap", "SemAP"), ("semf1", "SemF1")):
                cells = [profile, name, _view(view), *_value(shown, metric)]
                cells += [_four(_ceiling(ceiling, profile, view, metric))] if ceiling else []
                cells.append(_pooled(shown, profile, metric))
                cells += [_four(other and other[metric])] if failed else []
                table.add_row(*cells, f"{shown['n']:,}" if shown else "0")
        table.add_section()
    return table


def _view(view: str) -> str:
    name, _, alpha = view.partition("@")
    return f"{name} ({alpha} phenomenon)" if alpha else f"{name} ({VIEWS[name]})"


def _value(figures: dict[str, Any] | None, metric: str) -> list[str]:
    """Value, interval and chance."""
    if not figures:
        return ["-", "-", "-"]
    chance = figures["chance"]
    return [
        _four(figures[metric]),
        interval(figures["interval"][metric]),
        _four(chance[metric]) if chance else "-",
    ]


def _ceiling(ceiling: dict[str, Any], profile: str, view: str, metric: str) -> float | None:
    found = ceiling["profiles"].get(profile, {}).get(view)
    return found[metric] if found else None


def _pooled(figures: dict[str, Any] | None, profile: str, metric: str) -> str:
    """Of counts pooled over images: the F1, and where SemAP is a precision, the precision."""
    if not figures or (metric == "semap" and profile == "paper"):
        return "-"
    return _four(figures["micro"]["precision" if metric == "semap" else "f1"])


def _four(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def named(names: Sequence[str]) -> str:
    """The first of many names."""
    return ", ".join(map(repr, names[:NAMED])) + (", ..." if len(names) > NAMED else "")


def interval(ends: Sequence[float] | None) -> str:
    return "-" if ends is None else f"{ends[0]:.3f} to {ends[1]:.3f}"


def _thresholds(metrics: dict[str, Any]) -> Table:
    dropped = metrics["settings"]["failures"] == "drop"
    table = Table(
        box=None, pad_edge=False, title="By threshold of similarity", title_justify="left", title_style="bold"
    )
    for name in ("profile", "compares"):
        table.add_column(name, no_wrap=True)
    for name in ("from", "matched", "false", "missed", "precision", "recall", "AP", "F1", "chance F1", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", style="yellow", no_wrap=True)
    for profile, views in metrics["profiles"].items():
        for view, zero in views.items():
            figures = zero["dropped"] if dropped else zero
            for threshold in figures["thresholds"] if figures else ():
                table.add_row(profile, view, threshold, *_threshold(figures, threshold, profile))
        table.add_section()
    return table


def _threshold(figures: dict[str, Any], threshold: str, profile: str) -> list[str]:
    row, chance = figures["thresholds"][threshold], figures["chance"]
    counts = [f"{row[key]:,}" for key in ("tp", "fp", "fn")]
    # Where SemAP is a precision, that stands there already.
    shares = [
        f"{row[key]:.3f}" if key != "ap" or profile == "paper" else "-" for key in ("precision", "recall", "ap", "f1")
    ]
    guess = f"{chance['thresholds'][threshold]['f1']['mean']:.3f}" if chance else "-"
    note = f"saturated: {row['saturated']}" if row["saturated"] else ""
    return [*counts, *shares, guess, f"{figures['n']:,}", note]


def _against(metrics: dict[str, Any]) -> Table:
    against = metrics["against"]
    title = printable(f"{metrics['name']} minus {against['name']}, on the same {against['n']:,} images")
    table = Table(box=None, pad_edge=False, title=Text(title), title_justify="left", title_style="bold")
    for name in ("profile", "score", "compares"):
        table.add_column(name, no_wrap=True)
    for name in ("difference", "95 % interval", "p", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    for profile, views in against["profiles"].items():
        for view, scores in views.items():
            for metric, name in (("semap", "SemAP"), ("semf1", "SemF1")):
                found = scores[metric]
                ends = interval(found["interval"])
                row = [f"{found['value']:+.4f}", ends, p_value(found["p"]), f"{against['n']:,}"]
                table.add_row(profile, name, _view(view), *row)
    return table


def p_value(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _notes(metrics: dict[str, Any]) -> Iterable[Text]:
    """What to make of the tables, a line each."""
    signature, settings = metrics["signature"], metrics["settings"]
    for profile in metrics["profiles"]:
        yield _note(f"Profile {profile}", PROFILES[profile])
    if "paper" in metrics["profiles"] and signature["rank_by"] == "severity":
        yield _note("Confidence", "is 100 - severity: our reading of the paper's `severity can serve as confidence`")
    if settings["shuffles"]:
        yield _note("Chance", f"what the same predictions get on other images, mean of {settings['shuffles']} shuffles")
    if ceiling := metrics.get("ceiling"):
        yield _note("Ceiling", f"what a second annotation, {ceiling['name']}, gets on its {ceiling['n']:,} images")
    images = metrics["images"]
    yield _note(
        "Empty",
        f"{images['both_empty']:,} images without anomalies on both sides (they score 1), {images['one_empty']:,} on "
        "one side only (they score 0)",
    )
    if metrics["failures"]:
        how = "score 0" if settings["failures"] == "zero" else "are left out"
        yield _note("Failed", f"{kinds(metrics['failures'])}; here they {how}, and both numbers are in metrics.json")
    yield from _warnings(metrics)
    for profile in metrics["profiles"]:
        yield _note(f"May be compared ({profile})", metrics["comparable"][profile])
        yield _note("Signature", line(signature, profile))


def _warnings(metrics: dict[str, Any]) -> Iterable[Text]:
    saturated: dict[tuple[str, str], list[str]] = {}
    for cell in metrics["saturated"]:
        saturated.setdefault((cell["profile"], cell["matches"]), []).append(f"{cell['view']} {cell['threshold']:g}")
    for (profile, matches), places in saturated.items():
        yield _warning("Saturated", f"nearly {matches} matches in {profile} at {', '.join(places)}: this tells little")
    joined, left_out = metrics["joined"], metrics["left_out"]
    lists = {
        "of the predictions are not in the truth": joined["not_in_truth"],
        "of the truth are missing from the predictions": joined["missing"],
        "of the truth are photographs with a description and are left out (see anomreason deepfake)": left_out[
            "photographs"
        ],
        "of the truth failed there and are left out": left_out["truth_failed"],
        "of the subset are not in the truth": left_out["subset_unknown"],
    }
    for what, names in lists.items():
        if names:
            yield _warning("Not joined", f"{len(names):,} images {what}: {named(names)}")
    if joined["by_file_name"]:
        yield _warning("Joined", f"{joined['by_file_name']:,} images by file name alone, since their paths differ")
    texts = metrics["texts"]
    if texts["truncated"]:
        yield _warning("Truncated", f"{texts['truncated']:,} texts: only their first {texts['limit']} tokens count")
    if drift := metrics.get("drift"):
        yield _warning(
            f"Precision {metrics['signature']['precision']}",
            f"similarities are off fp32 by {drift['mean']:.5f} on average, {drift['largest']:.5f} at most "
            f"({drift['pairs']:,} pairs); do not publish these numbers",
        )


def _note(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold"), text)


def _warning(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold yellow"), text)
