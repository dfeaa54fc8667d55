"""A model behind a provider's batches: it answers from files that came back and writes into files what they lack.

An image goes through its schedule as far as the answers reach; what it asks beyond that is put off, all that is
independent at the same time, and stands in the files of the next round.

    batch = BatchVLM(chat, "https://api.openai.com/v1", BatchLog(run), SpendingCaps(price), BatchAnswers(files))
    caller = Caller(batch, ledger, store, batch=batch)     # calls without an answer here raise Deferred
    await batch.write("a.jpg", ledger.total)               # what they asked about this image goes into a file
    written = batch.finish()

Lines, limits and price: https://platform.openai.com/docs/guides/batch.
"""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import BinaryIO

from anomreason.anomaly import Usage
from anomreason.errors import Charge, EndpointError, StorageError
from anomreason.vlm.batches.answers import BatchAnswers
from anomreason.vlm.batches.log import Batched, BatchLog
from anomreason.vlm.endpoint.answers import ServerAnswer, read_completion
from anomreason.vlm.endpoint.chat import ChatFormat, SentRequest
from anomreason.vlm.ledger import Ledger, Price, unused_call, worst_case
from anomreason.vlm.protocol import Reply, Request

MOST_REQUESTS = 2_000
"""Requests in a file. OpenAI takes 50,000; a file that fails or is late holds up fewer images the smaller it is."""
MOST_BYTES = 190_000_000
"""Bytes of a file. OpenAI takes 200 MB."""


@dataclass(frozen=True, slots=True)
class SpendingCaps:
    """What a run may use, the requests without an answer included, at the most that they may."""

    price: Price | None
    """In a batch; None when it is not known."""
    max_cost: float | None = None
    """US dollars; None for no limit."""
    max_tokens: int | None = None

    def over(self, used: Usage) -> str | None:
        """What to do when this is over a limit; None when it is within."""
        if self.max_cost is not None and (cost := used.cost or 0.0) > self.max_cost:
            return (
                f"--max-cost {self.max_cost:g} does not allow all requests: with what is spent and what has no answer "
                f"yet, one more image could take the run to ${cost:.4f}; allow so much or more, or read answers first"
            )
        if self.max_tokens is not None and used.tokens > self.max_tokens:
            return (
                f"--max-tokens {self.max_tokens} does not allow all requests: with what is used and what has no answer "
                f"yet, one more image could take the run to {used.tokens:,}; allow so much or more, or read answers "
                "first"
            )
        return None


@dataclass(frozen=True, slots=True)
class BatchRound:
    """What was written at one time."""

    number: int
    files: tuple[Path, ...]
    worst: Usage
    """What its requests may use at most; `cost` at the price of a batch, None when that is not known."""


@dataclass
class _Draft:
    """A file in work."""

    path: Path
    file: BinaryIO
    rows: list[Batched] = field(default_factory=list)
    size: int = 0
    """Bytes."""


