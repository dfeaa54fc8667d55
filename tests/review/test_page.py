"""People review in a browser: every key does what it says, nothing is lost, and no text does anything."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import select, update
from tests.review.browsing import entered, judge, mine, rows, scene_review, served, shown

from anomreason.dataset.tables import CandidateRow, VerdictRow
from anomreason.review.reviewing import Review

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")
AXE = Path(__file__).parents[1] / "data" / "axe" / "axe.min.js"
SCENES = 8


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright: pip install playwright")
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("drawn") / "scenes"


class Room:
    """One review, served, and people's browsers on it."""

    def __init__(self, review: Review, at: str, browser: Browser, stack: ExitStack) -> None:
        self.review, self.at, self.browser, self.stack = review, at, browser, stack

    def context(self, **options: Any) -> BrowserContext:
        context = self.browser.new_context(**options)
        self.stack.callback(context.close)
        return context

    def enter(self, person: str = "ada", mode: str = "candidates", **options: Any) -> Page:
        return entered(self.context(**options), self.at, self.review, person, mode)

    def verdicts(self) -> list[tuple[int, str, str | None]]:
        query = select(VerdictRow.candidate_id, VerdictRow.choice, VerdictRow.reason).order_by(VerdictRow.id)
        return [tuple(row) for row in rows(self.review, query)]


@pytest.fixture
def room(tmp_path: Path, browser: Browser, scenes: Path) -> Iterator[Room]:
    with ExitStack() as stack:
        review = stack.enter_context(scene_review(tmp_path / "data", scenes, SCENES))
        yield Room(review, stack.enter_context(served(review)), browser, stack)


def test_candidates_are_judged_by_keyboard(room: Room) -> None:
    page = room.enter()
    keys = ["a", "x", "r", " ", "u", "1", "9", "A", "Numpad2"]
    said = [
        ("accept", None),
        ("reject", None),
        ("reject", None),
        ("unsure", None),
        ("unsure", None),
        ("reject", "not visible"),
        ("reject", "unclear"),
        ("accept", None),
        ("reject", "plausible"),
    ]
    given = [(judge(page, key), *what) for key, what in zip(keys * 2, said * 2, strict=True)]
    mine(page, len(given))
    assert room.verdicts() == given
    assert len({candidate for candidate, *_ in given}) == len(given)
    assert all(0 < seconds < 60 for (seconds,) in rows(room.review, select(VerdictRow.seconds)))
    assert page.problems == []  # type: ignore[attr-defined]
