"""Tokens per image under the four schedules, and how many of them a provider could serve from its prompt cache.

    python benchmarks/tokens.py

One image of 1024x1024 with eight objects, four of them people whose parts are counted. `lean` is asked three times:
without cut-outs; with the cut-outs of parts that such an image has (`crops` auto: three of each person, one of each
other object, 16 in all); and for an image of 3072x3072 that is sent at 1024x1024, whose objects are all small, so that
each is shown itself. Descriptions and anomalies are as long as the mean of the replies kept in
tests/data/replies.jsonl. A text counts a quarter of its characters, an image by OpenAI's published rule. A prefix
(schema, common text, image) counts as cacheable when a call that ended before had the same one and it has at least
1,024 tokens, in steps of 128. For comparison, the authors report about 193,600 tokens per image for the paper's dataset
(4.17 billion for 21,539 images) and about 150,000 for their code of 2026.
"""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import get_args

import numpy as np
from PIL import Image

from anomreason.agent.cutouts import Crops
from anomreason.agent.pipeline import AgentSettings, AnomAgent, Schedule
from anomreason.anomaly import Usage
from anomreason.images import load_image
from anomreason.planning import calls_needed
from anomreason.textform import find_json
from anomreason.vlm.calling import Caller
from anomreason.vlm.ledger import Ledger, read_calls
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

KEPT = Path(__file__).parents[1] / "tests" / "data" / "replies.jsonl"
OBJECTS, ANOMALIES, PEOPLE = 8, 5, 4
COUNTS = [{"part": "hands", "count": 2}, {"part": "arms", "count": 2}, {"part": "fingers of the left hand", "count": 5}]
PARTS = ("left hand", "right hand", "face")
BARS = {"lean": 15_000, "paper": 60_000}
WORDS = "the left hand rests on the edge of the table and nothing below it would carry such a thing for long "


def mean_lengths() -> dict[str, int]:
    """Characters of a description, a phenomenon and a reasoning in the kept replies."""
    lengths: dict[str, list[int]] = {"description": [], "phenomenon": [], "reasoning": []}

    def walk(node: object) -> None:
        for child in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
            walk(child)
        if isinstance(node, dict):
            for key in lengths.keys() & node.keys():
                lengths[key].append(len(node[key]))

    for line in KEPT.read_text(encoding="utf-8").splitlines():
        walk(find_json(json.loads(line)["reply"]))
    return {key: round(sum(values) / len(values)) for key, values in lengths.items()}


def text(length: int, start: int) -> str:
    return (WORDS[start:] + WORDS * 20)[:length].strip() + "."


def world(folder: Path) -> Path:
    long = mean_lengths()
    print("characters, mean of kept replies: " + ", ".join(f"{k} {v}" for k, v in long.items()))
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1024, 1024, 3), dtype=np.uint8)
    Image.fromarray(pixels[0]).save(folder / "a.png")
    Image.fromarray(pixels[1]).resize((3072, 3072), Image.Resampling.NEAREST).save(folder / "small.png")
    file = folder / "simulator.json"
    file.write_text(json.dumps({"a.png": truth(long, (0.2, 0.5)), "small.png": truth(long, (0.08, 0.1))}))
    return file


def truth(long: dict[str, int], size: tuple[float, float]) -> dict[str, object]:
    """Objects of this width and height, and anomalies, of usual length."""
    objects = [
        {
            "name": f"object {i}",
            "description": text(long["description"], i),
            "box": [i / 10, 0.2, i / 10 + size[0], 0.2 + size[1]],
            "counts": COUNTS if i < PEOPLE else [],
            "parts": [part(name, n, i / 10, size) for n, name in enumerate(PARTS if i < PEOPLE else ["lettering"])],
        }
        for i in range(OBJECTS)
    ]
    anomalies = [
        {
            "name": f"Error of the object number {i}",
            "phenomenon": text(long["phenomenon"], i),
            "reasoning": text(long["reasoning"], 9 + i),
            "severity": 10 + i,
            "objects": [f"object {i}"] if i % 2 else [f"object {i}", f"object {i + 1}"],
        }
        for i in range(ANOMALIES)
    ]
    return {"objects": objects, "anomalies": anomalies}


def part(name: str, number: int, left: float, size: tuple[float, float]) -> dict[str, object]:
    """A part of an object: a fifth of its width, a tenth of its height."""
    x, y = left + number * size[0] / 3, 0.2 + size[1] / 2
    return {"name": name, "box": [x, y, x + size[0] / 5, y + size[1] / 10]}


async def look(folder: Path, truth: Path, schedule: Schedule, crops: Crops, image: str) -> Usage:
    run = folder / f"{schedule} {crops} {image}"
    run.mkdir()
    ledger = Ledger(run / "calls.jsonl")
    caller = Caller(Simulator.from_file(truth, SimulatorRates(latency=0.05)), ledger)
    settings = AgentSettings(schedule=schedule, crops=crops)
    found = await AnomAgent(caller, settings).detect(load_image(folder / image, 1024), image)
    ledger.close()
    if found.failure or len(found.anomalies) != ANOMALIES or len(list(read_calls(run))) != found.usage.calls:
        raise SystemExit(f"{schedule} went wrong: {found.failure}")
    return found.usage


def main() -> None:
    over = []
    with tempfile.TemporaryDirectory() as name:
        truth = world(Path(name))
        print(f"{'schedule':28}{'calls':>6}{'formula':>9}{'prompt':>9}{'reply':>8}{'total':>9}{'cacheable':>11}")
        rows: list[tuple[str, Schedule, Crops, str]] = [
            *((schedule, schedule, "never", "a.png") for schedule in get_args(Schedule)),
            ("lean, cut-outs of parts", "lean", "auto", "a.png"),
            ("lean, cut-outs of objects", "lean", "auto", "small.png"),
        ]
        for label, schedule, crops, image in rows:
            u = asyncio.run(look(Path(name), truth, schedule, crops, image))
            formula = calls_needed(schedule, OBJECTS if schedule != "single" else 0)
            print(
                f"{label:28}{u.calls:>6}{formula:>9}{u.prompt_tokens:>9,}{u.completion_tokens:>8,}{u.tokens:>9,}"
                f"{u.cached_tokens:>11,}"
            )
            if u.tokens >= BARS.get(schedule, u.tokens + 1):
                over.append(label)
    print("bars (lean under 15,000, paper under 60,000): " + (f"missed by {', '.join(over)}" if over else "held"))


if __name__ == "__main__":
    main()
