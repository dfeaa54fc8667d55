"""A truth file is checked when it is opened, and says which picture and field is wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason.errors import UsageError
from anomreason.vlm.simulator.truth import ImageTruth, SimulatorTruth

OBJECT = {"name": "cup", "description": "a cup", "box": [0.1, 0.1, 0.5, 0.5]}
ANOMALY = {"name": "floats", "phenomenon": "in the air", "reasoning": "gravity", "severity": 20}
EMPTY: dict[str, Any] = {"objects": [], "anomalies": []}


def write(folder: Path, truth: object) -> Path:
    for name, colour in {"a.png": "red", "b.png": "blue", "sub/c.png": "lime"}.items():
        (folder / name).parent.mkdir(exist_ok=True)
        Image.new("RGB", (40, 30), colour).save(folder / name)
    path = folder / "truth.json"
    path.write_text(truth if isinstance(truth, str) else json.dumps(truth), encoding="utf-8")
    return path


def test_a_picture_is_found_relative_to_the_file(tmp_path: Path) -> None:
    full = {"objects": [OBJECT], "anomalies": [ANOMALY | {"objects": ["cup"], "region": [0, 0, 0.5, 1]}]}
    truth = SimulatorTruth.read(write(tmp_path, {"a.png": EMPTY, "sub/c.png": full | {"generated": True}}))
    name = truth.recognize((tmp_path / "sub/c.png").read_bytes())
    assert name == "sub/c.png"
    picture = truth.image(name)
    assert picture.generated is True
    assert (picture.anomalies[0].severity, picture.objects[0].box.x1) == (20, 0.5)
    assert truth.recognize((tmp_path / "b.png").read_bytes()) is None


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        ({"objects": []}, "anomalies"),
        ({"objects": [], "anomalies": [], "extra": 1}, "extra"),
        ({"objects": [OBJECT, OBJECT | {"name": "Cup"}], "anomalies": []}, "unique"),
        ({"objects": [OBJECT | {"box": [0.5, 0, 0.5, 1]}], "anomalies": []}, r"objects\.0\.box"),
        ({"objects": [OBJECT | {"box": [0, 0, 640, 480]}], "anomalies": []}, r"objects\.0\.box"),
        ({"objects": [OBJECT | {"box": [0, 0, 1]}], "anomalies": []}, "x0, y0, x1, y1"),
        ({"objects": [OBJECT | {"box": None}], "anomalies": []}, r"objects\.0\.box"),
        ({"objects": [], "anomalies": [ANOMALY | {"severity": "20"}]}, r"anomalies\.0\.severity"),
        ({"objects": [], "anomalies": [ANOMALY | {"severity": 120}]}, r"anomalies\.0\.severity"),
        ({"objects": [], "anomalies": [ANOMALY | {"name": " "}]}, r"anomalies\.0\.name"),
        ([], "whole entry"),
    ],
)
def test_a_wrong_entry_is_named_by_file_picture_and_field(tmp_path: Path, wrong: object, field: str) -> None:
    with pytest.raises(UsageError, match=rf"truth\.json: image 'b\.png'.*{field}"):
        SimulatorTruth.read(write(tmp_path, {"a.png": EMPTY, "b.png": wrong}))


@pytest.mark.parametrize(
    "text", ["", "[]", '"a.png"', "{", '{"a.png"}', '{"a.png": {}', '{"a.png": 1 "b.png": 2}', "{} {}", "{1: 2}", "{}"]
)
def test_a_file_that_is_no_truth_is_refused(tmp_path: Path, text: str) -> None:
    with pytest.raises(UsageError, match=r"truth\.json"):
        SimulatorTruth.read(write(tmp_path, text))


@pytest.mark.parametrize("end", ["}", "} \n\n"])
def test_any_white_space_is_accepted(tmp_path: Path, end: str) -> None:
    entry = json.dumps(EMPTY, indent=1)
    truth = SimulatorTruth.read(write(tmp_path, f'\ufeff \n{{ "a.png" :\n{entry} ,"b.png":{entry}\n{end}'))
    assert truth.recognize((tmp_path / "b.png").read_bytes()) == "b.png"


def test_the_same_picture_twice_is_refused(tmp_path: Path) -> None:
    entry = json.dumps(EMPTY)
    with pytest.raises(UsageError, match=r"'a\.png' stands twice"):
        SimulatorTruth.read(write(tmp_path, f'{{"a.png": {entry}, "a.png": {entry}}}'))
    with pytest.raises(UsageError, match=r"'a\.png' and '\./a\.png' cannot be told apart"):
        SimulatorTruth.read(write(tmp_path, {"a.png": EMPTY, "./a.png": EMPTY}))


def test_a_missing_file_or_picture_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.json"):
        SimulatorTruth.read(tmp_path / "nowhere.json")
    with pytest.raises(UsageError, match=r"'gone\.png'"):
        SimulatorTruth.read(write(tmp_path, {"gone.png": EMPTY}))


def test_what_an_anomaly_is_about_can_be_seen_even_if_it_is_not_listed() -> None:
    anomalies = [ANOMALY, ANOMALY | {"objects": ["hand", "cup"], "region": [0.2, 0.2, 0.4, 0.4]}]
    picture = ImageTruth.model_validate_json(json.dumps({"objects": [OBJECT], "anomalies": anomalies}))
    boxes = {o.name: (o.box.x0, o.box.x1) for o in picture.visible()}
    assert boxes == {"cup": (0.1, 0.5), "scene": (0, 1), "hand": (0.2, 0.4)}
    assert [a.name for a in picture.about("hand")] == ["floats"]
    assert [o.name for o in ImageTruth(objects=(), anomalies=()).visible()] == ["scene"]
