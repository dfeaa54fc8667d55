"""The report as a reader meets it: parsed as HTML, and opened in Chromium where there is one."""

import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from typing import Any, get_args
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.chromium import PATIENCE

from anomreason.anomaly import (
    Anomaly,
    Basis,
    Candidate,
    Detection,
    Failure,
    FailureKind,
    PartCount,
    Region,
    SceneObject,
    SentImage,
    SourceJudgement,
    Usage,
)
from anomreason.errors import UsageError
from anomreason.images import Encoded, load_image
from anomreason.report.calls import LONGEST_TEXT, timeline
from anomreason.report.html import FAILURES, build_report, duration, is_current, money
from anomreason.vlm.cache import ReplyStore, Stored
from anomreason.vlm.ledger import Call, Ledger
from anomreason.vlm.protocol import Reply, Request, Tag
from anomreason.vlm.remedies import longer_replies

EVIL = '</script x</pre></script><script>pwned="1"</script><img src=x onerror=\'pwned="1"\'>" onload="x'
EVIL_NAME = "a\"'><script>pwned='1'<&#50% ?\\ü.jpg"
COMMON = "Say what in this picture cannot be so.\n" * 20


@dataclass
class Page(HTMLParser):
    """One parsed page: its elements with attributes, and the text inside each kind of element."""

    path: Path
    elements: list[tuple[str, dict[str, str | None]]] = field(default_factory=list)
    texts: dict[str, list[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()
        self._open = ""
        self.feed(self.path.read_text(encoding="utf-8"))
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._open = tag
        self.texts.setdefault(tag, []).append("")

    def handle_endtag(self, tag: str) -> None:
        self._open = ""

    def handle_data(self, data: str) -> None:
        self.texts.setdefault(self._open, [""])[-1] += data

    @property
    def text(self) -> str:
        return " ".join(" ".join(" ".join(t) for t in self.texts.values()).split())

    @property
    def rows(self) -> list[dict[str, Any]]:
        """What the gallery's script is given."""
        place = [i for i, a in enumerate(a for t, a in self.elements if t == "script") if a.get("id") == "rows"]
        rows: list[dict[str, Any]] = json.loads(self.texts["script"][place[0]])
        return rows

    def links(self) -> list[str]:
        """Addresses of whatever the page shows or leads to, but for places on a page."""
        found = [a.get("src") or a.get("href") for _, a in self.elements]
        return [x for x in found if x and not x.startswith(("#", "data:"))]


@dataclass
class Run:
    """A run folder made by hand, with its pictures beside it."""

    path: Path
    pictures: Path
    detections: list[Detection] = field(default_factory=list)

    def picture(self, name: str, colour: str = "grey", **how: Any) -> Detection:
        """A picture file, as an ok detection without findings."""
        file = self.pictures / name
        Image.new("RGB", (60, 40), colour).save(file, **how)
        picture, status = load_image(file), file.stat()
        return Detection(
            image=name,
            sha256=picture.sha256,
            detector="gpt-4o lean",
            status="ok",
            sent=picture.sent,
            usage=Usage(calls=2, prompt_tokens=900, completion_tokens=100),
            file_size=status.st_size,
            file_mtime=status.st_mtime_ns,
        )

    def add(self, detection: Detection, *anomalies: Anomaly, **update: Any) -> Detection:
        done = detection.model_copy(update={"anomalies": anomalies, **update})
        self.detections.append(done)
        return done

    def build(self, model: str = "gpt-4o", **more: Any) -> Page:
        lines = "".join(d.model_dump_json() + "\n" for d in self.detections)
        (self.path / "results.jsonl").write_text(lines, encoding="utf-8")
        record = {"settings": {"model": model, "schedule": "lean", "note": EVIL}, "root": str(self.pictures)}
        record |= more
        (self.path / "run.json").write_text(json.dumps(record), encoding="utf-8")
        return Page(build_report(self.path))

    def page(self, gallery: Page, image: str) -> Page:
        row = next(r for r in gallery.rows if r["image"] == image)
        return Page(self.path / "report" / "pages" / row["page"])

    def call(self, image: str, step: str, prompt: str, reply: str | None, started: float = 1e9) -> None:
        """One call in the ledger, its reply in the store; None for a call that got a 429."""
        request = Request((COMMON, Encoded(b"x", "image/png", 8, 6), prompt), Tag(image, "Formatter", step, EVIL))
        key = None
        if reply is not None:
            store = ReplyStore(self.path / "responses.sqlite")
            answer = Reply(reply, "stop", Usage(calls=1), "gpt-4o")
            key = store.put(request, answer, model="gpt-4o", request="r", then="good")
            store.close()
        ledger = Ledger(self.path / "calls.jsonl")
        outcome = "ok" if key else "rate_limit"
        ledger.record(
            Call(image, "Formatter", step, EVIL, 0, 1, outcome, "gpt-4o", 500, 0, 50, None, 2.0, started, key)
        )
        ledger.close()


def anomaly(severity: float, name: str = "Six fingers", region: Region | None = None) -> Anomaly:
    return Anomaly(
        name=name, phenomenon="Six are seen.", reasoning="Hands have five.", severity=severity, region=region
    )


@pytest.fixture
def run(tmp_path: Path) -> Run:
    (tmp_path / "run").mkdir()
    (tmp_path / "pics").mkdir()
    return Run(tmp_path / "run", tmp_path / "pics")


def test_every_image_is_in_the_gallery_once_worst_first_then_failures_then_nothing_found(run: Run) -> None:
    run.add(run.picture("none.png"))
    run.add(run.picture("mild.png", "red"), anomaly(70))
    run.add(run.picture("failed.png", "blue"), status="failed", failure=Failure(kind="refused", message="no"))
    run.add(run.picture("bad.png", "green"), anomaly(40), anomaly(3))
    run.add(run.picture("mild.png", "red"), anomaly(60))
    rows = run.build().rows
    assert [(r["image"], r["worst"], r["count"], r["status"]) for r in rows] == [
        ("bad.png", 3, 2, "with anomalies"),
        ("mild.png", 60, 1, "with anomalies"),
        ("failed.png", None, 0, "failed"),
        ("none.png", None, 0, "none found"),
    ]


def test_the_header_counts_what_was_run_and_names_the_direction_of_severity(run: Run) -> None:
    run.add(run.picture("a.png"), anomaly(10), anomaly(20))
    run.add(run.picture("b.png"), status="failed", failure=Failure(kind="truncated", message="cut"))
    text = run.build().text
    for fact in ("gpt-4o", "lean", "1 truncated", "2,000", "in 4 calls", "price unknown"):
        assert fact in text
    assert "0 = completely implausible, 100 = fully realistic" in text


def test_tokens_of_earlier_failed_tries_are_counted_too(run: Run) -> None:
    run.add(run.picture("a.png"))
    for number in range(9):
        run.call("a.png", "draft", "", f"reply {number}")
    text = run.build().text
    assert "4,950" in text
    assert "in 9 calls" in text


@pytest.mark.parametrize(("model", "said"), [("sim:truth.json", True), ("simulated", True), ("gpt-4o", False)])
def test_simulated_answers_are_said_to_be_simulated_on_every_page(run: Run, model: str, said: bool) -> None:
    run.add(run.picture("a.png"), anomaly(10))
    gallery = run.build(model)
    assert ("Simulated answers." in gallery.text) is said
    assert ("Simulated answers." in run.page(gallery, "a.png").text) is said


def hostile(run: Run) -> Page:
    """A report in which every text that comes from outside is hostile."""
    box = Region(x0=0.1, y0=0.2, x1=0.6, y1=0.9)
    basis = Basis(role=EVIL, step=EVIL, score=3, reason=EVIL, candidates=(0, 7))  # there is no candidate 7
    bad = Anomaly(name=EVIL, phenomenon=EVIL, reasoning=EVIL, severity=5, objects=(EVIL,), region=box, basis=basis)
    run.add(
        run.picture(EVIL_NAME, quality=90),
        bad,
        detector=EVIL,
        candidates=(
            Candidate(name=EVIL, phenomenon=EVIL, reasoning=EVIL, role=EVIL, step=EVIL, score=3, dropped=EVIL),
            Candidate(name=EVIL, phenomenon=EVIL, reasoning=EVIL, role=EVIL, step=EVIL, innocent=EVIL, reason=EVIL),
        ),
        objects=(SceneObject(name=EVIL, description=EVIL, region=box, counts=(PartCount(part="hands'<", count=2),)),),
    )
    failed = run.picture("failed.png")
    run.add(failed, status="failed", failure=Failure(kind="endpoint", message=EVIL))
    run.call(EVIL_NAME, EVIL, EVIL, EVIL)
    return run.build()


def test_nothing_from_a_model_or_a_file_name_becomes_an_element_or_an_attribute(run: Run) -> None:
    gallery = hostile(run)
    pages = [gallery, run.page(gallery, EVIL_NAME), run.page(gallery, "failed.png")]
    for page in pages:
        scripts = [a for tag, a in page.elements if tag == "script"]
        assert all(set(a) in ({"src", "defer"}, {"type", "id"}) for a in scripts)
        assert not [a for _, attributes in page.elements for a in attributes if a.startswith("on")]
    assert gallery.rows[0]["title"] == EVIL
    assert pages[1].texts["pre"][-1] == EVIL
    assert pages[2].texts["pre"] == [EVIL]
    assert [a for tag, a in pages[1].elements if tag == "h2"] == [{}]


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).filter(str.strip))
def test_any_text_is_shown_as_it_was_written(run: Run, text: str) -> None:
    run.detections.clear()
    found = Anomaly(name=text, phenomenon="seen", reasoning=text, severity=1)
    run.add(Detection(image="gone.png", detector="d", status="ok"), found)
    gallery = run.build()
    assert gallery.rows[0]["title"] == found.name
    page = run.page(gallery, "gone.png")
    assert found.reasoning in page.texts["p"]


