"""The formats of export by name.

>>> list(FORMATS)[:2]
['imagefolder', 'parquet']
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from anomreason.dataset.export import chat, coco, csv, imagefolder, label_studio, parquet, prodigy, published
from anomreason.dataset.export.options import Counts, ExportOptions, Images
from anomreason.dataset.export.writing import Writer
from anomreason.errors import UsageError


@dataclass(frozen=True, slots=True)
class ExportFormat:
    """One form of export."""

    writer: type[Writer]
    count: Callable[[Path], Counts]
    """Reads images and anomalies by split back."""
    images: tuple[Images, ...] = ("copy", "link", "none")
    """What can be done with the images."""
    steps: bool = False
    """Whether it has a place for what the detectors said on the way."""
    chat: bool = False
    """Whether it holds conversations."""


_NEEDED: tuple[Images, ...] = ("copy", "link")
FORMATS: dict[str, ExportFormat] = {
    "imagefolder": ExportFormat(imagefolder.ImageFolder, imagefolder.count, _NEEDED, steps=True),
    "parquet": ExportFormat(parquet.Parquet, parquet.count, ("copy",), steps=True),
    "published": ExportFormat(published.Published, published.count),
    "trl": ExportFormat(chat.Trl, chat.count_trl, _NEEDED, chat=True),
    "llamafactory": ExportFormat(chat.LlamaFactory, chat.count_llamafactory, _NEEDED, chat=True),
    "ms-swift": ExportFormat(chat.Swift, chat.count_swift, _NEEDED, chat=True),
    "coco": ExportFormat(coco.Coco, coco.count),
    "label-studio": ExportFormat(label_studio.LabelStudio, label_studio.count),
    "prodigy": ExportFormat(prodigy.Prodigy, prodigy.count),
    "csv": ExportFormat(csv.Csv, csv.count, steps=True),
}


def format_of(options: ExportOptions) -> ExportFormat:
    """The format that is asked for. Raises UsageError for an unknown one, and for options without effect in it."""
    if options.format not in FORMATS:
        raise UsageError(f"unknown format {options.format!r}; choose one of {', '.join(FORMATS)}")
    found, default = FORMATS[options.format], ExportOptions()
    wrong = None
    if options.images not in found.images:
        wrong = f"--images {options.images} (only {' or '.join(found.images)})"
    elif options.with_steps and not found.steps:
        wrong = f"--with-steps (only {', '.join(name for name, one in FORMATS.items() if one.steps)})"
    elif not found.chat and (options.task, options.seed) != (default.task, default.seed):
        wrong = f"--task and --seed (only {', '.join(name for name, one in FORMATS.items() if one.chat)})"
    if wrong:
        raise UsageError(f"the format {options.format} has no place for {wrong}; leave it out or choose another format")
    return found
