"""Conversations as token batches: image and question exactly as at inference, loss on the answers only.

Every token comes from the code that detection runs (`vlm.local.processor.Reader.prepare`): a conversation is the prompt
of its last question followed by the tokens that the checkpoint's chat template writes for the answer, up to the one
that ends a reply. The same code counts tokens before training. Needs torch and transformers, imported on first use.

    encoder = ConversationEncoder(reader, ends=(2,), max_tokens=4096)
    encoder.collate([encoder.encode(instance)])["labels"].shape    # (conversations, tokens)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from io import BytesIO
from typing import Any

from PIL import Image

from anomreason.errors import EndpointError, UnreadableImage, UsageError
from anomreason.images import Encoded, image_size, load_image
from anomreason.training.data.instance import ConversationLength, Instance, Turn
from anomreason.vlm.local.processor import PromptTensors, Reader
from anomreason.vlm.protocol import Request, Tag

NO_LOSS = -100
"""The label of a token that is not to be learnt; torch's cross entropy passes it over."""


@dataclass(frozen=True, eq=False, slots=True)
class EncodedConversation:
    """One conversation as tensors."""

    prepared: PromptTensors
    """Prompt and answers, not padded."""
    labels: Any  # (tokens,) int64: the token itself in answers, NO_LOSS elsewhere


@dataclass(frozen=True, slots=True)
class _Text:
    """A conversation without its image."""

    ids: list[int]
    """Up to the token that ends the last answer."""
    prompt: int
    """Tokens before the last answer."""
    spans: tuple[tuple[int, int], ...]
    """Start of each answer, and its end behind the closing token."""


