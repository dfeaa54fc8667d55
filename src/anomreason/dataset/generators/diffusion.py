"""Any text-to-image pipeline of diffusers (Stable Diffusion, FLUX ...), run in this process.

Each image has noise of its own, drawn on the CPU from its seed: the same seed gives the same noise on any device and in
a batch of any size.

    generator = DiffusionGenerator(read_generator("flux.1-dev"))
"""

from __future__ import annotations

import inspect
import re
import time
import warnings
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import JsonValue

from anomreason.dataset.generators.protocol import Generated, ImageRequest, generated
from anomreason.dataset.generators.recipe import DiffusersPart, GeneratorRecipe
from anomreason.errors import UsageError, require
from anomreason.metrics.encoder import usable_device

_HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


class DiffusionGenerator:
    """A loaded pipeline with the arguments of its calls."""

    def __init__(self, recipe: GeneratorRecipe, loader: Callable[[DiffusersPart, str, str], Any] | None = None) -> None:
        """loader: gives the pipeline by the recipe's part, dtype and device; None loads it with diffusers.

        Raises UsageError for a pipeline that cannot be loaded, or that does not know a setting of the recipe."""
        assert recipe.diffusers is not None
        require("image generators in this process", "generate", "diffusers", "torch", "transformers", "accelerate")
        part = recipe.diffusers
        self.batch = part.batch
        self._name, self._negative = recipe.name, part.negative_prompt
        self._device = usable_device(part.device)
        dtype = _dtype(part.dtype, self._device)
        self._pipeline: Any = (loader or load_pipeline)(part, dtype, self._device)
        self._arguments = _arguments(recipe, self._pipeline)
        libraries = {name: version(name) for name in ("diffusers", "transformers", "torch")}
        self.made_by: Mapping[str, JsonValue] = {**libraries, "device": _device_name(self._device), "dtype": dtype}

    def generate(self, batches: Iterable[Sequence[ImageRequest]]) -> Generator[Sequence[Generated], None, None]:
        """The results of one batch after the other."""
        for batch in batches:
            yield self._made(batch)

    def _made(self, batch: Sequence[ImageRequest]) -> list[Generated]:
        import torch

        begun = time.monotonic()
        several: dict[str, Any] = {"prompt": [request.prompt for request in batch]}
        several["generator"] = [torch.Generator("cpu").manual_seed(request.seed) for request in batch]
        if self._negative is not None:
            several["negative_prompt"] = [self._negative] * len(batch)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # pixels that are no numbers come out as a blank image
                output = self._pipeline(**several, **self._arguments)
            images = output.images
            if len(images) != len(batch):
                raise RuntimeError(f"{len(images)} images came for {len(batch)} prompts")
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"the memory of {self._device} is too small for {self._name!r}: lower diffusers.batch or the size of "
                'images, or set diffusers.offload = "model"'
            ) from error
        except Exception as error:  # a pipeline raises whatever its parts raise; that is recorded with the image
            why = f"{type(error).__name__}: {str(error).strip()[:500]}"
            return [Generated(request, "failed", why) for request in batch]
        seconds = (time.monotonic() - begun) / len(batch)
        unsafe = getattr(output, "nsfw_content_detected", None) or [False] * len(batch)
        return [
            Generated(request, "refused", "the pipeline's safety checker withheld the image", seconds=seconds)
            if flagged
            else replace(generated(request, image), seconds=seconds)
            for request, image, flagged in zip(batch, images, unsafe, strict=True)
        ]

    def close(self) -> None:
        """Free the device's memory for the next generator."""
        import gc

        import torch

        self._pipeline = None
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def _dtype(asked: str, device: str) -> str:
    import torch

    if asked != "auto":
        return asked
    if not device.startswith("cuda"):
        return "float32"
    return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"


def _device_name(device: str) -> str:
    import torch

    return f"{device} ({torch.cuda.get_device_name(device)})" if device.startswith("cuda") else device


