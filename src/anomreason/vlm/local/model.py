"""A Qwen2.5-VL in this process, through Hugging Face transformers: requests that wait together run as one batch.

Knows nothing of what is asked. Importing it is light; making a LocalVLM imports torch and loads the weights. Try it:

    vlm = LocalVLM("Qwen/Qwen2.5-VL-3B-Instruct", VLMOptions())
    reply = await vlm.ask(Request(parts=("What is odd here?", picture.encoded), tag=tag))

The same request gives the same reply on the same device with the same versions: greedy at temperature 0, else drawn by
a generator of its own from the request's seed (a request without one is drawn anew each time). What else is in the
batch changes neither the draw nor the schema, only the last digits of the logits, through padding; in half precision
that can turn a near tie.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from anomreason.anomaly import Usage
from anomreason.errors import EndpointError
from anomreason.vlm.card import DetectorCard
from anomreason.vlm.local.batching import Batcher, Ticket
from anomreason.vlm.local.processor import Prepared, Reader
from anomreason.vlm.local.steps import Grammars, Row, RowLimits, Steering
from anomreason.vlm.local.weights import find_source, load_model, require_libraries
from anomreason.vlm.protocol import Reply, Request, VLMOptions

BATCH_ROWS = 16
BATCH_TOKENS = 65_536
"""Rows x (longest prompt + longest reply). About 4 GB of keys and values for a 7B model in half precision."""


@dataclass(frozen=True, eq=False, slots=True)
class _Job:
    request: Request
    prepared: Prepared
    limit: int
    """Most tokens of the reply: the request's cap, or what the model's context leaves."""


class LocalVLM:
    """A VLM that runs here. `close` ends its thread and frees the weights; it cannot be asked afterwards."""

    bounds_pixels = True

    def __init__(self, spec: str, options: VLMOptions) -> None:
        """spec: `PATH_OR_ID` or `BASE+ADAPTER`, without `local:`. Loads the weights, which takes a while.

        Raises MissingExtra when the libraries are missing, UsageError for what cannot be loaded.
        """
        require_libraries()
        source = find_source(spec)
        self.name: str = source.name
        self.card: DetectorCard | None = source.card
        """How a fine-tuned detector wants to be asked; None for a general model."""
        self._reader = Reader(source.base, source.card)
        self._engine: _Engine | None = _Engine(load_model(source, options), self._reader, self.name)
        self._context = self._engine.context
        self._batcher = Batcher(self._engine.answer, rows=BATCH_ROWS, area=BATCH_TOKENS)
        self._desk = ThreadPoolExecutor(max_workers=1, thread_name_prefix="anomreason-pictures")

    async def ask(self, request: Request) -> Reply:
        """One attempt, in a batch with what else waits. Raises EndpointError."""
        with self._batcher.expected():
            await asyncio.sleep(0)  # every request of this turn of the event loop is announced before the first runs
            if self._engine is None:
                raise EndpointError("connection", "the model has been closed; open it again to ask it")
            prepared = await asyncio.get_running_loop().run_in_executor(self._desk, self._reader.prepare, request)
            room = self._context - prepared.width
            if room < 1:
                raise EndpointError(
                    "rejected", f"the prompt has {prepared.width} tokens, the model holds {self._context}; send less"
                )
            limit = min(request.sampling.max_tokens, room)
            future = self._batcher.submit(_Job(request, prepared, limit), prepared.width + limit)
        return await asyncio.wrap_future(future)

    async def close(self) -> None:
        """Fail what still waits, end the threads, free the weights."""
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
        # Checkpoints bring their own temperature and repetition penalty, which would change what was asked for.
        model.generation_config = GenerationConfig(eos_token_id=self._ends, pad_token_id=self._padding)
        self._grammars = Grammars(tokenizer, model.config.text_config.vocab_size, self._ends[0])

    def answer(self, tickets: Sequence[Ticket[_Job, Reply]]) -> list[Reply]:
        """One reply a ticket. Raises MemoryError when the device's memory does not hold the batch."""
        import torch

        rows = [self._row(ticket) for ticket in tickets]
        try:
            made = self._generate([ticket.item.prepared for ticket in tickets], rows)
        except torch.OutOfMemoryError as error:
            raise MemoryError(str(error).partition("\n")[0]) from None
        return [self._reply(ticket.item, row, ids) for ticket, row, ids in zip(tickets, rows, made, strict=True)]

    def free(self) -> None:
        """Let go of the weights and give cached device memory back."""
        import torch

        self._model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _row(self, ticket: Ticket[_Job, Reply]) -> Row:
        import torch

        sampling = ticket.item.request.sampling
        row = Row(ticket.item.limit, self._grammars.matcher(ticket.item.request.schema), sampling.temperature)
        row.wants_logprobs = sampling.logprobs
        row.dropped = lambda: ticket.dropped
        if sampling.temperature > 0:
            row.generator = torch.Generator(self._model.device)
            if sampling.seed is None:
                row.generator.seed()
            else:
                row.generator.manual_seed(sampling.seed)
        return row

    def _generate(self, batch: Sequence[Prepared], rows: Sequence[Row]) -> list[list[int]]:
        """Token ids of the replies, each with whatever came after its end."""
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

    def _reply(self, job: _Job, row: Row, ids: list[int]) -> Reply:
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
