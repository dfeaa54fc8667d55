"""What tests of several rooms share."""

from __future__ import annotations

import glob
import json
import os
import re
import runpy
import shutil
import signal
import subprocess
import tempfile
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from PIL import Image
from tests.chromium import CHROMIUM
from tests.forking import Command
from tests.ports import free_port

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from tests.bucket import MemoryBucket

    from anomreason.dataset.store import Store

# How long an example takes depends on what else the machine does.
settings.register_profile("any machine", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("any machine")
MAKERS = Path(__file__).parent / "vlm" / "tiny_qwen.py"


@pytest.fixture(scope="session")
def tiny_qwen(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a tiny random Qwen2.5-VL; its replies are noise. Copy it before you change it."""
    import torch

    # Such small products gain nothing from threads, and lose much on a busy machine.
    torch.set_num_threads(1)
    folder: Path = runpy.run_path(str(MAKERS))["make_tiny_qwen"](tmp_path_factory.mktemp("models") / "tiny-qwen")
    return folder


@pytest.fixture(scope="session")
def tiny_adapter(tiny_qwen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a random LoRA for `tiny_qwen` that changes its replies. Copy it before you change it."""
    folder: Path = runpy.run_path(str(MAKERS))["make_tiny_adapter"](
        tiny_qwen, tmp_path_factory.mktemp("models") / "lora"
    )
    return folder


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes a folder of distinct small pictures with `simulator.json` beside them; gives the truth file's path."""

    def make(count: int = 3, side: int = 64) -> Path:
        folder = tmp_path_factory.mktemp("world")
        truth = {}
        for n in range(count):
            pixels = np.random.default_rng(n).integers(0, 256, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(folder / f"p{n:03}.png")
            truth[f"p{n:03}.png"] = {**_known(n), "generated": n % 2 == 0}
        file = folder / "simulator.json"
        file.write_text(json.dumps(truth))
        return file

    return make


def _known(n: int) -> dict[str, Any]:
    """Eight objects; four anomalies that make a text format sweat; every third picture is clean."""
    names = ["woman", "man", "dog", "cup", "table", "lamp", "window", "chair"]
    objects = [
        {"name": name, "description": f"A {name} of picture {n}.", "box": [i / 10, 0.1, i / 10 + 0.15, 0.6]}
        for i, name in enumerate(names)
    ]
    anomalies = [
        _anomaly(f"Six fingers {n}", 5, ["woman"], [0.125, 0.1, 0.25, 0.5]),
        _anomaly('Name: "quoted" \\ back', 12, ["cup", "table"], [0.3, 0.1, 0.55, 0.6]),
        _anomaly("Two\nlines, Reasoning: in it", 33, ["lamp"], None),
        _anomaly("Second sun <script>", 47, [], [0, 0, 1, 1]),
    ]
    return {"objects": objects, "anomalies": [] if n % 3 == 2 else anomalies}


def _anomaly(name: str, severity: int, objects: list[str], region: list[float] | None) -> dict[str, Any]:
    known: dict[str, Any] = {"name": name, "severity": severity, "objects": objects}
    known["phenomenon"] = f"What is seen of {name}: @2. Name: x\nSeverity Score: 3"
    known["reasoning"] = f'Why {name} cannot be so: {{"json": [1]}} ```fence```'
    return known | ({"region": region} if region else {})


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium."""
    if CHROMIUM is None:
        pytest.skip("needs Chromium: apt-get install chromium")
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


Served = Callable[..., AbstractContextManager[str]]


@pytest.fixture(scope="session")
def served() -> Served:
    """Starts `anomreason simulate TRUTH --port 0 ...` in another process; gives its URL while it is open."""

    @contextmanager
    def start(truth: Path, *options: str) -> Iterator[str]:
        server = Command(["simulate", truth, "--port", "0", *options])
        try:
            ready = server.first_line()
            match = re.search(r"http://\S+", ready)
            assert match, f"the server said {ready!r}"
            yield match[0].rstrip("/").removesuffix("/v1")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait()

    return start


@pytest.fixture(scope="module")
def ray_address() -> Iterator[str]:
    """Address of a Ray cluster, which this process is part of."""
    os.environ |= {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}
    ray = pytest.importorskip("ray")
    store = 100_000_000
    started = ray.init(address="local", num_cpus=2, object_store_memory=store, include_dashboard=False)
    yield started.address_info["gcs_address"]
    ray.shutdown()


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a throw-away server on a loopback port, less the database's name."""
    folders = [*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), *os.environ["PATH"].split(os.pathsep)]
    tools = shutil.which("pg_ctl", path=os.pathsep.join(folders))
    if tools is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql): tested with SQLite alone")
    # A server refuses to run as root.
    owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="pg") as base:
        os.chmod(base, 0o777)
        cluster = Path(base) / "cluster"
        initdb = [str(Path(tools).with_name("initdb")), "-D", str(cluster), "-U", "tester", "-A", "trust", "-N"]
        subprocess.run([*owner, *initdb], check=True, capture_output=True, cwd="/")
        settings = f"-p {(port := free_port())} -h 127.0.0.1 -k {base} -c fsync=off -c max_connections=50"
        start = [tools, "-D", str(cluster), "-w", "-l", f"{base}/log", "-o", settings, "start"]
        subprocess.run([*owner, *start], check=True, capture_output=True, cwd="/")
        try:
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}"
        finally:
            stop = [tools, "-D", str(cluster), "-m", "immediate", "stop"]
            subprocess.run([*owner, *stop], check=True, capture_output=True, cwd="/")


def _create_database(server: str, template: str = "template1", options: str = "") -> str:
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(server.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} {options}")
    return f"{server}/{name}"


@pytest.fixture
def new_database(postgres: str) -> str:
    """Address of an empty database."""
    return _create_database(postgres)


@pytest.fixture
def ascii_database(postgres: str) -> str:
    """Address of an empty database of the encoding that a server without a locale gives, which is none."""
    return _create_database(postgres, "template0", "ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'")


@pytest.fixture(scope="session")
def migrated(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database that has the schema; copied, it saves each test the migrations."""
    from anomreason.dataset.store import open_store

    address = _create_database(postgres)
    open_store(tmp_path_factory.mktemp("migrated") / "data", address, create=True).close()
    return address.rpartition("/")[2]


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """What to give as `database`: None for SQLite. A test with it runs on both."""
    if request.param == "sqlite":
        return None
    return _create_database(request.getfixturevalue("postgres"), request.getfixturevalue("migrated"))


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    """A new, empty store of a dataset; a test with it runs on SQLite and on PostgreSQL."""
    from anomreason.dataset.store import open_store

    with open_store(tmp_path / "data", database, create=True) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """A new, empty store in SQLite, for what does not depend on the database."""
    from anomreason.dataset.store import open_store

    with open_store(tmp_path / "data", create=True) as opened:
        yield opened


@pytest.fixture
def bucket() -> Iterator[type[MemoryBucket]]:
    """`store://`, which no other test has filled."""
    import fsspec
    from tests.bucket import MemoryBucket

    from anomreason import buckets

    fsspec.register_implementation("store", MemoryBucket, clobber=True)
    buckets.forget()
    yield MemoryBucket
    for held in (MemoryBucket.store, MemoryBucket.asked, MemoryBucket.faults):
        held.clear()
    MemoryBucket.pseudo_dirs[:] = [""]
