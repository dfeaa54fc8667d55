"""How long a conversation is in tokens, its picture included, and what a training set's lengths are.

Knows no tokenizer and no model: who asks passes in how a text is counted. Try it:

    >>> picture_tokens(1024, 768, 50_176, 614_656)
    768
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from anomreason.errors import UnreadableImage, UsageError
from anomreason.training.data.instance import Turn

PAPER_PIXELS = (50_176, 614_656)
"""Appendix D.1: the least and the most pixels of a picture."""
THINNEST = 200
"""Qwen2.5-VL's image processor refuses a picture whose long side is more than so many times its short one."""
PERCENTILES = (5, 50, 90, 95, 99, 100)


def picture_tokens(width: int, height: int, min_pixels: int, max_pixels: int, side: int = 28) -> int:
    """Tokens of a picture of width x height pixels in a Qwen2.5-VL: one for each patch of side x side pixels.

    The picture is first scaled to whole patches within the pixel budget, as the model's own processor does
    (`smart_resize`). Raises UnreadableImage for a picture that is too thin for it.
    """
    if max(width, height) > THINNEST * min(width, height):
        raise UnreadableImage(f"a picture of {width}x{height} is too thin for this model (at most {THINNEST}:1)")
    across, down = round(width / side) * side, round(height / side) * side
    if across * down > max_pixels:
        scale = math.sqrt(width * height / max_pixels)
        across, down = (max(side, math.floor(length / scale / side) * side) for length in (width, height))
    elif across * down < min_pixels:
        scale = math.sqrt(min_pixels / (width * height))
        across, down = (math.ceil(length * scale / side) * side for length in (width, height))
    return (across // side) * (down // side)


def chatml(turns: Sequence[Turn]) -> str:
    """Qwen2.5-VL's chat template, without the tokens of the picture itself."""
    said = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    for number, turn in enumerate(turns):
        shown = "<|vision_start|><|vision_end|>" if number == 0 else ""
        said += f"<|im_start|>{turn.role}\n{shown}{turn.text}<|im_end|>\n"
    return said


@dataclass(frozen=True, slots=True)
class Tokens:
    """Length of one instance."""

    total: int
    picture: int
    answer: int
    """Of what the assistant says, the only part that is learnt."""


@dataclass(frozen=True, slots=True)
class Room:
    """How long an instance may be, and how that is counted. Raises UsageError for limits that cannot be meant."""

    count_text: Callable[[str], int]
    """Tokens of a text, no special ones added: `lambda t: len(tokenizer(t, add_special_tokens=False)["input_ids"])`."""
    max_tokens: int = 4096
    """Of one instance: system text, prompt, picture, answer and all between them."""
    min_pixels: int = PAPER_PIXELS[0]
    max_pixels: int = PAPER_PIXELS[1]
    side: int = 28
    """Pixels a side of the patch behind one picture token: patch size x merge size."""
    render: Callable[[Sequence[Turn]], str] = chatml
    """The model's chat template with the picture's own tokens left out."""

    def __post_init__(self) -> None:
        if min(self.max_tokens, self.min_pixels, self.side) < 1 or self.max_pixels < max(self.min_pixels, self.side**2):
            raise UsageError(
                f"an instance of {self.max_tokens} tokens with a picture of {self.min_pixels} to {self.max_pixels} "
                f"pixels in patches of {self.side} cannot be; give numbers above 0, the smaller first"
            )

    def picture(self, width: int, height: int) -> int:
        """Tokens of a picture of this size. Raises UnreadableImage for one that is too thin."""
        return picture_tokens(width, height, self.min_pixels, self.max_pixels, self.side)

    def measure(self, turns: Sequence[Turn], picture: int) -> Tokens:
        """Length of a conversation about a picture of so many tokens."""
        answer = sum(self.count_text(turn.text) for turn in turns if turn.role == "assistant")
        return Tokens(self.count_text(self.render(turns)) + picture, picture, answer)

    def settings(self) -> dict[str, Any]:
        """What a record of the training set needs to say of it."""
        return {name: getattr(self, name) for name in ("max_tokens", "min_pixels", "max_pixels", "side")}


def spread(values: Iterable[int]) -> dict[str, int]:
    """Percentiles as values that occur; empty without values."""
    found = np.fromiter(values, dtype=np.int64)
    if not found.size:
        return {}
    at = np.percentile(found, PERCENTILES, method="inverted_cdf")
    return {"max" if p == 100 else f"p{p}": int(value) for p, value in zip(PERCENTILES, at, strict=True)}


def spread_of(tokens: Sequence[Tokens]) -> dict[str, dict[str, int]]:
    """Percentiles of whole instances, of their pictures and of their answers."""
    return {
        "instance": spread(one.total for one in tokens),
        "picture": spread(one.picture for one in tokens),
        "answer": spread(one.answer for one in tokens),
    }


def table(head: Sequence[str], rows: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Lines of a plain table: a name and its numbers, in columns."""
    width = max((len(name) for name in rows), default=0)
    lines = [" " * width + "".join(f"{title:>9}" for title in head)]
    for name, values in rows.items():
        numbers = "".join(f"{values[title]:>9,}" if title in values else f"{'-':>9}" for title in head)
        lines.append(f"{name:<{width}}{numbers}")
    return lines
