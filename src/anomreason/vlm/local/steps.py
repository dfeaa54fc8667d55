"""What happens to each row of a batch at each step of generation: schema, drawing, log-probabilities, stopping.

Knows nothing of requests, queues or pictures. Needs torch and llguidance, imported when it is first used.

    >>> grammars = Grammars(tokenizer, vocabulary=152_064, end=151_645)
    >>> row = Row(limit=64, matcher=grammars.matcher({"type": "boolean"}))
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

_log = logging.getLogger(__name__)

TOP_LOGPROBS = 20
_WHITESPACE = r"( |\n {0,24})?"
"""Between JSON tokens: enough for one-line and indented JSON. Unbounded, a confused model fills the reply with it."""
_KEPT_GRAMMARS = 128


@dataclass(eq=False, slots=True)
class Row:
    """One reply in the making."""

    limit: int
    """Most tokens of the reply."""
    matcher: Any = None
    """An llguidance.LLMatcher of its own that the reply must satisfy; None for free text."""
    temperature: float = 0.0
    generator: Any = None
    """The torch.Generator that draws this row; needed when temperature is above zero."""
    wants_logprobs: bool = False
    dropped: Callable[[], bool] = lambda: False
    """True when nobody waits for the reply any more, so that its row may stop."""
    logprobs: dict[str, float] = field(default_factory=dict)
    """Filled at the first step: alternatives of the first token that the schema allows, natural logarithms."""


class Grammars:
    """JSON schemas compiled for one tokenizer, each once."""

    def __init__(self, tokenizer: Any, vocabulary: int, end: int) -> None:
        """vocabulary: width of the model's output layer, which may be wider than the tokenizer. end: the EOS id."""
        from llguidance.hf import from_tokenizer

        self._tokens = from_tokenizer(tokenizer, n_vocab=vocabulary, eos_token=end)
        self._compiled: dict[str, Any] = {}

    def matcher(self, schema: Mapping[str, Any] | None) -> Any:
        """A fresh matcher for `schema`; None, said once in the log, when it cannot be enforced."""
        if schema is None:
            return None
        key = json.dumps(schema)
        if key not in self._compiled:
            if len(self._compiled) >= _KEPT_GRAMMARS:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = self._compile(key)
        known = self._compiled[key]
        return known.deep_copy() if known is not None else None

    def _compile(self, schema: str) -> Any:
        from llguidance import LLMatcher

        options = {"whitespace_pattern": _WHITESPACE}
        try:
            found = LLMatcher(self._tokens, LLMatcher.grammar_from_json_schema(schema, defaults=options), log_level=0)
            complaint = found.get_error()
        except ValueError as error:
            complaint = str(error)
        if not complaint:
            return found
        _log.warning("this JSON schema cannot be enforced, replies to it are free text: %s: %.200s", complaint, schema)
        return None


class Steering:
    """A logits processor for `generate`: masks what the schema forbids, then draws by adding noise.

    The largest of logits / temperature + Gumbel noise is a sample of the softmax (Maddison et al. 2014,
    https://arxiv.org/abs/1411.0030), so that greedy search over the changed scores draws each row with its own
    temperature and generator, whatever else is in the batch.
    """

    def __init__(self, rows: Sequence[Row], prompt: int, vocabulary: int, spell: Callable[[int], str]) -> None:
        """prompt: padded length of the prompts. vocabulary: ids that have a token. spell: an id's text."""
        self._rows, self._prompt, self._vocabulary, self._spell = rows, prompt, vocabulary, spell
        self._bits: Any = None  # (rows, vocabulary / 32) int32, one bit a token

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """input_ids (rows, tokens), scores (rows, output layer) float32; returns the scores to take the largest of."""
        import torch

        step = input_ids.shape[1] - self._prompt
        scores[:, self._vocabulary :] = -math.inf
        if any(row.matcher is not None for row in self._rows):
            allowed = torch.from_numpy(self._allowed(input_ids, step, scores.shape[1]))
            scores.masked_fill_(~allowed.to(scores.device), -math.inf)
        for row, line in zip(self._rows, scores, strict=True):
            if step == 0 and row.wants_logprobs:
                row.logprobs.update(self._alternatives(line))
            if row.temperature > 0:
                noise = torch.empty_like(line).exponential_(generator=row.generator).clamp_min_(1e-30).log_()
                line.div_(row.temperature).sub_(noise)
        return scores

    def _allowed(self, input_ids: Any, step: int, width: int) -> Any:
        """(rows, output layer) bool: what each row may say next."""
        import numpy as np
        from llguidance import numpy as bitmask

        if self._bits is None:
            self._bits = bitmask.allocate_token_bitmask(len(self._rows), width)
        last = input_ids[:, -1].tolist()
        for i, row in enumerate(self._rows):
            if row.matcher is None or step >= row.limit:
                continue
            if step and not row.matcher.is_stopped():
                row.matcher.consume_token(last[i])
            if row.matcher.is_error():
                _log.warning("a JSON schema became too complex on the way: %s", row.matcher.get_error())
                row.matcher = None
                self._bits[i] = -1
                continue
            bitmask.fill_next_token_bitmask(row.matcher, self._bits, i)
        return np.unpackbits(self._bits.view(np.uint8), axis=1, bitorder="little")[:, :width].view(np.bool_)

    def _alternatives(self, line: Any) -> dict[str, float]:
        values, ids = line.log_softmax(-1).topk(min(TOP_LOGPROBS, len(line)))
        found: dict[str, float] = {}
        for value, token in zip(values.tolist(), ids.tolist(), strict=True):
            if value == -math.inf:
                break
            text = self._spell(token)
            # Two tokens can spell the same text (halves of a character do); their probabilities add up.
            found[text] = math.log(math.exp(found[text]) + math.exp(value)) if text in found else value
        return found


class RowLimits:
    """A stopping criterion for `generate`: ends each row at its own limit, or when nobody waits for it."""

    def __init__(self, rows: Sequence[Row], prompt: int) -> None:
        self._rows, self._prompt = rows, prompt

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        made = input_ids.shape[1] - self._prompt
        done = [made >= row.limit or row.dropped() for row in self._rows]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)
