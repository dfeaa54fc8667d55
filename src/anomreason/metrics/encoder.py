"""Texts in, unit token vectors out, by a model that `loading` has opened and cut.

Knows nothing of images, pairs or scores. Importing it is light. Try it:

    >>> encoder, layer = load("distilbert-base-uncased")
    >>> [tokens.vectors.shape for tokens in encoder.encode(["A cup floats above the table."])]

Tokens and truncation are those of bert_score 0.3.13 (https://github.com/Tiiiger/bert_score, `utils.py`), and so is the
space before a text for RoBERTa and GPT-2, which bert_score asks its tokenizer for and transformers 5 no longer puts.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from anomreason.errors import UsageError
from anomreason.metrics.packing import pack

_NO_LIMIT = 512
"""Tokens of a text for a backbone that names no limit, such as mT5."""
_HEAD = 16
"""Characters looked at first, per token that fits, of a text too long to be tokenised whole."""
_WORD_END = re.compile(r"\S (?=\S)")
_SURROGATE = re.compile("[\ud800-\udfff]")
_CPU_TOKENS, _GPU_TOKENS = 1024, 32_768
"""Padded tokens of a batch: what stays in a CPU's cache; what fills a GPU."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """One text. Blank texts, and those of nothing but special tokens, have no tokens."""

    vectors: Any
    """float32 tensor (tokens, dim) on the encoder's device, each row of length 1; None without tokens."""
    weights: Any
    """float32 array (tokens,) that sums to 1: alike for every token but CLS and SEP, which weigh nothing."""

    def __len__(self) -> int:
        return len(self.weights)


@dataclass(slots=True)
class TextCounts:
    """What an encoder has seen so far."""

    texts: int = 0
    """Texts that went through the model."""
    tokens: int = 0
    """Their tokens, special ones and all, without padding."""
    blank: int = 0
    """Texts that were given and hold no token."""
    truncated: int = 0
    """Texts of which only the first tokens count, because the backbone holds no more."""


