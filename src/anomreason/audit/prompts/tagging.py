"""Asks a model one text question about each prompt: could a photograph show it, and which tags has it?

    setup = tagger("gpt-4o-mini", DetectOptions(max_cost=1.0))
    answers = read_answers(prompts, setup, folder)
    asyncio.run(ask(prompts, setup, folder, answers))

Budget, retries, re-asking and the cache are those of `detect`: nothing is paid for twice.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from functools import cache
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Annotated, Any

from pydantic import AfterValidator, Field

from anomreason.agent.forms import Form
from anomreason.agent.replies import read_form
from anomreason.anomaly import Failure, Record, Usage
from anomreason.audit.prompts.reading import ListedPrompt
from anomreason.audit.prompts.tags import TAGS, plain_tag
from anomreason.detection import HOPELESS, open_caller
from anomreason.detector import DetectOptions, DetectorSetup, set_up
from anomreason.errors import CallFailed, ParseError, Stopped, UsageError, shown
from anomreason.files import Appender, read_lines, read_record
from anomreason.planning import CALL_SECONDS
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.ledger import spent_in
from anomreason.vlm.protocol import VLM, Reply, Request, Sampling, Tag

STEP = "prompt-tags"
ANSWERS = "answers.jsonl"
"""File of the answers that count, in the folder of the work."""
MOST_TAGS = 3
_REPLY_TOKENS = 30
"""Usual length of a reply."""


def _listed(tag: str) -> str:
    if (plain := plain_tag(tag)) not in TAGS:
        raise ValueError(ParseError(f"the tag {shown(tag)} is not in the list", write="take tags from the list alone"))
    return plain


class PromptAnswer(Form):
    """What the model says of one prompt."""

    photo: bool
    """Whether a photograph could show it."""
    tags: Annotated[list[Annotated[str, AfterValidator(_listed)]], Field(max_length=len(TAGS))]


_SCHEMA: Mapping[str, Any] = {
    "type": "object",
    "properties": {
        "photo": {"type": "boolean"},
        "tags": {"type": "array", "items": {"type": "string", "enum": list(TAGS)}, "maxItems": MOST_TAGS},
    },
    "required": ["photo", "tags"],
    "additionalProperties": False,
}


class TaggingPlan(Record):
    """What the questions are expected to cost."""

    prompts: int
    """Prompts that have no answer yet."""
    model: str
    in_flight: int
    usage: Usage
    """Calls, tokens and US dollars; `cost` is None when the price is not known."""
    seconds: float


class AnswerLine(Record):
    """An answer that counts, as `answers.jsonl` keeps it."""

    key: str
    """Of the prompt, the model and the settings that decide the answer."""
    photo: bool | None = None
    tags: tuple[str, ...] = ()
    refused: str | None = None
    """Why there is no answer, where asking again would bring none."""


@dataclass
class PromptAnswers:
    """What is known of the prompts; filled while the questions are asked."""

    good: dict[str, PromptAnswer] = field(default_factory=dict)
    """By text."""
    failed: dict[str, Failure] = field(default_factory=dict)
    """By text: the prompts without an answer that can be used."""
    usage: Usage = field(default_factory=Usage)
    """Of all calls for this list, earlier ones included."""
    stopped: str = ""
    """`limit` or `interrupted` when prompts were left unasked, or why the endpoint was given up; else empty."""
    stopping: bool = False
    """Whether no more is to be asked; see `stop`."""
    caller: Caller | None = None
    """What asks, while questions are asked."""

    def stop(self) -> None:
        """Ask no more; calls in flight end and are kept."""
        self.stopping = True
        if self.caller is not None:
            self.caller.stopping = True

    def left(self, prompts: Sequence[ListedPrompt]) -> list[str]:
        """The texts that are still to be asked about."""
        return [p.text for p in prompts if p.text not in self.good and p.text not in self.failed]


def tagger(model: str | VLM, options: DetectOptions, given: Collection[str] = ()) -> DetectorSetup:
    """A model set up to be asked about prompts; `given` as for `detector.set_up`, and raises as that does.

    Raises UsageError for a model that was trained on one question only.
    """
    setup = set_up(model, replace(options, schedule="single"), {*given, "schedule"})
    if setup.card is not None:
        raise UsageError(f"{setup.model} was trained on one question only and cannot sort prompts; use another model")
    return setup


def question_hash() -> str:
    """Of the question with its tags, for the record of what was asked."""
    return hashlib.sha256(_question("").encode()).hexdigest()[:16]


def read_answers(prompts: Sequence[ListedPrompt], setup: DetectorSetup, folder: Path) -> PromptAnswers:
    """What earlier runs have found out, from `answers.jsonl` in `folder`, which need not exist."""
    answers, file = PromptAnswers(usage=spent_in(folder)), folder / ANSWERS
    by_key = {_key(prompt.text, setup): prompt.text for prompt in prompts}
    for number, line in read_lines(file, appended=True):
        known = read_record(
            line, AnswerLine.model_validate, lambda _: AnswerLine.model_fields, f"{file}, line {number}", "an answer"
        )
        if (text := by_key.get(known.key)) is None:
            continue
        if known.photo is not None:
            answers.good[text] = PromptAnswer(photo=known.photo, tags=list(known.tags))
        else:
            answers.failed[text] = Failure(kind="refused", message=known.refused or "")
    return answers


def plan_tagging(prompts: Sequence[ListedPrompt], setup: DetectorSetup, answers: PromptAnswers) -> TaggingPlan:
    """What is left to ask, and what that costs."""
    left = answers.left(prompts)
    tokens = sum((len(_question(text)) + len(json.dumps(_SCHEMA))) // 4 for text in left)
    usage = Usage(calls=len(left), prompt_tokens=tokens, completion_tokens=_REPLY_TOKENS * len(left))
    cost = None if setup.price is None else setup.price.cost(usage)
    flight = setup.options.in_flight
    return TaggingPlan(
        prompts=len(left),
        model=setup.model,
        in_flight=flight,
        usage=usage.model_copy(update={"cost": cost}),
        seconds=-(-len(left) // flight) * CALL_SECONDS,
    )


async def ask(
    prompts: Sequence[ListedPrompt],
    setup: DetectorSetup,
    folder: Path,
    answers: PromptAnswers,
    progress: Callable[[int, int], None] = lambda *_: None,
) -> None:
    """Ask about the prompts that `answers` has nothing of, and fill it. `folder`: keeps ledger, replies and answers.

    Returns early when the budget is reached, `answers.stop` was called, or the endpoint fails HOPELESS times in a row.
    """
    left = answers.left(prompts)
    if not left:
        return
    async with open_caller(setup, folder) as caller:
        with closing(Appender(folder / ANSWERS)) as file:
            caller.expect_images(len(left))
            answers.caller = caller
            queue = _Queue(left, setup, caller, file, answers, progress)
            workers = [asyncio.create_task(queue.work()) for _ in range(min(setup.options.in_flight, len(left)))]
            try:
                await asyncio.gather(*workers)
            finally:
                for worker in workers:
                    worker.cancel()
                await asyncio.gather(*workers, return_exceptions=True)
                answers.usage, answers.caller = caller.ledger.total, None


@dataclass
class _Queue:
    """The questions that are left, shared by those who ask them."""

    texts: Sequence[str]
    setup: DetectorSetup
    caller: Caller
    file: Appender
    answers: PromptAnswers
    progress: Callable[[int, int], None]
    done: int = 0
    failed: int = 0
    """Calls in a row that the endpoint has failed."""

    def __post_init__(self) -> None:
        self._next = iter(self.texts)

    async def work(self) -> None:
        for text in self._next:
            if self.answers.stopping or self.answers.stopped or not await self.caller.begin_image():
                self.answers.stopped = self.answers.stopped or ("interrupted" if self.answers.stopping else "limit")
                return
            request, meter = _request(text, self.setup.options), Meter()
            try:
                self._answered(text, await self.caller.call(request, _read, meter))
            except CallFailed as error:
                if error.kind == "budget":
                    self.answers.stopped = "limit"
                    return
                self._lost(text, error)
            except Stopped:
                self.answers.stopped = "interrupted"
                return
            finally:
                self.caller.end_image(request.tag.image, meter.usage)
            self.done += 1
            self.progress(self.done, len(self.texts))

    def _answered(self, text: str, answer: PromptAnswer) -> None:
        self.answers.good[text], self.failed = answer, 0
        self._keep(AnswerLine(key=_key(text, self.setup), photo=answer.photo, tags=tuple(answer.tags)))

    def _lost(self, text: str, error: CallFailed) -> None:
        self.answers.failed[text] = Failure(kind=error.kind, message=str(error))
        if error.kind == "refused":
            self._keep(AnswerLine(key=_key(text, self.setup), refused=str(error)))
        self.failed = self.failed + 1 if error.kind == "endpoint" else 0
        if self.failed >= HOPELESS:
            self.answers.stopped = f"{HOPELESS} consecutive calls failed at the endpoint. {error}"

    def _keep(self, line: AnswerLine) -> None:
        self.file.append(line.model_dump_json(exclude_defaults=True))


def _read(reply: Reply) -> PromptAnswer:
    answer = read_form(PromptAnswer, reply.text)
    return answer.model_copy(update={"tags": list(dict.fromkeys(answer.tags))[:MOST_TAGS]})


def _key(text: str, setup: DetectorSetup) -> str:
    deciding = [setup.model, setup.options.temperature, setup.options.seed, _question(text)]
    return hashlib.sha256(json.dumps(deciding).encode()).hexdigest()[:32]


def _request(text: str, options: DetectOptions) -> Request:
    name = f"prompt-{hashlib.sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()[:12]}"
    sampling = Sampling(options.temperature, options.max_reply_tokens, options.seed)
    return Request((_question(text),), Tag(name, "PromptSorter", STEP), _SCHEMA, sampling)


def _question(text: str) -> str:
    tags = "\n".join(f"- {tag}: {meaning}" for tag, meaning in TAGS.items())
    return Template(_template()).substitute(
        prompt=json.dumps({"prompt": text}, ensure_ascii=False), tags=tags, most=MOST_TAGS
    )


@cache
def _template() -> str:
    return (files("anomreason.audit.prompts") / "question.md").read_text(encoding="utf-8").strip()
