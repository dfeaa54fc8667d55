"""The command as it is run: it says where to go, survives kill -9 without losing or paying anything twice, and ends."""

import signal
from collections.abc import Callable
from pathlib import Path

from benchmarks.serve import Command, paid_twice, run
from tests.ports import free_port

World = Callable[..., Path]


def test_no_job_is_lost_and_no_answer_paid_twice_when_the_service_is_killed(world: World, tmp_path: Path) -> None:
    truth = world(12)
    simulator = Command(["simulate", str(truth), "--port", "0", "--latency=0.1", "--refused=0.1"], r"at (http\S+/v1)")
    model_at = simulator.start()
    try:
        seen, _ = run(
            tmp_path / "jobs", sorted(truth.parent.glob("*.png")), model_at, clients=4, kills=1, port=free_port()
        )
    finally:
        simulator.end(signal.SIGTERM)
    assert set(seen.jobs) == set(seen.ended)
    assert set(seen.jobs.values()) == {f"p{n:03}.png" for n in range(12)}
    assert {job["failure"]["kind"] for job in seen.ended.values() if job["failure"]} <= {"refused"}
    assert {job["state"] for job in seen.ended.values()} >= {"done"}
    assert paid_twice(tmp_path / "jobs") == 0
