"""Processor of a small Qwen2.5-VL that sees no videos: the usual one wants torchvision for them.

This file travels with the checkpoint, so that servers which load it with `--trust-remote-code` need nothing else.
"""

from typing import Any

from transformers import AutoTokenizer
from transformers.models.qwen2_5_vl.processing_qwen2_5_vl import Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil


class TinyProcessor(Qwen2_5_VLProcessor):  # type: ignore[misc]
    """Its parts are read off this signature."""

    def __init__(self, image_processor: Any = None, tokenizer: Any = None, chat_template: str | None = None) -> None:
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_pretrained(cls, folder: str, **_: Any) -> "TinyProcessor":
        tokenizer = AutoTokenizer.from_pretrained(folder)
        return cls(Qwen2VLImageProcessorPil.from_pretrained(folder), tokenizer, tokenizer.chat_template)
