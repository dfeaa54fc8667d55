"""What comes late or out of turn spoils nothing on the review page."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select
from tests.chromium import Kept, answered, noted
from tests.review.browsing import Opening, Room, judge, mine, shown, until

from anomreason.dataset.tables import CandidateRow, DetectionRow, ImageRow, VerdictRow

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

SLOW_IMAGES = """
    const decoded = new Promise((resolve) => (window.decode = resolve));
    const decode = HTMLImageElement.prototype.decode;
    let first = null;
    HTMLImageElement.prototype.decode = function () {  // none but the first
      first ??= this.src;
      return this.src === first ? decode.call(this) : decoded.then(() => decode.call(this));
    };
"""
CURRENT = "article[data-candidate], .entry[aria-current]"


def begun(page: Page) -> int:
    """The candidate that a key would judge, once there is one."""
    page.locator(CURRENT).first.wait_for()
    page.wait_for_selector('article[aria-busy="false"], .entry')
    return int(page.get_attribute(CURRENT, "data-candidate") or 0)


@pytest.mark.parametrize("mode", ["candidates", "images"])
def test_what_is_taken_back_while_the_next_is_fetched_is_judged_again(opened: Opening, mode: str) -> None:
    room = opened(count=1)
    page = room.enter(mode=mode)
    candidate = begun(page)
    nexts = Kept(page, "**/api/next*", most=99)
    page.keyboard.press("a")
    nexts.wait()
    page.keyboard.press("z")
    noted(page, "Taken back")
    page.wait_for_selector('article[aria-busy="false"], .entry:not(.judged)')
    known = page.evaluate("window.answers.filter((path) => path === '/api/next').length")
    nexts.let(1)
    answered(page, "/api/next", known + 1)
    page.keyboard.press("x")
    until(room, select(VerdictRow.id).where(VerdictRow.choice == "reject", VerdictRow.candidate_id == candidate))


@pytest.mark.parametrize("mode", ["candidates", "images", "groups"])
def test_a_verdict_that_is_taken_back_late_does_not_come_under_what_is_written(room: Room, mode: str) -> None:
    page = room.enter()
    first = judge(page, "a")
    mine(page, 1)
    page.goto(f"{room.at}/#{mode}")
    page.reload()
    candidate = begun(page)
    undo = Kept(page, "**/api/undo")
    page.keyboard.press("z")
    undo.wait()
    page.keyboard.press("e")
    page.locator("form.editor").wait_for()
    undo.let()
    noted(page, "Taken back")
    page.fill("[name=name]", "Corrected")
    page.select_option("[name=reason]", "wording")
    page.press("[name=name]", "Control+Enter")
    edited = until(room, select(VerdictRow.candidate_id, VerdictRow.reason).where(VerdictRow.edit.is_not(None)))
    assert edited == [(candidate, "wording")]
    assert candidate != first
    if mode == "candidates":
        assert shown(page, other_than=candidate) == first


def test_an_image_that_comes_late_does_not_hide_the_one_on_the_screen(room: Room) -> None:
    each_its_image(room)
    context = room.context()
    context.add_init_script(SLOW_IMAGES)
    page = room.enter_in(context)
    shown(page)
    page.evaluate(
        """async () => {
          for (const code of ["KeyA", "KeyZ"]) {
            document.body.dispatchEvent(new KeyboardEvent("keydown", { code, bubbles: true }));
          }
          await new Promise((resolve) => setTimeout(resolve, 100));
        }"""
    )
    assert page.locator(".stage .missing").count() == 0
    assert page.locator(".stage img").is_visible()


def each_its_image(room: Room) -> None:
    """Put the first candidates on images of their own."""
    with room.review.store.writing() as session:
        images = session.scalars(select(ImageRow.id)).all()
        candidates = session.scalars(select(CandidateRow).order_by(CandidateRow.id).limit(len(images))).all()
        for row, image in zip(candidates, images, strict=True):
            row.number, row.image_id = 100 + row.id, image


def test_who_is_signed_out_while_the_last_verdict_is_sent_is_told(opened: Opening) -> None:
    page = opened(count=1).enter()
    shown(page)
    sent: list[Route] = []
    page.route("**/api/verdict", lambda route: sent.append(route))
    page.keyboard.press("a")
    page.wait_for_selector('.state[data-state="sending"]')
    sent[0].fulfill(status=401, json={"error": "open your link again"})
    page.wait_for_selector('.state[data-state="ended"]')


def test_a_click_on_an_image_that_is_done_does_not_skip_the_next(room: Room) -> None:
    page = room.enter()
    images = page.request.get(f"{room.at}/api/images?mode=annotate&count=3&have=").json()["images"]
    page.add_init_script(SLOW_IMAGES)
    page.goto(f"{room.at}/#annotate")
    page.reload()
    page.get_by_role("button", name="Nothing is wrong: next image").dblclick()
    page.evaluate("window.decode()")
    page.wait_for_selector(f'.stage img:not([src="{images[0]["src"]}"])')
    assert page.get_attribute(".stage img", "src") == images[1]["src"]
    done = until(room, select(DetectionRow.image_id).where(DetectionRow.detector == "ada"))
    assert done == [(images[0]["image"],)]


def test_an_answer_for_a_mode_that_was_left_starts_nothing_anew(room: Room) -> None:
    page = room.enter()
    first = shown(page)
    answered(page, "/api/next", 2)
    nexts = Kept(page, "**/api/next*", most=99)
    for count in (1, 2):
        page.click("#modes a:text-is('Keep or drop')")
        page.locator("text=Does this image belong").wait_for()
        page.click("#modes a:text-is('Candidates')")
        nexts.wait(count)
    nexts.let(1)
    answered(page, "/api/next", 3)
    page.evaluate("new Promise((resolve) => setTimeout(resolve, 100))")
    assert len(nexts) == 1, "one question at a time"
    nexts.let(1)
    assert shown(page) == first
