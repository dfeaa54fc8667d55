"""Facts about annotating a dataset: what a detector finds becomes candidates, each once, however often it is killed."""

import asyncio
import hashlib
import json
import shutil
import signal
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select
from tests.forking import Command
from tests.simulating import simulating
from typer.testing import CliRunner

import anomreason.dataset
from anomreason.anomaly import Anomaly, Basis, Candidate, Detection, Failure
from anomreason.cli import app
from anomreason.dataset.annotate import AnnotateOptions, annotate, annotation, annotator, candidate_rows
from anomreason.dataset.listing import ListQuery, listing
from anomreason.dataset.retry import retry
from anomreason.dataset.store import Store, add_new
from anomreason.dataset.tables import (
    CandidateRow,
    CommandRow,
    DescriptionRow,
    DetectionRow,
    ImageRow,
    ImageState,
    Outcome,
    SourceRow,
)
from anomreason.detector import DetectOptions
from anomreason.errors import RunConflict, UsageError
from anomreason.images import image_size
from anomreason.runs import read_results
from anomreason.spread.cluster import SpreadOptions

World = Callable[..., Path]
Served = Callable[..., AbstractContextManager[str]]
SIMPLE = DetectOptions(schedule="single", in_flight=4, retries=0)


def plant(store: Store, files: Mapping[str, list[Path]]) -> None:
    """Images by source, each called by its bare file name; 'photographs' is a source of photographs."""
    with store.command("plant", {}) as command, store.writing() as session:
        for source, paths in files.items():
            kind = "photograph" if source == "photographs" else "ai"
            row = SourceRow(name=source, kind=kind, command_id=command.id)
            session.add(row)
            session.flush()
            add_new(session, ImageRow, [image_row(store, path, row.id, command.id) for path in paths])


def image_row(store: Store, path: Path, source: int, command: int) -> dict[str, Any]:
    width, height = image_size(path)
    return {
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "path": store.place(path),
        "name": path.name,
        "source_id": source,
        "width": width,
        "height": height,
        "format": "PNG",
        "bytes": path.stat().st_size,
        "facts": {},
        "status": ImageState.KEPT,
        "command_id": command,
    }


@pytest.fixture(scope="module")
def truth(world: World) -> Path:
    """Truth of twelve images, of which every third is clean and the others have four anomalies."""
    return world(12)


@pytest.fixture
def planted(sqlite_store: Store, truth: Path) -> Store:
    """Twelve images: six of one generator, four of another, two photographs."""
    files = sorted(truth.parent.glob("*.png"))
    plant(sqlite_store, {"flux": files[:6], "sd": files[6:10], "photographs": files[10:]})
    return sqlite_store


def run(data: Path, *options: str) -> tuple[int, str, str]:
    """Exit code, output and messages of the command."""
    ran = CliRunner().invoke(app, ["dataset", "annotate", str(data), *options], env={"COLUMNS": "200"})
    if ran.exception and not isinstance(ran.exception, SystemExit):
        raise ran.exception
    return ran.exit_code, ran.stdout, ran.stderr


def rows(store: Store) -> list[tuple[Any, ...]]:
    """What the store says of all images, less what may differ between two runs of the same thing."""
    d, c = DetectionRow, CandidateRow
    with store.reading() as session:
        detections = session.execute(
            select(ImageRow.sha256, d.detector, d.status, d.reason, d.message)
            .join(ImageRow, d.image_id == ImageRow.id)
            .order_by(ImageRow.sha256, d.detector)
        ).all()
        candidates = session.execute(
            select(ImageRow.sha256, c.detector, c.number, c.name, c.severity, c.region, c.role, c.score, c.dropped)
            .join(ImageRow, c.image_id == ImageRow.id)
            .join(d, (c.detection_id == d.id) & (d.image_id == c.image_id))
            .order_by(ImageRow.sha256, c.detector, c.number)
        ).all()
    return [tuple(row) for row in (*detections, *candidates)]


def failures(store: Store) -> dict[str, str | None]:
    """Reason by file name."""
    query = select(ImageRow.name, DetectionRow.reason).join(DetectionRow, DetectionRow.image_id == ImageRow.id)
    with store.reading() as session:
        return {name: reason for name, reason in session.execute(query) if reason}


def stats(url: str) -> dict[str, Any]:
    with urllib.request.urlopen(f"{url}/stats") as answer:
        value: dict[str, Any] = json.load(answer)
    return value


