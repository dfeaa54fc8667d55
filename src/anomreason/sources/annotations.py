"""Annotations of images from files: run folders, JSON lines of ours, the authors' JSON, lists of names.

Each file is read whole and bounded before anything is computed; whatever is wrong with it is a UsageError that names
the file and the place. Try it:

    source = read_source("runs/photos-1a2b3c4d5e")
    print(source.name, len(source.images), "images")
"""

from __future__ import annotations

import json
import os
import re
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import TypeAdapter

from anomreason.anomaly import Anomaly, Detection, FailureKind
from anomreason.buckets import Address
from anomreason.errors import ParseError, UsageError, shown
from anomreason.files import read_lines, read_text
from anomreason.metrics.semantic import NOT_ASSESSED
from anomreason.runs import detection_from, image_folder, read_settings, recorded, simulator_answered
from anomreason.sources.formats import FORMATS
from anomreason.sources.formats.published import confidence
from anomreason.sources.manifests import MANIFESTS, read_manifest, read_split
from anomreason.textform.fields import anomaly_from_json

MAX_TEXT = 100_000
"""Characters; a longer text is no sentence of an anomaly. Backbones read some 2,500."""
MAX_ANOMALIES = 1_000
"""Of one image; a usual one has ten."""
_CONSTANT = re.compile(r'"(?:[^"\\]|\\.)*+"|(-?Infinity|NaN)', re.DOTALL)


SourceForm = Literal["run", "lines", "published", "images"]
Rated = tuple[Anomaly, float | None]
"""An anomaly and its confidence: any scale, higher = surer; None when not known."""
_PACKED = TypeAdapter(list[Rated])


def pack(rated: Iterable[Rated]) -> bytes:
    """Anomalies in a tenth of the memory; 0.1 ms to unpack an image."""
    rows = list(rated)
    return zlib.compress(_PACKED.dump_json(rows, exclude_defaults=True), 1) if rows else b""


@dataclass(frozen=True, slots=True)
class ImageAnnotation:
    """All that one file says about one image. Anomalies are kept packed, so that a file of 140,000 images fits."""

    image: str
    """As the file names it."""
    packed: bytes = b""
    """See `pack`; read through `rated` or `anomalies`."""
    annotated: bool = True
    """Whether it was searched for anomalies; False for a photograph, a failure, and where only its source is known."""
    failure: str | None = None
    """Kind; then there are no anomalies."""
    description: str | None = None
    """Of the content of a photograph."""
    generated: bool | None = None
    """AI image (True) or photograph (False); None where the file does not say."""
    unsure: bool = False
    """Whether a detector was asked that and could not say."""
    source_failure: str | None = None
    """Kind of failure of the answer to that; None when there is an answer, or when it was not asked."""
    p_generated: float | None = None
    detector: str | None = None
    file_size: int | None = None
    """Bytes of the image file; None when it is not known."""

    @property
    def rated(self) -> list[Rated]:
        """Each anomaly with its confidence."""
        return _PACKED.validate_json(zlib.decompress(self.packed)) if self.packed else []

    @property
    def anomalies(self) -> tuple[Anomaly, ...]:
        return tuple(anomaly for anomaly, _ in self.rated)

    @property
    def unanswered(self) -> str | None:
        """Why there is no list of anomalies, not even an empty one: kind of failure, or `not_assessed`."""
        return self.failure or (None if self.annotated else NOT_ASSESSED)


@dataclass(frozen=True, slots=True)
class Source:
    """One file or run folder, read."""

    name: str
    """What tables call it: the name given as NAME=PATH, else the file's or folder's."""
    path: Path
    form: SourceForm
    images: dict[str, ImageAnnotation]
    """By the normalised name, in the file's order."""
    image_folder: Path | None = None
    """Folder that the names are relative to; only a run folder tells."""

    @property
    def detectors(self) -> tuple[str, ...]:
        """Names of the detectors; empty where the file does not name any."""
        return tuple(sorted({one.detector for one in self.images.values() if one.detector}))

    @property
    def simulated(self) -> bool:
        """Whether no real model answered, by the names of the detectors or by a run's calls."""
        named = any(name.startswith(("sim:", "simulat")) for name in self.detectors)
        return named or (self.form == "run" and simulator_answered(self.path))


def read_source(given: str | Path) -> Source:
    """Read PATH or NAME=PATH: a run folder, a `.jsonl` file, or the authors' `.json`. Raises UsageError."""
    try:
        return _source(str(given))
    except OSError as error:
        raise UsageError(f"{shown(str(given))} cannot be read: {error.strerror or error}") from None


