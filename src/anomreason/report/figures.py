"""Plots as SVG, drawn here because a report needs few kinds of them and no library.

Points in, markup out; all text in it is escaped, and colours come from the style
sheet. Try it:

    bars([Group("1", "12", [Mark(0.5, "12 images", (0.4, 0.6))])], ["SemF1"], "Score by number", "anomalies")
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from markupsafe import Markup

from anomreason.english import counted

WIDTH, HEIGHT = 420, 250
LEFT, RIGHT, TOP, BOTTOM = 52, 14, 22, 56
STEPS = (0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Where an axis of scores may end."""
WIDE_STEPS = (1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 6.0, 8.0, 10.0)
"""Where an axis of larger numbers may end, times a power of ten."""
NEAR = 13
"""Pixels that two labels need between them."""
Ends = tuple[float, float]


class Mark(NamedTuple):
    """A value that is drawn, in units of the axis."""

    value: float
    rests_on: str
    """What it was counted on, e.g. "12 images"."""
    interval: Ends | None = None


@dataclass(frozen=True, slots=True)
class Level:
    """One threshold in a plot of a score against thresholds."""

    at: float
    value: float
    chance: float | None = None
    band: Ends | None = None
    """Lowest and highest that chance got."""
    ceiling: float | None = None
    saturated: str | None = None
    """What nearly happens here to every pair, e.g. "nothing" matches."""


@dataclass(frozen=True, slots=True)
class Group:
    """One place on the horizontal axis of a bar chart."""

    label: str
    under: str
    """A word in a second line, e.g. how many images there are."""
    marks: Sequence[Mark | None] = field(default_factory=tuple)
    """One a series; None where there is nothing to draw."""


@dataclass(frozen=True, slots=True)
class PlotFrame:
    """The frame of a plot; x runs from 0 to 1 across it, y from 0 to `top`."""

    top: float = 1.0

    def x(self, share: float) -> float:
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        inside = min(max(value, 0.0), self.top)
        return HEIGHT - BOTTOM - inside / self.top * (HEIGHT - TOP - BOTTOM)

    def drawn(self, parts: Iterable[Markup], title: str, below: str, beside: str) -> Markup:
        """The whole plot: grid, parts, and what the axes mean. `title` is read out instead of the plot."""
        lines = [self._tick(self.top * place / 4) for place in range(5)]
        named = [
            plot_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6, below, "axis"),
            Markup('<text class="axis" transform="translate(11 {}) rotate(-90)">{}</text>').format(
                _number((TOP + HEIGHT - BOTTOM) / 2), beside
            ),
        ]
        body = Markup("").join([*lines, *parts, *named])
        return Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">{}</svg>').format(
            WIDTH, HEIGHT, title, body
        )

    def _tick(self, value: float) -> Markup:
        y = self.y(value)
        text = f"{value / 1000:.4g}k" if value >= 1000 else f"{value:.4g}"
        return _line((LEFT, y), (WIDTH - RIGHT, y), "grid") + plot_text(LEFT - 6, y + 4, text, "tick end")


def against_threshold(levels: Sequence[Level], name: str, title: str) -> Markup:
    """A score at each threshold, with the band of chance under it and the ceiling above it."""
    axes = PlotFrame(_top(v for level in levels for v in (level.value, level.ceiling, *(level.band or ()))))
    places = [(axes.x((k + 0.5) / len(levels)), level) for k, level in enumerate(levels)]
    parts = [_band(axes, places)]
    for css, values in (
        ("chance", [(x, level.chance) for x, level in places]),
        ("ceiling", [(x, level.ceiling) for x, level in places]),
        ("value", [(x, level.value) for x, level in places]),
    ):
        parts.append(_path([(x, axes.y(value)) for x, value in values if value is not None], css))
    for x, level in places:
        y = axes.y(level.value)
        parts += [
            *_end_label(axes, x, level),
            Markup('<circle class="value" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>').format(
                _number(x), _number(y), _tooltip(level, name)
            ),
            plot_text(x, y - 10, f"{level.value:.3f}", "label"),
            plot_text(x, HEIGHT - BOTTOM + 17, f"{level.at:.10g}", "tick"),
        ]
        if level.saturated:
            short = {"nothing": "nearly none", "everything": "nearly all"}.get(level.saturated, level.saturated)
            parts.append(plot_text(x, HEIGHT - BOTTOM + 32, short, "tick warn"))
    return axes.drawn(parts, title, "threshold of similarity", name)


