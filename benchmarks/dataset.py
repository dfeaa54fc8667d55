"""Claims about datasets in work, each measured by one function.

python benchmarks/dataset.py collect --images 20000
python benchmarks/dataset.py store --images 21533
python benchmarks/dataset.py near_duplicates --images 100000
python benchmarks/dataset.py filter --images 20000
python benchmarks/dataset.py workers --images 2000
python benchmarks/dataset.py counts --images 21533
python benchmarks/dataset.py export --images 2000
"""

from __future__ import annotations

import argparse
import hashlib
import io
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from anomreason.dataset.store import Store


def peak() -> str:
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB at most"


def collect(images: int) -> None:
    """Claim: 20,000 images and 600,000 prompts are collected in 15 minutes and 500 MB, flat; again within a minute.

    30 prompts for each image. Images of 1024x1024, nine of ten JPEG, the others PNG, each with bytes of its own.
    """
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        prompts = base / "prompts.jsonl"
        _make_prompts(prompts, 30 * images)
        _make_images(base / "images", images)
        command = [sys.executable, "-m", "anomreason", "dataset", "collect", str(base / "data"), str(base / "images")]
        for what in ("first", "again"):
            took = _watched([*command, "--prompts", str(prompts)])
            print(f"{images:,} images and {30 * images:,} prompts, {what}: {took}")
        print(f"the store: {(base / 'data' / 'dataset.sqlite').stat().st_size / 1e6:.0f} MB")


def _watched(command: list[str]) -> str:
    """Time, CPU and memory of a command that must succeed."""
    seen, start = [], time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while process.poll() is None:
        with suppress(OSError):
            pages = int(Path(f"/proc/{process.pid}/statm").read_text().split()[1])
            seen.append(pages * resource.getpagesize() / 2**20)
        time.sleep(0.1)
    took, used = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        sys.exit(f"{' '.join(command)} ended with {process.returncode}")
    cpu = used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime
    tenths = "/".join(f"{seen[len(seen) * n // 10]:.0f}" for n in (1, 5, 9))
    return f"{took:.0f} s, {cpu:.0f} s of CPU; {tenths} MB at a tenth, half, nine tenths, {max(seen):.0f} at most"


def _make_prompts(file: Path, count: int) -> None:
    """Prompts of about 60 to 200 characters, all different."""
    rng = np.random.default_rng(0)
    words = ["".join(chr(97 + c) for c in rng.integers(0, 26, n)) for n in rng.integers(3, 11, 3000)]
    with file.open("w") as out:
        for n in range(count):
            text = " ".join(words[i] for i in rng.integers(0, 3000, rng.integers(9, 28)))
            out.write(json.dumps({"prompt": f"{text} {n}", "group": f"user {n // 4}"}) + "\n")


def _make_images(folder: Path, count: int, side: int = 1024) -> None:
    """Decoding costs what it costs for photographs; a number in each file makes its bytes its own."""
    from PIL import Image

    rng = np.random.default_rng(1)
    coarse = Image.fromarray(rng.integers(0, 256, (48, 48, 3), dtype=np.uint8)).resize((side, side))
    pixels = np.asarray(coarse, dtype=int) + rng.normal(0, 6, (side, side, 3))
    image, png, jpeg = Image.fromarray(pixels.clip(0, 255).astype(np.uint8)), io.BytesIO(), io.BytesIO()
    image.save(png, "PNG")
    image.save(jpeg, "JPEG", quality=85, comment=b"number 000000")
    for n in range(count):
        file = folder / f"{n // 1000:03}" / f"{n:06}"
        file.parent.mkdir(parents=True, exist_ok=True)
        if n % 10:
            file.with_suffix(".jpg").write_bytes(jpeg.getvalue().replace(b"number 000000", b"number %06d" % n))
        else:
            file.with_suffix(".png").write_bytes(png.getvalue() + b"%06d" % n)


