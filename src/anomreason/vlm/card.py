"""The detector card `anomreason.json` of a checkpoint or adapter: the prompt and reply form it was trained with.

>>> DetectorCard(prompt="List every semantic anomaly.").answer
'text'
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError, model_validator

from anomreason.anomaly import Kind, Record, Text
from anomreason.errors import UsageError, first_error

CARD_NAME = "anomreason.json"
_LARGEST_CARD = 1 << 20
TINY_KINDS: tuple[Kind, ...] = (
    "floating",
    "scale",
    "orientation",
    "out_of_place",
    "colour",
    "reflection",
    "function",
    "count",
)
"""Kinds of anomaly that the bundled model was trained on."""


class DetectorCard(Record):
    """Prompt, reply form and pixel budget of a fine-tuned detector. They replace our own."""

    prompt: Text
    """The user's message, sent after the image; after `source`, the second message."""
    source: Text | None = None
    """First message of a detector that was trained in two turns: is the image AI-generated? None: there is one turn."""
    generated: Text | None = None
    """Its answer to `source` for an AI image; then its answer to `prompt` lists anomalies."""
    photograph: Text | None = None
    """Its answer to `source` for a photograph; then its answer to `prompt` describes the image."""
    answer: Literal["text", "json"] = "text"
    """Form of the reply: the four-line text form or JSON."""
    out_of_domain: Text | None = None
    """The detector's reply to an image that is unlike its training images; None when it has no such reply."""
    min_pixels: int | None = Field(default=None, ge=1)
    """Smallest area an image is scaled to, in pixels; None keeps the checkpoint's own."""
    max_pixels: int | None = Field(default=None, ge=28 * 28)
    """Largest area an image is scaled to, in pixels; None keeps the checkpoint's own."""

    @model_validator(mode="after")
    def _ordered(self) -> DetectorCard:
        if self.min_pixels is not None and self.max_pixels is not None and self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is larger than max_pixels {self.max_pixels}")
        return self

    @model_validator(mode="after")
    def _both_turns(self) -> DetectorCard:
        if len({self.source is None, self.generated is None, self.photograph is None}) > 1:
            raise ValueError("source, generated and photograph belong together: give all three, or none")
        return self


def read_card(folder: Path) -> DetectorCard | None:
    """The card in `folder`, None when there is none. Raises UsageError for one that cannot be used."""
    path = folder / CARD_NAME
    if not path.exists():
        return None
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_CARD + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error}); correct or remove it") from error
    if len(data) > _LARGEST_CARD:
        raise UsageError(f"{path} is larger than {_LARGEST_CARD} bytes, so it is not a detector card; remove it")
    try:
        return DetectorCard.model_validate_json(data)
    except ValidationError as error:
        raise UsageError(f"{path}: {first_error(error, 'the file')}; correct it or remove the file") from error
