"""Time and CPU that the orchestration adds to the model's own latency.

    python benchmarks/orchestration.py [--images 60] [--latency 0.2] [--in-flight 64]

A simulated server in another process answers each call after a fixed latency. The `paper` schedule runs on noise images
of 1024x1024 (300 KB and more as sent). Printed: wall time against calls x latency / calls in flight, and client CPU per
call against a bare loop of the official SDK that sends the same bodies over the same transport.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from openai import AsyncOpenAI, DefaultAioHttpClient
from PIL import Image

from anomreason.detection import detect_images, open_session
from anomreason.detector import DetectOptions, set_up
from anomreason.images import Encoded
from anomreason.sources.inputs import find_images
from anomreason.vlm.endpoint.chat import endpoint_schema
from anomreason.vlm.endpoint.openai import OpenAIVLM
from anomreason.vlm.protocol import Reply, Request, VLMOptions

OBJECTS = 8


class RecordingVLM:
    """The real client; keeps its requests, so that the bare loop can send the same."""

    bounds_pixels = False

    def __init__(self, inner: OpenAIVLM) -> None:
        self.inner, self.name, self.requests = inner, inner.name, list[Request]()

    async def ask(self, request: Request) -> Reply:
        self.requests.append(request)
        return await self.inner.ask(request)

    async def close(self) -> None:
        await self.inner.close()


def make_world(folder: Path, count: int) -> Path:
    """Noise images of 1024x1024 with eight objects and five anomalies each."""
    truth = {}
    for n in range(count):
        pixels = np.random.default_rng(n).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{n:03}.jpg", quality=35)
        objects = [
            {"name": f"thing {i}", "description": "A thing. " * 12, "box": [i / 10, 0.1, i / 10 + 0.2, 0.7]}
            for i in range(OBJECTS)
        ]
        anomalies = [
            {
                "name": f"Error {i} of picture {n}",
                "phenomenon": "It shows in the middle of the thing, plainly and at its full width. " * 3,
                "reasoning": "It cannot be so because nothing carries it and nothing could have put it there. " * 3,
                "severity": 10 + i,
                "objects": [f"thing {i}"],
            }
            for i in range(5)
        ]
        truth[f"{n:03}.jpg"] = {"objects": objects, "anomalies": anomalies}
    file = folder / "simulator.json"
    file.write_text(json.dumps(truth))
    return file


@contextmanager
def simulated_server(truth: Path, latency: float) -> Iterator[str]:
    command = [sys.executable, "-m", "anomreason", "simulate", str(truth), "--port", "0", "--latency", str(latency)]
    environment = {**os.environ, "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None
    try:
        match = re.search(r"http://[^\s/]+", process.stdout.readline())
        if match is None:
            raise SystemExit("the simulated server did not start")
        yield f"{match[0]}/v1"
    finally:
        process.terminate()
        process.wait()


async def orchestrated(folder: Path, run: Path, url: str, in_flight: int) -> tuple[list[Request], float, float]:
    """The requests sent, wall seconds, CPU seconds."""
    options = DetectOptions(schedule="paper", in_flight=in_flight)
    found = find_images([folder])
    images = found.images
    vlm = RecordingVLM(OpenAIVLM("simulated", VLMOptions((url,), in_flight=in_flight)))
    setup = set_up(vlm, options, ["schedule"])
    with setup.open_run(run, found, [str(folder)]) as opened:
        async with open_session(setup, opened) as session:
            wall, cpu = time.perf_counter(), time.process_time()
            failed: list[str] = []
            await detect_images(images, session, lambda d: failed.append(d.image) if d.failure else None)
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    await vlm.close()
    if failed:
        raise SystemExit(f"{len(failed)} images failed")
    return vlm.requests, wall, cpu


def body(request: Request) -> dict[str, Any]:
    """What a plain user of the SDK would send for the same request."""
    content: list[dict[str, Any]] = [
        {"type": "image_url", "image_url": {"url": p.data_url}}
        if isinstance(p, Encoded)
        else {"type": "text", "text": p}
        for p in request.parts
    ]
    sent: dict[str, Any] = {
        "model": "simulated",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": request.sampling.max_tokens,
        "temperature": request.sampling.temperature,
        "extra_headers": {"X-Anomreason-Role": request.tag.role, "X-Anomreason-Step": request.tag.step}
        | ({"X-Anomreason-Object": request.tag.object.replace(" ", "%20")} if request.tag.object else {}),
    }
    if request.schema:
        schema = {"name": request.tag.step, "strict": True, "schema": endpoint_schema(request.schema)}
        sent["response_format"] = {"type": "json_schema", "json_schema": schema}
    return sent


async def bare(requests: list[Request], url: str, in_flight: int) -> tuple[float, float]:
    """Wall and CPU seconds of a plain loop over the same requests."""
    slots = asyncio.Semaphore(in_flight)
    bodies = [body(r) for r in requests]
    async with AsyncOpenAI(api_key="none", base_url=url, max_retries=0, http_client=DefaultAioHttpClient()) as client:

        async def one(sent: dict[str, Any]) -> None:
            async with slots:
                answer = await client.chat.completions.create(**sent)
                if not answer.choices[0].message.content:
                    raise SystemExit("an empty answer")

        wall, cpu = time.perf_counter(), time.process_time()
        await asyncio.gather(*(one(b) for b in bodies))
        return time.perf_counter() - wall, time.process_time() - cpu


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--images", type=int, default=60)
    arguments.add_argument("--latency", type=float, default=0.2)
    arguments.add_argument("--in-flight", type=int, default=64)
    arguments.add_argument("--rounds", type=int, default=3)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name, "images")
        folder.mkdir()
        truth = make_world(folder, given.images)
        sizes = [p.stat().st_size for p in folder.glob("*.jpg")]
        kilobytes = f"{min(sizes) // 1000}-{max(sizes) // 1000} KB"
        print(f"{given.images} images of 1024x1024, {kilobytes}; load average {os.getloadavg()[0]:.1f}")
        walls, ratios = [], []
        with simulated_server(truth, given.latency) as url:
            for n in range(given.rounds):
                requests, wall, cpu = asyncio.run(orchestrated(folder, Path(name, f"run{n}"), url, given.in_flight))
                bare_wall, bare_cpu = asyncio.run(bare(requests, url, given.in_flight))
                ideal = len(requests) * given.latency / given.in_flight
                walls.append(wall / ideal)
                ratios.append(cpu / bare_cpu)
                print(
                    f"{len(requests)} calls, {given.in_flight} in flight: {wall:.1f} s, {wall / ideal:.2f} x the ideal "
                    f"{ideal:.1f} s; {1e3 * cpu / len(requests):.2f} ms CPU per call | "
                    f"bare SDK loop: {bare_wall:.1f} s, "
                    f"{1e3 * bare_cpu / len(requests):.2f} ms CPU per call"
                )
        print(f"wall / ideal, median: {statistics.median(walls):.2f} (bar: 1.15)")
        print(f"client CPU per call / bare SDK loop, median: {statistics.median(ratios):.2f} (bar: 1.3)")


if __name__ == "__main__":
    main()
