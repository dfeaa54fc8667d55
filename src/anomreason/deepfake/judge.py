"""`deepfake`: who tells AI images from photographs, with reasons, from files to plain values.

    judge("runs/judged", "truth.json", None)["accuracy"]

A truth is a folder of pictures with `0_real/` and `1_fake/`, or a file: a list of anomalies means an AI image, a
description a photograph, unless `generated` or such a folder in the image's name says otherwise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from anomreason.containers import HEAD, kind_of
from anomreason.deepfake.explain import Explanations, explain
from anomreason.errors import UnreadableImage, UsageError
from anomreason.evaluation.running import Progress, Settings
from anomreason.evaluation.signature import semantic_signature, truth_hash
from anomreason.evaluation.writing import plain
from anomreason.images import image_size
from anomreason.metrics.bertscore import BackboneSpec
from anomreason.metrics.deepfake import PHOTOGRAPH_RULE, Judgement, deepfake
from anomreason.metrics.leaks import FileFacts, leaks
from anomreason.metrics.semantic import MISSING
from anomreason.sources.annotations import ImageAnnotation, Source, key_of, named, read_source
from anomreason.sources.inputs import find_images
from anomreason.sources.joining import Entrant, Truth, chosen, entrant

KINDS = {"0_real": False, "1_fake": True}
"""Folders of photographs and of AI images."""


def judge(
    predictions: str | Path,
    truth: str | Path,
    backbone: BackboneSpec | None,
    settings: Settings = Settings(),  # noqa: B008
    *,
    subset: str | Path | None = None,
    pictures: Path | None = None,
    progress: Progress = lambda *_: None,
) -> dict[str, Any]:
    """Every number of one detector; what `deepfake.json` holds.

    backbone: None leaves explanations out. pictures: folder of the files, for the check of what they alone give away;
    by default the truth's folder, or that of the run. Raises UsageError, naming file and place.
    """
    true = read_truth(truth, subset)
    said = entrant(read_source(predictions), true)
    images, rng = judged(said, true), settings.rng(0)
    bare = sum(bool(one.generated) and not one.annotated for one in true.images.values())
    explained: Explanations = {}
    signature: dict[str, Any] = {"truth": truth_hash(true.images), "images": len(images)}
    signature["anomreason"] = version("anomreason")
    if backbone is not None and not bare:
        opened = backbone.open()
        explained = explain(said, true, settings.semantic, opened, progress)
        signature = semantic_signature(opened.signature, settings.semantic, true.images)
    scores = deepfake(images, rng, {" ".join(key): values for key, values in explained.items()})
    found = plain(scores)
    found["explained"] = _nested(found["explained"])
    for source in found["sources"]:
        source["explained"] = _nested(source["explained"])
    return {
        "name": said.source.name,
        "signature": signature,
        "simulated": said.source.simulated,
        "truth": str(true.source.path),
        **found,
        "unparsable": scores.unparsable,
        "rule": PHOTOGRAPH_RULE,
        "undescribed": _undescribed(images, said, true) if explained else 0,
        "unexplained": _why_not(backbone, bare),
        "leaks": _leaks(said, true, pictures or true.source.pictures or said.source.pictures, rng),
        "joined": {
            "by_file_name": said.by_file_name,
            "not_in_truth": said.named(said.strangers),
            "ambiguous": said.named(said.ambiguous),
            "missing": [one.image for name, one in true.images.items() if name not in said.said],
        },
    }


def read_truth(given: str | Path, subset: str | Path | None = None) -> Truth:
    """The images with their kind in `generated`. UsageError where a kind is not told, or two tell different ones."""
    name, path = named(str(given))
    source = _folder(name, path) if path.is_dir() and not (path / "run.json").exists() else read_source(given)
    names, unknown = chosen(source, subset)
    failed = tuple(name for name in names if source.images[name].failure is not None)
    told = {name: _kind(name, source.images[name], path) for name in names if name not in failed}
    if not told:
        raise UsageError(f"{path} has no image to judge{'' if subset is None else f' that {subset} names'}")
    return Truth(source, told, (), failed, unknown)


def _folder(name: str, path: Path) -> Source:
    _, images = find_images([path])
    found = {key_of(i.name): ImageAnnotation(i.name, annotated=False) for i in images}
    return Source(name or path.resolve().name, path, "pictures", found, path)


def _kind(name: str, said: ImageAnnotation, path: Path) -> ImageAnnotation:
    """The same with its kind: as `generated` or a folder of the name says, else by what there is to read."""
    told = [KINDS[part] for part in PurePosixPath(name).parent.parts if part in KINDS]
    told += [] if said.generated is None else [said.generated]
    read = False if said.description is not None else True if said.anomalies else None
    told += [read] if read is not None else [True] if said.annotated and not told else []
    where = f"{path}, image {said.image!r}"
    if not told:
        raise UsageError(f"{where}: AI image or photograph? Put it under 0_real/ or 1_fake/, or write 'generated'")
    if len(set(told)) > 1:
        raise UsageError(
            f"{where}: told to be both AI image and photograph (by folder, 'generated', anomalies or description); "
            "make them agree"
        )
    return replace(said, generated=told[0])


def judged(said: Entrant, truth: Truth) -> list[Judgement]:
    """What the detector said of each image. UsageError when it judged none, since then it was not asked to."""
    found = [_judged(name, one, said.said.get(name), said.source) for name, one in truth.images.items()]
    if all(one.judged is None for one in found):
        raise UsageError(
            f"{said.source.path} says of no image whether it is an AI image; detect with --judge-source, or write "
            "'generated'"
        )
    return found


def _judged(name: str, true: ImageAnnotation, said: ImageAnnotation | None, source: Source) -> Judgement:
    place = [part for part in PurePosixPath(name).parent.parts if part not in KINDS]
    if said is None or said.failure is not None:
        kind = MISSING if said is None else said.failure
        return Judgement(name, bool(true.generated), None, failure=kind, source="/".join(place))
    judgement = said.generated
    if judgement is None and said.description is not None:
        judgement = False
    if judgement is None and source.form == "published" and said.anomalies:
        judgement = True
    return Judgement(
        image=name,
        generated=bool(true.generated),
        judged=judgement,
        p_generated=said.p_generated,
        claimed=len(said.anomalies),
        source="/".join(place),
    )


def _nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """By profile, view and metric."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        profile, view, metric = key.split(" ")
        found.setdefault(profile, {}).setdefault(view, {})[metric] = value
    return found


