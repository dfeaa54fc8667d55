"""Annotated images from scenes, run folders, JSON lines and the authors' published files.

A damaged file is a UsageError that names the place; an image that cannot be learnt from is counted with its reason.
What a run detected counts as accepted: whoever names a run vouches for it.

    found = read_annotated(Path("scenes"))
    print(len(found), tally(found.dropped))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path

from anomreason.anomaly import Detection
from anomreason.errors import UnreadableImage, UsageError, shown
from anomreason.images import load_image
from anomreason.runs import iter_results, read_settings
from anomreason.sources.annotations import ImageAnnotation, key_of, read_source
from anomreason.sources.generated import FOLDERS, by_folder, is_generated
from anomreason.sources.inputs import SUFFIXES
from anomreason.sources.joining import join
from anomreason.sources.manifests import read_split
from anomreason.sources.scenes import METADATA, iter_scenes
from anomreason.training.data.instance import Annotated, Dropped

MISSING = "image is missing"
UNREADABLE = "image cannot be opened"
UNANNOTATED = "image without an annotation"
NOT_ANNOTATED = "in the split, but not annotated"
OUT_OF_DOMAIN = "outside the detector's domain"
KIND_ONLY = "labelled as AI image or photograph, but not annotated"
TWO_IMAGES = "a photograph and an AI image have its name"

Entry = Annotated | Dropped


@dataclass(frozen=True, slots=True)
class Annotations:
    """The images of one source: those that can be learnt from, in the source's order, and the others with why."""

    images: tuple[Annotated, ...]
    dropped: tuple[Dropped, ...]

    def __iter__(self) -> Iterator[Annotated]:
        return iter(self.images)

    def __len__(self) -> int:
        return len(self.images)


def read_annotated(
    path: Path, *, root: Path | None = None, split: Path | None = None, part: str = "train"
) -> Annotations:
    """Read a folder of scenes, a run folder, a `.jsonl` file, a published `.json`, or a folder that holds such files.

    A published folder has its `*.json` beside the images, which may lie in `0_real/`, `1_fake/` or `images/`;
    of a `split.json` there, or the one named in `split`, only `part` is read. root: where the names of images
    start, by default the folder of the file, or what the run says. Every image is decoded once.
    Raises UsageError, naming file and place, for what is not in such a form.
    """
    form = _form(path)
    if form == "scenes":
        entries = list(_scenes(path if path.is_dir() else path.parent, root))
    elif form == "run":
        entries = list(_run(path if path.is_dir() else path.parent, root))
    else:
        split = split or _own_split(path)
        entries = list(_published(path, root, split))
    if split is not None:
        entries = _of_part(entries, split, part)
    return _checked(entries)


def _form(path: Path) -> str:
    if path.name == METADATA or (path / METADATA).is_file():
        return "scenes"
    if (path / "run.json").is_file() or (path.name == "results.jsonl" and (path.parent / "run.json").is_file()):
        return "run"
    if not path.exists():
        raise UsageError(f"{str(path)!r} does not exist; give scenes, a run folder, a .jsonl file or a published .json")
    return "published"


def _scenes(folder: Path, root: Path | None) -> Iterator[Entry]:
    for _, image, anomalies in iter_scenes(folder):
        yield Annotated((root or folder) / image.file_name, image.file_name, anomalies, source="scenes")


def _run(folder: Path, root: Path | None) -> Iterator[Entry]:
    recorded = read_settings(folder).get("root")
    base = root or (folder.parent / recorded if isinstance(recorded, str) else folder)
    for detection in iter_results(folder):
        yield _detected(detection, base)


def _detected(detection: Detection, base: Path) -> Entry:
    if detection.failure is not None:
        return Dropped(detection.image, f"detecting failed: {detection.failure.kind}", detection.failure.message)
    if detection.out_of_domain:
        return Dropped(detection.image, OUT_OF_DOMAIN)
    label = by_folder(detection.image, str(base / detection.image))
    generated = detection.generated if label is None else label
    place = base / detection.image
    return Annotated(place, detection.image, detection.anomalies, generated, detection.description, source="run")


def _own_split(path: Path) -> Path | None:
    own = (path if path.is_dir() else path.parent) / "split.json"
    return own if own.is_file() and path != own else None


