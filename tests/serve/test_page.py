"""People drop images in a browser: they see how far each is, what is wrong in it, and what to do when it went wrong."""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from tests.chromium import noted
from tests.serve.browsing import EVERY, PAYLOAD, Room, drop, line, opened, says

from anomreason.serve.clients import Client, Clients
from anomreason.web.tokens import hashed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"
World = Callable[..., Path]


def test_an_image_is_dropped_and_what_is_wrong_in_it_is_shown(held: Room) -> None:
    page = held.open(permissions=["clipboard-read", "clipboard-write"])
    says(page, "SIMULATED", "#simulated")
    drop(page, held.image(0))
    page.wait_for_selector("#entries canvas.drawn")
    page.wait_for_selector("#shown .stage canvas")
    says(page, re.compile(r"Looking for objects.*0 of about \d+ questions"))
    held.model.let(1)
    says(page, re.compile(r"1 of about \d+ questions"))
    held.model.let(EVERY)
    says(page, "4 anomalies")
    assert page.title() == "4 anomalies · p000.png"
    says(page, "p000.png: 4 anomalies", "#live")
    says(page, "0 = completely implausible, 100 = fully realistic", ".sum")
    cards = page.locator(".finding")
    assert [card.locator(".value b").inner_text() for card in cards.all()] == ["5", "12", "33", "47"]
    says(page, "What is seen of Six fingers 0", '.finding[data-number="1"]')
    detection = held.latest()["detection"]
    page.click("text=Copy as JSON")
    noted(page, "Copied")
    assert json.loads(page.evaluate("navigator.clipboard.readText()")) == detection
    with page.expect_download() as saved:
        page.click("text=Download JSON")
    assert saved.value.suggested_filename == "p000.json"
    assert json.loads(saved.value.path().read_text()) == detection


def test_a_reload_in_the_middle_goes_on_where_it_was(held: Room, tmp_path: Path) -> None:
    Image.open(held.image(2)).save(tmp_path / "p002.tiff")
    page = held.open()
    page.route("**/events", lambda route: route.abort())  # a proxy may not let streams through
    page.set_input_files("#files", [held.image(0), held.image(1), tmp_path / "p002.tiff"])
    says(page, "0 of about")
    line(page, "p001.png", "In the queue: 1st")
    line(page, "p002.tiff", "In the queue: 2nd")
    page.wait_for_selector("#entries li:nth-child(3) canvas.drawn")  # no browser reads TIFF: it is the service's copy
    page.reload()
    says(page, "0 of about")
    page.wait_for_selector("#shown .stage canvas")
    names = [file.inner_text() for file in page.locator("#entries .file").all()]
    assert names == ["p000.png", "p001.png", "p002.tiff"], "as they were chosen"
    held.model.let(EVERY)
    says(page, "4 anomalies")
    line(page, "p002.tiff", "No anomalies found").locator("a").click()
    says(page, "named no anomaly. That is its opinion, not a proof")
    page.reload()
    says(page, "named no anomaly")
    assert len(held.visited.get("/v1/jobs")["jobs"]) == 3
    page.go_back()
    says(page, "4 anomalies")


def test_a_model_that_is_asked_once_is_told_without_numbers(images: Path, tmp_path: Path, browser: Browser) -> None:
    with opened(images, tmp_path, browser, schedule="single") as room:
        page = room.open()
        drop(page, room.image(0))
        says(page, "Looking for anomalies")
        says(page, "The model has not answered yet.")
        line(page, "p000.png", re.compile("Looking(?!:)"))
        room.model.let(EVERY)
        says(page, "sim:simulator.json searched the image")
        says(page, "1 question to the model")
        page.click("text=What the detector looked at")
        says(page, "sim:simulator.json single", "#shown details")
        names = ("local:/models/a b/qwen@5bd1e2 single", "local:tiny@5bd1e2 lean", "Qwen/Qwen2.5-VL-72B-Instruct lean")
        shown = page.evaluate("names => import('/static/words.js').then(({modelOf}) => names.map(modelOf))", names)
        assert shown == ["qwen", "tiny", "Qwen/Qwen2.5-VL-72B-Instruct"]


