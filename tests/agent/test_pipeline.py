"""Facts about the four schedules: what comes back, how many calls it takes, what every call begins with."""

import asyncio
import json
from collections import Counter
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path
from typing import get_args

import pytest

from anomreason.agent import forms
from anomreason.agent.candidates import Entry, Proposal
from anomreason.agent.pipeline import AgentSettings, AnomAgent, Schedule, _verified
from anomreason.agent.roles import STEPS
from anomreason.anomaly import Anomaly, Basis, Detection, Region, Usage
from anomreason.errors import EndpointError
from anomreason.images import Encoded, load_image
from anomreason.planning import calls_needed, steps_taken
from anomreason.vlm.calling import Caller, Patience
from anomreason.vlm.card import DetectorCard
from anomreason.vlm.endpoint.openai import OpenAIVLM
from anomreason.vlm.protocol import VLM, Reply, Request, VLMOptions
from anomreason.vlm.simulator.model import Simulator, SimulatorRates

SCHEDULES = get_args(Schedule)
World = Callable[..., Path]
Served = Callable[..., AbstractContextManager[str]]


class Watched:
    """The simulator, with the requests it got; `lose` names a step that is always lost."""

    bounds_pixels = False

    def __init__(self, inner: Simulator, lose: str | None = None) -> None:
        self.inner, self.lose, self.name = inner, lose, inner.name
        self.requests: list[Request] = []

    async def ask(self, request: Request) -> Reply:
        self.requests.append(request)
        if request.tag.step == self.lose:
            raise EndpointError("rejected", "lost on purpose")
        return await self.inner.ask(request)

    async def close(self) -> None:
        await self.inner.close()


def look(vlm: VLM, folder: Path, image: str, settings: AgentSettings) -> Detection:
    async def run() -> Detection:
        try:
            caller = Caller(vlm, patience=Patience(first_wait=0.0))
            return await AnomAgent(caller, settings).detect(load_image(folder / image), image)
        finally:
            await vlm.close()

    return asyncio.run(run())


def known(truth: Path, image: str) -> list[Anomaly]:
    """The truth of one picture as a detection has it: worst first, regions of three digits."""
    entries = json.loads(truth.read_text())[image]["anomalies"]
    found = []
    for entry in entries:
        box = entry.pop("region", None)
        region = Region(x0=box[0], y0=box[1], x1=box[2], y1=box[3]) if box else None
        found.append(Anomaly(**entry, region=region))
    return sorted(found, key=lambda a: a.severity)


def same(found: tuple[Anomaly, ...], truth: list[Anomaly], objects: bool) -> bool:
    """Equal, region included; a finding without a box of its own may have taken its object's."""
    if len(found) != len(truth):
        return False
    for a, b in zip(found, truth, strict=True):
        a = a.model_copy(update={"basis": None})
        if b.region is None and a.region is not None and objects:
            a = a.model_copy(update={"region": None})
        if a != b and a.model_copy(update={"region": b.region}) == b and a.region and b.region:
            edges = zip(a.region.model_dump().values(), b.region.model_dump().values(), strict=True)
            if all(abs(x - y) <= 0.001 for x, y in edges):
                continue
        if a != b:
            return False
    return True


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_without_errors_the_truth_comes_back_through_every_schedule(world: World, schedule: Schedule) -> None:
    truth = world(3)
    for image in ("p000.png", "p001.png", "p002.png"):
        found = look(Simulator.from_file(truth), truth.parent, image, AgentSettings(schedule=schedule))
        assert found.failure is None
        assert same(found.anomalies, known(truth, image), objects=schedule != "single")


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_truth_comes_back_over_http_too(world: World, served: Served, schedule: Schedule) -> None:
    truth = world(3)
    with served(truth) as url:
        for image in ("p000.png", "p002.png"):
            vlm = OpenAIVLM("simulated", VLMOptions(base_urls=(f"{url}/v1",)))
            found = look(vlm, truth.parent, image, AgentSettings(schedule=schedule))
            assert found.failure is None
            assert same(found.anomalies, known(truth, image), objects=schedule != "single")


