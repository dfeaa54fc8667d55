"""Embeds prompts: by a sentence encoder, by the text half of CLIP or SigLIP, or by their words alone.

    >>> vectors = open_embedder(WORDS).texts(["a red cup", "a red mug", "two dogs at play"])
    >>> bool(vectors[0] @ vectors[1] > vectors[0] @ vectors[2])
    True

What a model has embedded is kept as Parquet, so that another choice from the same prompts needs no model.
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from anomreason.errors import UsageError, require

if TYPE_CHECKING:
    from anomreason.dataset.filter.embeddings import TextEmbedder

Vectors = npt.NDArray[np.float32]
WORDS = "words"
"""Names the embedder that knows no meanings and needs no model."""
DEFAULT = "sentence-transformers/all-MiniLM-L6-v2"
BATCH = 32
_DIMENSIONS = 1024
"""Of the embedder by words."""
_POOLINGS = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "first", "pooling_mode_lasttoken": "last"}
"""As the file `1_Pooling/config.json` of sentence-transformers names them ..."""
_MODES = {"mean": "mean", "cls": "first", "lasttoken": "last"}
"""... and as later versions do, under `pooling_mode`."""


_FORMS = (
    "Name the folder of an embedder on this machine with --embedder FOLDER, or compare prompts by their words, which "
    "needs no model, with --embedder words"
)


def open_embedder(spec: str, device: str | None = None) -> TextEmbedder:
    """The embedder `words`, or one by a folder or a hub id. The weights are loaded when they are first needed.

    Raises MissingExtra without torch and transformers, UsageError when there is no such checkpoint.
    """
    if spec == WORDS:
        return WordEmbedder()
    require("prompts embedded by a model (--embedder words needs none)", "local", "torch", "transformers")
    from anomreason.vlm.local.weights import folder_of

    config = folder_of(spec, forms=_FORMS) / "config.json"
    if not config.is_file():
        raise UsageError(f"{spec!r} holds no config.json, so it is no checkpoint; name the folder of one")
    described = json.loads(config.read_text(encoding="utf-8"))
    if "text_config" in described and "vision_config" in described:
        from anomreason.dataset.filter.embeddings import DualEncoder

        return DualEncoder(spec, device)
    return SentenceEncoder(spec, device)


def usual_near(embedder: TextEmbedder) -> float:
    """The similarity from which on two prompts are near-duplicates, by what embedders of this kind give.

    CLIP gives unrelated prompts some 0.5 to 0.8, sentence encoders 0 to 0.4.
    """
    if isinstance(embedder, WordEmbedder):
        return 0.8
    return 0.9 if isinstance(embedder, SentenceEncoder) else 0.95


def embed(
    embedder: TextEmbedder, folder: Path, texts: Sequence[str], progress: Callable[[int, int], None] = lambda *_: None
) -> Vectors:
    """(n, dim) The texts' vectors, of which those in `folder` are not computed again."""
    from anomreason.dataset.filter.embeddings import PART, EmbeddingFolder, ensure_texts, text_key

    if isinstance(embedder, WordEmbedder):
        return embedder.texts(texts)
    kept = EmbeddingFolder(folder / embedder.name, "texts")
    for start in range(0, len(texts), PART):
        progress(start, len(texts))
        ensure_texts(embedder, kept, texts[start : start + PART])
    progress(len(texts), len(texts))
    return kept.get([text_key(text) for text in texts])


class WordEmbedder:
    """Counts words and pairs of neighbours, each in a place and with a sign that its hash decides."""

    name = WORDS

    def texts(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), _DIMENSIONS), np.float32)
        for row, text in zip(vectors, texts, strict=True):
            words = re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold()) or [text]
            for term in (*words, *map(" ".join, pairwise(words))):
                number = int.from_bytes(hashlib.blake2b(term.encode("utf-8", "replace"), digest_size=8).digest())
                row[number % _DIMENSIONS] += 1.0 if number >> 63 else -1.0
        lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(lengths > 0, lengths, 1)
        return vectors


class SentenceEncoder:
    """A text encoder, its tokens' vectors pooled as its files say: their mean, or the first or last one's."""

    def __init__(self, spec: str, device: str | None = None) -> None:
        """spec: a folder, or a hub id, which is fetched. Raises UsageError for a pooling that is not known."""
        from anomreason.vlm.local.weights import fingerprint, folder_of

        self.spec, self._device = spec, device
        self._folder = folder_of(spec)
        self._pooling = _pooling(self._folder)
        name = re.sub(r"[^\w.-]+", "-", spec if not Path(spec).is_dir() else Path(spec).resolve().name)[-80:]
        self.name = f"{name}-{fingerprint([self._folder])}"
        self._loaded: Any = None

    def texts(self, texts: Sequence[str]) -> Vectors:
        """(n, dim) of length 1; of a long text the first words count."""
        import torch

        model, tokenizer = self._load()
        limits = (tokenizer.model_max_length, getattr(model.config, "max_position_embeddings", None) or 512)
        inputs = tokenizer(
            [text[:10_000] for text in texts],
            padding=True,
            truncation=True,
            max_length=min(limits) - (2 if model.config.model_type in ("roberta", "xlm-roberta") else 0),
            return_tensors="pt",
            return_token_type_ids=False,
        ).to(model.device)
        with torch.inference_mode():
            hidden = model(**inputs)[0].float()
            mask = inputs["attention_mask"]
            if self._pooling == "mean":
                pooled = (hidden * mask[:, :, None]).sum(1) / mask.sum(1, keepdim=True)
            else:
                ends = mask.argmax(1) if self._pooling == "first" else mask.shape[1] - 1 - mask.flip(1).argmax(1)
                pooled = hidden[torch.arange(len(hidden)), ends]
            vectors: Vectors = torch.nn.functional.normalize(pooled, dim=-1).cpu().numpy()
        return vectors

    def _load(self) -> Any:
        if self._loaded is None:
            import torch
            import transformers

            from anomreason.metrics.encoder import quiet_loading, usable_device

            device = usable_device(self._device)
            try:
                with quiet_loading():
                    model = transformers.AutoModel.from_pretrained(
                        self._folder, dtype=torch.float32, use_safetensors=True, local_files_only=True
                    )
                    tokenizer = transformers.AutoTokenizer.from_pretrained(self._folder, local_files_only=True)
                    if hasattr(model, "encoder") and hasattr(model, "decoder"):
                        model = model.encoder
                    if tokenizer.pad_token is None:
                        tokenizer.pad_token = tokenizer.eos_token
            except Exception as error:
                # Loaders raise a dozen unrelated kinds; what the user can do about them is the same.
                reason = str(error).strip().partition("\n")[0] or type(error).__name__
                raise UsageError(
                    f"the model {self.spec!r} cannot be loaded ({reason}); name a text encoder, or a CLIP or SigLIP "
                    "checkpoint, with safetensors weights and tokenizer, or --embedder words"
                ) from error
            self._loaded = model.to(device).eval(), tokenizer
        return self._loaded


def _pooling(folder: Path) -> str:
    file = folder / "1_Pooling" / "config.json"
    if not file.is_file():
        return "mean"
    settings = json.loads(file.read_text(encoding="utf-8"))
    found = [pooling for key, pooling in _POOLINGS.items() if settings.get(key)]
    found = found or [_MODES[mode] for mode in _MODES if settings.get("pooling_mode") == mode]
    if len(found) != 1:
        raise UsageError(f"the pooling in {file} is not known here; choose another --embedder")
    return found[0]
