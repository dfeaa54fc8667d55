"""Services to which people send images in browsers."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.serve.browsing import EVERY, PAYLOAD, Room, opened

if TYPE_CHECKING:
    from playwright.sync_api import Browser

World = Callable[..., Path]


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
def quick(images: Path, tmp_path_factory: pytest.TempPathFactory, browser: Browser) -> Iterator[Room]:
    with opened(images, tmp_path_factory.mktemp("served"), browser, upload_bytes=100_000) as room:
        room.model.let(EVERY)
        yield room


@pytest.fixture
def room(quick: Room) -> Iterator[Room]:
    """A service that answers at once, the same for many tests."""
    yield quick
    quick.leave()


@pytest.fixture
def held(images: Path, tmp_path: Path, browser: Browser) -> Iterator[Room]:
    """A service of its own, with one image in work at a time, whose model waits until it is told to answer."""
    with opened(images, tmp_path, browser, in_flight=1) as room:
        yield room
