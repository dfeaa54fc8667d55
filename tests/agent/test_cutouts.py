"""Facts about cut-outs: what is too small to be seen is found with them, and its box is placed in the whole image."""

import asyncio
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from anomreason.agent.boxes import read_box
from anomreason.agent.candidates import Entry
from anomreason.agent.cutouts import (
    Crops,
    CutOut,
    SheetBoxes,
    View,
    chosen,
    concerned,
    cut_outs_of,
    sheet_size,
    sheets_of,
    views_of,
    worth_showing,
)
from anomreason.agent.forms import DetailedObject, DetailedObjects, Suspicion
from anomreason.agent.pipeline import AgentSettings, AnomAgent, placed
from anomreason.agent.replies import read_objects
from anomreason.anomaly import Anomaly, Detection, ObjectPart, Region, SceneObject, Usage
from anomreason.errors import UnreadableImage
from anomreason.images import Encoded, LoadedImage, load_image
from anomreason.vlm.calling import Caller
from anomreason.vlm.protocol import Reply, Request

SENT = (1536, 1024)
LARGE = (4608, 3072)
SEEN_FROM = 48
"""Pixels of the longer side from which the model below sees what an object looks like."""
PLANTED = {"clock": (24, (300, 200), (250, 20, 20)), "letter": (32, (900, 640), (20, 170, 30))}
PLANTED |= {"hand": (40, (1300, 420), (20, 40, 250))}
"""Longer side and place as sent, in pixels, and colour."""


def drawn(path: Path, size: tuple[int, int]) -> Path:
    """A scene with a clock, a letter and a hand of six fingers, each of a colour of its own."""
    k = size[0] / SENT[0]
    image = Image.new("RGB", size, (200, 200, 195))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, size[1] * 0.7, *size), (150, 140, 130))
    for name, (side, (left, top), colour) in PLANTED.items():
        x, y, s = left * k, top * k, side * k
        if name == "clock":
            draw.ellipse((x, y, x + s - 1, y + s - 1), colour)
        elif name == "letter":
            draw.rectangle((x, y, x + s * 0.3, y + s - 1), colour)
            draw.rectangle((x, y, x + s - 1, y + s * 0.3), colour)
        else:
            draw.rectangle((x, y + s / 2, x + s - 1, y + s - 1), colour)
            for finger in range(6):
                draw.rectangle((x + finger * s / 6, y, x + finger * s / 6 + s / 12, y + s / 2), colour)
    image.save(path)
    return path


def region_of(name: str) -> Region:
    side, (left, top), _ = PLANTED[name]
    return Region(x0=left / SENT[0], y0=top / SENT[1], x1=(left + side) / SENT[0], y1=(top + side) / SENT[1])


def thousandths(region: Region) -> list[int]:
    return [round(v * 1000) for v in region.box]


@dataclass
class Nearsighted:
    """Lists every object, but sees what is wrong with one only where it is at least `SEEN_FROM` pixels long."""

    name: str = "nearsighted"
    bounds_pixels: bool = False
    requests: list[Request] = field(default_factory=list)

    async def ask(self, request: Request) -> Reply:
        self.requests.append(request)
        text = "\n".join(part for part in request.parts if isinstance(part, str))
        images = [np.asarray(opened(p), dtype=int) for p in request.parts if isinstance(p, Encoded)]
        seen = {name: (n, box) for name in PLANTED for n, pixels in enumerate(images) if (box := found(name, pixels))}
        reply = getattr(self, request.tag.step.replace("-", "_"))(text, seen)
        return Reply(json.dumps(reply), "stop", Usage(calls=1), self.name)

    async def close(self) -> None:
        """Nothing is open."""

    def objects_1(self, text: str, seen: object) -> object:
        listed = [{"name": n, "description": "", "person": False, "box": thousandths(region_of(n))} for n in PLANTED]
        return {
            "objects": [*listed, {"name": "floor", "description": "", "person": False, "box": [0, 700, 1000, 1000]}]
        }

    def inspect(self, text: str, seen: dict[str, tuple[int, list[int]]]) -> object:
        asked = [json.loads(line)["object"] for line in text.splitlines() if line.startswith('{"object"')]
        return {"objects": [{"object": o, "look": "", "findings": [error(o)] if o in seen else []} for o in asked]}

    def look_again(self, text: str, seen: dict[str, tuple[int, list[int]]]) -> object:
        listed = [json.loads(line) for line in text.splitlines() if line.startswith('{"id"')]
        checks = [{"id": c["id"], "score": 90 if c["objects"][0] in seen else 10, "reason": ""} for c in listed]
        numbers = {json.loads(name): int(n) for n, name in re.findall(r'^(\d+): (".*") at \[', text, re.M)}
        final = [
            {**error(name), "severity": 9, "from": [c["id"]], "cutout": numbers[name], "box": seen[name][1]}
            for c in listed
            if (name := c["objects"][0]) in seen
        ]
        return {"checks": checks, "anomalies": final, "no_anomalies": not final}


