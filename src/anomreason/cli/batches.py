"""What `anomreason detect --batch write|read` adds to the command: its files, and what to do with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from anomreason.cli.options import refuse_unused
from anomreason.cli.output import say
from anomreason.cli.spending import spending
from anomreason.english import counted
from anomreason.errors import UsageError

if TYPE_CHECKING:
    from anomreason.detector import DetectorSetup
    from anomreason.runs import RunFolder
    from anomreason.vlm.batches.model import BatchRound, BatchVLM

IDLE = ("in_flight", "timeout", "patience", "control_question", "api_key_env")
"""Options of `detect` that concern calls at once."""
NAMED = 10
"""Files that are named; of more only the last one is."""


def prepared(
    context: typer.Context, setup: DetectorSetup, mode: str, inputs: Sequence[str]
) -> tuple[DetectorSetup, list[str], tuple[Path, ...]]:
    """The setup for batches, and the inputs: images, and the files that a batch gave back. Raises UsageError."""
    from anomreason.detector import in_batches
    from anomreason.vlm.batches.answers import holds_answers

    if mode not in ("write", "read"):
        raise UsageError(f"--batch must be write or read, not {mode!r}")
    refuse_unused(context, IDLE, "with --batch")
    batched = in_batches(setup)
    if setup.price is not None and setup.price.input and batched.price == setup.price:
        say(f"No price of batches is known for {setup.model}, so the full price is counted (see --prices).", err=True)
    gone = [name for name in inputs if name.endswith(".jsonl") and "://" not in name and not _is_there(name)]
    if mode == "read" and gone:
        raise UsageError(f"{gone[0]!r} does not exist; --batch read needs the files that the batch gave back")
    files = [name for name in inputs if name.endswith(".jsonl") and holds_answers(Path(name))]
    images = [name for name in inputs if name not in files]
    if mode == "write":
        return batched, list(inputs), ()
    if not files:
        raise UsageError("--batch read needs the files that the batch gave back, after the images: OUTPUT.jsonl ...")
    if not images:
        raise UsageError("name the images too, as for --batch write: IMAGES ... --batch read OUTPUT.jsonl ...")
    return batched, images, tuple(map(Path, files))


def _is_there(name: str) -> bool:
    """Whether it names a file, or is a pattern, which is looked up later."""
    return Path(name).exists() or any(sign in name for sign in "*?[")


@contextmanager
def opened_batch(setup: DetectorSetup, run: RunFolder, answers: Sequence[Path]) -> Iterator[BatchVLM]:
    """The model, for as long as the command works."""
    from anomreason.detection import open_batch

    batch = open_batch(setup, run, answers)
    try:
        yield batch
    finally:
        batch.shut()


def refuse_waiting(run: RunFolder) -> None:
    """UsageError when a batch is to answer requests of this run: asked directly they would be paid for twice."""
    from anomreason.vlm.batches.log import FOLDER, BatchLog

    if not (run.path / FOLDER).is_dir():
        return
    log = BatchLog(run.path)
    waiting = len(log.waiting)
    log.close()
    if waiting:
        raise UsageError(
            f"{counted(waiting, 'request of this run has', 'requests of this run have')} no answer from its batch yet: "
            f"read it with --batch read OUTPUT.jsonl, or remove {run.path / FOLDER} to ask again, at once"
        )


def tell_answers(batch: BatchVLM, run: RunFolder, quiet: bool) -> None:
    """Say what came of the answers; enter those that nobody asked for."""
    from anomreason.vlm.ledger import Ledger

    ledger = Ledger(run.path / "calls.jsonl", batch.limits.price)
    left = batch.book_unused(run.done, ledger)
    ledger.close()
    damaged = batch.answers.damaged
    for line in damaged[:3]:
        say(f"Not read: {line}", err=True)
    if (more := len(damaged) - 3) > 0:
        say(f"Not read: {more:,} more lines", err=True)
    if damaged:
        say("Get such a file again from the provider and read it; what was read before counts once.", err=True)
    others = len(batch.answers) - batch.answered - left
    known = f"; {others:,} read before, or of another run" if others else ""
    say(f"Answers: {batch.answered:,} read{known}.", err=quiet)
    if left:
        say(
            f"{counted(left, 'answer belongs', 'answers belong')} to images that are not named here, or have changed.",
            err=True,
        )


def tell_round(batch: BatchVLM, written: BatchRound | None, quiet: bool) -> None:
    """Say which files a batch has to answer now."""
    waiting = Counter(batch.folder / one.file for one in batch.waiting())
    if written is not None:
        files = counted(len(written.files), "file", "files")
        say(f"Round {written.number}, {files}; at most {spending(written.worst)}", err=quiet)
    new = written.files if written else ()
    names = sorted(waiting)
    for path in [*names[: NAMED - 1], names[-1]] if len(names) > NAMED else names:
        without = counted(waiting[path], "request", "requests") + " without an answer" * (path not in new)
        say(f"  {path}   {without}, {max(path.stat().st_size / 1e6, 0.1):,.1f} MB", err=quiet)
    if waiting:
        say(
            "Give each file to a batch for /v1/chat/completions, or to vllm run-batch -i FILE -o OUTPUT --model NAME.\n"
            "Then run this command with --batch read and, after the images, the files that come back, errors included.",
            err=quiet,
        )
    if batch.over:
        say(f"Not written: {batch.over}.", err=True)
