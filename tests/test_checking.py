"""Facts about the check of a model: what its server does is told rightly, whatever it lacks."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anomreason.anomaly import Usage
from anomreason.checking import ModelCheck, check
from anomreason.cli.check import lines
from anomreason.detector import DetectOptions, set_up
from anomreason.errors import EndpointError, UsageError
from anomreason.images import Encoded
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.vlm.endpoint.presets import presets
from anomreason.vlm.probes import QUESTION
from anomreason.vlm.protocol import Reply, Request, Sampling
from anomreason.vlm.simulator.model import Simulator

RED, BLUE, YELLOW = (255, 0, 0), (0, 0, 255), (255, 255, 0)


@dataclass
class Model:
    """A model that truly looks at the pixels it gets, on a server with these habits."""

    schemas: str = "kept"
    sees: bool = True
    boxes: str = "thousandths"
    counts: bool = True
    one_at_a_time: bool = False
    logprobs: bool = True
    thinks: str = "none"
    name: str = "llava"
    bounds_pixels: bool = False
    remote: bool = True
    clock: float = 0.0
    """Seconds that its calls took, one after another or together."""
    _door: asyncio.Lock = field(default_factory=asyncio.Lock)

    async def ask(self, request: Request) -> Reply:
        if request.schema is not None and self.schemas == "refused":
            # As the client does: it learns, and asks the same without.
            self.schemas = "taken out"
            raise EndpointError("adjusted", "m refuses response_format, asking without response_format from now on")
        async with self._door if self.one_at_a_time else asyncio.Lock():
            begun = self.clock
            for _ in range(50):  # all calls that were sent together begin
                await asyncio.sleep(0)
            self.clock = max(self.clock, begun + 0.03)
        image = next((part for part in request.parts if isinstance(part, Encoded)), None)
        text = self._said(request, image if self.sees else None)
        thought = "<think>" + "Let me look closely. " * 20 + "</think>\n" if self.thinks == "aloud" else ""
        tokens = len(text) // 4 + (900 if self.thinks == "hidden" else 0)
        prompt = sum(len(p) // 4 for p in request.parts if isinstance(p, str)) + (800 if image and self.sees else 0)
        usage = Usage(calls=1, prompt_tokens=prompt, completion_tokens=tokens, estimated=not self.counts)
        given = {text: -0.1, "no": -3.0} if request.sampling.logprobs and self.logprobs else {}
        return Reply(thought + text, "stop", usage, self.name, given)

    def _said(self, request: Request, image: Encoded | None) -> str:
        words = "\n".join(part for part in request.parts if isinstance(part, str))
        if words == QUESTION:
            return "947, green, purple" if image else "I cannot see any image. Please provide the image."
        if "capital" in words:
            return '{"city": "Paris", "letters": 5}' if self.schemas == "kept" else "The capital of France is Paris."
        if "rectangles" in words:
            return json.dumps({"objects": self._places(image)}) if image else "There is no image."
        return "yes" if "snow" in words else "forty-two"

    def _places(self, image: Encoded) -> list[dict[str, Any]]:
        """From the pixels alone."""
        pixels = np.asarray(Image.open(BytesIO(image.data)).convert("RGB"))
        height, width, _ = pixels.shape
        found = []
        for name, colour in (("red", RED), ("blue", BLUE), ("yellow", YELLOW)):
            rows, columns = np.nonzero((pixels == colour).all(axis=-1))
            box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
            units = {"pixels": (1, 1), "thousandths": (1000 / width, 1000 / height), "wrong": (3 / width, 999 / height)}
            across, down = units[self.boxes.removeprefix("yxyx-")]
            box = [round(float(v) * by) for v, by in zip(box, (across, down) * 2, strict=True)]
            if self.boxes.startswith("yxyx-"):
                box = [box[1], box[0], box[3], box[2]]
            found.append({"name": f"{name} rectangle", "box": box})
        return found

    async def close(self) -> None:
        """Nothing is held open."""


def found(model: Any, **options: Any) -> ModelCheck:
    clock = (lambda: model.clock) if isinstance(model, Model) else time.monotonic
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("anomreason.checking.time", SimpleNamespace(monotonic=clock))
        return asyncio.run(check(set_up(model, DetectOptions(**options))))


def test_a_model_and_server_without_faults_are_told_as_such() -> None:
    told = found(Model())
    assert (told.sees, told.schemas, told.logprobs, told.counts_tokens) == (True, "kept", True, True)
    assert (told.boxes, told.boxes_unaided, told.thinking) == ("thousandths", True, "none")
    assert told.usable
    assert told.failed == {}
    assert [line for line in told.advice if not line.startswith("--max-tokens instead of --max-cost")] == []
    assert set(told.costs) == {"single", "lean", "paper", "release"}
    assert told.used.calls == 22


@pytest.mark.parametrize("use", ["ignored", "refused"])
def test_a_server_without_schemas(use: str) -> None:
    assert found(Model(schemas=use)).schemas == use


@pytest.mark.parametrize("counts", [True, False])
def test_a_server_that_drops_images(counts: bool) -> None:
    told = found(Model(sees=False, counts=counts))
    assert told.sees is False
    assert not told.usable
    assert "Do not use it for images" in told.advice[0]
    assert any(line.startswith("images    NOT SEEN") for line in lines(told))


@pytest.mark.parametrize(
    ("boxes", "name", "unaided"),
    [
        ("pixels", "llava", False),
        ("thousandths", "llava", True),
        ("thousandths", "a-model-of-no-known-family", False),
        ("yxyx-thousandths", "gemini-2.5-pro", True),
        ("yxyx-thousandths", "llava", False),
    ],
)
def test_how_boxes_are_written(boxes: str, name: str, unaided: bool) -> None:
    told = found(Model(boxes=boxes, name=name))
    assert (told.boxes, told.boxes_unaided) == (boxes, unaided)
    assert any(line.startswith(f"--boxes {boxes}") for line in told.advice) == (not unaided)


def test_boxes_that_lie_nowhere_right_are_told() -> None:
    told = found(Model(boxes="wrong"))
    assert (told.boxes, told.boxes_unaided) == (None, False)
    assert any("wrong under every convention" in line for line in lines(told))


def test_a_server_that_counts_no_tokens() -> None:
    told = found(Model(counts=False))
    assert told.counts_tokens is False
    assert "--max-tokens counts estimates, since the server counts none." in told.advice


@pytest.mark.parametrize("one_at_a_time", [True, False])
def test_how_many_calls_are_answered_at_once(one_at_a_time: bool) -> None:
    told = found(Model(one_at_a_time=one_at_a_time))
    assert told.at_once is not None
    assert (told.at_once < 1.5) == one_at_a_time
    assert any(line.startswith("--in-flight 1") for line in told.advice) == one_at_a_time


@pytest.mark.parametrize("thinks", ["none", "aloud", "hidden"])
def test_thinking_is_seen_in_the_reply_or_in_the_count_of_its_tokens(thinks: str) -> None:
    told = found(Model(thinks=thinks))
    assert told.thinking == thinks
    assert any(line.startswith("--max-reply-tokens 8192") for line in told.advice) == (thinks != "none")
    assert told.boxes == "thousandths"


def test_a_server_without_log_probabilities() -> None:
    assert found(Model(logprobs=False)).logprobs is False


def test_another_model_that_answers_is_named() -> None:
    class Other(Model):
        async def ask(self, request: Request) -> Reply:
            reply = await super().ask(request)
            return Reply(reply.text, reply.finish, reply.usage, "tiny-llava", reply.logprobs)

    assert any("Another model answers, tiny-llava" in line for line in found(Other(name="gpt-4o")).advice)


def test_a_server_that_is_not_there_is_one_clear_line() -> None:
    told = found("x", base_urls=("http://127.0.0.1:9/v1",), patience=0.0)
    assert not told.usable
    (line,) = lines(told)
    assert line.startswith("x gives no answer: ")
    assert "is it running?" in line


def test_a_server_of_a_preset_that_is_not_there_is_named_as_the_user_did(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = presets()["ollama"].model_copy(update={"base_url": "http://127.0.0.1:9/v1"})
    monkeypatch.setitem(presets(), "ollama", closed)
    told = found("ollama:x", patience=0.0)
    (line,) = lines(told, "ollama:x")
    assert line.startswith("ollama:x gives no answer: ")
    assert "is Ollama running?" in line


def test_the_simulator_answers_all_questions(tmp_path: Path) -> None:
    make_scenes(tmp_path, SceneSettings(n=2), jobs=1)
    told = found(Simulator.from_file(tmp_path / "simulator.json"))
    assert (told.sees, told.schemas, told.boxes, told.logprobs) == (True, "kept", "thousandths", True)
    assert (told.counts_tokens, told.thinking, told.failed) == (True, "none", {})


def test_a_simulator_gets_no_advice_and_no_speed(tmp_path: Path) -> None:
    make_scenes(tmp_path, SceneSettings(n=2), jobs=1)
    told = found(f"sim:{tmp_path / 'simulator.json'}")
    text = "\n".join(lines(told))
    assert "simulator.json, simulated" in text
    assert not any(word in text for word in ("speed", "at once", "Another model", "--in-flight"))


def test_a_detector_that_was_trained_on_one_question_is_not_asked_others() -> None:
    with pytest.raises(UsageError, match="trained on one question only"):
        found("tiny")


def test_the_questions_are_the_same_each_time() -> None:
    from anomreason.vlm import probes

    for make in (probes.control_request, probes.boxes_request, probes.schema_request, probes.word_request):
        assert make(99) == make(99)
        assert make(99).sampling == Sampling(max_tokens=99, logprobs=make is probes.word_request)
    shown = probes.boxes_request(99).parts[0]
    assert isinstance(shown, Encoded)
    assert base64.b64decode(shown.data_url.partition(",")[2]) == shown.data
