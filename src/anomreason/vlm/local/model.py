"""A Qwen2.5-VL in this process, through Hugging Face transformers: requests that wait together run as one batch.

Importing it is light; making a LocalVLM imports torch and loads the weights. Try it:

    vlm = LocalVLM("Qwen/Qwen2.5-VL-3B-Instruct", VLMOptions())
    reply = await vlm.ask(Request(parts=("What is odd here?", image.encoded), tag=tag))

The same request gives the same reply on the same device with the same versions. At temperature 0 decoding is greedy.
Otherwise each reply is drawn by its own generator from the request's seed; without a seed every reply is drawn anew.
The rest of the batch changes neither the draw nor the schema, only the last digits of the logits, through padding; in
half precision that can turn a near tie.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

from anomreason.anomaly import Usage
from anomreason.errors import EndpointError
from anomreason.vlm.card import CARD_NAME, DetectorCard
from anomreason.vlm.local.batching import Batcher, Ticket
from anomreason.vlm.local.processor import PromptTensors, Reader
from anomreason.vlm.local.weights import find_checkpoint, load_model, require_libraries
from anomreason.vlm.protocol import Reply, Request, VLMOptions

BATCH_ROWS = 16
BATCH_TOKENS = 65_536
"""Rows x (longest prompt + longest reply). About 4 GB of keys and values for a 7B model in half precision."""


TOP_LOGPROBS = 20
_WHITESPACE = r"( |\n {0,24})?"
"""Between JSON tokens: enough for one-line and indented JSON. Unbounded, a confused model fills the reply with it."""
_KEPT_GRAMMARS = 128

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    request: Request
    prepared: PromptTensors
    limit: int
    """Most tokens of the reply: the request's cap, or what the model's context leaves."""


class LocalVLM:
    """A VLM in this process. `close` ends its threads and frees the weights; it cannot be used afterwards."""

    bounds_pixels = True

    def __init__(self, spec: str, options: VLMOptions) -> None:
        """spec: `PATH_OR_ID` or `BASE+ADAPTER`, without `local:`. Loads the weights, which takes a while.

        Raises MissingExtra when the libraries are missing, UsageError for what cannot be loaded.
        """
        require_libraries()
        source = find_checkpoint(spec)
        self.name: str = source.name
        self.card: DetectorCard | None = source.card
        """The card of a fine-tuned detector; None for a general model."""
        self._reader = Reader(source.base, source.card)
        self._engine: _Engine | None = _Engine(load_model(source, options), self._reader, self.name)
        self._context = self._engine.context
        self._batcher = Batcher(self._engine.answer, rows=BATCH_ROWS, area=BATCH_TOKENS)
        self._desk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="anomreason-images")

    async def ask(self, request: Request) -> Reply:
        """One attempt, in a batch with other waiting requests. Raises EndpointError."""
        with self._batcher.expected():
            await asyncio.sleep(0)  # all requests of this turn of the event loop are announced before the first runs
            if self._engine is None:
                raise EndpointError("connection", "the model has been closed; open it again to ask it")
            prepared = await asyncio.get_running_loop().run_in_executor(self._desk, self._reader.prepare, request)
            room = self._context - prepared.width
            if room < 1:
                raise EndpointError(
                    "rejected",
                    f"the prompt has {prepared.width} tokens, the model holds {self._context}",
                    remedy=f"lower max_pixels in the checkpoint's {CARD_NAME}, or use a model with a longer context",
                )
            limit = min(request.sampling.max_tokens, room)
            future = self._batcher.submit(_Job(request, prepared, limit), prepared.width + limit)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Fail all waiting requests, end the threads, free the weights."""
        engine, self._engine = self._engine, None
        if engine is None:
            return
        self._desk.shutdown(wait=False)
        await asyncio.to_thread(self._batcher.close)
        engine.free()


