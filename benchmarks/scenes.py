"""Claim: one core draws at least 100 sprites scenes a second at 256 px. Rooms are timed too where Mitsuba is installed.

Each world draws clean scenes, and scenes with one violation together with their twins, in this process alone, with
images in memory; writing PNG files is timed separately. Times are medians over scenes.

    python benchmarks/scenes.py --sprites 200 --rooms 4
"""

import argparse
import io
import os
import statistics
import time

from anomreason.errors import MissingExtra
from anomreason.scenes.make import open_world
from anomreason.scenes.scene import World

BAR = 100


def seconds(world: World, scenes: int, size: int, count: int) -> list[float]:
    """Seconds per call of draw, without the first one, which loads sprites and models."""
    taken = []
    for seed in range(scenes + 1):
        start = time.perf_counter()
        world.draw(seed, size=size, count=count)
        taken.append(time.perf_counter() - start)
    return taken[1:]


def saving(world: World, scenes: int, size: int) -> float:
    """Median seconds to write an image as PNG with the settings of datasets."""
    taken = []
    for seed in range(scenes):
        image = world.draw(seed, size=size).image
        start = time.perf_counter()
        image.save(io.BytesIO(), "PNG", compress_level=4)
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


def report(name: str, scenes: int) -> None:
    try:
        world = open_world(name)
    except MissingExtra as error:
        print(f"{name}: {error}")
        return
    for size in (256, 512):
        clean = statistics.median(seconds(world, scenes, size, 0))
        planted = statistics.median(seconds(world, scenes, size, 1))
        bar = f" (bar {BAR})" if (name, size) == ("sprites", 256) else ""
        print(
            f"{name} at {size} px: {1 / clean:.3g} clean scenes/s{bar}, {1 / planted:.3g} scenes with a violation and "
            f"its twin/s, {1000 * saving(world, min(scenes, 20), size):.1f} ms to write a PNG"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sprites", type=int, default=200, help="sprites scenes per measurement")
    parser.add_argument("--rooms", type=int, default=4, help="rooms scenes per measurement; 0 skips them")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    for name, scenes in (("sprites", given.sprites), ("rooms", given.rooms)):
        if scenes:
            report(name, scenes)


if __name__ == "__main__":
    main()
