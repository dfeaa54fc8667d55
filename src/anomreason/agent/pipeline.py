"""The main path: how the agents go over one picture.

Four schedules, N objects each (`max_objects` at most): `lean` 2 + ceil(N/6) calls, `paper` 3 + 6N + 1, `release`
11 + 5N, `single` 1. The picture and the common text come first and are byte-identical in all calls that show it, so
that prompt caches apply. Knows nothing of files, runs and retries.

    detection = await AnomAgent(caller).detect(picture, "photo.jpg")
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from anomreason.agent import replies
from anomreason.agent.candidates import KEEP, Entry, Pool, Proposal, judge, kept, lines, numbers
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
from anomreason.agent.replies import schema_of
from anomreason.agent.roles import ATTRIBUTES, INTEGRATOR, RELATIONS, STEPS, Prompts
from anomreason.anomaly import Anomaly, Detection, Failure, SceneObject
from anomreason.errors import CallFailed
from anomreason.images import Encoded, LoadedImage, crop
from anomreason.vlm.calling import Caller, Meter
from anomreason.vlm.card import DetectorCard
from anomreason.vlm.protocol import Part, Reply, Request, Sampling, Tag

T = TypeVar("T")
Schedule = Literal["lean", "paper", "release", "single"]

DRAFTS = 3
"""T of the paper's Eq. 2: how often objects are looked for."""
SAMPLES = 3
"""Whole-image verification samples, and whole-image scans, of the `release` schedule."""
DRAWN = frozenset({"draft", "verify", "scan"})
"""Steps asked several times with the same words, drawn at `spread` so that the answers differ."""
GROUP = 6
"""Objects that the `lean` schedule inspects in one call."""


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """How the agents work. The defaults are those of the command line."""

    schedule: Schedule = "lean"
    max_objects: int = 12
    judge_source: bool = False
    """One more call that says AI image or photograph."""
    temperature: float = 0.0
    """Of every call but those that are meant to differ, which are drawn at `spread`."""
    spread: float = 0.7
    seed: int = 0
    max_reply_tokens: int = 2048
    """First cap of a reply; doubled when a reply is cut."""


@dataclass
class Look:
    """One picture being looked at: asks single steps and keeps what was used."""

    caller: Caller
    prompts: Prompts
    picture: LoadedImage
    image: str
    settings: AgentSettings
    meter: Meter = field(default_factory=Meter)
    pool: Pool = field(default_factory=Pool)
    objects: tuple[SceneObject, ...] = ()
    card: DetectorCard | None = None
    """How a fine-tuned detector wants to be asked; rules in the `single` schedule."""
    out_of_domain: bool | None = None
    """Whether such a detector said that it does not know such pictures; None when it cannot say."""

    async def ask(
        self,
        step: str,
        read: Callable[[str], T],
        values: Mapping[str, str] | None = None,
        *,
        of: SceneObject | None = None,
        sample: int = 0,
        detail: Encoded | None = None,
    ) -> T:
        """One step's answer. `of`: the object it is about; `detail`: a cut-out shown after the whole picture."""
        kind = STEPS[step]
        said = self.said(step, values, detail)
        tag = Tag(self.image, kind.role, step, of.name if of else None, sample)
        schema = schema_of(kind.form) if kind.form else None
        return await self.send(tag, said, schema, lambda reply: read(reply.text))

    def said(
        self, step: str, values: Mapping[str, str] | None = None, detail: Encoded | None = None
    ) -> tuple[Part, ...]:
        """What a step is asked with: what all calls that show the picture share comes first."""
        asked = self.prompts.render(step, **(values or {}))
        if not STEPS[step].sees:
            return (asked,)
        return (self.prompts.common, self.picture.encoded, asked, *((detail,) if detail else ()))

    async def send(
        self,
        tag: Tag,
        said: tuple[Part, ...],
        schema: Mapping[str, Any] | None,
        read: Callable[[Reply], T],
        logprobs: bool = False,
    ) -> T:
        """One call."""
        settings = self.settings
        sampling = Sampling(
            temperature=settings.spread if tag.step in DRAWN else settings.temperature,
            max_tokens=settings.max_reply_tokens,
            seed=settings.seed + tag.sample,
            logprobs=logprobs,
        )
        return await self.caller.call(Request(said, tag, schema, sampling), read, self.meter)


