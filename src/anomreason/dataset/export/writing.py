"""What every format of export does: says where an image's file goes, takes the images one by one, and ends.

A format is a class like this in a file of its own, with a function `count` that reads its files back; the table in
`formats` names it.

    class Names(Writer):
        def add(self, image: ExportedImage, data: bytes | None) -> None:
            print(image.name)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, ClassVar

from anomreason.dataset.export.folder import Draft, json_bytes
from anomreason.dataset.export.options import ExportOptions
from anomreason.dataset.export.planning import Plan
from anomreason.dataset.export.records import ExportedImage


@dataclass(frozen=True, slots=True)
class FileLayout:
    """What the card says of an export's files."""

    text: str
    """What lies where and how to open it, Markdown."""
    configs: tuple[tuple[str, tuple[str, ...]], ...] = ()
    """For `datasets.load_dataset`: the patterns of files of each split. Empty: it does not open this format."""


class Writer(ABC):
    """Writes one export."""

    embeds: ClassVar[bool] = False
    """Whether it wants the bytes of the images itself."""

    def __init__(self, draft: Draft, plan: Plan, options: ExportOptions) -> None:
        self.draft, self.plan, self.options = draft, plan, options

    def refuse(self, image: ExportedImage) -> str | None:
        """Why this format cannot hold an image, in a word; None: it can."""
        return None

    def place(self, image: ExportedImage) -> str:
        """Where the image's file goes, in the export's folder."""
        return f"images/{image.split}/{image.place}"

    @abstractmethod
    def add(self, image: ExportedImage, data: bytes | None) -> None:
        """Write one image; they come sorted by split and name. data: None unless `embeds`."""

    @abstractmethod
    def finish(self) -> FileLayout:
        """Write what is still missing."""


class JsonFile:
    """A JSON list, or JSON lines, written entry by entry."""

    def __init__(self, draft: Draft, place: str, *, lines: bool = True) -> None:
        self._stack = ExitStack()
        self._file: IO[bytes] = self._stack.enter_context(draft.open(place))
        self._lines, self._entries = lines, 0

    def add(self, entry: object) -> None:
        if not self._lines:
            self._file.write(b",\n" if self._entries else b"[\n")
        self._file.write(json_bytes(entry) + (b"\n" if self._lines else b""))
        self._entries += 1

    def close(self) -> None:
        if not self._lines:
            self._file.write(b"\n]\n" if self._entries else b"[]\n")
        self._stack.close()


class JsonFiles:
    """One such file for each split."""

    def __init__(self, draft: Draft, pattern: str, *, lines: bool = True) -> None:
        """pattern: the place, with `{}` for the split."""
        self._draft, self._pattern, self._lines = draft, pattern, lines
        self._files: dict[str, JsonFile] = {}

    def add(self, split: str, entry: object) -> None:
        if split not in self._files:
            self._files[split] = JsonFile(self._draft, self._pattern.format(split), lines=self._lines)
        self._files[split].add(entry)

    def close(self) -> None:
        for file in self._files.values():
            file.close()

    def configs(self) -> tuple[tuple[str, tuple[str, ...]], ...]:
        return tuple((split, (self._pattern.format(split),)) for split in self._files)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)
