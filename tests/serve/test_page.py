"""People drop images in a browser: they see how far each is, what is wrong in it, and what to do when it went wrong."""

from __future__ import annotations

import asyncio
import base64
import io
import json
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from PIL import Image
from tests.serve.visiting import Visited, visiting

from anomreason.serve.clients import Client, Clients
from anomreason.vlm.protocol import Reply, Request
from anomreason.vlm.simulator.model import Simulator
from anomreason.web.tokens import hashed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page, Route

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"
World = Callable[..., Path]
PAYLOAD = "<img src=x onerror=alert(1)>'\"\u202e<script>alert(2)</script>"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


class HeldSimulator(Simulator):
    """A simulator whose calls wait until they are let through."""

    def __init__(self, truth: Path) -> None:
        known = Simulator.from_file(truth)
        super().__init__(known._truth)
        self._passes = threading.Semaphore(0)

    def let(self, calls: int) -> None:
        """Let so many more calls through."""
        self._passes.release(calls)

    async def ask(self, request: Request) -> Reply:
        await asyncio.to_thread(self._passes.acquire)
        return await super().ask(request)


EVERY = 10_000
"""Calls."""


class Room:
    """A service at work, and pages on it."""

    def __init__(self, visited: Visited, model: HeldSimulator, folder: Path, browser: Browser) -> None:
        self.visited, self.model, self.folder, self._browser = visited, model, folder, browser
        self.pages: list[Page] = []
        self.problems: list[str] = []

    def open(self, path: str = "/", before: str = "", **options: Any) -> Page:
        """The page in a browser of its own. before: a script that runs before those of the page."""
        page = self._browser.new_context(**options).new_page()
        page.add_init_script(before)
        self.pages.append(page)
        page.set_default_timeout(15_000)
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", lambda said: self.problems.append(said.text) if "Content Security" in said.text else None)
        page.on("dialog", lambda dialog: (self.problems.append(dialog.message), dialog.dismiss()))
        page.goto(f"{self.visited.client.base_url}{path}")
        return page

    def image(self, number: int) -> Path:
        return self.folder / f"p{number:03}.png"

    def latest(self) -> Any:
        """The job that was sent last."""
        return self.visited.get("/v1/jobs")["jobs"][0]

    def leave(self) -> None:
        """Close the pages. What went wrong in one is an error here."""
        for page in self.pages:
            page.context.close()
        self.pages.clear()
        assert self.problems == []


@contextmanager
def opened(truth: Path, folder: Path, browser: Browser, **options: Any) -> Iterator[Room]:
    """Serves images of which the simulator knows the truth. options: of the service and of detect."""
    model = HeldSimulator(truth)
    with visiting(folder / "jobs", model, **options) as visited:
        room = Room(visited, model, truth.parent, browser)
        try:
            yield room
            room.leave()
        finally:
            model.let(EVERY)


@pytest.fixture(scope="module")
def images(world: World) -> Path:
    """Truth file of nine images, one with payloads for its texts."""
    truth = world(9)
    known = json.loads(truth.read_text())
    for anomaly in known["p003.png"]["anomalies"]:
        anomaly.update(dict.fromkeys(("name", "phenomenon", "reasoning"), PAYLOAD), objects=["cup"])
    truth.write_text(json.dumps(known))
    return truth


@pytest.fixture(scope="module")
def served(images: Path, tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Room]:
    with opened(images, tmp_path_factory.mktemp("served"), browser, upload_bytes=100_000) as room:
        room.model.let(EVERY)
        yield room


@pytest.fixture
def room(served: Room) -> Iterator[Room]:
    """A service that answers at once, the same for many tests."""
    yield served
    served.leave()


@pytest.fixture
def held(images: Path, tmp_path: Path, browser: Browser) -> Iterator[Room]:
    """A service of its own, with one image in work at a time, whose model waits until it is told to answer."""
    with opened(images, tmp_path, browser, in_flight=1) as room:
        yield room


def drop(page: Page, *files: Path) -> None:
    """Drop files on the page."""
    sent = [(file.name, base64.b64encode(file.read_bytes()).decode()) for file in files]
    data = page.evaluate_handle(
        """files => {
          const data = new DataTransfer();
          for (const [name, text] of files) {
            const bytes = Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
            data.items.add(new File([bytes], name, { type: name.endsWith(".png") ? "image/png" : "" }));
          }
          return data;
        }""",
        sent,
    )
    page.dispatch_event("main", "dragenter", {"dataTransfer": data})
    page.dispatch_event("main", "drop", {"dataTransfer": data})


def says(page: Page, text: str | re.Pattern[str], where: str = "#shown") -> None:
    """Wait until a part of the page says something."""
    page.locator(where, has_text=text).wait_for()


def line(page: Page, name: str, text: str | re.Pattern[str] = "") -> Any:
    """The line of an image in the list, once it says something."""
    found = page.locator("#entries li", has_text=name).filter(has_text=text)
    found.wait_for()
    return found


def test_an_image_is_dropped_and_what_is_wrong_in_it_is_shown(held: Room) -> None:
    page = held.open(permissions=["clipboard-read", "clipboard-write"])
    says(page, "SIMULATED", "#simulated")
    drop(page, held.image(0))
    page.wait_for_selector("#entries canvas.drawn")
    page.wait_for_selector("#shown .stage canvas")
    says(page, re.compile(r"Looking for objects.*0 of about \d+ calls"))
    held.model.let(1)
    says(page, re.compile(r"1 of about \d+ calls"))
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
    says(page, "Copied", "#note")
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
    page.wait_for_selector(".badge")
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


def test_what_is_dropped_while_the_page_looks_through_its_list_is_sent(room: Room) -> None:
    page = room.open(before=SLOW)
    page.wait_for_function("() => window.begun > 1")
    drop(page, room.image(4))
    page.wait_for_function("() => window.released > 0")
    drop(page, room.image(5))
    line(page, "p004.png", "4 anomalies")
    line(page, "p005.png")


SLOW = """
    window.begun = window.released = 0;
    const later = () => new Promise((resolve) => setTimeout(resolve, 300));
    const getAll = IDBObjectStore.prototype.getAll;
    IDBObjectStore.prototype.getAll = function () {  // its answer comes late
      window.begun += 1;
      const request = getAll.call(this), late = {};
      request.onsuccess = () => later().then(() => { late.result = request.result; late.onsuccess?.(); });
      return late;
    };
    const lock = LockManager.prototype.request;
    LockManager.prototype.request = async function (...of) {  // it is told late that it was let go
      const given = await lock.apply(this, of);
      window.released += 1;
      await later();
      return given;
    };
"""
"""A browser under load."""


def test_the_list_is_of_this_browser_and_can_be_emptied(room: Room) -> None:
    page = room.open()
    drop(page, room.image(4), room.image(5))
    line(page, "p005.png", "No anomalies found")
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
    says(page, "There is no image in the clipboard", "#note")
    link = page.evaluate_handle(paste, ["", "text/uri-list", ""])
    page.dispatch_event("main", "drop", {"dataTransfer": link})
    says(page, "That was a link, not a file. Save the image first", "#note")
    assert page.locator("#entries li").count() == 0
    page.evaluate(paste, [base64.b64encode(room.image(7).read_bytes()).decode(), "image/png", "image.png"])
    says(page, "4 anomalies")


def test_what_cannot_be_sent_waits_and_is_sent_later(room: Room) -> None:
    page = room.open()
    says(page, "lean", "#service")
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
    says(page, "lean", "#service")
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