def test_where_no_stream_is_left_the_page_asks(held: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("anomreason.serve.streams.MOST_EACH", 0)
    page = held.open()
    with page.expect_response(lambda answer: answer.url.endswith("/events")) as refused:
        drop(page, held.image(0))
    assert refused.value.status == 429
    says(page, "0 of about")
    held.model.let(1)
    says(page, "1 of about")


def test_boxes_and_cards_point_at_each_other(room: Room) -> None:
    page = room.open()
    drop(page, room.image(4))
    says(page, "4 anomalies")
    page.get_by_role("button", name="Zoom in").wait_for()  # the image is drawn
    canvas, box = page.locator(".stage canvas").bounding_box(), page.locator(".box .edge").last.bounding_box()
    assert canvas
    assert box
    seen = [(box["x"] - canvas["x"]) / canvas["width"], (box["x"] + box["width"] - canvas["x"]) / canvas["width"]]
    assert seen == pytest.approx([0.125, 0.25], abs=0.02), "the smallest box lies on top"
    first = page.get_by_role("button", name="Anomaly 1: Six fingers 4, severity 5")
    first.focus()
    page.wait_for_selector('.finding[data-number="1"].lit')
    page.keyboard.press("Enter")
    assert page.evaluate("document.activeElement.dataset.number") == "1"
    page.get_by_role("button", name="Show anomaly 2 in the image").click()
    assert page.evaluate("document.activeElement.className").split()[0] == "badge"
    assert page.evaluate("document.activeElement.textContent") == "2"
    page.wait_for_selector('.finding[data-number="2"].lit')
    badges = [badge.bounding_box() for badge in page.locator(".badge").all()]
    pairs = [(a, b) for n, a in enumerate(badges) for b in badges[:n]]
    assert len(pairs) == 6
    assert all(abs(a["x"] - b["x"]) >= a["width"] or abs(a["y"] - b["y"]) >= a["height"] for a, b in pairs)
    page.get_by_role("button", name="Zoom in").click()
    wider = page.locator(".stage canvas").bounding_box()
    assert wider
    assert wider["width"] == pytest.approx(1.5 * canvas["width"], rel=0.01)
    page.get_by_role("button", name="Boxes").click()
    assert page.locator(".badge").first.is_hidden()


def test_the_list_is_of_this_browser_and_can_be_emptied(room: Room) -> None:
    page = room.open()
    drop(page, room.image(4), room.image(5))
    line(page, "p005.png", "No anomalies found")
    line(page, "p004.png", "4 anomalies")  # what is not found yet is no earlier search
    drop(page, room.image(4))
    says(page, "from an earlier search of the same image: nothing was paid")
    page.wait_for_function("() => document.querySelectorAll('#entries li').length === 3")
    line(page, "p005.png").get_by_role("button", name="Remove p005.png from the list").click()
    page.wait_for_function("() => document.querySelectorAll('#entries li').length === 2")
    page.reload()
    says(page, "4 anomalies")
    page.wait_for_function("() => document.querySelectorAll('#entries li').length === 2")
    other = room.open(f"/#{room.latest()['id']}")
    says(other, "4 anomalies")
    says(other, "This browser has no copy of the image")
    page.click("text=Remove all")
    page.click("dialog button:text-is('Keep them')")
    page.click("text=Remove all")
    page.click("dialog button:text-is('Remove all')")
    page.locator("#list").wait_for(state="hidden")
    page.reload()
    says(page, "a hand with six fingers", "#about")
    assert page.locator("#entries li").count() == 0


def test_what_goes_wrong_says_what_to_do(room: Room, tmp_path: Path) -> None:
    page = room.open()
    says(page, "up to 100 kB each", "#drop")
    unknown = io.BytesIO()
    Image.new("RGB", (90, 70), "teal").save(unknown, "PNG")
    files = {"notes.png": b"no image", "empty.png": b"", "large.png": bytes(100_001), "unknown.png": unknown.getvalue()}
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    drop(page, *(tmp_path / name for name in files))
    advice = {
        "notes.png": "not an image",
        "empty.png": "The file is empty",
        "large.png": "takes 0.1 MB at most. Save it smaller",
    }
    for name, text in advice.items():
        line(page, name, "Not taken").locator("a").click()
        says(page, text)
    page.set_input_files("#files", {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF"})
    says(page, "This is not an image (application/pdf)")
    line(page, "unknown.png", "Failed").locator("a").click()
    says(page, "The model's server gave no usable answer")
    says(page, "This image has no result. That is not the same as “no anomalies”.")
    says(page, "is not in sim:simulator.json")
    before = room.latest()["id"]
    with page.expect_response("**/v1/detect*"):
        page.get_by_role("button", name="Try again").click()
    says(page, "The model's server gave no usable answer")
    assert room.latest()["id"] != before


def test_an_image_is_pasted_and_whatever_is_no_image_is_not_taken(room: Room) -> None:
    page = room.open()
    paste = """([text, type, name]) => {
      const data = new DataTransfer();
      const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
      if (name) data.items.add(new File([bytes], name, { type }));
      else data.setData(type, "https://example.org/a.png");
      document.body.dispatchEvent(new ClipboardEvent("paste", { clipboardData: data, bubbles: true }));
      return data;
    }"""
    page.evaluate(paste, ["", "text/plain", ""])
    noted(page, "There is no image in the clipboard")
    link = page.evaluate_handle(paste, ["", "text/uri-list", ""])
    page.dispatch_event("main", "drop", {"dataTransfer": link})
    noted(page, "That was a link, not a file. Save the image first")
    assert page.locator("#entries li").count() == 0
    page.evaluate(paste, [base64.b64encode(room.image(7).read_bytes()).decode(), "image/png", "image.png"])
    says(page, "4 anomalies")


def test_what_cannot_be_sent_waits_and_is_sent_later(room: Room) -> None:
    page = room.open()
    says(page, "Model: sim:simulator.json", "#service")
    page.context.set_offline(True)
    drop(page, room.image(0))
    says(page, "The service cannot be reached")
    page.context.set_offline(False)
    says(page, "4 anomalies")
    answers: list[dict[str, Any]] = [
        {"status": 503, "headers": {"Retry-After": "0"}, "body": '{"error": "500 images are waiting already"}'},
        {"status": 502, "headers": {"Retry-After": "0"}, "body": "<html>bad gateway</html>"},
        {"status": 402, "body": '{"error": "this token may use $5 in all"}'},
    ]

    def refuse(route: Route) -> None:
        if answers:
            route.fulfill(**answers.pop(0))
        else:
            route.continue_()

    page.route("**/v1/detect*", refuse)
    drop(page, room.image(1))
    says(page, "this token may use $5 in all. The images wait in this browser.", "#banner")
    line(page, "p001.png", "Waits to be sent")
    page.click("#banner button")
    says(page, "4 anomalies")
    page.locator("#banner").wait_for(state="hidden")


def test_somebody_signs_in_with_a_token_and_out_again(images: Path, tmp_path: Path, browser: Browser) -> None:
    ada = Client(name="ada", sha256=hashed("ada's token"), max_tokens=1_000_000)
    with opened(images, tmp_path, browser, clients=Clients.of([ada])) as room:
        room.model.let(EVERY)
        page = room.open()
        says(page, "You are signed out", "#banner")
        drop(page, room.image(0))
        line(page, "p000.png", "Waits to be sent")
        page.fill("#token", "another's token")
        page.keyboard.press("Enter")
        says(page, "This token is not known here", "#enter")
        page.fill("#token", "ada's token")
        page.keyboard.press("Enter")
        says(page, re.compile(r"ada · [\d,]+ tokens left"), "#service")
        line(page, "p000.png", "4 anomalies")
        page.click("text=Sign out")
        says(page, "You are signed out", "#banner")


def test_no_text_does_anything(room: Room) -> None:
    page = room.open()
    name = "<img src=x onerror=alert(3)>.png"
    page.set_input_files("#files", {"name": name, "mimeType": "image/png", "buffer": room.image(3).read_bytes()})
    says(page, re.compile(r"\d anomal"))
    shown = page.locator(".finding").first.inner_text()
    assert shown.count(PAYLOAD.replace("\u202e", "\ufffd")) == 3
    assert page.locator("#shown h1").inner_text() == name
    assert page.locator("main img, main script").count() == 0


def serious(page: Page) -> list[tuple[str, str]]:
    """What axe finds: rule and element; in the dark of the contrast alone."""
    page.emulate_media(color_scheme="light", reduced_motion="reduce")
    violations = page.evaluate("axe.run().then(({violations}) => violations)")
    page.emulate_media(color_scheme="dark")
    violations += page.evaluate("axe.run({runOnly: ['color-contrast']}).then(({violations}) => violations)")
    worst = [each for each in violations if each["impact"] in ("serious", "critical")]
    return [(each["id"], node["html"]) for each in worst for node in each["nodes"]]


def test_nothing_serious_for_people_with_disabilities(held: Room) -> None:
    page = held.open()
    says(page, "Model: sim:simulator.json", "#service")
    page.evaluate(AXE.read_text(encoding="utf-8"))
    assert serious(page) == []
    drop(page, held.image(0))
    says(page, "0 of about")
    assert serious(page) == []
    held.model.let(EVERY)
    says(page, "4 anomalies")
    page.locator(".badge").first.focus()
    assert serious(page) == []
    page.set_input_files("#files", {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF"})
    says(page, "This file was not taken")
    page.click("text=Remove all")
    assert serious(page) == []


def test_a_phone_shows_all_and_takes_taps(room: Room) -> None:
    page = room.open(viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    for name in ("Choose images", "Take a photo"):
        box = page.get_by_role("button", name=name).bounding_box()
        assert box, name
        assert box["height"] >= 40, name
    with page.expect_file_chooser() as chooser:
        page.tap("text=Choose images")
    chooser.value.set_files(room.image(6))
    says(page, "4 anomalies")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.tap(".badge >> nth=0")
    says(page, "Six fingers", ".finding.lit")
