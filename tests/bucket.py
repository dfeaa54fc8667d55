"""A bucket in memory, `store://`, that counts what it is asked, and fails where it is told to."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import fsspec
from fsspec.implementations.memory import MemoryFileSystem


class MemoryBucket(MemoryFileSystem):  # type: ignore[misc]
    """Its files are those of the whole process; the fixture `bucket` removes them."""

    protocol = "store"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]
    asked: ClassVar[Counter[str]] = Counter()
    faults: ClassVar[dict[str, Exception | int]] = {}
    """By file name: what is raised, or how many bytes are given."""

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        return MemoryFileSystem._strip_protocol(path.replace("store://", "memory://"))  # type: ignore[no-any-return]

    def info(self, path: str, **given: Any) -> dict[str, Any]:
        self.asked["info"] += 1
        return super().info(path, **given)  # type: ignore[no-any-return]

    def find(self, path: str, **given: Any) -> Any:
        self.asked["find"] += 1
        before = self.asked["info"]
        found = super().find(path, **given)
        self.asked["info"] = before  # its own, of a folder in memory
        return found

    def cat_file(self, path: str, start: int | None = None, end: int | None = None, **given: Any) -> bytes:
        self.asked["read"] += 1
        data: bytes = super().cat_file(path, start=start, end=end)
        fault = self.faults.get(path.rpartition("/")[2])
        if isinstance(fault, Exception):
            raise fault
        return data if fault is None else data[:fault]


def put(folder: Path, address: str) -> None:
    """Copy a folder into a bucket."""
    store, path = fsspec.core.url_to_fs(address)
    for file in folder.rglob("*"):
        if file.is_file():
            store.pipe_file(f"{path}/{file.relative_to(folder).as_posix()}", file.read_bytes())
