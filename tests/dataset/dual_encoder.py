"""A tiny CLIP checkpoint with random weights: it loads and runs as a real one, and what it says means nothing."""

from __future__ import annotations

from pathlib import Path


def write_dual_encoder(folder: Path, seed: int = 0) -> None:
    """Image size 32, embeddings of 16, a word-level tokenizer."""
    import torch
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast

    words = ["<pad>", "<unk>", "<s>", "</s>", "a", "photograph", "an", "illustration", "3d", "render", "cup", "red"]
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 2), ("</s>", 3)])
    part = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
    text = {**part, "vocab_size": len(words), "max_position_embeddings": 12}
    config = CLIPConfig(
        text_config={**text, "pad_token_id": 0, "bos_token_id": 2, "eos_token_id": 3},
        vision_config={**part, "image_size": 32, "patch_size": 8},
        projection_dim=16,
    )
    torch.manual_seed(seed)
    CLIPModel(config).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token="<pad>", unk_token="<unk>")
    fast.save_pretrained(folder)
    size = {"crop_size": {"height": 32, "width": 32}, "size": {"shortest_edge": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
