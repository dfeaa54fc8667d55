"""`dataset filter` with worker processes: what one process finds, whatever dies on the way."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.dataset.collected import put_images
from tests.dataset.dual_encoder import write_dual_encoder
from tests.dataset.test_filter import decisions, facts, folder, status, texture
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset.filter.embeddings import DualEncoder, EmbeddingFolder
from anomreason.dataset.filter.filtering import filter_images
from anomreason.dataset.filter.measuring import CollectedFile
from anomreason.dataset.filter.records import FilterOptions
from anomreason.dataset.filter.rules import RULES, Rules
from anomreason.dataset.store import Store, open_store
from anomreason.dataset.tables import ImageRow, MeasureRow
from anomreason.errors import UsageError
from anomreason.spread.mapping import local_workers

__all__ = ["folder"]
WATCHDOG = 240.0
"""Seconds after which a command counts as hung."""
HOOK = """
import os, signal, time
from pathlib import Path

def score(path, image):
    beside = Path(__file__).parent
    if (beside / "armed").exists():
        if path.name == "poison.png":
            os.kill(os.getpid(), signal.SIGKILL)
        if path.name == "once.png" and not (beside / "died").exists():
            (beside / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if path.name == "stuck.png":
            (beside / "stuck").write_text(str(os.getpid()))
            time.sleep(600)
    return image.width, "mine" if image.width > 200 else None
"""
RULE = """
[dark]
threshold = 0.32
[near_duplicates]
[python.mine]
function = "{module}:score"
"""


def rule_file(folder: Path, module: str) -> Path:
    folder.mkdir()
    (folder / f"{module}.py").write_text(HOOK)
    file = folder / "rules.toml"
    file.write_text(RULE.format(module=module))
    return file


def both(tmp_path: Path, images: Path) -> list[Path]:
    """Two datasets of the same images."""
    for name in ("alone", "spread"):
        with open_store(tmp_path / name, create=True) as store:
            put_images(store, images)
    return [tmp_path / "alone", tmp_path / "spread"]


def test_the_results_are_those_of_one_process(tmp_path: Path, folder: Path) -> None:
    (folder / "damaged.png").write_bytes((folder / "a.png").read_bytes()[:300])
    rules = RULES.read(file := rule_file(tmp_path / "mine", "hook_alike"))
    alone, spread = both(tmp_path, folder)
    options = FilterOptions(beside=file.parent)
    (folder / "a.png").unlink()
    with open_store(alone) as one, open_store(spread) as other, local_workers(2) as workers:
        expected = filter_images(one, rules, options)
        assert expected.failed == {"unreadable": 2}
        assert filter_images(other, rules, options, workers=workers) == expected
        assert facts(other) == facts(one)
        assert "mine" in status(one).values()


@pytest.mark.slow
def test_embeddings_of_workers_are_those_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    write_dual_encoder(model := tmp_path / "tiny-clip")
    (images := tmp_path / "images").mkdir()
    for n in range(40):
        texture(n // 2, (60 + n % 2, 48)).save(images / f"{n:02}.png")
    alone, spread = both(tmp_path, images)
    rules = Rules.model_validate({"embedding_duplicates": {"model": str(model)}})
    with open_store(alone) as one, open_store(spread) as other, local_workers(1) as workers:
        assert filter_images(other, rules, workers=workers) == filter_images(one, rules)
        with one.reading() as session:
            keys = list(session.scalars(select(ImageRow.sha256)))
        name = DualEncoder(str(model)).name
        vectors = [EmbeddingFolder(folder / "embeddings" / name, "images").get(keys) for folder in (alone, spread)]
    assert vectors[0] == pytest.approx(vectors[1], abs=1e-5)


class BlindWorkers:
    """Workers of a machine that does not see the images."""

    def map(
        self,
        function: Callable[[Sequence[CollectedFile]], Sequence[Any]],
        batches: Iterator[Sequence[CollectedFile]],
        lost: Callable[[CollectedFile, str], Any],
    ) -> Iterator[tuple[Sequence[CollectedFile], Sequence[Any], str]]:
        for files in batches:
            yield files, function([file._replace(path=Path("/elsewhere") / file.path.name) for file in files]), "gpu2"


def test_a_machine_that_does_not_see_the_images_ends_the_filter(sqlite_store: Store, folder: Path) -> None:
    put_images(sqlite_store, folder)
    with pytest.raises(UsageError, match=r"the machine gpu2 cannot read what this one can: '/elsewhere/a.*same path"):
        filter_images(sqlite_store, RULES.read("default"), workers=BlindWorkers())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--ray-address", "auto"), "--ray-address has no effect without --engine ray"),
        (("--engine", "spark"), "--engine must be local or ray, not 'spark'"),
        (("--workers", "0"), "Invalid value for '--workers'"),
    ],
)
def test_what_cannot_work_is_refused(options: tuple[str, ...], message: str, sqlite_store: Store, folder: Path) -> None:
    put_images(sqlite_store, folder)
    result = CliRunner().invoke(app, ["dataset", "filter", str(sqlite_store.folder), *options])
    assert result.exit_code != 0
    assert message in " ".join(f"{result.output} {result.exception}".split())
    with sqlite_store.reading() as session:
        assert session.scalar(select(MeasureRow.name)) is None


class Filter:
    """A filter command at work, in a process group of its own, as a shell starts it."""

    def __init__(self, data: Path, rules: Path, *options: str) -> None:
        line = [sys.executable, "-m", "anomreason", "dataset", "filter", str(data), "--rules", str(rules), *options]
        environment = {**os.environ, "RAY_worker_niceness": "0"}
        self.process = subprocess.Popen(
            line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )

    def wait_for(self, there: Callable[[], bool]) -> None:
        end = time.monotonic() + WATCHDOG
        while not there():
            assert self.process.poll() is None, self.process.communicate()
            assert time.monotonic() < end, "it hangs"
            time.sleep(0.05)

    def __enter__(self) -> Filter:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_command_and_the_next_one_continues(how: signal.Signals, tmp_path: Path) -> None:
    (images := tmp_path / "images").mkdir()
    for n in range(40):
        texture(n, (56, 48)).save(images / f"{n:02}.png")
    texture(99).save(images / "stuck.png")
    alone, spread = both(tmp_path, images)
    file = rule_file(tmp_path / "mine", f"hook_of_{how.name}")
    (file.parent / "armed").touch()
    stuck = file.parent / "stuck"
    with Filter(spread, file, "--workers", "2") as command:
        command.wait_for(lambda: stuck.exists() and stuck.read_text() != "")
        worker = int(stuck.read_text())
        os.killpg(command.process.pid, how) if how == signal.SIGINT else command.process.kill()
        _, err = command.process.communicate(timeout=WATCHDOG)
        assert command.process.returncode == (130 if how == signal.SIGINT else -how)
        assert "Traceback" not in err
    end = time.monotonic() + WATCHDOG
    while alive(worker):
        assert time.monotonic() < end, "the worker outlives the command"
        time.sleep(0.05)
    (file.parent / "armed").unlink()
    options = FilterOptions(beside=file.parent)
    with open_store(alone) as one, open_store(spread) as other:
        filter_images(one, RULES.read(file), options)
        assert filter_images(other, RULES.read(file), options).opened < 82, "what was measured is there"
        assert facts(other) == facts(one)


@pytest.mark.parametrize(
    "engine", [("--workers", "2"), pytest.param(("--engine", "ray", "--workers", "2"), marks=pytest.mark.slow)]
)
def test_an_image_that_ends_its_worker_fails_and_a_worker_that_ends_once_costs_nothing(
    engine: tuple[str, ...], tmp_path: Path
) -> None:
    (images := tmp_path / "images").mkdir()
    for n in range(70):
        texture(n // 2, (56 + n % 2, 48)).save(images / f"{n:02}.png")
    for n, name in enumerate(("once", "poison")):
        texture(90 + n, (300, 200)).save(images / f"{name}.png")
    alone, spread = both(tmp_path, images)
    file = rule_file(tmp_path / "mine", f"hook_of_{len(engine)}_options")
    with open_store(alone) as store:
        filter_images(store, RULES.read(file), FilterOptions(beside=file.parent))
        expected = decisions(store)
    (file.parent / "armed").touch()
    with Filter(spread, file, *engine) as command:
        out, err = command.process.communicate(timeout=WATCHDOG)
    assert command.process.returncode == 0, err
    assert (file.parent / "died").exists()
    assert out.startswith("rule"), "nothing but the report stands on stdout"
    assert "Kept because a rule could not look at them: 1 crashed" in out
    assert "poison.png' ended its worker process 3 times, the last time by" in " ".join(out.split())
    with open_store(spread) as store:
        found = decisions(store)
    assert found.pop(("poison.png", "mine")) == (True, "crashed", None)
    assert expected.pop(("poison.png", "mine")) == (False, "mine", 300.0)
    assert found == expected