def test_images_out_of_the_detectors_domain_are_counted_and_named_in_the_summary(store: Store, truth: Path) -> None:
    files = [truth.parent / "p000.png", truth.parent / "p001.png"]
    plant(store, {"flux": files})
    options = AnnotateOptions()
    with annotation(store, annotator(f"sim:{truth}", options, SIMPLE, {"schedule"}), options) as work:
        for file, strange in zip(files, (True, None), strict=True):
            sha = hashlib.sha256(file.read_bytes()).hexdigest()
            place = store.place(file)
            work.recorded(Detection(image=place, sha256=sha, detector="d", status="ok", out_of_domain=strange))
        work.store_waiting()
        assert work.report().out_of_domain == 1
    _, shown, _ = run(store.folder, "--model", f"sim:{truth}", "--schedule", "single")
    assert "1 image is out of the detector's domain: not exported as clean." in shown


def test_anomalies_know_where_they_came_from_and_dropped_candidates_follow() -> None:
    proposed = Candidate(
        name="six fingers", phenomenon="p", reasoning="r", role="AttributeAnalyzer", step="inspect", score=90
    )
    rejected = replace_candidate(proposed, name="Odd shadow", score=20, dropped="the lamp explains it")
    same_name = replace_candidate(proposed, score=10, dropped="counted again")
    fingers = Anomaly(
        name="Six fingers on the hand",
        phenomenon="p",
        reasoning="r",
        severity=5,
        objects=("man",),
        region=[0, 0, 1, 1],  # type: ignore[arg-type]
        basis=Basis(role="AttributeAnalyzer", step="inspect", score=90, candidates=(2,)),
    )
    own = Anomaly(name="Two suns", phenomenon="p", reasoning="r", severity=50, kind="physics")
    detection = Detection(
        image="x", detector="d", status="ok", anomalies=(fingers, own), candidates=(same_name, rejected, proposed)
    )
    known = ("number", "name", "severity", "kind", "objects", "role", "score", "dropped", "outcome")
    assert [tuple(row[key] for key in known) for row in candidate_rows(detection)] == [
        (0, "Six fingers on the hand", 5, None, ["man"], "AttributeAnalyzer", 90, None, Outcome.UNVERIFIED),
        (1, "Two suns", 50, "physics", [], None, None, None, Outcome.UNVERIFIED),
        (2, "six fingers", None, None, [], "AttributeAnalyzer", 10, "counted again", Outcome.UNVERIFIED),
        (3, "Odd shadow", None, None, [], "AttributeAnalyzer", 20, "the lamp explains it", Outcome.UNVERIFIED),
    ]
    assert candidate_rows(detection)[0]["region"] == {"x0": 0, "y0": 0, "x1": 1, "y1": 1}
    failed = Detection(
        image="x", detector="d", status="failed", failure=Failure(kind="refused", message="no"), candidates=(proposed,)
    )
    assert candidate_rows(failed) == [], "what was proposed on the way was never decided"


def replace_candidate(candidate: Candidate, **changes: object) -> Candidate:
    return candidate.model_copy(update=changes)


def test_images_of_equal_names_keep_their_own_anomalies(store: Store, truth: Path, tmp_path: Path) -> None:
    known = json.loads(truth.read_text())
    files = {"a": "p000.png", "b": "p001.png", "c": "p002.png"}
    for folder, name in files.items():
        (tmp_path / folder).mkdir()
        shutil.copy(truth.parent / name, tmp_path / folder / "image.png")
    plant(store, {folder: [tmp_path / folder / "image.png"] for folder in files})
    report = annotate(store, f"sim:{truth}")
    assert (report.images, report.done, report.left, report.failed) == (3, 3, 0, {})
    assert (report.anomalies, report.dropped) == (8, 0)
    query = select(SourceRow.name, CandidateRow.name, CandidateRow.role, CandidateRow.detector)
    query = query.join(ImageRow, CandidateRow.image_id == ImageRow.id).join(SourceRow)
    with store.reading() as session:
        found = session.execute(query).all()
        used = session.execute(select(DetectionRow.calls, DetectionRow.tokens, DetectionRow.cost)).all()
    for folder, name in files.items():
        assert {row[1] for row in found if row[0] == folder} == {a["name"] for a in known[name]["anomalies"]}
    assert {row[2] for row in found} == {"AttributeAnalyzer"}
    assert {row[3] for row in found} == {f"sim:{truth} lean"}
    assert [calls for calls, _, _ in used] == [4, 4, 4]
    assert all(tokens > 1000 and cost == 0 for _, tokens, cost in used)
    before = rows(store)
    assert annotate(store, f"sim:{truth}") == report
    assert rows(store) == before


