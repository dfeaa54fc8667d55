"""The run folder: options, one result per image, and the lock of the process that works in it.

run.json         settings, resolved arguments, versions, prompt hashes, git commit
results.jsonl    one Detection a line, append only; the last line for an image counts
calls.jsonl      one line a model call (written by vlm.ledger)
responses.sqlite every reply (written by vlm.cache)
report.html      built by report.html
workers/         what several workers have recorded and is not taken in yet (written and taken in by vlm.parts)

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
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any, Self

from anomreason.anomaly import (
    Anomaly,
    Basis,
    Candidate,
    Detection,
    Failure,
    ObjectPart,
    PartCount,
    Record,
    Region,
    SceneObject,
    SentImage,
    SourceJudgement,
    Usage,
)
from anomreason.buckets import Address, is_address
from anomreason.errors import RunConflict, UsageError, shown
from anomreason.files import Appender, read_lines, read_object, read_record, write_atomically

RESULTS = "results.jsonl"
WORKERS = "workers"
_UNSAID = {"crops": "never"}
"""What a setting was in runs that do not name it, as those of versions without it."""
_ENOUGH = 10_000
"""Calls of a run by which it is told who answered."""
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


_PARTS: dict[str | int, type[Record]] = {
    "anomalies": Anomaly,
    "basis": Basis,
    "candidates": Candidate,
    "counts": PartCount,
    "failure": Failure,
    "objects": SceneObject,
    "parts": ObjectPart,
    "region": Region,
    "sent": SentImage,
    "source": SourceJudgement,
    "usage": Usage,
}


def _known_keys(place: tuple[str | int, ...]) -> Collection[str]:
    names = [step for step in place if step in _PARTS]
    return (_PARTS[names[-1]] if names else Detection).model_fields.keys()


def detection_from(line: Mapping[str, Any], where: str) -> Detection:
    """The detection that a JSON line holds. UsageError, with the place, for a line that holds none."""
    detection = read_record(line, Detection.model_validate, _known_keys, where, "a detection")
    if detection.failure is None and "anomalies" not in line:
        raise UsageError(f"{where}: not a detection: it is ok and has no 'anomalies'; repair or remove the line")
    return detection


def read_results(run: Path) -> dict[str, Detection]:
    """Detections by image, in the order in which they were recorded; the last line for an image counts.

    Raises UsageError when the folder holds no run, and for a damaged line, naming it.
    """
    return {detection.image: detection for detection in iter_results(run)}


def simulator_answered(run: Path) -> bool:
    """Whether a simulated model answered, as the calls of the run tell: also one behind a server of another name."""
    calls = islice(read_lines(run / "calls.jsonl", appended=True), _ENOUGH)
    return any(str(call.get("model")).startswith("sim:") for _, call in calls)


def read_settings(run: Path) -> dict[str, Any]:
    """What `run.json` holds. Raises UsageError when the folder holds no run."""
    _require_run(run)
    return checked_settings(read_object(run / "run.json"), run / "run.json")


def checked_settings(record: dict[str, Any], file: Path) -> dict[str, Any]:
    """The same record of a run. Raises UsageError where a part that is read again is damaged."""
    texts = [("root", record.get("root", "")), *(("inputs", i) for i in _a(list, record, "inputs", file))]
    for key in ("settings", "arguments", "versions"):
        _a(dict, record, key, file)
    model = record.get("settings", {}).get("model")
    for key, value in [*texts, ("model", "" if model is None else model)]:
        if not isinstance(value, str) or "\0" in value:
            raise UsageError(f"{file}: {key!r} holds {shown(value)}, not a text; repair the file")
    return record


def _a(kind: type, record: Mapping[str, Any], key: str, file: Path) -> Any:
    value = record.get(key, kind())
    if not isinstance(value, kind):
        raise UsageError(f"{file}: {key!r} is {shown(value)}; repair the file")
    return value


def _require_run(run: Path) -> None:
    if not (run / "run.json").is_file():
        hint = "give the folder that detect named"
        if (run / "metadata.jsonl").is_file():
            hint = "for a folder of scenes as truth add --exact, or give its published.json"
        raise UsageError(f"{str(run)!r} is not a run folder (it has no run.json); {hint}")


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


def take_lock(file: Path, busy: str) -> int:
    """Take a file's lock for this process; the operating system gives it back however that ends, or `os.close` does.

    busy: what another process does that has it, and what to do, for the message. Raises RunConflict.
    """
    fd = os.open(file, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        owner = os.pread(fd, 32, 0).decode("ascii", "replace").strip()
        os.close(fd)
        raise RunConflict(f"another process ({owner or 'unknown'}) {busy}") from None
    os.ftruncate(fd, 0)
    os.pwrite(fd, str(os.getpid()).encode(), 0)
    return fd


@dataclass(frozen=True, slots=True)
class FolderKind:
    """What the folders of one command have in common."""

    what: str
    """As messages call it: `run`, `training`."""
    settings: str
    """File name of the settings; a folder that has it is one of this kind."""
    lock: str
    """File name of the lock."""
    instead: str
    """For messages: what to give for another folder."""
    own: tuple[str, ...] = ()
    """Names that may be there before the settings are."""


class ResumableFolder:
    """A folder that one process works in at a time, and that the same command continues. Use as a context manager."""

    def __init__(self, path: Path, kind: FolderKind) -> None:
        """Create the folder or take it for this process; the operating system gives it back however that ends.

        Raises RunConflict for somebody's folder of other files and when another process has it, UsageError when the
        folder cannot be used.
        """
        if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/", str(path)):
            raise UsageError(
                f"the {kind.what} folder is an address ({str(path)!r}); it is locked and appended to, so it must lie "
                f"in a file system: give {kind.instead}, and copy it to the bucket when it is done"
            )
        self.path, self.kind = path, kind
        try:
            self._refuse_strangers()
            self._made = [folder for folder in (path, *path.parents) if not folder.exists()]  # the innermost first
            path.mkdir(parents=True, exist_ok=True)
            busy = f"works in the {kind.what} folder {str(path)!r}; wait until it ends, or give {kind.instead}"
            self._lock = take_lock(path / kind.lock, busy)
        except OSError as e:
            why = "it is a file" if path.is_file() else e.strerror
            raise UsageError(f"cannot use {str(path)!r} as {kind.what} folder: {why}; give {kind.instead}") from e

    def _refuse_strangers(self) -> None:
        if not self.path.is_dir() or (self.path / self.kind.settings).exists():
            return
        own = {self.kind.lock, *self.kind.own}
        strangers = sorted(p.name for p in self.path.iterdir() if p.name not in own and not p.name.endswith(".part"))
        if strangers:
            raise RunConflict(
                f"{str(self.path)!r} holds other files ({strangers[0]!r}) and no {self.kind.settings}; give "
                f"{self.kind.instead} that is new or empty"
            )

    def settings(self) -> dict[str, Any] | None:
        """What the settings' file holds; None in a new folder. Raises UsageError for a damaged file."""
        file = self.path / self.kind.settings
        try:
            return read_object(file) if file.exists() else None
        except UsageError as error:
            anew = f"{self.kind.instead}, which starts anew and leaves this folder as it is"
            raise UsageError(f"{error}, or give {anew}") from None

    def refuse(self, differences: Sequence[str]) -> None:
        """RunConflict that names the differences (see `settings_difference`), if there are any."""
        if differences:
            raise RunConflict(
                f"the {self.kind.what} folder {str(self.path)!r} was made with other settings "
                f"({'; '.join(differences)}); use those settings to continue it, or give {self.kind.instead}"
            )

    def record(self, settings: Mapping[str, Any]) -> None:
        """Write the settings' file, if that would change it."""
        if self.settings() != settings:
            text = json.dumps(settings, indent=2, ensure_ascii=False)
            write_atomically(self.path / self.kind.settings, text + "\n")

    def close(self) -> None:
        """Let other processes work here."""
        os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


