"""The truth file: what is in each image that the simulator knows.

truth = SimulatorTruth.read("simulator.json")
truth.image(truth.recognize(Path("photo.jpg").read_bytes())).anomalies
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path

from pydantic import ValidationError, model_validator

from anomreason.anomaly import Anomaly, PartCount, Record, Region, Text
from anomreason.errors import UsageError, first_error
from anomreason.files import read_object
from anomreason.vlm.simulator.fingerprints import Fingerprints

SCENE = "scene"
"""The object that anomalies without objects belong to."""


class SimulatedPart(Record):
    """A small part of an object."""

    name: Text
    box: Region


class SimulatedObject(Record):
    """An object or person in the image."""

    name: Text
    description: str
    box: Region
    counts: tuple[PartCount, ...] = ()
    """Parts that a model would count."""
    parts: tuple[SimulatedPart, ...] = ()
    """Parts that a model would name where it is asked for them."""


def owner(anomaly: Anomaly) -> str:
    """The object whose inspection shows an anomaly."""
    return anomaly.objects[0] if anomaly.objects else SCENE


class ImageTruth(Record):
    """Everything that is known about one image."""

    objects: tuple[SimulatedObject, ...]
    anomalies: tuple[Anomaly, ...]
    generated: bool | None = None

    @model_validator(mode="after")
    def _unique(self) -> ImageTruth:
        names = [o.name.casefold() for o in self.objects]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"object names must be unique in an image, whatever their case; {twice[0]!r} is not")
        return self

    def visible(self) -> list[SimulatedObject]:
        """The listed objects and those that only an anomaly names; owners of anomalies first. Never empty."""
        found = {o.name: o for o in self.objects}
        for anomaly in self.anomalies:
            if owner(anomaly) not in found:
                found[owner(anomaly)] = _unlisted(owner(anomaly), anomaly.region if anomaly.objects else None)
        owners = {owner(a) for a in self.anomalies}
        return sorted(found.values(), key=lambda o: o.name not in owners) or [_unlisted(SCENE, None)]

    def about(self, name: str) -> list[Anomaly]:
        """The anomalies that belong to the object `name`."""
        return [a for a in self.anomalies if owner(a) == name]


def _unlisted(name: str, region: Region | None) -> SimulatedObject:
    description = "The image as a whole." if name == SCENE else f"The {name} in the image."
    whole = Region(x0=0, y0=0, x1=1, y1=1)
    return SimulatedObject.model_construct(name=name, description=description, box=region or whole)


NOTHING = ImageTruth(objects=(), anomalies=())


class SimulatorTruth:
    """A checked truth file. Entries are kept as JSON text, so that 20,000 of them stay small."""

    def __init__(self, name: str, entries: dict[str, str], fingerprints: Fingerprints) -> None:
        """`entries`: checked JSON by image name, in the order of `fingerprints`."""
        self.name = name
        self._names = list(entries)
        self._entries = entries
        self._fingerprints = fingerprints
        self.image = lru_cache(maxsize=1024)(self._image)

    @classmethod
    def read(cls, path: str | Path) -> SimulatorTruth:
        """Read and check a file and the images it names. Raises UsageError naming file, image and field."""
        path = Path(path)
        entries = _entries(path)
        return cls(path.name, entries, Fingerprints.of_files([path.parent / n for n in entries], list(entries)))

    def recognize(self, data: bytes) -> str | None:
        """The name of the image that these bytes show; None for an unknown one. Raises UnreadableImage."""
        row = self._fingerprints.find(data)
        return None if row is None else self._names[row]

    def _image(self, name: str) -> ImageTruth:
        return ImageTruth.model_validate_json(self._entries[name])


def _entries(path: Path) -> dict[str, str]:
    """The JSON text of each entry, checked."""
    value = read_object(path)
    if not value:
        raise UsageError(f"the truth file {path} names no image; write the path of each image with its truth")
    entries = {}
    for name, entry in value.items():
        entries[name] = json.dumps(entry)
        try:
            ImageTruth.model_validate_json(entries[name], strict=True)
        except ValidationError as error:
            raise UsageError(f"{path}: image {name!r}, field {first_error(error, 'the whole entry')}") from error
    return entries