def bars(groups: Sequence[Group], series: Sequence[str], title: str, below: str, beside: str = "mean score") -> Markup:
    """Groups of bars, one bar a series, with intervals; of shares (0..1) or of larger numbers."""
    values = [v for group in groups for mark in group.marks if mark for v in (mark.value, *(mark.interval or ()))]
    axes = PlotFrame(_top(values))
    parts: list[Markup] = []
    room = (WIDTH - LEFT - RIGHT) / max(len(groups), 1)
    wide = min(0.8 * room / max(len(series), 1), 26.0)
    for place, group in enumerate(groups):
        middle = LEFT + (place + 0.5) * room
        for number, mark in enumerate(group.marks):
            if mark is not None:
                x = middle + (number - len(series) / 2) * wide
                text = f"{below} {group.label}: {series[number]} {_value(mark)}, {mark.rests_on}"
                parts.append(_bar(axes, x, wide, mark, f"series-{number}", text))
        parts.append(plot_text(middle, HEIGHT - BOTTOM + 15, group.label, "tick"))
        parts.append(plot_text(middle, HEIGHT - BOTTOM + 29, group.under, "tick soft"))
    return axes.drawn(parts, title, below, beside)


def diagonal(points: Sequence[tuple[float, float, int]], title: str, below: str, beside: str) -> Markup:
    """Points (x, y, how many they rest on), both 0..100, beside the line y = x; the area grows with the number."""
    axes = PlotFrame(100.0)
    most = max((n for _, _, n in points), default=1)
    parts = [_line((axes.x(0), axes.y(0)), (axes.x(1), axes.y(100)), "even")]
    parts.append(_path([(axes.x(x / 100), axes.y(y)) for x, y, _ in points], "value"))
    parts += [
        Markup('<circle class="value" cx="{}" cy="{}" r="{}"><title>{}</title></circle>').format(
            _number(axes.x(x / 100)),
            _number(axes.y(y)),
            _number(3 + 6 * (n / most) ** 0.5),
            f"{below} about {x:.0f}: {beside} {y:.1f} on average, {counted(n, 'pair', 'pairs')}",
        )
        for x, y, n in points
    ]
    parts += [plot_text(axes.x(x / 100), HEIGHT - BOTTOM + 17, f"{x}", "tick") for x in range(0, 101, 20)]
    return axes.drawn(parts, title, below, beside)


@dataclass(frozen=True, slots=True)
class RocMark:
    """A point on or beside a ROC curve, with its intervals."""

    x: float
    """Share of false alarms."""
    y: float
    """Recall."""
    says: str
    x_ends: Ends | None = None
    y_ends: Ends | None = None
    own: bool = False
    """Whether it is where the detector's own answers lie."""


def roc(vertices: Sequence[Ends], band: Sequence[tuple[float, float, float]], marks: Sequence[RocMark]) -> Markup:
    """Recall by false alarms, both 0..1, with a band (x, low, high) and marked points; without vertices only these."""
    axes = PlotFrame()
    edge = [(axes.x(x), axes.y(low)) for x, low, _ in band]
    edge += [(axes.x(x), axes.y(high)) for x, _, high in reversed(band)]
    parts = [Markup('<polygon class="band" points="{}"/>').format(coordinates(edge))] if len(band) > 1 else []
    parts.append(_line((axes.x(0), axes.y(0)), (axes.x(1), axes.y(1)), "even"))
    parts.append(_path([(axes.x(x), axes.y(y)) for x, y in vertices], "value"))
    for mark in marks:
        x, y = axes.x(mark.x), axes.y(mark.y)
        if mark.y_ends:
            parts.append(_line((x, axes.y(mark.y_ends[0])), (x, axes.y(mark.y_ends[1])), "whisker"))
        if mark.x_ends:
            parts.append(_line((axes.x(mark.x_ends[0]), y), (axes.x(mark.x_ends[1]), y), "whisker"))
        css = "value own" if mark.own else "value"
        parts.append(
            Markup('<circle class="{}" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>').format(
                css, _number(x), _number(y), mark.says
            )
        )
    parts += _share_ticks(axes)
    title = "ROC curve: recall of AI images by false alarms on photographs"
    return axes.drawn(parts, title, "false alarms on photographs", "recall of AI images")


