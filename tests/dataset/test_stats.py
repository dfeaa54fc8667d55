"""Statistics of a dataset: equal to a count by hand, failures beside every number, and safe to open."""

import json
import random
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from sqlalchemy import func, select, update
from tests.dataset.planting import Plan, plant
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.dataset import words
from anomreason.dataset.split import split
from anomreason.dataset.stats import NONE, REASONS, DatasetStats, stats
from anomreason.dataset.stats_page import stats_page
from anomreason.dataset.store import Store
from anomreason.dataset.tables import (
    CandidateRow,
    DetectionRow,
    ImageRow,
    PromptRow,
    SourceRow,
    SplitRow,
    VerdictRow,
)
from anomreason.stats import wilson

VERIFIED = ("accepted", "rejected", "unsure", "disputed")


def mix(store: Store) -> None:
    """A small dataset in which everything that is counted occurs, in no order."""
    plant(store, Plan({"flux": 40, "sd35": 25, "photographs": 12}, prompts=20, candidates=4, verdicts=True))
    draw = random.Random(4)
    with store.writing() as session:
        for candidate in session.scalars(select(CandidateRow)):
            candidate.kind = draw.choice(["anatomy", "physics", "lettering", None])
            candidate.role = draw.choice(["AttributeAnalyzer", "RelationReasoner", None])
            candidate.detector = draw.choice(["one", "two"])
            candidate.outcome = draw.choices([*VERIFIED, "unverified"], [4, 2, 1, 1, 1])[0]
            candidate.origin = draw.choices(["detector", "published"], [5, 1])[0]
            candidate.severity = draw.choice([0.0, 9.5, 10.0, 55.0, 90.0, 100.0])
            if draw.random() < 0.2:
                candidate.dropped, candidate.severity = "low_score", None
        for image in session.scalars(select(ImageRow)):
            if draw.random() < 0.2:
                image.status, image.reason = "dropped", draw.choice(["blurry", "dark"])
        for detection in session.scalars(select(DetectionRow)):
            detection.detector = draw.choice(["one", "two"])


def known(candidate: CandidateRow) -> bool:
    return candidate.origin != "detector" and candidate.outcome == "unverified"


def kept(candidate: CandidateRow) -> bool:
    return candidate.outcome == "accepted" or known(candidate)


def test_all_counts_are_those_of_a_count_by_hand(store: Store) -> None:
    mix(store)
    found = stats(store)
    with store.reading() as session:
        images = {image.id: image for image in session.scalars(select(ImageRow))}
        sources = {source.id: source.name for source in session.scalars(select(SourceRow))}
        candidates = [c for c in session.scalars(select(CandidateRow)) if c.dropped is None]

    for name, rows in (("role", found.by_role), ("kind", found.by_kind), ("detector", found.by_detector)):
        counts = Counter((getattr(c, name) or NONE, "known" if known(c) else c.outcome) for c in candidates)
        for row in rows:
            for outcome in (*VERIFIED, "unverified", "known"):
                assert getattr(row, outcome) == counts.pop((row.name, outcome), 0)
            assert row.acceptance == row.accepted / row.verified
            assert row.interval == wilson(row.acceptance, row.verified)
        assert not counts

    by_source = Counter((c.role or NONE, sources[images[c.image_id].source_id], c.outcome) for c in candidates)
    for role, rows in found.by_role_and_source.items():
        for row in rows:
            assert [getattr(row, o) for o in VERIFIED] == [by_source[role, row.name, o] for o in VERIFIED]
            assert row.unverified + row.known == by_source[role, row.name, "unverified"]

    for source in found.sources:
        own = [i for i in images.values() if sources[i.source_id] == source.name]
        in_it = {i.id: [c for c in candidates if c.image_id == i.id] for i in own if i.status == "kept"}
        annotated = {} if source.name == "photographs" else in_it
        done = {i: cs for i, cs in annotated.items() if not any(c.outcome == "unverified" and not known(c) for c in cs)}
        assert (source.kept, source.dropped) == (len(in_it), len(own) - len(in_it))
        assert (source.annotated, source.reviewed) == (len(annotated), len(done))
        if annotated:
            assert source.before.value == pytest.approx(sum(map(len, annotated.values())) / len(annotated))
            assert source.after.value == pytest.approx(sum(kept(c) for cs in done.values() for c in cs) / len(done))

    bins = Counter(min(int(c.severity // 10), 9) for c in candidates if c.severity is not None)
    assert found.severity.before == tuple(bins[n] for n in range(10))
    after = [c.severity for c in candidates if kept(c) and c.severity is not None]
    assert sum(found.severity.after) == len(after)
    assert found.severity.mean_after == pytest.approx(sum(after) / len(after))

    of_image = {i: {c.kind for c in candidates if c.image_id == i} for i in {c.image_id for c in candidates}}
    assert found.images_with_anomalies == len(of_image)
    for pair in found.pairs:
        assert pair.images == sum({pair.one, pair.other} <= kinds for kinds in of_image.values())
    assert found.kinds == {k: sum(k in kinds for kinds in of_image.values()) for k in found.kinds}

    reasons = {(drop.what, drop.reason): drop.count for drop in found.drops}
    assert reasons["candidates", "low_score"] == 65 * 4 - len(candidates)
    assert reasons["images", "blurry"] == sum(i.reason == "blurry" for i in images.values())


def test_an_image_counts_after_review_only_when_all_its_candidates_have_a_verdict(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 6}, candidates=2))
    with sqlite_store.writing() as session:
        session.execute(update(CandidateRow).where(CandidateRow.image_id <= 2).values(outcome="accepted"))
        half = update(CandidateRow).where(CandidateRow.image_id.in_((3, 4)), CandidateRow.number == 0)
        session.execute(half.values(outcome="rejected"))
        # The others have nothing but what their detector dropped. Half of the review is done, so one of them counts.
        session.execute(update(CandidateRow).where(CandidateRow.image_id >= 5).values(dropped="low_score"))
    found = stats(sqlite_store)
    (source,) = found.sources
    assert (source.before.value, source.before.n) == (pytest.approx(8 / 6), 6)
    assert (source.after.value, source.after.n) == (pytest.approx(4 / 3), 3)
    assert (found.steps.candidates, found.steps.verified, found.steps.kept_anomalies) == (8, 6, 4)


def test_a_review_that_has_not_begun_has_no_anomalies_after_it(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 3}, candidates=2))
    with sqlite_store.writing() as session:
        session.execute(update(CandidateRow).where(CandidateRow.image_id == 3).values(dropped="low_score"))
    (source,) = stats(sqlite_store).sources
    assert (source.reviewed, source.after.value) == (0, None)