WOMAN = [700, 150, 950, 1000]


@dataclass
class NearsightedOfParts(Nearsighted):
    """Lists one large woman, with these parts if asked for any, and looks at her hand."""

    parts: object = None

    def objects_1(self, text: str, seen: object) -> object:
        asked = "parts" in json.dumps(self.requests[-1].schema)
        parts = {"parts": self.parts} if asked and self.parts is not None else {}
        return {"objects": [{"name": "woman", "description": "", "person": True, "box": WOMAN} | parts]}

    def inspect(self, text: str, seen: dict[str, tuple[int, list[int]]]) -> object:
        counts = [{"part": "fingers of the left hand", "count": 6}] if "hand" in seen else []
        found = [error("hand") | {"objects": ["woman"]}] if "hand" in seen else []
        return {"objects": [{"object": "woman", "look": "", "counts": counts, "findings": found}]}

    def look_again(self, text: str, seen: dict[str, tuple[int, list[int]]]) -> object:
        if "hand" not in seen:
            return {"checks": [], "anomalies": [], "no_anomalies": True}
        number = int(re.findall(r'^(\d+): "left hand of woman" at \[', text, re.M)[0])
        final = error("hand") | {"objects": ["woman"], "severity": 9, "from": [1], "cutout": number}
        checks = [{"id": 1, "score": 90, "reason": ""}]
        return {"checks": checks, "anomalies": [final | {"box": seen["hand"][1]}], "no_anomalies": False}


HAND = {"name": "left hand", "box": thousandths(region_of("hand"))}


def opened(image: Encoded) -> Image.Image:
    return Image.open(BytesIO(image.data)).convert("RGB")


def found(name: str, pixels: np.ndarray) -> list[int] | None:
    """The box of an object on an image, in thousandths, where it is large enough to be made out."""
    rows, columns = np.nonzero(np.abs(pixels - PLANTED[name][2]).max(axis=2) < 60)
    if not len(rows) or max(np.ptp(rows), np.ptp(columns)) + 1 < SEEN_FROM:
        return None
    height, width = pixels.shape[:2]
    edges = (columns.min() / width, rows.min() / height, (columns.max() + 1) / width, (rows.max() + 1) / height)
    return [round(float(edge) * 1000) for edge in edges]


def error(name: str) -> dict[str, object]:
    return {"name": f"wrong {name}", "phenomenon": f"The {name}.", "reasoning": "It cannot be.", "objects": [name]}


def look(path: Path, crops: Crops, vlm: Nearsighted | None = None) -> tuple[Detection, Nearsighted]:
    vlm = vlm or Nearsighted()
    agent = AnomAgent(Caller(vlm), AgentSettings(crops=crops, boxes="thousandths"))
    return asyncio.run(agent.detect(load_image(path), "scene.png")), vlm


