"""What people read on a terminal of an `eval`: a table of scores, one of thresholds, and what to make of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from anomreason.cli.show_tables import ENDS, Blocks, number
from anomreason.cli.summary import counted, printable
from anomreason.evaluation.signature import line
from anomreason.metrics.image_scores import PROFILES

VIEWS = {"phe": "phenomenon", "rea": "reasoning", "full": "full"}
METRICS = (("semap", "SemAP"), ("semf1", "SemF1"))
AMBIGUOUS = "of the predictions, whose file name alone fits several"
NAMED = 5
"""How many images of a list are named; files hold them all."""
WIDE = 120
"""Columns of what is not a terminal, such as a log."""


def console() -> Console:
    found = Console()
    return found if found.is_terminal else Console(width=max(WIDE, found.width))


def evaluations(found: Sequence[tuple[dict[str, Any], Path]], verbose: bool = False) -> None:
    """What the `metrics.json` of one command say, with the folder of each; what they share is said once, at the end."""
    out = console()
    for metrics, folder in found:
        _one(out, metrics, verbose)
        out.print(Text(f"Files: {printable(str(folder / 'metrics.json'))}, matches.jsonl", style="dim"), soft_wrap=True)
    if found:
        out.print()
        for text in _shared([metrics for metrics, _ in found], verbose):
            out.print(text, soft_wrap=text.plain.startswith("Signature"))


def _one(out: Console, metrics: dict[str, Any], verbose: bool) -> None:
    _head(out, metrics)
    _scores(metrics).print(out)
    if verbose:
        _otherwise(metrics).print(out)
    _thresholds(metrics, verbose).print(out)
    if "against" in metrics:
        _against(metrics).print(out)
    out.print()
    for text in (*_notes(metrics), *_warnings(metrics)):
        out.print(text)


def _head(out: Console, metrics: dict[str, Any]) -> None:
    out.print()
    if metrics["simulated"]:
        out.print(Text("SIMULATED: no model looked at these pictures.", style="bold red"))
    failed = sum(metrics["failures"].values())
    by_kind = f" ({kinds(metrics['failures'])})" if failed else ""
    head = Text.assemble((printable(metrics["name"]), "bold"), f" against {printable(metrics['truth']['path'])}: ")
    head.append(f"{counted(metrics['n'], 'image', 'images')}, {metrics['images']['answered']:,} answered, ")
    out.print(head.append(f"{failed:,} failed{by_kind}"), soft_wrap=True)


def kinds(failures: dict[str, int]) -> str:
    """`3 missing, 1 refused`; empty when nothing failed."""
    return ", ".join(f"{n:,} {kind}" for kind, n in failures.items())


def _shown(metrics: dict[str, Any], zero: dict[str, Any]) -> dict[str, Any] | None:
    """Figures with failures counted as asked; None when all failed and are left out."""
    found: dict[str, Any] | None = zero["dropped"] if metrics["settings"]["failures"] == "drop" else zero
    return found


def _over(metrics: dict[str, Any]) -> str:
    dropped = metrics["settings"]["failures"] == "drop"
    return "Over " + counted(metrics["images"]["answered"] if dropped else metrics["n"], "image", "images")


def _scores(metrics: dict[str, Any]) -> Blocks:
    """A row a view: both scores, each with its interval, its chance and its ceiling where there are any."""
    ceiling, chance = metrics.get("ceiling"), bool(metrics["settings"]["shuffles"])
    beside = [*(["chance"] if chance else []), *(["ceiling"] if ceiling else [])]
    groups = [[number(name), number(ENDS), *map(number, beside)] for _, name in METRICS]
    table = Blocks(_over(metrics), [number("profile"), number("compares")], groups)
    for profile, views in metrics["profiles"].items():
        for view, zero in views.items():
            shown, cells = _shown(metrics, zero), []
            for metric, _ in METRICS:
                cells += _value(shown, metric, chance)
                cells += [_four(_ceiling(ceiling, profile, view, metric))] if ceiling else []
            table.add(profile, _view(view), *cells)
        table.section()
    return table


def _view(view: str) -> str:
    return VIEWS.get(view, view)


def _value(figures: dict[str, Any] | None, metric: str, chance: bool) -> list[str]:
    """Value, interval and, where it was asked for, chance."""
    guess = figures["chance"] if figures else None
    told = [_four(figures[metric]), interval(figures["interval"][metric])] if figures else ["-", "-"]
    return told + ([_four(guess[metric] if guess else None)] if chance else [])


def _ceiling(ceiling: dict[str, Any], profile: str, view: str, metric: str) -> float | None:
    found = ceiling["profiles"].get(profile, {}).get(view)
    return found[metric] if found else None


def _otherwise(metrics: dict[str, Any]) -> Blocks:
    """The same scores counted in other ways: pooled, and with failed images the other way."""
    dropped, failed = metrics["settings"]["failures"] == "drop", bool(metrics["failures"])
    other_way = "failed\nat 0" if dropped else "failed\nleft out"
    groups = [
        [number(f"{name}\npooled")] + ([number(f"{name},\n{other_way}")] if failed else []) for _, name in METRICS
    ]
    table = Blocks("Counted otherwise", [number("profile"), number("compares")], groups)
    for profile, views in metrics["profiles"].items():
        for view, zero in views.items():
            other, cells = zero if dropped else zero["dropped"], []
            for metric, _ in METRICS:
                cells.append(_pooled(_shown(metrics, zero), profile, metric))
                cells += [_four(other and other[metric])] if failed else []
            table.add(profile, _view(view), *cells)
        table.section()
    return table


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
    """`0.033–0.111`; `-0.033 to 0.111` where there is a sign, which a dash would hide."""
    if ends is None:
        return "-"
    return f"{ends[0]:.3f}{' to ' if ends[0] < 0 else '–'}{ends[1]:.3f}"


def _thresholds(metrics: dict[str, Any], verbose: bool) -> Blocks:
    chance = bool(metrics["settings"]["shuffles"])
    heads = [
        "from",
        "matched",
        "false",
        "missed",
        "precision",
        "recall",
        "AP",
        "F1",
        *(["chance\nF1"] if chance else []),
    ]
    title = "By threshold of similarity" + ("" if verbose else ", full")
    keys = [number("profile"), *([number("compares")] if verbose else [])]
    table = Blocks(title, keys, [[number(head) for head in heads]])
    for profile, views in metrics["profiles"].items():
        for view in views if verbose else ("full",):
            figures = _shown(metrics, views[view])
            if figures:
                told = [profile, *([_view(view)] if verbose else [])]
                for threshold in figures["thresholds"]:
                    table.add(*told, *_threshold(figures, threshold, profile, chance))
        table.section()
    return table


def _threshold(figures: dict[str, Any], threshold: str, profile: str, chance: bool) -> list[str]:
    row, guess = figures["thresholds"][threshold], figures["chance"]
    counts = [f"{row[key]:,}" for key in ("tp", "fp", "fn")]
    # Where SemAP is a precision, that stands there already.
    shares = [
        f"{row[key]:.3f}" if key != "ap" or profile == "paper" else "-" for key in ("precision", "recall", "ap", "f1")
    ]
    told = [f"{guess['thresholds'][threshold]['f1']['mean']:.3f}" if guess else "-"] if chance else []
    return [("! " if row["saturated"] else "") + threshold, *counts, *shares, *told]


def _against(metrics: dict[str, Any]) -> Blocks:
    against = metrics["against"]
    over = counted(against["n"], "image", "images")
    title = printable(f"{metrics['name']} minus {against['name']}, on the same {over}")
    groups = [[number(name), number(ENDS), number("p")] for _, name in METRICS]
    table = Blocks(title, [number("profile"), number("compares")], groups)
    for profile, views in against["profiles"].items():
        for view, scores in views.items():
            cells = []
            for metric, _ in METRICS:
                found = scores[metric]
                cells += [f"{found['value']:+.4f}", interval(found["interval"]), p_value(found["p"])]
            table.add(profile, _view(view), *cells)
        table.section()
    return table


def p_value(p: float | None) -> str:
    return "-" if p is None else "< 0.001" if p < 0.001 else f"{p:.3f}"


def _notes(metrics: dict[str, Any]) -> Iterable[Text]:
    """What to know of one file, a line each."""
    images = metrics["images"]
    if images["both_empty"] or images["one_empty"]:
        told = counted(images["both_empty"], "image", "images") + " without anomalies on both sides (scored 1), "
        yield note("Empty", told + f"{images['one_empty']:,} on one side only (scored 0)")
    if metrics["failures"]:
        how = "score 0" if metrics["settings"]["failures"] == "zero" else "are left out"
        yield note("Failed", f"{kinds(metrics['failures'])}; here they {how}, and both numbers are in metrics.json")


def _shared(found: Sequence[dict[str, Any]], verbose: bool) -> Iterable[Text]:
    """What holds for all files of a command, a line each."""
    metrics = found[0]
    signature, settings = metrics["signature"], metrics["settings"]
    if verbose:
        for profile in metrics["profiles"]:
            yield note(f"Profile {profile}", PROFILES[profile])
        if "paper" in metrics["profiles"] and signature["rank_by"] == "severity":
            yield note(
                "Confidence", "100 - severity, our reading of the paper's `severity can optionally serve as confidence`"
            )
    if settings["shuffles"]:
        yield note("Chance", _chance(found, settings["shuffles"]))
    if ceiling := metrics.get("ceiling"):
        told = counted(ceiling["n"], "image", "images")
        yield note("Ceiling", printable(f"what a second annotation, {ceiling['name']}, gets on its {told}"))
    places = {profile: metrics["comparable"][profile] for profile in metrics["profiles"]}
    told = next(iter(places.values())) if len(places) == 1 else "; ".join(f"{p}: {what}" for p, what in places.items())
    yield note("May be compared", told)
    yield note("Signature", line(signature))
    if not verbose:
        yield Text("More, such as every view by threshold: --verbose, metrics.json and the report.", style="dim")


def _chance(found: Sequence[dict[str, Any]], shuffles: int) -> str:
    views = [(one, zero) for one in found for views in one["profiles"].values() for zero in views.values()]
    if any((_shown(one, zero) or {}).get("chance") for one, zero in views):
        mean = "one shuffle" if shuffles == 1 else f"mean of {shuffles} shuffles"
        return f"what the same predictions get on other images, {mean}"
    return "not known, since it takes two images that were answered"


def _warnings(metrics: dict[str, Any]) -> Iterable[Text]:
    saturated: dict[tuple[str, str], list[str]] = {}
    for cell in metrics["saturated"]:
        saturated.setdefault((cell["profile"], cell["matches"]), []).append(f"{cell['view']} {cell['threshold']:g}")
    for (profile, matches), places in saturated.items():
        yield warning(
            "Saturated (!)", f"nearly {matches} matches in {profile} at {', '.join(places)}: this tells little"
        )
    joined, left_out = metrics["joined"], metrics["left_out"]
    lists = {
        "of the predictions, not in the truth": joined["not_in_truth"],
        AMBIGUOUS: joined.get("ambiguous", []),
        "of the truth, missing from the predictions": joined["missing"],
        "of the truth, left out as photographs with a description (see anomreason deepfake)": left_out["photographs"],
        "of the truth, left out since they failed there": left_out["truth_failed"],
        "of the subset, not in the truth": left_out["subset_unknown"],
    }
    for what, names in lists.items():
        if names:
            yield not_joined(names, what)
    if joined["by_file_name"]:
        yield by_file_name(joined["by_file_name"])
    texts = metrics["texts"]
    if texts["truncated"]:
        told = counted(texts["truncated"], "text, of which", "texts, of which")
        yield warning("Truncated", f"{told} only the first {texts['limit']} tokens count")
    if drift := metrics.get("drift"):
        yield warning(
            f"Precision {metrics['signature']['precision']}",
            f"similarities are off fp32 by {drift['mean']:.5f} on average, {drift['largest']:.5f} at most "
            f"({drift['pairs']:,} pairs); do not publish these numbers",
        )


def not_joined(names: Sequence[str], what: str) -> Text:
    return warning("Not joined", f"{counted(len(names), 'image', 'images')} {what}: {named(names)}")


def by_file_name(number_of: int) -> Text:
    return warning("Joined", f"{counted(number_of, 'image', 'images')} by file name alone, since paths differ")


def note(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold"), text)


def warning(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold yellow"), printable(text))
