"""Runs the agent pipeline on one image.

Four schedules, for N objects (at most `max_objects`): `lean` 2 + ceil(N/6) calls, `paper` at most 3 + 6N + 1, `release`
11 + 5N, `single` 1. The common text and the image come first and are byte-identical in all calls that show the image,
so that prompt caches apply.

    detection = await AnomAgent(caller).detect(load_image(path), "photo.jpg")
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeVar

from anomreason.agent import forms, replies
from anomreason.agent.boxes import AUTO, BoxReader, RawBox
from anomreason.agent.candidates import Entry, Pool, Proposal, judge, kept, lines, numbers, sourced_lines
from anomreason.agent.cutouts import (
    Crops,
    CutOut,
    CutOutSheet,
    SheetBoxes,
    concerned,
    cut_outs_of,
    cutout_lines,
    part_name,
    sheets_of,
)
from anomreason.agent.forms import ObjectItem, schema_of
from anomreason.agent.objects import (
    agreed,
    croppable,
    drafts_text,
    even_groups,
    most_prominent,
    names_of,
    object_lines,
    unite,
)
from anomreason.agent.observer import Observer
from anomreason.agent.replies import KEEP
from anomreason.agent.roles import ATTRIBUTES, INTEGRATOR, RELATIONS, STEPS, Prompts
from anomreason.agent.source import Answer, AnswerWords, Band, decided, probability
from anomreason.anomaly import (
    Anomaly,
    Basis,
    Detection,
    Failure,
    ObjectPart,
    PartCount,
    Region,
    SceneObject,
    SourceJudgement,
)
from anomreason.errors import CallFailed, Deferred, ParseError
from anomreason.images import LoadedImage, crop
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.card import DetectorCard
from anomreason.vlm.protocol import Part, Reply, Request, Sampling, Tag

T = TypeVar("T")
P = TypeVar("P", Anomaly, SceneObject)
Schedule = Literal["lean", "paper", "release", "single"]

DRAFTS = 3
"""T of the paper's Eq. 2: passes that look for objects."""
SAMPLES = 3
"""Whole-image verification samples, and whole-image scans, of the `release` schedule."""
DRAWN = frozenset({"draft", "verify", "scan"})
"""Steps sampled several times with the same prompt, at temperature `spread`, so that the answers differ."""
GROUP = 6
"""Objects that one call of the `lean` schedule inspects."""
MOST_NOTES = 20
"""Notes that are kept with the result of one image."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How the agents work. The defaults are those of the command line."""

    schedule: Schedule = "lean"
    """Order and number of the calls for one image."""
    max_objects: int = 12
    """Objects to inspect in each image, 1..40: people first, then the most prominent."""
    judge_source: bool = False
    """Whether one more call asks if the image is AI-generated."""
    two_turns: bool = False
    """Whether that is asked first, and an image that is judged a photograph is described and not searched for
    anomalies, as in the paper's appendix D.2."""
    source_samples: int = 1
    """Answers to that question to draw where the endpoint gives no log-probabilities, 1..100: the share of yes is the
    probability then; 1 draws none."""
    abstain: Band | None = None
    """Probabilities of AI, lowest and highest, that count as unsure; None: only 0.5 does."""
    temperature: float = 0.0
    """Temperature of every call that is made once, 0..2."""
    spread: float = 0.7
    """Temperature of calls that are sampled several times, 0..2: some of schedule `release`, and `source_samples`."""
    seed: int = 0
    """Seed sent with each call; each further sample of a call adds 1."""
    max_reply_tokens: int = 2048
    """Token limit of a reply at first; doubled while replies are cut."""
    boxes: str = AUTO
    """Convention of the boxes in replies, one of `agent.boxes.CONVENTIONS`; `auto` tells it from the replies."""
    crops: Crops = "auto"
    """Whether the schedule `lean` shows small objects and parts enlarged, cut out of the file, beside the image: `auto`
    where an endpoint's model sees more that way, `always` wherever they enlarge."""

    @property
    def source_calls(self) -> int:
        """Calls about the source of one image, at most."""
        samples = self.source_samples if self.source_samples > 1 else 0
        return 1 + samples if self.judge_source or self.two_turns else 0


