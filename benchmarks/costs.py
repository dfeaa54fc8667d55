"""What an image costs the client, measured, and what that makes of a large job on many machines, computed.

    python -m benchmarks.costs [--images 20] [--written 2000 --read 20000]

Measured against a simulated server in another process, on noise images of 1024x1024 with eight objects and without
cut-outs: CPU of the
client and bytes on the wire and in the run folder, and the CPU that recording and reading back a result takes. Computed
from them and from the tokens of the plan: the time of large jobs on GPU machines that each write and read so many
tokens a second, and the load on the client, the network and the process that records.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.orchestration import OBJECTS, RecordingVLM, make_world, simulated_server

from anomreason.agent.pipeline import Schedule
from anomreason.detection import detect_images, open_session
from anomreason.detector import DetectOptions, set_up
from anomreason.images import Encoded
from anomreason.planning import estimate
from anomreason.runs import RunFolder, done_in, read_results
from anomreason.sources.inputs import find_images
from anomreason.vlm.endpoint.openai import OpenAIVLM
from anomreason.vlm.ledger import Ledger, read_calls
from anomreason.vlm.protocol import VLMOptions

JOBS = ((21_539, 8), (21_539, 64), (21_539, 1000), (100_000, 10), (600_000, 64))
"""Images, and GPU machines: the paper's dataset, a night's work, and an image for each prompt of a large set."""
SCHEDULES: tuple[Schedule, ...] = ("single", "lean", "paper")


@dataclass(frozen=True)
class ImageCost:
    """Of one image under one schedule."""

    schedule: str
    calls: float
    cpu: float
    """Seconds of the client."""
    sent: float
    """Bytes of the requests."""
    kept: float
    """Bytes in the run folder."""
    recording: float
    """Seconds of CPU to append its result."""
    reading: float
    """Seconds of CPU to read its result and calls when the run is continued."""
    prompt: int
    reply: int
    """Tokens, of the plan."""


def cpu_of(work: Callable[[], object]) -> float:
    begun = time.process_time()
    work()
    return time.process_time() - begun


def measured(folder: Path, run: Path, url: str, schedule: Schedule) -> ImageCost:
    found = find_images([folder])
    images, count = found.images, len(found.images)
    vlm = RecordingVLM(OpenAIVLM("simulated", VLMOptions((url,), in_flight=64)))
    setup = set_up(vlm, DetectOptions(schedule=schedule, in_flight=64, crops="never"), ["schedule"])

    async def detect() -> float:
        with setup.open_run(run, found, [str(folder)]) as opened:
            async with open_session(setup, opened) as session:
                begun = time.process_time()
                await detect_images(images, session)
                used = time.process_time() - begun
        await vlm.close()
        return used

    cpu = asyncio.run(detect())
    results = list(read_results(run).values())
    if len(results) != count or any(result.failure for result in results):
        raise SystemExit(f"not all images were done under {schedule}")
    sent = sum(len(p.data_url) if isinstance(p, Encoded) else len(p) for r in vlm.requests for p in r.parts)
    with RunFolder(run.with_name(f"{run.name}-again"), {}, {}) as again:
        recording = cpu_of(lambda: [again.append(result) for result in results])
    plan = estimate(setup, [(1024, 1024)], 1, OBJECTS).usage
    return ImageCost(
        schedule=schedule,
        calls=len(vlm.requests) / count,
        cpu=cpu / count,
        sent=sent / count,
        kept=sum(file.stat().st_size for file in run.iterdir()) / count,
        recording=recording / count,
        reading=cpu_of(lambda: (done_in(run), Ledger(run / "calls.jsonl").close(), list(read_calls(run)))) / count,
        prompt=plan.prompt_tokens,
        reply=plan.completion_tokens,
    )


def show_measured(costs: list[ImageCost]) -> None:
    print("| schedule | tokens, planned | calls | client CPU | a call | sent | kept | recording | reading back |")
    print("|---|---|---|---|---|---|---|---|---|")
    for c in costs:
        client = f"{1e3 * c.cpu:.0f} ms | {1e3 * c.cpu / c.calls:.1f} ms | {c.sent / 1e6:.1f} MB"
        folder = f"{c.kept / 1e3:.0f} KB | {1e3 * c.recording:.2f} ms | {1e3 * c.reading:.2f} ms"
        print(f"| `{c.schedule}` | {c.prompt:,} + {c.reply:,} | {c.calls:.0f} | {client} | {folder} |")


def show_computed(costs: list[ImageCost], written: float, read: float) -> None:
    print("| schedule | images | machines | time | calls/s | client cores | network | recording, of a core |")
    print("|---|---|---|---|---|---|---|---|")
    for c in costs:
        for images, machines in JOBS:
            seconds = images * (c.reply / written + c.prompt / read) / machines
            rate = images / seconds
            print(
                f"| `{c.schedule}` | {images:,} | {machines:,} | {duration(seconds)} | {rate * c.calls:,.0f} "
                f"| {rate * c.cpu:.2g} | {8 * rate * c.sent / 1e9:.2g} Gbit/s | {100 * rate * c.recording:.2g} % |"
            )


def duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=20)
    arguments.add_argument("--written", type=float, default=2_000, help="tokens a second of one machine")
    arguments.add_argument("--read", type=float, default=20_000, help="tokens a second of one machine")
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        truth = make_world(folder, given.images)
        print(f"{given.images} images of 1024x1024; load average {os.getloadavg()[0]:.1f}")
        with simulated_server(truth, 0.0) as url:
            costs = [measured(folder, Path(name, schedule), url, schedule) for schedule in SCHEDULES]
    show_measured(costs)
    print(f"\nWhere one machine writes {given.written:,.0f} and reads {given.read:,.0f} tokens a second:")
    show_computed(costs, given.written, given.read)


if __name__ == "__main__":
    main()
