"""One training: what all its stages share, and what comes of it.

Knows no torch and does nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from anomreason.training.checks import Proof
from anomreason.training.data.instance import Instance
from anomreason.training.folder import TrainingFolder
from anomreason.training.recipe import Recipe
from anomreason.vlm.local.weights import Checkpoint

PROBES = 2
"""Conversations on which the trained and the saved model are compared."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A training that is over."""

    folder: Path
    spec: str
    """What `--model` takes."""
    steps: int
    chosen: int
    """The step whose weights were kept."""
    by: str
    """What they were chosen by: a score's name, `loss` of held-out conversations, or `last`."""
    scores: Mapping[str, float]
    """Of those weights on the held-out sample."""
    proofs: tuple[Proof, ...]


@dataclass(frozen=True, slots=True)
class Job:
    """A training that is going on."""

    recipe: Recipe
    source: Checkpoint
    instances: Sequence[Instance]
    sample: Sequence[Instance]
    """Held-out conversations that are measured."""
    folder: TrainingFolder
    processes: int
    main: bool

    @property
    def probes(self) -> Sequence[Instance]:
        return (*self.sample, *self.instances)[:PROBES]