@pytest.mark.slow
def test_workers_annotate_as_this_process_does(planted: Store, truth: Path, ray_address: str) -> None:
    assert ray_address, "the cluster of this process is used"
    options, name = DetectOptions(in_flight=4), f"sim:{truth}"
    with pytest.raises(UsageError, match="5 workers share 4 calls in flight"):
        annotate(planted, name, detector=options, spread=SpreadOptions(workers=5))
    spread = annotate(planted, name, AnnotateOptions(run="spread"), options, spread=SpreadOptions(workers=2))
    alone = annotate(planted, name, AnnotateOptions(run="alone"), options)
    assert spread.done == 10
    assert spread == alone.model_copy(update={"detector": "spread"})


def test_any_text_of_a_model_is_taken_in(store: Store, truth: Path) -> None:
    file = truth.parent / "p000.png"
    plant(store, {"flux": [file]})
    odd = "NUL \0, emoji \N{GRINNING FACE}, 'quotes\", <script>"
    anomaly = Anomaly(name=odd, phenomenon=odd, reasoning=odd, severity=5, kind=odd, objects=(odd,))
    detection = Detection(
        image=store.place(file),
        sha256=hashlib.sha256(file.read_bytes()).hexdigest(),
        detector="d",
        status="ok",
        anomalies=(anomaly,),
        notes=(odd,),
    )
    options = AnnotateOptions()
    with annotation(store, annotator("m", options, SIMPLE), options) as work:
        work.recorded(detection)
    shown = odd.replace("\0", "\N{REPLACEMENT CHARACTER}")
    with store.reading() as session:
        row = session.scalars(select(CandidateRow)).one()
        assert session.scalars(select(DetectionRow.record)).one()["notes"] == [shown]
    assert [row.name, row.phenomenon, row.reasoning, row.kind] == [shown] * 4
    assert row.objects == [shown]


