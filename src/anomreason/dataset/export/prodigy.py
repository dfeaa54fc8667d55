"""Prodigy: JSON lines, one a candidate, with its region as a span in pixels and people's verdict as the answer.

prodigy db-in anomalies OUT/train.jsonl
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from anomreason.anomaly import Region
from anomreason.dataset.export.coco import kind_of
from anomreason.dataset.export.folder import Draft
from anomreason.dataset.export.options import Counts, ExportOptions, split_counts
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedCandidate, ExportedImage
from anomreason.dataset.export.writing import FileLayout, JsonFiles, Writer
from anomreason.dataset.tables import Outcome
from anomreason.files import read_lines

ANSWERS = {Outcome.ACCEPTED: "accept", Outcome.REJECTED: "reject", Outcome.UNSURE: "ignore"}


class Prodigy(Writer):
    """Writes tasks; those without a verdict have no answer."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._tasks = JsonFiles(draft, "{}.jsonl")

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        for one in image.anomalies or (None,):
            self._tasks.add(image.split, self._task(image, one))

    def _task(self, image: ExportedImage, one: ExportedCandidate | None) -> dict[str, Any]:
        place = self.place(image)
        task: dict[str, Any] = {"image": place, "width": image.width, "height": image.height}
        meta: dict[str, Any] = {"file_name": image.name, "source": image.source, "sha256": image.sha256}
        task |= {"_input_hash": _hash(image.sha256), "_task_hash": _hash(f"{image.sha256} {one and one.id}")}
        if one is None or one.anomaly is None:
            return task | {"spans": [], "meta": meta}
        anomaly = one.anomaly
        meta |= {"candidate": one.id, "detector": one.detector, "score": one.score, "severity": anomaly.severity}
        spans = [_span(anomaly.region, kind_of(one), image)] if anomaly.region else []
        text = f"{anomaly.name}\n{anomaly.phenomenon}\n{anomaly.reasoning}"
        task |= {"text": text, "label": kind_of(one), "spans": spans, "meta": meta}
        answer = ANSWERS.get(Outcome(one.outcome))
        return task | ({"answer": answer} if answer else {})

    def finish(self) -> FileLayout:
        self._tasks.close()
        return FileLayout(
            "`SPLIT.jsonl` are Prodigy's tasks, one a candidate (an image without any has one task without text); "
            "spans are in pixels.\nAn `answer` stands where people judged: accept, reject, or ignore for unsure. Paths "
            "of images start in this folder."
        )


def _span(region: Region, label: str, image: ExportedImage) -> dict[str, Any]:
    box = [[region.x0, region.y0], [region.x0, region.y1], [region.x1, region.y1], [region.x1, region.y0]]
    points = [[round(x * image.width, 3), round(y * image.height, 3)] for x, y in region.polygon or box]
    if region.polygon:
        return {"label": label, "type": "polygon", "points": points}
    (x, y), _, (right, bottom), _ = points
    size = {"x": x, "y": y, "width": round(right - x, 3), "height": round(bottom - y, 3)}
    return {"label": label, "type": "rect", "points": points, **size}


def _hash(text: str) -> int:
    """A signed number of 32 bits, as Prodigy's hashes are."""
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big", signed=True)


def count(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    found: dict[str, tuple[set[str], int]] = {}
    for file in sorted(folder.glob("*.jsonl")):
        for _, task in read_lines(file):
            images, anomalies = found.get(file.stem, (set(), 0))
            images.add(task["image"])
            found[file.stem] = images, anomalies + ("candidate" in task["meta"])
    return split_counts({split: (len(images), anomalies) for split, (images, anomalies) in found.items()})
