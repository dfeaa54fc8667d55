"""Workers killed in the middle of a run, and what spreading over workers costs, with `--engine ray`.

    python benchmarks/spread.py kills [--rounds 20] [--images 400] [--latency 0.5] [--ray-address HOST:PORT]
    python benchmarks/spread.py cost [--images 60 400 1600] [--in-flight 16] [--ray-address HOST:PORT]

`kills`: a run over 4 workers, which start as soon as they can, loses a worker to kill -9, then the driver; the same
command continues it. Every other round has a limit on tokens that stops it on the way, and is continued with a higher
one. Checked: the results equal those of one process, the server answered at most as many calls more as were in flight
at the kills, the limit held, and no command hung. `cost`: wall time with 4 workers against one process, at 200 ms a
call and the same calls in flight.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
from PIL import Image

from anomreason.runs import read_results
from anomreason.vlm.ledger import read_calls, spent_in

WORKERS = 4
AT_ONCE = "from anomreason.spread import handover as h; h.PAYS = 0.0; from anomreason.__main__ import main; main()"
"""A command that starts workers however short the run is."""
HANG = 400.0
"""Seconds after which a command counts as hung."""


def make_world(folder: Path, count: int, side: int) -> Path:
    """Noise images with four objects, and two anomalies in two of three."""
    folder.mkdir()
    truth = {}
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((side, side), Image.Resampling.NEAREST).save(folder / f"{n:04}.jpg", quality=80)
        names = ["cup", "lamp", "dog", "chair"]
        objects = [{"name": name, "description": f"A {name}.", "box": [0.1, 0.1, 0.4, 0.6]} for name in names]
        found = [
            {"name": f"Error {i} of image {n}", "phenomenon": "It shows.", "reasoning": "It cannot be.", "severity": 10}
            | {"objects": [names[i]]}
            for i in range(2)
        ]
        truth[f"{n:04}.jpg"] = {"objects": objects, "anomalies": found if n % 3 else []}
    file = folder / "simulator.json"
    file.write_text(json.dumps(truth))
    return file


@contextmanager
def simulated_server(truth: Path, *options: str) -> Iterator[str]:
    """Its address, without /v1."""
    command = [sys.executable, "-m", "anomreason", "simulate", str(truth), "--port", "0", *options]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        match = re.search(r"http://[^\s/]+", process.stdout.readline())
        if match is None:
            raise SystemExit("the simulated server did not start")
        yield match[0]
    finally:
        process.terminate()
        process.wait()


def answered(url: str) -> int:
    with urllib.request.urlopen(f"{url}/stats") as reply:
        return int(json.load(reply)["requests"])


class Command:
    """A `detect` command at work."""

    def __init__(self, images: Path, url: str, run: Path, *options: str, at_once: bool = False) -> None:
        fixed = ["--model", "simulated", "--base-url", f"{url}/v1", "--run", str(run), "--yes", "--no-report"]
        program = ["-c", AT_ONCE] if at_once else ["-m", "anomreason"]
        line = [sys.executable, *program, "detect", str(images), *fixed, *options]
        self.run, self.began = run, time.monotonic()
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        environment = {**os.environ, "RAY_worker_niceness": "0"}  # else other work on the machine slows workers alone
        self.process = subprocess.Popen(line, stdout=self.log, stderr=self.log, env=environment)

    def results(self) -> int:
        """Recorded so far."""
        file = self.run / "results.jsonl"
        return file.read_bytes().count(b"\n") if file.exists() else 0

    def wait_for(self, results: int) -> None:
        """Until so many results are recorded, of which workers have some."""
        while self.results() < results or not self.workers():
            if self.process.poll() is not None:
                raise SystemExit(f"the command ended before it was killed: give more --images\n{self.said()}")
            self._watch()

    def ended(self) -> int:
        """Its exit status."""
        while self.process.poll() is None:
            self._watch()
        return self.process.returncode

    def _watch(self) -> None:
        time.sleep(0.05)
        if time.monotonic() - self.began > HANG:
            self.process.kill()
            raise SystemExit(f"HANG: {self.said()}")

    def said(self) -> str:
        self.log.seek(0)
        return self.log.read()[-2000:]

    def workers(self) -> list[int]:
        """Process ids of its workers that have recorded a result."""
        found = []
        for part in sorted((self.run / "workers").glob("*")):
            with suppress(FileNotFoundError, ValueError):  # the worker starts, or the run takes in what it recorded
                if (part / "results.jsonl").stat().st_size:
                    found.append(int((part / "worker.lock").read_text()))
        return found


def results(run: Path) -> dict[str, object]:
    """What a run says of each image, without times and usage."""
    return {n: d.model_dump(exclude={"usage", "file_mtime", "seconds"}) for n, d in read_results(run).items()}


def one_round(number: int, world: Path, run: Path, expected: dict[str, object], options: argparse.Namespace) -> str:
    """One run with its kills; gives the row of the table. Ends the program where something does not hold."""
    rng, limited = random.Random(number), number % 2 == 1
    ray = (*spread_over(options), "--in-flight", str(options.in_flight))
    limit = ("--max-tokens", str(options.limit)) if limited else ()
    with simulated_server(world / "simulator.json", *options.faults, "--latency", str(options.latency)) as url:
        command = Command(world, url, run, *ray, *limit, at_once=True)
        command.wait_for(int(rng.uniform(0.1, 0.3) * options.images))
        with suppress(ProcessLookupError):
            os.kill(rng.choice(command.workers()), signal.SIGKILL)
        more = command.results() + options.images // 20
        command.wait_for(max(more, int(rng.uniform(0.4, 0.55) * options.images)))
        command.process.kill()
        command.process.wait()
        if limited:
            command = Command(world, url, run, *ray, *limit, at_once=True)
            status, spent = command.ended(), spent_in(run).tokens
            if status != 4 or spent > options.limit:
                raise SystemExit(
                    f"round {number}: status {status}, {spent} of {options.limit} tokens: {command.said()}"
                )
        higher = ("--max-tokens", str(100 * options.limit)) if limited else ()
        command = Command(world, url, run, *ray, *higher, at_once=True)
        if status := command.ended():
            raise SystemExit(f"round {number}: status {status}: {command.said()}")
        calls = answered(url)
    booked, killed = 0, 0
    for call in read_calls(run):
        booked, killed = booked + 1, killed + (call.outcome == "killed")
    allowed = options.undisturbed + options.in_flight + -(-options.in_flight // WORKERS)
    if results(run) != expected:
        raise SystemExit(f"round {number}: the results differ from those of one process")
    if calls > allowed or booked < calls or (run / "workers").exists():
        raise SystemExit(f"round {number}: {calls} calls at the server, {allowed} allowed, {booked} in the ledger")
    limit_text = f", limit of {options.limit:,} tokens: {spent:,}" if limited else ""
    return (
        f"round {number}: equal; {calls} calls at the server ({options.undisturbed} undisturbed, {allowed} allowed), "
        f"{booked} in the ledger ({killed} killed){limit_text}"
    )


def spread_over(options: argparse.Namespace) -> tuple[str, ...]:
    """Options of the command that ask for workers."""
    address = ("--ray-address", options.ray_address) if options.ray_address else ()
    return ("--engine", "ray", "--workers", str(WORKERS), *address)


def kills(options: argparse.Namespace, folder: Path) -> None:
    options.images = options.images[0]
    world = make_world(folder / "world", options.images, 64).parent
    for seed in range(20):  # until no image is malformed twice, which the next command would try again
        options.faults = ("--malformed", "0.03", "--seed", str(seed))
        alone = folder / f"alone{seed}"
        with simulated_server(world / "simulator.json", *options.faults) as url:  # no latency: the calls are the same
            if Command(world, url, alone, "--in-flight", str(options.in_flight)).ended() == 0:
                options.undisturbed = answered(url)
                break
    else:
        raise SystemExit("the undisturbed run failed")
    options.limit = int(0.75 * spent_in(alone).tokens)
    expected = results(alone)
    for number in range(options.rounds):
        began, run = time.monotonic(), folder / f"run{number}"
        row = one_round(number, world, run, expected, options)
        print(f"{row}; {time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}", flush=True)
        shutil.rmtree(run)


def cost(options: argparse.Namespace, folder: Path) -> None:
    for count in options.images:
        world = make_world(folder / f"world{count}", count, 512).parent
        walls, spans = [], []
        for engine in ((), spread_over(options)):
            with simulated_server(world / "simulator.json", "--latency", "0.2") as url:
                run = folder / f"run{count}-{len(engine)}"
                command = Command(world, url, run, "--in-flight", str(options.in_flight), *engine)
                if command.ended():
                    raise SystemExit(command.said())
                walls.append(time.monotonic() - command.began)
                calls = list(read_calls(run))
                spans.append(max(c.started + c.seconds for c in calls) - min(c.started for c in calls))
        print(
            f"{count} images, {len(calls)} calls, {options.in_flight} in flight, load {os.getloadavg()[0]:.1f}:\n"
            f"  whole command: {walls[0]:.1f} s alone, {walls[1]:.1f} s with ray: {walls[1] / walls[0]:.2f} x\n"
            f"  first call to last: {spans[0]:.1f} s alone, {spans[1]:.1f} s with ray: {spans[1] / spans[0]:.2f} x",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["kills", "cost"])
    parser.add_argument("--images", type=int, nargs="+")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--in-flight", type=int, default=16)
    parser.add_argument("--latency", type=float, default=0.5, help="seconds a call takes, for `kills`")
    parser.add_argument("--ray-address", help="of a cluster that runs already")
    options = parser.parse_args()
    options.images = options.images or {"kills": [400], "cost": [60, 400, 1600]}[options.what]
    with tempfile.TemporaryDirectory(prefix="spread") as folder:
        {"kills": kills, "cost": cost}[options.what](options, Path(folder))


if __name__ == "__main__":
    main()
