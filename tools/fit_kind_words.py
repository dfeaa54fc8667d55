"""Fits the word weights by which kinds are told where the cues are silent or torn, and writes them.

A multinomial logistic regression with an L2 penalty on stems and pairs of stems, the cues' own share given. Fitted on
the templates of scenes, on the lines under `tests/data`, and on `tools/kind_words/phrases.toml`. Each text is seen
twice, once as if no cue had been found in it: cues were mended on these lines and are surer on them than on others.

    python tools/fit_kind_words.py --check  # five-fold cross-validation over the lines
    python tools/fit_kind_words.py  # writes src/anomreason/metrics/kind_words.tsv
"""

from __future__ import annotations

import argparse
import json
import tomllib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from anomreason.anomaly import KINDS, Kind
from anomreason.metrics.kinds import TABLE_SCALE, Floats, cue_scores, cue_weights, normalized, term_factor, terms
from anomreason.scenes.phrases import describe, levels
from anomreason.scenes.scene import Slots

ROOT = Path(__file__).parents[1]
TABLE = ROOT / "src" / "anomreason" / "metrics" / "kind_words.tsv"
LINES = ("kind_paraphrases.jsonl", "kind_paraphrases2.jsonl", "kind_lines.jsonl")
TEMPLATE, PHRASE = 0.3, 0.6
"""What a filled template and a phrase count, where a line counts 1."""
PENALTY = 0.2
ROUNDS = 200
LEAST = 0.25
"""Terms whose weights all stay below this are left out of the table."""
DETAILS = {
    "out_of_place": "the bathroom",
    "missing_part": "its handle",
    "duplicated_part": "a second handle",
    "impossible": "bright blue",
    "material": "glass",
    "other": "a red chair",
    "running": "running while it is unplugged",
    "many": "five legs instead of four",
    "few": "three legs instead of four",
    "clock": "the number 13 on its dial",
    "sign": "letters that spell no word",
}
THINGS = ("car", "penguin", "table", "clock", "lamp", "candle", "mirror", "tree")


@dataclass(frozen=True)
class Row:
    """One text, the kind it speaks for (None: for none), and what it counts."""

    kind: Kind | None
    texts: tuple[str, str, str]
    share: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="cross-validate instead of writing")
    lines, others = read_lines(), [*templates(), *phrases()]
    if parser.parse_args().check:
        check(lines, others)
        return
    names, weights, start = fit([*lines, *others])
    kept = [(name, row) for name, row in zip(names, weights, strict=True) if np.abs(row).max() >= LEAST]
    rows = ["\t".join(("", *KINDS)), *("\t".join((name, *_cells(row))) for name, row in [("", start), *kept])]
    TABLE.write_text("\n".join(rows) + "\n", encoding="utf-8")
    print(f"{len(kept)} terms, {TABLE.stat().st_size} bytes")


def read_lines() -> list[Row]:
    rows = []
    for file in LINES:
        for text in (ROOT / "tests" / "data" / file).read_text(encoding="utf-8").splitlines():
            one = json.loads(text)
            rows.append(Row(one["kind"], (one["name"], one["phenomenon"], one["reasoning"]), 1.0))
    return rows


def templates(each: int = 4) -> list[Row]:
    rng, rows = np.random.default_rng(11), []
    for kind in KINDS:
        for level in levels(kind):
            for _ in range(each):
                thing, other = (str(t) for t in rng.choice(THINGS, 2))
                sun = level == "two_suns"
                detail = DETAILS.get(level if kind != "out_of_place" else kind, DETAILS.get(kind, ""))
                slots = Slots("sun" if sun else thing, "in the sky" if sun else "on the left", other, detail)
                rows.append(Row(kind, describe(kind, level, slots, rng)[:3], TEMPLATE))
    return rows


def phrases() -> list[Row]:
    rows = []
    table = tomllib.loads((ROOT / "tools" / "kind_words" / "phrases.toml").read_text(encoding="utf-8"))
    for kind in (*KINDS, None):
        told = table[kind or "none"]
        rows += [Row(kind, ("", text, ""), PHRASE) for text in told["seen"]]
        rows += [Row(kind, ("", "", text), PHRASE) for text in told["why"]]
    return rows


def fit(rows: Sequence[Row]) -> tuple[list[str], Floats, Floats]:
    """Terms, their weights (terms, kinds), and what speaks for a kind before a word is read."""
    told = [terms([normalized(text) for text in row.texts]) for row in rows]
    often = Counter(term for one in told for term in one)
    names = sorted(term for term, times in often.items() if times > 1)
    place = {name: n for n, name in enumerate(names)}
    words = np.zeros((len(rows), len(names)))
    for n, one in enumerate(told):
        words[n, [place[term] for term in one & place.keys()]] = term_factor(len(one))
    wanted = np.array([_wanted(row.kind) for row in rows])
    share = np.array([row.share / 2 for row in rows])
    cues = np.array([cue_scores(cue_weights(row.texts)) for row in rows])
    weights, start = _descend(
        np.r_[words, words], np.r_[wanted, wanted], np.r_[share, share], np.r_[cues, np.zeros_like(cues)]
    )
    return names, weights, start


def _descend(words: Floats, wanted: Floats, share: Floats, cues: Floats) -> tuple[Floats, Floats]:
    """Least penalised cross-entropy, by Adam with a step that goes to nothing."""
    words = np.c_[words, np.ones(len(words))]
    weights = np.zeros((words.shape[1], wanted.shape[1]))
    mean, square = np.zeros_like(weights), np.zeros_like(weights)
    for turn in range(1, ROUNDS + 1):
        score = words @ weights + cues
        odds = np.exp(score - score.max(axis=1, keepdims=True))
        slope = words.T @ ((odds / odds.sum(axis=1, keepdims=True) - wanted) * share[:, None]) + PENALTY * weights
        mean, square = 0.9 * mean + 0.1 * slope, 0.99 * square + 0.01 * slope**2
        step = 0.08 * (1 - turn / (ROUNDS + 1)) / (np.sqrt(square / (1 - 0.99**turn)) + 1e-8)
        weights = weights - step * mean / (1 - 0.9**turn)
    return weights[:-1], weights[-1]


def _wanted(kind: Kind | None) -> Floats:
    return np.full(len(KINDS), 1 / len(KINDS)) if kind is None else np.eye(len(KINDS))[KINDS.index(kind)]


def check(lines: Sequence[Row], others: Sequence[Row], folds: int = 5) -> None:
    """Print the share of lines told right by words and cues together, every line by weights fitted without it."""
    order = np.random.default_rng(0).permutation(len(lines))
    right: list[bool] = []
    for fold in range(folds):
        tested = set(order[fold::folds].tolist())
        names, weights, start = fit([*(row for n, row in enumerate(lines) if n not in tested), *others])
        place = {name: n for n, name in enumerate(names)}
        for n in sorted(tested):
            told = terms([normalized(text) for text in lines[n].texts])
            score = start + cue_scores(cue_weights(lines[n].texts))
            score = score + term_factor(len(told)) * weights[[place[term] for term in told & place.keys()]].sum(axis=0)
            right.append(KINDS[int(score.argmax())] == lines[n].kind)
    print(f"{sum(right)} of {len(right)} right ({np.mean(right):.3f})")


def _cells(row: Floats) -> list[str]:
    return [str(round(x * TABLE_SCALE) or "") for x in row.tolist()]


if __name__ == "__main__":
    main()