@dataclass
class Look:
    """One image under inspection: asks single steps, and keeps candidates and usage."""

    caller: Caller
    prompts: Prompts
    loaded: LoadedImage
    image: str
    settings: AgentSettings
    meter: Meter = field(default_factory=Meter)
    pool: Pool = field(default_factory=Pool)
    objects: tuple[SceneObject, ...] = ()
    counts: dict[str, tuple[PartCount, ...]] = field(default_factory=dict)
    """Parts that were counted, by the name of the object."""
    card: DetectorCard | None = None
    """How a fine-tuned detector is asked; used by the `single` schedule."""
    out_of_domain: bool | None = None
    """Whether such a detector reported an image of a type it does not know; None when it cannot report that."""
    observer: Observer | None = None
    notes: forms.Notes = field(default_factory=list)
    """What was assumed, repaired or left out while the replies were read."""

    def __post_init__(self) -> None:
        sent = self.loaded.encoded
        self.boxes = BoxReader((sent.width, sent.height), self.caller.vlm.name, self.settings.boxes)

    async def ask(
        self,
        step: str,
        read: replies.Reader[T],
        values: Mapping[str, str] | None = None,
        *,
        of: SceneObject | None = None,
        sample: int = 0,
        detail: Sequence[Part] = (),
    ) -> T:
        """One step's answer. `of`: the object it is about; `detail`: shown after the image and the step's prompt."""
        request = self.request(step, values, of.name if of else None, sample, detail)
        return await self.answer(request, lambda reply, notes: read(reply.text, notes))

    async def answer(self, request: Request, read: Callable[[Reply, forms.Notes], T], meter: Meter | None = None) -> T:
        """The answer to any request about the image, with the notes of reading it added to ours."""

        def noting(reply: Reply) -> tuple[T, forms.Notes]:
            self.boxes.answered_by(reply.model)
            notes: forms.Notes = []  # a reply that cannot be read leaves none
            if self.observer and (other := self.observer.hear(request, reply)):
                notes.append(other)
            try:
                return read(reply, notes), notes
            except ParseError as e:
                e.otherwise = None if e.otherwise is None else (e.otherwise, notes)
                raise

        value, notes = await self.caller.call(request, noting, meter or self.meter)
        self.notes += notes
        return value

    async def learn_boxes(self, boxes: Iterable[RawBox | None]) -> bool:
        """Find out how a model of an unknown name wrote these boxes, before they are placed; whether it was found."""
        if not (self.observer and self.boxes.unknown and any(box and box.values for box in boxes)):
            return False
        if convention := await self.observer.convention():
            self.boxes.told(convention)
        return convention is not None

    @property
    def conversation(self) -> DetectorCard | None:
        """The card of a detector that is asked in a conversation of two turns, as it was trained; else None."""
        return self.card if self.card and self.card.source and self.settings.schedule == "single" else None

    async def placed(self, lists: Sequence[Sequence[ObjectItem]]) -> list[list[SceneObject]]:
        """Objects of several replies with their regions, which all the boxes together decide."""
        boxes = [o.box for objects in lists for o in objects]
        await self.learn_boxes(boxes)
        regions = iter(self.boxes.place(boxes))
        return [[o.scene_object(next(regions)) for o in objects] for objects in lists]

    def with_parts(self, seen: SceneObject, listed: ObjectItem) -> SceneObject:
        """The object with those of its listed parts that can be placed. Call it when all objects are placed."""
        if not isinstance(listed, forms.DetailedObject):
            return seen
        regions = self.boxes.place_parts([part.box for part in listed.parts], seen.region)
        parts = [
            ObjectPart(name=part.name, region=region)
            for part, region in zip(listed.parts, regions, strict=True)
            if region
        ]
        return seen.model_copy(update={"parts": tuple(parts)})

    def count(self, name: str, counts: Sequence[forms.Count]) -> None:
        """Keep the parts that were counted of an object."""
        if counts:
            self.counts[name] = tuple(PartCount(part=c.part, count=c.count) for c in counts)

    def request(
        self,
        step: str,
        values: Mapping[str, str] | None = None,
        of: str | None = None,
        sample: int = 0,
        detail: Sequence[Part] = (),
    ) -> Request:
        """The request of one step. What all requests that show the image share comes first."""
        kind, settings = STEPS[step], self.settings
        parts: tuple[Part, ...] = (self.prompts.render(step, **(values or {})),)
        if kind.sees:
            parts = (self.prompts.common, self.loaded.encoded, *parts, *detail)
        sampling = Sampling(
            temperature=settings.spread if step in DRAWN else settings.temperature,
            max_tokens=settings.max_reply_tokens,
            seed=settings.seed + sample,
        )
        tag = Tag(self.image, kind.role, step, of, sample)
        return Request(parts, tag, schema_of(kind.form) if kind.form else None, sampling)