def test_titles_say_what_was_looked_at_and_by_which_model(run: Run) -> None:
    run.add(run.picture("a.png"))
    gallery = run.build(inputs=["../photos/", "more/*.jpg", "list.csv"])
    assert gallery.texts["h1"] == ["photos, *.jpg and 1 more · gpt-4o"]
    assert gallery.texts["title"] == ["photos, *.jpg and 1 more · gpt-4o · anomreason report"]
    assert run.page(gallery, "a.png").texts["title"] == ["a.png · photos, *.jpg and 1 more · gpt-4o"]
    assert run.build(inputs=["."]).texts["h1"] == ["pics · gpt-4o"]
    assert run.build().texts["h1"] == ["pics · gpt-4o"]


def test_every_address_leads_to_a_file_and_none_to_the_network(run: Run) -> None:
    run.add(run.picture("sub #1 50% ä.png"), anomaly(5))
    hostile(run)
    gallery = Page(run.path / "report.html")
    pages = [gallery, *(run.page(gallery, d.image) for d in run.detections)]
    reached = set()
    for page in pages:
        for link in page.links():
            assert not set(link) & set("<>\"'#?\\:& "), link
            target = Path(os.path.normpath(page.path.parent / unquote(link)))
            assert target.is_file(), link
            reached.add(target)
    assert {run.pictures / d.image for d in run.detections} <= reached
    assert not [p.name for p in (run.path / "report").glob("*.*s") if "://" in p.read_text(encoding="utf-8")]


