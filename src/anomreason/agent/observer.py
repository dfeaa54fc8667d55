"""What the replies of a run tell of its server: whether it passes images on, which model answers, how it writes boxes.

Some servers drop images silently, so that a model answers from the text alone. The count of prompt tokens shows it;
where it does not, one control question with an image of ours is asked, once a run. A model of no known family is asked
once where three rectangles are.

    >>> same_model("gpt-4o", "openai/gpt-4o-2024-08-06")
    True
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from statistics import mean

from anomreason.agent.boxes import AUTO, BOX_KEYS, CONVENTIONS, BoxReader, RawBox, read_box
from anomreason.errors import CallFailed, ParseError
from anomreason.images import Encoded
from anomreason.textform import without_thinking
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.probes import LEFT, NUMBER, PLACES, RIGHT, SIZE, boxes_request, control_request, place
from anomreason.vlm.protocol import Reply, Request

_BYTES_A_TOKEN = 3.7
"""Of English text and JSON; tokenizers in use need 3.9 to 5 bytes a token."""
_TEMPLATE = 16
"""Tokens that a chat template adds to our text, in requests of a thousand tokens ..."""
_LONG_TEMPLATE = 100
"""... and the most that it adds to the short control question, whose image is worth more in nearly every model."""
_COLOURS = re.compile(r"\b(red|orange|yellow|green|blue|purple|violet|magenta|pink|brown|grey|gray|black|white|cyan)\b")
_BLIND = re.compile(
    r"\b(no|any|an|the|your) (image|picture)s?\b.{0,60}\b(provided|attached|uploaded|included|shared|visible|given)\b"
    r"|\b(can(no|')t|can not|unable to|not able to|do(n't| not)) (actually |directly )?"
    r"(see|view|have|access|process|analy[sz]e)\b|\b(provide|share|upload|attach)\b.{0,30}\b(image|picture)\b",
    re.S,
)


def same_model(asked: str, answered: str) -> bool:
    """Whether the name that a model gives itself is a variant of the one that was asked for: dated, with a provider's
    or a folder's name before it, or with a quantisation or tag behind it."""
    a, b = _bare(asked), _bare(answered)
    if a == b or not b:
        return True
    short, long = sorted((a, b), key=len)
    return long.startswith(short) and bool(_VARIANT.fullmatch(long[len(short) :]))


_VARIANT = re.compile(
    r"([-_:@.](20\d\d-?\d\d(-?\d\d)?|\d\d-?\d\d|00\d|latest|free|preview|exp|beta|stable|it|instruct|chat|hf|gguf|awq|gptq|fp8|fp16"
    r"|bf16|f16|int[48]|i?q\d[a-z0-9_]*|[48]bit|extended|\d+b|vision))+"
)


def _bare(name: str) -> str:
    name = re.sub(r"\.(gguf|safetensors|bin)$", "", name.strip().lower().replace("\\", "/").rstrip("/"))
    name = re.sub(r"^local:|@[0-9a-f]{8}$", "", name)  # a local model gives its weights' fingerprint
    return re.sub(r"[-:]latest$", "", name.rpartition("/")[2])


def other_models(asked: str, answered: Iterable[str]) -> str | None:
    """Which of the models that answered are not the one asked for; None when all are."""
    others = sorted(name for name in set(answered) if not same_model(asked, name))
    return f"{', '.join(others[:3])} answered, although {asked} was asked for" if others else None


def sees(text: str) -> bool | None:
    """What an answer to the control question shows: seen, not seen, or None where it is no answer to it."""
    answer = without_thinking(text).lower()
    colours, numbers = _COLOURS.findall(answer), re.findall(r"\b\d{3}\b", answer)
    right = [colours[0] in LEFT, colours[1] in RIGHT] if len(colours) == 2 else []
    if NUMBER in numbers or (right and all(right)):
        return True
    if any(right) or any(sum(a == b for a, b in zip(n, NUMBER, strict=True)) > 1 for n in numbers):
        return None  # who reads badly has seen something
    guess = bool(numbers and right) and len(answer) < 300
    return False if guess or _BLIND.search(answer) else None