def load_pipeline(part: DiffusersPart, dtype: str, device: str) -> Any:
    """The pipeline on its device. Nothing but safetensors and diffusers' own code is loaded. Raises UsageError."""
    import diffusers
    import torch
    import transformers

    path = Path(part.model).expanduser()
    if not (path / "model_index.json").is_file() and (path.exists() or not _HUB_ID.fullmatch(part.model)):
        raise UsageError(
            f"{part.model!r} is no folder with a model_index.json; name the folder of a diffusers pipeline, or a "
            "pipeline of the hub as OWNER/NAME"
        )
    if part.offload != "none" and device == "cpu":
        raise UsageError(f'diffusers.offload = "{part.offload}" needs a GPU, and this runs on the CPU; remove it')
    for library in (diffusers, transformers):
        library.utils.logging.disable_progress_bar()  # they would show inside ours
        library.utils.logging.set_verbosity_error()
    try:
        pipeline = diffusers.DiffusionPipeline.from_pretrained(
            str(path) if path.exists() else part.model,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            revision=part.revision,
            variant=part.variant,
            **{name: _part(name, model, getattr(torch, dtype)) for name, model in part.parts.items()},
        )
        for name, file in part.weights.items():
            _replace_weights(getattr(pipeline, name), file)
        if part.scheduler or part.scheduler_settings:
            kind = getattr(diffusers, part.scheduler) if part.scheduler else type(pipeline.scheduler)
            pipeline.scheduler = kind.from_config(pipeline.scheduler.config, **part.scheduler_settings)
        if part.offload == "model":
            pipeline.enable_model_cpu_offload(device=device)
        elif part.offload == "sequential":
            pipeline.enable_sequential_cpu_offload(device=device)
        else:
            pipeline.to(device)
    except torch.OutOfMemoryError as error:
        raise UsageError(
            f'{part.model!r} does not fit into the memory of {device}; set diffusers.offload = "model"'
        ) from error
    except Exception as error:
        # diffusers, the hub's client and torch raise dozens of unrelated kinds; what to do about them is the same.
        why = " ".join(str(error).split())[:400] or type(error).__name__
        raise UsageError(
            f"the pipeline {part.model!r} cannot be loaded ({why}); check the name, the connection and, for a model "
            "with a licence to accept, that page and `hf auth login`; or fetch the folder again"
        ) from error
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


def _part(name: str, model: str, dtype: Any) -> Any:
    """A tokenizer or text encoder of its own. Text encoders are language models, whose inner states are used."""
    from transformers import AutoModelForCausalLM, AutoTokenizer

    if name.startswith("tokenizer"):
        return AutoTokenizer.from_pretrained(model)
    return AutoModelForCausalLM.from_pretrained(
        model, dtype=dtype, use_safetensors=True, output_hidden_states=True, output_attentions=True
    )


def _replace_weights(module: Any, file: str) -> None:
    """Load a file of weights into a part of a pipeline; each one must have its place there."""
    from safetensors.torch import load_file

    path = Path(file).expanduser()
    if not path.is_file():
        from huggingface_hub import hf_hub_download

        owner, name, rest = (*file.split("/", 2), "", "")[:3]
        path = Path(hf_hub_download(f"{owner}/{name}", rest))
    module.load_state_dict(load_file(path))


def _arguments(recipe: GeneratorRecipe, pipeline: Any) -> dict[str, Any]:
    """The keywords that all calls share. Raises UsageError for one that the pipeline does not take."""
    part = recipe.diffusers
    assert part is not None
    typed = {
        "width": ("width", recipe.width),
        "height": ("height", recipe.height),
        "diffusers.steps": ("num_inference_steps", part.steps),
        "diffusers.guidance": ("guidance_scale", part.guidance),
    }
    given = {key: name for key, (name, value) in typed.items() if value is not None}
    given |= {f"settings.{name}": name for name in recipe.settings}
    given |= {"diffusers.negative_prompt": "negative_prompt"} if part.negative_prompt is not None else {}
    kind = type(pipeline).__name__
    known = list(inspect.signature(pipeline.__call__).parameters)
    if "prompt" not in known or "generator" not in known:
        raise UsageError(f"{part.model!r} is a {kind}, which does not make images from prompts; name another pipeline")
    for key, name in given.items():
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it takes {', '.join(known)}"
            raise UsageError(f"generator {recipe.name!r}: a {kind} takes no {name!r} (from {key}); {hint}")
    arguments = {name: value for name, value in typed.values() if value is not None}
    return arguments | recipe.settings
