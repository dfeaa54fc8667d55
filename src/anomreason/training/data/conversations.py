"""Makes conversations from annotated images: what is asked, what is answered, and what does not fit the length.

The two tasks of the paper's appendix D. Order of anomalies and wording of the question are random for each image and
follow from the seed and the image's name alone, so other images change nothing. An answer that would be too long
becomes several instances, split between whole anomalies.

    made = make_instances(read_annotated(Path("scenes")), "anomalies", encoder)
    print(made.table())
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from os.path import abspath
from typing import TYPE_CHECKING, get_args

import numpy as np

from anomreason.anomaly import Anomaly
from anomreason.errors import UnreadableImage, UsageError
from anomreason.images import image_size
from anomreason.textform import write_anomalies
from anomreason.training.data.instance import Annotated, ConversationLength, Dropped, Instance, Turn, tally
from anomreason.training.data.questions import CONTROL, Questions, Task

if TYPE_CHECKING:
    from anomreason.training.data.batches import ConversationEncoder

NOT_SEARCHED = "not searched for anomalies"
NO_KIND = "not labelled as AI image or photograph"
NO_DESCRIPTION = "a photograph without a description"
FAULTY_PHOTOGRAPH = "a photograph with anomalies"
CONTROL_TOKEN = "its text holds a control token"
UNREADABLE = "image cannot be opened"
NO_ROOM = "no room beside image and prompt"
TOO_LONG = "too long for one instance"
"""Of a single anomaly, or of a description. Neither is ever cut."""
NONE_FITS = "none of its anomalies fits"
PERCENTILES = (5, 50, 90, 95, 99, 100)

_NONE = write_anomalies(())

Conversation = Callable[[Sequence[Anomaly]], tuple[Turn, ...]]
"""Gives the turns whose answer lists these anomalies."""


@dataclass(frozen=True, slots=True)
class ConversationSet:
    """The instances of one training set, sorted by image, and what was left out."""

    task: Task
    counter: ConversationEncoder
    """Counts the tokens of a conversation as the model's own template writes it."""
    images: int
    """Given images; each has instances or is among `dropped`."""
    instances: tuple[Instance, ...]
    lengths: tuple[ConversationLength, ...]
    """Of each instance."""
    anomalies: int
    """In the answers of all instances."""
    clean: int
    """Instances whose answer is that there are none."""
    dropped: tuple[Dropped, ...]
    """By the sources too, where they were read here."""

    def table(self) -> str:
        """What it holds, how long its conversations are and what was left out: to be read before training."""
        images = sum(one.part == 1 for one in self.instances)
        total, learnt = (sum(getattr(one, of) for one in self.lengths) for of in ("total", "answer"))
        least, most = self.counter.pixels
        lines = [
            f"{len(self.instances):,} conversations on {images:,} images, task {self.task!r}: "
            f"{self.anomalies:,} anomalies, {self.clean:,} answers that there are none",
            *self._split(),
            f"at most {self.counter.max_tokens:,} tokens each, images of {least:,} to {most:,} pixels; "
            f"{total:,} tokens in all, {learnt:,} of them learnt",
            "",
        ]
        if self.lengths:
            lines += [" " * 12 + "".join(f"{'max' if p == 100 else f'p{p}':>9}" for p in PERCENTILES)]
            for title, of in (("conversation", "total"), ("image", "image"), ("answer", "answer")):
                values = percentiles(getattr(one, of) for one in self.lengths)
                lines += [f"{title:<12}" + "".join(f"{value:>9,}" for value in values)]
            lines += [""]
        return "\n".join([*lines, *self._left_out()])

    def _split(self) -> Iterator[str]:
        parts = [one.parts for one in self.instances if one.part == 1 and one.parts > 1]
        if parts:
            yield f"{len(parts):,} of the images are split into {sum(parts):,} conversations to fit the length"

    def _left_out(self) -> Iterator[str]:
        counted = tally(self.dropped)
        if not counted:
            yield "nothing was left out"
        for what, reasons in counted.items():
            plural = "images" if what == "image" else "anomalies"
            yield f"{sum(reasons.values()):,} {plural} left out:"
            yield from (f"  {count:>9,}  {reason}" for reason, count in reasons.items())


