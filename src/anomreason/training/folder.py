"""The folder of one training: settings, lock, checkpoints, and the best weights so far.

    training.json            settings, versions, where the data came from
    train-log.jsonl          see curve.py
    checkpoints/checkpoint-N everything that resuming needs; counts once it holds `complete.json`
    checkpoints/chosen-N     weights alone, the best so far by score, named by `chosen.json`
    trained.json             written last: the training is over and proved

A kill at any moment leaves a folder that the same command continues.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anomreason.files import read_object, write_atomically
from anomreason.runs import FolderKind, ResumableFolder, settings_difference

SETTINGS, DONE = "training.json", "trained.json"
_COMPLETE, _CHOSEN = "complete.json", "chosen.json"
FOLDER = FolderKind("training", SETTINGS, "training.lock", "another folder", own=("checkpoints",))


@dataclass(frozen=True, slots=True)
class BestWeights:
    """The weights that are kept: the best so far."""

    step: int
    folder: Path
    by: str
    """What they were chosen by: a score's name, `loss`, or `last`."""
    value: float | None
    scores: Mapping[str, float]


class TrainingFolder:
    """One training's folder. Only the main process of several opens it with `main`, and only that one writes."""

    def __init__(self, path: Path, settings: Mapping[str, Any], record: Mapping[str, Any], main: bool = True) -> None:
        """Create the folder or continue it. settings: what decides the result.

        Raises RunConflict for a folder with other settings, other files, or another process in it.
        """
        self.path, self.checkpoints = path, path / "checkpoints"
        self._folder: ResumableFolder | None = None
        if not main:
            return
        self._folder = ResumableFolder(path, FOLDER)
        try:
            self.checkpoints.mkdir(exist_ok=True)
            self._agree(self._folder, json.loads(json.dumps(settings)), record)
        except BaseException:
            self.close()
            raise

    def _agree(self, folder: ResumableFolder, settings: dict[str, Any], record: Mapping[str, Any]) -> None:
        before = folder.settings()
        if before is not None and (self.last_checkpoint() is not None or self.done() is not None):
            folder.refuse(settings_difference(before.get("settings", {}), settings)[:4])
        else:
            folder.record({"settings": settings, **record})

    def done(self) -> dict[str, Any] | None:
        """What `trained.json` says; None while the training is not over."""
        file = self.path / DONE
        return read_object(file) if file.exists() else None

    def finish(self, record: Mapping[str, Any]) -> None:
        """Say that the training is over."""
        write_atomically(self.path / DONE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Step and folder of the last checkpoint that was written to its end."""
        return max(self._complete(), default=None)

    def complete(self, step: int, keep: int) -> None:
        """Mark the checkpoint of a step as whole, and remove older ones but for `keep`, and torn ones."""
        write_atomically(self.checkpoints / f"checkpoint-{step}" / _COMPLETE, json.dumps({"step": step}))
        kept = {path for _, path in sorted(self._complete())[-keep:]}
        for path in self.checkpoints.glob("checkpoint-*"):
            if path not in kept:
                shutil.rmtree(path, ignore_errors=True)

    def place_for(self, step: int) -> Path:
        """An empty folder for weights that are about to be chosen."""
        path = self.checkpoints / f"chosen-{step}"
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir()
        return path

    def choose(self, chosen: BestWeights) -> None:
        """From now on these weights are the ones; the former are removed."""
        record = {**asdict(chosen), "folder": chosen.folder.name, "scores": dict(chosen.scores)}
        write_atomically(self.checkpoints / _CHOSEN, json.dumps(record))
        for path in self.checkpoints.glob("chosen-*"):
            if path != chosen.folder:
                shutil.rmtree(path, ignore_errors=True)

    def chosen(self) -> BestWeights | None:
        """The weights chosen so far."""
        file = self.checkpoints / _CHOSEN
        if not file.exists():
            return None
        record = read_object(file)
        return BestWeights(**{**record, "folder": self.checkpoints / record["folder"]})

    def close(self) -> None:
        """Let other processes work here."""
        if self._folder is not None:
            self._folder.close()
            self._folder = None

    def _complete(self) -> list[tuple[int, Path]]:
        found = [path.parent for path in self.checkpoints.glob(f"checkpoint-*/{_COMPLETE}")]
        return [(int(path.name.rpartition("-")[2]), path) for path in found]
