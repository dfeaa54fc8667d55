"""The folder of one training: settings, lock, checkpoints, and the best weights so far.

    training.json            settings, versions, where the data came from
    train-log.jsonl          see curve.py
    checkpoints/checkpoint-N everything that resuming needs; counts once it holds `complete.json`
    checkpoints/chosen-N     weights alone, the best so far by score, named by `chosen.json`
    trained.json             written last: the training is over and proved

A kill at any moment leaves a folder that the same command continues.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from anomreason.errors import RunConflict, UsageError
from anomreason.files import write_atomically
from anomreason.runs import settings_difference

SETTINGS, DONE = "training.json", "trained.json"
_COMPLETE, _CHOSEN, _LOCK = "complete.json", "chosen.json", "training.lock"


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
        self._lock: int | None = None
        if not main:
            return
        _refuse_strangers(path)
        try:
            self.checkpoints.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(path)
        except OSError as error:
            raise UsageError(f"{str(path)!r} cannot be used ({error.strerror}); give another folder") from error
        try:
            self._check_or_write(json.loads(json.dumps(settings)), record)
        except BaseException:
            self.close()
            raise

    def _check_or_write(self, settings: dict[str, Any], record: Mapping[str, Any]) -> None:
        file = self.path / SETTINGS
        begun = self.last_checkpoint() is not None or self.done() is not None
        if file.exists() and begun:
            differences = settings_difference(_read(file).get("settings", {}), settings)
            if differences:
                raise RunConflict(
                    f"{str(self.path)!r} holds a training with other settings ({'; '.join(differences[:4])}); use "
                    "those to continue it, or another folder"
                )
            return
        write_atomically(file, json.dumps({"settings": settings, **record}, indent=2, ensure_ascii=False) + "\n")

    def done(self) -> dict[str, Any] | None:
        """What `trained.json` says; None while the training is not over."""
        file = self.path / DONE
        return _read(file) if file.exists() else None

    def finish(self, record: Mapping[str, Any]) -> None:
        """Say that the training is over."""
        write_atomically(self.path / DONE, json.dumps(record, indent=2, ensure_ascii=False) + "\n")

    def last_checkpoint(self) -> tuple[int, Path] | None:
        """Step and folder of the last checkpoint that was written to its end."""
        return max(self._complete(), default=None)

    def complete(self, step: int, keep: int) -> None:
        """Mark the checkpoint of a step as whole, and remove older ones but for `keep`, and torn ones."""
        write_atomically(self._checkpoint(step) / _COMPLETE, json.dumps({"step": step}))
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
        record = _read(file)
        return BestWeights(**{**record, "folder": self.checkpoints / record["folder"]})

    def close(self) -> None:
        """Let other processes work here."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _checkpoint(self, step: int) -> Path:
        return self.checkpoints / f"checkpoint-{step}"

    def _complete(self) -> list[tuple[int, Path]]:
        found = [path.parent for path in self.checkpoints.glob(f"checkpoint-*/{_COMPLETE}")]
        return [(int(path.name.rpartition("-")[2]), path) for path in found]


def _refuse_strangers(path: Path) -> None:
    """A folder with somebody's files and no training is left alone."""
    if not path.is_dir() or (path / SETTINGS).exists():
        return
    ours = {_LOCK, "checkpoints"}
    strangers = sorted(p.name for p in path.iterdir() if p.name not in ours and not p.name.endswith(".part"))
    if strangers:
        raise RunConflict(
            f"{str(path)!r} holds other files ({strangers[0]!r}) and no training; give an empty or new folder"
        )


def _locked(path: Path) -> int:
    """Take the folder's lock; the operating system gives it back however the process ends."""
    fd = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(fd)
        raise RunConflict(f"another process trains in {str(path)!r}; wait until it ends, or give another folder") from (
            None
        )
    return fd


def _read(file: Path) -> dict[str, Any]:
    try:
        value = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{file} cannot be read ({error}); give another folder, or remove this one") from error
    if not isinstance(value, dict):
        raise UsageError(f"{file} holds no settings; give another folder, or remove this one")
    return value
