"""Draws the images of docs/scenes.md: for each world an example of every kind, framed, beside its twin.

python tools/scene_pages.py docs/
"""

import argparse
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from anomreason.anomaly import Kind
from anomreason.scenes.make import open_world
from anomreason.scenes.scene import Scene, World

CELL, LABEL, PAIRS, GAP = 250, 20, 2, 14


SEEDS: dict[str, dict[Kind, int]] = {
    "rooms": {
        "intersection": 910000,
        "lighting": 910001,
        "physical_state": 910002,
        "out_of_place": 910004,
        "duplicated_part": 910005,
        "function": 910006,
        "reflection": 910015,
        "text": 910009,
        "orientation": 910013,
        "scale": 910014,
        "count": 910016,
        "missing_part": 910021,
    }
}
"""Seeds of scenes that are known to hold a kind: rooms are too slow for a search."""


def example(world: World, kind: Kind, first: int, size: int) -> Scene:
    """A scene with this kind: the one that is known, else the first seed from there on that can hold it."""
    if seed := SEEDS.get(world.name, {}).get(kind):
        return world.draw(seed, size=size, count=1)
    for seed in range(first, first + 400):
        if world.draw(seed, size=64, count=1, kinds=(kind,)).planted:  # small ones are drawn quickly
            drawn = world.draw(seed, size=size, count=1, kinds=(kind,))
            if drawn.planted:
                return drawn
    raise SystemExit(f"{world.name}: no scene of 400 holds {kind}")


def pair(drawn: Scene) -> Image.Image:
    cell = Image.new("RGB", (2 * CELL + 4, CELL + LABEL), "white")
    planted = drawn.planted[0]
    region = planted.anomaly.region
    for place, image in enumerate((drawn.image, drawn.twins[0].image)):
        cell.paste(image.resize((CELL, CELL), Image.Resampling.LANCZOS), (place * (CELL + 4), LABEL))
    draw = ImageDraw.Draw(cell)
    if region:
        box = tuple(v * CELL for v in (region.x0, region.y0, region.x1, region.y1))
        draw.rectangle((box[0], box[1] + LABEL, box[2], box[3] + LABEL), outline="#d00000", width=2)
    label = f"{planted.kind}: {planted.anomaly.name} (severity {planted.anomaly.severity:g})"
    draw.text((2, 2), label, "black", ImageFont.load_default(13))
    return cell


def page(name: str, size: int) -> Image.Image:
    world = open_world(name)
    cells = [pair(example(world, kind, 1 + 40 * place, size)) for place, kind in enumerate(world.kinds)]
    rows = -(-len(cells) // PAIRS)
    width, height = 2 * CELL + 4 + GAP, CELL + LABEL + GAP
    sheet = Image.new("RGB", (PAIRS * width - GAP, rows * height - GAP), "white")
    for place, cell in enumerate(cells):
        sheet.paste(cell, (place % PAIRS * width, place // PAIRS * height))
    return sheet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--world", action="append")
    parser.add_argument("--size", type=int, default=384)
    given = parser.parse_args()
    for name in given.world or ("sprites", "rooms"):
        page(name, given.size).save(given.folder / f"scenes-{name}.webp", quality=80, method=6)


if __name__ == "__main__":
    main()
