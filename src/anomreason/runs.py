"""The run folder: what was asked, each result once, who works in it now.

    run.json         what was asked: settings, resolved arguments, versions, prompt hashes, git commit
    results.jsonl    one Detection a line, append only; the last line for an image counts
    calls.jsonl      one line a model call (written by vlm.ledger)
    responses.sqlite every reply (written by vlm.cache)
    report.html      built by report.html

Knows nothing of models and agents. `read_results("runs/demo")` gives the detections of any run folder.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Self

from anomreason.anomaly import Detection
from anomreason.errors import RunConflict, StorageError, UsageError

FINAL_FAILURES = frozenset({"unreadable_image", "refused"})
"""Failures that a rerun does not try again."""


class Appender:
    """An append-only file of JSON lines that survives kill -9: a line is written whole, a torn tail is cut off."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o644)
        self._size = _cut_torn_tail(self._fd)

    def append(self, line: str) -> None:
        """Write one line. Raises StorageError when the disk is full, leaving no torn line behind."""
        data = line.encode("utf-8") + b"\n"
        try:
            written = os.write(self._fd, data)
            if written < len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
        except OSError as e:
            os.ftruncate(self._fd, self._size)
            raise StorageError(
                f"cannot write {self.path}: {e}. Nothing recorded so far is lost: free some space and run the same "
                "command again."
            ) from e
        self._size += len(data)

    def close(self) -> None:
        os.close(self._fd)


def _cut_torn_tail(fd: int) -> int:
    """Remove what follows the last newline; gives the size that remains."""
    size = os.fstat(fd).st_size
    end = size
    while end > 0:
        start = max(0, end - 65536)
        newline = os.pread(fd, end - start, start).rfind(b"\n")
        if newline >= 0:
            end = start + newline + 1
            break
        end = start
    if end < size:
        os.ftruncate(fd, end)
    return end


def read_lines(path: Path) -> Iterator[dict[str, Any]]:
    """The JSON objects of a file of lines; a torn last line is passed over, a missing file has none."""
    if not path.exists():
        return
    with path.open("rb") as file:
        for line in file:
            if not line.endswith(b"\n"):
                return
            try:
                value = json.loads(line)
            except ValueError:
                continue
            if isinstance(value, dict):
                yield value


def iter_results(run: Path) -> Iterator[Detection]:
    """As `read_results`, one at a time, so that memory does not grow with the run.

    Raises UsageError when the folder holds no run.
    """
    _require_run(run)
    file = run / "results.jsonl"
    last = {line["image"]: number for number, line in enumerate(read_lines(file))}
    for number, line in enumerate(read_lines(file)):
        if last.get(line["image"]) == number:
            yield Detection.model_validate(line)


def read_results(run: Path) -> dict[str, Detection]:
    """Detections by image, in the order in which they were settled; the last line for an image counts.

    Raises UsageError when the folder holds no run.
    """
    return {detection.image: detection for detection in iter_results(run)}


def read_settings(run: Path) -> dict[str, Any]:
    """What `run.json` holds. Raises UsageError when the folder holds no run."""
    _require_run(run)
    try:
        value = json.loads((run / "run.json").read_text(encoding="utf-8"))
    except ValueError as e:
        raise UsageError(f"{run / 'run.json'} is not readable JSON ({e}); the folder cannot be continued") from e
    if not isinstance(value, dict):
        raise UsageError(f"{run / 'run.json'} does not hold a run's settings")
    return value


def _require_run(run: Path) -> None:
    if not (run / "run.json").is_file():
        raise UsageError(f"{str(run)!r} is not a run folder (it has no run.json); give the folder that detect named")


@dataclass(frozen=True, slots=True)
class Done:
    """What a resumed run needs to know of an image's last line."""

    status: str
    failure: str | None
    sha256: str | None
    size: int | None
    mtime: int | None

    @classmethod
    def of(cls, line: Mapping[str, Any]) -> Done:
        """From a line of results.jsonl."""
        failure = line.get("failure") or {}
        return cls(
            line["status"], failure.get("kind"), line.get("sha256"), line.get("file_size"), line.get("file_mtime")
        )

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
            self._results = Appender(path / "results.jsonl")
        except BaseException:
            os.close(self._lock)
            raise
        self.done: dict[str, Done] = {}
        for line in read_lines(path / "results.jsonl"):
            self._remember(line)

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
        files = (self.path / "results.jsonl", self.path / "calls.jsonl")
        return any(f.is_file() and f.stat().st_size > 0 for f in files)

    def _remember(self, line: Mapping[str, Any]) -> None:
        self.done[line["image"]] = Done.of(line)

    def append(self, detection: Detection) -> None:
        """Record one image's result."""
        self._results.append(detection.json_line())
        self._remember(
            detection.model_dump(include={"image", "status", "failure", "sha256", "file_size", "file_mtime"})
        )

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


def done_in(path: Path) -> dict[str, Done]:
    """What an existing run has done, without taking its lock; empty when there is none."""
    return {line["image"]: Done.of(line) for line in read_lines(path / "results.jsonl")}


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


def write_atomically(path: Path, text: str) -> None:
    """The whole file or none of it."""
    part = path.with_name(path.name + f".{os.getpid()}.part")
    try:
        part.write_text(text, encoding="utf-8", errors="backslashreplace")  # file names need not be UTF-8
        os.replace(part, path)
    except OSError as e:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise StorageError(f"cannot write {str(path)!r}: {e.strerror}") from e


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