def test_kill_minus_nine_loses_nothing_and_pays_for_nothing_twice(planted: Store, truth: Path, tmp_path: Path) -> None:
    options = ("--model", "m", "--in-flight", "2", "--no-report", "--yes")
    killed = tmp_path / "killed"
    shutil.copytree(planted.folder, killed)
    with simulating(truth, latency=0.02, hallucinations=0.3) as server:
        options = (*options, "--base-url", f"{server.url}/v1")
        assert run(planted.folder, *options)[0] == 0
        undisturbed = server.requests
        for part in (1, 2):
            process = Command(["dataset", "annotate", str(killed), *options])
            server.at(undisturbed + undisturbed * part // 3, process.kill)
            assert process.wait() == -signal.SIGKILL
        code, _, said = run(killed, *options)
        asked = server.requests
    assert code == 0
    assert "of 10 images already processed" in said
    assert asked <= 2 * undisturbed + 2 * 2, "only calls in flight at a kill are made again"
    with anomreason.dataset.open(killed) as store:
        assert rows(store) == rows(planted)
        with store.reading() as session:
            assert session.scalar(select(func.count()).where(CandidateRow.dropped.is_not(None))), "some were dropped"


def test_what_only_the_run_folder_holds_is_taken_in_and_what_only_the_store_holds_is_not_asked_again(
    planted: Store, truth: Path, served: Served
) -> None:
    database = planted.folder / "dataset.sqlite"
    with served(truth) as url:
        options = replace(SIMPLE, base_urls=(f"{url}/v1",))
        planted.close()
        empty = database.read_bytes()
        annotate(planted, "m", detector=options)
        whole = rows(planted)
        planted.close()
        for file in planted.folder.glob("dataset.sqlite*"):
            file.unlink()
        database.write_bytes(empty)
        assert rows(planted) == []
        annotate(planted, "m", detector=options)
        assert rows(planted) == whole
        shutil.rmtree(planted.folder / "runs")
        assert annotate(planted, "m", detector=options).done == 10
        assert stats(url)["requests"] == 10
        with pytest.raises(RunConflict, match=r"with other settings \(seed: 0 there, 3 now\).* or give another --run"):
            annotate(planted, "m", detector=replace(options, seed=3))


def test_a_cap_stops_cleanly_and_a_higher_one_continues(planted: Store, truth: Path, served: Served) -> None:
    with served(truth) as url:
        options = ("--model", "m", "--base-url", f"{url}/v1", "--no-report", "--schedule", "single")
        code, _, said = run(planted.folder, *options, "--max-tokens", "9000")
        assert code == 4
        assert "Stopped at the limit" in said
        with planted.reading() as session:
            part = session.scalar(select(func.count()).where(DetectionRow.status == "ok"))
            assert 0 < (part or 0) < 10
            assert (session.scalar(select(func.sum(DetectionRow.tokens))) or 0) <= 9000
        code, shown, _ = run(planted.folder, *options, "--max-tokens", "900000")
        assert code == 0
        assert "10 images: 10 done" in shown
        assert f"Next: anomreason dataset split {planted.folder}" in shown
        assert stats(url)["requests"] == 10


def test_failures_are_kept_with_their_reason_and_tried_again(planted: Store, truth: Path, served: Served) -> None:
    with served(truth, "--malformed", "1") as url:
        lost = annotate(planted, "m", detector=replace(SIMPLE, base_urls=(f"{url}/v1",)))
    assert (lost.done, lost.failed) == (0, {"unparsable": 10})
    assert set(failures(planted).values()) == {"unparsable"}
    with served(truth) as url:
        report = annotate(planted, "m", detector=replace(SIMPLE, base_urls=(f"{url}/v1",)))
    assert (report.done, report.failed) == (10, {})
    assert failures(planted) == {}
    with planted.reading() as session:
        assert set(session.scalars(select(DetectionRow.calls))) == {3}, "calls of the lost attempts count"


def test_files_that_vanished_or_changed_fail_and_the_others_are_done(
    planted: Store, truth: Path, tmp_path: Path
) -> None:
    moved = {name: tmp_path / name for name in ("p000.png", "p001.png", "p002.png")}
    with planted.writing() as session:
        for name, path in moved.items():
            shutil.copy(truth.parent / name, path)
            session.scalars(select(ImageRow).where(ImageRow.name == name)).one().path = planted.place(path)
    moved["p000.png"].unlink()
    shutil.copy(truth.parent / "p003.png", moved["p001.png"])
    report = annotate(planted, f"sim:{truth}", detector=DetectOptions(schedule="single"))
    assert (report.done, report.failed) == (8, {"unreadable_image": 2})
    assert failures(planted) == dict.fromkeys(("p000.png", "p001.png"), "unreadable_image")
    with planted.reading() as session:
        messages = " ".join(filter(None, session.scalars(select(DetectionRow.message))))
    assert "has changed: it is no longer the image it was" in messages
    shutil.copy(truth.parent / "p000.png", moved["p000.png"])
    shutil.copy(truth.parent / "p001.png", moved["p001.png"])
    assert annotate(planted, f"sim:{truth}", detector=DetectOptions(schedule="single")).done == 10


def test_a_file_that_was_replaced_and_collected_again_stands_for_the_new_image(planted: Store, truth: Path) -> None:
    old, new = truth.parent / "p000.png", truth.parent / "p010.png"
    where = planted.folder / "image.png"
    shutil.copy(old, where)
    with planted.writing() as session:
        session.scalars(select(ImageRow).where(ImageRow.name == "p000.png")).one().path = planted.place(where)
    detector = DetectOptions(schedule="single")
    annotate(planted, f"sim:{truth}", AnnotateOptions(limit=1), detector)
    shutil.copy(new, where)
    with planted.writing() as session:
        later = session.scalars(select(ImageRow).where(ImageRow.name == "p010.png")).one()
        later.path = planted.place(where)
    report = annotate(planted, f"sim:{truth}", AnnotateOptions(kinds=("ai", "photograph")), detector)
    assert (report.done, report.failed) == (12, {})
    known = json.loads(truth.read_text())
    names = select(CandidateRow.name).join(ImageRow, CandidateRow.image_id == ImageRow.id)
    with planted.reading() as session:
        for name in ("p000.png", "p010.png"):
            found = set(session.scalars(names.where(ImageRow.name == name)))
            assert found == {anomaly["name"] for anomaly in known[name]["anomalies"]}


def test_two_detectors_annotate_the_same_images(planted: Store, truth: Path) -> None:
    one = annotate(planted, f"sim:{truth}", detector=DetectOptions(schedule="single"))
    two = annotate(planted, f"sim:{truth}", AnnotateOptions(run="few objects"), DetectOptions(max_objects=3))
    assert (one.detector, two.detector) == (f"sim:{truth} single", "few objects")
    with planted.reading() as session:
        count = select(CandidateRow.detector, func.count()).group_by(CandidateRow.detector)
        assert dict(session.execute(count).all()) == {one.detector: one.anomalies, "few objects": two.anomalies}
        counted = session.scalar(select(func.count()).select_from(DetectionRow))
    assert counted == 20
    assert len(list((planted.folder / "runs").iterdir())) == 2
    with pytest.raises(RunConflict, match=r"max_objects: 3 there, 12 now.*give another --run"):
        annotate(planted, f"sim:{truth}", AnnotateOptions(run="few objects"))


def test_the_report_of_the_run_shows_the_images(planted: Store, truth: Path) -> None:
    code, shown, said = run(planted.folder, "--model", f"sim:{truth}", "--schedule", "single", "--source", "sd")
    assert code == 0
    assert "4 images: 4 done" in shown
    assert "SIMULATED" in said
    [folder] = (planted.folder / "runs").iterdir()
    assert set(read_results(folder)) == {planted.place(truth.parent / f"p00{n}.png") for n in range(6, 10)}
    page = (folder / "report.html").read_text()
    assert page.count("data:image/") >= 4 or len(list((folder / "report").glob("*"))) >= 4


def test_photographs_are_annotated_only_when_asked_for(planted: Store, truth: Path) -> None:
    detector = DetectOptions(schedule="single")
    assert annotate(planted, f"sim:{truth}", AnnotateOptions(limit=3), detector).images == 3
    assert annotate(planted, f"sim:{truth}", detector=detector).images == 10
    assert annotate(planted, f"sim:{truth}", AnnotateOptions(kinds=("photograph",)), detector).images == 2
    assert annotate(planted, f"sim:{truth}", AnnotateOptions(sources=("photographs", "sd")), detector).images == 6
    with pytest.raises(UsageError, match="no source 'fluxx'; did you mean 'flux'"):
        annotate(planted, f"sim:{truth}", AnnotateOptions(sources=("fluxx",)), detector)
    with pytest.raises(UsageError, match="no kind of source 'fake'; the kinds are ai, photograph, unknown"):
        annotate(planted, f"sim:{truth}", AnnotateOptions(kinds=("fake",)), detector)
    code, shown, _ = run(planted.folder, "--model", f"sim:{truth}", "--source", "sd", "--kind", "photograph")
    assert code == 0
    assert "no images of generators to annotate" in shown


def test_a_dropped_image_is_not_annotated_and_its_results_stay(planted: Store, truth: Path) -> None:
    detector = DetectOptions(schedule="single")
    annotate(planted, f"sim:{truth}", AnnotateOptions(limit=2), detector)
    with planted.writing() as session:
        session.scalars(select(ImageRow).where(ImageRow.name == "p000.png")).one().status = ImageState.DROPPED
    report = annotate(planted, f"sim:{truth}", detector=detector)
    assert (report.images, report.done) == (9, 9)
    with planted.reading() as session:
        assert session.scalar(select(func.count()).select_from(DetectionRow)) == 10


def described(store: Store) -> dict[str, tuple[str | None, str | None]]:
    """Text and message by file name."""
    query = select(ImageRow.name, DescriptionRow.text, DescriptionRow.message)
    with store.reading() as session:
        found = session.execute(query.join(DescriptionRow, DescriptionRow.image_id == ImageRow.id))
        return {name: (text, message) for name, text, message in found}


def test_photographs_are_described_once_and_failures_are_tried_again(
    planted: Store, truth: Path, served: Served
) -> None:
    options = ("--model", "m", "--describe", "--yes")
    with served(truth, "--refused", "1") as url:
        code, shown, _ = run(planted.folder, *options, "--base-url", f"{url}/v1", "--run", "refusing")
        assert code == 3
        assert "2 images: 0 described by 'refusing', 2 failed: refused, 0 left" in shown
    assert {text for text, _ in described(planted).values()} == {None}
    counted = listing(planted, ListQuery(step="annotate")).counts
    assert [(one.status, one.reason, one.number) for one in counted] == [("failed", "refused", 2)]
    assert retry(planted, "refused").descriptions == 2
    assert [one.status for one in listing(planted, ListQuery(step="annotate")).rows] == ["retry", "retry"]
    with served(truth) as url:
        code, shown, _ = run(planted.folder, *options, "--base-url", f"{url}/v1", "--run", "refusing")
        assert "2 images: 2 described by 'refusing', 0 left" in shown
    with served(truth) as url:
        code, shown, _ = run(planted.folder, *options, "--base-url", f"{url}/v1")
        assert code == 0
        assert "2 images: 2 described by 'm', 0 left" in shown
        assert run(planted.folder, *options, "--base-url", f"{url}/v1")[0] == 0
        assert stats(url)["requests"] == 2
    with planted.reading() as session:
        texts = list(session.scalars(select(DescriptionRow.text).where(DescriptionRow.author == "m")))
        assert session.scalar(select(func.count()).select_from(DetectionRow)) == 0
    assert len(texts) == 2
    assert all("woman" in str(text) and "chair" in str(text) for text in texts)


def test_a_description_takes_no_option_that_has_no_effect_on_it(planted: Store, truth: Path) -> None:
    with pytest.raises(UsageError, match=r"schedule \(--schedule\) has no effect on descriptions; leave it out"):
        run(planted.folder, "--model", f"sim:{truth}", "--describe", "--schedule", "paper")
    with pytest.raises(UsageError, match="--report has no effect with --describe; leave it out"):
        run(planted.folder, "--model", f"sim:{truth}", "--describe", "--no-report")
    with pytest.raises(UsageError, match="tiny was trained on one question only and cannot describe"):
        run(planted.folder, "--model", "tiny", "--describe")


def test_a_dry_run_says_what_it_would_cost_and_writes_nothing(planted: Store) -> None:
    code, shown, _ = run(planted.folder, "--model", "gpt-4o", "--dry-run")
    assert code == 0
    assert "10 images, schedule lean, model gpt-4o: about 40 calls" in shown
    assert not (planted.folder / "runs").exists()
    with planted.reading() as session:
        assert list(session.scalars(select(CommandRow.name))) == ["plant"]


def test_the_report_is_printed_as_json_and_kept(planted: Store, truth: Path) -> None:
    code, shown, said = run(planted.folder, "--model", f"sim:{truth}", "--schedule", "single", "--json")
    assert (code, said) == (0, "")
    report = json.loads(shown)
    assert (report["images"], report["done"], report["failed"]) == (10, 10, {})
    with planted.reading() as session:
        kept = session.scalars(select(CommandRow).where(CommandRow.name == "annotate")).one()
    assert kept.report == report
    assert kept.settings["detector"] == report["detector"]


def test_a_name_that_others_have_is_refused(planted: Store, truth: Path) -> None:
    with planted.command("collect", {}) as command, planted.writing() as session:
        image = session.scalars(select(ImageRow.id)).first()
        row = {"image_id": image, "author": "release", "text": "A dog.", "message": None, "record": None}
        add_new(session, DescriptionRow, [row | {"command_id": command.id}])
    with pytest.raises(UsageError, match=r"has annotations of 'release' from 'dataset collect'; give another --run"):
        annotate(planted, f"sim:{truth}", AnnotateOptions(run="release"))


def test_an_event_loop_is_told_what_to_do(planted: Store) -> None:
    async def inside() -> None:
        annotate(planted, "m")

    with pytest.raises(UsageError, match=r"use await asyncio.to_thread\(annotate"):
        asyncio.run(inside())


def test_the_command_has_every_option_of_the_detector() -> None:
    shown = CliRunner().invoke(app, ["dataset", "annotate", "--help"], env={"COLUMNS": "200"}).stdout
    names = {f.name for f in fields(DetectOptions)} - {"outside", "base_urls"} | {"base_url"}
    assert [name for name in names if f"--{name.replace('_', '-')} " not in shown] == []


def test_a_detector_that_leaves_photographs_unsearched_is_refused(truth: Path) -> None:
    with pytest.raises(UsageError, match="two turns"):
        annotator(f"sim:{truth}", AnnotateOptions(), DetectOptions(two_turns=True))
