"""What people read on a terminal of an `eval --exact`: what was found, by kind, the twin test, false anomalies."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.text import Text

from anomreason.cli.show_scores import AMBIGUOUS, by_file_name, console, interval, kinds, not_joined, note, warning
from anomreason.cli.show_tables import ENDS, Blocks, number, words
from anomreason.cli.summary import counted, printable
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
    to.print()
    if found["simulated"]:
        to.print(Text("SIMULATED: no model looked at these pictures.", style="bold red"))
    to.print(_head(found), soft_wrap=True)
    _numbers(found).print(to)
    if found["kinds"]:
        _kinds(found).print(to)
    to.print()
    for told in _notes(found):
        to.print(told, soft_wrap=told.plain.startswith("Signature"))


def _head(found: dict[str, Any]) -> Text:
    head = Text.assemble((printable(found["name"]), "bold"), f" against {printable(found['truth'])}: ")
    head.append(f"{counted(found['n'], 'scene', 'scenes')}, {found['clean']:,} of them clean, ")
    head.append(f"{counted(found['twins'], 'twin', 'twins')}; ")
    failed = sum(found["failures"].values())
    head.append(counted(failed, "scene", "scenes") + " failed" + (f" ({kinds(found['failures'])})" if failed else ""))
    failed = sum(found["twin_failures"].values())
    head.append(", " + counted(failed, "twin", "twins") + (f" ({kinds(found['twin_failures'])})" if failed else ""))
    return head


def _numbers(found: dict[str, Any]) -> Blocks:
    groups = [[number("value"), number(ENDS), number("n"), words("share of, or mean of", 24)]]
    table = Blocks("", [words("number", 19)], groups)
    for place, (name, said) in ROWS.items():
        one = found
        for step in place.split("."):
            one = one[step]
        table.add(name, *_cells(one), said)
    return table


def _kinds(found: dict[str, Any]) -> Blocks:
    groups = [
        [number(score), number(ENDS), number(of)] for score, of in (("recall", "planted"), ("precision", "claims"))
    ]
    table = Blocks("By kind", [words("kind")], groups)
    for kind, scores in found["kinds"].items():
        row = [cell for one in (scores["recall"], scores["precision"]) for cell in _cells(one)]
        table.add("no kind told" if kind == "none" else kind.replace("_", " "), *row)
    return table


def _cells(one: dict[str, Any]) -> list[str]:
    return ["-" if one["value"] is None else f"{one['value']:.4f}", interval(one["interval"]), f"{one['n']:,}"]


def _notes(found: dict[str, Any]) -> Iterator[Text]:
    how = "are missed" if found["settings"]["failures"] == "missed" else "are left out"
    yield note(
        "Failed", f"anomalies of scenes that failed {how}; pairs with a failed side are left out of the twin test"
    )
    if found["twin_test"]["failed"]:
        left_out = counted(found["twin_test"]["failed"], "pair", "pairs")
        yield warning("Twin test", f"{left_out} left out, since one of the two has no answer")
    yield note("Found", "the claim names the object, and tells the kind or overlaps the region by half (IoU >= 0.5)")
    if found["found_by_region_alone"]:
        yield note(
            "By region alone", f"{found['found_by_region_alone']:,} of the found ones; another kind was told, or none"
        )
    for what, names in (
        ("of the predictions, which are no scenes", found["joined"]["not_in_truth"]),
        (AMBIGUOUS, found["joined"].get("ambiguous", [])),
        ("of the scenes and twins, missing from the predictions", found["joined"]["missing"]),
    ):
        if names:
            yield not_joined(names, what)
    if found["joined"]["by_file_name"]:
        yield by_file_name(found["joined"]["by_file_name"])
    yield note("Signature", line(found["signature"]))
