"""What `anomreason-tiny` finds on scenes it has never seen, what it says of photographs, and how long it takes.

    python -m benchmarks.tiny --model tiny --n 500 --photographs FOLDER

Scenes have the kinds that the model names (all with `--all-kinds`), twins beside them, and seeds that no training
image has. Combinations of object and kind that were held out of training (one in ten) are reported apart. Photographs
are scaled to the scenes' size and saved in the same format, so that neither gives them away.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from tools.tiny.corpus import SCENES_FROM, SEEDS_A_SHARD, held_out

from anomreason import detect
from anomreason.evaluation.exact import evaluate_exact
from anomreason.metrics.planted import Matcher
from anomreason.runs import read_results
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.sources.annotations import key_of, read_source
from anomreason.sources.scenes import read_scenes
from anomreason.stats import wilson
from anomreason.vlm.card import TINY_KINDS

SIZE = 512
SHARDS, PICTURES = 50, 2000
"""That the bundled model was trained on; no scene of a shard has a higher number in it."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--n", type=int, default=500, help="scenes; twins come on top")
    parser.add_argument("--seed", type=int, default=2027)
    parser.add_argument("--photographs", type=Path, help="folder of photographs; without it none are looked at")
    parser.add_argument("--all-kinds", action="store_true", help="plant what the model does not name, too")
    parser.add_argument("--work", type=Path, help="folder to keep scenes and runs in; a temporary one without it")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as passing:
        work = given.work or Path(passing)
        found = {"model": given.model, **speed(given.model, work), **exact(given, work)}
        if given.photographs:
            found["photographs"] = photographs(given.model, given.photographs, work)
    print(json.dumps(found, indent=1))


def speed(model: str, work: Path) -> dict[str, Any]:
    """Seconds from nothing to the first answer's end, and of each scene asked for alone afterwards."""
    import asyncio

    from anomreason.detection import detect_images, open_session
    from anomreason.detector import DetectOptions, set_up
    from anomreason.sources.inputs import find_images

    make_scenes(work / "few", SceneSettings(n=12, seed=5, kinds=TINY_KINDS, twins=False), jobs=1)
    images = find_images([str(work / "few")]).images

    async def ask() -> tuple[float, list[float]]:
        begun, times = time.perf_counter(), []
        async with open_session(set_up(model, DetectOptions(in_flight=1))) as session:
            loaded = time.perf_counter() - begun
            for image in images:
                start = time.perf_counter()
                await detect_images([image], session)
                times.append(time.perf_counter() - start)
        return loaded, times

    loaded, times = asyncio.run(ask())
    return {"seconds_to_load": loaded, "seconds_first": times[0], "seconds_a_scene": float(np.median(times[1:]))}


def exact(given: argparse.Namespace, work: Path) -> dict[str, Any]:
    scenes, run = work / "scenes", work / "run"
    make_scenes(
        scenes,
        SceneSettings(n=given.n, seed=given.seed, size=SIZE, kinds=() if given.all_kinds else TINY_KINDS),
        jobs=2,
    )
    seeds = [json.loads(line)["seed"] for line in (scenes / "metadata.jsonl").read_text().splitlines()]
    assert not any(map(of_training, seeds)), "a training picture is among the scenes: take another --seed"
    begun = time.perf_counter()
    detect([str(scenes)], model=given.model, schedule="single", run=run)
    took = time.perf_counter() - begun
    scores = evaluate_exact(run, scenes)
    counts = {"n", "clean", "failures", "twin_failures", "recall", "precision"}
    false = {"false_anomalies", "false_on_clean", "clean_with_false", "severity_error"}
    told = scores.model_dump(mode="json", include=counts | false)
    told["twin_test"] = scores.model_dump(mode="json")["twin_test"]["passed"]
    told["kinds"] = {
        kind: [one.recall.value, one.recall.n, one.precision.value, one.precision.n]
        for kind, one in scores.kinds.items()
    }
    return {**told, "unseen_combinations": unseen(run, scenes), "seconds_all": took}


def of_training(seed: int) -> bool:
    shard, number = divmod(seed - SCENES_FROM, SEEDS_A_SHARD)
    return 0 <= shard < SHARDS and number < PICTURES


def unseen(run: Path, scenes: Path) -> dict[str, Any]:
    """Recall on planted anomalies whose thing and kind never stood together in training."""
    known = [one for one in read_scenes(scenes) if not one.twin_of]
    matcher, said = Matcher(known), read_source(run).images
    hit = total = 0
    for one in known:
        found = {pair.planted for pair in matcher.pairs(one, said[key_of(one.image)].anomalies)}
        for place, anomaly in enumerate(one.anomalies):
            if held_out(anomaly.kind, anomaly.objects[0]):
                total, hit = total + 1, hit + (place in found)
    return {"recall": hit / max(total, 1), "n": total, "interval": wilson(hit / max(total, 1), max(total, 1))}


def photographs(model: str, folder: Path, work: Path) -> dict[str, Any]:
    """How many get an anomaly, and how many are said to be outside of what the model knows."""
    squares = work / "photographs"
    squares.mkdir(exist_ok=True)
    for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp")):
        with Image.open(path) as image:
            image.convert("RGB").resize((SIZE, SIZE), Image.Resampling.LANCZOS).save(squares / f"{path.stem}.png")
    detect([str(squares)], model=model, schedule="single", run=work / "photographs-run")
    results = list(read_results(work / "photographs-run").values())
    return {
        "n": len(results),
        "with_anomalies": [r.image for r in results if r.anomalies],
        "out_of_domain": sum(bool(r.out_of_domain) for r in results),
        "failed": sum(r.status == "failed" for r in results),
    }


if __name__ == "__main__":
    main()
