"""The benchmarks run as their first lines say, and clean up behind them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


def test_the_benchmark_of_reports_builds_one_twice() -> None:
    command = [sys.executable, str(BENCHMARKS / "report.py"), "--images", "3", "--side", "64"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "built again" in ran.stdout


@pytest.mark.slow
def test_the_orchestration_benchmark_leaves_no_connection_open() -> None:
    command = [sys.executable, str(BENCHMARKS / "orchestration.py"), "--images", "1", "--rounds", "1"]
    environment = {**os.environ, "PYTHONWARNINGS": "always::ResourceWarning"}
    ran = subprocess.run([*command, "--latency", "0.01"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert "Unclosed" not in ran.stderr
    assert "client CPU per call / bare SDK loop" in ran.stdout


@pytest.mark.slow
def test_the_benchmark_of_a_gpu_prints_its_rows_at_toy_size_too() -> None:
    environment = {**os.environ, "PYTHON": sys.executable, "OMP_NUM_THREADS": "1"}
    ran = subprocess.run([BENCHMARKS / "gpu.sh", "--toy"], env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    rows = [line.strip("| ").split(" | ") for line in ran.stdout.splitlines() if line.startswith("|")][2:]
    assert [len(row) for row in rows] == [3] * 5
    assert [row[0].split()[0] for row in rows] == ["scoring", "F1", "training", "peak", "local"]
    assert rows[3][1] == "not measured without a GPU"


def test_the_benchmark_of_workers_compares_two_runs() -> None:
    command = [sys.executable, str(BENCHMARKS / "spread.py"), "cost", "--images", "2"]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    first, *times = ran.stdout.splitlines()
    assert first.startswith("2 images, 6 calls, 16 in flight, load ")
    assert [line.split(":")[0] for line in times] == ["  whole command", "  first call to last"]


@pytest.mark.slow
def test_the_benchmark_of_kills_plays_a_round(ray_address: str) -> None:
    command = [sys.executable, str(BENCHMARKS / "spread.py"), "kills", "--ray-address", ray_address]
    toy = ["--rounds", "1", "--images", "12", "--in-flight", "4", "--latency", "0.3"]
    ran = subprocess.run([*command, *toy], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("round 0: equal; ")


@pytest.mark.slow
def test_the_benchmark_of_costs_computes_large_jobs_from_what_it_measures() -> None:
    command = [sys.executable, "-m", "benchmarks.costs", "--images", "1"]
    ran = subprocess.run(command, cwd=BENCHMARKS.parent, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    rows = [line.strip("| ").split(" | ") for line in ran.stdout.splitlines() if line.startswith("| `")]
    names = ["`single`", "`lean`", "`paper`"]
    assert [row[0] for row in rows] == [*names, *(name for name in names for _ in range(5))]
    assert rows[0][2] == "1"
