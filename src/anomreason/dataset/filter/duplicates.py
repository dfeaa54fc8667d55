"""Finds images that are copies of each other, and says which one of each cluster stays.

The first image of the ranking that has no cluster yet leads a new one, and every later image that is near enough to it
joins. So whatever is dropped is a near-duplicate of the very image that is kept, however long a chain of similar images
is; no cluster grows along a chain.

    cluster_hashes(hashes, thumbs, Reach(distance=12, correlation=0.965), rank, groups).leader
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import faiss
import numpy as np
import numpy.typing as npt

from anomreason.dataset.filter.pool import Ints

_QUERIES = 512
"""Hashes searched for at a time."""
_ROWS = 256
"""Embeddings compared with all later ones at a time."""
_HELD = 0.6
"""Share of the variance that the principal directions hold in which embeddings are compared first."""
_STEP = 64
"""Their number is a multiple of this."""
_SAMPLE = 20_000
"""Embeddings from which those directions come."""
_PAIRS = 1 << 16
"""Pairs that are compared in all dimensions at a time."""
_GREY = 8
"""Largest difference of the channels of an image without colours."""
_GREY_LESS = 0.01
"""Taken off a correlation of brightness alone: distinct scenes of one background reach 0.973, in colours 0.96."""
_LUMA = np.array([0.299, 0.587, 0.114])
_MARGIN = 0.05
"""Pairs less similar than the threshold by at most this are seen too: they are its border cases."""


@dataclass(frozen=True)
class Clusters:
    """Whom each image is a duplicate of; places as in the arrays that were compared."""

    leader: Ints
    """(n,) -1 for an image that leads its cluster or is alone."""
    nearest: Ints
    """(n,) The most similar image before it in the ranking, -1 when there is none near."""
    similarity: npt.NDArray[np.float64]
    """(n,) With that image; NaN when there is none near."""

    @classmethod
    def alone(cls, n: int) -> Clusters:
        """n images without any duplicate."""
        return cls(np.full(n, -1), np.full(n, -1), np.full(n, np.nan))


@dataclass(frozen=True)
class Reach:
    """Which images count as near-duplicates."""

    distance: int
    """Most bits of the hashes that may differ."""
    correlation: float
    """Least correlation of the thumbnails; -1: any."""


def cluster_equal(keys: npt.NDArray[np.void], rank: Ints) -> Clusters:
    """Clusters of equal keys; the similarity is 1 / the number of equal ones, as cleanvision's score is.

    keys: (n,) of bytes. rank: the places that are compared, best first; the others are alone.
    """
    clusters = Clusters.alone(len(keys))
    if len(rank):
        _, first, which, counts = np.unique(keys[rank], return_index=True, return_inverse=True, return_counts=True)
        best = rank[first[which]]
        copies = best != rank
        clusters.leader[rank[copies]] = clusters.nearest[rank[copies]] = best[copies]
        clusters.similarity[rank] = 1.0 / counts[which]
    return clusters


def cluster_hashes(
    hashes: npt.NDArray[np.uint64], thumbs: npt.NDArray[np.uint8], reach: Reach, rank: Ints, groups: Ints
) -> Clusters:
    """Clusters of images whose hashes and thumbnails are similar.

    hashes: (n,). thumbs: (n, pixels). rank: the places that are compared, best first. groups: (n,) images with one
    number from 0 on are never duplicates of each other.
    """
    clusters = Clusters.alone(len(hashes))
    if not len(rank):
        return clusters
    distinct, which = np.unique(hashes[rank], return_inverse=True)
    by_hash = rank[np.argsort(which, kind="stable")]  # the images of each distinct hash, best first
    starts = np.concatenate([[0], np.cumsum(np.bincount(which, minlength=len(distinct)))])
    codes = distinct.astype(">u8").view(np.uint8).reshape(-1, 8)
    index = faiss.IndexBinaryFlat(64)
    index.add(codes)
    order = np.empty(len(hashes), np.int64)
    order[rank] = np.arange(len(rank))
    for block in range(0, len(rank), _QUERIES):
        places = slice(block, block + _QUERIES)
        leaders, own = rank[places], which[places]
        free = clusters.leader[leaders] < 0
        leaders, asked = leaders[free], np.unique(own[free])
        limits, _, found = index.range_search(codes[asked], reach.distance + 1)
        slots = dict(zip(asked.tolist(), range(len(asked)), strict=True))
        for leader, hash_number in zip(leaders.tolist(), own[free].tolist(), strict=True):
            slot = slots[hash_number]
            near = found[limits[slot] : limits[slot + 1]]
            single = len(near) == 1 and starts[hash_number + 1] - starts[hash_number] == 1
            if single or clusters.leader[leader] >= 0:
                continue
            others = np.concatenate([by_hash[starts[one] : starts[one + 1]] for one in near])
            others = _open(clusters, leader, others, order, groups)
            if len(others):
                _join(clusters, leader, others, _correlations(thumbs[leader], thumbs[others]), reach.correlation)
    return clusters


def cluster_embeddings(
    vectors: npt.NDArray[np.float32],
    similarity: float,
    rank: Ints,
    groups: Ints,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Clusters:
    """Clusters of vectors whose cosine is at least `similarity`. No pair is missed.

    vectors: (n, dim) of length 1. rank, groups: as in `cluster_hashes`. progress: called with the number of vectors
    that were compared with all others, and of all.
    """
    clusters = Clusters.alone(len(vectors))
    order = np.empty(len(vectors), np.int64)
    order[rank] = np.arange(len(rank))
    for leader, others, cosines in _similar(vectors, similarity - _MARGIN, rank, progress):
        if clusters.leader[leader] < 0:
            open_ones = np.isin(others, _open(clusters, leader, others, order, groups))
            _join(clusters, leader, others[open_ones], cosines[open_ones], similarity)
    return clusters


def _similar(
    vectors: npt.NDArray[np.float32], least: float, rank: Ints, progress: Callable[[int, int], None]
) -> Iterator[tuple[int, Ints, npt.NDArray[np.float64]]]:
    """Each place with the later ones of cosine >= `least`, and those cosines.

    A projection never lengthens a difference: pairs that are too far apart in the principal directions are far apart.
    """
    if len(rank) < 2:
        return
    sample = vectors[rank[:: -(-len(rank) // _SAMPLE)]]
    variances, directions = np.linalg.eigh(np.cov(sample, rowvar=False, dtype=np.float64))
    held = np.cumsum(variances[::-1]) / max(variances.sum(), 1e-12)
    wide = min(len(held), _STEP * (int(np.searchsorted(held, _HELD)) // _STEP + 1))
    small = vectors[rank] @ directions[:, -wide:].astype(np.float32)
    halves = -(small**2).sum(1, keepdims=True) / 2
    ones = np.ones_like(halves)
    left, right = np.hstack([small, halves, ones]), np.hstack([small, ones, halves])
    bound = least - 1 - 1e-4  # left x right is minus half the squared distance, which is 1 - cosine at most
    for start in range(0, len(rank), _ROWS):
        close = left[start : start + _ROWS] @ right[start:].T >= bound
        rows, columns = np.divmod(np.flatnonzero(close), close.shape[1])  # nonzero in two dimensions is far slower
        later = columns > rows
        first, second = rank[start + rows[later]], rank[start + columns[later]]
        cosines = np.concatenate(
            [
                np.einsum("ij,ij->i", vectors[first[i : i + _PAIRS]], vectors[second[i : i + _PAIRS]], dtype=np.float64)
                for i in range(0, len(first), _PAIRS)
            ]
            or [np.empty(0)]
        )
        near = cosines >= least
        first, second, cosines = first[near], second[near], cosines[near]
        ends = np.flatnonzero(np.diff(first)) + 1
        for one, others, values in zip(
            np.split(first, ends), np.split(second, ends), np.split(cosines, ends), strict=True
        ):
            if len(one):
                yield int(one[0]), others, values
        progress(min(start + _ROWS, len(rank)), len(rank))


def _open(clusters: Clusters, leader: int, others: Ints, order: Ints, groups: Ints) -> Ints:
    """Those that may still join the leader."""
    free = (clusters.leader[others] < 0) & (order[others] > order[leader])
    allowed: Ints = others[free & ((groups[others] != groups[leader]) | (groups[leader] < 0))]
    return allowed


def _join(clusters: Clusters, leader: int, others: Ints, similarity: npt.NDArray[np.float64], threshold: float) -> None:
    closer = ~(similarity <= clusters.similarity[others])  # NaN: nothing near so far
    clusters.nearest[others[closer]] = leader
    clusters.similarity[others[closer]] = similarity[closer]
    joins = similarity >= threshold
    clusters.leader[others[joins]] = clusters.nearest[others[joins]] = leader
    clusters.similarity[others[joins]] = similarity[joins]


def _correlations(one: npt.NDArray[np.uint8], others: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """Pearson's, of one thumbnail with each of the others; of one without contrast 1 with its equal, else 0.

    Over the colours, or, where one of the two has none, over the brightness, less what that is worth less.
    """
    a, b = one.reshape(-1, 3).astype(np.float64), others.reshape(len(others), -1, 3).astype(np.float64)
    coloured = _pearson(a.reshape(-1), b.reshape(len(b), -1))
    grey = (np.ptp(a, -1).max() <= _GREY) | (np.ptp(b, -1).max(-1) <= _GREY)
    if grey.any():
        coloured[grey] = np.maximum(_pearson(a @ _LUMA, b[grey] @ _LUMA) - _GREY_LESS, -1)
    return np.where((others == one).all(1), 1.0, coloured)


def _pearson(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Of a (k,) with each row of b (n, k); 0 where one of them is constant."""
    a, b = a - a.mean(), b - b.mean(1, keepdims=True)
    sizes = np.sqrt((a @ a) * (b * b).sum(1))
    found: npt.NDArray[np.float64] = (b @ a) / np.where(sizes > 0, sizes, 1)
    return found
