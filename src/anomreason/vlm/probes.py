"""Questions whose answers are known, about images of ours: what a model and its server can do.

    reply = await vlm.ask(boxes_request(2048))

Each has a step of its own, under which the simulator answers it rightly.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from anomreason.anomaly import Region
from anomreason.images import Encoded
from anomreason.vlm.protocol import Part, Request, Sampling, Tag

CONTROL, BOXES, SCHEMA, WORD, SHORT = "control", "probe-boxes", "probe-schema", "probe-word", "probe-short"
"""Steps of the questions."""
ROLE = "Observer"
NUMBER, LEFT, RIGHT = "947", ("green",), ("purple", "violet", "magenta")
"""What the image of `control_request` shows: a number, and the colours of its halves."""
QUESTION = (
    "The image has two halves of different colours and a number of three digits. Which number is it, which colour has "
    "the left half, and which the right half? Answer in one line, for instance: 000, white, black."
)
SIZE = (900, 620)
"""Width and height of the image of `boxes_request`, pixels: no two units of boxes place them alike in it."""
PLACES: Mapping[str, tuple[int, int, int, int]] = {
    "red": (60, 50, 260, 330),
    "blue": (560, 90, 860, 250),
    "yellow": (330, 420, 500, 590),
}
"""Its rectangles: left, top, right, bottom in pixels."""
_FORM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["city", "letters"],
    "properties": {"city": {"type": "string", "maxLength": 60}, "letters": {"type": "integer", "maximum": 60}},
}
_BOX = {"type": "array", "items": {"type": "integer"}, "minItems": 4, "maxItems": 4}
_BOXES_FORM = {
    "type": "object",
    "additionalProperties": False,
    "required": ["objects"],
    "properties": {
        "objects": {
            "type": "array",
            "minItems": 3,
            "maxItems": 3,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["name", "box"],
                "properties": {"name": {"type": "string", "maxLength": 40}, "box": _BOX},
            },
        }
    },
}


def control_request(max_tokens: int) -> Request:
    """Which number and which colours an image shows."""
    image = Image.new("RGB", (512, 512), (0, 120, 40))
    draw = ImageDraw.Draw(image)
    draw.rectangle((256, 0, 511, 511), fill=(110, 20, 150))
    draw.text((256, 256), NUMBER, "white", ImageFont.load_default(200), anchor="mm")
    return _request(CONTROL, "(control question)", (_shown(image), QUESTION), max_tokens)


def boxes_request(max_tokens: int) -> Request:
    """Where three rectangles are, asked for in thousandths as the agents ask for places."""
    image = Image.new("RGB", SIZE, "white")
    draw = ImageDraw.Draw(image)
    for colour, (left, top, right, bottom) in PLACES.items():
        draw.rectangle((left, top, right - 1, bottom - 1), fill=colour)
    text = (
        "The image shows three rectangles on a white ground: a red, a blue and a yellow one. Give the place of each. "
        "Boxes are [left, top, right, bottom] in thousandths (0-1000) of the image's width and height.\n\n"
        'Answer with JSON only: {"objects": [{"name": "red", "box": [0, 0, 1000, 1000]}]}'
    )
    return _request(BOXES, "(boxes)", (_shown(image), text), max_tokens, schema=_BOXES_FORM)


def schema_request(max_tokens: int) -> Request:
    """A question that does not speak of JSON, with a schema: only a server that keeps to schemas answers in it."""
    return _request(
        SCHEMA, "(schema)", ("In one short sentence: what is the capital of France?",), max_tokens, schema=_FORM
    )


def word_request(max_tokens: int) -> Request:
    """A question for one word, with the log-probabilities of its alternatives."""
    text = "Is fresh snow usually white? Answer with one word: yes or no."
    return _request(WORD, "(one word)", (text,), max_tokens, logprobs=True)


def short_request(number: int, max_tokens: int) -> Request:
    """One of several short questions that take about equally long."""
    text = f"Write the number {number} in English words, and nothing else."
    return _request(SHORT, f"(short {number})", (text,), max_tokens)


def right_answer(request: Request) -> str:
    """What a model that sees and follows answers; the simulator does."""
    step = request.tag.step
    if step == CONTROL:
        return f"{NUMBER}, {LEFT[0]}, {RIGHT[0]}"
    if step == BOXES:
        width, height = SIZE
        scaled = {
            name: [round(1000 * v / side) for v, side in zip(box, (width, height) * 2, strict=True)]
            for name, box in PLACES.items()
        }
        return json.dumps({"objects": [{"name": name, "box": box} for name, box in scaled.items()]})
    if step == SCHEMA:
        return json.dumps({"city": "Paris", "letters": 5})
    return "yes" if step == WORD else "one of the numbers"


def place(colour: str) -> Region:
    """Where the rectangle of this colour is."""
    (x0, y0, x1, y1), (width, height) = PLACES[colour], SIZE
    return Region(x0=x0 / width, y0=y0 / height, x1=x1 / width, y1=y1 / height)


def _request(
    step: str,
    image: str,
    parts: tuple[Part, ...],
    max_tokens: int,
    *,
    schema: Mapping[str, Any] | None = None,
    logprobs: bool = False,
) -> Request:
    return Request(parts, Tag(image, ROLE, step), schema, Sampling(max_tokens=max_tokens, logprobs=logprobs))


def _shown(image: Image.Image) -> Encoded:
    out = io.BytesIO()
    image.save(out, "PNG")
    return Encoded(out.getvalue(), "image/png", *image.size)
