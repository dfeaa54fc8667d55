"""What an audit compares: the images that each generator made from the same prompts, and what assessors said of them.

study = Study(prompts=(AuditPrompt(id="1", text="a cup"),), generators=("flux",), seeds=(0, 1), images=(...))
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from anomreason.anomaly import Detection, Record


class AuditPrompt(Record):
    """One prompt of an audit, and one line of a pack of prompts."""

    id: str
    """Name within the audit, e.g. `p017`."""
    text: str
    tags: tuple[str, ...] = ()
    """What the prompt asks of a generator, e.g. `people in motion`."""


@dataclass(frozen=True, slots=True)
class AuditImage:
    """One image that a generator was to make: there is one for each generator, prompt and seed of a study."""

    generator: str
    prompt: str
    """Id of the prompt."""
    seed: int
    path: Path | None = None
    """The image file; None when there is none."""
    missing: str | None = None
    """Why there is no image: `refused`, `blank`, `failed`, `not given` (by its folder) or `not made` (not begun yet);
    None when there is one."""

    @property
    def key(self) -> str:
        """Name of the image within the study, and in the runs of its assessors."""
        return f"{self.generator}/{self.prompt}-{self.seed}"


@dataclass(frozen=True, slots=True)
class Study:
    """Everything that the report of an audit is made from."""

    prompts: tuple[AuditPrompt, ...]
    generators: tuple[str, ...]
    """Names, in the order of the audit's file."""
    seeds: tuple[int, ...]
    images: tuple[AuditImage, ...]
    """All of them, those that are missing included."""
    assessments: Mapping[str, Mapping[str, Detection]] = field(default_factory=dict)
    """By name of the assessor, and then by key of the image; an image that was not assessed yet is not in it."""
    simulated: bool = False
    """Whether an assessor is the simulator, so that its answers are no real ones."""
    notes: tuple[str, ...] = ()
    """What a reader must know of the images and assessments, in sentences."""