class Encoder:
    """Tokenizer and model. `encode` keeps the order of the texts; their batches are made by length."""

    def __init__(self, model: Any, tokenizer: Any, precision: str) -> None:
        """model: on the CPU in float32, already cut; `settle` moves it to its device and precision."""
        self.counts = TextCounts()
        self.precision = precision
        self._model, self._tokenizer = model, tokenizer
        self._special: list[int] = tokenizer("")["input_ids"]
        whole = tokenizer("A cup.", return_special_tokens_mask=True)["special_tokens_mask"]
        self._tail = len(whole) - max((place + 1 for place, special in enumerate(whole) if not special), default=0)
        self._unweighted = {tokenizer.sep_token_id, tokenizer.cls_token_id}
        self._padding: int = tokenizer.pad_token_id or 0
        byte_level = "Ġ" in tokenizer.get_vocab()  # a space, as byte-level tokenizers spell it
        self._lead = " " if model.config.model_type in ("gpt2", "roberta") and byte_level else ""
        self.limit = _limit(model, tokenizer)
        """Most tokens of a text, special ones included."""
        self.weights_hash = _digest(model, tokenizer)

    def settle(self, device: str) -> None:
        """Move the model to its device and precision. Raises UsageError for what is no text encoder."""
        import torch

        if self.precision == "bf16":
            self._model = self._model.to(torch.bfloat16)
        self._model = self._model.to(device)
        pack(self._model)
        self.device = device
        self.batch_tokens = _CPU_TOKENS if device == "cpu" else _GPU_TOKENS
        kind = self._model.config.model_type
        try:
            probe = self._ids(["A cup."])
            found = self._run(probe)
        except Exception as error:
            # Whatever a model that does not take texts raises, the answer is the same.
            reason = str(error).partition("\n")[0]
            raise UsageError(f"a {kind!r} model is no text encoder ({reason}); name another") from error
        if found.ndim != 3 or found.shape[1] < len(probe[0]):
            raise UsageError(f"a {kind!r} model gives no vector for each token; name another")
        self._width = int(found.shape[2])

    def encode(self, texts: Sequence[str]) -> list[Tokens]:
        """Vectors of the tokens of each text, in the order given. The caller sees to it that texts are distinct."""
        import torch

        ids = self._tokenize(texts)
        lengths = [len(found) for found in ids]
        starts = list(accumulate(lengths, initial=0))
        # One piece of memory for all: thousands of small ones would leave it in tatters.
        store: Any = torch.empty(starts[-1], self._width, device=self.device)
        order = sorted((place for place, length in enumerate(lengths) if length), key=lambda place: -lengths[place])
        for batch in self._batches(order, lengths):
            vectors = self._run([ids[place] for place in batch])
            for row, place in enumerate(batch):
                store[starts[place] : starts[place + 1]] = vectors[row, : lengths[place]]
        self.counts.texts += len(order)
        self.counts.tokens += starts[-1]
        self.counts.blank += len(texts) - len(order)
        return [
            Tokens(store[start : start + len(found)], self._weigh(found)) if found else _NOTHING
            for start, found in zip(starts, ids, strict=False)
        ]

    def _batches(self, order: Sequence[int], lengths: Sequence[int]) -> Iterator[Sequence[int]]:
        """Runs of `order`, longest texts first, that hold about `batch_tokens` with their padding."""
        start = 0
        while start < len(order):
            width, rows = _shape(lengths[order[start]])
            rows *= max(1, self.batch_tokens // (width * rows))
            yield order[start : start + rows]
            start += rows

    def _run(self, rows: Sequence[Sequence[int]]) -> Any:
        """Unit vectors float32 (rows or more, longest or more, dim)."""
        import torch

        longest = max(map(len, rows))
        width, multiple = _shape(longest)
        width = max(longest, min(width, self.limit))
        rows = [*rows, *[rows[-1]] * (-len(rows) % multiple)]
        ids = torch.tensor([[*row, *[self._padding] * (width - len(row))] for row in rows])
        mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
        with torch.inference_mode():
            hidden = self._model(ids.to(self.device), attention_mask=mask.to(self.device))[0].float()
            return torch.nn.functional.normalize(hidden, dim=-1)

    def _weigh(self, ids: Sequence[int]) -> Any:
        import numpy as np

        counted = np.array([token not in self._unweighted for token in ids], dtype=np.float32)
        return counted / max(counted.sum(), np.float32(1))

    def _tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Token ids of each text, special ones included; none for a blank text."""
        heads = [self._head(self._lead + text) if (text := _clean(raw)) else "" for raw in texts]
        found = self._ids(heads) if heads else []
        made = []
        for head, ids in zip(heads, found, strict=True):
            if len(ids) > self.limit:
                self.counts.truncated += 1
                made.append(ids[: self.limit - self._tail] + ids[len(ids) - self._tail :])
            else:
                made.append([] if not head or len(ids) <= len(self._special) else ids)
        return made

    def _head(self, text: str) -> str:
        """The text, or of a very long one whole words from its start that fill the limit, so give the same tokens."""
        reach = _HEAD * self.limit
        while len(text) > reach and (end := _WORD_END.search(text, reach)):
            head = text[: end.start() + 1]
            if len(self._ids([head])[0]) > self.limit:
                return head
            reach = 4 * len(head)
        return text

    def _ids(self, texts: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self._tokenizer(
            texts, padding=False, truncation=False, verbose=False, return_attention_mask=False
        )["input_ids"]
        return ids


_NOTHING = Tokens(None, ())


def _limit(model: Any, tokenizer: Any) -> int:
    """Most tokens of a text: the tokenizer's word, but never more than there are positions."""
    import torch

    limits = [tokenizer.model_max_length] if tokenizer.model_max_length < 1_000_000 else []
    tables = [m for name, m in model.named_modules() if name.endswith("position_embeddings")]
    tables = [table for table in tables if isinstance(table, torch.nn.Embedding)]
    if tables:
        # RoBERTa counts its positions from the one after padding's.
        limits += [t.num_embeddings - (0 if t.padding_idx is None else t.padding_idx + 1) for t in tables]
    elif isinstance(places := getattr(model.config, "max_position_embeddings", None), int) and places > 0:
        limits.append(places)
    return int(min(limits, default=_NO_LIMIT))


def _digest(model: Any, tokenizer: Any) -> str:
    """Sixteen hex digits over the numbers that are used, the vocabulary and the tokens of a probe."""
    digest = hashlib.sha256()
    for tensor in model.state_dict().values():
        digest.update(tensor.contiguous().numpy())
    digest.update(repr(sorted(tokenizer.get_vocab().items())).encode("utf-8", "backslashreplace"))
    digest.update(repr(tokenizer("The café's 2nd CUP  floats — 杯子.")["input_ids"]).encode())
    return digest.hexdigest()[:16]


def _shape(longest: int) -> tuple[int, int]:
    """Width of a batch, and what its rows are a multiple of: together a multiple of 64 tokens.

    For each number of tokens in a batch oneDNN makes and keeps code of its own, 0.6 MB a layer: they have to be few.
    """
    step = max(4, 1 << max(0, (longest - 1).bit_length() - 4))
    return -(-longest // step) * step, max(1, 64 // step)


def _clean(text: str) -> str:
    """Without blanks around, and with half a surrogate pair, which no tokenizer takes, shown as unknown."""
    text = text.strip()
    if _SURROGATE.search(text):
        text = text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