def _published(path: Path, root: Path | None, split: Path | None) -> Iterator[Entry]:
    base = root or (path if path.is_dir() else path.parent)
    files = _published_files(path, split) if path.is_dir() else [path]
    seen: dict[str, Path] = {}
    annotated: set[str] = set()
    for file in files:
        source = read_source(file)
        for key, annotation in source.images.items():
            if key in seen:
                raise UsageError(
                    f"{file}: duplicate image {shown(annotation.image)}, also in {seen[key]}: remove one of the two"
                )
            seen[key] = file
            places = _places(annotation, base)
            annotated.update(os.path.abspath(base / place) for place in places)
            yield _entry(annotation, places, base, file, "lines" if source.form == "lines" else "published")
    for image in _images_in_folders(base):
        if os.path.abspath(image) not in annotated:
            yield Dropped(image.relative_to(base).as_posix(), UNANNOTATED)


def _published_files(folder: Path, split: Path | None) -> list[Path]:
    ours = {os.path.abspath(split)} if split is not None else set()
    files = [file for file in sorted(folder.glob("*.json")) if os.path.abspath(file) not in ours]
    if not files:
        raise UsageError(f"{str(folder)!r} holds no metadata.jsonl, no run.json and no published *.json; name the file")
    return files


def _images_in_folders(base: Path) -> Iterator[Path]:
    for top in FOLDERS:
        for folder, folders, files in os.walk(base / top):
            folders.sort()
            yield from (Path(folder, f) for f in sorted(files) if Path(f).suffix.lower() in SUFFIXES)


def _entry(annotation: ImageAnnotation, places: Sequence[str], base: Path, file: Path, source: str) -> Entry:
    if annotation.failure is not None:
        return Dropped(annotation.image, f"detecting failed: {annotation.failure}")
    if not annotation.annotated and annotation.description is None:
        return Dropped(annotation.image, KIND_ONLY)
    if len(places) > 1:
        return Dropped(annotation.image, TWO_IMAGES, "write the folder into the image's name, as 1_fake/NAME")
    place = places[0] if places else annotation.image
    generated = is_generated(annotation, place, str(file))
    return Annotated(base / place, annotation.image, annotation.anomalies, generated, annotation.description, source)


def _places(annotation: ImageAnnotation, base: Path) -> list[str]:
    """Where below `base` the image is: under its name, or in one of the usual folders. Several when unclear."""
    name = annotation.image.replace("\\", "/")
    if os.path.isfile(base / name):
        return [name]
    found = [f"{folder}/{name}" for folder in FOLDERS if os.path.isfile(base / folder / name)]
    generated = annotation.generated
    if generated is None and (annotation.anomalies or annotation.description is not None):
        generated = annotation.description is None
    if len(found) > 1 and generated is not None:
        found = [place for place in found if by_folder(place, str(base / place)) is generated]
    usual = [f"images/{name}"] if os.path.isfile(base / "images" / name) else []
    return found or usual


def _of_part(entries: Iterable[Entry], split: Path, part: str) -> list[Entry]:
    """The entries of one part of a split; the others with the reason that they are not of it."""
    parts = read_split(split)
    if part not in parts:
        raise UsageError(f"{split} has the parts {', '.join(map(shown, parts)) or 'none'}, and no {part!r}; name one")
    owner: dict[str, str] = {}
    for name, key in ((name, key_of(image)) for name, images in parts.items() for image in images):
        if owner.setdefault(key, name) != name:
            raise UsageError(f"{split}: {key!r} is in {owner[key]!r} and in {name!r}; leave it in one of the two")
    entries = list(entries)
    joined = join((key_of(entry.name) for entry in entries), owner)
    found: list[Entry] = []
    for entry in entries:
        mine = owner.get(joined.of.get(key_of(entry.name), ""))
        found.append(entry if mine == part else Dropped(entry.name, f"not in part {part!r} of the split"))
    return found + [Dropped(name, NOT_ANNOTATED) for name in joined.strangers if owner[name] == part]


def _checked(entries: Iterable[Entry]) -> Annotations:
    """Without the images that are missing or cannot be opened, which would stop a training days later."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        opened = list(pool.map(_opened, entries))
    images = tuple(entry for entry in opened if isinstance(entry, Annotated))
    return Annotations(images, tuple(entry for entry in opened if isinstance(entry, Dropped)))


def _opened(entry: Entry) -> Entry:
    """With what training needs to know of the file later, so that it is opened only once before training."""
    if isinstance(entry, Dropped):
        return entry
    if not os.path.exists(entry.image):
        return Dropped(entry.name, MISSING, f"there is no {str(entry.image)!r}")
    try:
        image = load_image(entry.image, max_side=None)
    except UnreadableImage as error:
        return Dropped(entry.name, UNREADABLE, str(error))
    path = Path(os.path.abspath(entry.image))
    return replace(entry, image=path, size=(image.width, image.height), sha256=image.sha256)
