"""`audit prompts`: the whole way from a list of prompts to a pack of k diverse ones, every drop with its reason.

    report = select_prompts("prompts.csv", Path("prompts.jsonl"), SelectOptions(k=246))
    report.dropped    # {'duplicate': 31, 'near-duplicate': 120, 'not chosen': 843}

The pack is `OUT`, the drops are `OUT.dropped.jsonl`, and the work lies in the folder `OUT.work` (each without OUT's
ending): embeddings, model calls and answers, so that the same command repeats nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

import numpy as np

from anomreason.anomaly import Record, Result, Usage
from anomreason.audit.prompts.choosing import choose, quotas
from anomreason.audit.prompts.cleaning import apart, distinct
from anomreason.audit.prompts.embedding import DEFAULT, Vectors, embed, open_embedder, usual_near
from anomreason.audit.prompts.packs import ID, known_packs, numbered, read_pack
from anomreason.audit.prompts.reading import (
    POSTGRESQL,
    DroppedPrompt,
    DropReason,
    ListedPrompt,
    PromptList,
    read_listed,
)
from anomreason.audit.prompts.tagging import PromptAnswers, ask, question_hash, read_answers, tagger
from anomreason.audit.prompts.tags import TAGS
from anomreason.audit.study import AuditPrompt
from anomreason.detector import DetectOptions, DetectorSetup
from anomreason.errors import UsageError
from anomreason.files import write_atomically
from anomreason.runs import FolderKind, ResumableFolder, provenance
from anomreason.vlm.protocol import VLM

Progress = Callable[[int, int], None]
EMBEDDINGS = "embeddings"
WORK = FolderKind("work", "run.json", "run.lock", "another --out", (EMBEDDINGS, "calls.jsonl"))


@dataclass(frozen=True, slots=True)
class SelectOptions:
    """How prompts are chosen. The command line has the same names and defaults."""

    k: int = 246
    """Prompts to choose."""
    embedder: str = DEFAULT
    """Sentence encoder, or CLIP or SigLIP checkpoint: a folder or a hub id. `words` needs no model."""
    near: float | None = None
    """Similarity from which on two prompts are near-duplicates; None: 0.9, 0.95 for CLIP, 0.8 for `words`."""
    per_tag: int | None = None
    """Prompts wanted of each tag; None: an equal share of k."""
    any_style: bool = False
    """Whether prompts stay that no photograph could show."""
    seed: int = 0
    """Decides the first prompt that is chosen."""
    device: str | None = None
    """Device of the embedder; None takes a GPU if there is one."""

    def check(self) -> None:
        """Raises UsageError for a value outside its range."""
        if self.k < 1:
            raise UsageError(f"k must be at least 1, not {self.k}")
        if self.near is not None and not 0 < self.near <= 1:
            raise UsageError(f"near must be more than 0 and at most 1, not {self.near}")
        if self.per_tag is not None and self.per_tag < 0:
            raise UsageError(f"per_tag must be at least 0, not {self.per_tag}")
        if self.seed < 0:
            raise UsageError(f"seed must be at least 0, not {self.seed}")


class TagCount(Record):
    """How often a tag is among the chosen prompts."""

    chosen: int
    wanted: int
    """0: no number was wanted."""
    there: int
    """Prompts with the tag that could have been chosen."""


class SelectReport(Result):
    """What became of a list of prompts."""

    read: int
    """Prompts of the list, damaged rows included."""
    chosen: int
    wanted: int
    dropped: dict[DropReason, int]
    tags: dict[str, TagCount]
    nearest: float | None
    """Highest similarity of two chosen prompts; None for fewer than two."""
    nearest_pair: tuple[str, ...] = ()
    """Their ids."""
    embedder: str
    near: float
    """Similarity from which on two prompts are near-duplicates."""
    model: str | None
    """Who was asked about the prompts; None: they keep the tags that they had."""
    usage: Usage
    """Of all questions so far."""


class PromptSelection:
    """A choice at work; see `selecting`."""

    def __init__(self, out: Path, folder: ResumableFolder, options: SelectOptions, listed: PromptList) -> None:
        self.out, self.folder, self.options = out, folder.path, options
        self.read = len(listed.prompts) + len(listed.damaged)
        self.prompts: list[ListedPrompt] = []
        """Those that are left, in the order of the list."""
        self.dropped: list[DroppedPrompt] = []
        self.near = 1.0
        """Similarity from which on two prompts are near-duplicates; known after `embed`."""
        self._listed, self._work = listed, folder
        self._vectors: Vectors = np.empty((0, 1), np.float32)

    def embed(self, progress: Progress = lambda *_: None) -> None:
        """Drop what is too long or equal, and embed the rest. Raises UsageError and MissingExtra as `open_embedder`."""
        self.prompts, gone = distinct(self._listed.prompts)
        embedder = open_embedder(self.options.embedder, self.options.device)
        texts = [prompt.text for prompt in self.prompts]
        self._vectors = embed(embedder, self.folder / EMBEDDINGS, texts, progress)
        self.near = usual_near(embedder) if self.options.near is None else self.options.near
        self.dropped = [*self._listed.damaged, *gone]

    def compare(self, progress: Progress = lambda *_: None) -> None:
        """Drop what is nearly equal to another prompt."""
        kept, close = apart(self.prompts, self._vectors, self.near, progress)
        self.prompts, self._vectors = [self.prompts[place] for place in kept], self._vectors[kept]
        self.dropped += close

    def choose(self, answers: PromptAnswers | None = None, model: str | None = None) -> SelectReport:
        """Choose from what is left and write the files. answers: of the model, for the tags and the filter by style."""
        prompts, rows, dropped = self._sorted(answers)
        dropped = [*self.dropped, *dropped]
        vectors, tags = self._vectors[rows], [prompt.tags for prompt in prompts]
        wanted = quotas(tags, self.options.k, self.options.per_tag, TAGS if answers is not None else ())
        choice = choose(vectors, tags, self.options.k, wanted, np.random.default_rng(self.options.seed))
        picked = set(choice.places)
        for place, prompt in enumerate(prompts):
            if place not in picked:
                why = f"{self.options.k:,} others were chosen"
                dropped.append(DroppedPrompt.of(prompt, "not chosen", why, float(choice.nearest[place])))
        chosen = _with_ids([prompts[place] for place in choice.places])
        self._write(chosen, dropped)
        there, taken = (Counter(tag for some in all for tag in some) for all in (tags, [p.tags for p in chosen]))
        pair = sorted(choice.places, key=lambda place: -choice.nearest[place])[:2]
        return SelectReport(
            read=self.read,
            chosen=len(chosen),
            wanted=self.options.k,
            dropped=dict(Counter(drop.reason for drop in dropped)),
            tags={tag: TagCount(chosen=taken[tag], wanted=n, there=there[tag]) for tag, n in wanted.items()},
            nearest=float(choice.nearest[pair[0]]) if len(pair) == 2 else None,
            nearest_pair=tuple(chosen[choice.places.index(place)].id for place in pair) if len(pair) == 2 else (),
            embedder=self.options.embedder,
            near=self.near,
            model=model,
            usage=answers.usage if answers is not None else Usage(),
        )

    def _sorted(self, answers: PromptAnswers | None) -> tuple[list[ListedPrompt], list[int], list[DroppedPrompt]]:
        """The prompts that may be chosen, with their rows, and those that the model's answers drop."""
        if answers is None:
            return self.prompts, list(range(len(self.prompts))), []
        kept, rows, dropped = list[ListedPrompt](), list[int](), list[DroppedPrompt]()
        for row, prompt in enumerate(self.prompts):
            answer, failure = answers.good.get(prompt.text), answers.failed.get(prompt.text)
            if answer is not None and (answer.photo or self.options.any_style):
                kept.append(prompt._replace(tags=tuple(answer.tags)))
                rows.append(row)
            elif answer is not None:
                dropped.append(DroppedPrompt.of(prompt, "not a photograph", "no photograph could show it"))
            else:
                unread = failure is not None and failure.kind in ("unparsable", "truncated")
                why = failure.message if failure is not None else "not asked"
                dropped.append(DroppedPrompt.of(prompt, "unreadable" if unread else "unanswered", why))
        return kept, rows, dropped

    def _write(self, chosen: Sequence[AuditPrompt], dropped: Sequence[DroppedPrompt]) -> None:
        pack = _lines(chosen)
        settings = self._work.settings() or {}
        # Both are ours, whenever a kill comes.
        written = list(dict.fromkeys([*settings.get("written", [])[-1:], _sum(pack)]))
        self._work.record({**settings, "written": written})
        write_atomically(dropped_file(self.out), _lines(dropped))
        write_atomically(self.out, pack)