@dataclass
class Observer:
    """Collects the evidence of one run."""

    caller: Caller
    control: bool = True
    """Whether the control question may be asked."""
    max_reply_tokens: int = 2048
    others: set[str] = field(default_factory=set)
    """Names under which another model than the one asked for has answered."""
    _cause: str | None = None
    _settled: bool = False
    _convention: str | None = None
    _boxes_settled: bool = False
    _asking: asyncio.Lock = field(default_factory=asyncio.Lock)

    def __post_init__(self) -> None:
        # Models in this process and simulators get what they are sent, and go by one name.
        self._remote = getattr(self.caller.vlm, "remote", False)
        self._settled = not (self.control and self._remote)
        # In batches a question takes a round of hours.
        self._boxes_settled = self._settled or self.caller.batch is not None

    def hear(self, request: Request, reply: Reply) -> str | None:
        """Evidence of one reply. Gives a note when another model than the one asked for has answered."""
        if counts_image(request, reply, _TEMPLATE):
            self._settled = True
        if not self._remote or same_model(self.caller.vlm.name, reply.model):
            return None
        self.others.add(reply.model)
        return other_models(self.caller.vlm.name, [reply.model])

    @property
    def blind(self) -> bool:
        """Whether the server has been found not to pass images on."""
        return self._cause is not None

    async def blindness(self) -> str | None:
        """Why no result counts, when the server does not pass images on; None otherwise. May ask, once a run."""
        async with self._asking:
            if not self._settled:
                self._cause = await self._ask()
                self._settled = True
        return self._cause

    async def convention(self) -> str | None:
        """How the model writes boxes, by one question a run; None when it may not be asked or its answer does not tell.

        One of `agent.boxes.CONVENTIONS`.
        """
        async with self._asking:
            if not self._boxes_settled:
                request = boxes_request(self.max_reply_tokens)
                with suppress(CallFailed):
                    self._convention = await self._once.call(request, self._convention_of, Meter())
                self._boxes_settled = True
        return self._convention

    def _convention_of(self, reply: Reply) -> str | None:
        return best_convention(box_fits(reply, self.caller.vlm.name))

    @property
    def _once(self) -> Caller:
        """The caller, for a question that is not worth much patience."""
        return replace(self.caller, in_flight=1, patience=replace(self.caller.patience, retries=1))

    async def _ask(self) -> str | None:
        request = control_request(self.max_reply_tokens)

        def read(reply: Reply) -> tuple[bool | None, bool, str]:
            if not reply.text.strip():
                raise ParseError("the answer is empty")
            return sees(reply.text), counts_image(request, reply), " ".join(reply.text.split())[:120]

        try:
            seen, counted, said = await self._once.call(request, read, Meter())
        except CallFailed:
            return None  # the images' own calls say what is wrong with the server
        if seen is not False or counted:
            return None
        return (
            "the server answers but does not pass the image on: its token counts have no room for an image, and asked "
            f"for the number in an image of ours the model wrote {said!r}. Serve a vision model with its image part "
            "(--mmproj in llama.cpp), then start a new run (--run), since this one "
            "keeps answers given without the image; --no-control-question if you know better"
        )


WELL_PLACED = 0.6
"""Mean IoU from which boxes count as read right."""
TIE = 0.05
"""Conventions whose mean IoU differs by less place these boxes alike."""


def box_fits(reply: Reply, asked: str) -> dict[str, float]:
    """For each convention but `auto`, how well it reads the boxes that answer `boxes_request`: mean IoU, 0..1.

    asked: name of the model. Empty for an answer without the three rectangles.
    """
    raw = boxes_in(reply)
    if set(raw) != set(PLACES):
        return {}
    return {c: box_fit(raw, c, (asked, reply.model)) for c in CONVENTIONS if c != AUTO}


def best_convention(fits: Mapping[str, float]) -> str | None:
    """The first of those that fit best; None when none fits."""
    best = max(fits.values(), default=0.0)
    return next(c for c, fit in fits.items() if fit > best - TIE) if best >= WELL_PLACED else None


def boxes_in(reply: Reply) -> dict[str, RawBox]:
    """The boxes of a reply by the colour in the name beside them."""
    found = {}
    value = reply.parsed
    entries = next((v for v in value.values() if isinstance(v, list)), [value]) if isinstance(value, dict) else value
    for entry in entries if isinstance(entries, list) else []:
        if not isinstance(entry, dict):
            continue
        key = next((k for k in BOX_KEYS if entry.get(k) is not None), None)
        box = read_box(entry[key], key) if key else None
        words = " ".join(str(v).lower() for v in entry.values() if isinstance(v, str))
        colour = next((colour for colour in PLACES if colour in words), None)
        if box is not None and box.values and colour and colour not in found:
            found[colour] = box
    return found


def box_fit(raw: Mapping[str, RawBox], convention: str, names: Sequence[str]) -> float:
    """Mean IoU of the rectangles and the boxes as this convention reads them. names: of the model."""
    reader = BoxReader(SIZE, names[0], convention)
    for name in names[1:]:
        reader.answered_by(name)
    placed = reader.place(list(raw.values()))
    return mean(0.0 if r is None else r.iou(place(c)) for c, r in zip(raw, placed, strict=True))


def counts_image(request: Request, reply: Reply, template: int = _LONG_TEMPLATE) -> bool:
    """Whether the server counted more prompt tokens than the text alone can have."""
    if reply.usage.estimated or not any(isinstance(part, Encoded) for part in request.parts):
        return False
    texts = [p for p in request.parts if isinstance(p, str)] + [t for turn in request.turns for t in turn]
    return reply.usage.prompt_tokens > sum(len(t.encode()) for t in texts) / _BYTES_A_TOKEN + template