RUN = FolderKind("run", "run.json", "run.lock", "another --run")
REPLIES = ("responses.sqlite", "responses.sqlite-wal", "responses.sqlite-shm")


class RunFolder(ResumableFolder):
    """One run folder, open for work by this process alone. Use as a context manager."""

    def __init__(self, path: Path, settings: Mapping[str, Any], record: Mapping[str, Any]) -> None:
        """Create the folder or continue it.

        settings: what decides the results; must equal those the folder was made with. record: whatever else is worth
        keeping in run.json. Raises RunConflict for other settings or when another process works in it.
        """
        super().__init__(path, RUN)
        try:
            self._agree(json.loads(json.dumps(dict(settings))), record)
            self.done = done_in(path)
            self._results = Appender(path / RESULTS)
        except BaseException:
            super().close()
            raise

    def _agree(self, settings: dict[str, Any], record: Mapping[str, Any]) -> None:
        before = self.settings()
        if before is not None:
            checked_settings(before, self.path / self.kind.settings)
            differences = settings_difference(before.get("settings", {}), settings)
            if record.get("root") != before.get("root"):
                differences.append(f"images below {before.get('root')!r} there, below {record.get('root')!r} now")
            if not differences:
                return
            if self._begun():
                self.refuse(differences)
        self.record({"settings": settings, **record})

    def _begun(self) -> bool:
        """Whether anything was recorded; until then other settings are welcome (a mistyped model, say)."""
        parts = (self.path / WORKERS).glob("*/calls.jsonl")
        files = (self.path / RESULTS, self.path / "calls.jsonl", *parts)
        return any(f.is_file() and f.stat().st_size > 0 for f in files)

    def append(self, detection: Detection) -> None:
        """Record one image's result."""
        self._results.append(detection.json_line())
        self.done[detection.image] = ImageStatus.of(detection)

    def close(self) -> None:
        self._results.close()
        super().close()

    def __exit__(self, *raised: object) -> None:
        # A command that could not begin (no key, a mistyped model, Ctrl-C at the question) leaves nothing behind.
        refused = any(isinstance(error, UsageError) for error in raised)
        unasked = any(raised) and not (self.path / REPLIES[0]).exists()
        if (refused or unasked) and self._made and not self._begun():
            self._remove()
        super().__exit__(*raised)

    def _remove(self) -> None:
        for name in (RESULTS, "calls.jsonl", *REPLIES, self.kind.settings, self.kind.lock):
            (self.path / name).unlink(missing_ok=True)
        with suppress(OSError):  # there is something else in it
            for folder in self._made:
                folder.rmdir()