def dropped_file(out: Path) -> Path:
    """Where the dropped prompts of a choice are listed."""
    return out.with_suffix(".dropped.jsonl")


@contextmanager
def selecting(
    source: str | Path, out: Path, options: SelectOptions = SelectOptions(), setup: DetectorSetup | None = None
) -> Iterator[PromptSelection]:
    """Read the list and take the folder of the work. setup: the model that is to be asked, for the record.

    Raises UsageError for options and lists that cannot be used, and for an `out` that is somebody else's file;
    RunConflict when another process works there.
    """
    options.check()
    if out.suffix != ".jsonl":
        raise UsageError(f"{str(out)!r} does not end in .jsonl, which is what is written; rename it")
    if not out.parent.is_dir():
        raise UsageError(f"there is no folder {str(out.parent)!r}; make it, or give another --out")
    if out.exists() and Path(source).expanduser().resolve() == out.resolve():
        raise UsageError(f"{str(out)!r} is the list itself; give another --out")
    listed = _listed(source)
    with ResumableFolder(out.with_suffix(".work"), WORK) as folder:
        before = folder.settings() or {}
        _check_ours(out, before.get("written", []))
        asked = {"model": setup.model, "question": question_hash()} if setup else {"model": ""}
        hidden = str(source).rpartition("@")[2] if str(source).startswith(POSTGRESQL) else str(source)
        settings = {"source": hidden, **asdict(options), **asked}
        record = {"command": "audit prompts", "settings": settings, **provenance().model_dump()}
        folder.record({**record, "written": before.get("written", [])})
        yield PromptSelection(out, folder, options, listed)


