"""Makes a folder as `eval` leaves it, from similarities that are made up and scored for real.

To look at a report:  python tests/report/synthetic_scores.py FOLDER --images 10774
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomreason.anomaly import Anomaly, Result
from anomreason.evaluation.breakdowns import SeverityCounter, by_truths, pairs_of
from anomreason.evaluation.records import MatchedPair
from anomreason.metrics.chance import ChanceScorer, chunks
from anomreason.metrics.image_scores import SemanticSettings, score_image
from anomreason.metrics.matching import rank
from anomreason.metrics.semantic import SemanticScorer, compare
from anomreason.report.scores import build_score_report

REST: dict[str, Any] = {
    "comparable": {},
    "simulated": False,
    "joined": {},
    "settings": {"failures": "zero", "shuffles": 20, "seed": 0},
    "texts": {"encoded": 1, "truncated": 0, "blank": 0, "limit": 512},
    "left_out": {"photographs": [], "truth_failed": [], "subset_unknown": []},
    "truth": {"path": "truth.json", "images": 1},
    "predictions": {"path": "p.json", "detectors": [], "pictures": None},
}
"""What `metrics.json` holds beside the figures."""
Floats = npt.NDArray[np.float64]
Said = dict[str, Any]


@dataclass
class Made:
    """One image: what was predicted, what is true, and how alike they are (predictions, truths)."""

    image: str
    predictions: list[Said] = field(default_factory=list)
    truths: list[Said] = field(default_factory=list)
    phe: Any = None
    rea: Any = None
    failure: str | None = None

    def __post_init__(self) -> None:
        shape = (len(self.predictions), len(self.truths))
        self.phe, self.rea = (np.asarray(a if a is not None else np.zeros(shape), float) for a in (self.phe, self.rea))


def said(name: str, severity: float = 20, phenomenon: str = "Seen.", reasoning: str = "It cannot be.") -> Said:
    return {"name": name, "phenomenon": phenomenon, "reasoning": reasoning, "severity": severity}


def scorer(made: Iterable[Made], settings: SemanticSettings) -> SemanticScorer:
    found = SemanticScorer(settings)
    for each in made:
        if each.failure:
            found.add_failure(each.image, each.failure, len(each.truths))
        else:
            found.add(each.image, each.phe, each.rea, [a["severity"] for a in each.predictions])
    return found


def write_scores(
    out: Path,
    made: Sequence[Made],
    semantic: SemanticSettings | None = None,
    other: Sequence[Made] = (),
    repeats: int = 20,
    **more: Any,
) -> Path:
    """Write metrics.json and matches.jsonl, `more` in the former.

    other: the same images by another detector, which also is the ceiling. repeats: shuffles for the chance level.
    """
    out.mkdir(parents=True, exist_ok=True)
    settings, rng = semantic or SemanticSettings(), np.random.default_rng(0)
    own, answered = scorer(made, settings), [each for each in made if not each.failure]
    chance = ChanceScorer(settings, repeats)
    orders = [own.order([a["severity"] for a in each.predictions]) for each in answered]
    for chunk in chunks(len(answered)):
        across = partial(unlike, [answered[place] for place in chunk])
        chance.add([orders[place] for place in chunk], across, chance.deals(len(chunk), rng))
    records, calibration = [record(each, settings) for each in made], SeverityCounter(settings)
    for one in answered:
        calibration.add(anomalies(one.predictions), anomalies(one.truths), pairs(one, settings))
    metrics: dict[str, Any] = {
        "name": "made-up",
        "signature": {"backbone": "none", "precision": "fp32", "thresholds": list(settings.thresholds)},
        **plain(own.result(rng, chance.totals)),
        "severity": {p: {t: plain(one) for t, one in at.items()} for p, at in calibration.result().items()},
        "by_truths": [plain(group) for group in by_truths(own, rng)],
        **REST,
        "alphas": settings.alphas,
        **more,
    }
    if other:
        second = scorer(other, settings)
        name = {"name": "the second annotation", "path": "second.json"}
        metrics["ceiling"] = {**plain(second.result(rng)), **name}
        metrics["against"] = {**plain(compare(own, second, rng)), **name}
    (out / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    lines = (json.dumps(each, ensure_ascii=False) + "\n" for each in records)
    (out / "matches.jsonl").write_text("".join(lines), encoding="utf-8")
    return out


def plain(record: Result) -> dict[str, Any]:
    return record.model_dump(mode="json", by_alias=True)


def anomalies(side: Sequence[Said]) -> list[Anomaly]:
    return [Anomaly(**each) for each in side]


def unlike(images: Sequence[Made], i: int, j: int) -> tuple[Floats, Floats]:
    """Similarities of what belongs to different images."""
    one, other = images[i], images[j]
    rng = np.random.default_rng(len(one.image) + 7 * len(other.image) + len(one.predictions))
    shape = (2, len(one.predictions), len(other.truths))
    phe, rea = np.clip(rng.normal(0.62, 0.07, shape), -1, 1)
    return phe, rea


def pairs(each: Made, settings: SemanticSettings) -> list[MatchedPair]:
    order = rank([a["severity"] for a in each.predictions])
    return pairs_of(each.phe, each.rea, score_image(each.phe, each.rea, order, settings))


def record(each: Made, settings: SemanticSettings) -> dict[str, Any]:
    """One line of matches.jsonl."""
    order = rank([a["severity"] for a in each.predictions])
    found = [] if each.failure else [plain(pair) for pair in pairs(each, settings)]
    scores = scores_of(each, order, settings)
    own = {"image": each.image, "failure": each.failure, "predictions": each.predictions, "truths": each.truths}
    return {**own, "pairs": found, "scores": scores}


def scores_of(each: Made, order: list[int], settings: SemanticSettings) -> dict[str, Any]:
    if each.failure:
        return {p: {v: {"semap": 0.0, "semf1": 0.0} for v in settings.views} for p in settings.profiles}
    one = score_image(each.phe, each.rea, order, settings)
    return {
        p: {v: {"semap": one.semap(p, v), "semf1": one.semf1(p, v)} for v in settings.views} for p in settings.profiles
    }


THINGS = ("hand", "cup", "staircase", "bicycle", "dog", "shadow", "mirror", "clock", "street sign", "spoon", "roof")
WRONGS = ("has one part too many", "floats without support", "melts into the wall", "is lit from two sides")
SEEN = "On the left, beside the {0}, one sees that the {0} {1}; its outline breaks off where the next thing begins. "
WHY = "A {0} that {1} cannot be built, held or grown; nothing in the scene would explain it, such as glass or water. "


def anomaly(rng: random.Random) -> Said:
    thing, wrong = rng.choice(THINGS), rng.choice(WRONGS)
    texts = (template.format(thing, wrong) * rng.randint(1, 3) for template in (SEEN, WHY))
    return said(f"{thing.capitalize()} {wrong}", 5 * rng.randint(0, 18), *texts)


def random_images(count: int, seed: int = 0, skill: float = 0.6, second: bool = False) -> list[Made]:
    """Images with 0 to 14 true anomalies; a detector that finds a share `skill` of them, in words of its own."""
    made = []
    for number in range(count):
        rng, noise = random.Random(f"{seed} {number}"), np.random.default_rng([seed, number, second])
        truths = [anomaly(rng) for _ in range(min(rng.choice((0, 2, 3, 4, 5, 6, 6, 7, 8, 9, 14)), 14))]
        found = [t for t in range(len(truths)) if noise.random() < skill]
        guesses = [truths[t] | {"severity": float(np.clip(truths[t]["severity"] + noise.normal(8, 15), 0, 100))}
                   for t in found]  # fmt: skip
        guesses = [guess | {"severity": round(guess["severity"])} for guess in guesses]
        guesses += [anomaly(random.Random(f"{seed} {number} {k} {second}")) for k in range(int(noise.integers(0, 5)))]
        phe, rea = np.clip(noise.normal(0.62, 0.07, (2, len(guesses), len(truths))), -1, 0.99)
        for p, t in enumerate(found):
            phe[p, t], rea[p, t] = np.clip(noise.normal((0.87, 0.83), 0.06), 0, 1)
        name = f"{('sdxl', 'flux', 'real photographs')[number % 3]}/{number:05}.jpg"
        kind = noise.choice(["refused", "truncated", "missing", ""], p=[0.01, 0.01, 0.02, 0.96])
        made.append(Made(name, [], truths, failure=str(kind)) if kind else Made(name, guesses, truths, phe, rea))
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=int, default=300)
    parser.add_argument("--again", action="store_true", help="only build the report of what is there")
    given = parser.parse_args()
    if not given.again:
        settings = SemanticSettings(alphas=(0.5, 0.3))
        other = random_images(given.images, skill=0.85, second=True)
        write_scores(given.out, random_images(given.images), settings, other, alphas=settings.alphas)
    start = time.perf_counter()
    page = build_score_report(given.out)
    seconds, peak = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    beside = sum(file.stat().st_size for file in (given.out / "report").rglob("*") if file.is_file())
    index = (given.out / "report" / "scores" / "index.js").stat().st_size
    print(f"{page} built in {seconds:.1f} s, peak memory {peak:.0f} MB")
    print(f"page {page.stat().st_size / 1e3:.0f} kB, index {index / 1e6:.1f} MB, report folder {beside / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
