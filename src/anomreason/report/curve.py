"""The log of a training (`train-log.jsonl`) and the page that shows it while it runs (`curve.html`).

One JSON object a line: `{"step": 20, "loss": 1.71, ...}` for learning, `{"step": 100, "scores": {"loss": 1.6, ...}}`
for what was measured on held-out conversations, `{"event": "proof", ...}` for everything else. The page reloads itself
until the training is over. Knows no torch. Try it:

    TrainLog(Path("out")).add({"step": 10, "loss": 1.9})
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape

from anomreason.report.figures import BOTTOM, HEIGHT, Axes
from anomreason.runs import Appender, read_lines, write_atomically

LOG, PAGE = "train-log.jsonl", "curve.html"
RELOAD = 5
"""Seconds between two looks of an open page at a running training."""
DRAWN = 400
"""Points of a curve on the page; of more, every n-th is drawn."""
_STYLE = """
.plots { display: flex; flex-wrap: wrap; gap: 1.2rem; } figure { margin: 0; flex: 1 1 420px; max-width: 640px; }
.plot { width: 100%; } .plot text { font-size: 11px; fill: var(--soft); } .plot .axis { text-anchor: middle; }
.plot .end { text-anchor: end; } .plot .grid { stroke: var(--line); } .plot .tick { text-anchor: middle; }
.plot .tick.end { text-anchor: end; } .plot polyline { fill: none; stroke: var(--tone); stroke-width: 1.8; }
.plot circle { fill: var(--tone); } .plot text.key { fill: var(--tone); font-weight: 600; text-anchor: start; }
.c0 { --tone: var(--link); } .c1 { --tone: var(--b1); } .c2 { --tone: var(--b3); }
.c3 { --tone: var(--b0); } .c4 { --tone: var(--bad); } .c5 { --tone: var(--b4); }
main > * + * { margin-top: 1rem; } figcaption { font-weight: 600; }
"""
Point = tuple[float, float]


class TrainLog:
    """The log of one training folder, open for appending; every line also renews the page."""

    def __init__(self, folder: Path, title: str = "Training", upto: int | None = None) -> None:
        """upto: of an earlier part of the training, lines of later steps are cut off; None keeps all."""
        self.folder, self.title = folder, title
        path = folder / LOG
        if upto is not None and path.exists():
            kept = [line for line in read_lines(path) if line.get("step", 0) <= upto]
            write_atomically(path, "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in kept))
        self._lines = list(read_lines(path))
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
        """Write the page. over: the training has ended, so the page need not reload."""
        path = self.folder / PAGE
        write_atomically(path, curve_page(self._lines, self.title, over))
        return path

    def close(self) -> None:
        self._file.close()


def read_log(folder: Path) -> list[dict[str, Any]]:
    """The lines of a training's log, in their order; none where there is no log."""
    return list(read_lines(folder / LOG))


def curve_page(lines: Sequence[Mapping[str, Any]], title: str, over: bool) -> str:
    """The whole page, with its style: nothing else is loaded."""
    style = (files("anomreason.report") / "templates" / "report.css").read_text(encoding="utf-8")
    reload = "" if over else f'<meta http-equiv="refresh" content="{RELOAD}">'
    loss = {
        "training": _points(lines, lambda line: line.get("loss")),
        "held out": _points(lines, lambda line: line.get("scores", {}).get("loss")),
    }
    names = dict.fromkeys(n for line in lines for n in line.get("scores", {}) if n != "loss")
    scores = {name: _points(lines, lambda line, n=name: line.get("scores", {}).get(n)) for name in names}
    body = [
        Markup("<h1>{}</h1><p class='over'>{}</p><div class='plots'>").format(title, _state(lines, over)),
        _figure("Loss a token", loss),
        _figure("Scores on held-out pictures", scores) if scores else Markup(""),
        Markup("</div>"),
        _events(lines),
    ]
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f'{reload}<meta name="viewport" content="width=device-width, initial-scale=1"><title>{escape(title)}</title>'
        f"<style>{style}{_STYLE}</style></head><body><main style='padding-top:1.5rem;padding-bottom:3rem'>"
        f"{Markup('').join(body)}</main></body></html>\n"
    )


def _state(lines: Sequence[Mapping[str, Any]], over: bool) -> str:
    last = next((line for line in reversed(lines) if "loss" in line), None)
    if last is None:
        return "Nothing has been learnt yet."
    of = f" of {last['steps']}" if "steps" in last else ""
    return f"Step {last.get('step', '?')}{of}. " + ("The training is over." if over else "The page reloads itself.")


def _events(lines: Iterable[Mapping[str, Any]]) -> Markup:
    rows = [line for line in lines if "event" in line]
    told = Markup("").join(
        Markup("<tr><th>{}</th><td>{}</td></tr>").format(
            line["event"], "; ".join(_told(k, v) for k, v in line.items() if k != "event")
        )
        for line in rows
    )
    return Markup('<table class="settings">{}</table>').format(told)


def _told(key: str, value: Any) -> str:
    said = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
    return said if key in ("name", "found") else f"{key}: {said}"


def _points(lines: Iterable[Mapping[str, Any]], of: Any) -> list[Point]:
    """(step, value) where there is a number, thinned to what can be seen."""
    found = [(float(line["step"]), of(line)) for line in lines if "step" in line]
    points = [(step, float(value)) for step, value in found if isinstance(value, int | float)]
    every = math.ceil(len(points) / DRAWN) if points else 1
    return points[::every] if not points or points[::every][-1] == points[-1] else [*points[::every], points[-1]]


def _figure(name: str, series: Mapping[str, Sequence[Point]]) -> Markup:
    """A plot of one or several curves over the steps."""
    drawn = {label: points for label, points in series.items() if points}
    if not drawn:
        return Markup("<figure><figcaption>{}</figcaption><p class='hint'>no numbers yet</p></figure>").format(name)
    last = max(step for points in drawn.values() for step, _ in points) or 1.0
    axes = Axes(_round_up(max((value for points in drawn.values() for _, value in points), default=1.0)))
    parts: list[Markup] = []
    for number, (label, points) in enumerate(drawn.items()):
        css = f"c{number % 6}"
        places = [(axes.x(step / last), axes.y(value)) for step, value in points]
        parts.append(_line(places, css, f"{label}: {points[-1][1]:.4g} at step {points[-1][0]:.0f}"))
        parts.append(_key(number, label, points[-1][1], css))
    parts += [_tick(axes, share, share * last) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    plot = axes.drawn(parts, name, "step", name)
    return Markup("<figure><figcaption>{}</figcaption>{}</figure>").format(name, plot)


def _line(places: Sequence[Point], css: str, said: str) -> Markup:
    joined = " ".join(f"{x:.1f},{y:.1f}" for x, y in places)
    x, y = places[-1]
    return Markup(
        '<polyline class="{}" points="{}"/><circle class="{}" cx="{}" cy="{}" r="3"><title>{}</title></circle>'
    ).format(css, joined, css, f"{x:.1f}", f"{y:.1f}", said)


def _key(number: int, label: str, value: float, css: str) -> Markup:
    return Markup('<text class="{} key" x="{}" y="{}">{} {}</text>').format(
        css, 62 + 180 * (number % 2), 14 + 13 * (number // 2), label, f"{value:.4g}"
    )


def _tick(axes: Axes, share: float, step: float) -> Markup:
    x, y = f"{axes.x(share):.1f}", HEIGHT - BOTTOM + 17
    return Markup('<text class="tick" x="{}" y="{}">{}</text>').format(x, y, f"{step:.6g}")


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