def reliability(bins: Sequence[tuple[float, Mark]]) -> Markup:
    """Share of AI images, a mark for each mean probability; the line is where both are equal."""
    axes = PlotFrame()
    parts = [_line((axes.x(0), axes.y(0)), (axes.x(1), axes.y(1)), "even")]
    parts.append(_path([(axes.x(p), axes.y(mark.value)) for p, mark in bins], "value"))
    for p, mark in bins:
        if mark.interval:
            low, high = mark.interval
            parts.append(_line((axes.x(p), axes.y(low)), (axes.x(p), axes.y(high)), "whisker"))
        parts.append(
            Markup('<circle class="value" cx="{}" cy="{}" r="4.5"><title>{}</title></circle>').format(
                _number(axes.x(p)),
                _number(axes.y(mark.value)),
                f"mean probability {p:.2f}: share of AI images {_value(mark)}, {mark.rests_on}",
            )
        )
    parts += _share_ticks(axes)
    title = "Reliability: share of AI images by the probability that was given"
    return axes.drawn(parts, title, "probability of being an AI image", "share of AI images")


def _share_ticks(axes: PlotFrame) -> list[Markup]:
    return [plot_text(axes.x(x / 5), HEIGHT - BOTTOM + 17, f"{x / 5:.4g}", "tick") for x in range(6)]


def strip(value: float, interval: Ends | None, chance: float | None, ceiling: float | None) -> Markup:
    """A score on a line from 0 to 1, with its interval and ticks for chance and ceiling."""
    parts = [Markup('<rect class="track" x="0" y="8" width="100%" height="4" rx="2"/>')]
    if interval:
        low, high = _percent(interval[0]), _percent(interval[1] - interval[0])
        parts.append(Markup('<rect class="span" x="{}" y="5" width="{}" height="10" rx="2"/>').format(low, high))
    for css, tick in (("chance", chance), ("ceiling", ceiling)):
        if tick is not None:
            at = _percent(tick)
            parts.append(Markup('<line class="{}" x1="{}" x2="{}" y1="2" y2="18"/>').format(css, at, at))
    parts.append(Markup('<circle class="value" cx="{}" cy="10" r="3.5"/>').format(_percent(value)))
    text = f"{value:.4f} on a line from 0 to 1"
    return Markup('<svg class="strip" role="img" aria-label="{}">{}</svg>').format(text, Markup("").join(parts))


def interval_strip(value: float, interval: Ends | None, top: float) -> Markup:
    """A number on a line from 0 to `top`, with its interval."""
    parts = [Markup('<rect class="track" x="0" y="8" width="100%" height="4" rx="2"/>')]
    if interval:
        low, high = _percent(interval[0] / top), _percent((interval[1] - interval[0]) / top)
        parts.append(Markup('<rect class="span" x="{}" y="5" width="{}" height="10" rx="2"/>').format(low, high))
    parts.append(Markup('<circle class="value" cx="{}" cy="10" r="3.5"/>').format(_percent(value / top)))
    text = f"{value:.3f} on a line from 0 to {top:.3f}"
    return Markup('<svg class="strip" role="img" aria-label="{}">{}</svg>').format(text, Markup("").join(parts))


