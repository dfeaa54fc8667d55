"""The system's Chromium, for tests of pages.

page = watched(context.new_page())
noted(page, "Copied")
"""

from __future__ import annotations

import re
import shutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import APIResponse, Page, Route

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
PATIENCE = 90_000
"""Milliseconds that a test waits for what must come: it costs nothing when it comes, however slow the machine is."""
WATCH = """
    window.notes = [];  // what was shown for a moment
    let shown = null;
    new MutationObserver(() => {
      const note = document.getElementById("note");
      const now = note?.checkVisibility() ? note.textContent : null;
      if (now && now !== shown) window.notes.push(now);
      shown = now;
    }).observe(document, { subtree: true, childList: true, characterData: true, attributes: true });

    window.answers = [];  // paths of answers with which the page is done
    for (const way of ["text", "json"]) {
      const read = Response.prototype[way];
      Response.prototype[way] = function () {
        const told = () => setTimeout(() => window.answers.push(new URL(this.url).pathname));
        const reading = read.call(this);
        reading.then(told, told);
        return reading;
      };
    }
"""


def watched(page: Page) -> Page:
    """A new page that remembers what its scripts did."""
    page.set_default_timeout(PATIENCE)
    page.add_init_script(WATCH)
    return page


def noted(page: Page, text: str) -> None:
    """Wait until a note says something that no earlier call has waited for, even if it is gone again by now."""
    page.wait_for_function(
        """text => {
          const place = window.notes.findIndex((note) => note.includes(text));
          return place >= 0 && Boolean(window.notes.splice(0, place + 1));
        }""",
        arg=text,
    )


def answered(page: Page, path: str, count: int = 1) -> None:
    """Wait until the page has read so many answers of a path, and did what it does with them."""
    page.wait_for_function(
        "([path, count]) => window.answers.filter((each) => each === path).length >= count", arg=[path, count]
    )


class Kept:
    """The first requests of a page, kept back until they are let through."""

    def __init__(self, page: Page, pattern: str | re.Pattern[str], most: int = 1, ask: bool = False) -> None:
        """ask: the service is asked at once, and its answer is kept back."""
        self._page, self._left, self._ask = page, most, ask
        self._routes: list[tuple[Route, APIResponse | None]] = []
        page.route(pattern, self._keep)

    def _keep(self, route: Route) -> None:
        self._left -= 1
        if self._left < 0:
            route.continue_()
        else:
            self._routes.append((route, route.fetch() if self._ask else None))

    def __len__(self) -> int:
        return len(self._routes)

    def wait(self, count: int = 1) -> None:
        """Until so many are there."""
        for _ in range(PATIENCE // 10):
            if len(self) >= count:
                return
            self._page.wait_for_timeout(10)
        raise AssertionError(f"{len(self)} of {count} requests came")

    def let(self, most: int | None = None) -> None:
        """Let the first of them through."""
        passing, self._routes = self._routes[:most], self._routes[most:] if most else []
        for route, answer in passing:
            route.fulfill(response=answer) if answer else route.continue_()