def test_failures_stand_beside_the_counts_and_an_image_that_another_detector_finished_has_not_failed(
    sqlite_store: Store,
) -> None:
    plant(sqlite_store, Plan({"flux": 4}, candidates=0))
    with sqlite_store.writing() as session:
        session.execute(update(DetectionRow).where(DetectionRow.image_id < 3).values(status="failed", reason="refused"))
        usage = {"record": {}, "calls": 1, "tokens": 5, "cost": None, "command_id": 1}
        session.add(DetectionRow(image_id=1, detector="other", status="ok", **usage))
        session.add(
            DetectionRow(image_id=2, detector="published", status="failed", reason="refused", **(usage | {"calls": 0}))
        )
    found = stats(sqlite_store)
    assert (found.steps.annotated, found.steps.failed) == (3, 1)
    assert [(d.what, d.reason, d.count) for d in found.drops] == [("detections", "refused", 3)]
    assert [(c.detector, c.ok, c.failed, c.without_price) for c in found.costs] == [
        ("other", 1, 0, 1),
        ("reader lean", 2, 2, 0),
    ]


def test_the_cost_of_an_accepted_anomaly_is_what_was_paid_by_what_was_accepted(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 50}, candidates=4, verdicts=True))
    with sqlite_store.reading() as session:
        accepted = session.scalar(select(func.count()).where(CandidateRow.outcome == "accepted"))
    (cost,) = stats(sqlite_store).costs
    assert cost.dollars == pytest.approx(0.5)
    assert cost.accepted_cost == pytest.approx(0.5 / accepted)
    assert cost.interval is not None
    assert cost.interval.low < cost.accepted_cost < cost.interval.high
    with sqlite_store.writing() as session:
        # Half of the work is reviewed: the other half counts as if as much of it were accepted.
        session.execute(update(CandidateRow).where(CandidateRow.image_id > 25).values(outcome="unverified"))
    (half,) = stats(sqlite_store).costs
    assert half.accepted_cost == pytest.approx(cost.accepted_cost)
    with sqlite_store.writing() as session:
        session.execute(update(DetectionRow).where(DetectionRow.image_id == 1).values(cost=None))
    (unknown,) = stats(sqlite_store).costs
    assert (unknown.accepted_cost, unknown.without_price) == (None, 1)


