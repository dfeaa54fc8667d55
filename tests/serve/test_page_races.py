"""What comes late, out of turn or in another tab spoils nothing on the page of the service."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image
from tests.chromium import Kept, answered
from tests.serve.browsing import EVERY, Room, drop, line, opened, says

from anomreason.serve.clients import Client, Clients
from anomreason.web.tokens import hashed

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

SLOW_DISK = """
    window.slow = false;
    window.reads = 0;
    const getAll = IDBObjectStore.prototype.getAll;
    IDBObjectStore.prototype.getAll = function () {  // what is written later waits until it has read
      const request = getAll.call(this), late = {};
      const read = () => {
        if (window.slow) return (this.count().onsuccess = read);
        late.result = request.result;
        late.onsuccess();
      };
      request.onsuccess = read;
      window.reads += 1;
      return late;
    };
"""
LATE_LOCKS = """
    window.late = true;
    window.released = 0;
    const lock = LockManager.prototype.request;
    LockManager.prototype.request = async function (...of) {  // it is told late that it was let go
      const given = await lock.apply(this, of);
      window.released += 1;
      while (window.late) await new Promise((resolve) => setTimeout(resolve, 10));
      return given;
    };
"""
SENDS_NOTHING = "LockManager.prototype.request = () => new Promise(() => {});"
"""As a tab does while another one sends."""
LARGE_IMAGES = """
    const copied = new Promise((resolve) => (window.copy = resolve));
    const bitmap = window.createImageBitmap;
    window.createImageBitmap = (...of) => copied.then(() => bitmap(...of));
"""
HEARD = """
    window.heard = [];  // what those hear who do not see
    new MutationObserver(() => {
      const text = document.getElementById("live")?.textContent;
      if (text && text !== window.heard.at(-1)) window.heard.push(text);
    }).observe(document, { subtree: true, childList: true });
