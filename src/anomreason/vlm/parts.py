"""What several workers of one run record, each in a part of its own, and how the run takes it in.

A part is a folder `workers/N` in the run folder, with results.jsonl, calls.jsonl and responses.sqlite as there. A
worker only adds to its part, and the run is only added to by the one process that has its lock:

    with setup.open_run(folder, found, inputs) as run:    # takes in what an earlier command left
        ...                                               # workers record
        take_in_parts(run)
"""

from __future__ import annotations

import os
import shutil
import time
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from anomreason.errors import RunConflict
from anomreason.files import Appender, read_lines
from anomreason.runs import RESULTS, WORKERS, RunFolder, detection_from, recorded, take_lock
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.ledger import CALLS, Ledger, read_calls

REPLIES = "responses.sqlite"
LOCK = "worker.lock"
LONGEST_END = 60.0
"""Seconds that workers of a command that was killed get to end."""
_TAKEN = ".taken"


def part_of(run: Path, number: int) -> Path:
    """The folder of one worker's part."""
    return run / WORKERS / str(number)


def lock_part(part: Path, seconds: float = LONGEST_END) -> int:
    """Take the part for this process, waiting until another one has ended; give it back with `os.close`.

    Raises RunConflict after so many seconds.
    """
    end = time.monotonic() + seconds
    busy = (
        f"still works for an earlier command (part {str(part)!r}); wait until it ends or end it, then run the same "
        "command again"
    )
    while True:
        try:
            return take_lock(part / LOCK, busy)
        except RunConflict:
            if time.monotonic() > end:
                raise
            time.sleep(0.1)


def take_in_parts(run: RunFolder) -> None:
    """Add what all parts hold to the run, and remove them. Killed in the middle, it can be done again.

    Waits for workers of an earlier command that have not ended yet. Raises RunConflict when one does not end,
    StorageError when the run cannot be written, UsageError for a damaged line.
    """
    folder = run.path / WORKERS
    if not folder.is_dir():
        return
    for part in sorted(folder.iterdir()):
        if part.name.endswith(_TAKEN):
            shutil.rmtree(part, ignore_errors=True)
        elif part.is_dir():
            lock = lock_part(part)
            try:
                _take_in(run, part)
                taken = part.rename(part.with_name(part.name + _TAKEN))
            finally:
                os.close(lock)
            shutil.rmtree(taken, ignore_errors=True)
    with suppress(OSError):
        folder.rmdir()


def _take_in(run: RunFolder, part: Path) -> None:
    renamed: dict[str, str] = {}
    if (part / REPLIES).is_file():
        with closing(ReplyStore(part / REPLIES)) as theirs, closing(Ledger(part / CALLS)) as ledger:
            ledger.adopt(theirs.unanswered())
            theirs.forget_unanswered()
        with closing(ReplyStore(run.path / REPLIES)) as ours:
            renamed = ours.take_in(part / REPLIES)
    if (part / CALLS).is_file():
        known = set(map(hash, read_calls(run.path, parts=False)))
        with closing(Appender(run.path / CALLS)) as file:
            for call in read_calls(part):
                call = replace(call, key=renamed.get(call.key, call.key)) if call.key else call
                if hash(call) not in known:
                    file.append(call.line())
    lines = list(read_lines(part / RESULTS, appended=True))
    known = {hash(detection.json_line()) for _, _, detection in recorded(run.path)} if lines else set()
    for number, line in lines:
        detection = detection_from(line, f"{part / RESULTS}, line {number}")
        if hash(detection.json_line()) not in known:
            run.append(detection)
