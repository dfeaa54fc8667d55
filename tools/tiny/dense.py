"""First stage: the vision tower learns from exact labels which thing each token shows and what is wrong with it.

Answers alone teach a small tower nothing in reasonable time: of a hundred words of an answer a handful depend on the
picture. Linear heads on the tower's output are trained here; what they know of things is where the words of the
language model begin. What never stood together is neither taught nor denied: of a token that shows a floating dog, no
thing is said not to be there that was never shown floating. Stops and resumes at any time; see `tools/tiny/make.py`.

    train_dense(Path("dense"), sorted(Path("corpus").glob("[0-9]*")), DenseSettings(steps=6000))
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from tools.tiny.corpus import Shard, held_out, read_shard, thing_names, usable
from tools.tiny.cutouts import (
    DRAWN,
    UNKNOWN,
    Cutout,
    View,
    changed,
    changed_tokens,
    cut,
    drawn,
    repainted,
    tokens,
    told_upright,
    with_cutouts,
    with_picture,
)
from tools.tiny.model import STEP, TinyShape, tiny_visual
from tools.tiny.tower import Tower, autocast, mean, patches_of, precision

from anomreason.anomaly import KINDS, Kind
from anomreason.scenes.sprites.table import PLACES

COMMON = 0.25
"""Share of all things with which a kind must have been shown for the others to be left open."""
RUN = 8
"""Neighbouring pictures of a shard that are taken together, so that scenes meet their twins in one batch."""


@dataclass(frozen=True)
class DenseSettings:
    steps: int
    batch: int = 32
    rate: float = 1.5e-3
    warm_up: int = 200
    decay: float = 0.35
    """Share of the steps, at the end, over which the rate falls to zero."""
    seed: int = 0
    save_every: int = 150
    shape: TinyShape = field(default_factory=TinyShape)
    kinds: tuple[Kind, ...] = ()
    """Pictures in which another kind stands are left out; empty: none is."""
    cutouts: float = 0.0
    """Share of the pictures into which up to four cut-outs of things are set."""
    repainted: float = 0.0
    """Share of the pictures of which one thing is tinted."""
    strange: float = 0.0
    """Share of the pictures that are turned, tinted or both as a whole, and not judged."""
    denied: bool = False
    """Whether a kind that befalls many things is denied of those that no scene shows with it, unless held out."""
    start: Path | None = None
    """The state.pt of another training, whose tower and heads are those to begin with."""


@dataclass(frozen=True)
class Batch:
    """Labels are -1 where there is none."""

    pictures: Any
    """(pictures, side, side, 3) bytes."""
    things: Any
    """(pictures, tokens)."""
    kinds: Any
    """(pictures, tokens)."""
    turned: Any
    """(pictures, tokens): whether the thing's upper side is elsewhere than above."""
    places: Any
    """(pictures,): where the scene plays."""
    scene: Any
    """(pictures,): 1.0 for one, 0.0 for what is no scene; -1.0 where it is not told."""