@pytest.mark.parametrize("size", [LARGE, SENT])
def test_a_wrong_hand_of_a_large_person_is_found_with_cut_outs_of_parts_and_not_without(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = drawn(tmp_path / "scene.png", size)
    for crops, parts in (("never", [HAND]), ("auto", None), ("auto", [])):
        assert look(path, crops, NearsightedOfParts(parts=parts))[0].anomalies == ()  # type: ignore[arg-type]
    detection, _ = look(path, "auto", NearsightedOfParts(parts=[HAND]))
    [anomaly], [woman] = detection.anomalies, detection.objects
    assert anomaly.objects == ("woman",)
    assert anomaly.region is not None
    assert anomaly.region.iou(region_of("hand")) > 0.8
    assert [part.name for part in woman.parts] == ["left hand"]
    assert woman.parts[0].region.iou(region_of("hand")) > 0.8
    assert [c.count for c in woman.counts] == [6]
    assert Detection.model_validate_json(detection.json_line()) == detection


@pytest.mark.parametrize(
    "parts",
    [
        {"left hand": HAND["box"]},
        HAND,
        [{"part": "left hand", "bbox": HAND["box"]}],
        [{"Name": "left hand", "boundingBox": HAND["box"]}, {"name": "face"}, {"box": [0, 0, 9, 9]}, "feet", 7, None],
        [HAND, {"name": "face", "box": "at the top"}, {"name": " ", "box": [0, 0, 9, 9]}],
        [HAND, {"name": "face", "box": [0, 0, 1400, 1400]}, {"name": "foot", "box": [5, 5, 40, 40]}],
        [HAND, HAND, *({"name": f"finger {n}", "box": [800 + n, 400, 830 + n, 450]} for n in range(30))],
    ],
)
def test_parts_in_other_forms_are_read_and_nonsense_costs_only_that_part(parts: object, scene: Path) -> None:
    detection, vlm = look(scene, "auto", NearsightedOfParts(parts=parts))
    [woman] = detection.objects
    assert woman.region == Region(x0=0.7, y0=0.15, x1=0.95, y1=1)
    assert woman.parts[0].name == "left hand"
    assert len(woman.parts) <= 6
    assert {part.name for part in woman.parts}.isdisjoint({"face", "foot"})
    assert len(detection.anomalies) == 1
    assert [r.tag.step for r in vlm.requests] == ["objects-1", "inspect", "look-again"]


@pytest.mark.parametrize("parts", [None, [], "none", 7, {"left hand": "?"}, [[1, 2, 3, 4]]])
def test_a_model_that_gives_no_parts_is_asked_as_before(parts: object, scene: Path) -> None:
    detection, vlm = look(scene, "auto", NearsightedOfParts(parts=parts))
    assert detection.status == "ok"
    assert [o.parts for o in detection.objects] == [()]
    _, without = look(scene, "never", NearsightedOfParts())
    assert vlm.requests[1:] == without.requests[1:]


PLAIN = (
    st.text("abXY 1", max_size=9)
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.none()
    | st.booleans()
)
ANYTHING = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, max_size=9)
        | st.dictionaries(st.sampled_from(["name", "part", "box", "bbox_2d", "x"]), inner, max_size=4)
    ),
)


@given(ANYTHING)
def test_whatever_stands_for_parts_costs_no_object(parts: object) -> None:
    reply = json.dumps({"objects": [{"name": "woman", "description": "tall", "box": WOMAN, "parts": parts}]})
    [woman] = read_objects(reply, [], DetailedObjects)
    assert isinstance(woman, DetailedObject)
    assert woman.box == read_box(WOMAN)
    assert len(woman.parts) <= 6
    assert all(part.name.strip() for part in woman.parts)


def test_an_anomaly_of_a_part_without_a_box_is_placed_there() -> None:
    woman = person("woman", 100, 800, at(300, 300, 40))
    anomaly = Anomaly(name="a", phenomenon="b", reasoning="c", severity=9, objects=("Part 0 of woman", "woman"))
    assert placed(anomaly, [woman]).region == at(300, 300, 40)
    assert placed(anomaly.model_copy(update={"objects": ("woman",)}), [woman]).region == woman.region


def test_parts_are_no_evidence_of_what_a_box_means(scene: Path) -> None:
    agent = AnomAgent(Caller(NearsightedOfParts("gpt-4o", parts=[{"name": "face", "box": [0, 0, 1500, 1000]}])))
    detection = asyncio.run(agent.detect(load_image(scene), "scene.png"))
    without = AnomAgent(Caller(NearsightedOfParts("gpt-4o")))
    assert detection.objects == asyncio.run(without.detect(load_image(scene), "scene.png")).objects
    assert "1 box of parts of objects was left out" in detection.notes


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return drawn(tmp_path_factory.mktemp("scene") / "large.png", LARGE)


