"""Facts about kept replies."""

import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from anomreason.anomaly import Usage
from anomreason.errors import StorageError
from anomreason.images import Encoded
from anomreason.vlm.cache import Next, ReplyStore, request_key
from anomreason.vlm.protocol import Reply, Request, Sampling, Tag

PICTURE = Encoded(b"pixels", "image/png", 20, 10)
ASKED = Request(("common", PICTURE, "what is odd?"), Tag("a.jpg", "r", "s"))
NAME = request_key("m", ASKED)
REPLY = Reply("nothing", "stop", Usage(calls=1, prompt_tokens=5, cost=0.1), "m", {"x": -0.5})


def test_a_good_reply_is_used_again_and_a_bad_one_is_only_kept(tmp_path: Path) -> None:
    store, name = ReplyStore(tmp_path / "r.sqlite"), request_key("m", ASKED)
    bad = store.put(ASKED, replace(REPLY, text="nonsense"), model="m", request=NAME, then="lost")
    assert store.good(name) is None
    good = store.put(ASKED, REPLY, model="m", request=name, then="good")
    assert store.good(name) == REPLY
    assert bad != good
    kept = store.read(bad)
    assert kept is not None
    assert (kept.text, kept.prompt) == ("nonsense", "common\n\n[image 20x10]\n\nwhat is odd?")


def test_a_reask_answers_the_first_request_from_then_on(tmp_path: Path) -> None:
    store, name = ReplyStore(tmp_path / "r.sqlite"), request_key("m", ASKED)
    reasked = replace(ASKED, turns=(("nonsense", "again"),), sampling=Sampling(max_tokens=9))
    key = store.put(reasked, REPLY, model="m", request=name, then="good")
    assert store.good(name) == REPLY
    kept = store.read(key)
    assert kept is not None
    assert "[assistant] nonsense" in kept.prompt


def test_what_changes_the_answer_changes_the_key_and_nothing_else_does() -> None:
    base = request_key("m", ASKED)
    other_picture = replace(PICTURE, data=b"others")
    different = [
        request_key("n", ASKED),
        request_key("m", replace(ASKED, parts=("common", other_picture, "what is odd?"))),
        request_key("m", replace(ASKED, parts=("common", PICTURE, "what is odd!"))),
        request_key("m", replace(ASKED, schema={"type": "object"})),
        request_key("m", replace(ASKED, sampling=Sampling(temperature=1))),
        request_key("m", replace(ASKED, sampling=Sampling(seed=1))),
        request_key("m", replace(ASKED, tag=replace(ASKED.tag, sample=1))),
    ]
    assert len({base, *different}) == len(different) + 1
    same = [replace(ASKED, sampling=Sampling(max_tokens=7)), replace(ASKED, tag=Tag("b.jpg", "x", "y", "z"))]
    assert {request_key("m", r) for r in same} == {base}


def test_a_request_that_was_begun_is_taken_up_where_it_was_until_it_ends(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    go_on = Next(512, (("nonsense", "again"),))
    store.put(ASKED, REPLY, model="m", request=NAME, then=go_on)
    assert store.good(NAME) is None
    assert store.begun(NAME) == go_on
    store.put(ASKED, REPLY, model="m", request=NAME, then="lost")
    assert store.begun(NAME) is None


def test_many_processes_write_one_store(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from anomreason.anomaly import Usage
from anomreason.vlm.cache import Next, ReplyStore, request_key
from anomreason.vlm.protocol import Reply, Request, Tag
store = ReplyStore(Path(sys.argv[1]))
for n in range(100):
    asked = Request(("shared", f"{sys.argv[2]} {n}"), Tag("a", "r", "s"))
    store.put(asked, Reply(str(n), "stop", Usage(), "m"), model="m", request=request_key("m", asked), then="good")
"""
    file = str(tmp_path / "r.sqlite")
    workers = [subprocess.Popen([sys.executable, "-c", code, file, str(w)]) for w in range(3)]
    assert [w.wait() for w in workers] == [0, 0, 0]
    store = ReplyStore(Path(file))
    for w in range(3):
        reply = store.good(request_key("m", Request(("shared", f"{w} 99"), Tag("", "", ""))))
        assert reply is not None
        assert reply.text == "99"


def test_a_file_that_is_no_database_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "r.sqlite").write_text("hello " * 500)
    with pytest.raises(StorageError, match=r"r\.sqlite"):
        ReplyStore(tmp_path / "r.sqlite")


def test_a_full_disk_is_a_clear_error_and_the_store_stays_whole(tmp_path: Path) -> None:
    store = ReplyStore(tmp_path / "r.sqlite")
    store.put(ASKED, REPLY, model="m", request="x", then="good")
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(StorageError, match="free some space"):
        store.put(ASKED, replace(REPLY, text="y" * 100_000), model="m", request="x", then="good")
    store.close()
    assert sqlite3.connect(tmp_path / "r.sqlite").execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert ReplyStore(tmp_path / "r.sqlite").good("x") == REPLY