def test_words_are_counted_once_an_anomaly_and_only_of_kept_ones(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    plant(sqlite_store, Plan({"flux": 30}, candidates=4))
    with sqlite_store.writing() as session:
        first = update(CandidateRow).where(CandidateRow.number == 0)
        session.execute(first.values(outcome="accepted", phenomenon="Hand, hand and the HAND", reasoning="Hände " * 7))
    found = stats(sqlite_store).words
    assert found is not None
    assert (found.texts, found.of) == (30, 30)
    assert found.frequent == (("hand", 30), ("hände", 30))
    assert (found.phenomenon.mean, found.reasoning.histogram) == (5.0, {5: 30})

    monkeypatch.setattr(words, "TEXTS", 20)
    drawn = stats(sqlite_store).words
    assert drawn is not None
    assert (drawn.texts, drawn.of) == (20, 30)


def test_reasons_that_nobody_would_read_one_by_one_are_counted_together(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 30}, candidates=0))
    with sqlite_store.writing() as session:
        for image in session.scalars(select(ImageRow)):
            image.status, image.reason = "dropped", f"reason {image.id}"
    drops = stats(sqlite_store).drops
    assert len(drops) == REASONS + 1
    assert (drops[-1].reason, drops[-1].count) == ("(other reasons)", 30 - REASONS)


def test_rows_that_are_not_shown_are_counted(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 40}, candidates=1, verdicts=True))
    with sqlite_store.writing() as session:
        session.execute(update(CandidateRow).values(kind=func.printf("kind %d", CandidateRow.id)))
    ran = CliRunner().invoke(app, ["dataset", "stats", str(sqlite_store.folder)])
    assert "and 30 more (--json has all)" in ran.stdout
    assert "And 10 more; --json has all." in Page(stats_page(stats(sqlite_store), "data")).text


class Page(HTMLParser):
    """Tags and attributes as a browser sees them, with the text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


EVIL = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>&lt;"


def test_the_page_is_whole_and_nothing_from_outside_is_markup(sqlite_store: Store) -> None:
    mix(sqlite_store)
    split(sqlite_store)
    with sqlite_store.writing() as session:
        session.execute(
            update(SourceRow).where(SourceRow.name == "flux").values(name=EVIL, generator=EVIL, licence=EVIL)
        )
        session.execute(update(ImageRow).where(ImageRow.status == "dropped").values(reason=EVIL))
        session.execute(update(VerdictRow).values(person=EVIL))
        session.execute(update(SplitRow).values(scheme=EVIL))
        session.execute(update(DetectionRow).where(DetectionRow.id == 1).values(status="failed", reason=EVIL))
        values = dict.fromkeys(("kind", "role", "detector", "phenomenon", "reasoning"), EVIL)
        session.execute(update(CandidateRow).where(CandidateRow.number == 0).values(**values))
    page = Page(stats_page(stats(sqlite_store), EVIL))
    assert {tag for tag, _ in page.tags}.isdisjoint({"script", "img", "link", "iframe", "a"})
    attributes = [(name, value) for _, attrs in page.tags for name, value in attrs.items()]
    assert not [name for name, _ in attributes if name.startswith("on") or name in ("src", "href")]
    assert page.text.count(EVIL) > 6
    assert any("default-src 'none'" in (value or "") for _, value in attributes)
    assert "0 = completely implausible, 100 = fully realistic" in page.text
    assert [tag for tag, _ in page.tags].count("svg") >= 5


def test_an_empty_dataset_has_a_page_and_says_how_to_begin(sqlite_store: Store, tmp_path: Path) -> None:
    out = tmp_path / "stats.html"
    ran = CliRunner().invoke(app, ["dataset", "stats", str(sqlite_store.folder), "--html", str(out)])
    assert ran.exit_code == 0, ran.output
    assert f"Next: anomreason dataset collect {sqlite_store.folder} IMAGES" in ran.stdout
    assert "Images kept" in Page(out.read_text()).text


def test_the_command_prints_the_numbers_with_failures_and_the_next_step(sqlite_store: Store) -> None:
    plant(sqlite_store, Plan({"flux": 20, "photographs": 5}, prompts=4, verdicts=True))
    data = str(sqlite_store.folder)
    with sqlite_store.writing() as session:
        session.execute(update(ImageRow).where(ImageRow.id < 3).values(status="dropped", reason="blurry"))
        session.execute(update(PromptRow).values(group="\x1b[31m"))
        session.execute(update(CandidateRow).where(CandidateRow.number == 0).values(kind="\x1b[31mred"))
    text = CliRunner().invoke(app, ["dataset", "stats", data]).stdout
    assert text.startswith("Images and anomalies an image")
    assert "Images: 25 collected, 23 kept, 18 annotated (0 failed), 18 reviewed. Prompts: 4." in text
    assert "Severity (0 = completely implausible, 100 = fully realistic): mean" in text
    assert "Dropped or failed: 2 images, blurry" in text
    assert "\x1b" not in text
    assert r"\x1b[31mred" in text
    assert f"Next: anomreason dataset split {data}" in text
    split(sqlite_store)
    ran = CliRunner().invoke(app, ["dataset", "stats", data, "--json"])
    assert DatasetStats(**json.loads(ran.stdout)) == stats(sqlite_store)
