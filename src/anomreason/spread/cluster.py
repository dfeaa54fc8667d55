"""Starts Ray on this machine, or connects to a cluster, for as long as a command runs.

with cluster(SpreadOptions(workers=4), setup) as workers:
    print(workers)
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from anomreason.detector import DetectArguments, DetectOptions, DetectorSetup, check_names
from anomreason.errors import UsageError, require
from anomreason.vlm.protocol import runs_here

CPUS = 0.25
"""Share of a CPU that a worker asks the cluster for; it mostly waits for the model."""
A_MACHINE = 2
"""Workers on each machine, unless the number is given."""
MOST_DEATHS = 3
"""A worker that dies so often without finishing anything is not replaced; an item that ends so many workers is lost."""
START_SECONDS = 300.0
"""So long a worker gets to start."""
_KNOCK_SECONDS = 15.0
"""So long the first machine of a cluster gets to accept a connection."""
_STORE = 100_000_000
"""Bytes of Ray's object store on this machine: nothing but paths and results goes through it."""


Engine = Literal["local", "ray"]


class SpreadArguments(DetectArguments, total=False):
    """The options that `detect` and `detect_async` take by keyword; `SpreadOptions.of` describes what they add."""

    engine: Engine
    workers: int | None
    ray_address: str | None


@dataclass(frozen=True, slots=True)
class SpreadOptions:
    """Where the workers are. The command line has the same names."""

    workers: int | None = None
    """Number of worker processes; None for A_MACHINE on each machine, but no more than calls in flight, or for one on
    each free CPU where they compute."""
    ray_address: str | None = None
    """Of a Ray cluster, or `auto` for the one that this machine belongs to; None starts Ray on this machine."""

    @classmethod
    def of(cls, arguments: Mapping[str, object]) -> tuple[SpreadOptions | None, dict[str, object]]:
        """The options among keyword arguments, None for this process; and the other arguments.

        engine: `local` for this process, `ray` for worker processes; workers, ray_address: as here. Raises UsageError
        for an unknown name or engine, and for the others without `engine="ray"`.
        """
        own = ("engine", *(f.name for f in fields(cls)))
        check_names(arguments, [*(f.name for f in fields(DetectOptions)), *own])
        others = {name: value for name, value in arguments.items() if name not in own}
        given: dict[str, Any] = {name: value for name, value in arguments.items() if name in own}
        engine = given.pop("engine", "local")
        if engine not in get_args(Engine):
            raise UsageError(f"engine must be local or ray, not {engine!r}")
        if engine == "ray":
            return cls(**given), others
        for name, value in given.items():
            if value is not None:
                raise UsageError(f"{name} has no effect without engine='ray'; leave it out")
        return None, others

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
def cluster(options: SpreadOptions, setup: DetectorSetup | None) -> Iterator[int]:
    """Ray, started or connected, and the number of workers; what was started ends with the command.

    setup: what workers detect with; None for workers that compute, each of which takes a CPU.
    Where the process has called `ray.init` itself, that cluster is used, and left open.
    Raises UsageError for options that cannot be used, a cluster that cannot be reached or is too small, MissingExtra
    without Ray.
    """
    if setup is not None:
        options.check(setup)
    require("--engine ray", "ray", "ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    import ray

    in_flight = setup.options.in_flight if setup else None
    if ray.is_initialized():
        yield _size(options, in_flight)
        return
    workers = options.workers or (min(A_MACHINE, in_flight) if in_flight else os.cpu_count() or 1)
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
            _knock(options.ray_address)
            ray.init(address=options.ray_address, log_to_driver=False, logging_level="ERROR")
    except (OSError, RuntimeError, ValueError) as error:
        raise UsageError(_unreachable(options.ray_address, error)) from error
    try:
        yield workers if options.ray_address is None else _size(options, in_flight)
    finally:
        ray.shutdown()


def initialized() -> bool:
    """Whether this process has called `ray.init` already."""
    return "ray" in sys.modules and bool(sys.modules["ray"].is_initialized())


def _size(options: SpreadOptions, in_flight: int | None) -> int:
    """Raises UsageError for a cluster without room: its workers would be waited for, maybe for ever."""
    import ray

    machines = sum(node["Alive"] for node in ray.nodes())
    free, each = ray.available_resources().get("CPU", 0.0), CPUS if in_flight else 1.0
    workers = options.workers or (min(A_MACHINE * machines, in_flight) if in_flight else max(int(free), 1))
    if workers * each > free:
        raise UsageError(
            f"the Ray cluster has {free:g} CPUs free, enough for {int(free / each)} workers and not for {workers}; "
            "give fewer --workers, or wait until other work has ended"
        )
    return workers


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at HOST:PORT: Ray itself would try for many minutes."""
    host, _, port = address.partition("://")[2].rpartition(":") if "://" in address else address.rpartition(":")
    if host and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_KNOCK_SECONDS).close()


def _unreachable(address: str | None, error: Exception) -> str:
    first = str(error).strip().partition("\n")[0]
    if address is None:
        return f"Ray does not start on this machine: {first}"
    return (
        f"no Ray cluster can be used at {address!r}: {first}. Start one with 'ray start --head' on one machine and "
        "'ray start --address=HOST:6379' on the others, with the same versions of Python and Ray and, where the "
        "cluster asks for a token, RAY_AUTH_MODE=token and the same ~/.ray/auth_token"
    )