def test_a_picture_that_is_gone_is_said_to_be_missing_and_its_findings_stay(run: Run) -> None:
    run.add(run.picture("a.png"), anomaly(5, "Two moons"))
    (run.pictures / "a.png").unlink()
    gallery = run.build()
    page = run.page(gallery, "a.png")
    assert "The image file is missing" in page.text
    assert "Two moons" in page.text
    assert "img" not in page.texts


def test_a_picture_that_went_after_an_earlier_build_is_still_shown_small(run: Run) -> None:
    run.add(run.picture("a.png"), anomaly(5))
    run.build()
    (run.pictures / "a.png").unlink()
    gallery = run.build()
    page = run.page(gallery, "a.png")
    source = next(a["src"] for tag, a in page.elements if tag == "img")
    assert source == "../thumbs/" + gallery.rows[0]["preview"]
    assert "The image file is missing" in page.text


def test_a_picture_with_other_bytes_than_those_examined_is_said_to_have_changed(run: Run) -> None:
    run.add(run.picture("a.png"), anomaly(5))
    before = os.stat(run.pictures / "a.png")
    run.picture("a.png", "white")
    assert "The file has changed" in run.page(run.build(), "a.png").text
    run.picture("a.png", "grey")
    os.utime(run.pictures / "a.png", ns=(before.st_atime_ns, before.st_mtime_ns + 10**9))
    assert "The file has changed" not in run.page(run.build(), "a.png").text