async def together(tasks: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Run calls that do not wait for each other; all end (their replies are kept) before the first error is raised."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException):
            raise result
    return [r for r in results if not isinstance(r, BaseException)]


async def lean(look: Look) -> tuple[Anomaly, ...]:
    """Objects once; up to six objects a call, each for itself and in its relations; one look again that decides."""
    seen = await look.ask("objects-1", replies.read_objects, {"limit": str(look.settings.max_objects)})
    look.objects = most_prominent(seen, look.settings.max_objects)
    groups = even_groups(look.objects, GROUP)
    await together([_inspect(look, group, look.pool.section()) for group in groups])
    entries = look.pool.entries
    values = {"candidates": lines(e.finding for e in entries)}
    reply = await look.ask("look-again", replies.checked_report_reader(numbers(entries)), values)
    judge(entries, reply.checks)
    return look.pool.settle(reply.anomalies, [frozenset({e}) for e in entries])


async def _inspect(look: Look, group: Sequence[SceneObject], section: list[Entry]) -> None:
    asked = [o.name for o in group]
    values = {"objects": object_lines(group), "others": names_of(o for o in look.objects if o not in group)}
    for inspection in await look.ask("inspect", replies.inspection_reader(asked), values):
        for finding in inspection.findings:
            role = ATTRIBUTES if finding.kind == "attribute" else RELATIONS
            section.append(Entry(finding, role, "inspect", inspection.object))


async def paper(look: Look) -> tuple[Anomaly, ...]:
    """As in the paper's section 2 and appendix E: every object through six steps, one formatter over all."""
    limit = {"limit": str(look.settings.max_objects)}
    drafts = await together([look.ask(f"objects-{t + 1}", replies.read_objects, limit) for t in range(DRAFTS)])
    look.objects = most_prominent(unite(drafts), look.settings.max_objects)
    reviewed = await together([_six_steps(look, o, look.pool.section()) for o in look.objects])
    return await _report(look, "format", [p for proposals in reviewed for p in proposals])


async def _six_steps(look: Look, of: SceneObject, section: list[Entry]) -> list[Proposal]:
    await _mine(look, of, section)
    values = {"object": of.name, "candidates": lines(e.finding for e in section)}
    values |= {"notes": await look.ask("review-1", replies.read_prose, values, of=of)}
    return _reviewed(section, await look.ask("review-2", replies.reviewed_reader(numbers(section)), values, of=of))


async def release(look: Look) -> tuple[Anomaly, ...]:
    """The call pattern of the authors' code of 2026: merged drafts, summaries, verification samples and scans."""
    limit = {"limit": str(look.settings.max_objects)}
    drafts = await together([look.ask("draft", replies.read_objects, limit, sample=t) for t in range(DRAFTS)])
    merged = await look.ask("merge", replies.read_objects, limit | {"drafts": drafts_text(drafts)})
    look.objects = most_prominent([agreed(o, drafts) for o in merged], look.settings.max_objects)
    summaries = await together([_five_steps(look, o, look.pool.section()) for o in look.objects])
    proposals = [p for summary in summaries for p in summary]
    verify, others = {"candidates": lines(p.finding for p in proposals)}, {"others": names_of(look.objects)}
    read_checks = replies.checks_reader(numbers(proposals))
    samples: list[Coroutine[Any, Any, Any]] = [
        together([look.ask("verify", read_checks, verify, sample=s) for s in range(SAMPLES)]),
        together([look.ask("scan", replies.read_findings, others, sample=s) for s in range(SAMPLES)]),
    ]
    checked, scanned = await together(samples)
    kept_ones, section = _verified(proposals, checked), look.pool.section()
    for finding in (f for findings in scanned for f in findings):
        section.append(Entry(finding, RELATIONS, "scan"))
    return await _report(look, "finish", [*kept_ones, *(Proposal(e.finding, frozenset({e})) for e in section)])


async def _five_steps(look: Look, of: SceneObject, section: list[Entry]) -> list[Proposal]:
    await _mine(look, of, section)
    values = {"object": of.name, "candidates": lines(e.finding for e in section)}
    return _reviewed(section, await look.ask("summary", replies.reviewed_reader(numbers(section)), values, of=of))


async def _mine(look: Look, of: SceneObject, section: list[Entry]) -> None:
    """Attribute steps 1 and 2, then relation steps 1 and 2 with the attribute findings as context (Eq. 3 and 4)."""
    detail = None
    if look.settings.schedule == "release" and of.region is not None and croppable(of):
        detail = await asyncio.to_thread(crop, look.picture, of.region)
    about = {"object": of.name, "description": of.description or "(nothing)"}
    note = {"crop_note": "The second picture is an enlarged cut-out around it." if detail else ""}
    notes = await look.ask("attributes-1", replies.read_prose, about | note, of=of, detail=detail)
    of_it = {"object": of.name, "notes": notes}
    attributes = await look.ask("attributes-2", replies.read_findings, of_it, of=of)
    section += [Entry(f, ATTRIBUTES, "attributes-2", of.name) for f in attributes]
    others = names_of(o for o in look.objects if o is not of)
    context = {"others": others, "known": lines(attributes, numbered=False)}
    notes = await look.ask("relations-1", replies.read_prose, about | context, of=of)
    of_it = {"object": of.name, "others": others, "notes": notes}
    relations = await look.ask("relations-2", replies.read_findings, of_it, of=of)
    section += [Entry(f, RELATIONS, "relations-2", of.name) for f in relations]


def _reviewed(section: Sequence[Entry], reply: replies.Reviewed) -> list[Proposal]:
    """The paper's scored and pruned set: what the integrator keeps of one object's candidates."""
    judge(section, reply.checks)
    proposals = [Proposal(f, kept(section[n - 1] for n in f.sources)) for f in reply.findings]
    covered = {entry for p in proposals for entry in p.sources}
    for entry in section:
        if entry not in covered:
            entry.drop(f"left out by {INTEGRATOR}")
    return [p for p in proposals if p.sources]


def _verified(proposals: Sequence[Proposal], samples: Sequence[Sequence[replies.Check]]) -> list[Proposal]:
    """Proposals whose mean score over the samples is high enough; the others are dropped with the lowest's reason."""
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
    """The formatter's call: what was proposed becomes the findings."""
    values = {"candidates": lines(p.finding for p in proposals)}
    reply = await look.ask(step, replies.report_reader(numbers(proposals)), values)
    return look.pool.settle(reply.anomalies, [p.sources for p in proposals])


async def single(look: Look) -> tuple[Anomaly, ...]:
    """One call; a detector's card rules over our prompt and schema."""
    card = look.card
    if card is None:
        return await look.ask("single", replies.read_single)
    said = (look.picture.encoded, card.prompt)
    schema = schema_of(replies.Anomalies) if card.answer == "json" else None
    tag = Tag(look.image, STEPS["single"].role, "single")

    def read(reply: Reply) -> tuple[Anomaly, ...]:
        if card.out_of_domain is not None:
            look.out_of_domain = reply.text.strip() == card.out_of_domain
        return () if look.out_of_domain else replies.read_single(reply.text)

    return await look.send(tag, said, schema, read)


async def source(look: Look) -> tuple[bool | None, float | None]:
    """AI image or photograph, and the probability of the former where the endpoint gives it."""
    tag = Tag(look.image, STEPS["source"].role, "source")
    return await look.send(tag, look.said("source"), None, judgement, logprobs=True)


SCHEDULES: Mapping[Schedule, Callable[[Look], Awaitable[tuple[Anomaly, ...]]]] = {
    "lean": lean,
    "paper": paper,
    "release": release,
    "single": single,
}


class AnomAgent:
    """The detector: one schedule over one model."""

    def __init__(
        self,
        caller: Caller,
        settings: AgentSettings = AgentSettings(),
        prompts: Prompts | None = None,
        card: DetectorCard | None = None,
    ) -> None:
        """card: how a fine-tuned detector is asked, where the model itself does not bring its own."""
        self.caller = caller
        self.settings = settings
        self.prompts = prompts or Prompts.load()
        self.card: DetectorCard | None = card or getattr(caller.vlm, "card", None)
        self.name = f"{caller.vlm.name} {settings.schedule}"

    async def detect(self, picture: LoadedImage, image: str) -> Detection:
        """Everything found in one picture; a lost step gives a failed detection. Raises Stopped when asked to stop."""
        look = Look(self.caller, self.prompts, picture, image, self.settings, card=self.card)
        begun = time.monotonic()
        jobs: list[Coroutine[Any, Any, Any]] = [self._anomalies(look)]
        if self.settings.judge_source:
            jobs.append(source(look))
        found: dict[str, Any]
        try:
            anomalies, *judged = await together(jobs)
            found = {"status": "ok", "anomalies": anomalies, "out_of_domain": look.out_of_domain}
            if judged:
                found |= dict(zip(("generated", "p_generated"), judged[0], strict=True))
        except CallFailed as e:
            lost = look.meter.lost or e
            found = {"status": "failed", "failure": Failure(kind=lost.kind, message=str(lost))}
        return Detection(
            image=image,
            sha256=picture.sha256,
            detector=self.name,
            candidates=look.pool.candidates,
            objects=look.objects,
            sent=picture.sent,
            usage=look.meter.usage,
            seconds=round(time.monotonic() - begun, 3),
            **found,
        )

    async def _anomalies(self, look: Look) -> tuple[Anomaly, ...]:
        anomalies = await SCHEDULES[self.settings.schedule](look)
        return tuple(placed(a, look.objects) for a in anomalies)


def placed(anomaly: Anomaly, objects: Sequence[SceneObject]) -> Anomaly:
    """With the box of its first boxed object as region, when the formatter gave none."""
    if anomaly.region is not None:
        return anomaly
    boxes = {o.name.casefold(): o.region for o in objects if o.region}
    region = next((boxes[n.casefold()] for n in anomaly.objects if n.casefold() in boxes), None)
    return anomaly.model_copy(update={"region": region})


def judgement(reply: Reply) -> tuple[bool | None, float | None]:
    """AI image or not, and its probability from the first token's alternatives where the endpoint gives them."""
    mass = {"generated": 0.0, "photograph": 0.0}
    for token, logprob in reply.logprobs.items():
        start = token.strip().strip("\"'*").casefold()
        for word in mass:
            if len(start) >= 2 and word.startswith(start):
                mass[word] += math.exp(logprob)
    known = sum(mass.values())
    return replies.read_source(reply.text), mass["generated"] / known if known > 0 else None
