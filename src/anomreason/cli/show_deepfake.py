"""What people read on a terminal of a `deepfake`: shares, explanations, sources, what files give away."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from anomreason.cli.show_scores import AMBIGUOUS, VIEWS, console, interval, kinds, not_joined, warning
from anomreason.cli.show_tables import ENDS, Blocks, number, words
from anomreason.cli.summary import counted, printable
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
    if found["simulated"]:
        to.print(Text("SIMULATED: no model looked at these pictures.", style="bold red"))
    _shares(found, to)
    _explained(found, to)
    _sources(found, to)
    _leaks(found, to)
    _notes(found, to)


def _estimate(found: dict[str, Any]) -> list[str]:
    value = "-" if found["value"] is None else f"{found['value']:.4f}"
    return [value, interval(found["interval"]), f"{found['n']:,}"]


def _shares(found: dict[str, Any], to: Console) -> None:
    head = Text.assemble((printable(found["name"]), "bold"), f" against {printable(found['truth'])}: ")
    head.append(f"{counted(found['n'], 'image', 'images')}, {counted(found['fakes'], 'AI image', 'AI images')}, ")
    head.append(f"{counted(found['photographs'], 'photograph', 'photographs')}; ")
    head.append(f"{sum(found['failures'].values()):,} failed")
    head.append(f" ({kinds(found['failures'])})" if found["failures"] else "")
    head.append(f", {found['unparsable']:,} of them unparsable; {found['abstained']:,} not judged")
    to.print(head, soft_wrap=True)
    groups = [[number("value"), number(ENDS), number("n"), words("share of, or mean of", 20)]]
    table = Blocks("", [words("number", 18)], groups)
    for key, said in SHARES.items():
        table.add(key.replace("_", " "), *_estimate(found[key]), said)
    table.print(to)
    to.print(Text(f"Always giving the more frequent answer: accuracy {found['constant_accuracy']:.4f}"))


def _explained(found: dict[str, Any], to: Console) -> None:
    if found["unexplained"]:
        to.print(Text(f"Explanations were not scored: {found['unexplained']}", style="yellow"))
        return
    groups = [[number(over), number(ENDS), number("n")] for over in ("AI images\nonly", "all\nimages")]
    table = Blocks("Explanations", [words(name, 8) for name in ("profile", "score", "compares")], groups)
    described = 0
    for profile, views in found["explained"].items():
        for view, scores in views.items():
            for metric, name in (("semap", "CSemAP"), ("semf1", "CSemF1")):
                one = scores[metric]
                described = one["described"]
                told = (profile, name, VIEWS.get(view, view))
                table.add(*told, *_estimate(one["release"]), *_estimate(one["over_all"]))
    table.print(to)
    by_description = counted(described, "photograph", "photographs")
    to.print(Text(f"{found['rule']} Scored by description: {by_description}."))
    if undescribed := found.get("undescribed"):
        right = counted(undescribed, "photograph", "photographs")
        to.print(warning("Scored 0", f"{right} judged right, which the truth describes and the detector did not"))


def _sources(found: dict[str, Any], to: Console) -> None:
    if len(found["sources"]) < 3:
        return
    right = [number("judged\nright"), number(ENDS), number("images")]
    rest = [number("anomalies\nan image"), number("not\njudged"), words("failed", 9)]
    table = Blocks("By source", [words("source"), number("kind")], [right, rest])
    for one in found["sources"]:
        kind = "AI images" if one["generated"] else "photographs"
        claimed = one["claimed"]["value"]
        cells = [*_estimate(one["right"]), "-" if claimed is None else f"{claimed:.2f}", f"{one['abstained']:,}"]
        table.add(Text(printable(one["source"]) or "(top folder)"), kind, *cells, kinds(one["failures"]) or "none")
    table.print(to)


def _leaks(found: dict[str, Any], to: Console) -> None:
    if not found["leaks"]:
        to.print(Text("No leak check: it needs AI images and photographs.", style="yellow"))
        return
    title = "Could the file alone give it away? Balanced accuracy of one fact, 0.5 by guessing"
    heads = ("balanced\naccuracy", ENDS, "n", "not\nknown")
    table = Blocks(title, [number("fact")], [[*map(number, heads), words("best rule", 20)]])
    for leak in found["leaks"]:
        rule = Text(printable(leak["rule"]))
        table.add(leak["fact"], *_estimate(leak["balanced_accuracy"]), f"{leak['unknown']:,}", rule)
    table.print(to)


def _notes(found: dict[str, Any], to: Console) -> None:
    to.print()
    for what, names in (
        ("of the predictions, not in the truth", found["joined"]["not_in_truth"]),
        (AMBIGUOUS, found["joined"].get("ambiguous", [])),
        ("of the truth, missing from the predictions", found["joined"]["missing"]),
    ):
        if names:
            to.print(not_joined(names, what))
    for profile in found["explained"]:
        to.print(Text.assemble((f"Profile {profile}: ", "bold"), PROFILES[profile]))
    to.print(Text.assemble(("Signature: ", "bold"), line(found["signature"])), soft_wrap=True)
