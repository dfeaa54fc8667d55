"""Whether an image is AI-generated: reads the answer to that question, and weighs how likely it is.

>>> read_source("No, this image is a real photograph.")
'photograph'
>>> round(probability({"Yes": -0.1, " yes": -4.0, "No": -2.6}), 2)
0.93
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from anomreason.errors import ParseError
from anomreason.textform import without_thinking

Answer = Literal["generated", "photograph", "unsure"]
Band = tuple[float, float]
"""Lowest and highest probability of AI that counts as unsure, both included."""

_WORDS = re.compile(
    r"\b(?:(?P<generated>(?:ai|computer|artificially|machine)[ -]?(?:generated|made|created)|ai|generated"
    r"|(?:image )?generator|synthetic|fake)"
    r"|(?P<photograph>(?:real )?photo(?:graph|graphed)?(?![ -]?(?:real|like|style))|real)"
    r"|(?P<unsure>unsure|uncertain|not sure|(?:can ?not|can't) (?:tell|say|be told)))\b"
)
_DENIED = re.compile(
    r"\b(?:not|no|never|neither|nor|or|isn't|wasn't|rather than|instead of|but|wait|actually|cgi|illustration"
    r"|painting|drawing|composite|render(?:ed|ing)?|either|both|if|whether)\b"
)
_DENIED_WORD = re.compile(rf"\b(?:and not|not|isn't|wasn't|rather than|instead of) (?:an? )?(?:real )?{_WORDS.pattern}")
_NOT_GENERATED = re.compile(
    r"(?:(?:it|this|(?:this|the) image) (?:is |was )?)?(?:not|isn't|wasn't) (?:an? )?(?:ai|generated|ai[ -]generated)"
    r"(?: by (?:an )?ai| image)?\W*"
)
_YES_NO = re.compile(r"(?P<word>yes|no)\b(?:(?P<end>[\s.!}]*\Z|\s*[.!\n])|\s*[,:;–—-])")
_VERDICT = re.compile(r"(?:\b(?:answer|verdict|conclusion)\b(?: is)?|\A)\W*(\w[\w -]*?)\W*\Z")
_MARKED = re.compile(r"(?:the |my |final )*(?:answer|verdict|conclusion)\b(?: is)?\s*[:=-]*\s*")
_TAKEN_BACK = re.compile(r"\bwait\b|\bactually\b|\bcorr")
_MEANING: Mapping[str, Answer] = {
    "yes": "generated",
    "no": "photograph",
    "generated": "generated",
    "photograph": "photograph",
    "unsure": "unsure",
}


def read_source(text: str, yes_no: bool = True) -> Answer:
    """What an answer to the source question says. Raises ParseError for anything else.

    yes_no: whether the question can be answered with yes (AI-generated) or no. Then a yes or no counts that the rest
    of its sentence does not contradict. Otherwise a sentence counts when it names one of the three answers and takes
    nothing back; of a longer text, its last words after "answer:" or its first or last line.
    """
    answer = re.sub(r"[*_`\"]", "", without_thinking(text)).replace("’", "'").casefold().strip()
    lines = [line.strip() for line in answer.split("\n") if line.strip()]
    taken_back = _TAKEN_BACK.search(answer)
    if lines and (word := _WORDS.fullmatch(lines[0].strip(" .!"))) and not taken_back:
        return _MEANING[str(word.lastgroup)]
    verdict = _VERDICT.search(lines[-1]) if lines else None
    if yes_no and not taken_back:
        last = lines[-1:] if "?" not in answer or _MARKED.match(lines[-1]) else []  # a yes may answer a question
        for part in (_MARKED.sub("", part) for part in [answer, *last, *([verdict[1]] if last and verdict else [])]):
            if (head := _YES_NO.match(part)) and _agrees(head, part):
                return _MEANING[head["word"]]
        if _NOT_GENERATED.fullmatch(answer):
            return "photograph"
    answer = _DENIED_WORD.sub("", answer)
    parts = [answer, *([verdict[1]] if verdict else [])]
    if not _DENIED.search(answer) and not re.match(r"(?:yes|no)\b", answer):
        parts += [*lines[-1:], *re.split(r"[.!\n]", answer)[:1]]
    for part in parts:
        named = _named(part)
        if len(named) == 1 and not _DENIED.search(_WORDS.sub("", part)) and not re.match(r"(?:yes|no)\b", part):
            return _MEANING[named.pop()]
    words = ("yes", "no", "unsure") if yes_no else ("generated", "photograph", "unsure")
    wrong = f'the answer is not one of "{words[0]}", "{words[1]}" and "{words[2]}"'
    raise ParseError(wrong, write=f'answer with one word: "{words[0]}", "{words[1]}" or "{words[2]}"')


def _named(part: str) -> set[str]:
    """Which of the three answers a text names; "an AI-generated photo" names one."""
    named = {str(match.lastgroup) for match in _WORDS.finditer(part)}
    strong = re.search(r"\b(?:ai|computer|artificially)[ -]?generated", part)
    return {"generated"} if len(named) > 1 and strong and "unsure" not in named else named


def _agrees(head: re.Match[str], part: str) -> bool:
    """Whether the sentence that begins with yes or no names nothing but what that means."""
    rest = part[head.end() :]
    if head["end"] is not None:
        return "unsure" not in _named(rest)
    sentence = re.split(r"[.!\n]", rest)[0]
    return _named(_DENIED_WORD.sub("", sentence)) <= {_MEANING[head["word"]]}


@dataclass(frozen=True, slots=True)
class AnswerWords:
    """How the two answers can begin, in lower case."""

    generated: Sequence[str] = ("yes", "generated", "ai-generated")
    photograph: Sequence[str] = ("no", "photograph")
    unsure: Sequence[str] = ("unsure", "uncertain")

    def read(self, text: str) -> Answer:
        """What an answer says: one of these words, or what `read_source` makes of it. Raises ParseError."""
        plain = without_thinking(text).strip().rstrip(".!").casefold()
        if any(plain == word.rstrip(".!") for word in self.generated):
            return "generated"
        if any(plain == word.rstrip(".!") for word in self.photograph):
            return "photograph"
        return read_source(text, yes_no=self.generated[0].startswith("yes"))


def probability(logprobs: Mapping[str, float], words: AnswerWords = AnswerWords()) -> float | None:
    """P(AI-generated), given that it is one of the two, from the alternatives of the answer's first token.

    All spellings of a word add up (`Yes`, ` yes`, `YES`, `ye`). None when no alternatives are given, or when answers
    have less than half of their probability: then this is not where the answer stands.
    """
    if len(logprobs) < 2:  # the chosen token alone says nothing of the others
        return None
    kinds = (words.generated, words.photograph, words.unsure)
    mass = [0.0, 0.0, 0.0]
    for token, logprob in logprobs.items():
        start = token.strip(" \t\r\n\"'*`(.,Ġ▁Ċ").casefold()
        fits = [kind for kind, known in enumerate(kinds) if any(word.startswith(start) for word in known)]
        if len(start) >= 2 and len(fits) == 1:
            mass[fits[0]] += math.exp(logprob)
    generated, photograph, _ = mass
    known = generated + photograph
    return generated / known if known > 0 and sum(mass) >= sum(map(math.exp, logprobs.values())) / 2 else None


def decided(answer: Answer, p: float | None, band: Band | None) -> Answer:
    """The judgement: a known probability decides, unless the model itself was unsure.

    >>> decided("generated", 0.6, None), decided("generated", 0.6, (0.3, 0.7))
    ('generated', 'unsure')
    """
    if answer == "unsure" or p is None:
        return answer
    low, high = band or (0.5, 0.5)
    return "photograph" if p < low else "generated" if p > high else "unsure"
