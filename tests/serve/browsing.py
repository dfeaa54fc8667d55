"""The page of the service in a real browser, over the real service.

with opened(truth, tmp_path, browser) as room:
    page = room.open()
    drop(page, room.image(0))
"""

from __future__ import annotations

import asyncio
import base64
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tests.chromium import watched
from tests.serve.visiting import Visited, visiting

from anomreason.vlm.protocol import Reply, Request
from anomreason.vlm.simulator.model import Simulator

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PAYLOAD = "<img src=x onerror=alert(1)>'\"\u202e<script>alert(2)</script>"


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
        return self.beside(self._browser.new_context(**options), path, before)

    def beside(self, context: BrowserContext, path: str = "/", before: str = "") -> Page:
        """The page in another tab of a browser."""
        page = watched(context.new_page())
        page.add_init_script(before)
        self.pages.append(page)
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