class ConversationEncoder:
    """Turns conversations into batches for one checkpoint, and counts their tokens."""

    def __init__(self, reader: Reader, ends: Sequence[int], max_tokens: int) -> None:
        """ends: ids that end a reply at inference. max_tokens: longer conversations are refused."""
        self.reader, self.ends, self.max_tokens = reader, frozenset(ends), max_tokens
        tokenizer = reader.tokenizer
        self.padding: int = min(ends) if tokenizer.pad_token_id is None else tokenizer.pad_token_id
        self._prompt_ids = lru_cache(4096)(self._prompt_ids_of)

    @property
    def pixels(self) -> tuple[int, int]:
        """Smallest and largest area that an image is scaled to."""
        return self.reader.min_pixels, self.reader.max_pixels

    def encode(self, instance: Instance) -> EncodedConversation:
        """Tensors of one conversation. Raises UsageError for one that cannot be learnt from, UnreadableImage."""
        import torch

        text = self._text(instance.turns, instance.name)
        prompt = self.prepare(instance, [turn.text.strip() for turn in instance.turns[1:-1:2]])
        image = prompt.width - text.prompt
        tail = torch.tensor(text.ids[text.prompt :])
        ids = torch.cat([prompt.ids, tail])
        if len(ids) > self.max_tokens:
            raise UsageError(_too_long(instance, len(ids), self.max_tokens))
        labels = torch.full_like(ids, NO_LOSS)
        for start, end in text.spans:
            labels[start + image : end + image] = ids[start + image : end + image]
        kinds = torch.cat([prompt.kinds, torch.zeros_like(tail)])
        return EncodedConversation(PromptTensors(ids, kinds, prompt.pixels, prompt.grids), labels)

    def prepare(self, instance: Instance, answers: Sequence[str]) -> PromptTensors:
        """The model's input for the question that follows so many answers. Raises as `encode`."""
        questions, _ = _halves(instance.turns, instance.name)
        image = load_image(instance.image, max_side=None).encoded
        turns = tuple(zip(answers, questions[1:], strict=False))
        try:
            return self.reader.prepare(
                Request((image, questions[0]), Tag(instance.name, "trainer", "train"), turns=turns)
            )
        except EndpointError as error:
            raise UsageError(f"{instance.name}: {error}; leave it out") from error

    def collate(self, rows: Sequence[EncodedConversation]) -> dict[str, Any]:
        """Model inputs and `labels` (rows, tokens), padded on the left as at inference."""
        import torch

        inputs = self.reader.collate([row.prepared for row in rows], self.padding)
        labels = torch.full_like(inputs["input_ids"], NO_LOSS)
        for i, row in enumerate(rows):
            labels[i, labels.shape[1] - len(row.labels) :] = row.labels
        return inputs | {"labels": labels}

    def image_tokens(self, width: int, height: int) -> int:
        """Tokens of an image of this size in pixels. Raises UnreadableImage for one that is too thin."""
        processor = self.reader.processor.image_processor
        try:
            patches: int = processor.get_number_of_image_patches(height, width)
        except ValueError as error:
            raise UnreadableImage(f"an image of {width}x{height} is too thin for this model ({error})") from error
        return patches // int(processor.merge_size) ** 2

    def measure(self, turns: Sequence[Turn], image: int, name: str = "conversation") -> ConversationLength:
        """Length of a conversation about an image of so many tokens, which is not opened. Raises UsageError."""
        text = self._text(turns, name)
        answer = sum(end - start for start, end in text.spans)
        return ConversationLength(len(text.ids) + image + self._around, image, answer)

    @cached_property
    def _around(self) -> int:
        """Tokens that the template puts around an image's own."""
        side = self.reader.processor.image_processor.patch_size * 8
        out = BytesIO()
        Image.new("RGB", (side, side)).save(out, "PNG")
        image = Encoded(out.getvalue(), "image/png", side, side)
        made = self.reader.prepare(Request((image, "x"), Tag("", "", "")))
        return made.width - int(made.kinds.sum()) - len(self._prompt_ids(("x",), ()))

    def _text(self, turns: Sequence[Turn], name: str) -> _Text:
        questions, answers = _halves(turns, name)
        # The empty question closes the last answer the way the template closes it.
        whole = self._prompt_ids_of((*questions, ""), answers)
        spans, prompt = [], 0
        for k in range(len(answers)):
            before = self._prompt_ids(questions[: k + 1], answers[:k])
            prompt = len(before)
            end = next((i for i in range(prompt, len(whole)) if whole[i] in self.ends), None)
            if end is None or whole[:prompt] != before:
                raise UsageError(
                    f"{name}: the chat template does not continue from the prompt with answer {k + 1} up to a token "
                    "that ends a reply; use the template and tokenizer of a Qwen2.5-VL, and answers without white "
                    "space around them"
                )
            spans.append((prompt, end + 1))
        return _Text(whole[: spans[-1][1]], prompt, tuple(spans))

    def _prompt_ids_of(self, questions: tuple[str, ...], answers: tuple[str, ...]) -> list[int]:
        request = Request((questions[0],), Tag("", "", ""), turns=tuple(zip(answers, questions[1:], strict=True)))
        ids: list[int] = self.reader.prepare(request).ids.tolist()
        return ids


def lengths_of(encoder: ConversationEncoder, instances: Sequence[Instance]) -> list[ConversationLength]:
    """Length of each conversation. Raises UsageError naming the one that is too long, UnreadableImage."""
    lengths = []
    for one in instances:
        image = encoder.image_tokens(*(one.size or image_size(one.image)))
        lengths.append(encoder.measure(one.turns, image, one.name))
    long = [(w.total, i) for w, i in zip(lengths, instances, strict=True) if w.total > encoder.max_tokens]
    if long:
        worst, instance = max(long, key=lambda found: found[0])
        message = _too_long(instance, worst, encoder.max_tokens)
        raise UsageError(message if len(long) == 1 else f"{len(long)} of {len(instances)} are too long: {message}")
    return lengths


def _too_long(instance: Instance, tokens: int, limit: int) -> str:
    return (
        f"the conversation on {instance.name} has {tokens} tokens, more than data.max_tokens = {limit}; raise that, or "
        "lower model.max_pixels, or split its answer"
    )


def _halves(turns: Sequence[Turn], name: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Questions and answers, as many of each."""
    roles = [turn.role for turn in turns]
    if not roles or len(roles) % 2 or roles != ["user", "assistant"] * (len(roles) // 2):
        raise UsageError(f"{name}: its turns are {roles}; user and assistant must take turns")
    texts = [turn.text for turn in turns]
    return tuple(texts[::2]), tuple(text.strip() for text in texts[1::2])
