"""Memory over a run of 20,000 images, and how long resuming a finished run takes.

    python benchmarks/scale.py [--images 20000] [--schedule lean]

Small distinct images, with the simulator in the detecting process. Printed: resident memory of that process during the
run, and the wall time of the same command when nothing is left to do.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image


def make_world(folder: Path, count: int) -> Path:
    truth = {}
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((64, 64), Image.Resampling.NEAREST).save(folder / f"{n:05}.png")
        found = {
            "name": f"Error of picture {n}",
            "phenomenon": "It shows in the middle of the cup, plainly and at its full width.",
            "reasoning": "It cannot be so because nothing carries it and nothing could have put it there.",
            "severity": 10,
            "objects": ["cup"],
        }
        objects = [{"name": "cup", "description": "A cup.", "box": [0.2, 0.2, 0.6, 0.6]}]
        truth[f"{n:05}.png"] = {"objects": objects, "anomalies": [found] if n % 3 else []}
    file = folder / "simulator.json"
    file.write_text(json.dumps(truth))
    return file


def resident(pid: int) -> float:
    """Megabytes."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def lines(file: Path, state: list[int]) -> int:
    """Lines so far, reading only what is new; `state` is [bytes read, lines]."""
    if file.exists():
        with file.open("rb") as f:
            f.seek(state[0])
            new = f.read()
        state[0] += len(new)
        state[1] += new.count(b"\n")
    return state[1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=20_000)
    arguments.add_argument("--schedule", default="lean")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder, run = Path(name, "pictures"), Path(name, "run")
        folder.mkdir()
        truth = make_world(folder, given.images)
        command = [sys.executable, "-m", "anomreason", "detect", str(folder), "--model", f"sim:{truth}"]
        command += ["--schedule", given.schedule, "--run", str(run)]
        begun = time.perf_counter()
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        marks = [given.images * tenth // 10 for tenth in range(1, 11)]
        peak, state, seen = 0.0, [0, 0], list[tuple[int, float]]()
        while process.poll() is None:
            try:
                now = resident(process.pid)
            except FileNotFoundError:
                break
            peak = max(peak, now)
            done = lines(run / "results.jsonl", state)
            while marks and done >= marks[0]:
                seen.append((marks.pop(0), now))
            time.sleep(0.2)
        took = time.perf_counter() - begun
        print(f"{given.images} images, schedule {given.schedule}: {took:.0f} s, exit {process.wait()}")
        print("resident memory, MB: " + ", ".join(f"{mb:.0f} at {n}" for n, mb in seen))
        print(f"peak {peak:.0f} MB (bar: 400)")
        begun = time.perf_counter()
        again = subprocess.run(command, capture_output=True, text=True)
        print(f"resuming when finished: {time.perf_counter() - begun:.1f} s, exit {again.returncode} (bar: 10 s)")
        print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
