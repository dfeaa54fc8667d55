"""A random Qwen2.5-VL small enough to build on the spot: real classes and files, its own tokenizer, noise for answers.

Knows nothing of anomreason, and says nothing about quality: use it where the machinery matters, not the reply.

    >>> make_tiny_qwen(Path("/tmp/tiny"))
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

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
MIN_PIXELS = 56 * 56
MAX_PIXELS = 28 * 28 * 16
CONTEXT = 4096
SPARE_IDS = 24
"""Rows of the output layer that no token has, as in the published checkpoints."""

_CORPUS = (
    "The picture shows a woman with six fingers on her left hand, which cannot be so because hands have five.",
    '{"anomalies": [{"name": "Six fingers", "phenomenon": "The hand has six.", "reasoning": "Five.", "severity": 5}]}',
    "What is semantically wrong in this image? Name it, say where it shows, why it cannot be, and how bad it is.",
)
_TEMPLATE = (
    "{% for message in messages %}"
    "{% if loop.first and message.role != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}<|im_start|>{{ message.role }}\n"
    "{% if message.content is string %}{{ message.content }}{% else %}{% for part in message.content %}"
    "{% if part.type == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ part.text }}{% endif %}"
    "{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def make_tiny_qwen(folder: Path, seed: int = 0) -> Path:
    """Write model, tokenizer, chat template and pixel budget into `folder`, in the files a published checkpoint has."""
    folder.mkdir(parents=True, exist_ok=True)
    ids = _write_tokenizer(folder)
    _write_model(folder, ids, seed)
    budget = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "min_pixels": MIN_PIXELS,
        "max_pixels": MAX_PIXELS,
        "patch_size": 14,
        "temporal_patch_size": 2,
        "merge_size": 2,
    }
    (folder / "preprocessor_config.json").write_text(json.dumps(budget), encoding="utf-8")
    return folder


def make_tiny_adapter(base: Path, folder: Path, seed: int = 1) -> Path:
    """Write a LoRA for the model in `base` into `folder`, random and non-zero on both sides, so that replies change."""
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import Qwen2_5_VLForConditionalGeneration

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # peft asks transformers by a name that is going away
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration.from_pretrained(base)
        lora = LoraConfig(r=4, target_modules=["q_proj", "v_proj"], init_lora_weights=False, task_type="CAUSAL_LM")
        get_peft_model(model, lora).save_pretrained(folder)
    return folder


def _write_tokenizer(folder: Path) -> dict[str, int]:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=360,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=list(SPECIAL[1:]),
        chat_template=_TEMPLATE,
    )
    fast.save_pretrained(folder)
    return {token: fast.convert_tokens_to_ids(token) for token in SPECIAL} | {"size": len(fast)}


def _write_model(folder: Path, ids: dict[str, int], seed: int) -> None:
    import torch
    from transformers import GenerationConfig, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration

    end = [ids["<|im_end|>"], ids["<|endoftext|>"]]
    config = Qwen2_5_VLConfig(
        text_config={
            "vocab_size": ids["size"] + SPARE_IDS,
            "hidden_size": 64,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "max_position_embeddings": CONTEXT,
            "initializer_range": 0.2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 1e6, "mrope_section": [2, 3, 3]},
            "bos_token_id": None,
            "eos_token_id": end[0],
            "pad_token_id": end[1],
        },
        vision_config={
            "depth": 2,
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_heads": 2,
            "out_hidden_size": 64,
            "window_size": 56,
            "fullatt_block_indexes": [1],
            "initializer_range": 0.2,
        },
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = Qwen2_5_VLForConditionalGeneration(config)
    model.generation_config = GenerationConfig(eos_token_id=end, pad_token_id=end[1], repetition_penalty=1.05)
    model.save_pretrained(folder)