@pytest.mark.parametrize("size", [LARGE, SENT])
def test_what_is_too_small_to_be_seen_is_found_with_cut_outs_and_not_without(
    size: tuple[int, int], tmp_path: Path
) -> None:
    path = drawn(tmp_path / "scene.png", size)
    assert look(path, "never")[0].anomalies == ()
    detection, _ = look(path, "auto")
    assert {a.name for a in detection.anomalies} == {"wrong clock", "wrong letter", "wrong hand"}


def test_boxes_drawn_on_cut_outs_are_placed_in_the_whole_image(scene: Path) -> None:
    detection, _ = look(scene, "auto")
    for anomaly in detection.anomalies:
        assert anomaly.region is not None
        assert anomaly.region.iou(region_of(anomaly.objects[0])) > 0.8, anomaly


def test_the_image_stays_the_first_part_and_cut_outs_come_last(scene: Path) -> None:
    _, without = look(scene, "never")
    _, vlm = look(scene, "auto")
    for asked, plain in zip(vlm.requests, without.requests, strict=True):
        assert asked.parts[:2] == plain.parts[:2]
        if asked.tag.step != "look-again":  # whose candidates differ
            assert asked.parts[: len(plain.parts)] == plain.parts
    inspected = next(r for r in vlm.requests if r.tag.step == "inspect")
    sheet = inspected.parts[-1]
    assert isinstance(sheet, Encoded)
    assert (sheet.width, sheet.height) == sheet_size(3) == (768, 768)
    assert all(isinstance(part, str) for part in next(r for r in vlm.requests if r.tag.step == "look-again").parts[2:4])


def test_a_model_in_this_process_gets_cut_outs_only_when_told_to(scene: Path) -> None:
    assert look(scene, "auto", Nearsighted(bounds_pixels=True))[0].anomalies == ()
    assert len(look(scene, "always", Nearsighted(bounds_pixels=True))[0].anomalies) == 3


def test_which_objects_are_shown(scene: Path, tmp_path: Path) -> None:
    large, small = load_image(scene), load_image(drawn(tmp_path / "small.png", SENT))

    def across(pixels: int, part: str | None) -> View:
        return View("cup", Region(x0=0.1, y0=0.1, x1=0.1 + pixels / SENT[0], y1=0.15), part, part is not None)

    sizes = [30, 90, 130, 170, 190, 230, 260, 300]
    rules: list[tuple[Crops, str | None, int, int, int]] = [  # the largest that is shown of both files
        ("never", None, 6, 0, 0),
        ("auto", None, 6, 170, 90),  # of the large file details were lost, of the small one none
        ("auto", None, 4, 190, 90),
        ("auto", None, 1, 260, 90),
        ("always", None, 6, 230, 230),  # 260 would be shown smaller
        ("auto", "handle", 6, 170, 170),
        ("auto", "handle", 12, 170, 170),  # two sheets
        ("auto", "handle", 2, 260, 260),
        ("always", "handle", 6, 230, 230),
    ]
    for crops, part, count, of_large, of_small in rules:
        for loaded, largest in ((large, of_large), (small, of_small)):
            shown = [n for n in sizes if worth_showing(across(n, part), loaded, crops, count)]
            assert shown == [n for n in sizes if n <= largest], (crops, part, count)


def at(x: int, y: int, side: int) -> Region:
    """A square by its corner and side, pixels as sent."""
    return Region(x0=x / SENT[0], y0=y / SENT[1], x1=(x + side) / SENT[0], y1=(y + side) / SENT[1])


def person(name: str, x: int, side: int, *parts: Region) -> SceneObject:
    listed = tuple(ObjectPart(name=f"part {n}", region=region) for n, region in enumerate(parts))
    return SceneObject(name=name, region=at(x, 100, side), person=True, parts=listed)


def views(objects: Sequence[SceneObject], loaded: LoadedImage, most: int = 12) -> list[str]:
    return [view.name for view in chosen(views_of(objects, True), loaded, "auto", most)]


