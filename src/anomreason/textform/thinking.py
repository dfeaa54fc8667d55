r"""Takes a model's thinking aloud off its reply, whatever the model marks it with.

>>> without_thinking("<think>Six fingers?</think>\nNo anomalies.")
'No anomalies.'
"""

from __future__ import annotations

import re

from anomreason.errors import ParseError
from anomreason.files import parse_json
from anomreason.textform.jsontext import values_in

_NAME = r"[\w:.-]{0,20}?(?:think|thought|reason|reflect|scratch|monolog|analysis|rationale|deliberat)[\w:.-]{0,60}"
_TAG = re.compile(
    rf"<\|?\s?/?\s?{_NAME}[^<>\n]{{0,80}}>"  # <think>, </Thinking>, <|begin_of_thought|>, <inner_monologue>
    r"|\[\s?/?\s?(?:think|thinking|thought)\s?\]|◁\s?/?\s?(?:think|thinking|thought)\s?▷"  # [THINK], ◁/think▷
    r"|<\|channel>\s?thought\b|<channel\|>|<unused9[45]>"  # Gemma
    r"|^Thinking\.\.\.[ ]?$|^\.\.\.done thinking\.?[ ]?$",  # a terminal's copy
    re.I | re.M,
)
_CLOSING = re.compile(r"\W{1,5}/|<\|end|<channel\||<unused95|\.\.\.done", re.I)
_HIDDEN_CHANNEL = re.compile(  # of harmony: all but the last words, `final`
    r"<\|channel\|>\s*(?!final)\w+[^<]{0,80}(?:<\|constrain\|>[^<]{0,40})?<\|message\|>.*?"
    r"(?:<\|end\|>|(?=<\|(?:start|channel)\|>)|\Z)",
    re.I | re.DOTALL,
)
_HARMONY = re.compile(
    r"<\|start\|>\s*assistant|<\|channel\|>\s*final\b[^<]{0,80}|<\|constrain\|>[^<]{0,40}|<\|(?:message|end|return|call)\|>",
    re.I,
)
_WRAPPING = re.compile(
    r"</?answer>|<\|(?:begin_of|end_of)_(?:box|solution|answer)\|>|<\|(?:start|end)_(?:response|text)\|>", re.I
)
_ANSWER = re.compile(r"<answer>(.*?)(?:</answer>|\Z)", re.I | re.DOTALL)
_LAST_TOKEN = re.compile(r"(?:<\|\w{2,30}\|>|</s>|<eos>|<end_of_turn>|<\uff5c[^<>]{2,40}\uff5c>)\Z")
_BLANK = " \t\r\n\ufeff\u200b"
ONLY_THINKING = "only thinking came back, and no answer after it"


def without_thinking(text: str) -> str:
    """The reply without the model's thinking, and without the marks around the answer.

    A closing tag alone ends what stands before it. Tags inside of a JSON text count as text. Raises ParseError when
    the thinking never ends or nothing stands beside it.
    """
    text = text.strip(_BLANK)
    if "<|" in text and "|>" in text:
        hidden = "<|channel|>" in text.lower()
        text = _HARMONY.sub("", _HIDDEN_CHANNEL.sub("", text)) if hidden else text
        if hidden and not text.strip():
            raise ParseError(ONLY_THINKING)
    elif re.match(r"analysis\s*[A-Z]", text):  # harmony whose marks the server took off
        thought, _, text = text.rpartition("assistantfinal")
        if not thought or not text.strip():
            raise ParseError(ONLY_THINKING)
    text = _outside(text)
    while end := _LAST_TOKEN.search(text[-60:]):
        text = text[: len(text) - len(end[0])].rstrip()
    marked = [m for m in _ANSWER.finditer(text) if m[1].strip()]
    if len(marked) == 1 and not any(v.start < marked[0].start() < v.end for v in values_in(text)):
        text = marked[0][1]
    text = _WRAPPING.sub("\n", text).strip(_BLANK)
    if text.startswith('{\\"'):
        text = f'"{text}"'
    return _decoded(text) if text.startswith(('"{', '"[')) else text


def _decoded(text: str) -> str:
    """The JSON in a JSON text that holds nothing but it."""
    try:
        return str(parse_json(text))
    except ParseError:
        return text


def _outside(text: str) -> str:
    tags = list(_TAG.finditer(text))
    if not tags:
        return text
    quoted = [(v.start, v.end) for v in values_in(text) if not v.problem and not v.repairs]
    kept: list[str] = []
    start, thinking = 0, False
    for tag in tags:
        if any(a < tag.start() < b for a, b in quoted):
            continue
        closing = bool(_CLOSING.match(tag[0])) or tag[0].endswith("/>")
        if closing:
            kept = kept if thinking else []
            start = tag.end()
        elif not thinking:
            kept.append(text[start : tag.start()])
        thinking = not closing
    if thinking:
        raise ParseError(ONLY_THINKING)
    answer = "".join([*kept, text[start:]])
    if not answer.strip():
        raise ParseError(ONLY_THINKING)
    return answer
