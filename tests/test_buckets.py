"""Facts about images in buckets: the same names and results as in a folder, few requests, faults, no keys in files."""

import hashlib
import http.server
import json
import os
import tarfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tests.bucket import MemoryBucket, put
from tests.forking import Command, run_command

from anomreason import buckets, detect, parquet, plan
from anomreason.anomaly import Detection
from anomreason.buckets import Address, checked_address, listed
from anomreason.errors import UnreachableImage, UnreadableImage, UsageError
from anomreason.gating import choosing
from anomreason.images import cut_out, file_bytes, load_image
from anomreason.report.html import build_report
from anomreason.runs import read_results, read_settings
from anomreason.sources.inputs import find_images

World = Callable[..., Path]


def essence(run: Path) -> dict[str, dict[str, Any]]:
    """Results without time, use, and times of files."""
    return {k: d.model_dump(exclude={"usage", "seconds", "file_mtime"}) for k, d in sorted(read_results(run).items())}


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A folder as people have them."""
    top = tmp_path / "tree"
    for name in ("b.png", "A.JPG", "notes.txt", ".hidden.png", "a/z.png", "a/a/1.png", "@eaDir/t.png", ".git/x.png"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_bytes(b"x")
    for name in ("run.json", "run.lock", "report/thumbs/1.png"):
        (top / "old" / name).parent.mkdir(parents=True, exist_ok=True)
        (top / "old" / name).write_bytes(b"x")
    return top


@pytest.mark.parametrize("pattern", ["", "/*.png", "/**/*.png", "/a/*", "/a", "/[ab].png", "/@eaDir/*.png", "/*/*.png"])
def test_a_bucket_is_searched_as_a_folder_is(bucket: type[MemoryBucket], tree: Path, pattern: str) -> None:
    put(tree, "store://b/tree")
    here, there = find_images([f"{tree}{pattern}"]), find_images([f"store://b/tree{pattern}"])
    assert [image.name for image in there.images] == [image.name for image in here.images]
    assert here.images
    assert str(there.root) == str(here.root).replace(str(tree), "store://b/tree")
    assert {len(here.passed_over), len(there.passed_over)} in ({0}, {1})


def test_lists_and_tables_in_a_bucket_name_what_lies_beside_them(bucket: type[MemoryBucket], tmp_path: Path) -> None:
    top = tmp_path / "top"
    (top / "sub").mkdir(parents=True)
    (top / "list.csv").write_text("file_name,n\nsub/é 1.png,1\nsub\\2.png,2\n")
    pq.write_table(pa.table({"image": ["sub/é 1.png", "store://other/3.png"]}), top / "list.parquet")
    (top / "meta").mkdir()
    (top / "meta" / "metadata.jsonl").write_text('{"file_name": "4.png"}\n')
    put(top, "store://b/top")
    assert [i.name for i in find_images(["store://b/top/list.csv"]).images] == ["sub/é 1.png", "sub/2.png"]
    found = find_images(["store://b/top/list.parquet"])
    assert [i.name for i in found.images] == ["b/top/sub/é 1.png", "other/3.png"]
    assert [found.root / i.name for i in found.images] == [i.path for i in found.images]
    assert [i.name for i in find_images(["store://b/top/meta"]).images] == ["4.png"]
    here = tmp_path / "here.jsonl"
    here.write_text('{"image": "store://b/1.png"}\n{"image": "store://c/2.png"}\n')
    found = find_images([here])
    assert (str(found.root), [i.name for i in found.images]) == ("store://", ["b/1.png", "c/2.png"])


@pytest.mark.parametrize("name", ["/etc/passwd.png", "../x.png", "a/../../x.png", "\\\\host\\x.png", "s3://key:no@b/x"])
def test_a_list_in_a_bucket_names_no_file_of_this_machine(bucket: type[MemoryBucket], name: str) -> None:
    fsspec.filesystem("store").pipe_file("/b/list.jsonl", json.dumps({"image": name}).encode())
    with pytest.raises(UsageError, match=r"store://b/list.jsonl, line 1: "):
        find_images(["store://b/list.jsonl"])


def test_the_metadata_of_a_folder_does_not_lead_into_a_bucket_unless_allowed(
    bucket: type[MemoryBucket], tmp_path: Path
) -> None:
    (tmp_path / "metadata.jsonl").write_text('{"file_name": "store://b/1.png"}\n')
    with pytest.raises(UsageError, match=r"line 1: 'store://b/1.png' is an address"):
        find_images([tmp_path])
    assert [str(i.path) for i in find_images([tmp_path], outside=True).images] == ["store://b/1.png"]


def test_images_of_two_kinds_of_place_are_for_two_runs(bucket: type[MemoryBucket], tree: Path) -> None:
    put(tree, "store://b/tree")
    with pytest.raises(UsageError, match=r"images from store:// and from this machine cannot be in one run"):
        find_images([tree, "store://b/tree"])


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("s3://AKIA:topsecret@b/x", "with a password"),
        ("http://topsecret@h.example/x.png", "with a password"),
        ("HTTP://topsecret@host", "with a password"),
        ("https://user:no@topsecret@host/x.png", "with a password"),
        ("https://h.example/x.png?X-Amz-Signature=topsecret", "may hold a key"),
        ("zip://x::s3://b", "no place in a bucket"),
        ("file:///etc", "no place in a bucket"),
        ("store://b/../x", "no whole address"),
        ("store://", "no whole address"),
        ("nothing://b/x", "nothing:// is unknown"),
        ("store://b/none", "'store://b/none' does not exist"),
        ("store://b/*.png", "matches no file in 'store://b'"),
    ],
)
def test_an_address_that_cannot_be_is_named_and_no_key_repeated(
    bucket: type[MemoryBucket], given: str, told: str
) -> None:
    with pytest.raises(UsageError) as caught:
        find_images([given])
    assert told in str(caught.value)
    assert "topsecret" not in str(caught.value)


@pytest.mark.skipif(find_spec("gcsfs") is not None, reason="gcsfs is installed")
def test_a_missing_package_is_named_with_its_command() -> None:
    with pytest.raises(UsageError, match=r"gs:// a package is missing: pip install gcsfs$"):
        checked_address("gs://b/x.png")


def test_a_bucket_gives_what_the_folder_gives_and_is_continued(
    bucket: type[MemoryBucket], world: World, tmp_path: Path
) -> None:
    truth = world(4)
    model = f"sim:{truth}"
    put(truth.parent, "store://b/world")
    detect([truth.parent], model=model, run=tmp_path / "here")
    assert plan(["store://b/world"], model=model, run=tmp_path / "there").images == 4
    detect(["store://b/world"], model=model, run=tmp_path / "there")
    assert essence(tmp_path / "there") == essence(tmp_path / "here")
    assert read_settings(tmp_path / "there")["root"] == "store://b/world"
    build_report(tmp_path / "there")
    pages = "".join(page.read_text() for page in (tmp_path / "there/report/pages").iterdir())
    assert pages.count("The image is in a bucket; this is a JPEG copy") == 4
    assert len(list((tmp_path / "there/report/thumbs").iterdir())) == 4

    bucket.asked.clear()
    detect(["store://b/world"], model=model, run=tmp_path / "there")
    build_report(tmp_path / "there")
    assert bucket.asked["read"] == 0
    store, name = fsspec.filesystem("store"), "/b/world/p001.png"
    store.pipe_file(name, (truth.parent / "p002.png").read_bytes())
    detect(["store://b/world"], model=model, run=tmp_path / "there")
    assert bucket.asked["read"] == 1, "only the object that was replaced"


def archived(folder: Path, names: list[str]) -> None:
    """The images of a folder in a tar, a zip and a Parquet file beside them."""
    with tarfile.open(folder / "all.tar", "w") as tar, zipfile.ZipFile(folder / "all.zip", "w") as zipped:
        for name in names:
            tar.add(folder / name, name)
            zipped.write(folder / name, name)
    rows = [{"image": {"bytes": (folder / name).read_bytes(), "path": name}, "file_name": name} for name in names]
    pq.write_table(pa.Table.from_pylist(rows), folder / "all.parquet", row_group_size=3)


@pytest.mark.parametrize("kind", ["tar", "zip", "parquet"])
def test_archives_and_parquet_with_images_are_read_in_a_bucket_as_here(
    bucket: type[MemoryBucket], world: World, tmp_path: Path, kind: str
) -> None:
    truth = world(5)
    names = [f"p{n:03}.png" for n in range(5)]
    archived(truth.parent, names)
    put(truth.parent, "store://b/w")
    whole = {d.sha256: d.anomalies for d in detect([str(truth.parent / n) for n in names], model=f"sim:{truth}")}
    runs = [tmp_path / "here", tmp_path / "there"]
    for given, run in zip([f"{truth.parent}/all.{kind}", f"store://b/w/all.{kind}"], runs, strict=True):
        detect([given], model=f"sim:{truth}", run=run)
        build_report(run)
        assert len(list((run / "report/thumbs").iterdir())) == 5
    assert essence(runs[0]).keys() == essence(runs[1]).keys()
    for run in runs:
        assert {d.sha256: d.anomalies for d in read_results(run).values()} == whole
    bucket.asked.clear()
    detect([f"store://b/w/all.{kind}"], model=f"sim:{truth}", run=runs[1])
    assert bucket.asked["read"] <= 4, "what lists the members, and none of the images"


def test_a_row_without_bytes_fails_alone_and_says_what_it_has(world: World, tmp_path: Path) -> None:
    truth = world(1)
    good = (truth.parent / "p000.png").read_bytes()
    cells = [{"bytes": good, "path": "a.png"}, {"bytes": None, "path": "/data/b.png"}, None]
    pq.write_table(pa.table({"image": cells}), tmp_path / "t.parquet")
    first, second, third = detect([tmp_path / "t.parquet"], model=f"sim:{truth}")
    assert (first.image, first.status) == ("t.parquet/0", "ok")
    assert second.failure
    assert "holds the path '/data/b.png' and no bytes" in second.failure.message
    assert third.failure
    assert "holds no image" in third.failure.message


def test_rows_are_read_in_any_order_and_by_many_threads(tmp_path: Path) -> None:
    pq.write_table(pa.table({"image": [f"{n}".encode() * 9 for n in range(100)]}), tmp_path / "t.parquet", 7)
    wrong: list[int] = []

    def read(numbers: list[int]) -> None:
        wrong.extend(n for n in numbers if file_bytes(tmp_path / "t.parquet" / str(n)) != f"{n}".encode() * 9)

    orders = [list(range(100)), list(range(99, -1, -1)), list(range(0, 100, 13)), [50, 50, 3]]
    threads = [threading.Thread(target=read, args=(order,)) for order in orders]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    with pytest.raises(UnreadableImage, match="no row 100"):
        file_bytes(tmp_path / "t.parquet" / "100")


def test_rows_that_are_asked_for_again_do_not_crowd_out_those_that_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pq.write_table(pa.table({"image": [f"{n}".encode() * 10 for n in range(8)]}), tmp_path / "t.parquet")
    monkeypatch.setattr(parquet, "_KEPT", 100)
    begun = Mock(side_effect=parquet._Images._of_group)
    monkeypatch.setattr(parquet._Images, "_of_group", lambda *given: begun(*given))
    images = parquet._Images(tmp_path / "t.parquet")
    for _ in range(3):
        images.read(7)
    assert [images.read(n) for n in range(7)] == [f"{n}".encode() * 10 for n in range(7)]
    assert begun.call_count == 3


def test_threads_that_meet_a_new_parquet_file_open_it_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pq.write_table(pa.table({"image": [b"x"] * 4}), tmp_path / "t.parquet")
    every, opened = threading.Barrier(4), []
    open_file = parquet.open_file

    def slow(path: Path) -> Any:
        opened.append(path)
        time.sleep(0.2)
        return open_file(path)

    def read(number: int) -> None:
        every.wait()
        file_bytes(tmp_path / "t.parquet" / str(number))

    monkeypatch.setattr(parquet, "open_file", slow)
    threads = [threading.Thread(target=read, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(opened) == 1


def test_faults_of_the_bucket_are_failures_of_their_kind_and_tried_again(
    bucket: type[MemoryBucket], world: World, tmp_path: Path
) -> None:
    truth = world(6)
    put(truth.parent, "store://b/w")
    bucket.faults.update(
        {
            "p000.png": PermissionError("Access Denied http://AKIA:topsecret@h/x http://h/?sig=topsecret"),
            "p001.png": FileNotFoundError("p001.png"),
            "p002.png": TimeoutError(),
            "p003.png": RuntimeError("connection lost"),
            "p004.png": 200,
        }
    )
    run = tmp_path / "run"
    detect(["store://b/w"], model=f"sim:{truth}", run=run)
    failures = {k: d.failure and (d.failure.kind, d.failure.message) for k, d in read_results(run).items()}
    kinds = {name: failure and failure[0] for name, failure in failures.items()}
    unreachable = dict.fromkeys(("p000.png", "p002.png", "p003.png"), "unreachable_image")
    assert kinds == {
        **unreachable,
        **dict.fromkeys(("p001.png", "p004.png"), "unreadable_image"),
        "p005.png": None,
    }
    told = "\n".join(failure[1] for failure in failures.values() if failure)
    for part in ("may not be read (Access Denied", "check the keys", "does not exist", "did not come within", "lost)"):
        assert part in told
    assert "topsecret" not in "".join(file.read_text() for file in run.glob("*.json*"))
    bucket.faults.clear()
    fsspec.filesystem("store").pipe_file("/b/w/p004.png", (truth.parent / "p004.png").read_bytes())
    detect(["store://b/w"], model=f"sim:{truth}", run=run)
    assert {d.status for d in read_results(run).values()} == {"ok"}


def test_a_lost_bucket_stops_the_run(bucket: type[MemoryBucket], world: World, tmp_path: Path) -> None:
    truth = world(1)
    store = fsspec.filesystem("store")
    for n in range(100):
        store.pipe_file(f"/b/w/{n:03}.png", b"x")
        bucket.faults[f"{n:03}.png"] = PermissionError("Access Denied")
    detect(["store://b/w"], model=f"sim:{truth}", run=tmp_path / "run", in_flight=4)
    assert 20 <= len(read_results(tmp_path / "run")) <= 24
    bucket.faults.update({f"{n:03}.png": FileNotFoundError() for n in range(100)})
    detect(["store://b/w"], model=f"sim:{truth}", run=tmp_path / "missing", in_flight=4)
    assert len(read_results(tmp_path / "missing")) == 100, "missing images say nothing of the others"


def test_listing_makes_no_request_for_each_object(bucket: type[MemoryBucket]) -> None:
    store = fsspec.filesystem("store")
    for n in range(2000):
        store.pipe_file(f"/b/w/{n // 100}/{n}.png", b"x")
    bucket.asked.clear()
    assert len(find_images(["store://b/w"]).images) == 2000
    assert bucket.asked["find"] == 1
    assert bucket.asked["info"] + bucket.asked["read"] <= 6


def test_an_empty_a_huge_and_a_half_object_are_refused(
    bucket: type[MemoryBucket], monkeypatch: pytest.MonkeyPatch
) -> None:
    store = fsspec.filesystem("store")
    store.pipe({"/b/empty.png": b"", "/b/huge.png": b"x" * 101, "/b/most.png": b"x" * 100})
    monkeypatch.setattr(buckets, "MOST_BYTES", 100)
    with pytest.raises(UnreadableImage, match="is empty"):
        file_bytes(Address("store://b/empty.png"))
    with pytest.raises(UnreadableImage, match="more than the 100 bytes"):
        file_bytes(Address("store://b/huge.png"))
    assert len(file_bytes(Address("store://b/most.png"))) == 100
    bucket.faults["most.png"] = 50
    with pytest.raises(UnreachableImage, match="gave 50 of 100 bytes"):
        buckets.read(Address("store://b/most.png"), 0, 100)


def test_a_shard_that_is_lost_while_it_is_listed_is_not_taken_for_a_short_one(
    bucket: type[MemoryBucket], world: World
) -> None:
    truth = world(3)
    archived(truth.parent, ["p000.png", "p001.png", "p002.png"])
    put(truth.parent, "store://b/w")
    bucket.faults["all.tar"] = ConnectionResetError("reset")
    with pytest.raises(UsageError, match=r"store://b/w/all.tar' could not be read \(ConnectionResetError: reset\)"):
        find_images(["store://b/w/all.tar"])


def test_cut_outs_come_from_the_whole_image(bucket: type[MemoryBucket], tmp_path: Path) -> None:
    from anomreason.anomaly import Region

    Image.effect_noise((2000, 1000), 80).convert("RGB").save(tmp_path / "large.png")
    put(tmp_path, "store://b")
    place = [Region(x0=0.1, y0=0.1, x1=0.2, y1=0.3)]
    here = cut_out(load_image(tmp_path / "large.png"), place, 200)
    there = cut_out(load_image(Address("store://b/large.png")), place, 200)
    assert here[0].tobytes() == there[0].tobytes()


def test_gate_takes_addresses(bucket: type[MemoryBucket], world: World) -> None:
    truth = world(3)
    put(truth.parent, "store://b/w")
    results = choosing.gate(["store://b/w/p000.png", "store://b/w/p002.png"], model=f"sim:{truth}", max_cap=9)
    assert [r.image for r in results] == ["store://b/w/p000.png", "store://b/w/p002.png"]
    assert [r.failure for r in results] == [None, None]


def test_a_run_folder_lies_in_no_bucket(world: World, tmp_path: Path) -> None:
    truth = world(1)
    with pytest.raises(UsageError, match=r"the run folder is an address.*must lie in a file system"):
        detect([truth.parent], model=f"sim:{truth}", run="s3://bucket/run")


class Site(http.server.SimpleHTTPRequestHandler):
    folder = ""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given, directory=self.folder)

    def log_message(self, *_: object) -> None:
        pass


def test_a_list_of_web_addresses_is_read(world: World, tmp_path: Path) -> None:
    truth = world(2)
    handler = type("Handler", (Site,), {"folder": str(truth.parent)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        top = f"http://127.0.0.1:{server.server_port}"
        names = [f"{top}/p000.png", f"{top}/p001.png", f"{top}/none.png"]
        (tmp_path / "list.jsonl").write_text("".join(json.dumps({"image": name}) + "\n" for name in names))
        found: list[Detection] = detect([tmp_path / "list.jsonl"], model=f"sim:{truth}")
        with pytest.raises(UsageError, match="a web server cannot be searched"):
            find_images([f"{top}/*.png"])
        server.shutdown()
    assert [d.status for d in found] == ["ok", "ok", "failed"]
    assert found[2].failure
    assert "does not exist" in found[2].failure.message
    assert found[0].sha256 == hashlib.sha256((truth.parent / "p000.png").read_bytes()).hexdigest()


class Endless(http.server.BaseHTTPRequestHandler):
    """Knows no parts of files, and sends more than fits into the buffers between it and who asks."""

    sent = 0

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(400 << 20))
        self.end_headers()
        try:
            for _ in range(400):
                self.wfile.write(bytes(1 << 20))
                type(self).sent += 1
        except OSError:
            self.close_connection = True

    def log_message(self, *_: object) -> None:
        pass


def test_a_part_of_a_file_is_asked_for_and_not_all_of_it_is_taken(tmp_path: Path) -> None:
    ranges = []

    class Partial(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            ranges.append(self.headers["Range"])
            self.send_response(206)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"de")

        def log_message(self, *_: object) -> None:
            pass

    for handler in (Partial, Endless):
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
            threading.Thread(target=server.serve_forever, daemon=True).start()
            address = Address(f"http://127.0.0.1:{server.server_port}/all.zip")
            if handler is Partial:
                assert buckets.read(address, 3, 2) == b"de"
            else:
                with pytest.raises(UnreachableImage, match=r"gave 3 of 2 bytes: .* its server sends no parts"):
                    buckets.read(address, 3, 2)
            server.shutdown()
    assert ranges == ["bytes=3-4"]
    assert Endless.sent < 100


@pytest.fixture(scope="module")
def s3() -> Iterator[dict[str, str]]:
    """The environment in which `s3://` is a server on this machine."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    _, port = server.get_host_and_port()
    keys = {"AWS_ACCESS_KEY_ID": "AKIATEST", "AWS_SECRET_ACCESS_KEY": "topsecret", "AWS_DEFAULT_REGION": "us-east-1"}
    yield {**keys, "AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}"}
    server.stop()


