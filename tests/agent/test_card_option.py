"""A detector behind a server is asked as its card says, once the card is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from anomreason import AnomreasonError, Usage, detect
from anomreason.vlm.card import CARD_NAME, DetectorCard
from anomreason.vlm.protocol import Reply, Request


class Server:
    """Plays a fine-tuned detector; keeps what it was asked."""

    name, bounds_pixels = "served", False

    def __init__(self) -> None:
        self.asked: list[Request] = []

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request)
        return Reply("I do not know this.", "stop", Usage(calls=1), "served")

    async def close(self) -> None:
        pass


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    return tmp_path / "a.png"


def test_prompt_form_and_reply_are_the_cards(tmp_path: Path, picture: Path) -> None:
    card = DetectorCard(prompt="What is odd?", out_of_domain="I do not know this.")
    (tmp_path / CARD_NAME).write_text(card.model_dump_json(), encoding="utf-8")
    server = Server()
    found = detect(picture, model=server, card=tmp_path)
    assert [request.parts[1] for request in server.asked] == ["What is odd?"]
    assert server.asked[0].schema is None
    assert found.status == "ok"
    assert found.out_of_domain


def test_another_card_is_another_run(tmp_path: Path, picture: Path) -> None:
    for number in (1, 2):
        (tmp_path / CARD_NAME).write_text(DetectorCard(prompt=f"Odd {number}?").model_dump_json(), encoding="utf-8")
        if number == 1:
            detect([str(picture)], model=Server(), card=tmp_path, run=tmp_path / "run")
    with pytest.raises(AnomreasonError, match="card"):
        detect([str(picture)], model=Server(), card=tmp_path, run=tmp_path / "run")


def test_a_folder_without_a_card_and_another_schedule_are_refused(tmp_path: Path, picture: Path) -> None:
    with pytest.raises(AnomreasonError, match=CARD_NAME):
        detect(picture, model=Server(), card=tmp_path)
    (tmp_path / CARD_NAME).write_text(DetectorCard(prompt="Odd?").model_dump_json(), encoding="utf-8")
    with pytest.raises(AnomreasonError, match="single"):
        detect(picture, model=Server(), card=tmp_path, schedule="lean")
