"""A training recipe: every setting of a training run, read from TOML; a wrong setting is named with its place.

The package carries recipes of its own, which are named without a path.

    >>> read_recipe("anomreasonor-7b").effective_batch
    128
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from anomreason.anomaly import Record, Text
from anomreason.errors import UsageError
from anomreason.recipes import RecipeShelf
from anomreason.training.data.questions import Task


class ModelPart(Record):
    """Which model is trained, and at which image size."""

    base: Text
    """Folder or hub id of a Qwen2.5-VL checkpoint."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`bf16`: 16-bit arithmetic, and 16-bit frozen weights; `auto`: bf16 on a GPU that supports it, else fp32."""
    four_bit: bool = False
    """Frozen weights in 4 bits (QLoRA); the vision tower stays in 16."""
    min_pixels: int = Field(default=50_176, ge=1)
    max_pixels: int = Field(default=614_656, ge=28 * 28)
    """Area that an image is scaled to, in pixels. The card passes the same to inference."""

    @model_validator(mode="after")
    def _ordered(self) -> ModelPart:
        if self.min_pixels > self.max_pixels:
            raise ValueError(f"min_pixels {self.min_pixels} is larger than max_pixels {self.max_pixels}")
        return self


class DataPart(Record):
    """Where conversations come from."""

    task: Task = "anomalies"
    """`anomalies`: one turn, the list. `authenticity`: generated or photograph, then the list or a description."""
    train: tuple[Text, ...] = ()
    """Sources: scenes' folders, run folders, the authors' JSON files."""
    held_out: tuple[Text, ...] = ()
    """Sources that are never trained on; the training is measured on them."""
    max_tokens: int = Field(default=4096, ge=64)
    """Longest conversation, image and answers included. Longer answers are split into several conversations."""
    prompt: Text | None = None
    """The one question to train and to ask with. None: the base's own where its card has one, else several wordings."""
    answer: Literal["text", "json"] = "text"
    """Form of the answers, for conversations of your own."""


class LoraPart(Record):
    """Low-rank adapters on some linear layers of the language model; everything else is frozen."""

    modules: tuple[Text, ...] = Field(default=("q_proj", "k_proj", "v_proj"), min_length=1)
    every: int = Field(default=4, ge=1)
    """Every n-th layer of the language model gets adapters."""
    first: int = Field(default=0, ge=0)
    """First layer with adapters: with every = 4, 0 gives 0, 4, ..; 3 gives 3, 7, .."""
    rank: int = Field(default=8, ge=1)
    alpha: float = Field(default=16, gt=0)
    """The adapter's output is scaled by alpha / rank."""
    dropout: float = Field(default=0.5, ge=0, lt=1)


class FullPart(Record):
    """Training of the weights themselves."""

    vision: bool = False
    """Whether the vision tower learns too."""
    projector: bool = True
    """Whether the merger between vision and language learns too."""


class BatchPart(Record):
    """Conversations per step: per_device * accumulation * devices, however many devices there are."""

    per_device: int = Field(default=4, ge=1)
    accumulation: int = Field(default=8, ge=1)
    devices: int = Field(default=1, ge=1)
    """Devices that the two numbers above are written for. With fewer, each accumulates more."""
    checkpointing: bool = True
    """Compute activations again in the backward pass instead of keeping them: less memory, about 30 % slower."""
    workers: int = Field(default=0, ge=0)
    """Processes per device that load images ahead of the model; 0: none."""


class StepsPart(Record):
    """Length and learning rate."""

    epochs: float = Field(default=1.0, gt=0)
    max_steps: int | None = Field(default=None, ge=1)
    """Replaces `epochs` where given."""
    learning_rate: float = Field(default=1e-4, gt=0)
    schedule: Literal["linear", "cosine", "constant", "constant_with_warmup"] = "cosine"
    warmup: float = Field(default=0.03, ge=0, lt=1)
    """Share of the steps over which the learning rate rises from 0."""
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    log_every: int = Field(default=10, ge=1)
    save_every: int = Field(default=100, ge=1)
    """Steps between two checkpoints: the most that a kill loses."""
    keep: int = Field(default=2, ge=1)
    """Checkpoints kept."""


class EvaluationPart(Record):
    """Measurements on held-out conversations during training."""

    every: int = Field(default=100, ge=1)
    """Steps between two measurements; the last step is always measured."""
    sample: int = Field(default=64, ge=1)
    """Held-out conversations that are measured, drawn once by the seed."""
    max_reply_tokens: int = Field(default=1024, ge=1)
    batch: int = Field(default=8, ge=1)
    """Conversations answered at once."""
    best: Text | None = None
    """The score that picks the checkpoint to keep, larger being better. None: the first score; without scores the
    held-out loss, smaller being better."""


class DevicePart(Record):
    """The machine that the recipe was written for; only `--dry-run` reads it."""

    name: Text = "this machine"
    memory_gb: float | None = Field(default=None, gt=0)
    teraflops: float = Field(default=0.05, gt=0)
    """Dense peak of one device in the recipe's precision."""
    used: float = Field(default=0.35, gt=0, le=1)
    """Share of that peak that training reaches."""


class Recipe(Record):
    """All settings of a training run."""

    about: str = ""
    model: ModelPart
    data: DataPart = DataPart()
    lora: LoraPart | None = None
    """Adapters; None trains the weights themselves."""
    full: FullPart | None = None
    batch: BatchPart = BatchPart()
    steps: StepsPart = StepsPart()
    evaluation: EvaluationPart = EvaluationPart()
    device: DevicePart = DevicePart()
    seed: int = Field(default=0, ge=0, lt=2**31)

    @model_validator(mode="after")
    def _one_way(self) -> Recipe:
        if (self.lora is None) == (self.full is None):
            raise ValueError("give one of the sections [lora] and [full]: adapters, or the weights themselves")
        if self.model.four_bit and self.lora is None:
            raise ValueError("model.four_bit freezes the weights, so it needs the section [lora]")
        return self

    @property
    def effective_batch(self) -> int:
        """Conversations that one optimizer step sees."""
        return self.batch.per_device * self.batch.accumulation * self.batch.devices

    def accumulation_for(self, devices: int) -> int:
        """Batches that each of so many devices accumulates to reach the effective batch. Raises UsageError."""
        together = self.batch.per_device * devices
        if self.effective_batch % together:
            raise UsageError(
                f"{devices} devices with {self.batch.per_device} conversations each cannot make up batches of "
                f"{self.effective_batch}; change batch.per_device or batch.accumulation, or use another number of "
                "devices"
            )
        return self.effective_batch // together


_SHELF = RecipeShelf(Recipe, "anomreason.training", "recipe")


def read_recipe(source: str | Path) -> Recipe:
    """A recipe by the path of its TOML file, or by the name of one of the package's own.

    Raises UsageError, naming file and key.
    """
    return _SHELF.read(source)


def recipe_of(table: dict[str, Any], name: str) -> Recipe:
    """A recipe from what TOML holds; `name` is where it comes from, for messages. Raises UsageError."""
    return _SHELF.validate(table, name)
