"""The authors' form: `annotations.json`, `split.json`, photographs in `0_real/`, generated images in `1_fake/`.

anomreason eval RUN OUT/annotations.json
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path, PurePosixPath

from anomreason.dataset.export.folder import Draft, json_bytes
from anomreason.dataset.export.options import Counts, ExportOptions, split_counts
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedImage
from anomreason.dataset.export.writing import FileLayout, Writer
from anomreason.sources.formats.published import PublishedImage, iter_published, published_entry
from anomreason.sources.generated import FOLDERS
from anomreason.sources.manifests import read_split

ANNOTATIONS, SPLIT = "annotations.json", "split.json"
_FOLDER = {"photograph": "0_real", "ai": "1_fake"}


class Published(Writer):
    """Writes the quadruples of each image, or the description of a photograph."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        super().__init__(draft, plan, options)
        self._stack = ExitStack()
        self._file = self._stack.enter_context(draft.open(ANNOTATIONS))
        self._names: dict[str, list[str]] = {}

    def place(self, image: ExportedImage) -> str:
        folder = _FOLDER.get(image.source_kind, "images")
        given = FOLDERS.keys() & set(PurePosixPath(image.name).parent.parts)
        return image.name if given else f"{folder}/{image.name}"

    def add(self, image: ExportedImage, data: bytes | None) -> None:
        self._file.write(b",\n" if self._names else b"{\n")
        self._file.write(published_entry(image.name, published_image(image)))
        self._names.setdefault(image.split, []).append(image.name)

    def finish(self) -> FileLayout:
        self._file.write(b"\n}\n" if self._names else b"{}\n")
        self._stack.close()
        self.draft.write(SPLIT, [json_bytes(self._names) + b"\n"])
        return FileLayout(
            f"`{ANNOTATIONS}` holds, by image name, a list of anomalies (`Name`, `Observed Phenomenon`, `Reasoning`,\n"
            f"`Severity Score`) or the description of a photograph; `{SPLIT}` the names of each split. Photographs are "
            "in\n`0_real/`, generated images in `1_fake/`. Kind, objects and region have no place in this form."
        )


def published_image(image: ExportedImage) -> PublishedImage:
    """A list of anomalies; of a photograph without any, its description where there is one."""
    described = image.source_kind == "photograph" and not image.anomalies and (image.description or "").strip()
    return PublishedImage(description=image.description) if described else PublishedImage(anomalies=image.quadruples)


def count(folder: Path) -> Counts:
    """Images and anomalies by split, read back."""
    of = {name: split for split, names in read_split(folder / SPLIT).items() for name in names}
    found: dict[str, tuple[int, int]] = {}
    for name, one in iter_published(folder / ANNOTATIONS):
        images, anomalies = found.get(of.get(name, ""), (0, 0))
        found[of.get(name, "")] = images + 1, anomalies + len(one.anomalies)
    return split_counts(found)
