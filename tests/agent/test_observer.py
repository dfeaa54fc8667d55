"""Facts about servers that drop images, and about models that answer in the place of others."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason import detect
from anomreason.agent.observer import same_model, sees
from anomreason.anomaly import Detection, Usage
from anomreason.errors import EndpointError, UsageError
from anomreason.images import Encoded
from anomreason.vlm.ledger import read_calls
from anomreason.vlm.probes import CONTROL, NUMBER, control_request
from anomreason.vlm.protocol import Reply, Request

BLIND_GUESS, SEEN = "123, red, blue", f"{NUMBER}, green, purple"


class Server:
    """A server that shows its model the images or not, and counts tokens or not."""

    bounds_pixels = False
    remote = True

    def __init__(self, control: str | None, counts: int | None, name: str = "m", answers_as: str = "m") -> None:
        """control: what it answers to the control question, None: an error. counts: tokens of an image, None: none."""
        self.control, self.counts, self.name, self.answers_as = control, counts, name, answers_as
        self.asked: list[str] = []

    async def ask(self, request: Request) -> Reply:
        self.asked.append(request.tag.step)
        text = json.dumps({"anomalies": [], "no_anomalies": True})
        if request.tag.step == CONTROL:
            if self.control is None:
                raise EndpointError("rejected", "no such step")
            text = self.control
        used = Usage(calls=1, completion_tokens=9, estimated=self.counts is None)
        if self.counts is not None:
            texts = sum(len(p.encode()) for p in request.parts if isinstance(p, str))
            images = sum(isinstance(p, Encoded) for p in request.parts)
            used = used.model_copy(update={"prompt_tokens": int(texts / 4.5) + 12 + self.counts * images})
        return Reply(text, "stop", used, self.answers_as)

    async def close(self) -> None: ...


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.png" for n in range(3)]
    for n, path in enumerate(paths):
        Image.new("RGB", (640, 480), (n, 0, 0)).save(path)
    return paths


def found(images: list[Path], server: Server, **options: Any) -> list[Detection]:
    return detect(images, model=server, schedule="single", in_flight=1, **options)


@pytest.mark.parametrize("counts", [0, None])
@pytest.mark.parametrize("control", [BLIND_GUESS, "I cannot see any image.", "Please upload the image first."])
def test_a_server_that_drops_images_stops_the_run(
    images: list[Path], tmp_path: Path, control: str, counts: int | None
) -> None:
    server = Server(control, counts)
    [only] = found(images, server, run=tmp_path / "run")
    assert (only.status, only.anomalies) == ("failed", ())
    assert only.failure is not None
    assert only.failure.kind == "endpoint"
    assert "does not pass the image on" in only.failure.message
    assert [c.step for c in read_calls(tmp_path / "run")] == ["single", CONTROL]
    again = found(images, server, run=tmp_path / "run")
    assert {d.status for d in again} == {"failed"}
    assert server.asked.count(CONTROL) == 1


@pytest.mark.parametrize(
    ("control", "counts", "asked"),
    [
        (BLIND_GUESS, 400, 0),  # the counts show the image
        (BLIND_GUESS, 130, 1),  # in doubt at first, but the control question's own count shows it
        (SEEN, None, 1),
        (SEEN, 0, 1),
        ("941, green, blue", 0, 1),  # reads badly, but has seen it
        ("Hello! How can I help you?", 0, 1),  # no answer to the question
        ('{"anomalies": []}', None, 1),
        (None, None, 1),
    ],
)
def test_one_weak_sign_alone_never_stops_a_run(
    images: list[Path], control: str | None, counts: int | None, asked: int
) -> None:
    server = Server(control, counts)
    assert [d.status for d in found(images, server)] == ["ok"] * 3
    assert server.asked.count(CONTROL) == asked


def test_the_control_question_can_be_left_out(images: list[Path]) -> None:
    server = Server(BLIND_GUESS, 0)
    assert [d.status for d in found(images, server, control_question=False)] == ["ok"] * 3
    assert CONTROL not in server.asked
    server.remote = False
    assert [d.status for d in found(images, server)] == ["ok"] * 3
    with pytest.raises(UsageError, match=r"control_question.* has no effect"):
        found(images, server, control_question=False)


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        (SEEN, True),
        (f"The number is {NUMBER}.", True),
        ("The left half is green, the right half violet.", True),
        (f"<think>Is it 111, red, blue?</think>{SEEN}", True),
        ("000, white, black", False),
        ('{"number": "123", "left": "red", "right": "blue"}', False),
        ("There is no image attached to your message.", False),
        ("I'm unable to view images.", False),
        ("917, black, white", None),
        ("", None),
    ],
)
def test_what_an_answer_to_the_control_question_shows(text: str, seen: bool | None) -> None:
    assert sees(text) is seen


def test_the_control_question_is_the_same_each_time() -> None:
    assert control_request(9).parts == control_request(9).parts


@pytest.mark.parametrize(
    ("asked", "answered", "same"),
    [
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("openai/gpt-4o", "gpt-4o", True),
        ("Qwen/Qwen2.5-VL-7B-Instruct", "/models/qwen2.5-vl-7b-instruct-q4_k_m.gguf", True),
        ("qwen2.5vl", "qwen2.5vl:7b", True),
        ("mistral-large-latest", "mistral-large-2411", True),
        ("gemini-2.5-pro", "models/gemini-2.5-pro-preview-05-06", True),
        ("m", "", True),
        ("tiny", "local:tiny@787079f2", True),
        ("local:models/base+adapter", "local:models/base+adapter@787079f2", True),
        ("tiny", "local:other@787079f2", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("gpt-4", "gpt-4.1", False),
        ("gpt-4o", "gpt-3.5-turbo-0125", False),
        ("llava:13b", "llava:7b", False),
    ],
)
def test_a_variant_of_a_name_is_the_same_model(asked: str, answered: str, same: bool) -> None:
    assert same_model(asked, answered) is same


def test_another_model_than_the_one_asked_for_is_noted(images: list[Path]) -> None:
    other = found(images[:1], Server(SEEN, 400, "gpt-4o", "gpt-3.5-turbo"))
    assert other[0].notes == ("gpt-3.5-turbo answered, although gpt-4o was asked for",)
    assert found(images[:1], Server(SEEN, 400, "gpt-4o", "gpt-4o-2024-08-06"))[0].notes == ()