@pytest.mark.parametrize("judge", [False, True])
@pytest.mark.parametrize("most", [1, 3, 12])
@pytest.mark.parametrize("schedule", SCHEDULES)
def test_the_number_of_calls_is_the_formula(world: World, schedule: Schedule, most: int, judge: bool) -> None:
    truth = world(1)
    vlm = Watched(Simulator.from_file(truth))
    settings = AgentSettings(schedule=schedule, max_objects=most, judge_source=judge)
    found = look(vlm, truth.parent, "p000.png", settings)
    objects = len(found.objects)
    assert objects == (0 if schedule == "single" else min(most, 9))
    steps = steps_taken(schedule, objects, judge)
    if schedule == "paper":
        steps -= Counter(
            dict.fromkeys(("review-1", "review-2"), objects - len({c.objects[0] for c in found.candidates}))
        )
    assert len(vlm.requests) == found.usage.calls == steps.total() <= calls_needed(schedule, objects, judge)
    assert Counter(r.tag.step for r in vlm.requests) == steps


def test_a_clean_image_costs_the_schedule_of_the_paper_neither_reviews_nor_a_report(world: World) -> None:
    truth = world(1)
    entries = json.loads(truth.read_text())
    entries["p000.png"]["anomalies"] = []
    truth.write_text(json.dumps(entries))
    vlm = Watched(Simulator.from_file(truth))
    found = look(vlm, truth.parent, "p000.png", AgentSettings(schedule="paper"))
    assert (found.status, found.anomalies) == ("ok", ())
    steps = {r.tag.step for r in vlm.requests}
    assert steps == {
        "objects-1",
        "objects-2",
        "objects-3",
        "attributes-1",
        "attributes-2",
        "relations-1",
        "relations-2",
    }


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_step_without_the_image_is_not_told_that_it_sees_one(world: World, schedule: Schedule) -> None:
    truth = world(1)
    vlm = Watched(Simulator.from_file(truth))
    look(vlm, truth.parent, "p000.png", AgentSettings(schedule=schedule))
    for request in vlm.requests:
        seen = any(isinstance(p, Encoded) for p in request.parts)
        assert ("You are shown no image" in str(request.parts)) == (not seen)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_call_that_shows_the_picture_begins_with_the_same_bytes(world: World, schedule: Schedule) -> None:
    truth = world(1)
    vlm = Watched(Simulator.from_file(truth))
    look(vlm, truth.parent, "p000.png", AgentSettings(schedule=schedule, judge_source=True))
    seeing = [r.parts for r in vlm.requests if any(isinstance(p, Encoded) for p in r.parts)]
    assert len(seeing) >= 2
    assert len({(parts[0], parts[1].sha256) for parts in seeing if isinstance(parts[1], Encoded)}) == 1
    assert all(isinstance(parts[0], str) and isinstance(parts[1], Encoded) for parts in seeing)


def test_only_the_steps_that_must_see_the_picture_get_it(world: World) -> None:
    truth = world(1)
    vlm = Watched(Simulator.from_file(truth))
    look(vlm, truth.parent, "p000.png", AgentSettings(schedule="release"))
    for request in vlm.requests:
        pictures = sum(isinstance(p, Encoded) for p in request.parts)
        assert (pictures > 0) == STEPS[request.tag.step].sees


def test_cut_outs_are_shown_only_where_the_box_can_be_trusted(world: World) -> None:
    truth = world(1)
    entries = json.loads(truth.read_text())
    objects = entries["p000.png"]["objects"]
    objects[0]["box"], objects[1]["box"] = [0, 0, 1, 0.9], [0.5, 0.5, 0.55, 0.55]
    truth.write_text(json.dumps(entries))
    vlm = Watched(Simulator.from_file(truth))
    look(vlm, truth.parent, "p000.png", AgentSettings(schedule="release"))
    shown = {r.tag.object: len([p for p in r.parts if isinstance(p, Encoded)]) for r in vlm.requests}
    inspected = {r.tag.object for r in vlm.requests if r.tag.step == "attributes-1"}
    first = {r.tag.object: r for r in vlm.requests if r.tag.step == "attributes-1"}
    assert len(inspected) == len(first) >= 8
    counts = {name: sum(isinstance(p, Encoded) for p in r.parts) for name, r in first.items()}
    assert counts["woman"] == counts["man"] == counts["scene"] == 1
    assert counts["dog"] == counts["cup"] == 2
    assert shown["dog"] >= 0


