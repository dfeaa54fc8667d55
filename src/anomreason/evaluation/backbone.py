"""Which model compares texts, and how it is opened; naming it costs nothing.

BackboneSpec("distilbert-base-uncased").open()
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from anomreason.errors import UsageError

if TYPE_CHECKING:
    from anomreason.metrics.bertscore import Backbone


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """What similarities are computed with."""

    name: str = "distilbert-base-uncased"
    """Hugging Face id or local folder."""
    layer: int | None = None
    """None for the usual one, where it is known."""
    precision: str = "fp32"
    threads: int | None = None
    """Of the CPU; None leaves it to torch."""

    def open(self) -> Backbone:
        """Raises MissingExtra without torch and transformers, UsageError for what cannot be loaded."""
        from anomreason.metrics.bertscore import Backbone

        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, not {self.threads}")
        opened = Backbone.open(self.name, self.layer, self.precision)
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        return opened