def test_what_changed_in_s3_since_a_search_is_seen(s3: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    store = fsspec.filesystem("s3")
    store.mkdir("changing")
    store.pipe({"changing/f/1.png": b"x", "changing/f/2.png": b"x"})
    assert len(find_images(["s3://changing/f"]).images) == 2
    elsewhere = fsspec.filesystem("s3", skip_instance_cache=True)
    elsewhere.pipe({"changing/f/1.png": b"longer", "changing/f/3.png": b"new"})
    buckets.forget()
    sizes = [(found := buckets.facts(Address(f"s3://changing/f/{n}.png"))) and found.size for n in (1, 2, 3)]
    assert sizes == [6, 1, 3]


def test_a_killed_run_over_s3_goes_on_and_its_files_hold_no_key(
    s3: dict[str, str], world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.items():
        monkeypatch.setenv(name, value)
    truth = world(8)
    fsspec.filesystem("s3").mkdir("pictures")
    put(truth.parent, "s3://pictures/world")
    run, model = tmp_path / "run", ("--model", f"sim:{truth}", "--yes")
    arguments = ["detect", "s3://pictures/world", "--run", str(run), *model]
    environment = {**os.environ, **s3}
    process = Command([*arguments, "--in-flight", "1"], environment)
    results = run / "results.jsonl"
    while process.poll() is None and not (results.is_file() and results.read_bytes().count(b"\n") >= 2):
        pass
    process.kill()
    process.wait()
    kept = results.read_text().splitlines()
    assert 2 <= len(kept) < 8
    ended = run_command(arguments, environment)
    assert ended.returncode == 0, ended.stderr
    assert results.read_text().splitlines()[: len(kept)] == kept
    run_command(["detect", str(truth.parent), "--run", str(tmp_path / "here"), *model], environment)
    assert essence(run) == essence(tmp_path / "here")
    assert len(results.read_text().splitlines()) == 8
    assert "topsecret" not in ended.stdout + ended.stderr
    assert b"topsecret" not in b"".join(file.read_bytes() for file in run.rglob("*") if file.is_file())
    assert len(list((run / "report/thumbs").iterdir())) == 8
    assert {one.name for one in listed(Address("s3://pictures/world"))} == {p.name for p in truth.parent.iterdir()}
