"""The review page in a real browser, over the real server.

with served(review) as at, browser.new_context() as context:
    page = entered(context, at, review, "ada")
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import uvicorn
from sqlalchemy import select
from tests.chromium import PATIENCE, watched

from anomreason.dataset.store import open_store
from anomreason.dataset.tables import VerdictRow
from anomreason.review.app import create_app
from anomreason.review.people import admit
from anomreason.review.queue import Queue
from anomreason.review.reviewing import Review
from anomreason.review.rounds import RoundOptions, begin_round
from anomreason.review.security import Links
from anomreason.web.serving import address, listening

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserContext, Page

PEOPLE = ("ada", "ben")
PLAIN = RoundOptions()


@contextmanager
def review_of(folder: Path, options: RoundOptions = PLAIN) -> Iterator[Review]:
    """A round over the candidates of a dataset, with people."""
    with open_store(folder) as store, store.command("review", {}) as command:
        queue = Queue(store, begin_round(store, command.id, options), command.id)
        links = Links.of(folder)
        yield Review(store, queue, links, admit(store, command.id, links, PEOPLE), options.name)


@contextmanager
def served(review: Review) -> Iterator[str]:
    """Serve a review on a free port; gives its address."""
    with listening("127.0.0.1", 0) as socket:
        config = uvicorn.Config(create_app(review), log_level="error", lifespan="off", timeout_graceful_shutdown=1)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [socket]}, daemon=True)
        thread.start()
        try:
            yield address(socket)
        finally:
            server.should_exit = True
            thread.join()


def entered(context: BrowserContext, at: str, review: Review, person: str, mode: str = "candidates") -> Page:
    """The page as a person's link opens it. What goes wrong in it is an error here."""
    page = watched(context.new_page())
    page.problems = problems = []  # type: ignore[attr-defined]
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda said: problems.append(said.text) if "Content Security Policy" in said.text else None)
    page.on("dialog", lambda dialog: (problems.append(dialog.message), dialog.dismiss()))
    page.goto(f"{at}/enter/{review.links.token(person)}")
    if mode != "candidates":
        page.goto(f"{at}/#{mode}")
    return page


class Room:
    """One review, served, and people's browsers on it."""

    def __init__(self, review: Review, at: str, browser: Browser, stack: ExitStack) -> None:
        self.review, self.at, self.browser, self.stack = review, at, browser, stack
        self.pages: list[Page] = []

    def context(self, **options: Any) -> BrowserContext:
        context = self.browser.new_context(**options)
        self.stack.callback(context.close)
        return context

    def enter(self, person: str = "ada", mode: str = "candidates", **options: Any) -> Page:
        return self.enter_in(self.context(**options), person, mode)

    def enter_in(self, context: BrowserContext, person: str = "ada", mode: str = "candidates") -> Page:
        page = entered(context, self.at, self.review, person, mode)
        self.pages.append(page)
        return page

    def verdicts(self) -> list[tuple[int, str, str | None]]:
        query = select(VerdictRow.candidate_id, VerdictRow.choice, VerdictRow.reason).order_by(VerdictRow.id)
        return [tuple(row) for row in rows(self.review, query)]


Opening = Callable[..., Room]
"""Opens a room, by options of its round and the number of candidates left."""


def shown(page: Page, other_than: int | None = None) -> int:
    """The candidate on the screen, once it is all there. other_than: the one before."""
    ready = 'article[aria-busy="false"][data-candidate]'
    page.wait_for_selector(ready if other_than is None else f'{ready}:not([data-candidate="{other_than}"])')
    return int(page.get_attribute(ready, "data-candidate") or 0)


def judge(page: Page, key: str) -> int:
    """Judge the candidate on the screen with a key; gives its id, once the next one or the end is there."""
    candidate = shown(page)
    page.keyboard.press(key)
    page.wait_for_selector(
        f'article[aria-busy="false"]:not([data-candidate="{candidate}"]),'
        '.state:not([data-state="sending"]):not([data-state="working"])'
    )
    return candidate


def mine(page: Page, count: int) -> None:
    """Wait until the server has this many verdicts of the person."""
    page.locator("#progress", has_text=re.compile(rf"\b{count} by you")).wait_for()


def rows(review: Review, query: Any) -> list[Any]:
    """What the store answers."""
    with review.store.reading() as session:
        return list(session.execute(query).all())


def until(room: Room, query: Any, count: int = 1) -> list[Any]:
    """The answer of the store, once it has this many rows."""
    page = room.pages[-1]
    for _ in range(PATIENCE // 50):
        if len(found := rows(room.review, query)) >= count:
            return found
        page.wait_for_timeout(50)
    raise AssertionError(f"the store has {found}")