def test_what_browsers_cannot_show_is_copied_and_nothing_else(run: Run) -> None:
    run.add(run.picture("a.png"), anomaly(5))
    scan = run.add(run.picture("scan.tif"), anomaly(5))
    gallery = run.build()
    copies = list((run.path / "report" / "pictures").iterdir())
    assert len(copies) == 1
    assert copies[0].read_bytes().startswith(b"\xff\xd8")
    page = run.page(gallery, scan.image)
    assert f"../pictures/{copies[0].name}" in page.links()
    assert "../../../pics/scan.tif" in page.links()


def test_previews_are_kept_and_pages_renewed_by_a_later_build(run: Run) -> None:
    run.add(run.picture("a.png"), anomaly(5, "First"))
    run.build()
    previews = {p.name: p.stat().st_ino for p in (run.path / "report" / "thumbs").iterdir()}
    run.add(run.detections[0], anomaly(5, "Second"))
    gallery = run.build()
    assert {p.name: p.stat().st_ino for p in (run.path / "report" / "thumbs").iterdir()} == previews
    assert "Second" in run.page(gallery, "a.png").text
    assert "First" not in run.page(gallery, "a.png").text
    assert not list(run.path.rglob("*.part"))


@pytest.mark.parametrize("kind", get_args(FailureKind))
def test_a_failure_is_named_with_what_to_do_and_never_shown_as_no_anomalies(run: Run, kind: str) -> None:
    maybe = Candidate(name="Odd cup", phenomenon="p", reasoning="r", role="Analyzer", step="inspect")
    failure = Failure.model_validate({"kind": kind, "message": "the exact words"})
    run.add(run.picture("a.png"), status="failed", failure=failure, candidates=(maybe,))
    text = run.page(run.build(), "a.png").text
    assert "the exact words" in text
    assert FAILURES[kind][1] in text
    assert "nothing found" not in text
    assert "Candidates before the failure, not verified" in text


def test_a_page_shows_the_whole_quadruple_and_where_dropped_candidates_came_from(run: Run) -> None:
    box = Region(x0=0.25, y0=0.5, x1=0.75, y1=1)
    dropped = Candidate(
        name="Blur",
        phenomenon="p",
        reasoning="r",
        role="Scanner",
        step="scan-2",
        score=11,
        dropped="only depth of field",
    )
    judged = SourceJudgement(answer="generated", p_generated=0.93)
    run.add(run.picture("a.png"), anomaly(12.5, region=box), candidates=(dropped,), source=judged)
    page = run.page(run.build(), "a.png")
    for fact in ("Six fingers", "Six are seen.", "Hands have five.", "12.5", "implausible"):
        assert fact in page.text
    for fact in ("Scanner, scan-2", "11", "only depth of field", "judged AI-generated", "93 %"):
        assert fact in page.text
    edge = next(a for tag, a in page.elements if tag == "rect" and a.get("class") == "edge")
    assert (edge["x"], edge["y"], edge["width"], edge["height"]) == ("25.000%", "50.000%", "50.000%", "50.000%")


def test_a_card_says_who_proposed_an_anomaly_how_it_was_checked_and_shows_it_enlarged(run: Run) -> None:
    basis = Basis(role="Analyzer", step="inspect", score=85, reason="No glove has a thumb there.", candidates=(1,))
    weighed = {"phenomenon": "p", "reasoning": "r", "role": "Analyzer", "step": "inspect"}
    candidates = (
        Candidate(name="Blur", dropped="the focus", **weighed),
        Candidate(name="Six fingers", sure=70, innocent="A glove.", **weighed),
    )
    small = Region(x0=0.5, y0=0.5, x1=0.52, y1=0.54)
    sent = SentImage(mime="image/png", width=1000, height=500, bytes=1)
    found = anomaly(5, region=small).model_copy(update={"basis": basis})
    run.add(run.picture("a.png"), found, anomaly(9, region=Region(x0=0, y0=0, x1=1, y1=1)), sent=sent)
    run.detections[-1] = run.detections[-1].model_copy(update={"candidates": candidates})
    page = run.page(run.build(), "a.png")
    for fact in ("Analyzer, inspect, 70 % sure", "score 85 of 100: No glove has a thumb there.", "A glove."):
        assert fact in page.text
    assert "#k1" in [a.get("href") for tag, a in page.elements if tag == "a"]
    assert [a["viewbox"] for tag, a in page.elements if tag == "svg" and "viewbox" in a] == [
        "462.00 212.00 96.00 96.00"
    ]
    (part,) = [a for tag, a in page.elements if tag == "image"]
    assert (part["href"], part["width"], part["height"]) == ("../../../pics/a.png", "1000", "500")


