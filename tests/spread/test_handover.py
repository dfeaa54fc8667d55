"""A run that begins in this process and goes on with workers; and `detect` with workers, from Python."""

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from anomreason import detect
from anomreason.cli import app
from anomreason.detection import open_session
from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.errors import UsageError
from anomreason.runs import RunFolder, read_results
from anomreason.sources.inputs import find_images
from anomreason.spread.cluster import SpreadOptions
from anomreason.spread.handover import Handover, RayThread
from anomreason.vlm.ledger import read_calls

World = Callable[..., Path]


class Patient(RayThread):
    """Has its workers before another image is begun."""

    starts = 0

    def start(self) -> Future[list[Any]]:
        self.starts += 1
        wait([starting := super().start()])
        return starting


class Broken(RayThread):
    """Does not start."""

    def start(self) -> Future[list[Any]]:
        failed = Future[list[Any]]()
        failed.set_exception(UsageError("Ray does not start on this machine: no room"))
        return failed


@pytest.fixture
def setup(world: World) -> DetectorSetup:
    return set_up(f"sim:{world(12)}", DetectOptions(in_flight=2, max_tokens=100_000_000))


def opened(setup: DetectorSetup, folder: Path) -> RunFolder:
    images = Path(setup.model.removeprefix("sim:")).parent
    return setup.open_run(folder, find_images([images]), [str(images)])


def handed_over(setup: DetectorSetup, folder: Path, ray: RayThread, pays: float) -> Handover:
    """A whole run."""

    async def work(run: RunFolder) -> Handover:
        try:
            async with AsyncExitStack() as stack:
                session = await stack.enter_async_context(open_session(setup, run))
                work = Handover(run, ray, session, stack, pays)
                await work.detect(find_images([Path(setup.model.removeprefix("sim:")).parent]).images, lambda _: None)
                return work
        finally:
            await ray.close()

    with opened(setup, folder) as run:
        return asyncio.run(work(run))


def outcomes(run: Path) -> dict[str, object]:
    return {n: (d.status, d.anomalies, d.candidates, d.usage.calls) for n, d in read_results(run).items()}


@pytest.mark.slow
def test_workers_go_on_where_this_process_stopped_and_ask_nothing_again(
    setup: DetectorSetup, tmp_path: Path, ray_address: str
) -> None:
    alone, ray = tmp_path / "alone", Patient(SpreadOptions(workers=2), setup)
    handed_over(setup, alone, ray, pays=1e9)
    assert ray.starts == 0, "the run was too short"
    ray = Patient(SpreadOptions(workers=2), setup)
    work = handed_over(setup, tmp_path / "run", ray, pays=0.0)
    assert ray.starts == 1
    assert outcomes(tmp_path / "run") == outcomes(alone)
    calls = list(read_calls(tmp_path / "run"))
    assert work.spent.calls == len(calls) == len(list(read_calls(alone)))
    assert not (tmp_path / "run" / "workers").exists()


def test_all_images_are_finished_here_when_ray_does_not_start(setup: DetectorSetup, tmp_path: Path) -> None:
    work = handed_over(setup, tmp_path, Broken(SpreadOptions(), setup), pays=0.0)
    done = read_results(tmp_path)
    assert [d.status for d in done.values()] == ["ok"] * 12
    assert "no room" in work.unaided
    assert work.waiting == "no workers"


def test_a_command_says_that_ray_did_not_start(
    setup: DetectorSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomreason.spread.handover.RayThread", Broken)
    monkeypatch.setattr("anomreason.spread.handover.PAYS", 0.0)
    monkeypatch.setattr("anomreason.spread.handover.initialized", lambda: False)  # which other tests have done
    images, run = Path(setup.model.removeprefix("sim:")).parent, tmp_path / "run"
    command = ["detect", str(images), "--model", setup.model, "--run", str(run), "--yes", "--in-flight", "2"]
    outcome = CliRunner().invoke(app, [*command, "--engine", "ray"])
    assert outcome.exit_code == 0, outcome.output
    assert "Warning: no workers have helped. Ray does not start on this machine: no room" in outcome.stderr
    assert len(read_results(run)) == 12


def test_a_command_says_that_its_run_was_too_short_for_ray(
    setup: DetectorSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("anomreason.spread.handover.RayThread", Broken)
    monkeypatch.setattr("anomreason.spread.handover.initialized", lambda: False)
    images, run = Path(setup.model.removeprefix("sim:")).parent, tmp_path / "run"
    command = ["detect", str(images), "--model", setup.model, "--run", str(run), "--yes", "--in-flight", "2"]
    outcome = CliRunner().invoke(app, [*command, "--engine", "ray"])
    assert outcome.exit_code == 0, outcome.output
    assert "Ray was not started: the images took this process no more than 30 s." in outcome.stderr


@pytest.mark.slow
def test_detect_uses_the_cluster_of_the_process_and_leaves_it_open(
    world: World, tmp_path: Path, ray_address: str
) -> None:
    import ray

    truth = world(4)
    spread = detect([truth.parent], model=f"sim:{truth}", run=tmp_path / "run", engine="ray", workers=2, in_flight=2)
    alone = detect([truth.parent], model=f"sim:{truth}", run=tmp_path / "alone")
    assert [d.image for d in spread] == [d.image for d in alone]
    assert outcomes(tmp_path / "run") == outcomes(tmp_path / "alone")
    assert ray.is_initialized()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"engine": "ray"}, "give run="),
        ({"engine": "spark"}, "engine must be local or ray, not 'spark'"),
        ({"workers": 2}, "workers has no effect without engine='ray'"),
        ({"engin": "ray"}, "did you mean 'engine'"),
        ({"engine": "ray", "run": "run", "workers": 9, "in_flight": 8}, "9 workers share 8 calls in flight"),
    ],
)
def test_detect_refuses_what_cannot_work(world: World, options: dict[str, Any], message: str) -> None:
    truth = world(1)
    options |= {"run": truth.parent / "run"} if "run" in options else {}
    with pytest.raises(UsageError, match=message):
        detect([truth.parent], model=f"sim:{truth}", **options)
