"""The page of an audit in a real browser, opened from the file system as people open it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from PIL import Image
from tests.audit.studies import by_rates, study
from tests.chromium import PATIENCE

from anomreason.anomaly import Anomaly, Detection
from anomreason.audit.analysis import analyse
from anomreason.audit.page import write_audit_page
from anomreason.audit.study import AuditPrompt

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"
HOSTILE = "</script><img src=x onerror=alert(1)>"
RATES = {"good": 0.3, "bad": 3.0, "fair": 1.0}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Of the page of three generators and thirty prompts, by two assessors of which one finds nothing."""
    folder = tmp_path_factory.mktemp("audit")
    Image.new("RGB", (64, 64), "teal").save(folder / "any.png")
    good = by_rates(RATES, 30)
    made = study(list(RATES), 30, lambda g, p, s: "missing: refused" if (g, p) == ("bad", 3) else good(g, p, s))
    said = dict(made.assessments["judge"])
    hostile = Anomaly(name=HOSTILE, phenomenon=HOSTILE, reasoning=HOSTILE, severity=7)
    said["good/p000-0"] = Detection(image="good/p000-0", detector="d", status="ok", anomalies=(hostile,))
    blind = {key: Detection(image=key, detector="blind", status="ok") for key in said}
    made = replace(
        made,
        prompts=(AuditPrompt(id="p000", text=HOSTILE, tags=("people",)), *made.prompts[1:]),
        images=tuple(image if image.missing else replace(image, path=folder / "any.png") for image in made.images),
        assessments={"judge": said, "blind": blind},
    )
    return write_audit_page(analyse(made), made, folder / "report.html").as_uri()


def opened(browser: Browser, address: str, at: str = "") -> Page:
    """What the page complains of is an error here, its own security policy included."""
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.set_default_timeout(PATIENCE)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("dialog", lambda dialog: complaints.append(dialog.message))
    page.goto(address + at)
    page.complaints = complaints  # type: ignore[attr-defined]
    return page


def closed(page: Page) -> None:
    assert page.complaints == []  # type: ignore[attr-defined]
    page.close()


def test_the_answer_changes_with_metric_and_assessor(browser: Browser, address: str) -> None:
    page = opened(browser, address)
    first = page.locator(".answer:visible li").first
    assert first.inner_text() == "good is the most plausible of 3 generators."
    assert page.locator(".answer:visible").count() == 1
    page.check("#m-mai")
    assert page.locator("h2:visible", has_text="Places by MAI").count() == 1
    assert page.locator("h2:visible", has_text="Places by CAP").count() == 0
    page.check("#a1")
    assert first.inner_text() == "The data hold no order of the 3 generators."
    closed(page)


def test_images_stand_side_by_side_and_open_large_with_everything_that_was_found(
    browser: Browser, address: str
) -> None:
    page = opened(browser, address, "#prompt=p000")
    page.locator(".prompt .shot img").first.wait_for()
    assert page.locator(".prompt").count() == 1
    assert page.locator(".prompt h3 span").inner_text() == HOSTILE
    assert page.locator(".prompt h4").all_inner_texts() == list(RATES)
    shot = page.locator(".shot").first
    assert shot.locator(".cap").inner_text() == f"7 {HOSTILE}"
    shot.click()
    dialog = page.locator("dialog")
    assert dialog.locator(".what").inner_text() == "good · p000 · seed 0"
    assert dialog.locator("article p").first.inner_text() == HOSTILE
    assert dialog.locator("article .chip").first.inner_text() == "severity 7"
    assert "blind: no anomalies found" in dialog.inner_text()
    page.keyboard.press("Escape")
    closed(page)


def test_what_was_not_made_is_said_and_prompts_are_filtered(browser: Browser, address: str) -> None:
    page = opened(browser, address, "#prompt=p003")
    page.locator(".shot.failed").first.wait_for()
    failed = page.locator(".shot.failed").first
    assert (failed.locator(".frame").inner_text(), failed.locator(".cap").inner_text()) == ("no image", "refused")
    page.fill("#find", "prompt 1")
    page.get_by_text("12 of 30 prompts").wait_for()
    page.select_option("#tag", "lettering")
    page.get_by_text("5 of 30 prompts").wait_for()
    page.fill("#find", "no such words")
    page.get_by_text("Nothing matches.").wait_for()
    closed(page)


def test_every_prompt_comes_as_one_scrolls_and_the_worst_images_lead_back_to_their_prompt(
    browser: Browser, address: str
) -> None:
    page = opened(browser, address)
    page.select_option("#seed", "0")
    for _ in range(400):
        page.mouse.wheel(0, 4000)
        if page.locator(".prompt").count() == 30:
            break
        page.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    assert page.locator(".prompt").count() == 30
    page.select_option("#view", "worst")
    page.locator(".under-prompt button").first.wait_for()
    named = page.locator(".prompt h4").first.text_content()  # text of what is not painted yet, too
    page.locator(".under-prompt button").first.click()
    page.get_by_text("1 of 30 prompts").wait_for()
    assert named
    assert page.locator(".prompt h3 b").text_content() == named
    closed(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible_and_fits_a_phone(browser: Browser, address: str, scheme: str) -> None:
    context = browser.new_context(
        viewport={"width": 390, "height": 844}, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce"
    )
    page = context.new_page()
    page.set_default_timeout(PATIENCE)
    page.goto(address + "#prompt=p001")
    page.locator(".shot img").first.wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.add_script_tag(path=AXE)
    found = page.evaluate("axe.run(document, {runOnly: ['wcag2a', 'wcag2aa']})")["violations"]
    assert [(one["id"], [node["html"] for node in one["nodes"]][:3]) for one in found] == []
    context.close()
