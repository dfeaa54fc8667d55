"""The run folder: what was asked, each result once, who works in it now.

run.json         what was asked: settings, resolved arguments, versions, prompt hashes, git commit
results.jsonl    one Detection a line, append only; the last line for an image counts
calls.jsonl      one line a model call (written by vlm.ledger)
responses.sqlite every reply (written by vlm.cache)
report.html      built by report.html

for detection in iter_results(Path("runs/demo")):
    print(detection.image, detection.worst)
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from pydantic import ValidationError

from anomreason.anomaly import Detection
from anomreason.errors import RunConflict, UsageError, first_error
from anomreason.files import Appender, read_lines, read_object, write_atomically

RESULTS = "results.jsonl"
FINAL_FAILURES = frozenset({"unreadable_image", "refused"})
"""Failures that a rerun does not try again."""


def iter_results(run: Path) -> Iterator[Detection]:
    """As `read_results`, one at a time, so that memory does not grow with the run."""
    _require_run(run)
    last = {str(line.get("image")): number for number, line in read_lines(run / RESULTS, appended=True)}
    for number, _, detection in recorded(run):
        if last[detection.image] == number:
            yield detection


def recorded(run: Path) -> Iterator[tuple[int, str, Detection]]:
    """Number, place (for messages) and detection of every line of results.jsonl, also of those that do not count.

    A torn last line is that of a process that was killed, and is passed over. Raises UsageError for any other damage.
    """
    for number, line in read_lines(run / RESULTS, appended=True):
        where = f"{run / RESULTS}, line {number}"
        yield number, where, detection_from(line, where)


def detection_from(line: Mapping[str, Any], where: str) -> Detection:
    """The detection that a JSON line holds. UsageError, with the place, for a line that holds none."""
    try:
        return Detection.model_validate(line)
    except ValidationError as error:
        raise UsageError(f"{where}: not a detection: {first_error(error)}; repair or remove the line") from None


def read_results(run: Path) -> dict[str, Detection]:
    """Detections by image, in the order in which they were recorded; the last line for an image counts.

    Raises UsageError when the folder holds no run, and for a damaged line, naming it.
    """
    return {detection.image: detection for detection in iter_results(run)}


def read_settings(run: Path) -> dict[str, Any]:
    """What `run.json` holds. Raises UsageError when the folder holds no run."""
    _require_run(run)
    return read_object(run / "run.json")


def _require_run(run: Path) -> None:
    if not (run / "run.json").is_file():
        raise UsageError(f"{str(run)!r} is not a run folder (it has no run.json); give the folder that detect named")


@dataclass(frozen=True, slots=True)
class ImageStatus:
    """What a resumed run needs to know of an image's last result."""

    status: str
    failure: str | None
    sha256: str | None
    size: int | None
    mtime: int | None

    @classmethod
    def of(cls, detection: Detection) -> ImageStatus:
        d = detection
        return cls(d.status, d.failure.kind if d.failure else None, d.sha256, d.file_size, d.file_mtime)

    @property
    def final(self) -> bool:
        """True when a rerun need not look at the image again, as long as the file is the same."""
        return self.status == "ok" or self.failure in FINAL_FAILURES


