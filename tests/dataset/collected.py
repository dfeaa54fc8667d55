"""Puts image files into a store as `dataset collect` does, for tests of what comes after."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from sqlalchemy import select

from anomreason.dataset.store import Store, add_new, ids_by
from anomreason.dataset.tables import ImageRow, ImageState, PromptRow, SourceRow
from anomreason.errors import UnreadableImage
from anomreason.images import image_size


def put_images(store: Store, folder: Path, prompts: Mapping[str, str] = {}, groups: Mapping[str, str] = {}) -> None:
    """All files of a folder by name; prompts, groups: by the file's name."""
    with store.command("collect", {}) as command, store.writing() as session:
        by = {"command_id": command.id}
        add_new(session, SourceRow, [{"name": folder.name, "kind": "ai", **by}])
        source = session.scalar(select(SourceRow.id).where(SourceRow.name == folder.name))
        texts = {hashlib.sha256(text.encode()).hexdigest(): text for text in prompts.values()}
        add_new(session, PromptRow, [{"sha256": key, "text": text, **by} for key, text in texts.items()])
        ids = ids_by(session, PromptRow.sha256, PromptRow.id, texts)
        rows = []
        for path in sorted(folder.iterdir()):
            prompt = prompts.get(path.name)
            try:
                width, height = image_size(path)
            except UnreadableImage:
                width, height = 64, 64
            rows.append(
                {
                    "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
                    "path": store.place(path),
                    "name": path.name,
                    "source_id": source,
                    "prompt_id": None if prompt is None else ids[hashlib.sha256(prompt.encode()).hexdigest()],
                    "group": groups.get(path.name),
                    "width": width,
                    "height": height,
                    "format": "PNG",
                    "bytes": path.stat().st_size,
                    "facts": {},
                    "status": ImageState.KEPT,
                    **by,
                }
            )
        add_new(session, ImageRow, rows)
