"""Our checks give what cleanvision gives, and say yes to what is planted for them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageFilter
from tests.dataset.collected import put_images

from anomreason.dataset.filter.duplicates import Reach, cluster_equal, cluster_hashes
from anomreason.dataset.filter.measuring import ImageMeasurer
from anomreason.dataset.filter.pixels import measure, pixel_table
from anomreason.dataset.filter.pool import load_pool
from anomreason.dataset.filter.rules import Rule, Rules
from anomreason.dataset.filter.scoring import Scorer
from anomreason.dataset.store import Store

CHECKS = ("odd_aspect_ratio", "odd_size", "grayscale", "dark", "light", "low_information", "blurry")
RULES = Rules.model_validate(
    {name: {} for name in (*CHECKS, "exact_duplicates")} | {"near_duplicates": {"distance": 0, "correlation": -1}}
)


def made_images(folder: Path) -> None:
    """64 images with several of each check on both sides of its threshold."""
    rng = np.random.default_rng(5)
    folder.mkdir()

    def put(name: str, image: Image.Image) -> None:
        image.save(folder / f"{name}.png")

    def texture(width: int = 120, height: int = 90) -> Image.Image:
        coarse = rng.integers(0, 256, (height // 6, width // 6, 3), np.uint8)
        return Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)

    for n in range(10):
        put(f"plain{n}", texture(100 + 7 * n, 90))
        put(f"dark{n}", texture().point([int(v * (0.04 + 0.05 * n)) for v in range(256)] * 3))
        put(f"light{n}", texture().point([255 - int((255 - v) * (0.02 + 0.03 * n)) for v in range(256)] * 3))
        put(f"blurry{n}", texture().filter(ImageFilter.GaussianBlur(2 * n)))
    for n in range(6):
        put(f"wide{n}", texture(60, 60).resize((60 * (n + 1), 60)))
        put(f"grey{n}", texture().convert("L"))
        flat = np.zeros((80, 100, 3), np.uint8)
        flat[:, : 6 * n] = rng.integers(0, 256, (80, 6 * n, 3))
        put(f"empty{n}", Image.fromarray(flat))
    put("huge", texture(1800, 1500))
    put("tiny", texture(12, 12))
    copied = Image.open(folder / "plain3.png")
    for n in range(3):
        copied.save(folder / f"copy{n}.png", compress_level=n)
    copied.save(folder / "near.jpg", quality=95)


def by_cleanvision(
    folder: Path,
) -> tuple[Mapping[str, Mapping[str, tuple[float, bool]]], dict[str, set[frozenset[str]]]]:
    """(score, whether it is an issue) by check and file name; sets of duplicates by check."""
    imagelab = pytest.importorskip("cleanvision").Imagelab
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lab = imagelab(data_path=str(folder), verbose=False)
        lab.find_issues(n_jobs=1, verbose=False)
    found = {
        check: {
            Path(path).name: (float(row[f"{check}_score"]), bool(row[f"is_{check}_issue"]))
            for path, row in lab.issues.iterrows()
        }
        for check in CHECKS
    }
    sets = {
        check: {frozenset(Path(path).name for path in group) for group in lab.info[check]["sets"]}
        for check in ("exact_duplicates", "near_duplicates")
    }
    return found, sets


def test_scores_and_decisions_are_those_of_cleanvision(sqlite_store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "made"
    made_images(folder)
    put_images(sqlite_store, folder)
    theirs, their_sets = by_cleanvision(folder)
    with sqlite_store.command("filter", {}) as command, sqlite_store.reading() as session:
        pool = load_pool(session, RULES.in_force())
        scorer = Scorer(ImageMeasurer(sqlite_store, pool, command.id, lambda done, total: None), beside=None)
    everything = np.ones(len(pool), bool)
    names = [path.name for path in sorted(folder.iterdir())]

    def scored(name: str, rule: Rule) -> None:
        assert scorer.prepare(rule, everything) == {}
        ours = scorer.score(name, rule, everything)
        if ours.clusters is None:
            expected = theirs[name]
            assert ours.score == pytest.approx([expected[one][0] for one in names], abs=1e-6), name
            assert ours.drop.tolist() == [expected[one][1] for one in names], name
            assert 2 <= sum(ours.drop) < len(names) - 1, f"{name} is planted on both sides"
        else:
            sets = {
                frozenset([names[leader], *(names[p] for p in np.flatnonzero(ours.clusters.leader == leader))])
                for leader in set(ours.clusters.leader.tolist()) - {-1}
            }
            assert sets == their_sets[name], name
            assert sets, f"{name} is planted"

    assert len(names) == 64
    for name, rule in RULES.in_force().items():
        scored(name, rule)


def test_equal_pixels_of_another_shape_are_no_duplicates() -> None:
    values = np.arange(48, dtype=np.uint8).reshape(4, 4, 3)
    images = [Image.fromarray(values), Image.fromarray(values.reshape(2, 8, 3)), Image.fromarray(values)]
    table = pixel_table(3, enumerate(measure(image).model_dump() for image in images))
    assert cluster_equal(table.pixels, np.arange(3)).leader.tolist() == [-1, -1, 0]


def test_of_a_huge_image_every_nth_row_is_sorted_and_the_percentiles_hold() -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 200, (4200, 4100), np.uint8))
    found, small = measure(image), measure(image.crop((0, 0, 1000, 1000)))
    assert found.brightness_99 == pytest.approx(small.brightness_99, abs=0.005)


def test_blank_images_are_near_duplicates_of_their_equals_alone() -> None:
    images = [Image.new("L", (64, 64), shade) for shade in (200, 90, 200)]
    table = pixel_table(3, enumerate(measure(image).model_dump() for image in images))
    found = cluster_hashes(table.phash, table.thumb, Reach(10, 0.95), np.arange(3), np.full(3, -1))
    assert found.leader.tolist() == [-1, -1, 0]
