"""An untrained `anomreason-tiny`: a small Qwen2.5-VL by its published classes, with a tokenizer made for its texts.

Knows nothing of scenes and of training. The tokenizer does not split at spaces, so that whole phrases of the texts it
was made from become one token each, and a question that is always the same costs a handful.

    make_tiny(Path("tiny"), texts=["@1. Name: ..."], shape=TinyShape())
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from anomreason.vlm.card import CARD_NAME, DetectorCard
from anomreason.vlm.local.weights import BUNDLED

SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|vision_pad|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
STEP = 28
"""Pixels of a picture's side that become one token."""
SLACK = 100
"""Pixels of area on either side of the wanted one: sides are whole steps, rounded down from floating-point numbers."""
_TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@dataclass(frozen=True, slots=True)
class TinyShape:
    """Sizes; the default has about 8 million parameters."""

    side: int = 196
    """Pixels that a picture is scaled to, each side; a multiple of STEP."""
    vision_depth: int = 5
    vision_width: int = 192
    depth: int = 4
    width: int = 256
    heads: int = 4
    vocabulary: int = 4096
    context: int = 2048

    @property
    def cells(self) -> int:
        """Tokens of a picture along one side."""
        return self.side // STEP


def make_tiny(
    folder: Path, texts: Sequence[str], card: DetectorCard, shape: TinyShape, seed: int = 0, words: Sequence[str] = ()
) -> Path:
    """Write model, tokenizer, chat template, pixel budget and card into `folder`, as a published checkpoint has them.

    texts: what the model will read and write; the tokenizer is made from them. words: phrases that vary in them, such
    as names of things: each is a token, and none spans the border of one, so that what is learnt of one text holds with
    another phrase.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(folder, texts, shape, words)
    _write_model(folder, ids, shape, seed)
    area = shape.side * shape.side
    budget = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "min_pixels": area - SLACK,
        "max_pixels": area + SLACK,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(budget, indent=1) + "\n", encoding="utf-8")
    shutil.copy(BUNDLED / "processing.py", folder / "processing.py")
    served = {"processor_class": "TinyProcessor", "auto_map": {"AutoProcessor": "processing.TinyProcessor"}}
    (folder / "processor_config.json").write_text(json.dumps(served, indent=1) + "\n", encoding="utf-8")
    card = card.model_copy(update={"min_pixels": area - SLACK, "max_pixels": area + SLACK})
    (folder / CARD_NAME).write_text(card.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return folder


def tiny_visual(shape: TinyShape) -> Any:
    """The vision tower alone, with fresh parameters."""
    from transformers.models.qwen2_5_vl.modeling_qwen2_5_vl import Qwen2_5_VisionTransformerPretrainedModel

    ids = {token: k for k, token in enumerate(SPECIAL)} | {"size": shape.vocabulary}
    config = tiny_config(ids, shape).vision_config
    return Qwen2_5_VisionTransformerPretrainedModel._from_config(config)


def _write_tokenizer(folder: Path, texts: Sequence[str], shape: TinyShape, words: Sequence[str]) -> dict[str, int]:
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    longest = "|".join(re.escape(word) for word in sorted(words, key=lambda word: (-len(word), word)))
    apart = rf"\b(?:{longest})\b|\n" if words else r"\n"
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(apart), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=shape.vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        max_token_length=256,
        show_progress=False,
    )
    tokenizer.train_from_iterator([*texts, *words], trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        chat_template=_TEMPLATE,
    )
    fast.save_pretrained(folder)
    return {token: fast.convert_tokens_to_ids(token) for token in SPECIAL} | {"size": len(fast)}


def _write_model(folder: Path, ids: dict[str, int], shape: TinyShape, seed: int) -> None:
    import torch
    from transformers import GenerationConfig, Qwen2_5_VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(tiny_config(ids, shape))
    end = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end[1])
    model.save_pretrained(folder)


def tiny_config(ids: dict[str, int], shape: TinyShape) -> Any:
    """The architecture. Every vision layer looks at the whole picture, which is small."""
    from transformers import Qwen2_5_VLConfig

    head = shape.width // shape.heads
    return Qwen2_5_VLConfig(
        text_config={
            "vocab_size": ids["size"],
            "hidden_size": shape.width,
            "intermediate_size": shape.width * 11 // 4,
            "num_hidden_layers": shape.depth,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.heads,
            "max_position_embeddings": shape.context,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 1e4,
                "mrope_section": [head // 8, 3 * head // 16, 3 * head // 16],
            },
            "bos_token_id": None,
            "eos_token_id": ids["<|im_end|>"],
            "pad_token_id": ids["<|endoftext|>"],
            "tie_word_embeddings": True,
        },
        vision_config={
            "depth": shape.vision_depth,
            "hidden_size": shape.vision_width,
            "intermediate_size": shape.vision_width * 3,
            "num_heads": shape.vision_width // 48,
            "out_hidden_size": shape.width,
            "window_size": shape.side,
            "fullatt_block_indexes": list(range(shape.vision_depth)),
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
        tie_word_embeddings=True,
    )