def _source(given: str) -> Source:
    if not given.partition("=")[2 if "=" in given else 0].strip():
        raise UsageError(f"the path of a file is empty ({given!r}; an unset variable?); give a run folder or a file")
    name, path = named(given)
    if path.is_dir():
        run = _run(path)
        return Source(name or path.resolve().name, path, "run", run, _image_folder(path))
    beside_run = path.name == "results.jsonl" and (path.parent / "run.json").is_file()
    if beside_run:
        return read_source(f"{name or path.resolve().parent.name}={path.parent}")
    if not path.is_file():
        raise UsageError(f"{str(path)!r} does not exist; give a run folder, a .jsonl file or the published .json form")
    if path.suffix.lower() == ".jsonl":
        return Source(name or path.stem, path, "lines", _unique(path, _json_lines(path)))
    return Source(name or path.stem, path, "published", _unique(path, _published(path)))


def read_names(given: str | Path) -> tuple[str, ...]:
    """Image names of a subset: a split (`FILE` or `FILE:PART`), a JSON list, a manifest, or one name a line.

    Of a split with several parts `test` is taken unless one is named. Raises UsageError.
    """
    text = str(given)
    head, mark, tail = text.rpartition(":")
    path, part = (Path(head), tail) if mark and not Path(text).exists() else (Path(text), "")
    if path.suffix.lower() in MANIFESTS:
        return tuple(_name_in_run(p, path.parent) for p in read_manifest(path))
    content = read_text(path)
    if path.suffix.lower() != ".json":
        return tuple(line.strip() for line in content.splitlines() if line.strip())
    if content.lstrip().startswith("["):
        return _list(path, content)
    parts = read_split(path)
    part = part or ("test" if "test" in parts else next(iter(parts), ""))
    if part not in parts or (len(parts) > 1 and not mark and part != "test"):
        known = ", ".join(map(shown, parts)) or "none"
        raise UsageError(f"{path} has the parts {known}; name the one to score as {path}:PART")
    return parts[part]


def key_of(name: str) -> str:
    """An image name in the form that names are compared in: forward slashes, no `./`, no double slashes."""
    return os.path.normpath(name.replace("\\", "/"))


def named(given: str) -> tuple[str, Path]:
    """Name and path of NAME=PATH; the name is empty where only a path is given, or such a file exists."""
    name, mark, rest = given.partition("=")
    return (name, Path(rest)) if mark and name and not Path(given).exists() else ("", Path(given))


def _name_in_run(image: Path, folder: Path) -> str:
    """How a run over a list in a folder calls an image of it."""
    return "/".join(image.parts[1:]) if isinstance(image, Address) else Path(os.path.relpath(image, folder)).as_posix()


def _image_folder(run: Path) -> Path | None:
    root = read_settings(run).get("root")
    return image_folder(run, root) if isinstance(root, str) else None


def _run(path: Path) -> dict[str, ImageAnnotation]:
    """The last line of an image counts."""
    read_settings(path)
    found: dict[str, ImageAnnotation] = {}
    for _, where, detection in recorded(path):
        found[key_of(detection.image)] = _detected(detection, where)
    if not found:
        raise UsageError(f"{path / 'results.jsonl'} has no results yet; run the same detect command again")
    return found


def _json_lines(path: Path) -> Iterator[tuple[str, ImageAnnotation]]:
    for line, data in read_lines(path):
        where = f"{path}, line {line}"
        yield where, _detected(detection_from(data, where), where) if "status" in data else _row(data, where)


def _detected(detection: Detection, where: str) -> ImageAnnotation:
    sure = {(c.name, c.phenomenon, c.reasoning): c.score for c in detection.candidates if c.dropped is None}
    where = f"{where}, image {shown(detection.image)}"
    _few(detection.anomalies, where)
    source = detection.source
    return ImageAnnotation(
        image=detection.image,
        packed=pack(
            (
                _bounded(a, f"{where}, anomaly {n}").model_copy(update={"basis": None}),
                a.basis.score if a.basis else sure.get((a.name, a.phenomenon, a.reasoning)),
            )
            for n, a in enumerate(detection.anomalies, 1)
        ),
        annotated=detection.searched,
        failure=detection.failure.kind if detection.failure else None,
        description=detection.description,
        generated=detection.generated,
        unsure=source is not None and source.answer == "unsure",
        source_failure=source.failure.kind if source and source.failure else None,
        p_generated=detection.p_generated,
        detector=detection.detector,
        file_size=detection.file_size,
    )


def _row(data: dict[str, Any], where: str) -> ImageAnnotation:
    """A line written by hand or another program."""
    known = {"image", "anomalies", "description", "failure", "generated", "p_generated", "detector", "sha256"}
    if wrong := sorted(data.keys() - known):
        raise UsageError(f"{where}: unknown key {shown(wrong[0])}; the keys are {', '.join(sorted(known))}")
    image = data.get("image")
    if not isinstance(image, str) or not image.strip():
        raise UsageError(f"{where}: 'image' is {shown(image)}; write the image's name")
    where = f"{where}, image {shown(image)}"
    given = [key for key in ("anomalies", "description", "failure") if data.get(key) is not None]
    if len(given) > 1 or not (given or "generated" in data):
        raise UsageError(f"{where}: give one of 'anomalies' (a list), 'description' (a text) and 'failure' (a kind)")
    generated = _one_of(data, "generated", where, _is_source, 'true, false or "unsure"')
    return ImageAnnotation(
        image=image,
        packed=_packed(data["anomalies"], where) if given == ["anomalies"] else b"",
        annotated=given == ["anomalies"],
        failure=_failure(data["failure"], where) if given == ["failure"] else None,
        description=_described(data["description"], where) if given == ["description"] else None,
        generated=None if generated == "unsure" else generated,
        unsure=generated == "unsure",
        p_generated=_one_of(data, "p_generated", where, _is_number, "a number"),
        detector=_one_of(data, "detector", where, lambda v: isinstance(v, str), "a name"),
    )