def make_instances(
    images: Iterable[Annotated],
    task: Task,
    counter: ConversationEncoder,
    seed: int = 0,
    questions: Questions | None = None,
) -> ConversationSet:
    """Conversations about each image, within the length.

    The order of `images` does not matter. Raises UsageError for an unknown task, and when one image is annotated
    twice. What cannot be learnt from is in `dropped`, with its reason.
    """
    if task not in get_args(Task):
        raise UsageError(f"unknown task {task!r}; choose one of {', '.join(get_args(Task))}")
    questions = questions or Questions.load()
    given = _ordered(images)
    instances: list[Instance] = []
    lengths: list[ConversationLength] = []
    dropped: list[Dropped] = []
    learnt = clean = 0
    for image in given:
        dialogue = _dialogue(image, task, seed, questions)
        parts = dialogue if isinstance(dialogue, Dropped) else _fitted(image, dialogue, counter, dropped)
        if isinstance(parts, Dropped):
            dropped.append(parts)
            continue
        for number, one in enumerate(parts, 1):
            instances.append(Instance(image.image, image.name, one.turns, number, len(parts), image.size, image.sha256))
            lengths.append(one.length)
            learnt += len(one.anomalies)
            clean += one.turns[-1].text == _NONE
    return ConversationSet(task, counter, len(given), tuple(instances), tuple(lengths), learnt, clean, tuple(dropped))


def conversation(
    image: Annotated, task: Task, seed: int = 0, questions: Questions | None = None
) -> tuple[Turn, ...] | Dropped:
    """The conversation that `make_instances` makes of an image, in one part and of any length; or why there is none."""
    dialogue = _dialogue(image, task, seed, questions or Questions.load())
    return dialogue if isinstance(dialogue, Dropped) else dialogue.turns(dialogue.anomalies)


def _ordered(images: Iterable[Annotated]) -> list[Annotated]:
    given = sorted(images, key=lambda one: (one.name, str(one.image)))
    seen: dict[str, Annotated] = {}
    for one in given:
        before = seen.setdefault(abspath(one.image), one)
        if before is not one:
            raise UsageError(
                f"{one.image} is annotated twice (as {before.name!r} of {before.source!r} and {one.name!r} of "
                f"{one.source!r}); leave one of the two out, or the model learns two answers for one image"
            )
    return given


@dataclass(frozen=True, slots=True)
class _Dialogue:
    """The anomalies of one image in their random order, and the conversation that lists them."""

    anomalies: tuple[Anomaly, ...]
    turns: Conversation


def _dialogue(image: Annotated, task: Task, seed: int, questions: Questions) -> _Dialogue | Dropped:
    """The conversation about an image, or why there is none."""
    texts = [text for a in image.anomalies for text in (a.name, a.phenomenon, a.reasoning)]
    for text in [*texts, image.description or ""]:
        if found := CONTROL.search(text):
            detail = f"{found[0]!r} stands for an image or ends a message; remove it from the annotation"
            return Dropped(image.name, CONTROL_TOKEN, detail)
    draw = _generator(seed, task, image.name, "order")
    order = tuple(image.anomalies[i] for i in draw.permutation(len(image.anomalies)))
    pick = _generator(seed, task, image.name, "wording")
    if task == "anomalies":
        return _anomalies(image, order, questions, pick)
    return _authenticity(image, order, questions, pick)


def _anomalies(
    image: Annotated, order: tuple[Anomaly, ...], questions: Questions, pick: np.random.Generator
) -> _Dialogue | Dropped:
    if not _searched(image):
        return Dropped(image.name, NOT_SEARCHED)
    ask = Turn("user", _one(questions.anomalies.ask, pick))
    return _Dialogue(order, lambda found: (ask, Turn("assistant", write_anomalies(found))))


