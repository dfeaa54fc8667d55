"""Near-duplicates: planted copies are found, distinct scenes are not, and no chain pulls images in."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from anomreason.dataset.filter.deciding import ClusterUnion
from anomreason.dataset.filter.duplicates import Clusters, Reach, cluster_embeddings, cluster_equal, cluster_hashes
from anomreason.dataset.filter.pixels import measure, pixel_table
from anomreason.scenes.sprites.world import SpriteWorld

SCENES = 60
REACH = Reach(distance=12, correlation=0.965)
ALONE = np.full(1000, -1)


def recompressed(image: Image.Image) -> Image.Image:
    out = io.BytesIO()
    image.save(out, "JPEG", quality=40)
    return Image.open(out)


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "recompressed": recompressed,
    "halved": lambda image: image.resize((image.width // 2, image.height // 2)),
    "enlarged": lambda image: image.resize((image.width * 3 // 2, image.height * 3 // 2)),
    "cropped": lambda image: image.crop((3, 3, image.width - 3, image.height - 3)),
    "without colours": lambda image: image.convert("L"),
    "brighter": lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    "darker": lambda image: ImageEnhance.Brightness(image).enhance(0.85),
}


@pytest.fixture(scope="module")
def scenes() -> list[Image.Image]:
    world = SpriteWorld()
    return [world.draw(seed=seed, size=192, count=1, kinds=()).image.convert("RGB") for seed in range(SCENES)]


def found(images: list[Image.Image], reach: Reach = REACH) -> Clusters:
    table = pixel_table(len(images), enumerate(measure(image).model_dump() for image in images))
    return cluster_hashes(table.phash, table.thumb, reach, np.arange(len(images)), ALONE)


def test_distinct_scenes_are_no_near_duplicates(scenes: list[Image.Image]) -> None:
    assert (found(scenes).leader == -1).all()


@pytest.mark.parametrize("change", CHANGES)
def test_each_changed_copy_of_a_scene_is_found_with_its_original(change: str, scenes: list[Image.Image]) -> None:
    clusters = found([*scenes, *(CHANGES[change](scene) for scene in scenes)])
    assert clusters.leader.tolist() == [-1] * SCENES + list(range(SCENES))
    assert (clusters.similarity[SCENES:] >= REACH.correlation).all()


def test_what_is_just_too_different_is_told_with_its_similarity(scenes: list[Image.Image]) -> None:
    strict = found([scenes[0], CHANGES["cropped"](scenes[0])], Reach(distance=12, correlation=0.9999))
    assert strict.leader.tolist() == [-1, -1]
    assert strict.nearest.tolist() == [-1, 0]
    assert 0.9 < strict.similarity[1] < 0.9999


def with_bits(*bits: int) -> np.uint64:
    return np.uint64(sum(1 << bit for bit in bits))


THUMBS = np.tile(np.arange(256, dtype=np.uint8), (1000, 3))


def test_a_chain_does_not_join_images_that_are_far_apart() -> None:
    chain = np.array([with_bits(*range(4 * step)) for step in range(10)])
    found = cluster_hashes(chain, THUMBS[:10], Reach(4, 0), np.arange(10), ALONE[:10])
    assert found.leader.tolist() == [-1, 0] * 1 + [-1, 2, -1, 4, -1, 6, -1, 8]


def test_the_best_of_the_ranking_is_kept() -> None:
    hashes = np.array([with_bits(), with_bits(1), with_bits(1, 2)])
    found = cluster_hashes(hashes, THUMBS[:3], Reach(2, 0), np.array([2, 0, 1]), ALONE[:3])
    assert found.leader.tolist() == [2, 2, -1]


def test_images_outside_the_ranking_are_alone() -> None:
    found = cluster_hashes(np.zeros(3, np.uint64), THUMBS[:3], Reach(2, 0), np.array([0, 2]), ALONE[:3])
    assert found.leader.tolist() == [-1, -1, 0]


def test_images_of_one_group_are_no_duplicates_of_each_other() -> None:
    groups = np.array([7, 7, -1, 8])
    found = cluster_hashes(np.zeros(4, np.uint64), THUMBS[:4], Reach(0, 0), np.arange(4), groups)
    assert found.leader.tolist() == [-1, -1, 0, 0]


@settings(deadline=None, max_examples=40)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40), st.integers(0, 24), st.integers(0, 99))
def test_whatever_is_dropped_is_near_what_is_kept_and_what_is_kept_is_apart(
    values: list[int], distance: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    hashes = np.array([*values, *(v ^ (1 << int(rng.integers(64))) for v in values)], np.uint64)
    rank = rng.permutation(len(hashes))
    found = cluster_hashes(hashes, THUMBS[: len(hashes)], Reach(distance, 0), rank, ALONE[: len(hashes)])
    apart = np.bitwise_count(hashes[:, None] ^ hashes[None])
    members = np.flatnonzero(found.leader >= 0)
    assert (apart[members, found.leader[members]] <= distance).all()
    assert (found.leader[found.leader[members]] == -1).all()
    kept = np.flatnonzero(found.leader < 0)
    assert (apart[np.ix_(kept, kept)] > distance).sum() == len(kept) * (len(kept) - 1)


def planted_vectors(n: int, pairs: int, dim: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, dim)).astype(np.float32)
    vectors[:, :3] += 2  # as real embeddings, which point to one side
    vectors[n - pairs :] = vectors[:pairs] + 0.2 * rng.normal(size=(pairs, dim))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("dim", [8, 100, 512])
def test_embeddings_find_exactly_the_pairs_above_the_threshold(dim: int) -> None:
    vectors = planted_vectors(700, 40, dim).astype(np.float32)
    found = cluster_embeddings(vectors, 0.93, np.arange(700), ALONE[:700])
    cosines = np.tril(vectors @ vectors.T, -1)
    if dim > 8:
        assert found.leader[660:].tolist() == list(range(40))
        assert (found.leader[:660] == -1).all()
    members = np.flatnonzero(found.leader >= 0)
    assert (cosines[members, found.leader[members]] >= 0.93 - 1e-6).all()
    kept = np.flatnonzero(found.leader < 0)
    assert cosines[np.ix_(kept, kept)].max() < 0.93 + 1e-6


def test_border_cases_of_embeddings_are_seen_and_groups_are_left_alone() -> None:
    turned = np.deg2rad([0, 21, 2, 3])  # cosines with the first: 0.934, 0.999, 0.999
    vectors = np.stack([np.cos(turned), np.sin(turned)], 1).astype(np.float32)
    found = cluster_embeddings(vectors, 0.95, np.arange(4), np.array([1, -1, -1, 1]))
    assert found.leader.tolist() == [-1, -1, 0, 1]
    assert (found.nearest[1], round(found.similarity[1], 3)) == (0, round(float(np.cos(turned[1])), 3))


def test_no_embeddings_at_all_have_no_clusters() -> None:
    assert cluster_embeddings(np.empty((0, 1), np.float32), 0.95, np.arange(0), np.arange(0)).leader.tolist() == []


def test_clusters_of_several_rules_are_joined_under_the_image_that_is_kept() -> None:
    union = ClusterUnion(6)
    for leaders in ([-1, 0, -1, -1, -1, -1], [3, -1, -1, -1, 3, -1]):
        clusters = Clusters.alone(6)
        clusters.leader[:] = leaders
        union.add(clusters)
    assert union.roots().tolist() == [3, 3, -1, 3, 3, -1]


def test_equal_keys_count_as_cleanvision_counts_them() -> None:
    keys = np.array([b"a", b"b", b"a", b"a"], "S16").view("V16")
    found = cluster_equal(keys, np.array([3, 2, 1, 0]))
    assert found.leader.tolist() == [3, -1, 3, -1]
    assert found.similarity.tolist() == pytest.approx([1 / 3, 1, 1 / 3, 1 / 3])