@pytest.mark.parametrize(
    ("schedule", "step"),
    [("lean", "inspect"), ("lean", "look-again"), ("paper", "review-2"), ("release", "scan"), ("single", "single")],
)
def test_one_lost_step_fails_the_image_and_keeps_what_there_was(world: World, schedule: Schedule, step: str) -> None:
    truth = world(1)
    vlm = Watched(Simulator.from_file(truth), lose=step)
    found = look(vlm, truth.parent, "p000.png", AgentSettings(schedule=schedule))
    assert found.status == "failed"
    assert found.anomalies == ()
    assert found.failure is not None
    assert (found.failure.kind, "lost on purpose" in found.failure.message) == ("endpoint", True)
    if step in ("look-again", "scan"):
        assert len(found.candidates) >= 4


def test_candidates_keep_where_they_came_from_their_score_and_why_they_were_dropped(world: World) -> None:
    truth = world(1)
    simulator = Simulator.from_file(truth, rates=SimulatorRates(hallucinations=0.9), seed=3)
    found = look(simulator, truth.parent, "p000.png", AgentSettings(schedule="lean"))
    names = {a.name for a in found.anomalies}
    assert {c.step for c in found.candidates} == {"inspect"}
    assert {c.role for c in found.candidates} == {"AttributeAnalyzer"}
    assert all(c.score is not None and c.objects for c in found.candidates)
    dropped = [c for c in found.candidates if c.dropped]
    assert dropped
    assert all(c.reason for c in found.candidates)
    assert all(c.sure is not None and c.innocent for c in dropped)
    assert all(c.dropped for c in found.candidates if c.score is not None and c.score < 50)
    assert all(c.name in names for c in found.candidates if c.dropped is None)


def test_doubts_reach_the_second_look_and_parts_that_were_counted_stay_with_their_object(world: World) -> None:
    truth = world(1)
    entries = json.loads(truth.read_text())
    woman = next(o for o in entries["p000.png"]["objects"] if o["name"] == "woman")
    woman["counts"] = [{"part": "hands", "count": 3}]
    truth.write_text(json.dumps(entries))
    vlm = Watched(Simulator.from_file(truth, SimulatorRates(hallucinations=1.0)))
    found = look(vlm, truth.parent, "p000.png", AgentSettings())
    other = look(Simulator.from_file(truth), truth.parent, "p000.png", AgentSettings(schedule="paper"))
    assert [[c.count for c in o.counts] for o in other.objects if o.name == "woman"] == [[3]]
    assert all(c.sure for c in other.candidates)
    (asked,) = [str(r.parts[2]) for r in vlm.requests if r.tag.step == "look-again"]
    doubted = [c for c in found.candidates if c.innocent]
    assert doubted
    assert all(f'"sure": {c.sure:.0f}, "innocent": "{c.innocent}"' in asked for c in doubted)
    counts = {o.name: [(c.part, c.count) for c in o.counts] for o in found.objects}
    assert counts["woman"] == [("hands", 3)]
    assert counts["man"] == []


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_each_anomaly_says_what_it_rests_on_under_the_role_of_the_call(world: World, schedule: Schedule) -> None:
    truth = world(1)
    vlm = Watched(Simulator.from_file(truth))
    found = look(vlm, truth.parent, "p000.png", AgentSettings(schedule=schedule))
    assert found.anomalies
    calls = {(r.tag.role, r.tag.step) for r in vlm.requests}
    assert {(c.role, c.step) for c in found.candidates} <= calls
    for anomaly in found.anomalies:
        basis = anomaly.basis
        assert basis is not None
        assert (basis.role, basis.step) in calls
        behind = [found.candidates[n] for n in basis.candidates]
        assert all(c.name == anomaly.name and c.dropped is None for c in behind)
        if schedule == "single":
            assert behind == []
        else:
            first = behind[0]
            assert (basis.role, basis.step) == (first.role, first.step)
            assert (basis.score, basis.reason) == (first.score, first.reason)
            assert first.step == "scan" or basis.reason


@pytest.mark.parametrize("order", [(95, 10), (10, 95)])
def test_a_candidate_behind_two_proposals_keeps_the_better_score(order: tuple[int, int]) -> None:
    finding = forms.ProposedAnomaly(name="n", phenomenon="p", reasoning="r")
    entry = Entry(finding, "role", "step")
    proposals = [Proposal(finding, frozenset({entry}))] * 2
    checks = [forms.Check(id=n, score=score, reason=str(score)) for n, score in enumerate(order, start=1)]
    assert len(_verified(proposals, [checks])) == 1
    assert (entry.score, entry.dropped) == (95, None)


