"""Uploads to `anomreason serve`, which is killed with -9: what is lost or paid twice, and how fast uploads are taken.

    python benchmarks/serve.py [--images 200] [--clients 16] [--kills 2] [--faults 0.05] [--latency 1.0]

The model is simulated behind a real server, which answers a share of the calls with an error, nonsense or a refusal.
Each client sends an image, waits for its job to end and sends the next one; what was not acknowledged is sent again.
The same images are sent twice: to a service that is left alone, and to a new one that is killed.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import numpy as np
from PIL import Image

ENVIRONMENT = {**os.environ, "PYTHONUNBUFFERED": "1"}


def make_images(folder: Path, count: int, side: int) -> list[Path]:
    """Distinct images of noise, and the simulator's truth beside them."""
    truth: dict[str, Any] = {}
    names = ("woman", "dog", "cup", "table", "lamp")
    for n in range(count):
        rng = np.random.default_rng(n)
        pixels = Image.fromarray(rng.integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8))
        pixels.resize((side, side), Image.Resampling.BICUBIC).save(folder / f"{n:04}.png")
        objects = [
            {"name": name, "description": f"A {name}.", "box": [i / 10, 0.1, i / 10 + 0.15, 0.6]}
            for i, name in enumerate(names)
        ]
        anomaly = {"name": f"Anomaly {n}", "phenomenon": "It shows.", "reasoning": "It cannot be.", "severity": 10}
        truth[f"{n:04}.png"] = {"objects": objects, "anomalies": [{**anomaly, "objects": ["dog"]}]}
    (folder / "simulator.json").write_text(json.dumps(truth))
    return [folder / name for name in truth]


