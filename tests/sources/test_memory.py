"""An image in memory gives what its file gives; what is no image is refused with what would be one."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.forking import run_command

from anomreason import detect, detect_async, plan
from anomreason.anomaly import Detection, Usage
from anomreason.errors import UsageError
from anomreason.images import load_image
from anomreason.runs import read_results
from anomreason.sources.memory import given_images, held_image
from anomreason.vlm.ledger import read_calls
from anomreason.vlm.simulator.model import Simulator

World = Callable[..., Path]


def pixels(file: Path) -> np.ndarray[Any, Any]:
    with Image.open(file) as image:
        return np.asarray(image.convert("RGB"))


def opaque(file: Path) -> np.ndarray[Any, Any]:
    return np.dstack([pixels(file), np.full(pixels(file).shape[:2], 255, np.uint8)])


def tensor(values: Any) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(np.array(values))


FORMS: dict[str, Callable[[Path], Any]] = {
    "bytes": Path.read_bytes,
    "bytearray": lambda file: bytearray(file.read_bytes()),
    "memoryview": lambda file: memoryview(file.read_bytes()),
    "pillow, opened": Image.open,
    "pillow, made": lambda file: Image.fromarray(pixels(file)),
    "datasets, bytes": lambda file: {"bytes": file.read_bytes(), "path": None},
    "datasets, path": lambda file: {"bytes": None, "path": str(file)},
    "numpy, 8 bits": pixels,
    "numpy, RGBA": lambda file: opaque(file),
    "numpy, float64": lambda file: pixels(file) / 255,
    "numpy, float32": lambda file: (pixels(file) / 255).astype(np.float32),
    "numpy, float16": lambda file: (pixels(file) / 255).astype(np.float16),
    "numpy, a view": lambda file: pixels(file)[::-1][::-1],
    "torch, 8 bits": lambda file: tensor(pixels(file)),
    "torch, channels first": lambda file: tensor(pixels(file)).permute(2, 0, 1),
    "torch, float": lambda file: (tensor(pixels(file)).permute(2, 0, 1) / 255).requires_grad_(),
    "torch, channels last": lambda file: tensor(pixels(file)) / 255,
}


def essence(detection: Detection) -> dict[str, Any]:
    """Without its name and what may differ between two calls."""
    dropped = {"image", "seconds", "file_mtime", "usage"}
    return detection.model_dump(exclude=dropped)


AS_IT_IS = [(form, 64) for form in FORMS]
SCALED = [(form, 200) for form in ("bytes", "pillow, made", "numpy, float32", "torch, float")]


@pytest.mark.parametrize(("form", "side"), [*AS_IT_IS, *SCALED])
def test_an_image_in_memory_gives_what_its_file_gives(world: World, form: str, side: int) -> None:
    truth = world(1, side)
    file = truth.parent / "p000.png"
    Image.fromarray((opaque if form == "numpy, RGBA" else pixels)(file)).save(file)
    given = FORMS[form](file)
    of_file = detect(file, model=f"sim:{truth}", max_side=128)
    in_memory = detect(given, model=f"sim:{truth}", max_side=128)
    assert in_memory.image == "image-000" or form == "datasets, path"
    assert len(in_memory.anomalies) == 4
    assert essence(in_memory) == essence(of_file)
    held = held_image(given, "it")
    assert held.sha256 == in_memory.sha256 == of_file.sha256
    assert load_image(Path("it"), data=held.data).encoded == load_image(file).encoded


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr", "HSV", "PA", "La", "I;16", "I", "F"])
def test_every_mode_of_pillow_is_taken_as_its_png_would_be(tmp_path: Path, mode: str) -> None:
    grey = Image.linear_gradient("L")
    image = Image.fromarray(np.asarray(grey, np.float32) / 255) if mode == "F" else grey.convert("RGB").convert("L")
    image = image if mode in ("F", "L") else image.convert("LA" if mode == "La" else "RGB" if mode == "HSV" else "L")
    image = image.convert(mode)
    loaded = load_image(Path("it"), data=held_image(image, "it").data)
    assert (loaded.width, loaded.height) == (256, 256)
    with Image.open(BytesIO(loaded.encoded.data)) as sent:
        values = np.asarray(sent.convert("L"), dtype=int)
    if mode not in ("1", "I", "I;16"):  # two levels; and brightness that is told from the range
        assert np.abs(values - np.asarray(grey, dtype=int)).max() <= 2
    if mode in ("1", "L", "LA", "P", "RGBA", "I;16"):
        image.save(tmp_path / "it.png")
        assert load_image(tmp_path / "it.png").encoded == loaded.encoded


def test_grey_arrays_are_grey_and_a_turned_photograph_is_turned(tmp_path: Path) -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8)
    of_grey = held_image(grey, "a").data
    assert held_image(grey[:, :, None], "b").data == of_grey == held_image(tensor(grey[None]), "c").data
    assert load_image(Path("a"), data=of_grey).encoded.width == 8
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (40, 20), "teal").save(tmp_path / "turned.jpg", exif=exif)
    of_file = load_image(tmp_path / "turned.jpg")
    in_memory = load_image(Path("it"), data=held_image(Image.open(tmp_path / "turned.jpg"), "it").data)
    assert (in_memory.width, in_memory.height) == (of_file.width, of_file.height) == (20, 40)


def test_lists_mix_paths_and_images_and_keep_their_order(world: World) -> None:
    truth = world(3)
    files = sorted(truth.parent.glob("*.png"))
    vlm = Simulator.from_file(truth)
    given = [Image.open(files[2]), files[0], files[1].read_bytes(), pixels(files[2])]
    found = asyncio.run(detect_async(given, model=vlm, schedule="single"))
    assert [d.image for d in found] == ["image-000", "p000.png", "image-002", "image-003"]
    assert [d.sha256 for d in found] == [held_image(files[n], "it").sha256 for n in (2, 0, 1)] + [found[0].sha256]
    assert [len(d.anomalies) for d in found] == [0, 4, 4, 0]
    assert vlm.steps.total() == 3  # the same image is asked about once
    assert found[3].usage == Usage()
    named = detect({"cat": given[0], "dog": files[0]}, model=vlm, schedule="single")
    assert [(d.image, len(d.anomalies)) for d in named] == [("cat", 0), ("dog", 4)]


def test_in_a_run_the_same_image_is_paid_for_once_under_whatever_name(world: World, tmp_path: Path) -> None:
    truth = world(2)
    one, two = (Image.open(truth.parent / f"p00{n}.png") for n in range(2))
    vlm, run = Simulator.from_file(truth), tmp_path / "run"
    first = detect([one, two], model=vlm, run=run)
    asked = vlm.steps.total()
    assert plan([two, one], model=vlm, run=run).images == 0
    again = detect({"b": two, "a": pixels(truth.parent / "p000.png")}, model=vlm, run=run)
    assert vlm.steps.total() == asked == len(list(read_calls(run)))
    assert [d.image for d in again] == ["b", "a"]
    assert [essence(d) for d in again] == [essence(d) for d in reversed(first)]
    kept = read_results(run)
    assert sorted(kept) == sorted(f"{d.sha256[:16]}.png" for d in first if d.sha256)
    assert {p.name for p in (run / "images").iterdir()} == set(kept)
    assert run_command(["report", run]).returncode == 0
    assert all(name in (run / "report.html").read_text() for name in kept)


def test_a_run_that_was_refused_leaves_nothing_and_unreadable_bytes_are_a_failure(world: World, tmp_path: Path) -> None:
    truth = world(1)
    image = Image.open(truth.parent / "p000.png")
    with pytest.raises(UsageError):
        detect([image], model="sim:/nowhere.json", run=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    for data in (b"hello", b"", (truth.parent / "p000.png").read_bytes()[:90]):
        broken = detect(data, model=f"sim:{truth}")
        assert broken.failure is not None
        assert broken.failure.kind == "unreadable_image"
        assert "'image-000'" in broken.failure.message
    mixed = detect({"good": image, "bad": b"hello"}, model=f"sim:{truth}", run=tmp_path / "run")
    assert [(d.image, d.status) for d in mixed] == [("good", "ok"), ("bad", "failed")]
    lines = [json.loads(line) for line in (tmp_path / "run" / "results.jsonl").read_text().splitlines()]
    detect({"good": image, "bad": b"hello"}, model=f"sim:{truth}", run=tmp_path / "run")
    assert len(lines) == len((tmp_path / "run" / "results.jsonl").read_text().splitlines()) == 2


def test_a_file_of_the_same_name_as_an_image_in_memory_is_another_image(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    truth = world(3)
    monkeypatch.chdir(truth.parent)
    os.link("p000.png", "image-001")
    found = detect(["image-001", Image.open("p002.png")], model=f"sim:{truth}", schedule="single")
    assert [(d.image, len(d.anomalies)) for d in found] == [("image-001", 4), ("image-001", 0)]


@pytest.mark.parametrize(
    ("image", "says"),
    [
        (np.zeros((2, 4, 4, 3), np.uint8), "image-000 is a batch 2x4x4x3; give its images one by one: list(batch)"),
        (np.zeros((3, 8, 9), np.uint8), "channels first? then array.transpose(1, 2, 0)"),
        (np.zeros((8, 9, 5), np.uint8), "has the shape 8x9x5"),
        (np.zeros((8,), np.uint8), "has the shape 8;"),
        (np.zeros((0, 8, 3), np.uint8), "has the shape 0x8x3"),
        (np.zeros((8, 8), bool), "an array of bool; give uint8 (0..255) or floats (0..1): multiply by 255"),
        (np.zeros((8, 8), np.uint16), "an array of uint16; give uint8 (0..255) or floats (0..1): 16 bits divided"),
        (np.zeros((8, 8), np.int64), "an array of int64"),
        (np.zeros((8, 8), object), "an array of object"),
        (np.full((8, 8, 3), 200.0), "floats from 200 to 200, where 0..1 is expected; divide them by 255"),
        (np.linspace(-1, 1, 64).reshape(8, 8), "bring -1..1 to 0..1 with x / 2 + 0.5"),
        (np.linspace(-3, 9, 64).reshape(8, 8), "floats from -3 to 9"),
        (np.full((8, 8), np.nan), "no numbers (NaN or infinite)"),
        (np.full((8, 8), np.inf, np.float16), "no numbers (NaN or infinite)"),
        (Image.new("RGB", (0, 4)), "a Pillow image of 0x4 pixels"),
        (Image.new("F", (4, 4), 70.0), "divide them by 255"),
        ({"bytes": None, "path": None}, "neither 'bytes' nor a 'path'"),
        ({"bytes": None, "path": "/nowhere.png"}, "image-000: '/nowhere.png' does not exist"),
        ([None], "image-000 is None"),
        ([[1, 2], [3, 4]], "image-000 is of the type list"),
        ({3: b""}, "the name of an image is 3"),
        ({"a": "/nowhere.png"}, "a: '/nowhere.png' does not exist"),
        (iter([b""]), "images is of the type list_iterator; give a path, a Pillow image"),
    ],
)
def test_what_is_no_image_is_refused_with_what_would_be_one(image: Any, says: str) -> None:
    with pytest.raises(UsageError) as refused:
        given_images(image)
    assert says in str(refused.value)


def test_a_closed_or_cut_file_is_refused_by_name_and_tensors_say_their_shape(tmp_path: Path) -> None:
    Image.effect_noise((64, 64), 50).save(tmp_path / "a.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "a.png").read_bytes()[:500])
    closed = Image.open(tmp_path / "a.png")
    closed.close()
    with Image.open(tmp_path / "cut.png") as cut:
        for image in (closed, cut):
            with pytest.raises(UsageError, match="it is a Pillow image that cannot be read"):
                held_image(image, "it")
    for shape in ((2, 3, 8, 8), (5, 8, 9)):
        with pytest.raises(UsageError, match=r"list\(batch\)|has the shape 5x8x9"):
            held_image(tensor(np.zeros(shape, np.uint8)), "it")


def test_values_a_rounding_error_outside_of_the_range_are_the_nearest_levels() -> None:
    values = np.array([[-0.0015, 1.0015], [0.5, 1.0]])
    with Image.open(BytesIO(held_image(values, "it").data)) as image:
        assert np.asarray(image).tolist() == [[0, 255], [128, 255]]


def test_nothing_is_imported_for_an_image_that_does_not_need_it() -> None:
    code = "import sys; from anomreason.sources.memory import given_images; given_images(b'x'); given_images(['y']); "
    ran = subprocess.run([sys.executable, "-c", code + "print('torch' in sys.modules)"], capture_output=True, text=True)
    assert ran.stdout == "False\n", ran.stderr
