"""Memory of a detection in which files and a server are hostile, and what becomes of the good images.

    python benchmarks/hostile.py [--good 40] [--bombs 96]

A folder holds small files that declare huge images, beside good images. The server sends good answers until 32 calls
are in flight; then that many bombs (1 MB of gzip that inflates to 1 GB, or 30 MB of JSON); then good answers again.
Printed: the peak memory of `anomreason detect` with its default options and of the processes that it starts, and the
outcomes. It fails when the peak is over the bar or a good image has no result.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import io
import json
import os
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np
from aiohttp import web
from aiohttp.typedefs import Handler
from PIL import Image

from anomreason.runs import read_results
from anomreason.vlm.simulator.model import Simulator
from anomreason.vlm.simulator.server import make_app

BAR = 2_500
"""MB, of all processes together."""
SIDE = 9459
"""Just under the bound on pixels: such an image is decoded."""
IN_FLIGHT = 32


def declared(side: int) -> bytes:
    """A WebP of one colour, which needs no data for its pixels, with a header that declares a square of `side`."""
    out = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 200, 30)).save(out, "WEBP", lossless=True)
    data = bytearray(out.getvalue())
    place = data.index(b"VP8L") + 9  # after length and signature: 14 bits of width - 1, 14 of height - 1
    packed = int.from_bytes(data[place : place + 4], "little") >> 28 << 28 | (side - 1) << 14 | (side - 1)
    data[place : place + 4] = packed.to_bytes(4, "little")
    return bytes(data)


def many_scans(scans: int) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", (4000, 4000), (10, 200, 30)).save(out, "JPEG", progressive=True)
    data = out.getvalue()
    return data[:-2] + scans * data[data.rfind(b"\xff\xda") : -2] + data[-2:]


def make_world(folder: Path, good: int) -> Path:
    """The images in `folder`, and the simulator's file with those that can be decoded, large ones as small copies."""
    known, images = folder / "known", folder / "images"
    known.mkdir()
    images.mkdir()
    for n in range(6):
        (images / f"declared-{n}.webp").write_bytes(declared(16_383))
    (images / "scans.jpg").write_bytes(many_scans(2000))
    for n in range(5):
        mode, ground, bar = ("RGB", (10, 200, 30), (200, 0, 60)) if n < 3 else ("F", 0.1, 0.9)
        for path, side in ((images / f"large-{n}.{'webp' if n < 3 else 'tiff'}", SIDE), (known / f"{n}.tiff", 512)):
            image = Image.new(mode, (side, side), ground)
            image.paste(bar, (0, 0, side, (n + 1) * side // 8))
            image.save(path, compression="tiff_deflate", lossless=True, method=0)
    for n in range(good):
        pixels = np.random.default_rng(n).integers(0, 256, (16, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((1024, 1024), Image.Resampling.BICUBIC).save(images / f"good-{n:02}.jpg")
    cup = {"name": "cup", "description": "A cup.", "box": [0.2, 0.2, 0.6, 0.6]}
    anomaly = {"name": "Floating cup", "phenomenon": "The cup floats.", "reasoning": "Nothing holds it."}
    truth = {"objects": [cup], "anomalies": [{**anomaly, "severity": 5, "objects": ["cup"]}]}
    shown = [*known.iterdir(), *images.glob("good-*")]
    (folder / "truth.json").write_text(json.dumps({str(path.relative_to(folder)): truth for path in shown}))
    return folder / "truth.json"


def add_bombs(app: web.Application, bombs: int) -> Counter[str]:
    """Let the server send bombs as soon as IN_FLIGHT calls wait for it; gives the counts of what it sends."""
    sent, waiting, full = Counter[str](), 0, asyncio.Event()
    packed = gzip.compress(b" " * 2**30)
    long = json.dumps({"choices": [{"message": {"content": "x" * 30_000_000}, "finish_reason": "stop"}]}).encode()

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        nonlocal waiting
        waiting += 1
        if waiting >= IN_FLIGHT:
            full.set()
        await asyncio.wait([asyncio.ensure_future(full.wait())], timeout=1)  # as slow as a model
        waiting -= 1
        if not full.is_set() or sent["gzip"] + sent["JSON"] >= bombs:
            sent["good"] += 1
            return await handler(request)
        if sent["gzip"] <= sent["JSON"]:
            sent["gzip"] += 1
            return web.Response(body=packed, headers={"Content-Encoding": "gzip"})
        sent["JSON"] += 1
        return web.Response(body=long, content_type="application/json")

    app.middlewares.append(middleware)
    return sent


def resident(pid: int) -> tuple[float, float]:
    """MB of a process, and of all that it has started."""
    try:
        own = int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGESIZE") / 1e6
        children = [int(c) for f in Path(f"/proc/{pid}/task").glob("*/children") for c in f.read_text().split()]
    except (FileNotFoundError, ProcessLookupError):  # it has just ended
        return 0.0, 0.0
    return own, sum(sum(resident(child)) for child in children)


async def detect(folder: Path, truth: Path, bombs: int) -> float:
    """Run the command and print what it took and what the server sent; gives the peak of all memory, MB."""
    app = make_app(Simulator.from_file(truth))
    sent = add_bombs(app, bombs)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    url = f"http://127.0.0.1:{runner.addresses[0][1]}/v1"
    command = [sys.executable, "-m", "anomreason", "detect", str(folder / "images"), "--model", "hostile"]
    command += ["--base-url", url, "--run", str(folder / "run"), "--yes", "--json"]
    begun = time.perf_counter()
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
    together = parent = started = 0.0
    while process.returncode is None:
        now = await asyncio.to_thread(resident, process.pid)
        together, parent, started = max(together, sum(now)), max(parent, now[0]), max(started, now[1])
        await asyncio.sleep(0.01)
    print(f"detect: {time.perf_counter() - begun:.0f} s, exit {process.returncode}; load {os.getloadavg()[0]:.1f}")
    print("answers: " + ", ".join(f"{count} {kind}" for kind, count in sent.items()))
    print(f"peak memory: {together:,.0f} MB (bar: {BAR:,}); detect {parent:,.0f}, processes it starts {started:,.0f}")
    await runner.cleanup()
    return together


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--good", type=int, default=40)
    arguments.add_argument("--bombs", type=int, default=96)
    given = arguments.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        peak = asyncio.run(detect(folder, make_world(folder, given.good), given.bombs))
        outcomes = Counter[tuple[str, str]]()
        for detection in read_results(folder / "run").values():
            kind = detection.image.partition("-")[0].partition(".")[0]
            outcomes[kind, detection.failure.kind if detection.failure else detection.status] += 1
        print("images: " + ", ".join(f"{n} {kind} {what}" for (kind, what), n in sorted(outcomes.items())))
        if outcomes["good", "ok"] < given.good or peak > BAR:
            raise SystemExit("the bar is not met")


if __name__ == "__main__":
    main()
