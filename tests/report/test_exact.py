"""The report of an exact evaluation as a reader meets it: parsed as HTML, and opened in Chromium where there is one."""

import json
import re
import runpy
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason.errors import UsageError
from anomreason.evaluation.exact import write_exact
from anomreason.evaluation.notices import exact_notices
from anomreason.report.scores import build_exact_report, number_rows

shared = runpy.run_path(str(Path(__file__).parent / "test_html.py"))
Page, browser, EVIL = (shared[name] for name in ("Page", "browser", "EVIL"))
helpers = runpy.run_path(str(Path(__file__).parents[1] / "evaluation" / "test_exact.py"))
FLOATING, SPLIT, SCENES, scenes, said, run = (
    helpers[name] for name in ("FLOATING", "SPLIT", "SCENES", "scenes", "said", "run")
)


def scored(folder: Path, detections: list[Any]) -> tuple[Any, Path]:
    """A folder of scenes with images, scored; the result and the report."""
    made = scenes(folder / "s p")
    (made / "images").mkdir()
    for row in SCENES:
        Image.new("RGB", (32, 32), (90, 120, 200)).save(made / row["file_name"])
    ((result, out),) = write_exact([run(folder / "run", detections)], made, folder / "out")
    return result, build_exact_report(out)


def mixed() -> list[Any]:
    """One planted anomaly found, one missed, one prediction too many; one twin reports what it lacks, one failed."""
    odd = {**SPLIT, "name": EVIL, "phenomenon": EVIL, "reasoning": EVIL, "objects": ["lamp"]}
    return [said("0", [FLOATING, odd]), said("0-t0", [FLOATING]), said("1", [])]


def test_every_scene_tells_what_was_found_missed_and_invented(tmp_path: Path) -> None:
    result, path = scored(tmp_path, mixed())
    first, second = result.images
    assert (first.image, first.hits, first.false) == ("images/0.png", 1, 1)
    assert [one.found_by for one in first.planted] == [0, None]
    assert [(twin.image, twin.reported) for twin in first.twins] == [
        ("images/0-t0.png", True),
        ("images/0-t1.png", None),
    ]
    assert (second.planted, second.predictions) == ((), ())
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", path.read_text())).split())
    for words in (
        "found Floating fire engine floating, severity 5",
        "missed Split cup split, severity 3",
        "unmatched",
        "1 of 2 found, 1 unmatched",
        "reported all the same",
        "failed (missing)",
        "Clean, and nothing was predicted.",
    ):
        assert words in text
    for notice in exact_notices(result):
        assert notice.text in text
    for row in number_rows(result):
        assert row.name.strip() in text
        assert row.estimate.value is None or f"{row.estimate.value:.4f}" in text


def test_the_list_by_image_adds_up_to_the_numbers(tmp_path: Path) -> None:
    result, _ = scored(tmp_path, mixed())
    assert result.recall.value == sum(scene.hits for scene in result.images) / result.recall.n
    assert result.precision.n == sum(len(scene.predictions) for scene in result.images)
    assert json.loads((tmp_path / "out" / "exact.json").read_text())["images"][0]["planted"][1]["found_by"] is None


def test_names_do_no_harm_and_every_address_leads_to_a_file(tmp_path: Path) -> None:
    _, path = scored(tmp_path, mixed())
    page = Page(path)
    assert not [tag for tag, _ in page.elements if tag == "script"]
    assert EVIL in page.text
    links = set(page.links())
    assert "../s%20p/images/0.png" in links
    assert all((path.parent / link.replace("%20", " ")).is_file() for link in links)


def test_images_are_shown_without_a_network(tmp_path: Path, browser: Any) -> None:
    _, path = scored(tmp_path, mixed())
    browser.open(path.as_uri())
    assert browser.see("[...document.images].filter(i => { i.loading = 'eager'; return i.src }).length") == 4
    assert browser.see("document.documentElement.scrollWidth <= document.documentElement.clientWidth")


def test_a_folder_without_an_exact_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"exact\.json"):
        build_exact_report(tmp_path)