class Dense:
    """Tower and heads, in training."""

    def __init__(self, given: DenseSettings) -> None:
        import torch
        from tools.tiny.muon import Muon

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given.seed)
            self.visual = tiny_visual(given.shape)
            self.things = torch.nn.Linear(given.shape.width, len(thing_names()) + 1)
            self.kinds = torch.nn.Linear(given.shape.width, len(KINDS) + 1)
            self.domain = torch.nn.Linear(given.shape.width, 1)
            self.turned = torch.nn.Linear(given.shape.width, 1)
            self.places = torch.nn.Linear(given.shape.width, len(PLACES))
        self.tower = Tower(self.visual, given.shape.side)
        self.module = torch.nn.ModuleList([self.visual, self.things, self.kinds, self.domain, self.turned, self.places])
        if given.start:
            self.module.load_state_dict(torch.load(given.start)["module"])
        matrices = [p for n, p in self.visual.named_parameters() if p.ndim == 2 and n.startswith("blocks")]
        inside = {id(p) for p in matrices}
        others = [p for p in self.module.parameters() if id(p) not in inside]
        self.optimizers = [
            Muon(matrices, given.rate),
            torch.optim.AdamW(others, lr=given.rate, weight_decay=0.01, betas=(0.9, 0.98)),
        ]

    def look(self, pictures: Any) -> Any:
        """(pictures, side, side, 3) bytes -> (pictures, tokens, width)."""
        import torch

        with autocast():
            return self.tower(torch.from_numpy(patches_of(pictures)).to(precision()))

    def loss(self, batch: Batch, apart: Any) -> Any:
        """apart: (kinds, things), with 0 for no kind and for background; True for what never stood together."""
        import torch
        import torch.nn.functional as F

        seen = self.look(batch.pictures)
        with autocast():
            heads = (self.things, self.kinds, self.turned, self.places)
            thing, kind, turned, place = (head(seen).float() for head in heads)
            domain = self.domain(seen.mean(dim=1)).float()[:, 0]
        covered, judged = batch.things > 0, batch.kinds >= 0
        weight = torch.where(covered, 1.0, 0.1) * (batch.things >= 0) * torch.where(judged, 1.0, 2.0)
        thing = thing.masked_fill(apart[batch.kinds.clamp(min=0)], -1e4)
        named = F.cross_entropy(thing.flatten(0, 1), batch.things.clamp(min=0).flatten(), reduction="none")
        told, there, known = covered & judged, batch.places[:, None].expand_as(covered), batch.scene >= 0
        kind = kind.masked_fill(apart.T[batch.things.clamp(min=0)], -1e4)
        sides = batch.turned >= 0
        stands, binary = covered & (there >= 0), F.binary_cross_entropy_with_logits
        return (
            (named * weight.flatten()).sum() / weight.sum()
            + 1.5 * _mean(F.cross_entropy, kind[told], batch.kinds[told])
            + 0.2 * _mean(binary, domain[known], batch.scene[known])
            + 0.5 * _mean(binary, turned[..., 0][sides], batch.turned[sides].float())
            + 0.2 * _mean(F.cross_entropy, place[stands], there[stands])
        )


def _mean(loss: Any, given: Any, wanted: Any) -> Any:
    """Of a batch in which there may be nothing of the kind: zero then."""
    return loss(given, wanted, reduction="sum") / max(len(wanted), 1)


def train_dense(folder: Path, shards: Sequence[Path], given: DenseSettings, unseen: Path | None = None) -> Path:
    """Writes tower.pt (the vision tower's parameters; given back), words.pt (what the head of things learnt: a row for
    the background, then one for each name), log.jsonl, and state.pt to go on from.

    unseen: a shard of what was held out of training, measured beside the last shard.
    """
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    dense, data = Dense(given), Pictures(shards[:-1], given)
    test, new = read_shard(shards[-1]), read_shard(unseen) if unseen else None
    first, state = 0, folder / "state.pt"
    if state.exists():
        held = torch.load(state)
        dense.module.load_state_dict(held["module"])
        for optimizer, there in zip(dense.optimizers, held["optimizers"], strict=True):
            optimizer.load_state_dict(there)
        first = held["step"]
    began = time.monotonic()
    sums: list[float] = []
    for step in range(first, given.steps):
        data.refresh(shards[0].parent, shards[-1])
        rate = given.rate * _share(step, given)
        for optimizer in dense.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.zero_grad(set_to_none=True)
        loss = dense.loss(data.batch(np.random.default_rng([given.seed, step]), given.batch), data.apart())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(dense.module.parameters(), 1.0, error_if_nonfinite=True)
        for optimizer in dense.optimizers:
            optimizer.step()
        sums.append(float(loss.detach()))
        if (step + 1) % given.save_every == 0 or step + 1 == given.steps:
            line = {"step": step + 1, "loss": float(np.mean(sums)), "seconds": time.monotonic() - began, "rate": rate}
            line |= measure(dense, test, given.kinds) | ({"unseen": measure(dense, new, given.kinds)} if new else {})
            sums = []
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            _save(dense, step + 1, folder)
    return folder / "tower.pt"