def _band(axes: PlotFrame, places: Sequence[tuple[float, Level]]) -> Markup:
    """Area between the least and the most that chance got; a single threshold gets a short one."""
    ends = [(x, level.band) for x, level in places if level.band is not None]
    if len(ends) == 1:
        ends = [(ends[0][0] + shift, ends[0][1]) for shift in (-20.0, 20.0)]
    edge = [(x, axes.y(band[0])) for x, band in ends] + [(x, axes.y(band[1])) for x, band in reversed(ends)]
    return Markup('<polygon class="band" points="{}"/>').format(coordinates(edge)) if edge else Markup("")


def _end_label(axes: PlotFrame, x: float, level: Level) -> list[Markup]:
    """The numbers of chance and ceiling, where they do not run into that of the value or its point."""
    point, found = axes.y(level.value), []
    under = level.chance if level.band is None else level.band[0]
    for css, number, at, shift in (("chance", level.chance, under, 14), ("ceiling", level.ceiling, level.ceiling, -9)):
        if number is not None and at is not None:
            y = min(axes.y(at) + shift, HEIGHT - BOTTOM - 3)
            if abs(y - (point - 10)) >= NEAR and abs(y - 4 - point) >= NEAR:
                found.append(plot_text(x, y, f"{number:.3f}", f"label {css}"))
    return found


def _tooltip(level: Level, name: str) -> str:
    text = f"{name} {level.value:.4f} at {level.at:.10g}"
    if level.chance is not None and level.band is not None:
        text += f"; chance {level.chance:.4f} ({level.band[0]:.4f} to {level.band[1]:.4f})"
    if level.saturated:
        text += f"; nearly {level.saturated} matches here"
    return text if level.ceiling is None else f"{text}; ceiling {level.ceiling:.4f}"


def _bar(axes: PlotFrame, x: float, wide: float, mark: Mark, css: str, text: str) -> Markup:
    y, middle = axes.y(mark.value), x + wide / 2
    box = Markup('<rect x="{}" y="{}" width="{}" height="{}" rx="2"/>').format(
        _number(x + 1), _number(y), _number(wide - 2), _number(max(HEIGHT - BOTTOM - y, 0.8))
    )
    if mark.interval:
        box += _line((middle, axes.y(mark.interval[0])), (middle, axes.y(mark.interval[1])), "whisker")
    return Markup('<g class="bar {}">{}<title>{}</title></g>').format(css, box, text)


def _value(mark: Mark) -> str:
    if not mark.interval:
        return f"{mark.value:,.0f}" if mark.value >= 100 else f"{mark.value:.3f}"
    return f"{mark.value:.3f} (95 % interval {mark.interval[0]:.3f} to {mark.interval[1]:.3f})"


def _top(values: Iterable[float | None]) -> float:
    """End of an axis that holds all values with some air above them; a quarter of it has few digits."""
    highest = max((value for value in values if value is not None), default=0.0)
    most = 1.12 * highest if highest > 1 else min(1.12 * highest, 1.0)
    scale = 10.0 ** max(math.floor(math.log10(most)), 0) if most > 1 else 1.0
    return next(scale * step for step in (*STEPS, *WIDE_STEPS) if scale * step >= most)


def _path(points: Sequence[Ends], css: str) -> Markup:
    return (
        Markup('<polyline class="{}" points="{}"/>').format(css, coordinates(points)) if len(points) > 1 else Markup("")
    )


def coordinates(points: Sequence[Ends]) -> str:
    return " ".join(f"{_number(x)},{_number(y)}" for x, y in points)


def _line(start: Ends, end: Ends, css: str) -> Markup:
    ends = [_number(number) for number in (*start, *end)]
    return Markup('<line class="{}" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(css, *ends)


def plot_text(x: float, y: float, text: str, css: str) -> Markup:
    return Markup('<text class="{}" x="{}" y="{}">{}</text>').format(css, _number(x), _number(y), text)


def _number(value: float) -> str:
    return f"{value:.1f}"


def _percent(share: float) -> str:
    return f"{100 * min(max(share, 0.0), 1.0):.2f}%"
