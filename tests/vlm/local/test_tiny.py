"""The model that comes with the package: small, found by its name, asked as it was taught, silent on photographs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

pytest.importorskip("torch")

from PIL import Image

from anomreason import AnomreasonError, detect
from anomreason.detector import DetectOptions
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.vlm.card import TINY_KINDS
from anomreason.vlm.ledger import price_of
from anomreason.vlm.local.weights import BUNDLED, find_checkpoint

PICTURES = Path(__file__).parents[4] / "shared" / "images"


def test_it_is_small_and_stands_with_its_card() -> None:
    from safetensors import safe_open

    with safe_open(BUNDLED / "model.safetensors", "pt") as weights:
        parameters = sum(weights.get_tensor(name).numel() for name in weights.keys())  # noqa: SIM118
    assert parameters <= 15_000_000
    assert sum(path.stat().st_size for path in BUNDLED.iterdir()) <= 25_000_000
    assert json.loads((BUNDLED / "anomreason.json").read_text(encoding="utf-8"))["out_of_domain"]
    assert (BUNDLED / "README.md").is_file()


def test_its_name_always_means_the_bundled_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "tiny").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_checkpoint("tiny").base == BUNDLED
    price = price_of("tiny")
    assert price is not None
    assert price.input == 0


def test_other_schedules_and_servers_are_refused_with_what_to_do(tmp_path: Path) -> None:
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    with pytest.raises(AnomreasonError, match="schedule single"):
        detect(tmp_path / "a.png", model="tiny", schedule="lean")
    with pytest.raises(AnomreasonError, match=r"base_urls .--base-url. has no effect"):
        detect(tmp_path / "a.png", model="tiny", base_urls=("http://localhost:1/v1",))


@pytest.mark.slow
def test_it_finds_what_is_planted_and_little_else(tmp_path: Path) -> None:
    from anomreason.evaluation.exact import evaluate_exact

    make_scenes(tmp_path / "scenes", SceneSettings(n=24, seed=40, size=256, kinds=TINY_KINDS, twins=False), jobs=1)
    detect([str(tmp_path / "scenes")], model="tiny", run=tmp_path / "run")
    scores = evaluate_exact(tmp_path / "run", tmp_path / "scenes")
    assert scores.failures == {}
    assert scores.recall.value > 0.6
    assert scores.precision.value > 0.6
    assert scores.false_on_clean.value < 0.4


def test_of_what_is_no_scene_it_says_so(tmp_path: Path) -> None:
    for name, colour in (("a", (10, 200, 30)), ("b", (255, 255, 255))):
        Image.new("RGB", (300, 200), colour).save(tmp_path / f"{name}.png")
    found = detect([str(tmp_path)], model="tiny")
    assert [one.out_of_domain for one in found] == [True, True]
    assert DetectOptions().schedule == "lean"


@pytest.mark.real
@pytest.mark.skipif(not PICTURES.is_dir(), reason="the optional folder of pictures is not there")
def test_on_photographs_it_invents_nothing(tmp_path: Path) -> None:
    for path in sorted(p for p in PICTURES.rglob("*") if p.suffix in (".jpg", ".png", ".webp")):
        with Image.open(path) as image:
            image.convert("RGB").resize((512, 512), Image.Resampling.LANCZOS).save(tmp_path / f"{path.stem}.png")
    found = detect([str(tmp_path)], model="tiny")
    assert sum(bool(one.anomalies) for one in found) <= 2