def _authenticity(
    image: Annotated, order: tuple[Anomaly, ...], questions: Questions, pick: np.random.Generator
) -> _Dialogue | Dropped:
    own = questions.authenticity
    source, explain = Turn("user", _one(own.source, pick)), Turn("user", _one(own.explain, pick))
    if image.generated is None:
        return Dropped(image.name, NO_KIND)
    if image.generated:
        head = source, Turn("assistant", own.generated), explain
        dialogue = _Dialogue(order, lambda found: (*head, Turn("assistant", write_anomalies(found))))
        return dialogue if _searched(image) else Dropped(image.name, NOT_SEARCHED)
    described = (image.description or "").strip()
    if order or not described:
        return Dropped(image.name, FAULTY_PHOTOGRAPH if order else NO_DESCRIPTION)
    whole = source, Turn("assistant", own.photograph), explain, Turn("assistant", described)
    return _Dialogue((), lambda _: whole)


def _searched(image: Annotated) -> bool:
    """Whether somebody looked for anomalies; an image that is only described may have some that nobody looked for."""
    return bool(image.anomalies) or image.description is None


def _generator(seed: int, *names: str) -> np.random.Generator:
    digest = hashlib.sha256("\0".join((str(seed), *names)).encode("utf-8", "surrogatepass")).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _one(texts: Sequence[str], pick: np.random.Generator) -> str:
    return texts[int(pick.integers(len(texts)))]


@dataclass(frozen=True, slots=True)
class _Part:
    anomalies: tuple[Anomaly, ...]
    turns: tuple[Turn, ...]
    length: ConversationLength


def _fitted(
    image: Annotated, dialogue: _Dialogue, counter: ConversationEncoder, dropped: list[Dropped]
) -> list[_Part] | Dropped:
    """The conversation in one part, or in as few as whole anomalies allow in their order; or why it does not fit.

    Single anomalies that are too long are added to `dropped`.
    """
    try:
        size = counter.image_tokens(*(image.size or image_size(image.image)))
    except UnreadableImage as error:
        return Dropped(image.name, UNREADABLE, str(error))

    def part(anomalies: tuple[Anomaly, ...]) -> _Part | None:
        turns = dialogue.turns(anomalies)
        length = counter.measure(turns, size, image.name)
        return _Part(anomalies, turns, length) if length.total <= counter.max_tokens else None

    whole = part(dialogue.anomalies)
    if whole is not None:
        return [whole]
    limit = f"{counter.max_tokens:,} tokens"
    least = counter.measure([*dialogue.turns(())[:-1], Turn("assistant", "")], size, image.name).total
    if least >= counter.max_tokens:
        detail = f"image and prompt take {least:,} of {limit}; allow more tokens or fewer pixels"
        return Dropped(image.name, NO_ROOM, detail)
    if not dialogue.anomalies:
        return Dropped(image.name, TOO_LONG, f"with image and prompt more than {limit}")
    parts: list[_Part] = []
    for anomaly in dialogue.anomalies:
        longer = part((*parts[-1].anomalies, anomaly)) if parts else None
        alone = None if longer else part((anomaly,))
        if longer:
            parts[-1] = longer
        elif alone:
            parts.append(alone)
        else:
            dropped.append(
                Dropped(image.name, TOO_LONG, f"{anomaly.name!r}: with image and prompt more than {limit}", "anomaly")
            )
    return parts or Dropped(image.name, NONE_FITS, "allow more tokens, fewer pixels, or shorten the annotation")


def percentiles(values: Iterable[int]) -> list[int]:
    """Values that occur, at each of PERCENTILES; there must be some."""
    found = np.fromiter(values, dtype=np.int64)
    return [int(value) for value in np.percentile(found, PERCENTILES, method="inverted_cdf")]