def test_an_image_without_anomalies_says_what_was_counted_and_why_candidates_were_dropped(run: Run) -> None:
    gone = Candidate(name="Third hand", phenomenon="p", reasoning="r", role="a", step="s", dropped="it is the child's")
    woman = SceneObject(name="woman", counts=(PartCount(part="hands", count=2), PartCount(part="arms", count=2)))
    run.add(run.picture("a.png"), candidates=(gone,), objects=(woman,))
    run.add(run.picture("b.png", "red"), source_only=True)
    report = run.build()
    page = run.page(report, "a.png")
    for fact in ("Searched, nothing found", "1 candidate was", "woman: hands 2, arms 2", "it is the child's"):
        assert fact in page.text
    assert "nothing found" not in run.page(report, "b.png").text
    assert [(r["status"], r["title"]) for r in report.rows] == [
        ("none found", "searched, nothing found; 1 candidate dropped"),
        ("not searched", "not searched for anomalies"),
    ]


@pytest.mark.parametrize(("step", "named"), [("objects-1", "--max-objects and --max-side"), ("single", "--max-side")])
def test_what_to_do_about_a_cut_reply_suits_the_step(run: Run, step: str, named: str) -> None:
    run.add(run.picture("a.png"), status="failed", failure=Failure(kind="truncated", message=longer_replies(step)))
    text = run.page(run.build(), "a.png").text
    assert f"{named} decide" in text
    assert ("--max-objects" in text) is (step != "single")


@pytest.mark.parametrize(
    ("judged", "words"),
    [
        ({"answer": "photograph", "p_generated": 0.07}, "judged not AI-generated · AI probability 7 %"),
        ({"answer": "unsure", "p_generated": 0.5}, "unsure whether AI-generated · AI probability 50 %"),
        ({"failure": {"kind": "unparsable", "message": "m"}}, "whether AI-generated is not known (unparsable)"),
    ],
)
def test_an_unsure_or_lost_source_is_told_as_such(run: Run, judged: dict[str, object], words: str) -> None:
    run.add(run.picture("a.png"), source=SourceJudgement.model_validate(judged))
    report = run.build()
    assert words in run.page(report, "a.png").text
    assert f"1 {SourceJudgement.model_validate(judged).label}" in report.text
    assert f"source: {SourceJudgement.model_validate(judged).label}" in report.rows[0]["text"]


def test_a_described_image_is_not_said_to_be_without_anomalies(run: Run) -> None:
    run.add(run.picture("a.png"), description=f"A cat on a mat. {EVIL}")
    report = run.build()
    page = run.page(report, "a.png")
    assert "A cat on a mat." in page.text
    assert EVIL in page.text
    assert "nothing found" not in page.text
    assert "Described" in report.text


def test_a_polygon_is_drawn_as_an_outline_and_the_kind_is_shown(run: Run) -> None:
    outlined = anomaly(5, region=Region.from_polygon([(0.1, 0.2), (0.5, 0.2), (0.3, 0.75)]))
    boxed = anomaly(9, region=Region(x0=0, y0=0, x1=0.5, y1=0.5))
    run.add(run.picture("a.png"), outlined.model_copy(update={"kind": EVIL}), boxed)
    page = run.page(run.build(), "a.png")
    polygons = [a for tag, a in page.elements if tag == "polygon"]
    assert [a["class"] for a in polygons] == ["casing", "edge"]
    assert {a["points"].strip() for a in polygons} == {"10.000,20.000 50.000,20.000 30.000,75.000"}
    assert [a["class"] for tag, a in page.elements if tag == "rect" and a.get("class") in ("casing", "edge")] == [
        "casing",
        "edge",
    ]
    assert EVIL in page.text


def test_notes_on_how_the_replies_were_read_are_shown(run: Run) -> None:
    run.add(run.picture("a.png"), notes=(f"the anomaly '{EVIL}' was repeated 20 times",))
    assert f"the anomaly '{EVIL}' was repeated 20 times" in run.page(run.build(), "a.png").text


