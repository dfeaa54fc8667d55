"""The log of a training (`train-log.jsonl`) and the page that shows it while it runs (`curve.html`).

One JSON object a line: `{"step": 20, "loss": 1.71, ...}` for learning, `{"step": 100, "scores": {"loss": 1.6, ...}}`
for a measurement on held-out conversations, `{"event": "proof", ...}` for everything else. The page reloads itself
until training has ended.

    TrainLog(Path("out")).add({"step": 10, "loss": 1.9})
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from anomreason.files import Appender, read_lines, write_atomically
from anomreason.report.figures import BOTTOM, HEIGHT, PlotFrame, coordinates, plot_text
from anomreason.report.html import templates

LOG, PAGE = "train-log.jsonl", "curve.html"
RELOAD = 5
"""Seconds between two reloads of an open page while training runs."""
DRAWN = 400
"""Most points of a curve on the page; of more, every n-th is drawn."""
Point = tuple[float, float]


class TrainLog:
    """The log of one training folder, open for appending; every line also renews the page."""

    def __init__(self, folder: Path, title: str = "Training", upto: int | None = None) -> None:
        """upto: of an earlier part of the training, lines of later steps are cut off; None keeps all."""
        self.folder, self.title = folder, title
        path = folder / LOG
        if upto is not None and path.exists():
            kept = [line for _, line in read_lines(path, appended=True) if line.get("step", 0) <= upto]
            write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
        self._lines = [line for _, line in read_lines(path, appended=True)]
        self._file = Appender(path)

    @property
    def lines(self) -> Sequence[Mapping[str, Any]]:
        return self._lines

    def add(self, line: Mapping[str, Any]) -> None:
        """Append one line and renew the page. What is no finite number becomes null, as JSON has none."""
        plain = {key: _finite(value) for key, value in line.items()}
        self._file.append(json.dumps(plain, ensure_ascii=False, default=str))
        self._lines.append(plain)
        self.draw()

    def draw(self, over: bool = False) -> Path:
        """Write the page. over: training has ended, so the page need not reload."""
        path = self.folder / PAGE
        write_atomically(path, curve_page(self._lines, self.title, over))
        return path

    def close(self) -> None:
        self._file.close()


def curve_page(lines: Sequence[Mapping[str, Any]], title: str, over: bool) -> str:
    """The whole page; it loads no other file."""
    loss = {
        "training": _points(lines, lambda line: line.get("loss")),
        "held out": _points(lines, lambda line: line.get("scores", {}).get("loss")),
    }
    names = dict.fromkeys(n for line in lines for n in line.get("scores", {}) if n != "loss")
    scores = {name: _points(lines, lambda line, n=name: line.get("scores", {}).get(n)) for name in names}
    figures = {"Loss per token": _plot("Loss per token", loss)}
    if scores:
        figures["Scores on held-out images"] = _plot("Scores on held-out images", scores)
    answers = [line for line in lines if line.get("event") == "answers"]
    base: Mapping[str, Any] = next((line["scores"] for line in lines if line.get("step") == 0 and "scores" in line), {})
    return (
        templates()
        .get_template("curve.html")
        .render(
            title=title,
            over=over,
            reload=RELOAD,
            last=next((line for line in reversed(lines) if "loss" in line), None),
            warnings=[line["warning"] for line in answers if line["model"] == "trained" and "warning" in line],
            base={name: value for name, value in base.items() if isinstance(value, int | float)},
            answers=answers,
            figures=figures,
            events=[(line["event"], _details(line)) for line in lines if "event" in line],
        )
    )


def _details(event: Mapping[str, Any]) -> str:
    """An event's values as one text."""
    parts = []
    for key, value in event.items():
        text = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        if key != "event":
            parts.append(text if key in ("name", "found") else f"{key}: {text}")
    return "; ".join(parts)


def _points(lines: Iterable[Mapping[str, Any]], of: Any) -> list[Point]:
    """(step, value) where there is a number, thinned to what can be seen."""
    found = [(float(line["step"]), of(line)) for line in lines if "step" in line]
    points = [(step, float(value)) for step, value in found if isinstance(value, int | float)]
    every = math.ceil(len(points) / DRAWN) if points else 1
    return points[::every] if not points or points[::every][-1] == points[-1] else [*points[::every], points[-1]]


def _plot(name: str, series: Mapping[str, Sequence[Point]]) -> Markup | None:
    """One or several curves over the steps; None without points."""
    drawn = {label: points for label, points in series.items() if points}
    if not drawn:
        return None
    last = max(step for points in drawn.values() for step, _ in points) or 1.0
    axes = PlotFrame(_round_up(max(value for points in drawn.values() for _, value in points)))
    parts: list[Markup] = []
    for number, (label, points) in enumerate(drawn.items()):
        css = f"c{number % 6}"
        places = [(axes.x(step / last), axes.y(value)) for step, value in points]
        parts.append(_line(places, css, f"{label}: {points[-1][1]:.4g} at step {points[-1][0]:.0f}"))
        key = f"{label} {points[-1][1]:.4g}"
        parts.append(plot_text(62 + 180 * (number % 2), 14 + 13 * (number // 2), key, f"{css} key"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(plot_text(axes.x(share), HEIGHT - BOTTOM + 17, f"{share * last:.6g}", "tick"))
    return axes.drawn(parts, name, "step", name)


def _line(places: Sequence[Point], css: str, label: str) -> Markup:
    x, y = places[-1]
    return Markup(
        '<polyline class="{}" points="{}"/><circle class="{}" cx="{:.1f}" cy="{:.1f}" r="3"><title>{}</title></circle>'
    ).format(css, coordinates(places), css, x, y, label)


def _round_up(value: float) -> float:
    """A round number a little above `value`."""
    if value <= 0:
        return 1.0
    unit: float = 10.0 ** math.floor(math.log10(value))
    return next(unit * step for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10, 12) if unit * step >= 1.04 * value)


def _finite(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _finite(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value
