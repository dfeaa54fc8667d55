"""Rooms in which people review scenes in browsers."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, update
from tests.review.browsing import PLAIN, Opening, Room, review_of, served
from tests.review.scene_round import add_scenes

from anomreason.dataset.store import open_store
from anomreason.dataset.tables import CandidateRow
from anomreason.review.rounds import RoundOptions

if TYPE_CHECKING:
    from playwright.sync_api import Browser

SCENES = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a dataset of scenes; copy it."""
    folder = tmp_path_factory.mktemp("scenes")
    with open_store(folder / "data", create=True) as store:
        add_scenes(store, folder / "scenes", SCENES, size=256)
    return folder / "data"


@pytest.fixture
def opened(tmp_path: Path, browser: Browser, data: Path) -> Iterator[Opening]:
    """Opens a room over a copy of the scenes."""
    with ExitStack() as stack:

        def open_room(options: RoundOptions = PLAIN, count: int | None = None) -> Room:
            """count: how many candidates are left to judge; None: all."""
            folder = shutil.copytree(data, tmp_path / "data")
            if count is not None:
                with open_store(folder) as store, store.writing() as session:
                    first = session.scalars(select(CandidateRow.id).order_by(CandidateRow.id).limit(count))
                    others = update(CandidateRow).where(CandidateRow.id.not_in(first.all()))
                    session.execute(others.values(dropped="for a smaller round"))
            review = stack.enter_context(review_of(folder, options))
            return Room(review, stack.enter_context(served(review)), browser, stack)

        yield open_room


@pytest.fixture
def room(opened: Opening) -> Room:
    return opened()
