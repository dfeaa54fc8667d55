"""Facts about real pictures, generated ones and photographs. Skipped where the optional folder of them is missing."""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from html import unescape
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageOps

from anomreason import detect
from anomreason.anomaly import Detection
from anomreason.images import load_image
from anomreason.runs import read_results
from anomreason.vlm.ledger import read_calls

Served = Callable[..., AbstractContextManager[str]]

FOLDER = Path(os.environ.get("ANOMREASON_PICTURES") or Path(__file__).parents[3] / "shared" / "images").absolute()
MANIFEST = FOLDER / "manifest.csv"
pytestmark = [
    pytest.mark.real,
    pytest.mark.skipif(not MANIFEST.is_file(), reason=f"needs pictures with {MANIFEST} (or set ANOMREASON_PICTURES)"),
]

MAX_SIDE = 1536
OBJECTS = {
    "main subject": (0.25, 0.2, 0.75, 0.9),
    "background": (0.0, 0.0, 1.0, 0.4),
    "foreground": (0.0, 0.7, 1.0, 1.0),
}
PLACE = (0.35, 0.3, 0.6, 0.55)
PLAIN_INFO = {"jfif", "jfif_version", "jfif_unit", "jfif_density", "dpi", "gamma", "icc_profile"}
"""What Pillow tells of a file that holds pixels and nothing about their origin."""


@dataclass(frozen=True)
class Album:
    """The pictures, and what is in them as far as the manifest says."""

    truth: Path
    """A file for the simulator, with one entry a picture."""
    noted: dict[str, list[dict[str, Any]]]
    """The anomalies of each picture: one where a person noted something, else none."""
    sha256: dict[str, str]


@pytest.fixture(scope="module")
def album(tmp_path_factory: pytest.TempPathFactory) -> Album:
    with MANIFEST.open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    truth = tmp_path_factory.mktemp("truth") / "truth.json"
    noted = {row["file"]: noted_anomalies(row, n) for n, row in enumerate(rows)}
    objects = [{"name": name, "description": f"The {name}.", "box": box} for name, box in OBJECTS.items()]
    entries = {
        os.path.relpath(FOLDER / row["file"], truth.parent): {
            "objects": objects,
            "anomalies": noted[row["file"]],
            "generated": row["label"] == "ai",
        }
        for row in rows
    }
    truth.write_text(json.dumps(entries), encoding="utf-8")
    return Album(truth, noted, {row["file"]: row["sha256"] for row in rows})


def noted_anomalies(row: dict[str, str], number: int) -> list[dict[str, Any]]:
    """The note as one anomaly of one thing or of two; every other one says where in the picture it is."""
    kinds = row["anomaly_category"].split(";")
    if row["label"] != "ai" or "none_seen" in kinds:
        return []
    anomaly = {
        "name": " and ".join(kinds).replace("_", " ").capitalize(),
        "phenomenon": row["note"],
        "reasoning": f"Whoever looked at it says that such {kinds[0]} cannot be so.",
        "severity": (60 if "subtle" in kinds else 10) + number % 10,
        "objects": ["main subject", "background"] if len(kinds) > 1 else ["main subject"],
    }
    return [anomaly | ({"region": PLACE} if number % 2 else {})]


@dataclass(frozen=True)
class Ran:
    """A finished command and its run folder."""

    run: Path
    process: subprocess.CompletedProcess[str]

    @property
    def results(self) -> dict[str, Detection]:
        return read_results(self.run)


@pytest.fixture(scope="module")
def detected(album: Album, served: Served, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Ran]]:
    """Runs `anomreason detect` over the whole folder in a schedule, once, against a simulator behind HTTP."""
    folder = tmp_path_factory.mktemp("runs")
    with served(album.truth) as url:

        @cache
        def run(schedule: str) -> Ran:
            options = ["--model", "m", "--base-url", f"{url}/v1", "--schedule", schedule, "--yes"]
            options += ["--run", str(folder / schedule), "--max-side", str(MAX_SIDE)]
            options += [] if schedule == "single" else ["--max-objects", "2"]
            options += [] if schedule == "lean" else ["--no-report"]
            command = [sys.executable, "-m", "anomreason", "detect", str(FOLDER), *options]
            environment = {**os.environ, "OPENAI_API_KEY": "none", "COLUMNS": "200"}
            return Ran(folder / schedule, subprocess.run(command, capture_output=True, text=True, env=environment))

        yield run