def image_folder(run: Path, root: str) -> Path:
    """Where the images of a run lie. root: as its `run.json` has it."""
    return Address(root) if is_address(root) else run.parent / root


def is_run(path: Path) -> bool:
    """Whether a folder holds a run."""
    return os.path.isfile(path / "run.json") and os.path.isfile(path / "run.lock")


def done_in(path: Path) -> dict[str, ImageStatus]:
    """The status of each image that a run has a result for, without taking its lock; empty when there is no run."""
    return {detection.image: ImageStatus.of(detection) for _, _, detection in recorded(path)}


def settings_difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Lines like `schedule: 'lean' there, 'paper' now`; empty when equal."""
    there, here = (
        {**flat, **{k: v for k, v in _UNSAID.items() if k not in flat}} for flat in map(_flat, (before, now))
    )
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


class Provenance(Record):
    """The code that a result was made with."""

    version: str
    """Of anomreason."""
    versions: dict[str, str]
    """Of what a result depends on, by package."""
    git_commit: str | None
    """Of the package's checkout; None when installed."""
    dirty: bool | None
    """Whether the package's files differ from that commit; None when installed."""


def provenance() -> Provenance:
    """Versions, git commit and uncommitted changes of the code that runs."""
    versions: dict[str, str] = {}
    for package in ("anomreason", "openai", "pillow", "pydantic", "torch", "transformers"):
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            continue
    commit = _git("rev-parse", "HEAD")
    changes = _git("status", "--porcelain", "--", ".") if commit else None
    dirty = None if changes is None else bool(changes)
    return Provenance(version=versions["anomreason"], versions=versions, git_commit=commit or None, dirty=dirty)


def _git(*command: str) -> str | None:
    """What git prints, run where the package is; None when that is no checkout of ours, or git fails."""
    here = Path(__file__).resolve().parent
    if not (here.parents[1] / ".git").exists():
        return None
    try:
        ran = subprocess.run(["git", *command], cwd=here, capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout.strip() if ran.returncode == 0 else None