def test_a_checkpoints_card_rules_over_our_prompt_and_schema(world: World) -> None:
    class Carded(Watched):
        card = DetectorCard(prompt="List what is wrong.", answer="text")

        async def ask(self, request: Request) -> Reply:
            self.requests.append(request)
            text = "@1. Name: n\nPhenomenon: p\nReasoning: r\nSeverity Score: 20"
            return Reply(text, "stop", Usage(calls=1), "m")

    truth = world(1)
    vlm = Carded(Simulator.from_file(truth))
    found = look(vlm, truth.parent, "p000.png", AgentSettings(schedule="single"))
    basis = Basis(role="AnomalyFormatter", step="single")
    assert found.anomalies == (Anomaly(name="n", phenomenon="p", reasoning="r", severity=20, basis=basis),)
    (request,) = vlm.requests
    assert isinstance(request.parts[0], Encoded)
    assert request.parts[1:] == ("List what is wrong.",)
    assert request.schema is None


@pytest.mark.parametrize(
    ("says", "strange", "findings"),
    [
        ("I do not know this. \n", True, 0),
        ("No anomalies.", False, 0),
        ("@1. Name: n\nPhenomenon: p\nReasoning: r\nSeverity Score: 20", False, 1),
    ],
)
def test_a_checkpoint_may_say_that_it_does_not_know_such_pictures(
    world: World, says: str, strange: bool, findings: int
) -> None:
    class Carded(Watched):
        card = DetectorCard(prompt="List what is wrong.", out_of_domain="I do not know this.")

        async def ask(self, request: Request) -> Reply:
            return Reply(says, "stop", Usage(calls=1), "m")

    truth = world(1)
    found = look(Carded(Simulator.from_file(truth)), truth.parent, "p000.png", AgentSettings(schedule="single"))
    assert (found.status, found.out_of_domain, len(found.anomalies)) == ("ok", strange, findings)


def test_notes_of_reading_the_replies_stand_in_the_result_once_each(world: World) -> None:
    class Wordy(Watched):
        async def ask(self, request: Request) -> Reply:
            said = await self.inner.ask(request)
            return replace(said, text=said.text.replace('"look": "', '"look": "' + "It is whole. " * 90))

    truth = world(1)
    found = look(Wordy(Simulator.from_file(truth)), truth.parent, "p000.png", AgentSettings())
    assert found.status == "ok"
    assert found.notes == ("the text 'look' of a reply was shortened to 800 characters",)


class Overruled(Watched):
    """The simulator, with other words for one step."""

    def __init__(self, inner: Simulator, step: str, text: str) -> None:
        super().__init__(inner)
        self.step, self.text = step, text

    async def ask(self, request: Request) -> Reply:
        said = await super().ask(request)
        return replace(said, text=self.text) if request.tag.step == self.step else said


def test_an_image_without_objects_goes_on_to_the_last_look(world: World) -> None:
    truth = world(1)
    vlm = Overruled(Simulator.from_file(truth), "objects-1", '{"objects": []}')
    found = look(vlm, truth.parent, "p000.png", AgentSettings())
    assert (found.status, found.objects) == ("ok", ())
    assert [r.tag.step for r in vlm.requests] == ["objects-1", "look-again"]


@pytest.mark.parametrize("word", ["The image shows a dog.", "", "<think>hm"])
def test_an_unreadable_word_about_the_source_costs_no_anomaly(world: World, word: str) -> None:
    truth = world(1)
    vlm = Overruled(Simulator.from_file(truth), "source", word)
    settings = AgentSettings(schedule="single", judge_source=True)
    found = look(vlm, truth.parent, "p000.png", settings)
    assert (found.status, found.generated, found.p_generated) == ("ok", None, None)
    assert found.source is not None
    assert found.source.label == "not known (unparsable)"
    assert same(found.anomalies, known(truth, "p000.png"), objects=False)
    assert found.usage.calls == len(vlm.requests)
    assert found.notes[0].startswith("whether the image is AI-generated is not known (unparsable)")


def test_thinking_does_not_reach_the_next_step(world: World) -> None:
    truth = world(1)
    long = "<think>" + "Let me look very carefully. " * 400 + "</think>\nNOTE: six fingers."
    vlm = Overruled(Simulator.from_file(truth), "attributes-1", long)
    look(vlm, truth.parent, "p000.png", AgentSettings(schedule="paper", max_objects=1))
    (asked,) = [str(r.parts) for r in vlm.requests if r.tag.step == "attributes-2"]
    assert "NOTE: six fingers." in asked
    assert "Let me look" not in asked