def select_prompts(
    source: str | Path,
    out: Path,
    options: SelectOptions = SelectOptions(),
    model: str | VLM | None = None,
    asking: DetectOptions = DetectOptions(),  # noqa: B008
    progress: Progress = lambda *_: None,
) -> SelectReport:
    """Choose the prompts of an audit and write them.

    source: a list as `reading.read_listed` takes it, or the name of a pack. model, asking: who is asked about each
    prompt, and how, as for `anomreason.detect`; there is no question before money is spent, so set max_cost or
    max_tokens. Raises UsageError for what cannot be used, inside an event loop, and when the questions were stopped;
    the same call goes on with what is left.
    """
    if model is not None and asyncio._get_running_loop() is not None:
        raise UsageError(
            "an event loop is running here (a notebook?): use await asyncio.to_thread(select_prompts, ...)"
        )
    given = {f.name for f in fields(DetectOptions) if getattr(asking, f.name) != f.default}
    setup = tagger(model, asking, given) if model is not None else None
    with selecting(source, out, options, setup) as work:
        work.embed(progress)
        work.compare(progress)
        if setup is None:
            return work.choose()
        answers = read_answers(work.prompts, setup, work.folder)
        asyncio.run(ask(work.prompts, setup, work.folder, answers, progress))
        if answers.stopped:
            left = len(answers.left(work.prompts))
            raise UsageError(f"{left:,} prompts are left to ask about ({answers.stopped}); the same call goes on")
        return work.choose(answers, setup.model)


def _listed(source: str | Path) -> PromptList:
    if str(source) in known_packs():
        return PromptList([ListedPrompt(f"{source}/{p.id}", p.text, p.id, p.tags) for p in read_pack(source)], [])
    return read_listed(source)


def _check_ours(out: Path, written: Sequence[str]) -> None:
    """Raises UsageError for a file that would be lost."""
    if out.exists() and (not out.is_file() or _sum(out.read_bytes()) not in written):
        raise UsageError(
            f"{str(out)!r} is there and is no choice of this command as it was written; give another --out"
        )


def _with_ids(prompts: Sequence[ListedPrompt]) -> list[AuditPrompt]:
    """The prompts with their own ids where all have usable ones, else numbered in this order."""
    ids = [prompt.id for prompt in prompts]
    if len(set(ids)) < len(ids) or not all(id is not None and ID.fullmatch(id) for id in ids):
        ids = numbered(len(prompts))
    return [AuditPrompt(id=str(id), text=p.text, tags=p.tags) for id, p in zip(ids, prompts, strict=True)]


def _lines(records: Sequence[AuditPrompt] | Sequence[DroppedPrompt]) -> bytes:
    return "".join(record.model_dump_json(exclude_none=True) + "\n" for record in records).encode("utf-8", "replace")


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
