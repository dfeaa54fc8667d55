"""The recipe of an image generator: which model makes images and with which settings, read from TOML.

The package carries recipes of its own, which are named without a path.

    >>> read_generator("stable-diffusion-3.5-large").diffusers.steps
    28
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, JsonValue, StringConstraints, model_validator
from pydantic.main import IncEx

from anomreason.anomaly import Record, Text
from anomreason.recipes import RecipeShelf

Name = Annotated[str, StringConstraints(pattern=r"^[\w.+-][\w .+-]*$", max_length=100, strip_whitespace=True)]
_OURS = {
    "diffusers": ("prompt", "generator", "num_images_per_prompt", "output_type", "return_dict"),
    "endpoint": ("prompt", "model", "n", "stream"),
}
"""Settings that the program itself gives."""
_TYPED = {
    "diffusers": ("width", "height", "num_inference_steps", "guidance_scale", "negative_prompt"),
    "endpoint": ("size", "seed"),
}
"""Settings that have keys of their own in a recipe."""
_IDLE: Mapping[str, IncEx | bool] = {
    "about": True,
    "licence": True,
    "terms": True,
    "diffusers": {"batch", "device", "offload"},
    "endpoint": {"base_url", "api_key_env", "in_flight", "timeout", "retries", "first_wait", "price_per_image"},
}
"""What may change between two commands of one generator: it does not decide what its images show."""


class DiffusersPart(Record):
    """A text-to-image pipeline of diffusers in this process."""

    model: Text
    """Folder or hub id of a pipeline: what has a `model_index.json`."""
    revision: Text | None = None
    """Commit, tag or branch on the hub; None: the newest. Name a commit for images that can be made again."""
    variant: Text | None = None
    """Weights to take where there are several, e.g. `fp16`."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """`auto`: bfloat16 on a GPU that has it, else float16 there, and float32 on a CPU."""
    device: Text | None = None
    """E.g. `cuda:1`; None: a GPU where there is one, else the CPU."""
    offload: Literal["none", "model", "sequential"] = "none"
    """Keep on the GPU only the part at work (`model`) or the layer at work (`sequential`): less memory, slower."""
    batch: int = Field(default=1, ge=1, le=256)
    """Images made at once."""
    parts: dict[str, Text] = Field(default_factory=dict)
    """Text encoders and tokenizers that the pipeline's folder lacks, by part: folder or hub id, e.g. of a Llama."""
    weights: dict[str, Text] = Field(default_factory=dict)
    """Weights in place of those of a part: a .safetensors file, or `OWNER/NAME/FILE.safetensors` on the hub."""
    scheduler: Text | None = None
    """Class of diffusers in place of the pipeline's own scheduler, e.g. `EulerDiscreteScheduler`."""
    scheduler_settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the scheduler that differ from those in the pipeline's folder."""
    steps: int | None = Field(default=None, ge=1, le=10_000)
    """None: the pipeline's own default; so for the other settings of images."""
    guidance: float | None = Field(default=None, ge=0)
    negative_prompt: str | None = None


class EndpointPart(Record):
    """A model behind an OpenAI-compatible images endpoint."""

    base_url: Text
    """E.g. `https://api.openai.com/v1`; images come from `/images/generations` below it."""
    model: Text
    api_key_env: Text | None = None
    """Environment variable with the key; None: the usual one of a known host, none for others."""
    in_flight: int = Field(default=4, ge=1, le=256)
    """Concurrent requests."""
    timeout: float = Field(default=180.0, gt=0)
    """Seconds until a request is given up. It may have been charged, so it is not repeated by the same command."""
    retries: int = Field(default=6, ge=0, le=100)
    """Further attempts after an answer 429 or 5xx."""
    first_wait: float = Field(default=1.0, gt=0)
    """Seconds before the first retry, unless the server says; doubled each time, at most 60."""
    price_per_image: float | None = Field(default=None, ge=0)
    """US dollars; 0 for a server of your own. None: not known."""
    send_seed: bool = False
    """Whether the server takes a seed. Without, the seed only numbers the images of a prompt."""


class GeneratorRecipe(Record):
    """All settings of an image generator."""

    name: Name
    """Name of the generator, and of the source of its images."""
    about: str = ""
    licence: Text | None = None
    """Of the images, as the source is to name it."""
    terms: Text | None = None
    """A sentence or an address: what may be done with the images."""
    width: int | None = Field(default=None, ge=8, le=16_384)
    height: int | None = Field(default=None, ge=8, le=16_384)
    """Pixels."""
    diffusers: DiffusersPart | None = None
    endpoint: EndpointPart | None = None
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Further keywords of the pipeline's call, or further fields of the request."""

    @model_validator(mode="after")
    def _one_way(self) -> GeneratorRecipe:
        if (self.diffusers is None) == (self.endpoint is None):
            raise ValueError("give one of the sections [diffusers] and [endpoint]")
        if (self.width is None) != (self.height is None):
            raise ValueError("give width and height, or neither")
        for key in self.settings:
            if key in _OURS[self.way]:
                raise ValueError(f"settings.{key} is given by the program; remove it")
            if key in _TYPED[self.way]:
                raise ValueError(f"settings.{key} has a key of its own in the recipe; give it there")
        return self

    @property
    def way(self) -> Literal["diffusers", "endpoint"]:
        return "endpoint" if self.endpoint else "diffusers"

    def deciding(self) -> dict[str, JsonValue]:
        """The settings that decide the images: another value of one of them is another generator."""
        kept: dict[str, JsonValue] = self.model_dump(mode="json", exclude=_IDLE, exclude_none=True)
        return kept


_SHELF = RecipeShelf(GeneratorRecipe, "anomreason.dataset.generators", "generator")


def read_generator(source: str | Path) -> GeneratorRecipe:
    """A generator by the path of its TOML file, or by the name of one of the package's own.

    Raises UsageError, naming file and key.
    """
    return _SHELF.read(source)


def known_generators() -> list[str]:
    """Names of the package's own."""
    return _SHELF.names()
