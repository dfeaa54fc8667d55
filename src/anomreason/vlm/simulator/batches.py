"""The simulator as a provider of batches: it answers a file of requests, one a line.

    answer_batch(Simulator.from_file("simulator.json"), Path("round-1-0001.jsonl"), Path("output.jsonl"))

The lines are those of OpenAI's batches (https://platform.openai.com/docs/api-reference/batch/request-output).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

from anomreason.errors import ParseError, UsageError
from anomreason.files import parse_json, write_atomically
from anomreason.vlm.protocol import Tag
from anomreason.vlm.simulator.model import Simulator
from anomreason.vlm.simulator.server import answer_body


def answer_batch(simulator: Simulator, requests: Path, answers: Path) -> int:
    """Write the answers to all requests of a file, errors included; gives their number.

    Raises UsageError for a file that cannot be read or holds no requests, StorageError when the disk is full.
    """
    if requests.resolve() == answers.resolve():
        raise UsageError(f"{answers} holds the requests; name another file for the answers")
    count = 0
    with asyncio.Runner() as runner:

        def lines() -> Iterator[bytes]:
            nonlocal count
            for custom_id, body in _requests(requests):
                answer = runner.run(answer_body(simulator, body, Tag("", "", ""), needs_step=True))
                count += 1
                response = {"status_code": answer.status, "request_id": f"simulated-{count}", "body": answer.body}
                line = {"id": f"simulated-{count}", "custom_id": custom_id, "response": response, "error": None}
                yield json.dumps(line).encode() + b"\n"

        write_atomically(answers, lines())
    return count


def _requests(file: Path) -> Iterator[tuple[str, str]]:
    """The `custom_id` and the body of each."""
    try:
        with file.open(encoding="utf-8") as lines:
            for number, line in enumerate(lines, 1):
                if line.strip():
                    yield _request(line, f"{file}, line {number}")
    except (OSError, UnicodeDecodeError) as e:
        reason = e.strerror if isinstance(e, OSError) else e
        raise UsageError(f"{file} cannot be read: {reason}; name a file of RUN/batches") from None


def _request(line: str, place: str) -> tuple[str, str]:
    try:
        data = parse_json(line)
    except ParseError as e:
        raise UsageError(f"{place}: {e}") from None
    custom_id = data.get("custom_id") if isinstance(data, dict) else None
    if not isinstance(custom_id, str) or "body" not in data:
        raise UsageError(f"{place}: no request of a batch; name a file that `detect --batch write` wrote")
    return custom_id, json.dumps(data["body"])
