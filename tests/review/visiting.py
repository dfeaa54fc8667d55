"""The review application of a small dataset, and people who use it without a browser."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image
from sqlalchemy import select
from starlette.testclient import TestClient
from tests.dataset.planting import Plan, plant

from anomreason.dataset.store import Store
from anomreason.dataset.tables import ImageRow
from anomreason.review.app import create_app
from anomreason.review.people import admit
from anomreason.review.queue import Queue
from anomreason.review.reviewing import Review
from anomreason.review.rounds import RoundOptions, begin_round
from anomreason.review.security import Links

PLAIN = RoundOptions()


@dataclass
class Visit:
    """Requests as one person's page sends them."""

    client: TestClient
    review: Review
    person: str

    def get(self, path: str, status: int = 200) -> Any:
        answer = self.client.get(path, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    def post(self, path: str, status: int = 200, **sent: Any) -> Any:
        answer = self.client.post(path, json=sent, headers=self.headers)
        assert answer.status_code == status, answer.text
        return answer.json()

    @property
    def headers(self) -> dict[str, str]:
        links = self.review.links
        return {"Cookie": f"{links.cookie}={links.token(self.person)}", "X-Anomreason": "1"}

    def judge(self, candidate: int, choice: str = "accept", **more: Any) -> Any:
        sent = {"key": f"{self.person}-{candidate}-{choice}", "candidate": candidate, "choice": choice}
        return self.post("/api/verdict", **{**sent, "seconds": 2.0, **more})


@contextmanager
def visits(
    store: Store, people: Sequence[str] = (), images: int = 4, options: RoundOptions = PLAIN
) -> Iterator[dict[str, Visit]]:
    """A round over three candidates an image; a visit of the owner and one of each person."""
    plant(store, Plan({"flux": images}, prompts=2))
    with _served(store, people, options) as (client, review):
        yield {person: Visit(client, review, person) for person in ("owner", *people)}


@contextmanager
def again(store: Store, options: RoundOptions) -> Iterator[Visit]:
    """Ada's visit to another round of a store that is planted already."""
    with _served(store, ["ada"], options) as (client, review):
        yield Visit(client, review, "ada")


@contextmanager
def _served(store: Store, people: Sequence[str], options: RoundOptions) -> Iterator[tuple[TestClient, Review]]:
    with store.command("review", {}) as command:
        queue = Queue(store, begin_round(store, command.id, options), command.id)
        links = Links.of(store.folder)
        review = Review(store, queue, links, admit(store, command.id, links, people), options.name)
        with TestClient(create_app(review), follow_redirects=False) as client:
            yield client, review


def draw_images(store: Store) -> None:
    """Put a file behind each image: 200 x 100 pixels, the left half red and the right half blue."""
    with store.writing() as session:
        for row in session.scalars(select(ImageRow)):
            pixels = np.zeros((100, 200, 3), np.uint8)
            pixels[:, :100, 0] = pixels[:, 100:, 2] = 255
            pixels[0, 0] = row.id  # each its own
            path = store.path(row.path)
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(path)
            row.sha256, row.width, row.height = hashlib.sha256(path.read_bytes()).hexdigest(), 200, 100
