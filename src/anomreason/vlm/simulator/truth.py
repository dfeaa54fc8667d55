"""What the simulator knows: the truth file, its check, and the picture an image is.

truth = Truth.from_file("simulator.json")
truth.picture(truth.know(Path("photo.jpg").read_bytes())).anomalies
"""

from __future__ import annotations

import json
import re
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from anomreason.anomaly import Anomaly, Region, Text
from anomreason.errors import UsageError
from anomreason.vlm.simulator.fingerprints import Fingerprints

SCENE = "scene"
"""The object that anomalies without objects belong to."""
WHOLE = Region(x0=0, y0=0, x1=1, y1=1)


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class TrueObject(_Strict):
    """An object or person in the picture."""

    name: Text
    description: str
    box: Region


def owner(anomaly: Anomaly) -> str:
    """The object whose inspection shows an anomaly."""
    return anomaly.objects[0] if anomaly.objects else SCENE


class PictureTruth(_Strict):
    """All there is to say of one picture."""

    objects: tuple[TrueObject, ...]
    anomalies: tuple[Anomaly, ...]
    generated: bool | None = None

    @model_validator(mode="after")
    def _unique(self) -> PictureTruth:
        names = [o.name.casefold() for o in self.objects]
        if twice := sorted({n for n in names if names.count(n) > 1}):
            raise ValueError(f"object names must be unique in a picture, whatever their case; {twice[0]!r} is not")
        return self

    def visible(self) -> list[TrueObject]:
        """The listed objects and those that only an anomaly names; owners of anomalies first, they catch the eye.

        Never empty: where nothing stands out there is still the scene.
        """
        found = {o.name: o for o in self.objects}
        for anomaly in self.anomalies:
            if owner(anomaly) not in found:
                found[owner(anomaly)] = _unlisted(owner(anomaly), anomaly.region if anomaly.objects else None)
        owners = {owner(a) for a in self.anomalies}
        return sorted(found.values(), key=lambda o: o.name not in owners) or [_unlisted(SCENE, None)]

    def about(self, name: str) -> list[Anomaly]:
        """The anomalies that belong to the object `name`."""
        return [a for a in self.anomalies if owner(a) == name]


def _unlisted(name: str, region: Region | None) -> TrueObject:
    description = "The picture as a whole." if name == SCENE else f"The {name} as it shows in the picture."
    return TrueObject.model_construct(name=name, description=description, box=region or WHOLE)


NOTHING = PictureTruth(objects=(), anomalies=())


class Truth:
    """A checked truth file. Pictures are kept as compressed JSON, so that 20,000 of them stay small."""

    def __init__(self, name: str, pictures: Mapping[str, bytes], fingerprints: Fingerprints) -> None:
        """`pictures`: checked JSON, compressed, by name, in the order of `fingerprints`."""
        self.name = name
        self._names = list(pictures)
        self._pictures = pictures
        self._fingerprints = fingerprints
        self.picture = lru_cache(maxsize=1024)(self._picture)

    @classmethod
    def from_file(cls, path: str | Path) -> Truth:
        """Read, check and look at every picture. Raises UsageError naming file, picture and field."""
        path = Path(path)
        pictures = {picture: zlib.compress(entry) for picture, entry in _pictures(path)}
        if not pictures:
            raise UsageError(f"{path} names no picture; it needs at least one")
        return cls(path.name, pictures, Fingerprints.of_files([path.parent / n for n in pictures], list(pictures)))

    def know(self, data: bytes) -> str | None:
        """The name of the picture that these bytes show; None for an unknown one. Raises UnreadableImage."""
        row = self._fingerprints.find(data)
        return None if row is None else self._names[row]

    def _picture(self, name: str) -> PictureTruth:
        return PictureTruth.model_validate_json(zlib.decompress(self._pictures[name]))


def _pictures(path: Path) -> Iterator[tuple[str, bytes]]:
    """Name and JSON text of each entry, checked."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(f"the truth file {path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the truth file {path} is not UTF-8 text: {error}") from error
    names: set[str] = set()
    for name, entry in _entries(path, text):
        if name in names:
            raise UsageError(f"{path}: picture {name!r} stands there twice; keep one entry")
        names.add(name)
        try:
            PictureTruth.model_validate_json(entry, strict=True)
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            field = ".".join(map(str, first["loc"])) or "the whole entry"
            raise UsageError(f"{path}: picture {name!r}, field {field}: {first['msg']}") from error
        yield name, entry


_MARK = re.compile(r"\s*([{}:,]?)\s*")


def _entries(path: Path, text: str) -> Iterator[tuple[str, bytes]]:
    """The outermost JSON object, pair by pair: a large file as Python objects would take five times its size."""
    value_at = json.JSONDecoder().raw_decode
    place = 0

    def mark() -> str:
        nonlocal place
        found = _MARK.match(text, place)
        place = found.end() if found else place
        return found[1] if found else ""

    try:
        opened = mark() == "{"
        following = mark() if text.startswith("}", place) else ","
        while opened and following == ",":
            name, place = value_at(text, place)
            if not isinstance(name, str) or mark() != ":":
                raise ValueError(f"no picture path with a colon before character {place}")
            start = place
            _, place = value_at(text, start)
            yield name, text[start:place].encode("utf-8", "surrogatepass")
            following = mark()
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the truth file {path} is no JSON: {error}") from error
    if not opened or following != "}" or place != len(text):
        raise UsageError(f"the truth file {path} must hold one JSON object: picture path to its truth")
