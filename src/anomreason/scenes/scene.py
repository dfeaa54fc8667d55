"""What a world returns: the drawn scene, and every fact that is known about it.

scene = SpriteWorld().draw(seed=7, size=256, count=1, kinds=("floating",))
scene.image, scene.planted[0].anomaly, scene.twins[0]
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from anomreason.anomaly import Anomaly, Kind, Region

LIGHT_EVERYWHERE: tuple[Kind, ...] = ("lighting", "function")
"""Kinds that may change the light of the whole picture: outside the region a twin may differ."""


@dataclass(frozen=True)
class VisibleObject:
    """One object that can be seen in the picture."""

    name: str
    """As the world's table calls it, e.g. `fire engine`; the same name may stand twice in a picture."""
    synonyms: tuple[str, ...]
    region: Region
    """The box of its visible pixels."""


@dataclass(frozen=True)
class Slots:
    """What a template is filled with."""

    thing: str
    """Noun phrase without article, with its colour where that is known: `red car`, `scissors`."""
    place: str
    """Prepositional phrase where it is seen: `on the street`."""
    other: str = ""
    """A second thing, in the same form."""
    detail: str = ""
    """What `kinds.toml` says of the kind, without capital and full stop."""
    plural: bool = False
    """Whether thing is a plural noun (`scissors`)."""
    other_plural: bool = False


@dataclass(frozen=True)
class PlantedAnomaly:
    """One violation that was put into the scene."""

    kind: Kind
    level: str
    """The row of the severity rubric that applies."""
    anomaly: Anomaly
    """Its `objects` are names among `Scene.objects`, the main one first; its `region` is the box of the changed pixels
    of the objects concerned (the shadows they throw not counted)."""
    objects: tuple[int, ...]
    """Indices into `Scene.objects`, the main one first."""
    slots: Slots
    """What the texts of `anomaly` were filled with."""


@dataclass(frozen=True)
class Scene:
    """A picture and the whole truth about it."""

    image: Image.Image
    """RGB, size x size."""
    place: str
    """Where it plays: `street`, `living room`."""
    objects: tuple[VisibleObject, ...]
    planted: tuple[PlantedAnomaly, ...]
    """Nothing else is wrong in the picture."""
    twins: tuple[Image.Image, ...]
    """One for each planted violation, with just that one mended; the other pixels stay."""
    twin_objects: tuple[tuple[VisibleObject, ...], ...]
    """The objects of each twin."""
    owners: NDArray[np.uint8]
    """(size, size): 0 where background is seen, else 1 + the index of the object seen there."""
    twin_owners: tuple[NDArray[np.uint8], ...]
    """The same for each twin, by its own objects."""


Allow = Callable[[Kind, str], bool]
"""May this kind of violation be planted on the object of this name?"""


def allow_all(kind: Kind, thing: str) -> bool:
    return True


class World(Protocol):
    """Draws scenes. The same arguments give the same pixels."""

    name: str
    version: str
    """Changes whenever the same seed would give another picture."""
    kinds: tuple[Kind, ...]
    """The kinds it can plant."""

    def draw(
        self, seed: int, *, size: int, count: int = 0, kinds: Sequence[Kind] = (), allow: Allow = allow_all
    ) -> Scene:
        """Draws a scene with `count` violations (fewer when no more fit without hiding one another).

        `size` is the edge in pixels; `kinds` bounds the choice (empty: all that the world can plant). The clean scene
        of a seed does not depend on count, kinds or allow.
        """
        ...
