"""`--engine ray` as a command: a worker is killed and the results are those of one process."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from anomreason.runs import read_results
from anomreason.vlm.ledger import read_calls

Served = Callable[..., AbstractContextManager[str]]
WATCHDOG = 240.0
"""Seconds after which the command counts as hung."""


def command(images: Path, *options: str, model: str = "simulated") -> list[str]:
    line = [sys.executable, "-m", "anomreason", "detect", str(images), "--model", model, "--yes", "--no-report"]
    return [*line, *options]


def outcomes(run: Path) -> dict[str, object]:
    return {n: (d.status, d.anomalies, d.candidates) for n, d in read_results(run).items()}


@pytest.mark.slow
def test_a_killed_worker_is_replaced_and_nothing_is_asked_or_booked_twice(
    world: Callable[..., Path], served: Served, tmp_path: Path, ray_address: str
) -> None:
    truth = world(24)
    with served(truth, "--latency", "0.1") as url:
        server = ("--base-url", f"{url}/v1", "--in-flight", "8")
        alone = command(truth.parent, *server, "--run", str(tmp_path / "alone"))
        subprocess.run(alone, check=True, capture_output=True, timeout=WATCHDOG)
        undisturbed = len(list(read_calls(tmp_path / "alone")))
        run = tmp_path / "run"
        spread = ("--engine", "ray", "--workers", "2", "--ray-address", ray_address, "--max-tokens", "100000000")
        line = command(truth.parent, *server, *spread, "--run", str(run), "--json")
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        try:
            end = time.monotonic() + WATCHDOG
            while not (run / "results.jsonl").exists() or (run / "results.jsonl").read_text().count("\n") < 4:
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < end, "it hangs"
                time.sleep(0.05)
            os.kill(int((run / "workers" / "0" / "worker.lock").read_text()), signal.SIGKILL)
            out, err = process.communicate(timeout=WATCHDOG)
        finally:
            process.kill()
    assert process.returncode == 0, err
    assert out.count("\n") == 24, "nothing but results stands on stdout"
    assert outcomes(run) == outcomes(tmp_path / "alone")
    calls = list(read_calls(run))
    killed = sum(call.outcome == "killed" for call in calls)
    assert killed <= 4, "as many as the worker may have had in flight"
    assert len(calls) == undisturbed + killed
    assert not (run / "workers").exists()


@pytest.mark.parametrize(
    ("options", "model", "message"),
    [
        (("--workers", "2"), "gpt-4o", "--workers has no effect without --engine ray"),
        (("--ray-address", "auto"), "gpt-4o", "--ray-address has no effect without --engine ray"),
        (("--engine", "spark"), "gpt-4o", "engine must be local or ray, not 'spark'"),
        (("--engine", "ray", "--workers", "9", "--in-flight", "8"), "gpt-4o", "give --in-flight 9 or more"),
        (("--engine", "ray"), "tiny", "runs in this process"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(
    world: Callable[..., Path], tmp_path: Path, options: tuple[str, ...], model: str, message: str
) -> None:
    line = command(world(1).parent, *options, "--run", str(tmp_path / "run"), model=model)
    ran = subprocess.run(line, capture_output=True, text=True, timeout=WATCHDOG)
    assert ran.returncode == 2
    assert message in " ".join(ran.stderr.split())
    assert not (tmp_path / "run").exists()


def test_a_cluster_that_is_not_there_is_said_soon(world: Callable[..., Path], tmp_path: Path) -> None:
    with socket.socket() as unheard:
        unheard.bind(("127.0.0.1", 0))  # taken, and nobody listens
        address = f"127.0.0.1:{unheard.getsockname()[1]}"
        spread = ("--engine", "ray", "--ray-address", address, "--run", str(tmp_path / "run"))
        server = ("--base-url", "http://127.0.0.1:9/v1")
        ran = subprocess.run(
            command(world(1).parent, *server, *spread), capture_output=True, text=True, timeout=WATCHDOG
        )
    assert ran.returncode == 2
    assert f"no Ray cluster can be used at '{address}'" in ran.stderr
    assert "ray start --head" in ran.stderr