def mean_tower(folder: Path, states: Sequence[Path], given: DenseSettings) -> Path:
    """Writes the mean of these state.pt, as `train_dense` writes a tower; gives back tower.pt."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    dense = Dense(given)
    dense.module.load_state_dict(mean([torch.load(state)["module"] for state in states]))
    _save(dense, 0, folder)
    return folder / "tower.pt"


def _share(step: int, given: DenseSettings) -> float:
    left = (given.steps - step) / (given.steps * given.decay)
    return min((step + 1) / given.warm_up, 1.0, left)


def _save(dense: Dense, step: int, folder: Path) -> None:
    import torch

    optimizers = [optimizer.state_dict() for optimizer in dense.optimizers]
    whole = {"module": dense.module.state_dict(), "optimizers": optimizers, "step": step}
    words = dense.things.weight.detach()
    for name, content in (("state.pt", whole), ("tower.pt", dense.visual.state_dict()), ("words.pt", words)):
        part = folder / f"{name}.part"
        torch.save(content, part)
        part.replace(folder / name)


class Pictures:
    """Random batches from shards; where no text is to be read, half of them turned left to right."""

    def __init__(self, shards: Sequence[Path], given: DenseSettings) -> None:
        self.given = given
        self.shards: dict[Path, tuple[Shard, set[int]]] = {}
        self.shown: dict[Path, list[tuple[int, Any]]] = {}
        self.written: set[int] = set()
        self.together = np.zeros((len(KINDS) + 1, len(thing_names()) + 1), dtype=np.bool_)
        for path in shards:
            self._add(path)

    def _add(self, path: Path) -> None:
        shard = read_shard(path)
        self.shards[path] = shard, set(usable(shard, self.given.kinds))
        self.written |= set(np.unique(shard.things[shard.kinds == 1 + KINDS.index("text")]).tolist())
        self.together[shard.kinds, shard.things] = True
        there = [(int(thing), np.any(shard.things == thing, axis=(1, 2))) for thing in np.unique(shard.things) if thing]
        self.shown[path] = [(thing, np.flatnonzero(rows)) for thing, rows in there]

    def refresh(self, folder: Path, test: Path) -> None:
        """Take in shards that have been drawn since."""
        for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]")):
            if path != test and path not in self.shards:
                self._add(path)

    def apart(self) -> Any:
        """See `Dense.loss`. Of kinds that befall few things, all others are denied, for most cannot have them; but
        never what is held out."""
        import torch

        common = (self.together.mean(axis=1) >= COMMON) & (not self.given.denied)
        common[0] = False
        apart = ~self.together & (common[:, None] | _held_out())
        apart[:, 0] = False
        return torch.from_numpy(apart)

    def batch(self, rng: np.random.Generator, count: int) -> Batch:
        import torch

        names = sorted(self.shards)
        rows: list[tuple[Any, ...]] = []
        while len(rows) < count:
            shard, fit = self.shards[names[int(rng.integers(len(names)))]]
            start = int(rng.integers(len(shard.answers) - RUN))
            flip = rng.random() < 0.5
            rows += [self._row(rng, shard, k, flip) for k in sorted(fit.intersection(range(start, start + RUN)))]
        pictures, *labels = (np.stack(part) for part in zip(*rows[:count], strict=True))
        return Batch(pictures, *map(torch.from_numpy, labels))

    def _row(self, rng: np.random.Generator, shard: Shard, k: int, flip: bool) -> tuple[Any, ...]:
        """Picture and labels, in the order of `Batch`."""
        things, kinds = shard.things[k], shard.kinds[k]
        flip = flip and self.written.isdisjoint(things.ravel().tolist())
        view = _view(shard, k)
        if flip:
            things, kinds = things[:, ::-1], kinds[:, ::-1]
            view = View(*(part[:, ::-1] for part in (view.picture, view.outlines, view.turned)))
        thing, kind = (part.ravel().astype(np.int64) for part in (things, kinds))
        turned = np.where((thing > 0) & told_upright()[thing], kind == 1 + KINDS.index("orientation"), -1)
        place, scene = int(shard.places[k]) - 1, float(shard.answers[k]["answer"] is not None)
        new = np.zeros(thing.shape, dtype=np.bool_)
        if rng.random() < self.given.repainted:
            view, touched = repainted(rng, view)
            new |= changed_tokens(touched)
        if rng.random() < self.given.strange:
            view, place, scene = changed(rng, view), -1, -1.0
            new[:] = True
        if rng.random() < self.given.cutouts:
            view, touched = with_cutouts(rng, view, self._cutouts(rng, len(view.picture)))
            new |= changed_tokens(touched)
        if new.any():
            named, down = tokens(view)
            thing, turned, kind = np.where(new, named, thing), np.where(new, down, turned), np.where(new, -1, kind)
        return view.picture, thing, kind, turned, np.int64(place), np.float32(scene)

    def _cutouts(self, rng: np.random.Generator, side: int) -> list[Cutout]:
        """Rare things as often as common ones."""
        paths, found = sorted(self.shards), list[Cutout | None]()
        for _ in range(int(rng.integers(1, 5))):
            if rng.random() < DRAWN:
                found.append(drawn(rng, with_picture()[int(rng.integers(len(with_picture())))], side))
                continue
            path = paths[int(rng.integers(len(paths)))]
            thing, rows = self.shown[path][int(rng.integers(len(self.shown[path])))]
            found.append(cut(rng, _view(self.shards[path][0], int(rng.choice(rows))), thing))
        return [one for one in found if one]


@cache
def _held_out() -> Any:
    """(kinds, things): of every kind and thing, whether they are kept from training together."""
    rows = [[False, *(held_out(kind, name) for name in thing_names())] for kind in KINDS]
    return np.array([np.zeros(len(rows[0]), dtype=np.bool_), *rows])


def _view(shard: Shard, k: int) -> View:
    wrong = shard.kinds[k] == 1 + KINDS.index("orientation")
    turned = np.kron(wrong, np.full((STEP, STEP), UNKNOWN)).astype(np.uint8)
    return View(shard.pictures[k], shard.outlines[k], turned)


def measure(dense: Dense, shard: Shard, kinds: Sequence[Kind], count: int = 512) -> dict[str, Any]:
    """Accuracy on tokens: the thing where one is; the kind where something is wrong, the thing and both there; kinds
    that are claimed where nothing is wrong. Only `kinds` are chosen from, all when empty."""
    import torch

    chosen = usable(shard, kinds)[:count]
    left = torch.tensor([bool(kinds) and kind not in kinds for kind in KINDS])
    named: list[Any] = []
    told: list[Any] = []
    with torch.no_grad():
        for k in range(0, len(chosen), 64):
            seen = dense.look(shard.pictures[chosen[k : k + 64]]).float()
            named.append(dense.things(seen).argmax(-1).numpy())
            judged = dense.kinds(seen)
            judged[..., 1:].masked_fill_(left, -1e4)
            told.append(judged.argmax(-1).numpy())
    thing, kind = np.concatenate(named), np.concatenate(told)
    things, wrong = (labels[chosen].reshape(len(chosen), -1) for labels in (shard.things, shard.kinds))
    covered, there = things > 0, wrong > 0
    name, judged = thing == things, kind == wrong

    def share(right: Any, of: Any) -> float:
        return round(float(right[of].mean()), 4)

    def by_kind(right: Any) -> dict[str, float]:
        marked = {one: wrong == k + 1 for k, one in enumerate(KINDS)}
        return {one: share(right, of) for one, of in marked.items() if of.any()}

    return {
        "thing": share(name, covered),
        "kind": share(judged, there),
        "both": share(name & judged, there),
        "false": share(~judged, covered & ~there),
        "by_kind": by_kind(judged),
        "named_by_kind": by_kind(name),
    }
