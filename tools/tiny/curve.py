"""Draws how the training of `anomreason-tiny` went, from the logs of its stages.

python -m tools.tiny.curve --out docs/tiny-curve.svg
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Points = Sequence[tuple[float, float]]
WIDTH, HEIGHT, LEFT, TOP, GAP = 420, 230, 46, 34, 70
COLOURS = ("#1b6ca8", "#c2410c", "#4d7c0f")
MOST = 0.2
"""Of the losses that are shown; those of the first steps are ten times as high."""


def panel(x: float, title: str, below: str, series: Mapping[str, Points], top: float) -> list[str]:
    """One set of axes at `x`; values from 0 to `top`."""
    most = max(step for points in series.values() for step, _ in points)

    def at(step: float, value: float) -> str:
        return f"{x + step / most * WIDTH:.1f},{TOP + HEIGHT * (1 - min(value, top) / top):.1f}"

    drawn = [f'<text x="{x}" y="{TOP - 14}" font-weight="600">{title}</text>']
    for tenth in range(0, 11, 2):
        value = top * tenth / 10
        y = TOP + HEIGHT * (1 - tenth / 10)
        drawn.append(f'<line x1="{x}" x2="{x + WIDTH}" y1="{y}" y2="{y}" stroke="#ddd"/>')
        drawn.append(f'<text x="{x - 6}" y="{y + 4}" text-anchor="end">{value:.2g}</text>')
    for part in range(5):
        step = most * part / 4
        drawn.append(
            f'<text x="{x + part / 4 * WIDTH}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{step:,.0f}</text>'
        )
    drawn.append(f'<text x="{x + WIDTH / 2}" y="{TOP + HEIGHT + 36}" text-anchor="middle">{below}</text>')
    for place, (name, points) in enumerate(series.items()):
        line, colour = " ".join(at(*point) for point in points), COLOURS[place]
        drawn.append(f'<polyline points="{line}" fill="none" stroke="{colour}" stroke-width="2"/>')
        drawn.append(f'<text x="{x + 90 + 130 * place}" y="{TOP - 14}" fill="{colour}">{name}</text>')
    return drawn


def read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for stage in ("dense", "cutouts", "language"):
        log = Path(__file__).with_name(f"log-{stage}.jsonl")
        parser.add_argument(f"--{stage}", type=Path, default=log, help=f"log of this stage [default: {log.name}]")
    parser.add_argument("--out", type=Path, required=True, help="SVG file to write")
    given = parser.parse_args()
    dense, cutouts, language = read(given.dense), read(given.cutouts), read(given.language)
    before = dense[-1]["step"]
    tower = dense + [one | {"step": one["step"] + before} for one in cutouts]
    told = {
        "objects named right": [(one["step"], one["thing"]) for one in tower],
        "kinds named right": [(one["step"], one["kind"]) for one in tower],
        "kinds, held-out": [(one["step"] + before, one["unseen"]["kind"]) for one in cutouts],
    }
    lost = {f"loss a token, cut off at {MOST}": [(one["step"], one["loss"]) for one in language]}
    whole = 2 * (LEFT + WIDTH) + GAP
    drawn = panel(LEFT, "vision tower", "steps of 32 images", told, 1.0)
    drawn += panel(2 * LEFT + WIDTH + GAP - 20, "language", "steps of 48 images", lost, MOST)
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {whole} {TOP + HEIGHT + 50}" '
    head += 'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
    given.out.write_text("\n".join([head, *drawn, "</svg>"]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
