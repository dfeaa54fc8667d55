"""Whether an image is AI-generated, as its folders (`0_real/`, `1_fake/`) and its annotation say.

>>> by_folder("1_fake/flux/7.png", "truth.json")
True
"""

from __future__ import annotations

from pathlib import PurePosixPath

from anomreason.errors import UsageError
from anomreason.sources.annotations import ImageAnnotation

FOLDERS = {"0_real": False, "1_fake": True}
"""Folders of photographs and of AI images, anywhere in an image's name."""


def by_folder(name: str, where: str) -> bool | None:
    """AI image (True) or photograph (False), as the folders in an image's name say; None where they do not.

    Raises UsageError, which begins with `where`, for a name with both folders.
    """
    return _agreed({FOLDERS[part] for part in PurePosixPath(name).parent.parts if part in FOLDERS}, where)


def is_generated(annotation: ImageAnnotation, name: str, file: str) -> bool | None:
    """AI image (True) or photograph (False): as `generated` or a folder of `name` says, else by what was annotated.

    A list of anomalies, also an empty one, means an AI image; a description a photograph. None where nothing says it.
    Raises UsageError, naming `file` and image, where two of these contradict each other.
    """
    where = f"{file}, image {annotation.image!r}"
    labels = {by_folder(name, where), annotation.generated} - {None}
    if annotation.anomalies:
        labels.add(True)
    if annotation.description is not None:
        labels.add(False)
    return _agreed(labels or ({True} if annotation.annotated else set()), where)


def _agreed(labels: set[bool | None], where: str) -> bool | None:
    if len(labels) > 1:
        raise UsageError(
            f"{where}: labelled as both AI image and photograph (by folder, 'generated', anomalies or description); "
            "make them agree"
        )
    return next(iter(labels), None)
