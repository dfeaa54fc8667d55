"""The command as it is run: it says where to go, survives kill -9 without losing or repeating anything, and ends."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections import Counter
from dataclasses import asdict, dataclass, field, fields
from inspect import signature
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.dataset.planting import Plan, plant
from tests.ports import free_port
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.cli.review import command
from anomreason.dataset.store import Store, open_store
from anomreason.dataset.tables import CommandRow, ItemRow, TallyRow, VerdictRow
from anomreason.errors import UsageError
from anomreason.review.rounds import RoundOptions, begin_round, options_of
from anomreason.review.security import Links
from anomreason.web.serving import address, is_loopback, listening


@dataclass
class Server:
    """`anomreason review` in a process of its own, always on the same port."""

    data: Path
    options: tuple[str, ...]
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[str] | None = None
    links: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        command = [sys.executable, "-m", "anomreason", "review", str(self.data), "--no-browser", *self.options]
        environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
        self.process = subprocess.Popen(
            [*command, "--port", str(self.port)], stdout=subprocess.PIPE, text=True, env=environment
        )
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.match(r"(\w+) +http://127\.0\.0\.1:(\d+)/enter/(\S+)", line):
                self.port, self.links[match[1]] = int(match[2]), match[3]
            if "Ctrl-C" in line:
                return

    def end(self, with_signal: signal.Signals) -> int:
        assert self.process is not None
        assert self.process.stdout is not None
        self.process.send_signal(with_signal)
        status = self.process.wait(600)
        self.process.stdout.close()
        return status


class Reviewer(threading.Thread):
    """Judges until enough are acknowledged; what is not acknowledged is sent again, as the page does."""

    def __init__(self, server: Server, name: str, cookie: str, verdicts: int) -> None:
        super().__init__()
        self.server, self.person, self.verdicts = server, name, verdicts
        self.cookie = f"{cookie}={server.links[name]}"
        self.acknowledged: list[tuple[str, int]] = []

    def run(self) -> None:
        items: list[int] = []
        while len(self.acknowledged) < self.verdicts:
            reply = self.ask(f"/api/next?count=3&have={','.join(map(str, items))}")
            items += [item["candidate"] for item in reply["items"]]
            if not items:
                return
            candidate = items.pop(0)
            key = f"{self.person}-{candidate:08}"
            self.ask("/api/verdict", {"key": key, "candidate": candidate, "choice": "accept", "seconds": 1})
            self.acknowledged.append((key, candidate))

    def ask(self, path: str, sent: object = None) -> Any:
        data = None if sent is None else json.dumps(sent).encode()
        headers = {"Cookie": self.cookie, "X-Anomreason": "1", "Content-Type": "application/json"}
        while True:
            request = urllib.request.Request(f"http://127.0.0.1:{self.server.port}{path}", data, headers)
            try:
                with urllib.request.urlopen(request, timeout=60) as answer:
                    return json.load(answer)
            except urllib.error.HTTPError:
                raise
            except (OSError, http.client.HTTPException, json.JSONDecodeError):
                threading.Event().wait(0.05)  # the server is down: try again


def test_nothing_acknowledged_is_lost_or_counted_twice_when_the_server_is_killed(tmp_path: Path) -> None:
    people, each, kills = ["ada", "ben", "cleo", "dora"], 30, 2
    data = tmp_path / "data"
    with open_store(data, create=True) as store:
        plant(store, Plan({"flux": 100}))
    check_killed(data, people, each, kills)


def check_killed(data: Path, people: list[str], each: int, kills: int) -> None:
    """Let people review while the server is killed, and hold what they were told against the store."""
    server = Server(data, ("--overlap", "0.1", *(f"--person={name}" for name in people)))
    server.start()
    reviewers = [Reviewer(server, name, Links.of(data).cookie, each) for name in people]
    for reviewer in reviewers:
        reviewer.start()
    for kill in range(kills):
        while sum(len(r.acknowledged) for r in reviewers) < (kill + 1) * len(people) * each // (kills + 1):
            threading.Event().wait(0.01)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        server.options, links = (), dict(server.links)  # round and people are known
        server.start()
        assert server.links == links
    for reviewer in reviewers:
        reviewer.join()
    assert server.end(signal.SIGINT) == 0
    with open_store(data) as store, store.reading() as session:
        verdicts = session.execute(select(VerdictRow.key, VerdictRow.candidate_id, VerdictRow.person)).all()
        passes = dict(session.execute(select(ItemRow.candidate_id, ItemRow.passes)).all())
        counted = session.scalar(select(func.sum(TallyRow.count)))
        commands = session.scalars(select(CommandRow).where(CommandRow.name == "review").order_by(CommandRow.id)).all()
    acknowledged = [one for reviewer in reviewers for one in reviewer.acknowledged]
    assert len(acknowledged) == len(people) * each
    assert set(acknowledged) == {(v.key, v.candidate_id) for v in verdicts}
    assert len(verdicts) == len(set(acknowledged)) == counted
    times = Counter(v.candidate_id for v in verdicts)
    assert all(times[candidate] <= passes[candidate] for candidate in times)
    assert [c.ended is None for c in commands] == [True] * kills + [False]


def test_the_command_says_where_to_go_and_ends_on_ctrl_c(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 2}))
    server = Server(sqlite_store.folder, ("--person", "ada", "--random-share", "0.5"))
    server.start()
    assert set(server.links) == {"owner", "ada"}
    assert server.end(signal.SIGINT) == 0
    with sqlite_store.reading() as session:
        row = session.scalars(select(CommandRow).where(CommandRow.name == "review")).one()
    assert (row.report, row.ended is None) == ({"verdicts": 0, "wanted": 6}, False)
    begun = options_of(sqlite_store, "default")
    assert begun is not None
    assert begun.random_share == 0.5


def test_without_candidates_it_says_what_to_type(sqlite_store: Store) -> None:
    found = CliRunner().invoke(app, ["review", str(sqlite_store.folder), "--port", "0", "--no-browser"])
    assert "find some with anomreason dataset annotate" in str(found.exception)


@pytest.mark.parametrize("options", [["--order", "best"], ["--people", "nowhere.toml"], ["--host", "256.0.0.1"]])
def test_what_cannot_be_is_said_before_anything_begins(sqlite_store: Store, options: list[str]) -> None:
    plant(sqlite_store, Plan({"flux": 1}))
    found = CliRunner().invoke(app, ["review", str(sqlite_store.folder), "--port", "0", "--no-browser", *options])
    assert options[1] in str(found.exception)
    with sqlite_store.reading() as session:
        assert session.scalars(select(CommandRow).where(CommandRow.name == "review")).all() == []


def test_a_port_in_use_is_said_with_what_to_do() -> None:
    with listening("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert address(first) == f"http://127.0.0.1:{port}"
        assert is_loopback(first)
        with pytest.raises(UsageError, match=f"cannot serve on 127.0.0.1:{port}: .*give another --port"):
            listening("127.0.0.1", port).__enter__()


def test_a_round_is_not_continued_with_other_options(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 2}))
    with sqlite_store.command("review", {}) as command:
        begin_round(sqlite_store, command.id, RoundOptions(overlap=1.0))
    found = CliRunner().invoke(app, ["review", str(sqlite_store.folder), "--overlap", "0.5", "--port", "0"])
    assert str(found.exception) == (
        "the round 'default' was begun with other options (--overlap: 1.0 there, 0.5 now); leave them out or give the "
        "same ones to continue it, or begin another round with --round NAME"
    )


def test_a_random_share_beside_a_random_order_is_refused(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 1}))
    options = ["--order", "random", "--random-share", "0.5", "--port", "0", "--no-browser"]
    found = CliRunner().invoke(app, ["review", str(sqlite_store.folder), *options])
    assert str(found.exception) == "--random-share has no effect with --order random; leave it out"


def test_every_choice_of_a_round_is_an_option_with_the_same_default() -> None:
    options = signature(command).parameters
    assert {f.name: options[f.name].default for f in fields(RoundOptions)} == asdict(RoundOptions())


def test_an_answer_does_not_wait_for_acknowledgements() -> None:
    with listening("127.0.0.1", 0) as made, socket.create_connection(made.getsockname()):
        accepted, _ = made.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
