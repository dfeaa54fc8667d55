"""COCO: `annotations/instances_SPLIT.json`, one category a kind.

    pycocotools.coco.COCO("OUT/annotations/instances_train.json").getCatIds()

An anomaly with a region is an annotation: box and outline in pixels, its texts under `attributes`. One without a region
has no box to draw: it stands at its image, under `anomalies_without_region`, which other readers pass over.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import IO, Any

from anomreason.anomaly import Region
from anomreason.dataset.export.folder import Draft, json_bytes
from anomreason.dataset.export.options import Counts, ExportOptions, split_counts
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedCandidate, ExportedImage
from anomreason.dataset.export.writing import FileLayout, JsonFile, Writer
from anomreason.files import read_object

NO_KIND = "anomaly"
"""Category of anomalies whose kind is not known."""
WITHOUT_REGION = "anomalies_without_region"
_PLACE = "annotations/instances_{}.json"


class Coco(Writer):
    """Writes images and annotations of a split into lists of their own, and joins these at the end."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._lists: dict[str, tuple[JsonFile, JsonFile]] = {}
        self._categories: dict[str, int] = {}
        self._images = self._annotations = 0

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        if image.split not in self._lists:
            images, annotations = (JsonFile(self.draft, place, lines=False) for place in _parts(image.split))
            self._lists[image.split] = images, annotations
        images, annotations = self._lists[image.split]
        self._images += 1
        without = []
        for one in image.anomalies:
            if one.anomaly and one.anomaly.region:
                annotations.add(self._annotation(image, one, one.anomaly.region))
            else:
                without.append({"category": kind_of(one), **_texts(one)})
        images.add(
            {
                "id": self._images,
                "file_name": image.place,
                "width": image.width,
                "height": image.height,
                "name": image.name,
                "source": image.source,
                "sha256": image.sha256,
                WITHOUT_REGION: without,
            }
        )

    def _annotation(self, image: ExportedImage, one: ExportedCandidate, region: Region) -> dict[str, Any]:
        self._annotations += 1
        left, top = region.x0 * image.width, region.y0 * image.height
        width, height = region.x1 * image.width - left, region.y1 * image.height - top
        outline = [round(v, 3) for x, y in region.polygon or () for v in (x * image.width, y * image.height)]
        return {
            "id": self._annotations,
            "image_id": self._images,
            "category_id": self._categories.setdefault(kind_of(one), len(self._categories) + 1),
            "bbox": [round(v, 3) for v in (left, top, width, height)],
            "area": round(_area(outline) if outline else width * height, 3),
            "segmentation": [outline] if outline else [],
            "iscrowd": 0,
            "attributes": _texts(one),
        }

    def finish(self) -> FileLayout:
        categories = [
            {"id": number, "name": kind, "supercategory": "anomaly"} for kind, number in self._categories.items()
        ]
        for split, lists in self._lists.items():
            for part in lists:
                part.close()
            with self.draft.open(_PLACE.format(split)) as file:
                file.write(b'{"info": {"description": "Semantic anomalies. severity: 0 = completely implausible, ')
                file.write(b'100 = fully realistic"},\n"categories": ' + json_bytes(categories) + b',\n"images": ')
                self._copy(_parts(split)[0], file)
                file.write(b',\n"annotations": ')
                self._copy(_parts(split)[1], file)
                file.write(b"}\n")
        return FileLayout(
            f"`annotations/instances_SPLIT.json` are the annotations (COCO), `images/SPLIT` the images. Categories are "
            f"the\nkinds of anomaly, `{NO_KIND}` where none is known; name, phenomenon, reasoning and severity are in\n"
            f"`attributes`. Anomalies without a region are no annotations: each image lists them as `{WITHOUT_REGION}`."
        )

    def _copy(self, place: str, file: IO[bytes]) -> None:
        with self.draft.path(place).open("rb") as part:
            shutil.copyfileobj(part, file)
        self.draft.remove(place)


def _parts(split: str) -> tuple[str, str]:
    return f"annotations/.{split}.images", f"annotations/.{split}.annotations"


def kind_of(one: ExportedCandidate) -> str:
    """The kind, or what stands for none."""
    return (one.anomaly and one.anomaly.kind) or NO_KIND


def _texts(one: ExportedCandidate) -> dict[str, Any]:
    values = one.anomaly.model_dump(include={"name", "phenomenon", "reasoning", "severity"}) if one.anomaly else {}
    objects = list(one.anomaly.objects) if one.anomaly else []
    return {**values, "objects": objects, "candidate": one.id, "outcome": one.outcome, "origin": one.origin}


def _area(outline: list[float]) -> float:
    """Of a polygon x0, y0, x1, y1 ..., by the shoelace formula."""
    xs, ys = outline[::2], outline[1::2]
    return abs(sum(xs[i - 1] * ys[i] - xs[i] * ys[i - 1] for i in range(len(xs)))) / 2


def count(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    found: dict[str, tuple[int, int]] = {}
    for file in sorted(folder.glob(_PLACE.format("*"))):
        held = read_object(file)
        without = sum(len(image[WITHOUT_REGION]) for image in held["images"])
        found[file.stem.removeprefix("instances_")] = len(held["images"]), len(held["annotations"]) + without
    return split_counts(found)
