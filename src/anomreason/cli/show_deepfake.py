"""What people read on a terminal of a `deepfake`: shares, explanations, sources, what files give away."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from anomreason.cli.show import printable
from anomreason.cli.show_scores import console, interval, kinds, named
from anomreason.evaluation.signature import line
from anomreason.metrics.image_scores import PROFILES

SHARES = {
    "accuracy": "judged right",
    "fake_recall": "AI images judged right",
    "real_specificity": "photographs judged right",
    "balanced_accuracy": "mean of these two; 0.5 by guessing",
    "auroc": "an AI image has the higher score than a photograph; 0.5 by guessing",
    "false_anomalies": "anomalies claimed in a photograph",
    "photographs_with_anomalies": "photographs in which any was claimed",
}
"""The numbers of the first table, in words."""


def judgements(found: dict[str, Any]) -> None:
    """Everything that one `deepfake.json` says."""
    to = console()
    _shares(found, to)
    _explained(found, to)
    _sources(found, to)
    _leaks(found, to)
    _notes(found, to)


def _estimate(found: dict[str, Any]) -> list[str]:
    value = "-" if found["value"] is None else f"{found['value']:.4f}"
    return [value, interval(found["interval"]), f"{found['n']:,}"]


def _shares(found: dict[str, Any], to: Console) -> None:
    head = Text.assemble((printable(found["name"]), "bold"), f" against {found['truth']}: {found['n']:,} images, ")
    head.append(f"{found['fakes']:,} AI images, {found['photographs']:,} photographs; ")
    head.append(f"{sum(found['failures'].values()):,} failed")
    head.append(f" ({kinds(found['failures'])})" if found["failures"] else "")
    head.append(f", {found['unparsable']:,} of them unparsable; {found['abstained']:,} not judged")
    to.print(head, soft_wrap=True)
    table = Table(box=None, pad_edge=False)
    table.add_column("number", no_wrap=True)
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("share of, or mean of", overflow="fold")
    for key, said in SHARES.items():
        table.add_row(key.replace("_", " "), *_estimate(found[key]), said)
    to.print(table)
    to.print(Text(f"Always giving the more frequent answer: accuracy {found['constant_accuracy']:.4f}"))


def _explained(found: dict[str, Any], to: Console) -> None:
    if found["unexplained"]:
        to.print(Text(f"Explanations were not scored: {found['unexplained']}", style="yellow"))
        return
    table = Table(box=None, pad_edge=False)
    for name in ("profile", "score", "compares"):
        table.add_column(name, no_wrap=True)
    for name in ("AI images only", "95 % interval", "n", "all images", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    described = 0
    for profile, views in found["explained"].items():
        for view, scores in views.items():
            for metric, name in (("semap", "CSemAP"), ("semf1", "CSemF1")):
                one = scores[metric]
                described = one["described"]
                table.add_row(profile, name, view, *_estimate(one["release"]), *_estimate(one["over_all"]))
    to.print()
    to.print(table)
    to.print(Text(f"{found['rule']} Scored by description: {described:,} photographs."))


def _sources(found: dict[str, Any], to: Console) -> None:
    if len(found["sources"]) < 3:
        return
    table = Table(box=None, pad_edge=False, title="By source", title_justify="left", title_style="bold")
    table.add_column("source", overflow="fold")
    table.add_column("kind")
    for name in ("judged right", "95 % interval", "images", "anomalies an image", "not judged"):
        table.add_column(name, justify="right")
    table.add_column("failed")
    for one in found["sources"]:
        kind = "AI images" if one["generated"] else "photographs"
        claimed = one["claimed"]["value"]
        cells = [*_estimate(one["right"]), "-" if claimed is None else f"{claimed:.2f}", f"{one['abstained']:,}"]
        table.add_row(Text(printable(one["source"]) or "(top folder)"), kind, *cells, kinds(one["failures"]) or "none")
    to.print()
    to.print(table)


def _leaks(found: dict[str, Any], to: Console) -> None:
    if not found["leaks"]:
        to.print(Text("No leak check: it needs AI images and photographs.", style="yellow"))
        return
    title = "Could the file alone give it away? Balanced accuracy of one fact, 0.5 by guessing"
    table = Table(box=None, pad_edge=False, title=Text(title), title_justify="left", title_style="bold")
    table.add_column("fact")
    for name in ("balanced accuracy", "95 % interval", "n", "not known"):
        table.add_column(name, justify="right")
    table.add_column("best rule", overflow="fold")
    for leak in found["leaks"]:
        table.add_row(leak["fact"], *_estimate(leak["balanced_accuracy"]), f"{leak['unknown']:,}", Text(leak["rule"]))
    to.print()
    to.print(table)


def _notes(found: dict[str, Any], to: Console) -> None:
    if found["simulated"]:
        to.print(Text("SIMULATED: no model looked at these pictures.", style="bold red"))
    for what, names in (
        ("of the predictions are not in the truth", found["joined"]["not_in_truth"]),
        ("of the truth are missing from the predictions", found["joined"]["missing"]),
    ):
        if names:
            to.print(Text(f"Not joined: {len(names):,} images {what}: {named(names)}", style="yellow"))
    for profile in found["explained"]:
        to.print(Text.assemble((f"Profile {profile}: ", "bold"), PROFILES[profile]))
    to.print(Text.assemble(("Signature: ", "bold"), line(found["signature"])), soft_wrap=True)
