"""Things that nothing is wrong with are made to look equally sound, whatever they are: in closed form, after training.

How unlikely a kind is held of a sound thing depends on what training showed of that thing (that a suitcase is turned:
-19, a helicopter: -4), and what is wrong with a thing adds to that. So one bound for all things misses what was never
wrong so. A linear map of the tower's output tells a thing's own level from what it shows, and takes it off in the
direction in which wrong things differ from sound ones; it becomes part of the tower's last layer.

    tower = level_tower(Path("levelled"), Path("tower") / "state.pt", shards, DenseSettings(steps=0, kinds=KNOWN))
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from anomreason.scenes.scene import KINDS, Kind
from anomreason.training.tiny.corpus import Shard, read_shard, thing_names, usable
from anomreason.training.tiny.dense import Dense, DenseSettings, save_tower

SOUND = -15.0
"""Where things come to lie: what the head of kinds gives a kind less what it gives none. The mean was about there."""
LEAST = 20
"""Sound tokens that a thing must have; of others nothing is taken off."""
RIDGE = 1e-3
Seen = tuple[Any, Any, Any]
"""(tokens, width) of the tower, and by token its thing and its kind, (tokens,), 0 for none."""


def level_tower(folder: Path, state: Path, shards: Sequence[Path], given: DenseSettings) -> Path:
    """Writes the tower of this state.pt, levelled on these shards, as `train_dense` writes one; gives back tower.pt.

    The heads give what they gave, but for that of kinds, whose answers are level now.
    """
    import torch

    dense = Dense(given)
    dense.module.load_state_dict(torch.load(state)["module"])
    chunks = (one for path in shards for one in _seen(dense, read_shard(path), given.kinds))
    seen = [(tokens.flatten(0, 1), things.flatten(), wrong.flatten()) for tokens, things, wrong in chunks]
    turn, shift = levelling(seen, dense.kinds.weight.detach(), dense.kinds.bias.detach())
    back, last = torch.linalg.inv(turn), dense.visual.merger.mlp[-1]
    with torch.no_grad():
        last.weight.copy_(turn @ last.weight)
        last.bias.copy_(turn @ last.bias + shift)
        for head in (dense.things, dense.domain, dense.turned, dense.places):
            head.weight.copy_(head.weight @ back)
            head.bias.sub_(head.weight @ shift)
    folder.mkdir(parents=True, exist_ok=True)
    save_tower(dense, 0, folder)
    return folder / "tower.pt"


def _seen(dense: Dense, shard: Shard, kinds: Sequence[Kind]) -> Iterator[Seen]:
    """(pictures, tokens, width) and (pictures, tokens) twice."""
    import torch

    fit = usable(shard, kinds)
    for k in range(0, len(fit), 100):
        rows = list(fit[k : k + 100])
        with torch.no_grad():
            seen = dense.look(shard.pictures[rows]).bfloat16()
        things, wrong = (part[rows].reshape(len(rows), -1).astype(np.int64) for part in (shard.things, shard.kinds))
        yield seen, torch.from_numpy(things), torch.from_numpy(wrong)


def told_apart(
    dense: Dense, shown: Path, unseen: Path, kinds: Sequence[Kind], false: float = 0.003
) -> dict[str, float]:
    """What one bound for all things can find: of the wrong things of the shard `unseen`, the share whose tokens lie
    above it on the mean, of all and by kind. Of the sound things of the shard `shown` the share `false` does."""
    sound = [float(above.max()) for _, above in _instances(dense, shown, kinds, sound=True)]
    bound = np.quantile(sound, 1 - false)
    found = [(kind, float(above[kind]) > bound) for kind, above in _instances(dense, unseen, kinds, sound=False)]
    hits = {"all": [hit for _, hit in found]}
    for kind, hit in sorted(found):
        hits.setdefault(KINDS[kind], []).append(hit)
    return {name: float(np.mean(of)) for name, of in hits.items()}


def _instances(dense: Dense, path: Path, kinds: Sequence[Kind], sound: bool) -> Iterator[tuple[int, Any]]:
    """Of each thing of each picture that is sound, or is not: its kind, among KINDS, and for every kind of `kinds` what
    the head gives it less what it gives none, (kinds,), mean over its tokens; -inf for others."""
    import torch

    left = torch.tensor([kind not in kinds for kind in KINDS])
    for seen, *labels in _seen(dense, read_shard(path), kinds):
        with torch.no_grad():
            given = dense.kinds(seen.float())
        above = (given[..., 1:] - given[..., :1]).masked_fill(left, -torch.inf)
        for row, things, wrong in zip(above, *labels, strict=True):
            for thing, kind in sorted(set(zip(things.tolist(), wrong.tolist(), strict=True))):
                if thing and sound == (kind == 0):
                    yield kind - 1, row[(things == thing) & (wrong == kind)].mean(0)


def levelling(seen: Sequence[Seen], weight: Any, bias: Any) -> tuple[Any, Any]:
    """The map (width, width) and what is added to it (width,), of tokens as rows: seen @ map.T + added.

    weight, bias: of the head of kinds, (1 + kinds, width) and (1 + kinds,), none first. Of kinds that no token shows
    nothing is levelled.
    """
    import torch

    most, width = 1 + len(thing_names()), weight.shape[1]
    sums, counts = torch.zeros(most, 1 + width, dtype=torch.double), torch.zeros(most, dtype=torch.double)
    sound, sounds = torch.zeros_like(sums), torch.zeros_like(counts)
    for tokens, things, wrong in seen:
        rows, well = _rows(tokens), wrong == 0
        sums.index_add_(0, things, rows)
        counts += torch.bincount(things, minlength=most)
        sound.index_add_(0, things[well], rows[well])
        sounds += torch.bincount(things[well], minlength=most)
    sound = sound[:, :-1] / sounds.clamp(min=1)[:, None]
    across = (weight[1:] - weight[0]).double()
    above = torch.where((sounds >= LEAST)[:, None], sound @ across.T + (bias[1:] - bias[0]) - SOUND, 0.0)
    above[0] = 0.0
    # Each thing counts as much as every other; the background as one of them.
    each = 1 / counts.clamp(min=1)
    squares = torch.zeros(1 + width, 1 + width, dtype=torch.double)
    apart, wrongs = torch.zeros(1 + len(KINDS), width, dtype=torch.double), torch.zeros(1 + len(KINDS))
    for tokens, things, wrong in seen:
        rows, known = _rows(tokens), sounds[things] >= LEAST
        squares += rows.T @ (rows * each[things, None])
        apart.index_add_(0, wrong[known], (rows[:, :-1] - sound[things])[known])
        wrongs += torch.bincount(wrong[known], minlength=len(wrongs))
    goal = (sums * each[:, None]).T @ above
    own = torch.linalg.solve(squares + RIDGE * squares.diagonal().mean() * torch.eye(1 + width), goal)
    shown = torch.nonzero(wrongs[1:]).flatten()
    along = apart[1 + shown] / wrongs[1 + shown, None]
    along = torch.linalg.solve(along @ across[shown].T, along)  # (shown, width): each moves its kind by one, no other
    turn = torch.eye(width) - along.T @ own[:-1, shown].T
    return turn.float(), -(own[-1, shown] @ along).float()


def _rows(tokens: Any) -> Any:
    """Tokens, and one beside each for what is added."""
    import torch

    return torch.nn.functional.pad(tokens.double(), (0, 1), value=1.0)