def said(detection: Detection) -> list[dict[str, Any]]:
    """The findings as the truth file writes them, without region, kind and basis."""
    return [a.model_dump(mode="json", exclude={"region", "kind", "basis"}) for a in detection.anomalies]


def as_file(path: Path) -> bool:
    """Whether the file needs nothing done to it before it is sent: small enough, and nothing in it but the picture."""
    with Image.open(path) as image:
        fits = image.format in ("JPEG", "PNG", "WEBP") and max(image.size) <= MAX_SIDE
        return fits and image.info.keys() <= PLAIN_INFO and not image.getexif()


@pytest.mark.slow
@pytest.mark.parametrize("schedule", ["single", "lean", "paper", "release"])
def test_every_schedule_finds_what_was_noted_in_each_picture_and_nothing_else(
    schedule: str, album: Album, detected: Callable[[str], Ran]
) -> None:
    ran = detected(schedule)
    assert ran.process.returncode == 0, ran.process.stderr
    results = ran.results
    assert {image: d.sha256 for image, d in results.items()} == album.sha256
    assert all(d.status == "ok" for d in results.values())
    without_place = {
        image: [{k: v for k, v in a.items() if k != "region"} for a in anomalies]
        for image, anomalies in album.noted.items()
    }
    assert {image: said(d) for image, d in results.items()} == without_place
    found = sum(map(len, without_place.values()))
    assert f"{len(results)} images: {len(results)} done ({found} with anomalies" in ran.process.stdout
    calls = list(read_calls(ran.run))
    assert {c.outcome for c in calls} == {"ok"}
    print(f"{schedule}: {len(results)} pictures, {found} anomalies, {len(calls)} calls")


@pytest.mark.slow
def test_a_finding_lies_where_it_was_noted_or_where_its_object_is(album: Album, detected: Callable[[str], Ran]) -> None:
    for image, detection in detected("lean").results.items():
        for anomaly, known in zip(detection.anomalies, album.noted[image], strict=True):
            region = anomaly.region
            place = known.get("region", OBJECTS["main subject"])
            assert region is not None, image
            assert (region.x0, region.y0, region.x1, region.y1) == pytest.approx(place, abs=1e-3), image


@pytest.mark.slow
def test_it_is_said_of_each_picture_whether_the_file_itself_went_out(detected: Callable[[str], Ran]) -> None:
    changed: Counter[tuple[str, ...]] = Counter()
    for image, detection in detected("lean").results.items():
        sent, file = detection.sent, FOLDER / image
        assert sent is not None
        assert (sent.notes == ()) == as_file(file), f"{image}: {sent}"
        assert (sent.bytes == file.stat().st_size) == as_file(file), f"{image}: {sent}"
        changed[sent.notes] += 1
    print(f"sent as: {dict(changed)}")
    assert changed[()] > changed.total() / 2


@pytest.mark.parametrize("max_side", [MAX_SIDE, 512])
def test_what_is_sent_shows_the_picture_exactly_unless_it_had_to_be_scaled(album: Album, max_side: int) -> None:
    scaled = 0
    for image in album.noted:
        picture = load_image(FOLDER / image, max_side)
        with Image.open(FOLDER / image) as file:
            original = ImageOps.exif_transpose(file).convert("RGB")
        with Image.open(BytesIO(picture.encoded.data)) as file:
            sent = file.convert("RGB")
        assert (picture.width, picture.height) == original.size, image
        assert (picture.encoded.width, picture.encoded.height) == sent.size, image
        if max(original.size) <= max_side:
            assert sent.tobytes() == original.tobytes(), image
            continue
        scaled += 1
        assert max(sent.size) == max_side, image
        assert min(sent.size) == pytest.approx(min(original.size) * max_side / max(original.size), abs=0.5), image
        assert f"scaled from {original.width}x{original.height}" in picture.sent.notes, image
    print(f"max_side {max_side}: {scaled} of {len(album.noted)} scaled")


