"""Reads the files that a batch gives back: one JSON object a line, answers and errors, in any order.

    answers = BatchAnswers([Path("output.jsonl"), Path("errors.jsonl")])
    answers.damaged            # 'output.jsonl, line 7: the JSON cannot be read ...'
    answers.read("3f0a...")    # the answer to the request of that custom_id, or None

The lines are those of OpenAI's batches (https://platform.openai.com/docs/api-reference/batch/request-output) and of
`vllm run-batch`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from anomreason.errors import ParseError, UsageError, shown
from anomreason.files import parse_json

LARGEST_LINE = 16 * 2**20
"""Bytes. The longest reply, with its log-probabilities, has a few hundred thousand."""
NOT_RUN = 503
"""The status of a request that the batch did not come to: it was cancelled, or its time was over."""


@dataclass(frozen=True, slots=True)
class BatchAnswer:
    """What an HTTP server would have answered."""

    status: int
    body: str


@dataclass(frozen=True, slots=True)
class _AnswerPlace:
    file: Path
    start: int
    length: int
    """Bytes, as the start."""
    good: bool
    """Whether it holds a completion and no error."""


def holds_answers(file: Path) -> bool:
    """Whether a file is one that a batch gave back, or was given to one: its lines name a `custom_id`."""
    try:
        with file.open("rb") as lines:
            head = lines.read(4096).lstrip()
    except OSError:
        return False
    return b'"custom_id"' in head or not head


class BatchAnswers:
    """The lines of some files by their `custom_id`; only where each one stands is held in memory."""

    def __init__(self, files: Sequence[Path] = ()) -> None:
        """Raises UsageError for a file that cannot be opened, and for one that holds requests."""
        self.damaged: list[str] = []
        """Lines that cannot be read, each with its place and what is wrong; the others count."""
        self._lines: dict[str, _AnswerPlace] = {}
        for file in files:
            try:
                with file.open("rb") as opened:
                    self._index(file, opened)
            except OSError as e:
                raise UsageError(f"{file} cannot be read: {e.strerror or e}; check the path") from None

    def __len__(self) -> int:
        return len(self._lines)

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __contains__(self, custom_id: str) -> bool:
        return custom_id in self._lines

    def read(self, custom_id: str) -> BatchAnswer | None:
        """The answer to a request; of several the first one without an error."""
        line = self._lines.get(custom_id)
        if line is None:
            return None
        with line.file.open("rb") as file:
            file.seek(line.start)
            return _answer(parse_json(file.read(line.length).decode()))

    def _index(self, file: Path, opened: BinaryIO) -> None:
        start = 0
        for number, line in enumerate(_lines(opened), 1):
            if line.strip():
                try:
                    custom_id, answer = _read(line, file)
                except ParseError as e:
                    self.damaged.append(f"{file}, line {number}: {e}")
                else:
                    before = self._lines.get(custom_id)
                    if before is None or (not before.good and answer.status < 300):
                        self._lines[custom_id] = _AnswerPlace(file, start, len(line), answer.status < 300)
            start = opened.tell()


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LARGEST_LINE):
        yield line
        if len(line) == LARGEST_LINE and not line.endswith(b"\n"):  # the rest of it was reported with its beginning
            while (rest := file.readline(LARGEST_LINE)) and not rest.endswith(b"\n"):
                pass


def _read(line: bytes, file: Path) -> tuple[str, BatchAnswer]:
    """Raises ParseError for a line that is no answer, UsageError for a request."""
    if len(line) == LARGEST_LINE:
        raise ParseError(f"the line has over {LARGEST_LINE:,} bytes")
    try:
        data = parse_json(line.decode("utf-8-sig"))
    except UnicodeDecodeError:
        raise ParseError("not UTF-8") from None
    if not isinstance(data, dict) or not isinstance(data.get("custom_id"), str):
        raise ParseError(f"no 'custom_id' in {shown(data)}, so it is no answer of a batch")
    if "body" in data and "response" not in data and "error" not in data:
        raise UsageError(f"{file} holds the requests of a batch: give the files that it gave back")
    return data["custom_id"], _answer(data)


def _answer(data: Mapping[str, Any]) -> BatchAnswer:
    response, error = data.get("response"), data.get("error")
    if not isinstance(response, dict):
        return BatchAnswer(NOT_RUN, json.dumps(_wrapped(error)))
    status, body = response.get("status_code", 400 if error else 200), response.get("body")
    if body is None and "choices" in response:
        body = response
    if body in (None, "", {}):
        body = _wrapped(error) if error else {}
    status = status if isinstance(status, int) and 100 <= status < 600 else 500
    return BatchAnswer(status, body if isinstance(body, str) else json.dumps(body))


def _wrapped(error: Any) -> Any:
    """An error as the body of an HTTP answer holds it."""
    if isinstance(error, dict) and "error" in error:
        return error
    return {"error": error or "the batch holds neither an answer nor an error"}