def test_calls_are_shown_with_prompt_and_reply_and_a_common_beginning_once(run: Run) -> None:
    run.add(run.picture("a.png"))
    run.add(run.picture("b.png"))
    run.call("a.png", "draft", "first question", "first answer", 1e9)
    run.call("a.png", "check", "second question", "second answer", 1e9 + 3)
    run.call("a.png", "late", "third question", None, 1e9 + 4000)
    gallery = run.build()
    page = run.page(gallery, "a.png")
    assert page.texts["pre"][0] == f"{COMMON}\n\n[image 8x6]\n\nfirst question"
    assert page.texts["pre"][1:] == ["first answer", "second question", "second answer"]
    assert "rate limit" in page.text
    assert "continued 1 h 6 min later" in page.text
    assert "Model calls" not in run.page(gallery, "b.png").text


@pytest.mark.parametrize("name", ["run.json", "results.jsonl", "calls.jsonl"])
def test_a_report_is_current_until_something_is_written_to_the_run(name: str, run: Run) -> None:
    assert not is_current(run.path)
    run.add(run.picture("a.png"))
    page = run.build().path
    assert is_current(run.path)
    later = page.stat().st_mtime_ns + 10**12
    os.utime(run.path / "results.jsonl", ns=(later, later))
    assert is_current(run.path), "dates alone say nothing"
    before = (run.path / name).read_bytes() if (run.path / name).exists() else b""
    (run.path / name).write_bytes(before + b"\n")
    os.utime(page, ns=(later, later))
    assert not is_current(run.path), "a report dated ahead of the results is not current"
    (run.path / name).write_bytes(before[:-1] + b" " if before else b" ")
    assert not is_current(run.path), "nor is one of a file of the same length"


def test_drafts_of_killed_reports_are_removed_and_others_stay(run: Run) -> None:
    run.add(run.picture("a.png"))
    run.build()
    gone = subprocess.run(["sh", "-c", "echo $$"], capture_output=True, text=True, check=True).stdout.strip()
    places = [run.path, *(run.path / "report" / part for part in ("", "pages", "thumbs", "pictures"))]
    dead = [place / f".x.html.{gone}.7.part" for place in places]
    kept = [run.path / f".x.html.{os.getpid()}.7.part", run.path / "mine.part", run.path / ".mine.part"]
    for draft in [*dead, *kept]:
        draft.write_bytes(b"x")
    run.build()
    assert not any(draft.exists() for draft in dead)
    assert all(draft.exists() for draft in kept)


def test_a_run_without_results_makes_a_report(run: Run) -> None:
    assert run.build().rows == []


def test_another_folder_is_refused_with_its_name(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="not a run folder"):
        build_report(tmp_path)


def test_bars_stay_within_the_chart_and_long_texts_within_bounds() -> None:
    calls = [Call("a", "R", "s", None, 0, 1, "ok", "m", 1, 0, 1, None, 5.0, t, "k") for t in (10.0, 12.0, 9000.0)]
    rows = timeline(calls, lambda _: Stored("p" * 10, "r" * (LONGEST_TEXT + 7), "stop"))
    assert [(round(r.start), r.width > 0) for r in rows] == [(0, True), (17, True), (58, True)]
    assert all(r.start + r.width <= 100.7 for r in rows)
    assert rows[0].reply is not None
    assert (len(rows[0].reply.text), rows[0].reply.left_out) == (LONGEST_TEXT, 7)


