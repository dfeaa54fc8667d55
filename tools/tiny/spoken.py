"""What the language model learns from: features and answers of shards, some of them changed as they are drawn.

Things are exchanged for others, in what is seen and in what is said, so that what often has a kind is not said for what
rarely has it. Sound things raise alarms, so that what was never wrong is said to be so when it is seen to be.

    spoken = Spoken(speech, Path("features"), shards, TINY_KINDS, exchanged=0.6)
    spoken.more(), spoken.batch(numpy.random.default_rng(0), 48)
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tools.tiny.corpus import Shard, held_out, read_shard, thing_names, usable
from tools.tiny.exchange import EXCHANGEABLE, AnswerTokens
from tools.tiny.speech import Speech

from anomreason.anomaly import KINDS, Kind
from anomreason.scenes.sprites.table import table

SHIFTS = 0.15, 0.8
"""How much of what wrong things have more than sound ones is seen in an alarm. Of things that training never showed so
the tower shows that much."""


class Spoken:
    """Features and answers of shards, computed as they are asked for and kept on the disk."""

    def __init__(
        self,
        speech: Speech,
        folder: Path,
        shards: Sequence[Path],
        kinds: Sequence[Kind],
        exchanged: float = 0.0,
        alarmed: float = 0.0,
    ) -> None:
        import torch

        self.speech, self.folder, self.left, self.kinds = speech, folder, list(shards), kinds
        self.exchanged, self.alarmed = exchanged, alarmed
        self.rows: list[tuple[Any, list[AnswerTokens], Any]] = []
        self.texts: list[AnswerTokens] = []
        most = 1 + len(thing_names())
        width = speech.model.config.text_config.hidden_size
        self._sums, self._counts = torch.zeros(most, width), torch.zeros(most, 1)
        self._wrong, self._wrongs = torch.zeros(len(KINDS) + 1, width), torch.zeros(len(KINDS) + 1, 1)
        folder.mkdir(parents=True, exist_ok=True)

    def more(self) -> bool:
        """Take in one shard more; False when none is left."""
        import torch

        if not self.left:
            return False
        path = self.left.pop(0)
        shard, kept = read_shard(path), self.folder / f"{path.name}.pt"
        fit = usable(shard, self.kinds)
        if not kept.exists():
            torch.save(self._features(shard, fit), kept.with_suffix(".part"))
            kept.with_suffix(".part").rename(kept)
        said = [self.speech.said(told) for told in shard.answers]
        features = torch.load(kept, mmap=True)
        things = torch.from_numpy(shard.things[fit].reshape(len(fit), -1)).long()
        self.rows.append((features, [said[k] for k in fit], things))
        self._sums.index_add_(0, things.flatten(), features.flatten(0, 1).float())
        self._counts += torch.bincount(things.flatten(), minlength=len(self._counts))[:, None]
        wrong = torch.from_numpy(shard.kinds[fit].reshape(len(fit), -1)).long()
        means = self._sums / self._counts.clamp(min=1)
        self._wrong.index_add_(0, wrong.flatten(), (features.float() - means[things]).flatten(0, 1))
        self._wrongs += torch.bincount(wrong.flatten(), minlength=len(self._wrongs))[:, None]
        self.texts += said
        return True

    def _features(self, shard: Shard, fit: Sequence[int]) -> Any:
        import torch

        with torch.no_grad():
            parts = [
                self.speech.features(shard.pictures[list(fit[k : k + 100])]).bfloat16() for k in range(0, len(fit), 100)
            ]
        return torch.cat(parts)

    def batch(self, rng: np.random.Generator, count: int) -> tuple[Any, list[AnswerTokens]]:
        """Pictures of one shard with answers of similar length, so that little is padding."""
        import torch

        features, answers, things = self.rows[int(rng.integers(len(self.rows)))]
        pool = rng.choice(len(answers), size=count * 4, replace=False)
        pool = pool[np.argsort([len(answers[k].ids) + rng.random() for k in pool])]
        start = int(rng.integers(4)) * count
        chosen = pool[start : start + count]
        rows = [self._row(rng, features[k], answers[k], things[k]) for k in chosen]
        return torch.stack([seen for seen, _ in rows]), [answer for _, answer in rows]

    def _row(self, rng: np.random.Generator, seen: Any, answer: AnswerTokens, things: Any) -> tuple[Any, AnswerTokens]:
        """Sometimes with a thing exchanged: its tokens move by what lies between the two things' means. Of clean scenes
        sometimes with an alarm: a thing's tokens move by what wrong things have more than sound ones."""
        if answer.silent == 0 and things.any() and rng.random() < self.alarmed:
            return self._alarm(rng, seen, things)
        found = self.speech.exchange(rng, answer) if rng.random() < self.exchanged else None
        if found is None:
            return seen, answer
        said, old, new = found
        shown = things == 1 + old
        if not self._counts[1 + new] or not shown.any():
            return seen, answer
        means = self._sums[[1 + old, 1 + new]] / self._counts[[1 + old, 1 + new]]
        return seen + shown[:, None] * (means[1] - means[0]).to(seen.dtype), said

    def _alarm(self, rng: np.random.Generator, seen: Any, things: Any) -> tuple[Any, AnswerTokens]:
        there = sorted(set(things.unique().tolist()) - {0})
        thing = table().things[there[int(rng.integers(len(there)))] - 1]
        kinds = [kind for kind in (*EXCHANGEABLE, "function") if not held_out(kind, thing.name)]
        kind = kinds[int(rng.integers(len(kinds)))]
        more = self._wrong[1 + KINDS.index(kind)] / self._wrongs[1 + KINDS.index(kind)].clamp(min=1)
        shown = things == 1 + thing_names().index(thing.name)
        return seen + shown[:, None] * (rng.uniform(*SHIFTS) * more).to(seen.dtype), self.speech.alarm(thing, kind)

    def reading(self, rng: np.random.Generator, count: int) -> tuple[Any, list[AnswerTokens]]:
        """Answers of any kind, and nothing to be seen."""
        import torch

        chosen = rng.choice(len(self.texts), size=count, replace=False)
        return torch.zeros_like(self.rows[0][0][:1]).expand(count, -1, -1), [self.texts[k] for k in chosen]