def test_objects_take_turns_in_showing_themselves_and_their_parts(scene: Path) -> None:
    loaded = load_image(scene)
    ann = person("ann", 100, 500, at(150, 200, 60), at(250, 200, 60), at(350, 200, 60))
    bob = person("bob", 700, 500, at(750, 200, 60))
    cup = SceneObject(name="cup", region=at(20, 20, 60))
    floor = SceneObject(name="floor", region=at(0, 0, 900))
    everything = ["part 0 of ann", "part 1 of ann", "part 2 of ann", "part 0 of bob", "cup"]
    assert views([ann, bob, cup, floor], loaded) == everything
    assert views([ann, bob, cup, floor], loaded, 3) == ["part 0 of ann", "part 0 of bob", "cup"]
    assert views([ann, bob, cup, floor], loaded, 4) == ["part 0 of ann", "part 1 of ann", "part 0 of bob", "cup"]


def test_few_cut_outs_are_larger_so_that_large_parts_get_one_too(scene: Path) -> None:
    loaded = load_image(scene)
    ann = person("ann", 100, 800, at(150, 200, 230), at(450, 200, 240))
    assert views([ann], loaded) == ["part 0 of ann", "part 1 of ann"]
    small = [SceneObject(name=f"cup {n}", region=at(1000 + 70 * n, 20, 60)) for n in range(5)]
    assert views([ann, *small], loaded, 6) == [o.name for o in small]


def test_a_part_is_shown_with_what_it_is_joined_to(scene: Path) -> None:
    ann = person("ann", 100, 800, at(300, 300, 40))
    [[shown]] = cut_outs_of(load_image(scene), [[ann]], "auto")
    assert shown.place.box == pytest.approx(at(276, 276, 88).box)


def test_a_part_is_shown_once_and_only_where_it_shows_more_than_its_owner(scene: Path, tmp_path: Path) -> None:
    large, small = load_image(scene), load_image(drawn(tmp_path / "small.png", SENT))
    hand = SceneObject(name="hand in the air", region=at(150, 200, 60))
    ann = person("ann", 100, 500, at(152, 202, 60), at(250, 200, 60), at(251, 202, 60))
    assert views([ann, hand], large) == ["part 1 of ann", "hand in the air"]
    child = person("child", 100, 170, at(110, 110, 40))
    assert views([child], large) == ["child", "part 0 of child"]
    assert views([person("child", 100, 90, at(110, 110, 20))], large) == ["child"]  # shows every pixel of the file
    assert views([person("child", 100, 90, at(110, 110, 20))], small) == ["child"]


def test_an_object_without_parts_counts_as_a_part_where_others_have_some(tmp_path: Path) -> None:
    loaded = load_image(drawn(tmp_path / "small.png", SENT))
    ann, hand = person("ann", 100, 500, at(150, 200, 60)), SceneObject(name="raised hand", region=at(250, 200, 160))
    shown = [[cutout.view.name for cutout in group] for group in cut_outs_of(loaded, [[ann], [hand]], "auto")]
    assert shown == [["part 0 of ann"], ["raised hand"]]
    assert cut_outs_of(loaded, [[ann.model_copy(update={"parts": ()}), hand]], "auto") == [[]]


def test_a_part_is_named_with_its_owner_once() -> None:
    for part, of, name in (
        ("left hand", "woman in red", "left hand of woman in red"),
        ("Woman's left hand", "woman", "Woman's left hand"),
        ("sleeve", "eve", "sleeve of eve"),
        ("(dial", "clock (old", "(dial of clock (old"),
    ):
        assert View(of, at(0, 0, 9), part).name == name


def test_an_image_has_two_sheets_to_inspect_and_one_for_each_of_more_groups(scene: Path) -> None:
    loaded = load_image(scene)
    people = [person(f"p{n}", 100, 400, *(at(110 + 50 * k, 110 + 60 * n, 40) for k in range(6))) for n in range(3)]
    assert [len(shown) for shown in cut_outs_of(loaded, [people], "auto")] == [12]
    assert [len(shown) for shown in cut_outs_of(loaded, [people[:2], people[2:]], "auto")] == [6, 6]