class RunFolder:
    """One run folder, open for work by this process alone. Use as a context manager."""

    def __init__(self, path: Path, settings: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Create the folder or continue it.

        settings: what decides the results; must equal those the folder was made with. record: whatever else is worth
        keeping in run.json. Raises RunConflict for other settings or when another process works in it.
        """
        self.path = path
        try:
            _refuse_strangers(path)
            path.mkdir(parents=True, exist_ok=True)
            self._lock = lock_folder(path)
        except OSError as e:
            raise UsageError(f"cannot use {str(path)!r} as run folder: {e.strerror}; give another --run") from e
        try:
            self._check_or_write(dict(settings), dict(record))
            self.done = done_in(path)
            self._results = Appender(path / RESULTS)
        except BaseException:
            os.close(self._lock)
            raise

    def _check_or_write(self, settings: dict[str, Any], record: dict[str, Any]) -> None:
        settings = json.loads(json.dumps(settings))
        file = self.path / "run.json"
        if file.exists():
            before = read_settings(self.path)
            differences = settings_difference(before.get("settings", {}), settings)
            if record.get("root") != before.get("root"):
                differences.append(f"images below {before.get('root')!r} there, below {record.get('root')!r} now")
            if differences and self._begun():
                raise RunConflict(
                    f"the run folder {str(self.path)!r} was made with other settings ({'; '.join(differences)}); "
                    "use those settings to continue it, or another --run"
                )
            if not differences:
                return
        write_atomically(file, json.dumps({"settings": settings, **record}, indent=2, ensure_ascii=False) + "\n")

    def _begun(self) -> bool:
        """Whether anything was recorded; until then other settings are welcome (a mistyped model, say)."""
        files = (self.path / RESULTS, self.path / "calls.jsonl")
        return any(f.is_file() and f.stat().st_size > 0 for f in files)

    def append(self, detection: Detection) -> None:
        """Record one image's result."""
        self._results.append(detection.json_line())
        self.done[detection.image] = ImageStatus.of(detection)

    def close(self) -> None:
        self._results.close()
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _refuse_strangers(path: Path) -> None:
    """A folder with somebody's files and no run is left alone."""
    if not path.is_dir() or (path / "run.json").exists():
        return
    strangers = sorted(p.name for p in path.iterdir() if p.name != "run.lock" and not p.name.endswith(".part"))
    if strangers:
        raise RunConflict(
            f"{str(path)!r} holds other files ({strangers[0]!r}) and no run.json; choose an empty or new folder with "
            "--run"
        )


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return (path / "run.json").is_file() and (path / "run.lock").is_file()


def done_in(path: Path) -> dict[str, ImageStatus]:
    """The status of each image that a run has a result for, without taking its lock; empty when there is no run."""
    return {detection.image: ImageStatus.of(detection) for _, _, detection in recorded(path)}


def lock_folder(path: Path, file: str = "run.lock", what: str = "run folder", instead: str = "--run") -> int:
    """Take a folder for this process alone; the operating system gives it back however the process ends.

    Gives a file descriptor to close. Raises RunConflict when another process has it, naming that and what it is for.
    """
    fd = os.open(path / file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise RunConflict(
            f"another process ({owner or 'unknown'}) works in the {what} {str(path)!r}; wait until it ends, "
            f"or choose another {instead}"
        ) from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


def settings_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lines like `schedule: 'lean' there, 'paper' now`; empty when equal."""
    there, here = _flat(before), _flat(now)
    keys = [*there, *(k for k in here if k not in there)]
    return [f"{k}: {there.get(k)!r} there, {here.get(k)!r} now" for k in keys if there.get(k) != here.get(k)]


def _flat(settings: Mapping[str, Any], head: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat |= _flat(value, f"{head}{key}.") if isinstance(value, Mapping) else {head + key: value}
    return flat


def default_run(inputs: list[str], settings: Mapping[str, Any]) -> Path:
    """A folder whose name follows from the inputs and settings, so that the same command finds it again."""
    text = json.dumps([inputs, dict(settings)], sort_keys=True, default=str)
    stem = re.sub(r"[^A-Za-z0-9]+", "-", Path(inputs[0]).stem if inputs else "run").strip("-")[:40] or "run"
    return Path("runs") / f"{stem}-{hashlib.sha256(text.encode()).hexdigest()[:10]}"


def provenance() -> dict[str, Any]:
    """Versions of what a result depends on, and the git commit of the package's checkout (None when installed)."""
    versions: dict[str, str] = {}
    for package in ("anomreason", "openai", "pillow", "pydantic", "torch", "transformers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    return {"versions": versions, "git_commit": _git_commit()}


def _git_commit() -> str | None:
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():
        return None
    try:
        asked = subprocess.run(["git", "rev-parse", "HEAD"], cwd=here, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return asked.stdout.strip() or None
