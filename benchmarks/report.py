"""Claim: the report of 1,000 images is built in under 20 seconds, and again in much less.

Makes a run folder with 1024x1024 JPEG pictures, a few anomalies and four calls an image, then builds its report twice.

    python benchmarks/report.py --images 1000
"""

import argparse
import io
import json
import os
import random
import resource
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from anomreason.anomaly import Anomaly, Candidate, Detection, Region, SceneObject, Usage
from anomreason.images import Encoded, load_image
from anomreason.report.html import build_report
from anomreason.vlm.cache import ReplyStore
from anomreason.vlm.ledger import Call, Ledger
from anomreason.vlm.protocol import Reply, Request, Tag

COMMON = "Say what in this picture cannot be so; people first, then what they hold, then the rest of the scene.\n" * 50
STEPS = (
    ("ObjectPerceiver", "objects"),
    ("AttributeAnalyzer", "inspect-1"),
    ("AttributeAnalyzer", "inspect-2"),
    ("AnomalyFormatter", "look-again"),
)


def jpegs(count: int, side: int) -> list[bytes]:
    """Photograph-like pictures: smooth shapes under fine noise."""
    made = []
    for seed in range(count):
        rng = np.random.default_rng(seed)
        coarse = Image.fromarray(rng.integers(0, 255, (16, 16, 3), dtype=np.uint8)).resize((side, side))
        noise = rng.normal(0, 12, (side, side, 1))
        pixels = np.clip(np.asarray(coarse, dtype=np.float64) + noise, 0, 255).astype(np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=85)
        made.append(buffer.getvalue())
    return made


def anomaly(rng: random.Random) -> Anomaly:
    x, y = rng.uniform(0, 0.7), rng.uniform(0, 0.7)
    return Anomaly(
        name=f"Object {rng.randrange(1000)} is where it cannot be",
        phenomenon="It hangs in the air beside the table, and nothing that is seen carries it or could. " * 2,
        reasoning="Things without support fall; no string, hand or shelf is in the picture. " * 3,
        severity=rng.randrange(101),
        objects=("table", "cup"),
        region=Region(x0=x, y0=y, x1=x + 0.2, y1=y + 0.3),
    )


def detection(path: Path, rng: random.Random) -> Detection:
    picture, status = load_image(path), path.stat()
    dropped = Candidate(
        name="Blur",
        phenomenon="The wall is soft.",
        reasoning="It is not.",
        role="AttributeAnalyzer",
        step="inspect-1",
        score=9,
        dropped="depth of field",
    )
    return Detection(
        image=path.name,
        sha256=picture.sha256,
        detector="benchmark lean",
        status="ok",
        anomalies=tuple(anomaly(rng) for _ in range(rng.randrange(6))),
        candidates=(dropped,) * 4,
        objects=tuple(SceneObject(name=f"object {n}", description="Stands in the middle.") for n in range(8)),
        sent=picture.sent,
        usage=Usage(calls=4, prompt_tokens=9000, completion_tokens=2000),
        file_size=status.st_size,
        file_mtime=status.st_mtime_ns,
    )


def make_run(folder: Path, images: int, side: int) -> Path:
    """A run folder as `detect` leaves it."""
    run, pictures = folder / "run", folder / "pictures"
    run.mkdir()
    pictures.mkdir()
    rng, bodies = random.Random(0), jpegs(20, side)
    store, ledger = ReplyStore(run / "responses.sqlite"), Ledger(run / "calls.jsonl")
    shown = Encoded(b"", "image/jpeg", side, side)
    with (run / "results.jsonl").open("w") as results:
        for number in range(images):
            path = pictures / f"{number:06}.jpg"
            path.write_bytes(bodies[number % len(bodies)] + number.to_bytes(4, "big"))  # other bytes, so another hash
            found = detection(path, rng)
            results.write(found.json_line() + "\n")
            for place, (role, step) in enumerate(STEPS):
                request = Request(
                    (COMMON, shown, f"{step} of {path.name}: " + "object, " * 50), Tag(path.name, role, step)
                )
                reply = Reply(found.model_dump_json(), "stop", Usage(calls=1), "benchmark")
                key = store.put(request, reply, model="benchmark", request=f"{number} {step}", then="good")
                start = 1e9 + number + 3.0 * place
                ledger.record(
                    Call(path.name, role, step, None, 0, 1, "ok", "benchmark", 2250, 1024, 500, None, 2.5, start, key)
                )
    store.close()
    ledger.close()
    (run / "run.json").write_text(json.dumps({"settings": {"model": "benchmark"}, "root": str(pictures)}))
    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--side", type=int, default=1024, help="pixels a side of the pictures")
    parser.add_argument("--keep", type=Path, help="an empty folder to keep the run in")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        run = make_run(given.keep or Path(temporary), given.images, given.side)
        for what in ("first build", "built again"):
            start, busy = time.perf_counter(), time.process_time()
            gallery = build_report(run)
            print(f"{what}: {time.perf_counter() - start:.1f} s ({time.process_time() - busy:.1f} s of CPU)")
        beside = sum(p.stat().st_size for p in (run / "report").rglob("*") if p.is_file())
        print(f"{given.images} images, {given.side} pixels a side, {os.cpu_count()} cores")
        print(f"gallery {gallery.stat().st_size / 1e6:.1f} MB, report folder {beside / 1e6:.0f} MB")
    print(f"peak memory {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")


if __name__ == "__main__":
    main()