async def together(tasks: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run independent calls; all of them end, so that their replies are kept, before the first error is raised."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [r for r in results if not isinstance(r, BaseException)]


async def lean(look: Look) -> tuple[Anomaly, ...]:
    """List objects; inspect up to six a call, each by itself and in its relations; one second look decides."""
    look.objects = most_prominent(await _listed(look), look.settings.max_objects)
    groups = even_groups(look.objects, GROUP)
    cutouts = await _cutouts(look, groups)
    inspections = zip(groups, cutouts, strict=True)
    await together([_inspect(look, group, look.pool.section(), shown) for group, shown in inspections])
    entries = look.pool.entries
    sheets = await asyncio.to_thread(sheets_of, concerned([c for shown in cutouts for c in shown], entries))
    request = look.request("look-again", {"candidates": lines(e.proposed for e in entries)})
    form = forms.EnlargedReport if sheets else forms.CheckedReport
    request = replace(request, parts=(*request.parts, *_shown(look, sheets, boxes=True)), schema=schema_of(form))
    read = replies.checked_report_reader(numbers(entries), form)
    reply = await look.answer(request, lambda reply, notes: read(reply.text, notes))
    judge(entries, reply.checks)
    regions = _regions(look, reply, sheets)
    return look.pool.settle(reply.anomalies, [frozenset({e}) for e in entries], regions, _own("look-again"))


def _enlarges(look: Look) -> bool:
    """Whether cut-outs may be shown. Models in this process get none unless told to: each image costs memory."""
    crops = look.settings.crops
    return crops == "always" or (crops == "auto" and not look.caller.vlm.bounds_pixels)


async def _listed(look: Look) -> list[SceneObject]:
    """The objects; with their telling parts where cut-outs can show these."""
    request = look.request("objects-1", {"limit": str(look.settings.max_objects)})
    form: type[forms.Objects] = forms.Objects
    if _enlarges(look):
        form = forms.DetailedObjects
        request = replace(request, parts=(*request.parts, look.prompts.of_parts), schema=schema_of(form))
    listed = await look.answer(request, lambda reply, notes: replies.read_objects(reply.text, notes, form))
    [seen] = await look.placed([listed])
    return [look.with_parts(one, item) for one, item in zip(seen, listed, strict=True)]


async def _cutouts(look: Look, groups: Sequence[Sequence[SceneObject]]) -> Sequence[Sequence[CutOut]]:
    """The cut-outs to show of each group of objects."""
    if not _enlarges(look):
        return [[] for _ in groups]
    return await asyncio.to_thread(cut_outs_of, look.loaded, groups, look.settings.crops)


def _shown(look: Look, sheets: Sequence[CutOutSheet], boxes: bool) -> list[Part]:
    """The sheets, with what is said of them before. boxes: whether boxes on them are asked for."""
    if not sheets:
        return []
    return [look.prompts.of_cutouts(cutout_lines(sheets), boxes), *(sheet.encoded for sheet in sheets)]


def _regions(look: Look, report: forms.CheckedReport, sheets: Sequence[CutOutSheet]) -> list[Region | None]:
    """Where the anomalies show in the whole image; a box may have been drawn on a cut-out."""
    cutouts = [a.cutout if isinstance(a, forms.EnlargedAnomaly) else 0 for a in report.anomalies]
    items = list(zip(report.anomalies, cutouts, strict=True))
    regions = look.boxes.place([None if number else a.box for a, number in items])
    settings, on_sheets = look.settings, SheetBoxes(sheets, look.caller.vlm.name, look.boxes.convention)
    if settings.boxes != AUTO:
        on_sheets = SheetBoxes(sheets, look.caller.vlm.name, settings.boxes)
    placed = [on_sheets.place(a.box, number) if number else None for a, number in items]
    return [on_sheet or region for on_sheet, region in zip(placed, regions, strict=True)]


async def _inspect(look: Look, group: Sequence[SceneObject], section: list[Entry], cutouts: Sequence[CutOut]) -> None:
    asked = [o.name for o in group]
    values = {"objects": object_lines(group), "others": names_of(o for o in look.objects if o not in group)}
    sheets = await asyncio.to_thread(sheets_of, cutouts)
    detail = _shown(look, sheets, boxes=False)
    for inspection in await look.ask("inspect", replies.inspection_reader(asked), values, detail=detail):
        look.count(inspection.object, inspection.counts)
        for proposed in inspection.findings:
            section.append(Entry(proposed, STEPS["inspect"].role, "inspect", inspection.object))


async def paper(look: Look) -> tuple[Anomaly, ...]:
    """As in the paper's section 2 and appendix E: six steps for every object, one formatter for all.

    What nothing was proposed for is not reviewed, and nothing to report is not formatted.
    """
    limit = {"limit": str(look.settings.max_objects)}
    lists = await together([look.ask(f"objects-{t + 1}", replies.read_objects, limit) for t in range(DRAFTS)])
    look.objects = most_prominent(unite(await look.placed(lists)), look.settings.max_objects)
    reviewed = await together([_six_steps(look, o, look.pool.section()) for o in look.objects])
    proposals = [p for of_one in reviewed for p in of_one]
    return await _report(look, "format", proposals) if proposals else ()


async def _six_steps(look: Look, of: SceneObject, section: list[Entry]) -> list[Proposal]:
    await _mine(look, of, section)
    if not section:
        return []
    values = {"object": of.name, "candidates": sourced_lines(section)}
    values |= {"notes": await look.ask("review-1", replies.read_prose, values, of=of)}
    return _reviewed(section, await look.ask("review-2", replies.reviewed_reader(numbers(section)), values, of=of))


async def release(look: Look) -> tuple[Anomaly, ...]:
    """The calls of the authors' code of 2026: merged drafts, summaries, verification samples and scans."""
    limit = {"limit": str(look.settings.max_objects)}
    lists = await together([look.ask("draft", replies.read_objects, limit, sample=t) for t in range(DRAFTS)])
    drafts = await look.placed(lists)
    united = await look.ask("merge", replies.read_objects, limit | {"drafts": drafts_text(drafts)})
    regions = look.boxes.copied([o.box for o in united], [o.region for draft in drafts for o in draft if o.region])
    merged = [o.scene_object(region) for o, region in zip(united, regions, strict=True)]
    look.objects = most_prominent([agreed(o, drafts) for o in merged], look.settings.max_objects)
    summaries = await together([_five_steps(look, o, look.pool.section()) for o in look.objects])
    proposals = [p for summary in summaries for p in summary]
    verify, others = {"candidates": lines(p.proposed for p in proposals)}, {"others": names_of(look.objects)}
    read_checks = replies.checks_reader(numbers(proposals))
    samples: list[Coroutine[Any, Any, Any]] = [
        together([look.ask("verify", read_checks, verify, sample=s) for s in range(SAMPLES)]),
        together([look.ask("scan", replies.read_proposals, others, sample=s) for s in range(SAMPLES)]),
    ]
    checked, scanned = await together(samples)
    kept_ones, section = _verified(proposals, checked), look.pool.section()
    for proposed in (p for scan in scanned for p in scan):
        section.append(Entry(proposed, RELATIONS, "scan"))
    return await _report(look, "finish", [*kept_ones, *(Proposal(e.proposed, frozenset({e})) for e in section)])


async def _five_steps(look: Look, of: SceneObject, section: list[Entry]) -> list[Proposal]:
    await _mine(look, of, section)
    values = {"object": of.name, "candidates": sourced_lines(section)}
    return _reviewed(section, await look.ask("summary", replies.reviewed_reader(numbers(section)), values, of=of))


async def _mine(look: Look, of: SceneObject, section: list[Entry]) -> None:
    """Attribute steps 1 and 2, then relation steps 1 and 2 with the attribute anomalies as context (Eq. 3, 4)."""
    detail: tuple[Part, ...] = ()
    if look.settings.schedule == "release" and of.region is not None and croppable(of):
        detail = (await asyncio.to_thread(crop, look.loaded, of.region),)
    about = {"object": of.name, "description": of.description or "(nothing)"}
    note = {"crop_note": "The second image is an enlarged cut-out around it." if detail else ""}
    notes = await look.ask("attributes-1", replies.read_prose, about | note, of=of, detail=detail)
    of_it = {"object": of.name, "notes": notes}
    found = await look.ask("attributes-2", replies.read_attributes, of_it, of=of)
    look.count(of.name, found.counts)
    section += [Entry(f, ATTRIBUTES, "attributes-2", of.name) for f in found.findings]
    others = names_of(o for o in look.objects if o is not of)
    context = {"others": others, "known": lines(found.findings, numbered=False)}
    notes = await look.ask("relations-1", replies.read_prose, about | context, of=of)
    of_it = {"object": of.name, "others": others, "notes": notes}
    relations = await look.ask("relations-2", replies.read_proposals, of_it, of=of)
    section += [Entry(f, RELATIONS, "relations-2", of.name) for f in relations]


def _reviewed(section: Sequence[Entry], reply: forms.Reviewed) -> list[Proposal]:
    """The paper's scored and pruned set: the candidates of one object that the integrator keeps."""
    judge(section, reply.checks)
    proposals = [Proposal(f, kept(section[n - 1] for n in f.sources)) for f in reply.findings]
    covered = {entry for p in proposals for entry in p.sources}
    for entry in section:
        if entry not in covered:
            entry.drop(f"left out by {INTEGRATOR}")
    return [p for p in proposals if p.sources]


def _verified(proposals: Sequence[Proposal], samples: Sequence[Sequence[forms.Check]]) -> list[Proposal]:
    """Proposals with a mean score of at least KEEP; the others are dropped with the reason of the lowest score."""
    good = []
    judged: dict[Entry, float] = {}  # a candidate may stand behind several proposals: the best score counts
    for number, proposal in enumerate(proposals, start=1):
        checks = [c for sample in samples for c in sample if c.id == number]
        score = sum(c.score for c in checks) / len(checks)
        for entry in proposal.sources:
            if score >= judged.get(entry, 0.0):
                judged[entry] = score
                entry.judge(score, min(checks, key=lambda c: c.score).reason)
        if score >= KEEP:
            good.append(proposal)
    return good


async def _report(look: Look, step: str, proposals: Sequence[Proposal]) -> tuple[Anomaly, ...]:
    """The formatter's call turns the proposals into the final anomalies."""
    values = {"candidates": lines(p.proposed for p in proposals)}
    reply = await look.ask(step, replies.report_reader(numbers(proposals)), values)
    regions = look.boxes.place([a.box for a in reply.anomalies])
    return look.pool.settle(reply.anomalies, [p.sources for p in proposals], regions, _own(step))


def _own(step: str) -> Basis:
    """The basis of an anomaly that a step reports without any candidate."""
    return Basis(role=STEPS[step].role, step=step)


async def single(look: Look) -> tuple[Anomaly, ...]:
    """One call. A detector's card replaces our prompt and schema."""
    card, own = look.card, _own("single")
    if card is None:
        texts: list[str] = []

        def read_text(text: str, notes: forms.Notes) -> tuple[Anomaly, ...]:
            texts.append(text)
            return replies.read_single(text, notes, look.boxes)

        found = await look.ask("single", read_text)
        if await look.learn_boxes(look.boxes.seen):
            found = replies.read_single(texts[-1], None, look.boxes)
        return tuple(a.model_copy(update={"basis": own}) for a in found)
    schema = schema_of(forms.Anomalies) if card.answer == "json" else None
    parts, turns = _second_turn(look, card, card.generated)
    request = replace(look.request("single"), parts=parts, turns=turns, schema=schema)

    def read(reply: Reply, notes: forms.Notes) -> tuple[Anomaly, ...]:
        if card.out_of_domain is not None:
            look.out_of_domain = replies.read_prose(reply.text) == card.out_of_domain
        return () if look.out_of_domain else replies.read_single(reply.text, notes, look.boxes)

    found = await look.answer(request, read)
    return tuple(a.model_copy(update={"basis": own}) for a in found)


def _second_turn(
    look: Look, card: DetectorCard, answer: str | None
) -> tuple[tuple[Part, ...], tuple[tuple[str, str], ...]]:
    """Parts and turns that end on the card's prompt; after `answer` to its question about the source, if it has one."""
    if not look.conversation or not card.source or not answer:
        return (look.loaded.encoded, card.prompt), ()
    return (look.loaded.encoded, card.source), ((answer, card.prompt),)


async def source(look: Look) -> SourceJudgement:
    """Whether the image is AI-generated, and how likely: from log-probabilities, else from sampled answers.

    That the answer cannot be read is no reason to give up the anomalies; a fault of the server or a limit is.
    """
    settings, words = look.settings, AnswerWords()
    request = look.request("source")
    if card := look.conversation:
        request = replace(request, parts=(look.loaded.encoded, card.source or ""))
        words = AnswerWords((str(card.generated).casefold(),), (str(card.photograph).casefold(),))
    first = replace(request, sampling=replace(request.sampling, logprobs=True))
    answer, p = await _word(look, first, words)
    if isinstance(answer, CallFailed):
        look.notes.append(f"whether the image is AI-generated is not known ({answer.kind}): {answer}")
        return SourceJudgement(failure=Failure(kind=answer.kind, message=str(answer)))
    samples = None
    if p is None and settings.source_samples > 1:
        p, samples = await _sampled(look, request, words)
    if p is None and settings.abstain:
        look.notes.append("the abstain band was not applied, since the probability of AI is not known")
    return SourceJudgement(answer=decided(answer, p, settings.abstain), p_generated=p, samples=samples)


async def _word(look: Look, request: Request, words: AnswerWords) -> tuple[Answer | CallFailed, float | None]:
    """One answer about the source, or why there is none; and P(AI) where the endpoint gives log-probabilities."""
    own = Meter()  # that this answer is lost stops no other call about the image
    try:
        return await look.answer(request, lambda reply, _: judgement(reply, words), own)
    except CallFailed as e:
        if e.kind in ("endpoint", "budget"):
            look.meter.lost = look.meter.lost or e
            raise
        return e, None
    finally:
        look.meter.usage += own.usage
        look.meter.sent_notes |= own.sent_notes


async def _sampled(look: Look, request: Request, words: AnswerWords) -> tuple[float | None, int | None]:
    """The share of "AI-generated" among sampled answers, and how many answers it is a share of."""
    asked, settings = look.settings.source_samples, look.settings

    def draw(n: int) -> Request:
        sampling = replace(request.sampling, temperature=settings.spread, seed=settings.seed + n)
        return replace(request, tag=replace(request.tag, sample=n), sampling=sampling)

    drawn = await together([_word(look, draw(n), words) for n in range(asked)])
    counts = Counter("unreadable" if isinstance(answer, CallFailed) else answer for answer, _ in drawn)
    known = counts["generated"] + counts["photograph"]
    listed = ", ".join(f"{count} {answer}" for answer, count in sorted(counts.items()))
    look.notes.append(f"probability of AI from {asked} sampled answers ({listed}), so it is no finer than 1/{asked}")
    return (counts["generated"] / known, known) if known else (None, None)


async def describe(look: Look) -> str:
    """What is to be seen, in the words that `dataset annotate --describe` asks for, or as a detector was trained."""
    request = look.request("describe")
    if card := look.conversation:
        parts, turns = _second_turn(look, card, card.photograph)
        request = replace(request, parts=parts, turns=turns)
    else:
        # Without the common text, which is about anomalies.
        request = replace(request, parts=(look.prompts.render("describe"), look.loaded.encoded))
    return await look.answer(request, lambda reply, _: replies.read_prose(reply.text))


async def _asked(look: Look) -> dict[str, Any]:
    """What is asked about one image: the schedule's steps, and the source beside them or before them."""
    settings, schedule = look.settings, SCHEDULES[look.settings.schedule]
    if settings.two_turns or look.conversation:
        judged = await source(look)
        if judged.answer == "photograph":
            return {"source": judged, "description": await describe(look)}
        return {"source": judged, "anomalies": await schedule(look)}
    if not settings.judge_source:
        return {"anomalies": await schedule(look)}
    jobs: list[Coroutine[Any, Any, Any]] = [schedule(look), source(look)]
    return dict(zip(("anomalies", "source"), await together(jobs), strict=True))


SCHEDULES: Mapping[Schedule, Callable[[Look], Coroutine[Any, Any, tuple[Anomaly, ...]]]] = {
    "lean": lean,
    "paper": paper,
    "release": release,
    "single": single,
}


class AnomAgent:
    """A detector: one schedule with one model."""

    def __init__(
        self,
        caller: Caller,
        settings: AgentSettings = AgentSettings(),
        prompts: Prompts | None = None,
        card: DetectorCard | None = None,
        observer: Observer | None = None,
    ) -> None:
        """card: how a fine-tuned detector is asked; None takes the model's own card, if it has one.

        observer: gets every reply.
        """
        self.observer = observer
        self.caller = caller
        self.settings = settings
        self.prompts = prompts or Prompts.load()
        self.card: DetectorCard | None = card or getattr(caller.vlm, "card", None)
        self.name = f"{caller.vlm.name} {settings.schedule}"

    async def detect(self, loaded: LoadedImage, image: str) -> Detection:
        """All anomalies of one image; a lost step gives a failed detection. Raises Stopped and Deferred as `Caller`.

        image: the name under which the result is recorded.
        """
        look = Look(self.caller, self.prompts, loaded, image, self.settings, card=self.card, observer=self.observer)
        begun = time.monotonic()
        found: dict[str, Any]
        try:
            found = await _asked(look)
            look.objects = tuple(_with_parts_again(_again(o, look.boxes), look.boxes) for o in look.objects)
            anomalies = tuple(placed(_again(a, look.boxes), look.objects) for a in found.get("anomalies", ()))
            found |= {"status": "ok", "anomalies": anomalies, "out_of_domain": look.out_of_domain}
        except (CallFailed, Deferred) as e:
            lost = look.meter.lost or e
            if isinstance(lost, Deferred):
                raise
            found = {"status": "failed", "failure": Failure(kind=lost.kind, message=str(lost))}
        return Detection(
            image=image,
            sha256=loaded.sha256,
            detector=self.name,
            candidates=look.pool.candidates,
            objects=tuple(o.model_copy(update={"counts": look.counts.get(o.name, ())}) for o in look.objects),
            sent=loaded.sent.model_copy(update={"notes": (*loaded.sent.notes, *sorted(look.meter.sent_notes))}),
            boxes=look.boxes.convention,
            notes=tuple(dict.fromkeys([*look.boxes.notes, *look.notes]))[:MOST_NOTES],
            usage=look.meter.usage,
            seconds=round(time.monotonic() - begun, 3),
            **found,
        )


def _again(what: P, boxes: BoxReader) -> P:
    """The object or anomaly where all boxes of the image place it."""
    region = boxes.again(what.region)
    return what if region == what.region else what.model_copy(update={"region": region})


def _with_parts_again(seen: SceneObject, boxes: BoxReader) -> SceneObject:
    """The object with its parts where all boxes of the image place them."""
    regions = [boxes.again(part.region) for part in seen.parts]
    again = [(part.name, region) for part, region in zip(seen.parts, regions, strict=True) if region]
    return seen.model_copy(update={"parts": tuple(ObjectPart(name=name, region=r) for name, r in again)})


def placed(anomaly: Anomaly, objects: Sequence[SceneObject]) -> Anomaly:
    """The anomaly with the box of its first boxed object or part as region, if the formatter gave none."""
    if anomaly.region is not None:
        return anomaly
    boxes = {part_name(p.name, o.name).casefold(): p.region for o in objects for p in o.parts}
    boxes |= {o.name.casefold(): o.region for o in objects if o.region}
    region = next((boxes[n.casefold()] for n in anomaly.objects if n.casefold() in boxes), None)
    return anomaly.model_copy(update={"region": region})


def judgement(reply: Reply, words: AnswerWords = AnswerWords()) -> tuple[Answer, float | None]:  # noqa: B008
    """The answer about the source, and its probability from log-probabilities where the endpoint gives them."""
    return words.read(reply.text), probability(reply.logprobs, words)
