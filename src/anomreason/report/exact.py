"""The report of an `eval --exact`: the numbers, and every scene with what was planted, found, missed and invented.

build_exact_report(Path("scores"))    # PosixPath('scores/report.html')
"""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

from anomreason.evaluation.notices import exact_notices
from anomreason.evaluation.records import ExactResult, read_result
from anomreason.files import write_atomically
from anomreason.metrics.exact import SceneOutcome
from anomreason.report.html import templates
from anomreason.stats import Estimate

_ASSETS = ("report.css", "scores.css")


class NumberRow(NamedTuple):
    """One number of the table."""

    name: str
    estimate: Estimate
    meaning: str


def number_rows(result: ExactResult) -> list[NumberRow]:
    """The overall numbers with what each is a share or mean of; the terminal shows the same ones."""
    twins = result.twin_test
    return [
        NumberRow("recall", result.recall, "planted anomalies that were found"),
        NumberRow("precision", result.precision, "predictions that found one"),
        NumberRow("twin test", twins.passed, "pairs: reported on the scene and not on its twin without it"),
        NumberRow("  on the scene", twins.on_scene, "pairs: reported where it is"),
        NumberRow("  on the twin", twins.on_twin, "pairs: reported where it is not"),
        NumberRow("false anomalies", result.false_anomalies, "per answered scene"),
        NumberRow("  on clean ones", result.false_on_clean, "per answered scene without anomalies"),
        NumberRow("  on the others", result.false_on_anomalous, "per answered scene with anomalies"),
        NumberRow("clean with false", result.clean_with_false, "share of clean scenes with any prediction"),
        NumberRow("localisation IoU", result.localisation, "mean over what was found with a region"),
        NumberRow("severity error", result.severity_error, "mean distance from the rubric, points of 100"),
        NumberRow("severity bias", result.severity_bias, "the same signed; above 0: rated more plausible"),
    ]


def build_exact_report(out: Path) -> Path:
    """Write `report.html` and its style sheets into `out`, from `exact.json` there; gives the path.

    Images are shown from the folder of the scenes, by a relative path. UsageError when the file is missing or damaged.
    """
    result = read_result(out / "exact.json", ExactResult)
    scenes = os.path.relpath(_folder(Path(result.truth)), out)
    page = (
        templates()
        .get_template("exact.html")
        .render(
            result=result,
            simulated=result.simulated,
            rows=number_rows(result),
            notices=exact_notices(result),
            images=sorted(result.images, key=_worst_first),
            address=lambda image: quote(Path(scenes, image).as_posix()),
        )
    )
    (out / "report").mkdir(parents=True, exist_ok=True)
    for name in _ASSETS:
        write_atomically(out / "report" / name, (files(__package__) / "templates" / name).read_text("utf-8"))
    write_atomically(out / "report.html", page)
    return out / "report.html"


def _folder(truth: Path) -> Path:
    """Of the scenes, which may be given by their metadata file."""
    return truth.parent if truth.is_file() else truth


def _worst_first(scene: SceneOutcome) -> tuple[int, bool, str]:
    """Most errors first; scenes without an answer after answered ones with as many."""
    return -(len(scene.planted) - scene.hits + scene.false), scene.failure is not None, scene.image
