"""First stage: the vision tower learns from exact labels which thing each token shows and what is wrong with it.

Answers alone teach a small tower nothing in reasonable time: of a hundred words of an answer a handful depend on the
picture. Two linear heads on the tower's output are trained here and thrown away afterwards. Stops and resumes at any
time; see `tools/make_tiny.py` for the whole chain.

    train_dense(Path("dense"), sorted(Path("corpus").glob("[0-9]*")), DenseSettings(steps=6000))
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from anomreason.scenes.scene import KINDS, Kind
from anomreason.training.tiny.corpus import Shard, read_shard, thing_names, usable
from anomreason.training.tiny.model import TinyShape, tiny_visual
from anomreason.training.tiny.tower import Tower, patches_of

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


class Dense:
    """Tower and heads, in training."""

    def __init__(self, given: DenseSettings) -> None:
        import torch

        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(given.seed)
            self.visual = tiny_visual(given.shape)
            self.things = torch.nn.Linear(given.shape.width, len(thing_names()) + 1)
            self.kinds = torch.nn.Linear(given.shape.width, len(KINDS) + 1)
            self.domain = torch.nn.Linear(given.shape.width, 1)
        self.tower = Tower(self.visual, given.shape.side)
        self.module = torch.nn.ModuleList([self.visual, self.things, self.kinds, self.domain])
        matrices = [p for n, p in self.visual.named_parameters() if p.ndim == 2 and n.startswith("blocks")]
        inside = {id(p) for p in matrices}
        others = [p for p in self.module.parameters() if id(p) not in inside]
        self.optimizers = [
            torch.optim.Muon(matrices, lr=given.rate, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"),
            torch.optim.AdamW(others, lr=given.rate, weight_decay=0.01, betas=(0.9, 0.98)),
        ]

    def look(self, pictures: Any) -> Any:
        """(pictures, side, side, 3) bytes -> (pictures, tokens, width)."""
        import torch

        with torch.autocast("cpu", torch.bfloat16):
            return self.tower(torch.from_numpy(patches_of(pictures)).bfloat16())

    def loss(self, pictures: Any, things: Any, kinds: Any, scene: Any) -> Any:
        """things, kinds: (pictures, tokens) labels; scene: (pictures,) 1 where it is one."""
        import torch
        import torch.nn.functional as F

        seen = self.look(pictures)
        with torch.autocast("cpu", torch.bfloat16):
            thing, kind, domain = self.things(seen), self.kinds(seen), self.domain(seen.mean(dim=1))
        covered = things > 0
        weight = torch.where(covered, 1.0, 0.2)
        named = F.cross_entropy(thing.float().flatten(0, 1), things.flatten(), reduction="none")
        told = F.cross_entropy(kind.float()[covered], kinds[covered])
        known = F.binary_cross_entropy_with_logits(domain.float()[:, 0], scene)
        return (named * weight.flatten()).sum() / weight.sum() + 1.5 * told + 0.2 * known


def train_dense(folder: Path, shards: Sequence[Path], given: DenseSettings) -> Path:
    """Writes tower.pt (the vision tower's parameters; given back), log.jsonl, and state.pt to go on from."""
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    dense, data = Dense(given), Pictures(shards[:-1], given.kinds)
    test = read_shard(shards[-1])
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
        loss = dense.loss(*data.batch(np.random.default_rng([given.seed, step]), given.batch))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(dense.module.parameters(), 1.0)
        for optimizer in dense.optimizers:
            optimizer.step()
        sums.append(float(loss.detach()))
        if (step + 1) % given.save_every == 0 or step + 1 == given.steps:
            line = {"step": step + 1, "loss": float(np.mean(sums)), "seconds": time.monotonic() - began, "rate": rate}
            line |= measure(dense, test, given.kinds)
            sums = []
            with (folder / "log.jsonl").open("a", encoding="utf-8") as log:
                log.write(json.dumps(line) + "\n")
            print(json.dumps(line), flush=True)
            _save(dense, step + 1, folder)
    return folder / "tower.pt"


def _share(step: int, given: DenseSettings) -> float:
    left = (given.steps - step) / (given.steps * given.decay)
    return min((step + 1) / given.warm_up, 1.0, left)


def _save(dense: Dense, step: int, folder: Path) -> None:
    import torch

    optimizers = [optimizer.state_dict() for optimizer in dense.optimizers]
    whole = {"module": dense.module.state_dict(), "optimizers": optimizers, "step": step}
    for name, content in (("state.pt", whole), ("tower.pt", dense.visual.state_dict())):
        part = folder / f"{name}.part"
        torch.save(content, part)
        part.replace(folder / name)


class Pictures:
    """Random batches from shards; where no text is to be read, half of them turned left to right."""

    def __init__(self, shards: Sequence[Path], kinds: Sequence[Kind]) -> None:
        self.shards: dict[Path, tuple[Shard, set[int]]] = {}
        self.kinds = kinds
        self.written: set[int] = set()
        for path in shards:
            self._add(path)

    def _add(self, path: Path) -> None:
        shard = read_shard(path)
        self.shards[path] = shard, set(usable(shard, self.kinds))
        self.written |= set(np.unique(shard.things[shard.kinds == 1 + KINDS.index("text")]).tolist())

    def refresh(self, folder: Path, test: Path) -> None:
        """Take in shards that have been drawn since."""
        for path in sorted(folder.glob("[0-9][0-9][0-9][0-9]")):
            if path != test and path not in self.shards:
                self._add(path)

    def batch(self, rng: np.random.Generator, count: int) -> tuple[Any, Any, Any, Any]:
        import torch

        names = sorted(self.shards)
        rows: list[tuple[Any, Any, Any, float]] = []
        while len(rows) < count:
            shard, fit = self.shards[names[int(rng.integers(len(names)))]]
            start = int(rng.integers(len(shard.answers) - RUN))
            flip = rng.random() < 0.5
            for k in sorted(fit.intersection(range(start, start + RUN))):
                row = (shard.pictures[k], shard.things[k], shard.kinds[k])
                if flip and self.written.isdisjoint(row[1].ravel().tolist()):
                    row = (row[0][:, ::-1], row[1][:, ::-1], row[2][:, ::-1])
                rows.append((*row, float(shard.answers[k]["answer"] is not None)))
        pictures, things, kinds, scenes = (np.stack(part) for part in zip(*rows[:count], strict=True))
        flat = [torch.from_numpy(part.reshape(count, -1).astype(np.int64)) for part in (things, kinds)]
        return pictures, flat[0], flat[1], torch.from_numpy(scenes.astype(np.float32))


def measure(dense: Dense, shard: Shard, kinds: Sequence[Kind], count: int = 512) -> dict[str, Any]:
    """Accuracy on tokens: the thing where one is, the kind where something is wrong, false kinds where nothing is."""
    import torch

    chosen = usable(shard, kinds)[:count]
    named: list[Any] = []
    told: list[Any] = []
    with torch.no_grad():
        for k in range(0, len(chosen), 64):
            seen = dense.look(shard.pictures[chosen[k : k + 64]])
            named.append(dense.things(seen.float()).argmax(-1).numpy())
            told.append(dense.kinds(seen.float()).argmax(-1).numpy())
    thing, kind = np.concatenate(named), np.concatenate(told)
    things, wrong = (labels[chosen].reshape(len(chosen), -1) for labels in (shard.things, shard.kinds))
    covered = things > 0
    by_kind = {
        name: round(float((kind == k + 1)[wrong == k + 1].mean()), 3)
        for k, name in enumerate(KINDS)
        if np.any(wrong == k + 1)
    }
    return {
        "thing": round(float((thing == things)[covered].mean()), 4),
        "kind": round(float((kind == wrong)[wrong > 0].mean()), 4),
        "false": round(float((kind > 0)[covered & (wrong == 0)].mean()), 4),
        "by_kind": by_kind,
    }
