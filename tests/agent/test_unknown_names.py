"""A model whose name tells nothing is asked once a run how it writes boxes; then all of its boxes have a place."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason import detect
from anomreason.anomaly import Detection, Usage
from anomreason.vlm.ledger import read_calls
from anomreason.vlm.probes import BOXES, PLACES, SIZE
from anomreason.vlm.protocol import Reply, Request

WAYS = {
    "thousandths": lambda x0, y0, x1, y1, size: [round(1000 * v) for v in (x0, y0, x1, y1)],
    "yxyx-thousandths": lambda x0, y0, x1, y1, size: [round(1000 * v) for v in (y0, x0, y1, x1)],
    "pixels": lambda x0, y0, x1, y1, size: [round(x0 * size[0]), round(y0 * size[1]), *_far(x1, y1, size)],
}
SENT = (640, 480)
PLACE = (0.125, 0.25, 0.375, 0.75)


def _far(x1: float, y1: float, size: tuple[int, int]) -> list[int]:
    return [round(x1 * size[0]), round(y1 * size[1])]


class Unknown:
    """Names one anomaly; writes all boxes in its own way."""

    bounds_pixels = False
    remote = True

    def __init__(self, way: str, name: str = "our-finetune", knows: bool = True) -> None:
        """knows: whether it can say where the rectangles are."""
        self.way, self.name, self.knows = way, name, knows
        self.asked: list[str] = []

    def box(self, place: tuple[float, float, float, float], size: tuple[int, int]) -> list[int]:
        return WAYS[self.way](*place, size)

    async def ask(self, request: Request) -> Reply:
        step = request.tag.step
        self.asked.append(step)
        here = self.box(PLACE, SENT)
        said = {"name": "Six fingers", "phenomenon": "The hand has six.", "reasoning": "Hands have five.", "box": here}
        answers: dict[str, Any] = {
            BOXES: {"objects": [self.rectangle(name) for name in (PLACES if self.knows else ())]},
            "single": {"anomalies": [said | {"severity": 10}], "no_anomalies": False},
            "objects-1": {"objects": [{"name": "hand", "description": "A hand.", "box": here}]},
            "inspect": {"objects": [{"object": "hand", "findings": []}]},
            "look-again": {"checks": [], "anomalies": [], "no_anomalies": True},
        }
        used = Usage(calls=1, prompt_tokens=3000, completion_tokens=9)
        return Reply(json.dumps(answers[step]), "stop", used, self.name)

    def rectangle(self, name: str) -> dict[str, Any]:
        (x0, y0, x1, y1), (width, height) = PLACES[name], SIZE
        return {"name": name, "box": self.box((x0 / width, y0 / height, x1 / width, y1 / height), SIZE)}

    async def close(self) -> None: ...


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / f"{n}.png" for n in range(2)]
    for n, path in enumerate(paths):
        Image.new("RGB", SENT, (n, 0, 0)).save(path)
    return paths


def found(images: list[Path], model: Unknown, **options: Any) -> list[Detection]:
    return detect(images, model=model, schedule="single", in_flight=1, **options)


@pytest.mark.parametrize("way", WAYS)
def test_its_boxes_are_placed_after_one_question_a_run(images: list[Path], way: str) -> None:
    model = Unknown(way)
    for detection in found(images, model):
        assert detection.boxes == way
        assert detection.anomalies[0].region is not None
        assert detection.anomalies[0].region.box == pytest.approx(PLACE, abs=0.002)
        assert detection.notes == ()
    assert model.asked == ["single", BOXES, "single"]


def test_objects_are_placed_before_anything_is_asked_about_them(images: list[Path]) -> None:
    model = Unknown("yxyx-thousandths")
    [detection] = detect(images[:1], model=model, schedule="lean")
    assert detection.status == "ok", detection.failure
    assert detection.objects[0].region is not None
    assert detection.objects[0].region.box == pytest.approx(PLACE, abs=0.002)
    assert model.asked[:2] == ["objects-1", BOXES]


def test_the_answer_is_kept_with_the_run(images: list[Path], tmp_path: Path) -> None:
    found(images[:1], Unknown("pixels"), run=tmp_path / "run")
    again = Unknown("pixels")
    found(images, again, run=tmp_path / "run")
    assert again.asked == ["single"]
    assert [call.step for call in read_calls(tmp_path / "run")].count(BOXES) == 1


@pytest.mark.parametrize("way", ["known", "said", "left out"])
def test_it_is_not_asked_where_that_would_tell_nothing(images: list[Path], way: str) -> None:
    model = Unknown("thousandths", name="qwen3-vl-8b" if way == "known" else "our-finetune")
    options = {"known": {}, "said": {"boxes": "thousandths"}, "left out": {"control_question": False}}[way]
    detections = found(images, model, **options)  # type: ignore[arg-type]
    assert BOXES not in model.asked
    assert all((d.anomalies[0].region is None) == (way == "left out") for d in detections)


def test_who_cannot_point_is_asked_once_and_its_unclear_boxes_stay_out(images: list[Path]) -> None:
    model = Unknown("thousandths", knows=False)
    detections = found(images, model)
    assert model.asked.count(BOXES) == 1
    assert all(d.status == "ok" and d.anomalies[0].region is None for d in detections)
    assert "say which with --boxes" in detections[0].notes[0]
