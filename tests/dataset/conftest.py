"""Stores in SQLite and on a real PostgreSQL server of the tests' own."""

import glob
import os
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomreason.dataset.store import Store, open_store


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """Address of a throw-away server on a loopback port, less the database's name."""
    folders = [*sorted(glob.glob("/usr/lib/postgresql/*/bin"), reverse=True), *os.environ["PATH"].split(os.pathsep)]
    tools = shutil.which("pg_ctl", path=os.pathsep.join(folders))
    if tools is None:
        pytest.skip("no PostgreSQL server is installed (apt-get install postgresql): tested with SQLite alone")
    # A server refuses to run as root.
    owner = ["runuser", "-u", "postgres", "--"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory(prefix="pg") as base, socket.socket() as probe:
        os.chmod(base, 0o777)
        cluster = Path(base) / "cluster"
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        probe.close()
        initdb = [str(Path(tools).with_name("initdb")), "-D", str(cluster), "-U", "tester", "-A", "trust", "-N"]
        subprocess.run([*owner, *initdb], check=True, capture_output=True, cwd="/")
        settings = f"-p {port} -h 127.0.0.1 -k {base} -c fsync=off -c max_connections=50"
        start = [tools, "-D", str(cluster), "-w", "-l", f"{base}/log", "-o", settings, "start"]
        subprocess.run([*owner, *start], check=True, capture_output=True, cwd="/")
        try:
            yield f"postgresql+psycopg://tester@127.0.0.1:{port}"
        finally:
            stop = [tools, "-D", str(cluster), "-m", "immediate", "stop"]
            subprocess.run([*owner, *stop], check=True, capture_output=True, cwd="/")


@pytest.fixture
def new_database(postgres: str) -> str:
    """Address of an empty database."""
    import psycopg

    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(postgres.replace("+psycopg", "") + "/postgres", autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return f"{postgres}/{name}"


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest) -> str | None:
    """What to give as `database`: None for SQLite. A test with it runs on both."""
    return None if request.param == "sqlite" else str(request.getfixturevalue("new_database"))


@pytest.fixture
def store(tmp_path: Path, database: str | None) -> Iterator[Store]:
    """A new, empty store; a test with it runs on both databases."""
    with open_store(tmp_path / "data", database, create=True) as opened:
        yield opened


@pytest.fixture
def sqlite_store(tmp_path: Path) -> Iterator[Store]:
    """A new, empty store in SQLite, for what does not depend on the database."""
    with open_store(tmp_path / "data", create=True) as opened:
        yield opened