def test_the_second_look_sees_what_the_candidates_speak_of_first() -> None:
    def entry(of: str, name: str, *objects: str, sure: int = 50) -> Entry:
        proposed = Suspicion(name=name, phenomenon="-", reasoning="-", objects=list(objects), sure=sure)
        return Entry(proposed, "AttributeAnalyzer", "inspect", of)

    place, pixels = at(0, 0, 90), Image.new("RGB", (9, 9))
    parts = ("left foot", "right foot", "face", "left hand", "right hand")
    seen = [View("ann", place, part) for part in parts] + [View("bob", place, part) for part in parts]
    cutouts = [CutOut(view, place, pixels) for view in [*seen, View("cup", place)]]

    def names(*entries: Entry) -> list[str]:
        return [cutout.view.name for cutout in concerned(cutouts, entries)]

    assert names() == []
    assert names(entry("cup", "No handle", "cup")) == ["cup"]
    assert names(entry("ann", "Six fingers on one hand", "ann")) == [f"{part} of ann" for part in parts]
    both = [entry("ann", "Six fingers on one hand", "ann"), entry("bob", "Melted", "right foot of bob", "cup")]
    of_ann, of_bob = (f"left foot of {name}" for name in ("ann", "bob"))
    hands = ["left hand of ann", "right hand of ann"]
    assert names(*both) == [of_ann, *hands, of_bob, "right foot of bob", "cup"]
    # Each has its turn, however many views an earlier one could fill the sheet with.
    many = [entry("ann", f"Six fingers, {n}", "ann") for n in range(4)] + [entry("cup", "No handle", "cup")]
    assert "cup" in names(*many)
    assert names(*(entry("", "Melted", view.name, sure=n) for n, view in enumerate(seen))) == [v.name for v in seen[4:]]


def test_cut_outs_come_from_the_files_own_pixels(scene: Path) -> None:
    loaded = load_image(scene)
    [[shown]] = cut_outs_of(loaded, [[SceneObject(name="hand", region=region_of("hand"))]], "auto")
    with Image.open(scene) as whole:
        box = [round(v * side) for v, side in zip(shown.place.box, LARGE * 2, strict=True)]
        part = whole.crop(tuple(box)).resize(shown.pixels.size, Image.Resampling.LANCZOS)  # type: ignore[arg-type]
    difference = np.abs(np.asarray(part, int) - np.asarray(shown.pixels, int))
    assert difference.mean() < 3  # edges may lie a pixel apart


def test_a_file_that_changed_meanwhile_is_said_and_tried_again(scene: Path, tmp_path: Path) -> None:
    path = tmp_path / "scene.png"
    path.write_bytes(scene.read_bytes())
    loaded = load_image(path)
    drawn(path, (1600, 1200))
    with pytest.raises(UnreadableImage, match="changed while it was examined") as raised:
        cut_outs_of(loaded, [[SceneObject(name="hand", region=region_of("hand"))]], "auto")
    assert not raised.value.final


def cut_outs(count: int) -> list[CutOut]:
    places = [Region(x0=n / 20, y0=0.2, x1=n / 20 + 0.04, y1=0.3) for n in range(count)]
    return [CutOut(View(f"object {n}", place), place, Image.new("RGB", (400, 512))) for n, place in enumerate(places)]


def numbers(sheets: Sequence[object]) -> list[int]:
    return [len(getattr(sheet, "cutouts", ())) for sheet in sheets]


def test_six_cut_outs_fit_on_a_sheet_and_the_numbers_go_on_over_sheets() -> None:
    assert [numbers(sheets_of(cut_outs(n))) for n in (0, 1, 6, 7, 13)] == [[], [1], [6], [4, 3], [4, 5, 4]]
    assert [sheet.first for sheet in sheets_of(cut_outs(13))] == [1, 5, 10]
    assert [sheet_size(n) for n in (1, 2, 4, 6)] == [(512, 512), (1024, 512), (768, 768), (1023, 768)]


def test_a_box_outside_of_its_cut_out_gives_the_cut_outs_place() -> None:
    sheets = sheets_of(cut_outs(4))
    boxes, place = SheetBoxes(sheets, "", "thousandths"), sheets[0].cutouts[3].place
    cell = sheets[0].cells[3]
    inside = boxes.place(read_box(thousandths(cell)), 4)
    assert inside is not None
    assert inside.iou(place) > 0.95
    assert boxes.place(read_box([0, 0, 200, 200]), 4) == place
    assert boxes.place(None, 4) == place
    assert boxes.place(read_box([0, 0, 200, 200]), 9) is None
