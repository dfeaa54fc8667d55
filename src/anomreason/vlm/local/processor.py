"""Turns requests into inputs of a Qwen2.5-VL: chat template, images within the pixel budget, left-padded batches.

Needs torch and transformers, imported on first use.

    >>> from anomreason.vlm.local.weights import BUNDLED
    >>> from anomreason.vlm.protocol import Tag
    >>> reader = Reader(BUNDLED, card=None)
    >>> reader.prepare(Request(parts=("What is odd here?",), tag=Tag("a.png", "Detector", "detect"))).width
    20
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from PIL import Image

from anomreason.errors import EndpointError, UsageError
from anomreason.images import Encoded
from anomreason.vlm.card import DetectorCard
from anomreason.vlm.protocol import Request

_LEGACY_TEMPLATE = "chat_template.json"


@dataclass(frozen=True, eq=False, slots=True)
class PromptTensors:
    """One request as tensors, not padded."""

    ids: Any  # (tokens,) int64
    kinds: Any  # (tokens,) int64: 0 text, 1 image
    pixels: Any  # (patches of all images, values per patch) float32; None without images
    grids: Any  # (images, 3) int64: patches in time, height, width; None without images

    @property
    def width(self) -> int:
        """Tokens of the prompt, images included."""
        return len(self.ids)


class Reader:
    """The processor of one checkpoint."""

    def __init__(self, folder: Path, card: DetectorCard | None) -> None:
        """Raises UsageError when the folder lacks a tokenizer or chat template, or its template leaves images out."""
        self.processor = load_processor(folder)
        self.tokenizer = self.processor.tokenizer
        size = self.processor.image_processor.size
        self.min_pixels: int = card.min_pixels if card and card.min_pixels else size["shortest_edge"]
        self.max_pixels: int = card.max_pixels if card and card.max_pixels else size["longest_edge"]
        if self.min_pixels > self.max_pixels:
            raise UsageError(
                f"{folder}: an image cannot have at least {self.min_pixels} and at most {self.max_pixels} pixels; "
                "set both min_pixels and max_pixels in anomreason.json"
            )
        # Through `size`: max_pixels as an attribute or argument is silently ignored by some versions.
        self.processor.image_processor.size = {"shortest_edge": self.min_pixels, "longest_edge": self.max_pixels}
        specials = sorted(set(self.tokenizer.all_special_tokens), key=len, reverse=True)
        self._control = re.compile("|".join(map(re.escape, specials)))
        if self.processor.image_token not in self._render([{"role": "user", "content": [{"type": "image"}]}]):
            raise UsageError(f"the chat template in {folder} leaves images out; take the one of a Qwen2.5-VL")

    def prepare(self, request: Request) -> PromptTensors:
        """Raises EndpointError `rejected` for an image that cannot be used, RuntimeError for one over the budget."""
        images = [_decode(part) for part in request.parts if isinstance(part, Encoded)]
        text = self._render(self._messages(request))
        made = self.processor(text=[text], images=images or None, return_tensors="pt")
        grids = made.get("image_grid_thw")
        for grid in [] if grids is None else grids.tolist():
            self._check(grid)
        return PromptTensors(made["input_ids"][0], made["mm_token_type_ids"][0], made.get("pixel_values"), grids)

    def collate(self, batch: Sequence[PromptTensors], padding: int) -> dict[str, Any]:
        """Model inputs of several requests, padded on the left to the widest."""
        import torch

        width = max(one.width for one in batch)
        ids = torch.full((len(batch), width), padding)
        kinds, mask = torch.zeros_like(ids), torch.zeros_like(ids)
        for i, one in enumerate(batch):
            ids[i, width - one.width :] = one.ids
            kinds[i, width - one.width :] = one.kinds
            mask[i, width - one.width :] = 1
        inputs = {"input_ids": ids, "attention_mask": mask, "mm_token_type_ids": kinds}
        shown = [one for one in batch if one.pixels is not None]
        if shown:
            inputs["pixel_values"] = torch.cat([one.pixels for one in shown])
            inputs["image_grid_thw"] = torch.cat([one.grids for one in shown])
        return inputs

    def _messages(self, request: Request) -> list[dict[str, Any]]:
        parts = [
            {"type": "image"} if isinstance(part, Encoded) else {"type": "text", "text": self._plain(part)}
            for part in request.parts
        ]
        messages: list[dict[str, Any]] = [{"role": "user", "content": parts}]
        for reply, follow_up in request.turns:
            messages.append({"role": "assistant", "content": [{"type": "text", "text": self._plain(reply)}]})
            messages.append({"role": "user", "content": [{"type": "text", "text": self._plain(follow_up)}]})
        return messages

    def _plain(self, text: str) -> str:
        """Text in which no control token can end a message or stand for an image: prompts quote replies of models."""
        encodable = text.encode("utf-8", "replace").decode("utf-8")  # half a surrogate pair, as JSON escapes can make
        return self._control.sub(lambda found: f"{found[0][:1]} {found[0][1:]}", encodable)

    def _render(self, messages: list[dict[str, Any]]) -> str:
        rendered: str = self.tokenizer.apply_chat_template(
            messages, chat_template=self.processor.chat_template, tokenize=False, add_generation_prompt=True
        )
        return rendered

    def _check(self, grid: Sequence[int]) -> None:
        images = self.processor.image_processor
        check_grid(grid, images.patch_size, images.merge_size, (self.min_pixels, self.max_pixels))


def check_grid(grid: Sequence[int], patch: int, merge: int, budget: tuple[int, int]) -> None:
    """Raise RuntimeError when an image's grid (time, height, width in patches) breaks the budget (min, max pixels).

    Sides are whole multiples of `patch * merge` pixels, so that the area may miss the minimum by one such step of
    each side, or, enlarged to it, exceed it by as much; a side of a single step cannot shrink, so that a very long
    image may exceed the maximum.
    """
    height, width = grid[1] * patch, grid[2] * patch
    step = patch * merge
    area = grid[0] * height * width
    slack = step * (height + width)
    too_large = area > max(budget[1], budget[0] + slack) and min(height, width) > step
    if too_large or area + slack < budget[0]:
        raise RuntimeError(
            f"the image processor made {width}x{height} pixels where {budget[0]} to {budget[1]} were asked for: "
            "this version of transformers does not keep the pixel budget; install another, >=5.19,<6"
        )


def load_processor(folder: Path) -> Any:
    """The processor of a Qwen2.5-VL checkpoint without its video half. Raises UsageError."""
    from transformers import AutoTokenizer
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    try:
        # The PIL one whether torchvision is there or not: images are scaled alike on every machine.
        images = Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True)
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError) as error:
        raise UsageError(f"{folder} lacks a usable image processor or tokenizer ({error}); copy the base's") from error
    template = _legacy_template(folder) or tokenizer.chat_template
    if not isinstance(template, str):
        raise UsageError(f"{folder} has no chat template; copy chat_template.jinja from the base checkpoint")
    return _image_only_class()(images, tokenizer, template)


def _legacy_template(folder: Path) -> str | None:
    path = folder / _LEGACY_TEMPLATE
    if not path.is_file():
        return None
    try:
        template = json.loads(path.read_text(encoding="utf-8"))["chat_template"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is not a chat template ({error}); copy it from the base checkpoint") from error
    return str(template)


@cache
def _image_only_class() -> Any:
    from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor

    class ImageOnlyQwenProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
        """Without a video processor, which would need torchvision: its parts are read off this signature."""

        def __init__(self, image_processor: Any, tokenizer: Any, chat_template: str | None = None) -> None:
            super().__init__(image_processor, tokenizer, chat_template=chat_template)

    return ImageOnlyQwenProcessor


def _decode(encoded: Encoded) -> Image.Image:
    long, short = max(encoded.width, encoded.height), min(encoded.width, encoded.height)
    if long > 200 * short:
        raise EndpointError(
            "rejected",
            f"an image of {encoded.width}x{encoded.height} is too thin for this model (at most 200:1)",
            remedy="crop or pad it first",
        )
    try:
        with Image.open(io.BytesIO(encoded.data)) as image:
            return image.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError) as error:
        wrong = f"an image could not be decoded for the model: {error}"
        raise EndpointError("rejected", wrong, remedy="convert it to PNG") from error
