"""From conversations to batches: pictures and questions exactly as inference prepares them, loss on answers alone.

Every token comes from `vlm.local_processor.Reader.prepare`, the code that detection runs: the row of a conversation is
the prompt of its last question, as a model would be asked, and the tokens that the template writes for the answer up to
the one that ends a reply. Knows nothing of training. Needs torch and transformers, imported when it is first used.

    >>> rows = Encoder(reader, ends=(2,), max_tokens=4096)
    >>> rows.collate([rows.encode(instance)])["labels"].shape
    torch.Size([1, 812])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Any

from PIL import Image

from anomreason.errors import EndpointError, UsageError
from anomreason.images import Encoded, image_size, load_image
from anomreason.training.data.instance import Instance
from anomreason.vlm.local.processor import PromptTensors, Reader
from anomreason.vlm.protocol import Request, Tag

NO_LOSS = -100
"""The label of a token that is not to be learnt; torch's cross entropy passes it over."""


@dataclass(frozen=True, eq=False, slots=True)
class Row:
    """One conversation as tensors."""

    prepared: PromptTensors
    """Prompt and answers, not padded."""
    labels: Any  # (tokens,) int64: the token itself in answers, NO_LOSS elsewhere


@dataclass(frozen=True, slots=True)
class _Text:
    """A conversation without its picture."""

    ids: list[int]
    """Up to the token that ends the last answer."""
    prompt: int
    """Tokens before the last answer."""
    spans: tuple[tuple[int, int], ...]
    """Where each answer begins, and where it ends with its closing token."""


class Encoder:
    """Turns conversations into batches for one checkpoint."""

    def __init__(self, reader: Reader, ends: Sequence[int], max_tokens: int) -> None:
        """ends: ids that end a reply at inference. max_tokens: a longer row is refused."""
        self.reader, self.ends, self.max_tokens = reader, frozenset(ends), max_tokens
        tokenizer = reader.tokenizer
        self.padding: int = min(ends) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._prompt_ids = lru_cache(4096)(self._prompt_ids_of)

    def encode(self, instance: Instance) -> Row:
        """One conversation. Raises UsageError for one that cannot be learnt from, UnreadableImage for its picture."""
        import torch

        _, answers = _halves(instance)
        text = self._text(instance)
        prompt = self.prepare(instance, answers[:-1])
        shown = prompt.width - text.prompt
        tail = torch.tensor(text.ids[text.prompt :])
        ids = torch.cat([prompt.ids, tail])
        if len(ids) > self.max_tokens:
            raise UsageError(_too_long(instance, len(ids), self.max_tokens))
        labels = torch.full_like(ids, NO_LOSS)
        for start, end in text.spans:
            labels[start + shown : end + shown] = ids[start + shown : end + shown]
        kinds = torch.cat([prompt.kinds, torch.zeros_like(tail)])
        return Row(PromptTensors(ids, kinds, prompt.pixels, prompt.grids), labels)

    def prepare(self, instance: Instance, said: Sequence[str]) -> PromptTensors:
        """What the model is shown to be asked the question after so many answers. Raises as `encode`."""
        asked, _ = _halves(instance)
        picture = load_image(instance.image, max_side=None).encoded
        turns = tuple(zip(said, asked[1:], strict=False))
        try:
            return self.reader.prepare(Request((picture, asked[0]), _tag(instance), turns=turns))
        except EndpointError as error:
            raise UsageError(f"{instance.name}: {error}; leave it out") from error

    def collate(self, rows: Sequence[Row]) -> dict[str, Any]:
        """Model inputs and `labels` (rows, tokens) of several rows, padded on the left as at inference."""
        import torch

        inputs = self.reader.collate([row.prepared for row in rows], self.padding)
        labels = torch.full_like(inputs["input_ids"], NO_LOSS)
        for i, row in enumerate(rows):
            labels[i, labels.shape[1] - len(row.labels) :] = row.labels
        return inputs | {"labels": labels}

    def width(self, instance: Instance) -> tuple[int, int]:
        """Tokens of a row, and those of them that are learnt; of the picture only its header is read."""
        text = self._text(instance)
        width, height = image_size(instance.image)
        processor = self.reader.processor.image_processor
        patches = processor.get_number_of_image_patches(height, width) // processor.merge_size**2
        learnt = sum(end - start for start, end in text.spans)
        return len(text.ids) + patches + self._around, learnt

    @cached_property
    def _around(self) -> int:
        """Tokens that the template puts around a picture's own."""
        side = self.reader.processor.image_processor.patch_size * 8
        out = BytesIO()
        Image.new("RGB", (side, side)).save(out, "PNG")
        picture = Encoded(out.getvalue(), "image/png", side, side)
        made = self.reader.prepare(Request((picture, "x"), Tag("", "", "")))
        return made.width - int(made.kinds.sum()) - len(self._prompt_ids(("x",), ()))

    def _text(self, instance: Instance) -> _Text:
        asked, answers = _halves(instance)
        # The empty question closes the last answer the way the template closes it.
        whole = self._prompt_ids_of((*asked, ""), answers)
        spans, prompt = [], 0
        for k in range(len(answers)):
            before = self._prompt_ids(asked[: k + 1], answers[:k])
            prompt = len(before)
            end = next((i for i in range(prompt, len(whole)) if whole[i] in self.ends), None)
            if end is None or whole[:prompt] != before:
                raise UsageError(
                    f"{instance.name}: the chat template does not carry answer {k + 1} on from its prompt to a token "
                    "that ends a reply; take the template and tokenizer of a Qwen2.5-VL, and answers without white "
                    "space around them"
                )
            spans.append((prompt, end + 1))
        return _Text(whole[: spans[-1][1]], prompt, tuple(spans))

    def _prompt_ids_of(self, asked: tuple[str, ...], answers: tuple[str, ...]) -> list[int]:
        request = Request((asked[0],), Tag("", "", ""), turns=tuple(zip(answers, asked[1:], strict=True)))
        ids: list[int] = self.reader.prepare(request).ids.tolist()
        return ids


def lengths_of(encoder: Encoder, instances: Sequence[Instance]) -> list[tuple[int, int]]:
    """(tokens, tokens learnt) of each conversation. Raises UsageError naming what is too long, UnreadableImage."""
    widths = [encoder.width(instance) for instance in instances]
    long = [(w, i) for (w, _), i in zip(widths, instances, strict=True) if w > encoder.max_tokens]
    if long:
        worst, instance = max(long, key=lambda found: found[0])
        message = _too_long(instance, worst, encoder.max_tokens)
        raise UsageError(message if len(long) == 1 else f"{len(long)} of {len(instances)} are too long: {message}")
    return widths


def _too_long(instance: Instance, tokens: int, limit: int) -> str:
    return (
        f"the conversation on {instance.name} has {tokens} tokens, more than data.max_tokens = {limit}; raise that, or "
        "lower model.max_pixels, or split its answer"
    )


def _halves(instance: Instance) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Questions and answers, as many of each."""
    roles = [turn.role for turn in instance.turns]
    if not roles or len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
        raise UsageError(f"{instance.name}: its turns are {roles}; they must be user and assistant by turns")
    texts = [turn.text for turn in instance.turns]
    return tuple(texts[::2]), tuple(text.strip() for text in texts[1::2])


def _tag(instance: Instance) -> Tag:
    return Tag(instance.name, "trainer", "train")
