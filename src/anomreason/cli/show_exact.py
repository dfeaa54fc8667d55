"""What people read on a terminal of an `eval --exact`: what was found, by kind, the twin test, false anomalies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from anomreason.cli.show import counted, printable
from anomreason.cli.show_scores import console, interval, kinds, named
from anomreason.evaluation.signature import line

ROWS = {
    "recall": ("recall", "planted anomalies that were found"),
    "precision": ("precision", "claims that found one"),
    "twin_test.passed": ("twin test", "pairs: reported on the scene and not on its twin without it"),
    "twin_test.on_scene": ("  on the scene", "pairs: reported where it is"),
    "twin_test.on_twin": ("  on the twin", "pairs: reported where it is not"),
    "false_anomalies": ("false anomalies", "a scene, answered ones"),
    "false_on_clean": ("  on clean ones", "a scene without anomalies"),
    "false_on_anomalous": ("  on the others", "a scene with anomalies"),
    "clean_with_false": ("clean, yet claimed", "share of clean scenes with any claim"),
    "localisation": ("localisation IoU", "mean over what was found with a region"),
    "severity_error": ("severity error", "mean distance from the rubric, points of 100"),
    "severity_bias": ("severity bias", "the same signed; above 0: found more plausible than the rubric"),
}
"""Numbers of the first table, by their place, and what each is a share or a mean of."""


def exact(found: dict[str, Any]) -> None:
    """Everything that one exact evaluation says."""
    to = console()
    if found["simulated"]:
        to.print(Text("SIMULATED: no model looked at these pictures.", style="bold red"))
    to.print(_head(found), soft_wrap=True)
    to.print(_numbers(found))
    _kinds(found, to)
    for note in _notes(found):
        to.print(note, soft_wrap=note.plain.startswith("Signature"))


def _head(found: dict[str, Any]) -> Text:
    head = Text.assemble(("\n" + printable(found["name"]), "bold"), f" against {printable(found['truth'])}: ")
    head.append(f"{found['n']:,} scenes, {found['clean']:,} of them clean, {found['twins']:,} twins; ")
    failed = sum(found["failures"].values())
    head.append(counted(failed, "scene", "scenes") + " failed" + (f" ({kinds(found['failures'])})" if failed else ""))
    failed = sum(found["twin_failures"].values())
    head.append(", " + counted(failed, "twin", "twins") + (f" ({kinds(found['twin_failures'])})" if failed else ""))
    return head


def _numbers(found: dict[str, Any]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("number", no_wrap=True)
    for name in ("value", "95 % interval", "n"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("share of, or mean of", overflow="fold")
    for place, (name, said) in ROWS.items():
        one = found
        for step in place.split("."):
            one = one[step]
        table.add_row(name, *_cells(one), f"{one['n']:,}", said)
    return table


def _kinds(found: dict[str, Any], to: Console) -> None:
    if not found["kinds"]:
        return
    table = Table(box=None, pad_edge=False, title="By kind", title_justify="left", title_style="bold")
    table.add_column("kind", no_wrap=True)
    for name in ("recall", "95 % interval", "planted", "precision", "95 % interval", "claims"):
        table.add_column(name, justify="right", no_wrap=True)
    for kind, scores in found["kinds"].items():
        row = [cell for one in (scores["recall"], scores["precision"]) for cell in (*_cells(one), f"{one['n']:,}")]
        table.add_row("no kind told" if kind == "none" else kind.replace("_", " "), *row)
    to.print()
    to.print(table)


def _cells(one: dict[str, Any]) -> list[str]:
    return ["-" if one["value"] is None else f"{one['value']:.4f}", interval(one["interval"])]


def _notes(found: dict[str, Any]) -> Iterator[Text]:
    how = "are missed" if found["settings"]["failures"] == "missed" else "are left out"
    yield _note(
        "Failed", f"anomalies of scenes that failed {how}; pairs with a failed side are left out of the twin test"
    )
    if found["twin_test"]["failed"]:
        yield _warning(
            "Twin test", f"{found['twin_test']['failed']:,} pairs left out, since one of the two has no answer"
        )
    yield _note("Found", "the claim names the object, and tells the kind or overlaps the region by half (IoU >= 0.5)")
    if found["found_by_region_alone"]:
        yield _note(
            "By region alone", f"{found['found_by_region_alone']:,} of the found ones; another kind was told, or none"
        )
    for what, names in (
        ("of the predictions are no scenes", found["joined"]["not_in_truth"]),
        ("of the scenes and twins are missing from the predictions", found["joined"]["missing"]),
    ):
        if names:
            yield _warning("Not joined", f"{len(names):,} images {what}: {named(names)}")
    if found["joined"]["by_file_name"]:
        yield _warning("Joined", f"{found['joined']['by_file_name']:,} images by file name alone, since paths differ")
    yield _note("Signature", line(found["signature"]))


def _note(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold"), text)


def _warning(name: str, text: str) -> Text:
    return Text.assemble((f"{name}: ", "bold yellow"), printable(text))