"""
JOB = re.compile(r"/v1/jobs/[^/]+$")


def look_again(page: Page) -> None:
    """Come back to a tab."""
    page.dispatch_event("html", "visibilitychange")


def names(page: Page) -> list[str]:
    """Of the images on the list."""
    return page.locator("#entries .file").all_inner_texts()


def jobs(room: Room) -> int:
    return len(room.visited.get("/v1/jobs?limit=100")["jobs"])


def test_what_is_dropped_while_the_page_looks_through_its_list_is_sent(room: Room) -> None:
    page = room.open(before=SLOW_DISK + LATE_LOCKS)
    page.wait_for_function("() => window.released > 0")
    drop(page, room.image(4))
    page.evaluate("window.late = false")
    line(page, "p004.png", "4 anomalies")
    reads = page.evaluate("window.slow = true, window.reads")
    look_again(page)
    page.wait_for_function("reads => window.reads > reads", arg=reads)
    drop(page, room.image(5))
    page.evaluate("window.slow = false")
    line(page, "p005.png", "No anomalies found")
    assert names(page) == ["p005.png", "p004.png"]


def test_another_try_is_not_undone_by_what_was_read_before(room: Room, tmp_path: Path) -> None:
    Image.new("RGB", (90, 70), "olive").save(tmp_path / "unknown.png")
    page = room.open(before=SLOW_DISK)
    drop(page, tmp_path / "unknown.png")
    line(page, "unknown.png", "Failed")
    reads = page.evaluate("window.slow = true, window.reads")
    look_again(page)
    page.wait_for_function("reads => window.reads > reads", arg=reads)
    with page.expect_response("**/v1/detect*"):
        page.get_by_role("button", name="Try again").click()
        page.evaluate("window.slow = false")


def test_what_one_tab_sent_the_other_shows(room: Room) -> None:
    first = room.open()
    upload = Kept(first, "**/v1/detect*")
    drop(first, room.image(6))
    upload.wait()
    second = room.beside(first.context, before=SENDS_NOTHING)
    line(second, "p006.png", "Waits to be sent")
    upload.let()
    line(first, "p006.png", "4 anomalies")
    look_again(second)
    line(second, "p006.png", "4 anomalies")


def test_what_a_tab_writes_late_leaves_what_another_wrote(room: Room) -> None:
    first = room.open(before=LARGE_IMAGES)
    upload = Kept(first, "**/v1/detect*")
    drop(first, room.image(6))
    upload.wait()
    second = room.beside(first.context, before=SENDS_NOTHING + LARGE_IMAGES)
    line(second, "p006.png", "Waits to be sent")
    upload.let()
    line(first, "p006.png", "4 anomalies")
    sent = jobs(room)
    second.evaluate("window.copy()")
    second.wait_for_selector("#entries canvas.drawn")
    third = room.beside(first.context)
    line(third, "p006.png", "4 anomalies")
    third.wait_for_selector("#entries canvas.drawn")
    assert jobs(room) == sent


def test_what_one_tab_removed_stays_removed(held: Room) -> None:
    first = held.open()
    drop(first, held.image(0))
    line(first, "p000.png", "0 of")
    second = held.beside(first.context)
    line(second, "p000.png").get_by_role("button", name="Remove p000.png from the list").click()
    second.locator("#list").wait_for(state="hidden")
    held.model.let(EVERY)
    first.locator("#list").wait_for(state="hidden")
    first.locator("#shown").wait_for(state="hidden")
    second.reload()
    says(second, "a hand with six fingers", "#about")
    assert names(second) == []


def test_what_a_closed_tab_did_not_send_another_sends(room: Room) -> None:
    second = room.open()
    answered(second, "/v1/me")
    first = room.beside(second.context)
    first.route("**/v1/detect*", lambda route: route.abort())
    drop(first, room.image(7))
    says(first, "The service cannot be reached")
    first.wait_for_selector("#entries canvas.drawn")
    first.close()
    look_again(second)
    line(second, "p007.png", "4 anomalies")


def test_what_is_dropped_after_the_browser_has_forgotten_the_list_is_sent(room: Room) -> None:
    page = room.open()
    drop(page, room.image(4))
    line(page, "p004.png", "4 anomalies")
    forgotten = {"origin": str(room.visited.client.base_url).rstrip("/"), "storageTypes": "indexeddb"}
    page.context.new_cdp_session(page).send("Storage.clearDataForOrigin", forgotten)
    drop(page, room.image(5))
    line(page, "p005.png", "No anomalies found")
    says(page, "the list ends with this tab", "#kept")


def test_a_late_answer_does_not_undo_the_end_of_a_job(held: Room) -> None:
    page = held.open(before=HEARD)
    stream, answer = Kept(page, "**/events"), Kept(page, JOB, ask=True)
    drop(page, held.image(0))
    answer.wait()
    stream.let()
    held.model.let(EVERY)
    says(page, "4 anomalies")
    answer.let()
    answered(page, f"/v1/jobs/{held.latest()['id']}")
    heard = page.evaluate("window.heard")
    assert heard.index("p000.png: 4 anomalies") == len(heard) - 1, heard


def test_what_is_dropped_while_a_link_is_looked_up_stays_on_the_screen(room: Room) -> None:
    job = room.visited.detect(room.image(4))["id"]
    page = room.open()
    answered(page, "/v1/me")  # it listens to changes of the address by now
    answers = Kept(page, JOB, most=2, ask=True)
    page.evaluate("id => { location.hash = id; }", job)
    answers.wait(2)
    drop(page, room.image(5))
    answers.let()
    answered(page, f"/v1/jobs/{job}", 2)
    says(page, "p005.png", "#shown h1")
    line(page, "p005.png", "No anomalies found")
    assert names(page) == ["p005.png"]


def test_what_is_left_of_a_budget_is_the_latest_answer(images: Path, tmp_path: Path, browser: Browser) -> None:
    ada = Client(name="ada", sha256=hashed("token"), max_tokens=1_000_000)
    with opened(images, tmp_path, browser, clients=Clients.of([ada])) as room:
        room.model.let(EVERY)
        page = room.open("/enter/token")
        says(page, "1,000,000 tokens left", "#service")
        answer = Kept(page, "**/v1/me", ask=True)
        drop(page, room.image(0))
        answer.wait()
        with page.expect_response("**/v1/me"):
            drop(page, room.image(1))
        page.locator("#service", has_text="1,000,000").wait_for(state="hidden")
        left = page.locator("#service").inner_text()
        known = page.evaluate("window.answers.filter((path) => path === '/v1/me').length")
        answer.let()
        answered(page, "/v1/me", known + 1)
        assert page.locator("#service").inner_text() == left


def test_what_there_is_no_room_for_does_not_come_back(room: Room, tmp_path: Path) -> None:
    files = [tmp_path / f"{n:02}.png" for n in range(50)]
    for file in files:
        file.write_bytes(room.image(0).read_bytes())
    page = room.open()
    page.route("**/v1/detect*", lambda route: route.abort())
    drop(page, *files)
    says(page, "The service cannot be reached")
    page.set_input_files("#files", {"name": "a.pdf", "mimeType": "application/pdf", "buffer": b"%PDF"})
    assert names(page) == [file.name for file in files]
    page.wait_for_function("() => document.querySelectorAll('#entries canvas.drawn').length === 50")
    page.reload()
    page.locator("#entries li").first.wait_for()
    assert names(page) == [file.name for file in files]
