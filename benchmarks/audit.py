"""Claim: an audit tells five generators of known rates of violations in their true order, and equal ones almost never.

    python -m benchmarks.audit --prompts 246 --size 256 --tiny 0
    python -m benchmarks.audit --prompts 80 --tiny 80 --equal 0

A generator is a world of scenes with its own rate; the same number is the same clean scene in each, as a prompt is the
same for every generator. The two closest rates are too close for so few prompts and have to share their places.
Assessed by the exact truth, by the simulator with 20 % misses and 10 % inventions, and by the bundled model (on fewer
prompts: it takes seconds an image). Then five equal generators are compared again and again: how often is one of them
said to beat another?
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from anomreason import detect
from anomreason.anomaly import Anomaly, Detection
from anomreason.audit.analysis import analyse
from anomreason.audit.results import AssessorResult
from anomreason.audit.sentences import answer, places_text
from anomreason.audit.study import AuditImage, AuditPrompt, Study
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.sources.scenes import read_scenes
from anomreason.vlm.card import TINY_KINDS
from anomreason.vlm.protocol import VLM
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

RATES = {"one": 0.1, "two": 0.3, "three": 0.31, "four": 0.6, "five": 0.9}
"""Share of a generator's images with violations."""
SEED = 2027
ERRORS = SimulatorRates(misses=0.2, hallucinations=0.1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=int, default=246)
    parser.add_argument("--tiny", type=int, default=40, help="prompts that the bundled model assesses; 0 leaves it out")
    parser.add_argument("--equal", type=int, default=200, help="repetitions with equal generators; 0 leaves them out")
    parser.add_argument("--size", type=int, default=512, help="edge of a scene in pixels")
    given = parser.parse_args()
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}")
    with tempfile.TemporaryDirectory() as folder:
        scenes(Path(folder), given)
    if given.equal:
        equal(given.equal, given.prompts)


def scenes(folder: Path, given: argparse.Namespace) -> None:
    truth: dict[str, Detection] = {}
    for name, rate in RATES.items():
        settings = SceneSettings(
            n=given.prompts, seed=SEED, size=given.size, violation_rate=rate, kinds=TINY_KINDS, twins=False
        )
        make_scenes(folder / name, settings, jobs=1)
        for number, known in enumerate(read_scenes(folder / name)):
            truth[key(name, number)] = detection(key(name, number), known.anomalies)
    report("the exact truth", study(folder, given.prompts, truth))
    simulated: dict[str, Detection] = {}
    for name in RATES:
        simulator = Simulator.from_file(folder / name / "simulator.json", ERRORS, seed=1)
        simulated |= assessed(folder, name, given.prompts, simulator)
    report("the simulator, 20 % misses, 10 % inventions", study(folder, given.prompts, simulated))
    if given.tiny:
        start, tiny = time.perf_counter(), dict[str, Detection]()
        for name in RATES:
            tiny |= assessed(folder, name, given.tiny, "tiny")
        took = (time.perf_counter() - start) / len(tiny)
        report(f"the bundled model, {took:.2f} s an image", study(folder, given.tiny, tiny))


def assessed(folder: Path, name: str, prompts: int, model: str | VLM) -> dict[str, Detection]:
    paths = [path_of(folder, name, number) for number in range(prompts)]
    found = detect([str(path) for path in paths], model=model, schedule="single")
    return {key(name, number): one for number, one in enumerate(found)}


def path_of(folder: Path, name: str, number: int) -> Path:
    (path,) = (folder / name).rglob(f"{number:06}.png")
    return path


def key(name: str, number: int) -> str:
    return AuditImage(name, f"p{number:03}", 0).key


def detection(image: str, anomalies: Sequence[Anomaly]) -> Detection:
    return Detection(image=image, detector="truth", status="ok", anomalies=tuple(anomalies))


def study(folder: Path | None, prompts: int, said: Mapping[str, Detection], generators: Sequence[str] = ()) -> Study:
    """Without a folder, image files do not matter."""
    names = tuple(generators or RATES)
    return Study(
        prompts=tuple(AuditPrompt(id=f"p{number:03}", text=f"scene {number}") for number in range(prompts)),
        generators=names,
        seeds=(0,),
        images=tuple(
            AuditImage(name, f"p{n:03}", 0, path_of(folder, name, n) if folder else Path("any"))
            for name in names
            for n in range(prompts)
        ),
        assessments={"assessor": said},
    )


def report(title: str, made: Study) -> None:
    start = time.perf_counter()
    found = analyse(made).assessors[0]
    print(f"\n{title}: {len(made.prompts)} prompts, analysed in {time.perf_counter() - start:.1f} s")
    for metric in ("cap", "mai", "af"):
        places = [f"{g.generator} {places_text(g, metric)}" for g in found.ordered(metric)]
        print(f"  {metric}: {', '.join(places)}; false orders: {false_orders(found, metric)}")
    for sentence in answer(found, "cap"):
        print(f"  {sentence}")


def false_orders(found: AssessorResult, metric: str) -> int:
    """Pairs in which the generator with the higher rate is said to be better."""
    return sum(
        RATES[pair.better] > RATES[pair.worse]
        for pair in found.pairs
        if pair.metric == metric and pair.better and pair.worse
    )


def equal(repetitions: int, prompts: int) -> None:
    """Five generators that draw from the same distribution; prompts differ in how hard they are."""
    start, wrong = time.perf_counter(), dict.fromkeys(("cap", "mai", "af", "cap_of_means"), 0)
    names = [f"g{number}" for number in range(5)]
    for repetition in range(repetitions):
        draw = np.random.default_rng(repetition)
        hard = draw.gamma(4, 0.25, prompts)
        said = {
            key(name, number): detection(key(name, number), [drawn(s) for s in draw.uniform(0, 60, draw.poisson(rate))])
            for name in names
            for number, rate in enumerate(hard)
        }
        found = analyse(study(None, prompts, said, names), seed=repetition).assessors[0]
        for metric in wrong:
            wrong[metric] += any(pair.better for pair in found.pairs if pair.metric == metric)
    took = time.perf_counter() - start
    print(f"\n{repetitions} repetitions with five equal generators, {prompts} prompts, {took:.0f} s")
    for metric, count in wrong.items():
        print(f"  {metric}: a false 'A beats B' in {count} ({count / repetitions:.1%}; bar 5 %)")


def drawn(severity: float) -> Anomaly:
    return Anomaly(name="x", phenomenon="y", reasoning="z", severity=severity, kind="any")


if __name__ == "__main__":
    main()
