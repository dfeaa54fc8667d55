"""How long a reviewer waits: next item and verdict over loopback HTTP, several people at once.

    python benchmarks/review.py [--candidates 174872] [--people 8] [--verdicts 500] [--pause 0.5] [--database ADDRESS]

Makes a dataset of 21,533 images without files in a temporary folder, serves it with `anomreason review` in a process of
its own, and lets each person judge as the page does: one verdict, then one request for the next item. With --pause 0
nobody thinks: each sends the next request the moment the last one was answered.

    python benchmarks/review.py --neighbours [--candidates 1000000] [--draws 1000]

times the look-up of the next and of the previous item in the order of a round, from items drawn at random.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import bindparam, select

from anomreason.dataset.store import Store, add_new, open_store
from anomreason.dataset.tables import (
    CandidateRow,
    DetectionRow,
    ImageRow,
    ItemRow,
    LeaseRow,
    Origin,
    PromptRow,
    SourceRow,
)
from anomreason.review.rounds import RoundOptions, begin_round

IMAGES = 21_533
SOURCES, DETECTORS, KINDS = 8, 3, 16
ROLES = ("ObjectPerceiver", "AttributeAnalyzer", "RelationReasoner")


def plant(store: Store, candidates: int) -> None:
    """Rows as `collect` and `annotate` write them, texts of a usual length."""
    rng = random.Random(0)
    with store.command("plant", {}) as command, store.writing() as session:
        by = {"command_id": command.id}
        add_new(session, SourceRow, [{"id": n + 1, "name": f"source{n}", "kind": "ai", **by} for n in range(SOURCES)])
        prompts = [{"id": n + 1, "sha256": f"{n:064x}", "text": f"Prompt {n} " * 12, **by} for n in range(9_000)]
        add_new(session, PromptRow, prompts)
        add_new(session, ImageRow, [_image(n) | by for n in range(IMAGES)])
        detection = {"detector": "reader lean", "status": "ok", "record": {}, "calls": 9, "tokens": 9_000, **by}
        add_new(session, DetectionRow, [{"id": n + 1, "image_id": n + 1, **detection} for n in range(IMAGES)])
        for start in range(0, candidates, 50_000):
            numbers = range(start, min(start + 50_000, candidates))
            add_new(session, CandidateRow, [_candidate(n, rng) | by for n in numbers])


def _image(n: int) -> dict[str, Any]:
    return {
        "id": n + 1,
        "sha256": f"{n:064x}",
        "path": f"images/{n}.png",
        "name": f"{n}.png",
        "source_id": n % SOURCES + 1,
        "prompt_id": n % 9_000 + 1,
        "width": 1024,
        "height": 1024,
        "format": "PNG",
        "bytes": 1_000_000,
        "facts": {},
    }


def _candidate(n: int, rng: random.Random) -> dict[str, Any]:
    return {
        "image_id": n % IMAGES + 1,
        "detection_id": n % IMAGES + 1,
        "number": n // IMAGES,
        "name": "A hand with six fingers",
        "phenomenon": "The left hand of the woman in front of the window shows six fingers of equal length. " * 2,
        "reasoning": "A human hand has five fingers, and one of them, the thumb, stands apart from the others. " * 2,
        "severity": float(rng.randrange(101)),
        "kind": f"kind{n % KINDS}",
        "objects": ["woman", "hand"],
        "region": {"x0": 0.1, "y0": 0.2, "x1": 0.5, "y1": 0.6},
        "origin": Origin.DETECTOR,
        "detector": f"reader {n % DETECTORS}",
        "role": ROLES[n % len(ROLES)],
        "step": "inspect",
        "score": float(rng.randrange(101)),
    }


@contextmanager
def serving(data: Path, people: list[str]) -> Iterator[dict[str, tuple[str, int, str]]]:
    """The server at work; gives host, port and token of each person."""
    command = [sys.executable, "-m", "anomreason", "review", str(data), "--port", "0", "--no-browser"]
    command += ["--overlap", "0.1", *(f"--person={name}" for name in people)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"})
    assert process.stdout is not None
    links: dict[str, tuple[str, int, str]] = {}
    try:
        for line in process.stdout:
            if match := re.match(r"(\S+) +http://([\d.]+):(\d+)/enter/(\S+)", line):
                links[match[1]] = match[2], int(match[3]), match[4]
            if "Ctrl-C" in line:
                break
        yield links
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


class Person(threading.Thread):
    """Somebody who judges as fast as they can, less the pauses."""

    def __init__(self, link: tuple[str, int, str], verdicts: int, pause: float) -> None:
        super().__init__()
        self.host, self.port, self.token = link
        self.verdicts, self.pause = verdicts, pause
        self.times: dict[str, list[float]] = {"next": [], "verdict": []}
        self.cookie = ""

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.host, self.port, timeout=120)
        connection.request("GET", f"/enter/{self.token}")
        answer = connection.getresponse()
        answer.read()
        self.cookie = answer.headers["set-cookie"].partition(";")[0]
        items = [i["candidate"] for i in self._ask(connection, "GET", "/api/next?count=3")["items"]]
        for _ in range(self.verdicts):
            candidate = items.pop(0)
            sent = {"key": uuid.uuid4().hex, "candidate": candidate, "choice": "accept", "seconds": 1.5}
            self._ask(connection, "POST", "/api/verdict", sent, "verdict")
            have = ",".join(map(str, items))
            more = self._ask(connection, "GET", f"/api/next?count={3 - len(items)}&have={have}", kind="next")
            items += [i["candidate"] for i in more["items"]]
            if self.pause:
                time.sleep(random.expovariate(1 / self.pause))
        connection.close()

    def _ask(
        self, connection: http.client.HTTPConnection, method: str, path: str, sent: object = None, kind: str = ""
    ) -> Any:
        headers = {"Cookie": self.cookie, "X-Anomreason": "1", "Content-Type": "application/json"}
        begun = time.perf_counter()
        connection.request(method, path, None if sent is None else json.dumps(sent), headers)
        answer = connection.getresponse()
        body = answer.read()
        if kind:
            self.times[kind].append(time.perf_counter() - begun)
        assert answer.status == 200, body
        return json.loads(body)


def neighbours(store: Store, draws: int) -> None:
    """Print how long the next and the previous waiting item take, from positions drawn at random."""
    with store.command("review", {}) as command:
        begun = time.perf_counter()
        round_id = begin_round(store, command.id, RoundOptions())
        print(f"beginning a round: {time.perf_counter() - begun:.1f} s")
    leased = (LeaseRow.round_id == ItemRow.round_id) & (LeaseRow.candidate_id == ItemRow.candidate_id)
    waiting = (
        select(ItemRow.position, ItemRow.candidate_id)
        .outerjoin(LeaseRow, leased)
        .where(
            ItemRow.round_id == round_id,
            ItemRow.done.is_(False),
            ItemRow.first_person == "",
            LeaseRow.person.is_(None),
        )
        .limit(1)
    )
    place = bindparam("place", type_=ItemRow.position.type)
    queries = {
        "next": waiting.where(ItemRow.position > place).order_by(ItemRow.position),
        "previous": waiting.where(ItemRow.position < place).order_by(ItemRow.position.desc()),
    }
    with store.reading() as session:
        size = session.scalars(select(ItemRow.position).order_by(ItemRow.position.desc()).limit(1)).one() + 1
        places = np.random.default_rng(0).integers(1, size - 1, draws).tolist()
        for name, query in queries.items():
            times = []
            for at in places:
                begun = time.perf_counter()
                found = session.execute(query, {"place": at}).one()
                times.append(1000 * (time.perf_counter() - begun))
                assert found.position == at + (1 if name == "next" else -1)
            p50, p95, p99 = np.percentile(times, [50, 95, 99])
            print(f"{name:8} n {draws:,} of {size:,}  p50 {p50:.2f} ms  p95 {p95:.2f} ms  p99 {p99:.2f} ms")
    print(f"load {os.getloadavg()[0]:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=174_872)
    parser.add_argument("--people", type=int, default=8)
    parser.add_argument("--verdicts", type=int, default=500, help="of each person")
    parser.add_argument("--pause", type=float, default=0.5, help="seconds between verdicts, on average")
    parser.add_argument("--database", help="address of an empty PostgreSQL database")
    parser.add_argument("--data", type=Path, help="folder to keep the dataset in")
    parser.add_argument("--neighbours", action="store_true", help="time the look-up of neighbours instead")
    parser.add_argument("--draws", type=int, default=1000)
    arguments = parser.parse_args()
    people = [f"person{n}" for n in range(arguments.people)]
    with tempfile.TemporaryDirectory() as temporary:
        data = arguments.data or Path(temporary) / "data"
        if not data.exists():
            with open_store(data, arguments.database, create=True) as store:
                plant(store, arguments.candidates)
        if arguments.neighbours:
            with open_store(data) as store:
                neighbours(store, arguments.draws)
            return
        begun = time.perf_counter()
        with serving(data, people) as links:
            print(f"start: {time.perf_counter() - begun:.1f} s")
            reviewers = [Person(links[name], arguments.verdicts, arguments.pause) for name in people]
            begun = time.perf_counter()
            for reviewer in reviewers:
                reviewer.start()
            for reviewer in reviewers:
                reviewer.join()
            seconds = time.perf_counter() - begun
    print(f"{arguments.people * arguments.verdicts / seconds:.0f} verdicts a second, load {os.getloadavg()[0]:.1f}")
    for kind in ("next", "verdict"):
        times = 1000 * np.concatenate([reviewer.times[kind] for reviewer in reviewers])
        p50, p95, p99 = np.percentile(times, [50, 95, 99])
        print(f"{kind:8} n {len(times):,}  p50 {p50:.1f} ms  p95 {p95:.1f} ms  p99 {p99:.1f} ms")


if __name__ == "__main__":
    main()