@pytest.mark.parametrize(
    ("seconds", "said"),
    [(0.04, "0.0 s"), (9.96, "10 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations_read_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("cost", "said"), [(None, "price unknown"), (0.0, "$0.00"), (0.0312, "$0.0312"), (1234.5, "$1,234.50")]
)
def test_money_is_never_guessed(cost: float | None, said: str) -> None:
    assert money(cost) == said


class Browser:
    """Headless Chromium, spoken to over its debugging pipe."""

    def __init__(self, program: str, profile: Path) -> None:
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
        options += ["--disable-component-update", "--disable-sync", "--disable-quic", "--remote-debugging-pipe"]
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1 1>/dev/null', program, *options, f"--user-data-dir={profile}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        self._watchdog = threading.Timer(10 * PATIENCE / 1000, self._process.kill)
        self._watchdog.start()
        self._number, self._buffer, self._session = 0, b"", ""
        self._loaded: set[str] = set()  # ids of loaders that have done
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        self.send("Page.enable")
        self.send("Page.setLifecycleEventsEnabled", enabled=True)

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        assert self._process.stdin
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while (answer := self._next()).get("id") != self._number:
            pass
        result: dict[str, Any] = answer.get("result", {})
        return result

    def _next(self) -> dict[str, Any]:
        assert self._process.stdout
        while b"\0" not in self._buffer:
            more = os.read(self._process.stdout.fileno(), 1 << 20)
            assert more, "Chromium has ended"
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\0")
        message: dict[str, Any] = json.loads(line)
        if message.get("method") == "Page.lifecycleEvent" and message["params"]["name"] == "load":
            self._loaded.add(message["params"]["loaderId"])
        return message

    def open(self, address: str) -> None:
        for url in ("about:blank", address):
            loader = self.send("Page.navigate", url=url)["loaderId"]
            while loader not in self._loaded:
                self._next()

    def see(self, expression: str) -> Any:
        answer = self.send("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in answer, answer
        return answer.get("result", {}).get("value")  # neither while one page gives way to the next

    def until(self, expression: str) -> None:
        """Wait until the expression is true in the page."""
        end = time.monotonic() + PATIENCE / 1000
        while time.monotonic() < end:
            if self.see(expression):
                return
        raise AssertionError(f"never became true: {expression}")

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        self._process.stdin.close()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")
    opened = Browser(program, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


def test_chromium_shows_hostile_names_and_texts_as_plain_text(run: Run, browser: Browser) -> None:
    gallery = hostile(run)
    browser.open(gallery.path.as_uri())
    assert browser.see("[...document.querySelectorAll('.file')].map(e => e.textContent)") == [EVIL_NAME, "failed.png"]
    assert browser.see("document.querySelector('.first').textContent") == EVIL
    browser.until("[...document.images].every(i => i.naturalWidth > 0)")
    assert browser.see("typeof pwned") == "undefined"
    browser.open(run.page(gallery, EVIL_NAME).path.as_uri())
    browser.until("document.getElementById('image').naturalWidth === 60")
    assert browser.see("document.getElementById('gone').hidden") is True
    assert browser.see("document.querySelector('.finding h2').innerText").endswith(EVIL)
    assert browser.see("typeof pwned") == "undefined"
    assert browser.see("document.querySelectorAll('script').length") == 1


def test_chromium_filters_by_text_severity_and_status_and_steps_through_what_is_left(
    run: Run, browser: Browser
) -> None:
    run.add(run.picture("cup.png", "red"), anomaly(5, "Melted cup"))
    run.add(run.picture("hand.png", "blue"), anomaly(15))
    run.add(run.picture("cup2.png", "green"), anomaly(85, "Bent cup"))
    run.add(run.picture("none.png"))
    address = run.build().path.as_uri()
    names = "[...document.querySelectorAll('.file')].map(e => e.textContent).join()"

    def shown(state: str) -> Any:
        browser.open(f"{address}#{state}")
        return browser.see(names)

    assert shown("bands=0") == "cup.png,hand.png"
    assert shown("status=none+found") == "none.png"
    assert shown("find=six+fing") == "hand.png"
    assert shown("sort=name") == "cup.png,cup2.png,hand.png,none.png"
    assert shown("find=nothing+like+it") == ""
    assert browser.see("document.getElementById('empty').hidden") is False
    assert shown("find=CUP") == "cup.png,cup2.png"
    browser.see("document.querySelector('.card a').click()")
    browser.until("document.getElementById('place')?.textContent === '1 of 2'")
    browser.see("dispatchEvent(new KeyboardEvent('keydown', {key: 'ArrowRight'}))")
    browser.until("document.getElementById('place')?.textContent === '2 of 2'")
    assert browser.see("document.querySelector('h1').textContent") == "cup2.png"
    browser.see("document.getElementById('back').click()")
    browser.until(f"document.getElementById('cards') && {names} === 'cup.png,cup2.png'")


def test_chromium_lights_a_box_with_its_finding_and_the_reverse(run: Run, browser: Browser) -> None:
    box = Region(x0=0.1, y0=0.1, x1=0.5, y1=0.5)
    run.add(run.picture("a.png"), anomaly(5, region=box), anomaly(50, region=Region(x0=0.6, y0=0.1, x1=0.9, y1=0.5)))
    browser.open(run.page(run.build(), "a.png").path.as_uri())
    browser.until("document.getElementById('image').style.width")
    lit = "[...document.querySelectorAll('.lit')].map(e => e.dataset.link).join()"
    browser.see("document.querySelectorAll('.finding')[1].focus({preventScroll: true})")
    assert browser.see(lit) == "a2,a2,a2"  # box, number, card
    place = browser.see(
        "(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector('.box').getBoundingClientRect())"
    )
    browser.send("Input.dispatchMouseEvent", type="mouseMoved", x=place[0], y=place[1])
    browser.until(f"{lit} === 'a1,a1,a1'")
    browser.see("document.querySelectorAll('.finding .number')[1].click()")
    assert browser.see("document.activeElement.id") == "b2", "the number on a card leads to the box"


def test_chromium_fills_a_window_in_which_many_cards_find_room(run: Run, browser: Browser) -> None:
    run.add(run.picture("a.png"))
    page = run.build().path
    rows = re.compile(r'(?<=id="rows">\[)(.*?)(?=\]</script>)', re.DOTALL)
    page.write_text(rows.sub(lambda one: ",".join(1000 * [one[0]]), page.read_text()))
    browser.send("Emulation.setDeviceMetricsOverride", width=3840, height=9000, deviceScaleFactor=1, mobile=False)
    browser.open(page.as_uri())
    browser.until("document.querySelectorAll('.card').length > 240")
    browser.send("Emulation.clearDeviceMetricsOverride")


AWKWARD = [
    (0, 0, 1, 1), (0, 0, 0.05, 0.05), (0.97, 0, 1, 0.03), (0, 0.95, 0.03, 1), (0.96, 0.96, 1, 1), (0.4, 0.4, 0.6, 0.6),
    (0.4, 0.4, 0.6, 0.6), (0.41, 0.41, 0.45, 0.45), (0.8, 0.5, 0.801, 0.501), (0.2, 0, 0.25, 1), (0, 0.7, 1, 0.75),
]  # fmt: skip
"""The whole image, its corners, one place twice, a box in a box, a dot and strips."""


def test_chromium_shows_numbers_beside_their_boxes_and_apart_from_each_other(run: Run, browser: Browser) -> None:
    found = [anomaly(n, region=Region.model_validate(box)) for n, box in enumerate(AWKWARD)]
    sent = SentImage(mime="image/png", width=800, height=600, bytes=1)
    run.add(run.picture("a.png"), *found, sent=sent)
    Image.new("RGB", (800, 600)).save(run.pictures / "a.png")
    address = run.page(run.build(), "a.png").path.as_uri()
    rectangles = "(r => [r.x, r.y, r.right, r.bottom])(e.getBoundingClientRect())"
    for width in (390, 1280):
        browser.send("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=False)
        browser.open(address)
        browser.until("document.getElementById('image').style.width")
        boxes = browser.see(f"[...document.querySelectorAll('.overlay .edge')].map(e => {rectangles})")
        numbers = browser.see(f"[...document.querySelectorAll('.disc')].map(e => {rectangles})")
        assert len(boxes) == len(numbers) == len(AWKWARD)
        assert [box for box, number in zip(boxes, numbers, strict=True) if overlap(box, number)] == []
        assert [pair for pair in combinations(numbers, 2) if overlap(*pair)] == []
        assert all(x0 >= 0 and y0 >= 0 and x1 <= width for x0, y0, x1, _ in numbers)
        assert browser.see("document.documentElement.scrollWidth") <= width


def overlap(a: list[float], b: list[float]) -> bool:
    """Whether two rectangles share more than a pixel's breadth."""
    return min(a[2], b[2]) - max(a[0], b[0]) > 1 and min(a[3], b[3]) - max(a[1], b[1]) > 1


def test_chromium_says_that_a_picture_has_gone_after_the_report_was_built(run: Run, browser: Browser) -> None:
    run.add(run.picture("a.png"), anomaly(5))
    page = run.page(run.build(), "a.png")
    (run.pictures / "a.png").unlink()
    browser.open(page.path.as_uri())
    browser.until("!document.getElementById('gone').hidden && document.getElementById('image').naturalWidth > 0")
    assert "image file is missing" in browser.see("document.getElementById('gone').textContent")