@pytest.fixture
def noisy(tiny_qwen: Path, tmp_path: Path) -> Callable[[int], dict[str, Any]]:
    """Model and options for a local model of random weights that holds so many tokens in all, so that it ends soon."""
    prompts = tmp_path / "prompts"
    prompts.mkdir()
    (prompts / "common.md").write_text("---\nversion: 1\n---\nSay what cannot be so in this picture.\n")

    def options(context: int) -> dict[str, Any]:
        folder = shutil.copytree(tiny_qwen, tmp_path / "model")
        config = json.loads((folder / "config.json").read_text())
        config["text_config"]["max_position_embeddings"] = context
        (folder / "config.json").write_text(json.dumps(config))
        # The hottest draw and the largest cap: replies differ, and one that is cut is not asked for again.
        return {"model": f"local:{folder}", "prompts": prompts, "temperature": 2.0, "max_reply_tokens": 8192}

    return options


@pytest.mark.slow
@pytest.mark.parametrize(("schedule", "count", "context"), [("single", None, 850), ("lean", 2, 2800)])
def test_from_a_model_that_talks_noise_every_picture_gets_a_list_or_a_recorded_failure(
    schedule: str, count: int | None, context: int, album: Album, noisy: Callable[[int], dict[str, Any]], tmp_path: Path
) -> None:
    images = list(album.noted)[:count]
    run, few = tmp_path / "run", {} if schedule == "single" else {"max_objects": 3}
    given = detect([FOLDER / i for i in images], run=run, schedule=schedule, **few, **noisy(context))
    recorded = read_results(run)
    assert len(given) == len(recorded) == len(images)
    assert {d.sha256 for d in recorded.values()} == {album.sha256[i] for i in images}
    assert {c.image for c in read_calls(run)} == set(recorded)
    for detection in recorded.values():
        failure = detection.failure
        assert failure is None or (failure.kind in ("truncated", "unparsable", "endpoint") and failure.message)
    ended = Counter(d.failure.kind if d.failure else f"list of {len(d.anomalies)}" for d in recorded.values())
    print(f"{schedule}, {len(images)} pictures: {dict(ended)}")


@pytest.mark.slow
def test_the_report_names_every_picture(album: Album, detected: Callable[[str], Ran]) -> None:
    ran = detected("lean")
    page = ran.run / "report.html"
    assert f"Report: {page}" in ran.process.stderr
    rows = re.search(r'<script type="application/json" id="rows">(.*?)</script>', page.read_text("utf-8"), re.DOTALL)
    assert rows is not None
    by_image = {row["image"]: row for row in json.loads(rows[1])}
    assert by_image.keys() == album.noted.keys()
    for image, row in by_image.items():
        text = unescape((ran.run / "report" / "pages" / row["page"]).read_text("utf-8"))
        assert f"<h1>{Path(image).name}</h1>" in text
        assert all(known["phenomenon"] in text for known in album.noted[image]), image


@pytest.mark.slow
def test_chromium_shows_a_card_for_every_picture(album: Album, detected: Callable[[str], Ran], tmp_path: Path) -> None:
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("needs Chromium")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    options += ["--disable-component-update", "--disable-sync", f"--user-data-dir={tmp_path}", "--dump-dom"]
    page = detected("lean").run / "report.html"
    shown = subprocess.run([program, *options, page.as_uri()], capture_output=True, text=True, timeout=600)
    cards = re.findall(r'<span class="file"[^>]*>([^<]*)</span>', shown.stdout.partition("<template")[0])
    assert sorted(cards) == sorted(album.noted)