def _undescribed(images: Sequence[Judgement], said: Entrant, truth: Truth) -> int:
    """Photographs judged right that score 0, since the truth describes them and the detector did not."""
    right = [one.image for one in images if one.right and not one.generated]
    return sum(truth.images[name].description is not None and said.said[name].description is None for name in right)


def _why_not(backbone: BackboneSpec | None, bare: int) -> str | None:
    if backbone is None:
        return "no --backbone was named to compare texts with"
    return f"{bare:,} AI images of the truth have no annotated anomalies" if bare else None


def _leaks(said: Entrant, truth: Truth, folder: Path | None, rng: np.random.Generator) -> list[dict[str, Any]]:
    """What the files alone give away; empty when there is only one kind."""
    files = [_facts(name, one, said.said.get(name), folder) for name, one in truth.images.items()]
    if len({file.generated for file in files}) < 2:
        return []
    return [plain(leak) for leak in leaks(files, rng)]


def _facts(name: str, true: ImageAnnotation, said: ImageAnnotation | None, folder: Path | None) -> FileFacts:
    """From the file where it can be found; else its type from its name, and its size as the run noted it."""
    path = None if folder is None else folder / true.image
    if path is None or not path.is_file():
        suffix = PurePosixPath(name).suffix.lower().lstrip(".")
        kind = {"jpg": "jpeg", "jpe": "jpeg", "tif": "tiff"}.get(suffix, suffix) or None
        return FileFacts(name, bool(true.generated), kind, said.file_size if said else None)
    try:
        with path.open("rb") as file:
            found = kind_of(file.read(HEAD))
        width, height = image_size(path)
    except (UnreadableImage, OSError):
        return FileFacts(name, bool(true.generated))
    kind = found.lower() if found else None
    return FileFacts(name, bool(true.generated), kind, path.stat().st_size, width, height)
