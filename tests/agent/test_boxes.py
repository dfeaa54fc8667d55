"""Facts about boxes: in whatever convention a model writes them, a region is right or it is left out and said."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from anomreason import detect
from anomreason.agent.boxes import CONVENTIONS, BoxReader, family_of, qwen_size, read_box
from anomreason.anomaly import Anomaly, Usage
from anomreason.errors import UsageError
from anomreason.vlm.protocol import Reply, Request

SIZE = (640, 480)
HALF = (0.5, 0.5, 1.0, 1.0)
"""The right lower quarter."""
Edges = tuple[float, float, float, float]


def placed(boxes: list[Any], model: str, size: tuple[int, int] = SIZE, boxes_are: str = "auto") -> list[Edges | None]:
    regions = BoxReader(size, model, boxes_are).place([read_box(box) for box in boxes])
    return [region.box if region else None for region in regions]


@pytest.mark.parametrize(
    ("model", "box", "true"),
    [
        ("m", [0.5, 0.5, 1.0, 1.0], HALF),
        ("gpt-4o", [0.2, 0.3, 0.95, 0.98], (0.2, 0.3, 0.95, 0.98)),
        ("qwen3-vl-8b", [0.0, 0.0, 1.0, 1.0], (0, 0, 1, 1)),
        ("Qwen/Qwen3-VL-30B-A3B-Instruct", [320, 240, 640, 480], (0.32, 0.24, 0.64, 0.48)),
        ("openai/gpt-4o", [500, 500, 1000, 1000], HALF),
        ("google/gemini-2.5-flash", [500, 100, 1000, 200], (0.1, 0.5, 0.2, 1)),
        ("gemma3:12b", [500, 100, 1000, 200], (0.1, 0.5, 0.2, 1)),
        ("Qwen/Qwen2.5-VL-7B-Instruct", [322, 238, 644, 476], HALF),
        ("qwen2.5vl:7b", [322, 238, 644, 476], HALF),
        ("local:/models/checkpoint", [322, 238, 644, 476], HALF),
        ("sim:truth.json", [500, 500, 1000, 1000], HALF),
        ("qwen3-vl", "[500, 500, 1000, 1000]", HALF),
        ("qwen3-vl", "500,500,1000,1000", HALF),
        ("qwen3-vl", ["500", "500", "1000", "1000"], HALF),
        ("qwen3-vl", [[500, 500], [1000, 1000]], HALF),
        ("qwen3-vl", [[500, 500, 1000, 1000]], HALF),
        ("qwen3-vl", [1000, 1000, 500, 500], HALF),
        ("qwen3-vl", [505, 500, 1004, 1002], (0.505, 0.5, 1, 1)),
        ("gpt-4o", "50%, 50%, 100%, 100%", HALF),
        ("m", {"x_min": 0.5, "y_min": 0.5, "x_max": 1.0, "y_max": 1.0}, HALF),
        ("m", {"x0": 0.1, "y0": 0.2, "x1": 0.3, "y1": 0.4}, (0.1, 0.2, 0.3, 0.4)),
        ("m", {"x1": 0.1, "y1": 0.2, "x2": 0.3, "y2": 0.4}, (0.1, 0.2, 0.3, 0.4)),
        ("m", {"left": 0.1, "top": 0.2, "width": 0.3, "height": 0.4}, (0.1, 0.2, 0.4, 0.6)),
        ("m", {"x": 0.1, "y": 0.2, "w": 0.3, "h": 0.4}, (0.1, 0.2, 0.4, 0.6)),
        ("m", {"left": 0.1, "top": 0.2, "right": 0.3, "bottom": 0.4}, (0.1, 0.2, 0.3, 0.4)),
        ("m", {"top_left": [0.1, 0.2], "bottom_right": {"x": 0.3, "y": 0.4}}, (0.1, 0.2, 0.3, 0.4)),
        ("m", {"bbox": {"xmin": "10%", "ymin": "20%", "xmax": "30%", "ymax": "40%"}}, (0.1, 0.2, 0.3, 0.4)),
        ("m", {"box_2d": [500, 100, 900, 300]}, (0.1, 0.5, 0.3, 0.9)),
    ],
)
def test_a_box_is_placed_where_the_model_meant_it(model: str, box: object, true: Edges) -> None:
    [found] = placed([box], model)
    assert found == pytest.approx(true, abs=0.001)


@pytest.mark.parametrize(
    ("model", "box"),
    [
        ("m", [320, 240, 640, 480]),  # pixels, or thousandths in another order
        ("m", [250, 250, 500, 450]),
        ("m", [250, 500, 500, 1000]),  # y first or not
        ("m", [100, 100, 300, 300]),  # corners, or a corner and a size
        ("m", [0.2, 0.3, 0.95, 0.98]),
        ("gpt-4o", [500, 500, 300, 300]),  # swapped corners, or a size
        ("gpt-4o", [12, 40, 80, 90]),  # percent, thousandths or pixels
        ("gpt-4o", [0, 0, 1, 1]),
        ("m", {"left": 100, "top": 200, "width": 300, "height": 200}),
        ("m", {"bbox_2d": [100, 100, 300, 300]}),  # Qwen2.5-VL or Qwen3-VL
    ],
)
def test_a_box_that_two_conventions_place_differently_is_left_out_and_named(model: str, box: object) -> None:
    reader = BoxReader(SIZE, model)
    assert reader.place([read_box(box)]) == [None]
    assert reader.convention is None
    [note] = reader.notes
    assert "1 box could be read as " in note
    assert "--boxes" in note


@pytest.mark.parametrize(
    "junk",
    [True, "nope", [1, 2, 3], [1, 2, 3, 4, 5], [1, 2, "x", 4], [float("nan")] * 4, {"x": 1}, {"cx": 1, "cy": 2},
     "12 to 40", [[1, 2], [3]], {"x_min": None, "y_min": 1, "x_max": 2, "y_max": 3}, [1e300, 0, 1, 1], "1" * 300],
)  # fmt: skip
def test_what_is_no_box_is_left_out_and_counted(junk: object) -> None:
    reader = BoxReader(SIZE, "qwen3-vl")
    assert reader.place([read_box(junk)]) == [None]
    assert reader.notes == ["1 box could not be read and was left out"]
    for nothing in (None, [], "", {}):
        assert read_box(nothing) is None


def test_all_boxes_of_an_image_tell_the_convention() -> None:
    corners = [[100, 100, 300, 300], [600, 700, 900, 900], [500, 500, 1000, 1000], [800, 800, 900, 910]]
    assert placed(corners, "gpt-4o")[0] == pytest.approx((0.1, 0.1, 0.3, 0.3))
    sizes = [[100, 100, 300, 300], [600, 700, 200, 200], [500, 500, 400, 480], [800, 800, 90, 110], [0, 900, 1000, 90]]
    assert placed(sizes, "gpt-4o")[:2] == [pytest.approx((0.1, 0.1, 0.4, 0.4)), pytest.approx((0.6, 0.7, 0.8, 0.9))]
    pixels = [[10, 20, 300, 300], [600, 700, 1500, 1010], [0, 0, 1536, 1024], [1200, 500, 1536, 1024]]
    assert placed(pixels, "gpt-4o", (1536, 1024))[1] == pytest.approx(
        (600 / 1536, 700 / 1024, 1500 / 1536, 1010 / 1024)
    )
    borders = [[100, 100, 400, 400], [0, 0, 1000, 900], [300, 400, 1000, 1000], [20, 60, 1000, 1000]]
    assert placed(borders, "gpt-4o", (1536, 1024))[0] == pytest.approx((0.1, 0.1, 0.4, 0.4))


def test_later_boxes_correct_earlier_ones() -> None:
    reader = BoxReader((1200, 900), "gpt-4o")
    [early] = reader.place([read_box([600, 450, 1000, 890])])
    assert early is None  # thousandths or pixels
    first = BoxReader(SIZE, "Qwen2.5-VL")
    [region] = first.place([read_box([100, 100, 400, 400])])
    assert region is not None
    first.place([read_box([500, 500, 900, 950]), read_box([700, 900, 1000, 1000])])  # so they are not pixels
    again = first.again(region)
    assert again is None or again.box == pytest.approx((0.1, 0.1, 0.4, 0.4))


def test_a_fraction_is_never_a_thousandth() -> None:
    for model in ("m", "gpt-4o", "qwen3-vl", "Qwen2.5-VL", "sim:x"):
        for found in placed([[0.5, 0.5, 1.0, 1.0], [500, 500, 1000, 1000]], model):
            assert found is None or found == pytest.approx(HALF, abs=0.02)


def test_an_edge_outside_the_image_loses_its_box_alone() -> None:
    reader = BoxReader(SIZE, "qwen3-vl")
    assert reader.place([read_box([0, 0, 500, 500]), read_box([0, 0, 140_000, 900])])[1] is None
    assert reader.convention == "thousandths"
    assert reader.notes == ["1 box outside the image or without area was left out"]


def test_the_option_decides() -> None:
    for convention, box in {
        "thousandths": [500, 500, 1000, 1000],
        "fractions": [0.5, 0.5, 1, 1],
        "percent": [50, 50, 100, 100],
        "pixels": [320, 240, 640, 480],
        "pixels-28": [322, 238, 644, 476],
        "yxyx-pixels": [240, 320, 480, 640],
        "xywh-thousandths": [500, 500, 500, 500],
        "yxyx-fractions": [0.5, 0.5, 1.0, 1.0],
    }.items():
        assert convention in CONVENTIONS
        for model in ("m", "gemini-2.5-pro", "qwen2.5-vl"):
            assert placed([box], model, boxes_are=convention) == [pytest.approx(HALF)]


def test_merged_boxes_repeat_what_the_drafts_had() -> None:
    reader = BoxReader(SIZE, "qwen2.5-vl")
    shown = [region for region in reader.place([read_box([322, 238, 644, 476])]) if region]
    copied = reader.copied([read_box([500, 500, 1000, 1000]), read_box([0, 0, 200, 200]), None], shown)
    assert [region and region.box for region in copied] == [pytest.approx(HALF), None, None]


@pytest.mark.parametrize(
    ("name", "family"),
    [
        ("sim:a.json", "simulator"),
        ("Qwen2.5-VL-72B-Instruct-AWQ", "qwen2.5-vl"),
        ("qwen2.5-omni", "qwen2.5-vl"),
        ("qwen3-vl:8b", "thousandths"),
        ("InternVL3-8B", "thousandths"),
        ("models/gemini-3-pro", "y-first"),
        ("claude-sonnet-4-5", "x-first"),
        ("chatgpt-4o-latest", "x-first"),
        ("dolphin", None),
        ("m", None),
    ],
)
def test_the_family_follows_from_the_name(name: str, family: str | None) -> None:
    assert family_of(name) == family


def spelled(rng: random.Random, true: Edges, size: tuple[int, int]) -> list[tuple[str, object]]:
    """The box in each convention, with the name of a model that writes so, or of one that says nothing."""
    x0, y0, x1, y1 = true
    width, height = size
    across, down = qwen_size(width, height)
    anyone = rng.choice(["m", "my-model", "default"])
    follower = rng.choice([anyone, "gpt-4o", "claude-sonnet-4-5"])
    thousandths = [round(v * 1000) for v in true]
    pixels = [round(x0 * width), round(y0 * height), round(x1 * width), round(y1 * height)]
    qwen = [round(x0 * across), round(y0 * down), round(x1 * across), round(y1 * down)]
    turned = [thousandths[i] for i in (1, 0, 3, 2)]
    sized = [round(v * 1000) for v in (x0, y0, x1 - x0, y1 - y0)]
    pixel_size = [pixels[0], pixels[1], pixels[2] - pixels[0], pixels[3] - pixels[1]]
    return [
        (follower, thousandths),
        ("qwen3-vl", thousandths),
        (follower, [round(v, 4) for v in true]),
        (follower, [round(v * 100, 1) for v in true]),
        (follower, pixels),
        (rng.choice([anyone, "qwen2.5-vl"]), qwen),
        (rng.choice([anyone, "gemini-2.5-pro"]), turned),
        (anyone, [round(v, 3) for v in (y0, x0, y1, x1)]),
        (anyone, {"box_2d": turned}),
        (anyone, {"bbox_2d": rng.choice([qwen, thousandths])}),
        (follower, sized),
        (follower, pixel_size),
        (follower, [round(v, 3) for v in (x0, y0, x1 - x0, y1 - y0)]),
        (follower, [thousandths[i] for i in (2, 3, 0, 1)]),
        (follower, str(rng.choice([thousandths, pixels]))),
        (follower, dict(zip(("x_min", "y_min", "x_max", "y_max"), rng.choice([thousandths, pixels]), strict=True))),
        (follower, dict(zip(("left", "top", "width", "height"), rng.choice([sized, pixel_size]), strict=True))),
    ]


def test_a_region_is_right_or_left_out_whatever_the_convention() -> None:
    rng, right = random.Random(5), 0
    for _ in range(600):
        size = (rng.randint(64, 4000), rng.randint(64, 4000))
        x0, y0 = rng.uniform(0, 0.9), rng.uniform(0, 0.9)
        ends = (rng.choice([1.0, rng.uniform(x0 + 0.05, 1)]), rng.choice([1.0, rng.uniform(y0 + 0.05, 1)]))
        true = (rng.choice([0.0, x0]), rng.choice([0.0, y0]), *ends)
        for model, box in spelled(rng, true, size):
            [found] = placed([box], model, size)
            wrong = found and max(abs(a - b) for a, b in zip(found, true, strict=True)) > 0.02
            assert not wrong, (model, box, size, true, found)
            right += found is not None
    assert right > 3_000  # of 10,200: many are read


class BoxedAnswer:
    """A model that always finds one anomaly, with this box."""

    bounds_pixels = False

    def __init__(self, box: object, name: str, calls_itself: str = "m") -> None:
        self.box, self.name, self.calls_itself = box, name, calls_itself

    async def ask(self, request: Request) -> Reply:
        anomaly = {"name": "n", "phenomenon": "p", "reasoning": "r", "severity": 5, "objects": [], "box": self.box}
        text = json.dumps({"anomalies": [anomaly], "no_anomalies": False})
        return Reply(text, "stop", Usage(calls=1), self.calls_itself)

    async def close(self) -> None: ...


def test_a_detection_says_how_its_boxes_were_read(tmp_path: Path) -> None:
    Image.new("RGB", SIZE, "red").save(tmp_path / "a.png")

    def found(vlm: BoxedAnswer, **options: Any) -> tuple[Anomaly, str | None, tuple[str, ...]]:
        detection = detect(tmp_path / "a.png", model=vlm, schedule="single", **options)
        return detection.anomalies[0], detection.boxes, detection.notes

    anomaly, convention, notes = found(BoxedAnswer([322, 238, 644, 476], "alias", "Qwen/Qwen2.5-VL-7B-Instruct"))
    assert anomaly.region is not None
    assert anomaly.region.box == pytest.approx(HALF)
    assert (convention, notes) == ("pixels-28", ())
    anomaly, convention, notes = found(BoxedAnswer([320, 240, 640, 480], "m"))
    assert (anomaly.region, convention, len(notes)) == (None, None, 1)
    anomaly, convention, notes = found(BoxedAnswer([320, 240, 640, 480], "m"), boxes="pixels")
    assert anomaly.region is not None
    assert (convention, notes) == ("pixels", ())
    with pytest.raises(UsageError, match="boxes must be one of auto, thousandths"):
        found(BoxedAnswer(None, "m"), boxes="inches")