class _Engine:
    """Model, schemas and generation settings; runs one batch at a time."""

    def __init__(self, model: Any, reader: Reader, name: str) -> None:
        from transformers import GenerationConfig

        tokenizer = reader.tokenizer
        self._model, self._reader, self._name = model, reader, name
        self._words = len(tokenizer)
        self.context: int = model.config.text_config.max_position_embeddings
        self._ends = end_ids(model.generation_config.eos_token_id, tokenizer.eos_token_id)
        self._padding: int = self._ends[0] if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        # Checkpoints bring their own temperature and repetition penalty, which would change the requested sampling.
        model.generation_config = GenerationConfig(eos_token_id=self._ends, pad_token_id=self._padding)
        self._grammars = Grammars(tokenizer, model.config.text_config.vocab_size, self._ends[0])

    def answer(self, tickets: Sequence[Ticket[_Job, Reply]]) -> list[Reply]:
        """One reply per ticket. Raises MemoryError when the device's memory does not hold the batch."""
        import torch

        rows = [self._row(ticket) for ticket in tickets]
        try:
            made = self._generate([ticket.item.prepared for ticket in tickets], rows)
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error).partition("\n")[0]) from None
        return [self._reply(ticket.item, row, ids) for ticket, row, ids in zip(tickets, rows, made, strict=True)]

    def free(self) -> None:
        """Release the weights and cached device memory."""
        import torch

        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _row(self, ticket: Ticket[_Job, Reply]) -> ReplyRow:
        import torch

        sampling = ticket.item.request.sampling
        row = ReplyRow(ticket.item.limit, self._grammars.matcher(ticket.item.request.schema), sampling.temperature)
        row.wants_logprobs = sampling.logprobs
        row.dropped = lambda: ticket.dropped
        if sampling.temperature > 0:
            row.generator = torch.Generator(self._model.device)
            if sampling.seed is None:
                row.generator.seed()
            else:
                row.generator.manual_seed(sampling.seed)
        return row

    def _generate(self, batch: Sequence[PromptTensors], rows: Sequence[ReplyRow]) -> list[list[int]]:
        """Token ids of the replies, ids after the end of a reply included."""
        import torch
        from transformers import GenerationConfig, LogitsProcessorList, StoppingCriteriaList

        inputs = {
            key: value.to(self._model.device) for key, value in self._reader.collate(batch, self._padding).items()
        }
        width = inputs["input_ids"].shape[1]
        settings = GenerationConfig(
            do_sample=False,
            max_new_tokens=max(row.limit for row in rows),
            eos_token_id=self._ends,
            pad_token_id=self._padding,
        )
        steering = Steering(rows, width, self._words, self._spell)
        with torch.inference_mode():
            made = self._model.generate(
                **inputs,
                generation_config=settings,
                logits_processor=LogitsProcessorList([steering]),
                stopping_criteria=StoppingCriteriaList([RowLimits(rows, width)]),
            )
        replies: list[list[int]] = made[:, width:].tolist()
        return replies

    def _reply(self, job: _Job, row: ReplyRow, ids: list[int]) -> Reply:
        end = next((i for i, token in enumerate(ids[: job.limit]) if token in self._ends), None)
        kept = ids[: job.limit] if end is None else ids[:end]
        text = self._reader.tokenizer.decode(kept, skip_special_tokens=True, clean_up_tokenization_spaces=False)
        used = len(kept) + (end is not None)
        return Reply(
            text=text,
            finish="length" if end is None else "stop",
            usage=Usage(calls=1, prompt_tokens=job.prepared.width, completion_tokens=used),
            model=self._name,
            logprobs=row.logprobs,
        )

    def _spell(self, token: int) -> str:
        return str(self._reader.tokenizer.decode([token], clean_up_tokenization_spaces=False))


def end_ids(configured: int | list[int] | None, tokenizers: int | None) -> list[int]:
    """Ids that end a reply: the checkpoint's and the tokenizer's, which do not agree in every fine-tuned checkpoint."""
    known = configured if isinstance(configured, list) else [configured]
    return [token for token in dict.fromkeys([*known, tokenizers]) if token is not None]


@dataclass(eq=False, slots=True)
class ReplyRow:
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
        """A fresh matcher for `schema`; None, with one warning in the log, when it cannot be enforced."""
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

    def __init__(self, rows: Sequence[ReplyRow], prompt: int, vocabulary: int, spell: Callable[[int], str]) -> None:
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
        """(rows, output layer) bool: the tokens that each row may generate next."""
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
    """A stopping criterion for `generate`: ends each row at its own limit, or when its request was dropped."""

    def __init__(self, rows: Sequence[ReplyRow], prompt: int) -> None:
        self._rows, self._prompt = rows, prompt

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        import torch

        made = input_ids.shape[1] - self._prompt
        done = [made >= row.limit or row.dropped() for row in self._rows]
        return torch.tensor(done, device=input_ids.device, dtype=torch.bool)