def _one_of(data: Mapping[str, Any], key: str, where: str, fits: Callable[[Any], bool], form: str) -> Any:
    value = data.get(key)
    if value is not None and not fits(value):
        raise UsageError(f"{where}: {key!r} is {shown(value)}; write {form}, or leave it out")
    return value


def _is_source(value: Any) -> bool:
    return isinstance(value, bool) or value == "unsure"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _failure(value: Any, where: str) -> str:
    kind = value.get("kind") if isinstance(value, dict) else value
    if kind not in get_args(FailureKind):
        raise UsageError(f"{where}: 'failure' is {shown(kind)}; the kinds are {', '.join(get_args(FailureKind))}")
    return str(kind)


def _described(value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise UsageError(f"{where}: the description is {shown(value)}; write one text")
    return _short(value, f"{where}, description")


def _packed(value: Any, where: str) -> bytes:
    if not isinstance(value, list):
        raise UsageError(f"{where}: write a list of anomalies, not {shown(value)}")
    _few(value, where)
    return pack(_rated(entry, f"{where}, anomaly {n}") for n, entry in enumerate(value, 1))


def _rated(entry: Any, where: str) -> Rated:
    try:
        anomaly = anomaly_from_json(entry)
    except ParseError as error:
        raise UsageError(f"{where}: {error}") from None
    return _bounded(anomaly, where), confidence(entry, where)


def _bounded(anomaly: Anomaly, where: str) -> Anomaly:
    for field in ("name", "phenomenon", "reasoning"):
        _short(getattr(anomaly, field), f"{where}, {field}")
    return anomaly


def _short(text: str, where: str) -> str:
    if len(text) > MAX_TEXT:
        raise UsageError(f"{where}: {len(text):,} characters, more than {MAX_TEXT:,}; this is no sentence: repair it")
    return check_text(text, where)


def check_text(text: str, where: str) -> str:
    """The same text. UsageError for half a surrogate pair, which JSON can hold and no file that we write can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{where}: {shown(text)} holds characters that are not text; remove them") from None
    return text


def _few(found: Sized, where: str) -> None:
    if len(found) > MAX_ANOMALIES:
        raise UsageError(
            f"{where}: {len(found):,} anomalies, more than {MAX_ANOMALIES:,}; the entry is surely damaged: repair it "
            "or leave the image out"
        )


def _published(path: Path) -> Iterator[tuple[str, ImageAnnotation]]:
    try:
        for image, one in FORMATS["published"].read(path):
            where = f"{path}, image {shown(image)}"
            _few(one.anomalies, where)
            anomalies = [_bounded(a, f"{where}, anomaly {n}") for n, a in enumerate(one.anomalies, 1)]
            sure = one.confidences or (None,) * len(anomalies)
            description = None if one.description is None else _described(one.description, where)
            packed = pack(zip(anomalies, sure, strict=True))
            yield where, ImageAnnotation(image, packed, description is None, description=description)
    except UsageError as error:
        raise UsageError(f"{error}{_where_is_no_number(path)}") from None


def _where_is_no_number(path: Path) -> str:
    """The line of the first NaN or Infinity, which a JSON reader complains of without saying where."""
    text = path.read_bytes().decode("utf-8", "replace") if path.is_file() else ""
    for token in _CONSTANT.finditer(text):
        if token[1]:
            return f" (line {text.count(chr(10), 0, token.start()) + 1}: {token[1]})"
    return ""


def _unique(path: Path, rows: Iterable[tuple[str, ImageAnnotation]]) -> dict[str, ImageAnnotation]:
    found: dict[str, ImageAnnotation] = {}
    for where, said in rows:
        key = key_of(check_text(said.image, where))
        if key in found:
            raise UsageError(f"{where}: duplicate image {shown(said.image)}: remove one of the two entries")
        found[key] = said
    if not found:
        raise UsageError(f"{path} names no image; write one entry an image")
    return found


def _list(path: Path, content: str) -> tuple[str, ...]:
    try:
        names = json.loads(content)
    except ValueError as error:
        raise UsageError(f"{path}: the JSON cannot be read: {error}") from None
    for n, name in enumerate(names, 1):
        if not isinstance(name, str) or not name.strip():
            raise UsageError(f"{path}, entry {n}: write an image name, not {shown(name)}")
    return tuple(names)