@dataclass
class Command:
    """A command of anomreason that serves, in a process of its own."""

    arguments: list[str]
    pattern: str
    """Of the line that says where it serves."""
    process: subprocess.Popen[str] | None = None
    reader: threading.Thread | None = None
    """Reads on what is printed later."""

    def start(self) -> str:
        """Gives what the pattern's group finds."""
        command = [sys.executable, "-m", "anomreason", *self.arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if match := re.search(self.pattern, line):
                self.reader = threading.Thread(target=self.process.stdout.read)
                self.reader.start()
                return match[1]
        raise SystemExit(f"{self.arguments[0]} did not start")

    def end(self, how: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(how)
        self.process.wait()
        assert self.reader is not None
        assert self.process.stdout is not None
        self.reader.join()
        self.process.stdout.close()


@dataclass
class Sent:
    """What the clients saw."""

    accepted: list[float] = field(default_factory=list)
    """Seconds of each upload until it was acknowledged."""
    answered: list[float] = field(default_factory=list)
    """Seconds of each `GET /healthz`, sent before each upload: what this machine needs for any answer."""
    jobs: dict[str, str] = field(default_factory=dict)
    """Acknowledged jobs and their images."""
    ended: dict[str, dict[str, Any]] = field(default_factory=dict)


class Sender(threading.Thread):
    """One client."""

    def __init__(self, at: str, images: list[Path], seen: Sent) -> None:
        super().__init__()
        self.at, self.images, self.seen = at, images, seen

    def run(self) -> None:
        with httpx2.Client(base_url=self.at, timeout=90) as client:
            for image in self.images:
                data = image.read_bytes()
                job = self.ask(lambda: self.send(client, image.name, data))  # noqa: B023
                self.seen.jobs[job["id"]] = image.name
                while job["state"] not in ("done", "failed"):
                    job = self.ask(lambda: client.get(f"/v1/jobs/{job['id']}?wait=30"))  # noqa: B023
                self.seen.ended[job["id"]] = job

    def send(self, client: httpx2.Client, name: str, data: bytes) -> httpx2.Response:
        request = client.build_request("POST", "/v1/detect", files={"image": (name, data)})
        request.read()  # the form is made before, as that is the client's time
        begun = time.perf_counter()
        client.get("/healthz")
        between = time.perf_counter()
        answer = client.send(request)
        self.seen.accepted.append(time.perf_counter() - between)
        self.seen.answered.append(between - begun)
        return answer

    def ask(self, send: Any) -> Any:
        """The answer, however often the service is down."""
        while True:
            try:
                answer = send()
            except httpx2.TransportError:
                time.sleep(0.05)
                continue
            if answer.status_code == 503:
                time.sleep(0.5)
                continue
            assert answer.status_code in (200, 202), answer.text
            return answer.json()


def run(jobs: Path, images: list[Path], model_at: str, clients: int, kills: int, port: int = 0) -> tuple[Sent, int]:
    """Send all images to a service of its own, which is killed so often; and the calls that were in flight then."""
    arguments = ["serve", "--model", "simulated", "--base-url", model_at, "--jobs", str(jobs), "--no-browser"]
    service = Command(
        [*arguments, "--max-tokens", "1000000000", "--port", str(port)], r"(http://127\.0\.0\.1:\d+) is the"
    )
    seen, in_flight = Sent(), 0
    at = service.start()
    service.arguments[-1] = at.rpartition(":")[2]
    senders = [Sender(at, images[n::clients], seen) for n in range(clients)]
    for sender in senders:
        sender.start()
    for kill in range(kills):
        while len(seen.ended) < len(images) * (kill + 1) // (kills + 1):
            time.sleep(0.01)
        service.end(signal.SIGKILL)
        time.sleep(0.5)  # those on their way arrive
        in_flight = requests(model_at) - calls_recorded(jobs)
        service.start()
    for sender in senders:
        sender.join()
    service.end(signal.SIGTERM)
    return seen, in_flight


def requests(model_at: str) -> int:
    """All requests that the model's server has seen."""
    return int(httpx2.get(model_at.replace("/v1", "/stats")).json()["requests"])


def calls_recorded(jobs: Path) -> int:
    return sum(1 for line in (jobs / "calls.jsonl").read_text().splitlines() if '"killed"' not in line)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--faults", type=float, default=0.05)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--side", type=int, default=1024)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as base:
        images = make_images(Path(base), arguments.images, arguments.side)
        each = str(arguments.faults / 5)
        faults = [f"--{name}={each}" for name in ("malformed", "truncated", "refused", "rate-limited", "server-errors")]
        truth = str(Path(base) / "simulator.json")
        undisturbed = 0
        for kills in sorted({0, arguments.kills}):
            simulator = Command(
                ["simulate", truth, "--port", "0", f"--latency={arguments.latency}", *faults], r"at (http://\S+/v1)"
            )
            model_at = simulator.start()
            try:
                begun, jobs = time.perf_counter(), Path(base) / f"jobs-{kills}"
                seen, in_flight = run(jobs, images, model_at, arguments.clients, kills)
                print(f"killed {kills} times:" if kills else "left alone:")
                tell(seen, jobs, requests(model_at), time.perf_counter() - begun)
                if kills:
                    more = requests(model_at) - undisturbed
                    print(f"  {more:+} calls than undisturbed; {in_flight} were in flight when it was killed")
                undisturbed = requests(model_at)
            finally:
                simulator.end(signal.SIGTERM)


def tell(seen: Sent, jobs: Path, calls: int, seconds: float) -> None:
    how = Counter(job["failure"]["kind"] if job["failure"] else "done" for job in seen.ended.values())
    lost = len(set(seen.jobs) - set(seen.ended))
    images = len(set(seen.jobs.values()))
    print(f"  {len(seen.jobs)} jobs of {images} images acknowledged, {lost} lost; ended: {dict(how.most_common())}")
    print(f"  {calls} calls at the model's server, {paid_twice(jobs)} good answers paid twice, {seconds:.0f} s")
    for name, times in (("upload acknowledged", seen.accepted), ("healthz answered", seen.answered)):
        p50, p95, p99 = (1000 * float(np.percentile(times, q)) for q in (50, 95, 99))
        print(f"  {name:20} p50 {p50:5.1f} ms, p95 {p95:5.1f} ms, p99 {p99:5.1f} ms")


def paid_twice(jobs: Path) -> int:
    """Good answers to a request that had one already."""
    good: Counter[str] = Counter()
    for line in (jobs / "calls.jsonl").read_text().splitlines():
        call = json.loads(line)
        if call["outcome"] == "ok":
            good[call["key"].partition("-")[0]] += 1  # the same request again has a number behind its key
    return sum(count - 1 for count in good.values())


if __name__ == "__main__":
    main()
