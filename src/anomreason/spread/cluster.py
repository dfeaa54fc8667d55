"""Starts Ray on this machine, or connects to a cluster, for as long as a command runs.

with cluster(SpreadOptions(workers=4), setup) as workers:
    print(workers)
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass

from anomreason.detector import DetectorSetup
from anomreason.errors import UsageError, require
from anomreason.vlm.protocol import runs_here

CPUS = 0.25
"""Share of a CPU that a worker asks the cluster for; it mostly waits for the model."""
A_MACHINE = 2
"""Workers on each machine, unless the number is given."""
_STORE = 100_000_000
"""Bytes of Ray's object store on this machine: nothing but paths and results goes through it."""


@dataclass(frozen=True, slots=True)
class SpreadOptions:
    """Where the workers are. The command line has the same names."""

    workers: int | None = None
    """Number of worker processes; None for A_MACHINE on each machine, but no more than calls in flight."""
    ray_address: str | None = None
    """Of a Ray cluster, or `auto` for the one that this machine belongs to; None starts Ray on this machine."""

    def check(self, setup: DetectorSetup) -> None:
        """Raises UsageError for a value that cannot be used and for a model that is not on a server."""
        if setup.vlm is not None or runs_here(setup.model):
            raise UsageError(
                f"{setup.model!r} runs in this process, and --engine ray spreads calls to servers; serve the model and "
                "give --base-url, or leave --engine ray out"
            )
        most = setup.options.in_flight
        if self.workers is not None and self.workers < 1:
            raise UsageError(f"workers must be at least 1, not {self.workers}")
        if self.workers is not None and self.workers > most:
            raise UsageError(
                f"{self.workers} workers share {most} calls in flight, so some would have none: give --in-flight "
                f"{self.workers} or more, or fewer --workers"
            )


@contextmanager
def cluster(options: SpreadOptions, setup: DetectorSetup) -> Iterator[int]:
    """Ray, started or connected, and the number of workers; what was started ends with the command.

    Raises UsageError for options that cannot be used, a cluster that cannot be reached or is too small, MissingExtra
    without Ray.
    """
    options.check(setup)
    require("--engine ray", "ray", "ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    in_flight = setup.options.in_flight
    workers = options.workers or min(A_MACHINE, in_flight)
    # What Ray prints of a worker that died says nothing that the driver does not, and would stand among the results.
    with redirect_stdout(io.StringIO()):
        try:
            if options.ray_address is None:
                ray.init(
                    address="local",
                    num_cpus=workers,  # Ray starts so many processes at once, which become the workers
                    object_store_memory=_STORE,
                    include_dashboard=False,
                    log_to_driver=False,
                    logging_level="ERROR",
                )
            else:
                ray.init(address=options.ray_address, log_to_driver=False, logging_level="ERROR")
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            raise UsageError(_unreachable(options.ray_address, error)) from error
        try:
            yield workers if options.ray_address is None else _size(options, in_flight)
        finally:
            ray.shutdown()


def _size(options: SpreadOptions, in_flight: int) -> int:
    """Raises UsageError for a cluster without room: its workers would be waited for, maybe for ever."""
    import ray

    machines = sum(node["Alive"] for node in ray.nodes())
    workers = options.workers or min(A_MACHINE * machines, in_flight)
    free = ray.available_resources().get("CPU", 0.0)
    if workers * CPUS > free:
        raise UsageError(
            f"the Ray cluster has {free:g} CPUs free, enough for {int(free / CPUS)} workers and not for {workers}; "
            "give fewer --workers, or wait until other work has ended"
        )
    return workers


def _unreachable(address: str | None, error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    if address is None:
        return f"Ray does not start on this machine: {first}"
    return (
        f"no Ray cluster can be used at {address!r}: {first}. Start one with 'ray start --head' on one machine and "
        "'ray start --address=HOST:6379' on the others, with the same versions of Python and Ray and, where the "
        "cluster asks for a token, RAY_AUTH_MODE=token and the same ~/.ray/auth_token"
    )