class BatchVLM:
    """A VLM whose calls are answered by files. Raises StorageError when its own cannot be written."""

    bounds_pixels = False
    remote = True
    """A server decides what the model gets to see."""

    def __init__(
        self, chat: ChatFormat, server: str, log: BatchLog, limits: SpendingCaps, answers: BatchAnswers | None = None
    ) -> None:
        """server: its address, for messages."""
        self.name, self._chat, self._server = chat.model, chat, server
        self.answers = answers or BatchAnswers()
        self.answered = 0
        """Answers that were entered in the ledger."""
        self._log, self.folder, self.limits = log, log.folder, limits
        self.reply_limits: dict[str, int] = {}
        """The longest replies that the server allows, by step; see `Caller`."""
        if (habits := log.habits()) is not None:
            chat.remember(habits["chat"])
            self.reply_limits |= habits["reply_limits"]
        self.over: str | None = None
        """Why requests of an image were not written: a limit, and what to do."""
        self._put_off: dict[str, list[Request]] = {}
        self._number = log.next_round()
        self._draft: _Draft | None = None
        self._drafted: set[str] = set()
        """Keys of this round's requests."""
        self._files: list[Path] = []
        self._worst, self._held = Usage(), Usage()
        for one in log.waiting.values():
            self._held += one.worst

    def waiting(self) -> Collection[Batched]:
        """Requests in finished files that have no answer yet."""
        return self._log.waiting.values()

    def has_answer(self, request: Request) -> bool:
        """Whether the answer to this attempt is here."""
        _, known = self._log.find(self.name, request)
        return known is not None and known.custom_id in self._log.waiting and known.custom_id in self.answers

    def put_off(self, request: Request) -> None:
        """Remember that an image needs this; `write` puts it into a file."""
        self._put_off.setdefault(request.tag.image, []).append(request)

    async def ask(self, request: Request) -> Reply:
        """The answer, which must be here. Raises EndpointError as a server's answer would."""
        _, known = self._log.find(self.name, request)
        answer = self.answers.read(known.custom_id) if known else None
        if known is None or answer is None:
            raise ValueError(f"no answer here to {request.tag}")
        prepared = await self._chat.prepare(request)
        sent = SentRequest(prepared.request, known.options, known.notes)
        self._let_go(known)
        self.answered += 1
        try:
            reply = self._chat.read(ServerAnswer(answer.status, {}, answer.body, self._server), sent)
        except EndpointError as e:
            e.tries = self._log.failed(known).tries
            raise
        self._log.answered(known)
        return reply

    async def close(self) -> None:
        """As `shut`."""
        self.shut()

    def shut(self) -> None:
        """Drop the file in work; those that are finished stay."""
        if self._draft is not None:
            self._draft.file.close()
            with suppress(OSError):
                _part(self._draft.path).unlink()
        self._log.close()

    def settled(self, image: str) -> None:
        """The image is done or lost: what it has put off is of no use."""
        self._put_off.pop(image, None)

    async def write(self, image: str, spent: Usage, again: bool = False) -> None:
        """Put what an image waits for into the files of this round, unless a limit is reached.

        spent: by all calls of the run so far; again: whether the image has a result, and is begun anew.
        """
        rows: list[tuple[Batched, SentRequest]] = []
        worst = Usage()
        for request in self._put_off.pop(image, ()):
            key, known = self._log.find(self.name, request)
            if key in self._drafted or (known and known.custom_id in self._log.waiting):
                continue
            most = worst_case(request, self.limits.price).model_copy(update={"calls": 1})
            sent = await self._chat.prepare(request)
            tries = known.tries if known else 0
            rows.append((Batched(key, tries, "", request.tag, sent.options, sent.notes, most, again), sent))
            worst += most
        if rows and (over := self.limits.over(spent + self._priced(self._held + worst))):
            self.over = self.over or over
            return
        self._held, self._worst = self._held + worst, self._worst + worst
        for row, sent in rows:
            if row.key not in self._drafted:  # meanwhile by an equal image
                self._drafted.add(row.key)
                self._append(row, sent)

    def finish(self) -> BatchRound | None:
        """End the round; None when nothing was written."""
        if self._draft is not None:
            self._end_file(self._draft)
        self._log.keep_habits({"chat": self._chat.habits, "reply_limits": self.reply_limits})
        if not self._files:
            return None
        return BatchRound(self._number, tuple(self._files), self._priced(self._worst))

    @property
    def begun_anew(self) -> set[str]:
        """Images with a result that wait for answers, as they were begun anew."""
        return {one.tag.image for one in self.waiting() if one.again}

    def book_unused(self, done: Collection[str], ledger: Ledger) -> int:
        """Enter the answers that nobody asked for, as their image was done or lost before; gives how many are left.

        done: images with a result. What is left belongs to images that the command does not name.
        """
        left, anew = 0, self.begun_anew
        for custom_id in self.answers:
            known = self._log.waiting.get(custom_id)
            if known is None:
                continue
            if known.tag.image not in done or known.tag.image in anew:
                left += 1
                continue
            answer = self.answers.read(custom_id)
            assert answer is not None  # it is one of theirs
            usage = _charged(ServerAnswer(answer.status, {}, answer.body, self._server), self.name)
            ledger.record(unused_call(known.tag, ledger.priced(usage), self.name))
            self._let_go(known)
            self._log.failed(known)
            self.answered += 1
        return left

    def _let_go(self, known: Batched) -> None:
        held, worst = self._held, known.worst
        self._held = Usage(
            calls=held.calls - 1,
            prompt_tokens=held.prompt_tokens - worst.prompt_tokens,
            completion_tokens=held.completion_tokens - worst.completion_tokens,
        )

    def _priced(self, usage: Usage) -> Usage:
        price = self.limits.price
        return usage if price is None else usage.model_copy(update={"cost": price.cost(usage)})

    def _append(self, row: Batched, sent: SentRequest) -> None:
        """Write one line, in the next file where this one is full."""
        body = self._chat.body(sent)
        head = json.dumps({"custom_id": row.custom_id, "method": "POST", "url": "/v1/chat/completions"})
        start = f'{head[:-1]}, "body": '.encode()
        size = len(start) + body.length + 2
        if self._draft and (len(self._draft.rows) >= MOST_REQUESTS or self._draft.size + size > MOST_BYTES):
            self._end_file(self._draft)
        try:
            if self._draft is None:
                self._draft = self._new_file()
            self._draft.file.write(start)
            self._draft.file.writelines(body.chunks())
            self._draft.file.write(b"}\n")
        except OSError as e:
            raise _unwritten(self.folder, e) from e
        self._draft.size += size
        self._draft.rows.append(replace(row, file=self._draft.path.name))

    def _new_file(self) -> _Draft:
        folder = self.folder
        folder.mkdir(exist_ok=True)
        for left in folder.glob(".round-*.part"):  # by a process that was killed
            left.unlink()
        path = folder / f"round-{self._number}-{len(self._files) + 1:04d}.jsonl"
        return _Draft(path, _part(path).open("wb"))

    def _end_file(self, draft: _Draft) -> None:
        # First the log, then the name: of a file without its name the requests are written again.
        try:
            draft.file.flush()
            os.fsync(draft.file.fileno())
            draft.file.close()
            self._log.written(draft.rows)
            os.replace(_part(draft.path), draft.path)
        except OSError as e:
            raise _unwritten(draft.path, e) from e
        self._files.append(draft.path)
        self._draft = None


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.part")


def _unwritten(path: Path, error: OSError) -> StorageError:
    return StorageError(
        f"cannot write {str(path)!r}: {error.strerror or error}; free some space and run the same command again: "
        "requests in finished files are not written again"
    )


def _charged(answer: ServerAnswer, model: str) -> Usage:
    """What an answer was charged that is of no use."""
    try:
        return read_completion(answer, model).usage
    except EndpointError as e:
        return Usage(calls=1, **asdict(e.charge or answer.charge or Charge()))
