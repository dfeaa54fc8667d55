"""What of a room is seen: who covers how many pixels, whether that is enough, and where two pictures differ.

Knows no violations. Owner maps hold 0 for the room itself and 1 + index for a thing.

    seen(room, who(room.stage(), 96))[0].share
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from anomreason.anomaly import Region
from anomreason.scenes.rooms.furniture import bounds
from anomreason.scenes.rooms.render import Owners
from anomreason.scenes.rooms.scene import Room, project

Mask = NDArray[np.bool_]
LEAST_EDGE = 0.07
"""Least longer edge of what counts as an object, as a share of the picture's edge."""
LEAST_SHARE = 0.4
"""Least share of a thing's own box that must be seen; what shows less is taken out of the room."""
LEAST_MIRRORED = 0.33
"""Least share of a mirror that shows things of the room; one with less looks blank, or like a doorway."""
LARGEST = 0.3
"""Most of the picture that one thing may cover."""


@dataclass(frozen=True)
class Seen:
    """How one thing is seen."""

    pixels: float
    """Share of the picture that it covers."""
    edge: float
    """Longer edge of its visible box as a share of the picture's edge."""
    share: float
    """Visible box over the box that it would have alone and without the picture's borders, 0..1."""


def seen(room: Room, owners: Owners) -> tuple[Seen, ...]:
    """For each thing of the room."""
    return tuple(_one(room, i, owners == i + 1) for i in range(len(room.items)))


def _one(room: Room, i: int, mask: Mask) -> Seen:
    if not mask.any():
        return Seen(0.0, 0.0, 0.0)
    edges = box_of(mask)
    width, height = edges[2] - edges[0], edges[3] - edges[1]
    points = np.concatenate([part.vertices for part in room.items[i].body])
    flat = project(room, points)
    flat = flat[flat[:, 2] > 0.1]
    whole = float(np.prod(np.ptp(flat[:, :2], axis=0))) if len(flat) else 1.0
    return Seen(float(mask.mean()), max(width, height), min(1.0, width * height / max(whole, 1e-6)))


def reflecting(room: Room, i: int) -> float:
    """Share of mirror i, 0..1, in which the camera meets other things (their boxes) and not only bare walls."""
    glass = room.items[i]
    low, high = bounds(glass.mesh)
    across, up = np.meshgrid(np.linspace(low[0], high[0], 14)[1:-1], np.linspace(low[2], high[2], 14)[1:-1])
    points = np.stack([across.ravel(), np.zeros(across.size), up.ravel()], axis=1)
    eye = (np.linalg.inv(glass.pose) @ np.array([*room.eye, 1.0]))[:3]
    if eye[1] >= 0:
        return 0.0
    rays = (points - eye * [1.0, -1.0, 1.0]) @ glass.pose[:3, :3].T
    starts = points @ glass.pose[:3, :3].T + glass.pose[:3, 3]
    hit = np.zeros(len(points), dtype=bool)
    for k, item in enumerate(room.items):
        if k != i and item.thing.group != "rug":
            with np.errstate(divide="ignore", invalid="ignore"):
                spans = (item.box[:, None, :] - starts) / rays  # (2, rays, 3)
            enter, leave = spans.min(axis=0).max(axis=1), spans.max(axis=0).min(axis=1)
            hit |= (enter < leave) & (leave > 0.05)
    return float(hit.mean())


def box_of(mask: Mask) -> tuple[float, float, float, float]:
    """x0, y0, x1, y1 in fractions. The mask must hold something."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return columns[0] / width, rows[0] / height, (columns[-1] + 1) / width, (rows[-1] + 1) / height


def region_of(mask: Mask) -> Region:
    x0, y0, x1, y1 = box_of(mask)
    return Region(x0=x0, y0=y0, x1=x1, y1=y1)


def differing(a: NDArray[np.uint8], b: NDArray[np.uint8], least: int = 18) -> Mask:
    """Where two pictures differ by more than noise: by `least` of 255 in some channel, and not in lone pixels."""
    raw = np.abs(a.astype(np.int16) - b.astype(np.int16)).max(axis=2) >= least
    padded = np.pad(raw, 1).astype(np.int8)
    around = sum(
        padded[1 + y : padded.shape[0] - 1 + y, 1 + x : padded.shape[1] - 1 + x] for y in (-1, 0, 1) for x in (-1, 0, 1)
    )
    return np.asarray(raw & (np.asarray(around) >= 5))


def around(mask: Mask) -> Mask:
    """The mask's box and half as much again on all sides."""
    x0, y0, x1, y1 = box_of(mask)
    height, width = mask.shape
    wide, tall = (x1 - x0) / 2, (y1 - y0) / 2
    out = np.zeros_like(mask)
    rows = slice(max(0, round((y0 - tall) * height)), round((y1 + tall) * height))
    out[rows, max(0, round((x0 - wide) * width)) : round((x1 + wide) * width)] = True
    return out