def store(images: int) -> None:
    """Claim: whatever `list` shows takes less than 200 ms at the paper's size.

    8 candidates an image and a verdict each; a file, a decision and a generation for each image. The best of three.
    """
    from anomreason.dataset.listing import STEPS, ListQuery, listing, size
    from anomreason.dataset.store import add_new, decide, open_store
    from anomreason.dataset.tables import FileRow, GenerationRow, ImageRow

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from sqlalchemy import select
    from tests.dataset.planting import Plan, plant

    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "data", create=True) as opened:
        start = time.perf_counter()
        plant(opened, Plan({"flux": images}, prompts=images, candidates=8, verdicts=True))
        print(f"{images:,} images, {8 * images:,} candidates and verdicts stored: {time.perf_counter() - start:.0f} s")
        with opened.writing() as session:
            rows = session.execute(select(ImageRow.id, ImageRow.path, ImageRow.prompt_id)).all()
            by = {"command_id": 1}
            files = [
                {"path": path, "image_id": i, "source_id": 1, "status": "collected", "reason": None, **by}
                for i, path, _ in rows
            ]
            bad = {"source_id": 1, "image_id": None, "status": "unreadable", "reason": "damaged", **by}
            add_new(session, FileRow, [*files, *({"path": f"bad/{n}.png", **bad} for n in range(images // 20))])
            shared = {"filter": "blurry", "score": 0.5, "message": "edges", **by}
            decide(
                session,
                [{"image_id": i, "keep": i % 5 > 0, "reason": None if i % 5 else "blurry", **shared} for i, *_ in rows],
            )
            made = {"generator": "flux", "seed": 0, **by}
            states = ("done", "done", "done", "refused", "failed")
            add_new(session, GenerationRow, [{"prompt_id": p, "status": states[i % 5], **made} for i, _, p in rows])
        queries = {"list": ListQuery(), "list --limit 0": ListQuery(limit=0), "list --source": ListQuery(source="flux")}
        queries |= {f"list --step {step}": ListQuery(step=step, limit=100) for step in STEPS}
        queries |= {
            f"list --status {status}": ListQuery(status=status) for status in ("dropped", "unreadable", "failed")
        }
        queries["list --reason blurry"] = ListQuery(reason="blurry")
        works = {"size": lambda: size(opened)} | {
            name: partial(listing, opened, query) for name, query in queries.items()
        }
        for name, work in works.items():
            took = min(_wall_and_cpu(work) for _ in range(3))
            print(f"{name}: {1000 * took[0]:.0f} ms, {1000 * took[1]:.0f} of CPU")


def _wall_and_cpu(work: Callable[[], object]) -> tuple[float, float]:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - wall, time.process_time() - cpu


def near_duplicates(images: int) -> None:
    """Claim: near-duplicates among 100,000 hashes, and among 100,000 embeddings of 512, are found in 60 s each.

    One image in a hundred is a copy of an earlier one: 6 bits of its hash differ, its thumbnail is noisier, its
    embedding is turned by about 11 degrees. Every planted pair must be found and no other.
    """
    from anomreason.dataset.filter.duplicates import Reach, cluster_embeddings, cluster_hashes

    rng = np.random.default_rng(0)
    copies = images // 100
    originals = np.arange(copies)
    planted = np.full(images, -1)
    planted[images - copies :] = originals
    alone, rank = np.full(images, -1), np.arange(images)

    hashes = rng.integers(0, 2**64, images, np.uint64)
    bits = np.array(
        [np.bitwise_or.reduce(np.uint64(1) << rng.choice(64, 6, False).astype(np.uint64)) for _ in originals]
    )
    hashes[images - copies :] = hashes[:copies] ^ bits
    thumbs = rng.integers(0, 256, (images, 768), np.uint8)
    thumbs[images - copies :] = np.clip(thumbs[:copies] + rng.normal(0, 10, (copies, 768)), 0, 255)
    start, cpu = time.perf_counter(), time.process_time()
    found = cluster_hashes(hashes, thumbs, Reach(12, 0.965), rank, alone).leader
    report("hashes", found, planted, time.perf_counter() - start, time.process_time() - cpu)

    # 40 directions hold most of the variance, and all vectors point to one side, as those of CLIP do.
    scales = np.concatenate([np.full(40, 3.0), np.full(472, 0.5)]).astype(np.float32)
    vectors = rng.standard_normal((images, 512), np.float32) * scales
    vectors[:, 0] += 15
    noise = rng.standard_normal((copies, 512), np.float32) * scales * 0.2
    vectors[images - copies :] = vectors[:copies] + noise
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    start, cpu = time.perf_counter(), time.process_time()
    found = cluster_embeddings(vectors, 0.95, rank, alone).leader
    report("embeddings of 512", found, planted, time.perf_counter() - start, time.process_time() - cpu)


def filter_again(images: int) -> None:
    """Claim: other thresholds decide anew from stored measures, without opening an image; memory stays flat.

    The store holds so many images and their measures, but no file. Then the time for a real image of 1024x1024.
    """
    from PIL import Image

    from anomreason.dataset.filter.filtering import filter_images
    from anomreason.dataset.filter.measuring import PIXELS, CollectedFile, ImageMeasurer, Measuring
    from anomreason.dataset.filter.pixels import measure
    from anomreason.dataset.filter.pixels import record as pixel_record
    from anomreason.dataset.filter.pool import load_pool
    from anomreason.dataset.filter.rules import RULES, Rules
    from anomreason.dataset.store import add_new, open_store
    from anomreason.dataset.tables import ImageRow, SourceRow

    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (128, 128, 3), np.uint8)).resize((1024, 1024))
    record = measure(image).model_dump()

    class ReadyWorkers:
        """Workers that have measured everything before they are asked."""

        def map(
            self, _: object, batches: Iterable[Sequence[CollectedFile]], lost: object
        ) -> Iterator[tuple[Sequence[CollectedFile], list[Any], str]]:
            for files in batches:
                light = rng.uniform(0.25, 1, len(files)).tolist()
                own = ({"phash": rng.bytes(8).hex(), "pixels": rng.bytes(16).hex()} for _ in files)
                yield files, [{**record, "brightness_99": b, **o} for b, o in zip(light, own, strict=True)], "here"

    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "data", create=True) as store:
        with store.command("plant", {}) as command, store.writing() as session:
            by = {"command_id": command.id}
            add_new(session, SourceRow, [{"name": "planted", "kind": "ai", **by}])
            shape = {"source_id": 1, "width": 1024, "height": 1024, "format": "PNG", "bytes": 1, "facts": {}, **by}
            for start in range(0, images, 500):
                numbers = range(start + 1, min(start + 500, images) + 1)
                names = [
                    {"id": n, "sha256": f"{n:064x}", "path": f"{n}.png", "name": f"{n}.png", **shape} for n in numbers
                ]
                add_new(session, ImageRow, names)
        with store.command("measure", {}) as command:
            with store.reading() as session:
                pool = load_pool(session, [])
            measurer = ImageMeasurer(store, pool, command.id, lambda done, total: None, ReadyWorkers())
            start, cpu = time.perf_counter(), time.process_time()
            measurer.measure(Measuring(PIXELS, pixel_record), pool.candidate)
            took = f"{time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of CPU)"
            print(f"{images:,} images, measures taken from workers: {took}")
        rules = RULES.read("default")
        for what, chosen in (
            ("first", rules),
            ("again", rules),
            ("other thresholds", Rules.model_validate({**rules.model_dump(), "dark": {"threshold": 0.5}})),
        ):
            start, cpu = time.perf_counter(), time.process_time()
            found = filter_images(store, chosen)
            took = f"{time.perf_counter() - start:.1f} s ({time.process_time() - cpu:.1f} s of CPU)"
            numbers = f"{took}, {found.dropped:,} dropped, {found.opened} opened, {peak()}"
            print(f"{images:,} images, {what}: {numbers}")
    seconds = min(_cpu_seconds(lambda: measure(image)) for _ in range(5))
    print(f"measuring 1024x1024 pixels: {1000 * seconds:.0f} ms of CPU an image")


def workers(images: int) -> None:
    """Claim: two worker processes measure images in the time of one process with two threads, but for their start.

    Images of 512x512, each way twice, in turn.
    """
    os.environ.update({"RAY_worker_niceness": "0"})  # else other work on the machine slows Ray's workers alone
    with tempfile.TemporaryDirectory() as name:
        base = Path(name)
        _make_images(base / "images", images, 512)
        command = [sys.executable, "-m", "anomreason", "dataset"]
        _watched([*command, "collect", str(base / "data"), str(base / "images")])
        ways = {"one process": (), "--workers 2": ("--workers", "2")}
        ways["--engine ray --workers 2"] = ("--engine", "ray", "--workers", "2")
        for turn in range(2):
            for way, options in ways.items():
                data = base / f"{turn} {way}"
                shutil.copytree(base / "data", data)
                took = _watched([*command, "filter", str(data), *options])
                print(f"{images:,} images, {way}: {took}, load {os.getloadavg()[0]:.1f}", flush=True)


def counts(images: int) -> None:
    """Claim: every query of `stats` takes less than 200 ms at the paper's size; a split takes seconds.

    8 candidates an image and a verdict each. Times are the best of three, each with the CPU seconds beside it.
    """
    from sqlalchemy import event

    from anomreason.dataset.leaks import check
    from anomreason.dataset.split import split
    from anomreason.dataset.stats import stats
    from anomreason.dataset.store import open_store

    sys.path.insert(0, str(Path(__file__).parents[1]))
    from tests.dataset.planting import Plan, plant

    seconds: dict[str, list[tuple[float, float]]] = {}

    def begin(_c: object, _k: object, _s: str, _p: object, context: object, _m: bool) -> None:
        context.began = time.perf_counter(), time.process_time()  # type: ignore[attr-defined]

    def end(_c: object, _k: object, statement: str, _p: object, context: object, _m: bool) -> None:
        wall, cpu = context.began  # type: ignore[attr-defined]
        text = " ".join(statement.split())
        seconds.setdefault(text, []).append((time.perf_counter() - wall, time.process_time() - cpu))

    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "data", create=True) as store:
        ai = images - images // 10
        plant(store, Plan({"flux": ai, "photographs": images - ai}, images // 3, candidates=8, verdicts=True))
        for what in ("split", "split again"):
            start = time.perf_counter()
            divided = split(store)
            print(f"{images:,} images, {what}: {time.perf_counter() - start:.1f} s, {divided.added:,} added, {peak()}")
        event.listen(store.engine, "before_cursor_execute", begin)
        event.listen(store.engine, "after_cursor_execute", end)
        for name, work in (("stats", stats), ("split --check", check)):
            seconds.clear()
            took = []
            for _ in range(3):
                start = time.perf_counter()
                work(store)
                took.append(time.perf_counter() - start)
            print(f"{name}: {min(took):.1f} s, {peak()}; slowest queries:")
            for text, times in sorted(seconds.items(), key=lambda item: -min(item[1])[0])[:4]:
                wall, cpu = min(times)
                print(f"  {1000 * wall:4.0f} ms, {1000 * cpu:4.0f} of CPU: {text[:90]}")


def export_images(images: int) -> None:
    """Claim: an export takes memory that does not grow with the number of images, and milliseconds an image.

    Each image is a small file with 8 candidates of a detector, all judged by one person. The pixels of real images are
    copied at the speed of the disk on top.
    """
    from anomreason.dataset.export import FORMATS, ExportOptions, export, verify
    from anomreason.dataset.store import open_store

    with tempfile.TemporaryDirectory() as folder, open_store(Path(folder) / "data", create=True) as store:
        _plant_judged(store, images)
        for form in FORMATS:
            out, start, used = Path(folder) / form, time.perf_counter(), time.process_time()
            made = export(store, out, ExportOptions(form))
            seconds, cpu = time.perf_counter() - start, time.process_time() - used
            numbers = f"{seconds:.1f} s ({cpu:.1f} s of CPU), {made.anomalies:,} anomalies, {peak()}"
            print(f"{images:,} images as {form}: {numbers}")
            if not verify(out).whole:
                sys.exit(f"{form}: not whole")


def _plant_judged(store: Store, images: int) -> None:
    from datetime import UTC, datetime

    from sqlalchemy import select

    from anomreason.dataset.store import add_new
    from anomreason.dataset.tables import CandidateRow, ImageRow, SourceRow
    from anomreason.dataset.verdicts import record_verdicts

    files = store.folder / "files"
    files.mkdir()
    rng = np.random.default_rng(0)
    texts = {"phenomenon": "The left hand has six fingers. " * 5, "reasoning": "A hand has five fingers. " * 5}
    texts |= {"objects": ["hand"], "region": {"x0": 0.1, "y0": 0.2, "x1": 0.5, "y1": 0.6}, "origin": "detector"}
    shape = {"source_id": 1, "width": 64, "height": 64, "format": "PNG", "facts": {}, "status": "kept"}
    with store.command("plant", {}) as command:
        by = {"command_id": command.id}
        with store.writing() as session:
            add_new(session, SourceRow, [{"name": "planted", "kind": "ai", **by}])
        for start in range(0, images, 500):
            rows, candidates = [], []
            for n in range(start + 1, min(start + 500, images) + 1):
                data = rng.bytes(20_000)
                (files / f"{n}.png").write_bytes(data)
                sha = hashlib.sha256(data).hexdigest()
                rows.append({"id": n, "sha256": sha, "path": f"files/{n}.png", "name": f"{n}.png", **shape, **by})
                for k in range(8):
                    own = {"image_id": n, "number": k, "name": f"Error {k}", "severity": 10.0 * k, "detector": "d"}
                    candidates.append({**own, "kind": ("anatomy", "physics")[k % 2], **texts, **by})
            with store.writing() as session:
                add_new(session, ImageRow, [{**row, "bytes": 20_000} for row in rows])
                add_new(session, CandidateRow, candidates)
                known = session.execute(
                    select(CandidateRow.id, CandidateRow.number).where(CandidateRow.image_id > start)
                ).all()
                shared = {"person": "ada", "at": datetime(2026, 1, 1, tzinfo=UTC), **by}
                choice = ("accept", "accept", "accept", "reject")
                verdicts = [{"key": f"{i}", "candidate_id": i, "choice": choice[k % 4], **shared} for i, k in known]
                record_verdicts(session, verdicts)


def _cpu_seconds(work: Callable[[], object]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def report(what: str, found: np.ndarray, planted: np.ndarray, seconds: float, cpu: float) -> None:
    missed, false = int(((planted >= 0) & (found != planted)).sum()), int(((planted < 0) & (found >= 0)).sum())
    pairs = int((planted >= 0).sum())
    took = f"{seconds:.1f} s ({cpu:.1f} s of CPU)"
    print(f"{len(found):,} {what}: {took}, {pairs - missed:,} of {pairs:,} pairs, {false:,} others, {peak()}")
    if missed or false:
        sys.exit("planted pairs were missed, or others found")


BENCHMARKS: dict[str, Callable[[int], None]] = {
    "collect": collect,
    "store": store,
    "near_duplicates": near_duplicates,
    "filter": filter_again,
    "workers": workers,
    "counts": counts,
    "export": export_images,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("benchmark", choices=BENCHMARKS)
    parser.add_argument("--images", type=int, default=100_000)
    given = parser.parse_args()
    before = os.getloadavg()[0]
    BENCHMARKS[given.benchmark](given.images)
    print(f"load average {before:.1f} before, {os.getloadavg()[0]:.1f} after, {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
