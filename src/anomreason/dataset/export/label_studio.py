"""Label Studio: one task a candidate, to accept, reject or leave open, with what is known already as its prediction.

label-studio start; then import OUT/tasks-train.json into a project with OUT/labels.xml
"""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import quote
from xml.sax.saxutils import quoteattr

from anomreason.anomaly import Anomaly, Region
from anomreason.dataset.export.coco import NO_KIND, kind_of
from anomreason.dataset.export.folder import Draft
from anomreason.dataset.export.options import Counts, ExportOptions, split_counts
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedCandidate, ExportedImage
from anomreason.dataset.export.writing import FileLayout, JsonFiles, Writer
from anomreason.dataset.tables import Origin, Outcome
from anomreason.errors import UsageError
from anomreason.files import parse_json, read_text

CONFIG = "labels.xml"
SERVED = "/data/local-files/?d="
"""Where Label Studio serves files of its local storage; the path follows."""
CHOICES = {Outcome.ACCEPTED: "ACCEPT", Outcome.REJECTED: "REJECT", Outcome.UNSURE: "UNSURE"}
_VIEW = """<View>
  <Header value="$name"/>
  <Text name="phenomenon" value="$phenomenon"/>
  <Text name="reasoning" value="$reasoning"/>
  <Text name="severity" value="$severity"/>
  <Image name="image" value="$image" zoom="true"/>
  <RectangleLabels name="kind" toName="image">
{labels}
  </RectangleLabels>
  <PolygonLabels name="outline" toName="image">
{labels}
  </PolygonLabels>
  <Choices name="verdict" toName="image" choice="single" required="true">
    <Choice value="ACCEPT" hotkey="1"/>
    <Choice value="REJECT" hotkey="2"/>
    <Choice value="UNSURE" hotkey="3"/>
  </Choices>
</View>
"""


class LabelStudio(Writer):
    """Writes tasks and the labelling interface that they fit."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._tasks = JsonFiles(draft, "tasks-{}.json", lines=False)
        self._kinds: set[str] = {NO_KIND}

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        if not image.anomalies:
            self._tasks.add(image.split, {"data": self._data(image), "predictions": []})
        for one in image.anomalies:
            if one.anomaly:
                self._kinds.add(_label(one))
                self._tasks.add(image.split, self._task(image, one, one.anomaly))

    def _data(self, image: ExportedImage) -> dict[str, Any]:
        return {
            "image": SERVED + quote(self.place(image)),
            "file_name": image.name,
            "source": image.source,
            "sha256": image.sha256,
            "candidate": None,
            "name": "No anomaly is known",
            **dict.fromkeys(("phenomenon", "reasoning", "severity"), ""),
        }

    def _task(self, image: ExportedImage, one: ExportedCandidate, anomaly: Anomaly) -> dict[str, Any]:
        results = []
        shared = {"to_name": "image", "original_width": image.width, "original_height": image.height}
        shared |= {"image_rotation": 0}
        if anomaly.region:
            results.append({"id": f"r{one.id}", **_shape(anomaly.region, _label(one)), **shared})
        choice = CHOICES.get(Outcome(one.outcome))
        if choice:
            value = {"choices": [choice]}
            results.append(
                {"id": f"c{one.id}", "from_name": "verdict", "to_name": "image", "type": "choices", "value": value}
            )
        texts = {
            "candidate": one.id,
            "name": anomaly.name,
            "phenomenon": anomaly.phenomenon,
            "reasoning": anomaly.reasoning,
            "severity": f"{anomaly.severity:g} of 100 (0 = completely implausible, 100 = fully realistic)",
        }
        prediction: dict[str, Any] = {"model_version": one.detector, "result": results}
        if one.score is not None and one.origin == Origin.DETECTOR:  # others have scales of their own
            prediction["score"] = one.score / 100
        return {"data": {**self._data(image), **texts}, "predictions": [prediction]}

    def finish(self) -> FileLayout:
        self._tasks.close()
        labels = "\n".join(f"    <Label value={quoteattr(kind)}/>" for kind in sorted(self._kinds))
        self.draft.write(CONFIG, [_VIEW.format(labels=labels).encode("utf-8", "replace")])
        return FileLayout(
            f"`tasks-SPLIT.json` are Label Studio's tasks, one a candidate, with region and verdict as predictions; "
            f"`{CONFIG}` is the\nlabelling interface for them. Serve the images from this folder:\n"
            "`LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED=true LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT=OUT label-studio`,"
            "\nand add `OUT/images` as a local storage of the project."
        )


def _label(one: ExportedCandidate) -> str:
    """The kind as XML can hold it."""
    return "".join(c if c.isprintable() else "?" for c in kind_of(one))


def _shape(region: Region, kind: str) -> dict[str, Any]:
    """In percent of the image."""
    if region.polygon:
        points = [[100 * x, 100 * y] for x, y in region.polygon]
        value: dict[str, Any] = {"points": points, "closed": True, "polygonlabels": [kind]}
        return {"from_name": "outline", "type": "polygonlabels", "value": value}
    box = {"x": region.x0, "y": region.y0, "width": region.x1 - region.x0, "height": region.y1 - region.y0}
    value = {**{name: 100 * share for name, share in box.items()}, "rotation": 0, "rectanglelabels": [kind]}
    return {"from_name": "kind", "type": "rectanglelabels", "value": value}


def count(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    found: dict[str, tuple[int, int]] = {}
    for file in sorted(folder.glob("tasks-*.json")):
        tasks = parse_json(read_text(file))
        if not isinstance(tasks, list):
            raise UsageError(f"{file}: not a list of tasks; get the export again")
        data = [task["data"] for task in tasks]
        anomalies = sum(one["candidate"] is not None for one in data)
        found[file.stem.removeprefix("tasks-")] = len({one["file_name"] for one in data}), anomalies
    return split_counts(found)
