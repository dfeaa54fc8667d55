"""A dataset of scenes: what is in the folder, the same bytes for the same seed, and nothing lost on the way."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.forking import Command, run_command

from anomreason.errors import RunConflict, UsageError
from anomreason.scenes.make import SceneDataset, SceneSettings, make_scenes, scene_seed
from anomreason.sources.formats.published import read_published
from anomreason.vlm.simulator.truth import SimulatorTruth

SMALL = SceneSettings(world="sprites", n=12, seed=7, size=128)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> SceneDataset:
    return make_scenes(tmp_path_factory.mktemp("made") / "scenes", SMALL, jobs=1)


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "metadata.jsonl").read_text().splitlines()]


def files_of(folder: Path) -> dict[str, bytes]:
    dropped = {"scenes.jsonl", "scenes.lock"}  # the order of work, and who worked
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file() and p.name not in dropped
    }


def test_every_image_has_its_line_and_every_anomaly_its_twin(made: SceneDataset) -> None:
    rows = rows_of(made.folder)
    files = [row["file_name"] for row in rows]
    assert sorted(files) == sorted(f"images/{p.name}" for p in (made.folder / "images").iterdir())
    scenes = [row for row in rows if not row["twin_of"]]
    assert len(scenes) == made.scenes == 12
    assert 0 < made.clean < 12
    by_name = {row["file_name"]: row for row in rows}
    for row in scenes:
        assert len(row["twins"]) == len(row["anomalies"])
        for k, twin in enumerate(row["twins"]):
            mended = by_name[twin]
            assert (mended["twin_of"], mended["mended"]) == (row["file_name"], k)
            assert mended["anomalies"] == row["anomalies"][:k] + row["anomalies"][k + 1 :]


def test_the_truth_is_told_in_every_form(made: SceneDataset) -> None:
    rows = {row["file_name"]: row for row in rows_of(made.folder)}
    published = read_published(made.folder / "published.json")
    assert {name: [a.name for a in one.anomalies] for name, one in published.items()} == {
        name: [a["name"] for a in row["anomalies"]] for name, row in rows.items()
    }
    truth = SimulatorTruth.read(made.folder / "simulator.json")
    for name in rows:
        key = truth.recognize((made.folder / name).read_bytes())
        assert [a.name for a in truth.image(key).anomalies] == [a["name"] for a in rows[name]["anomalies"]]
    card = (made.folder / "README.md").read_text()
    assert "0 = completely implausible" in card
    with Image.open(made.folder / "contact-sheet.png") as sheet:
        assert sheet.width > 500


def test_the_folder_opens_as_an_imagefolder(
    made: SceneDataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    opened = datasets.load_dataset("imagefolder", data_dir=str(made.folder), cache_dir=str(tmp_path))["train"]
    assert len(opened) == made.images
    assert opened[0]["image"].size == (128, 128)
    assert {a["kind"] for row in opened for a in row["anomalies"]} == set(made.planted)


def test_the_same_seed_gives_the_same_bytes_in_one_process_or_two(made: SceneDataset, tmp_path: Path) -> None:
    make_scenes(tmp_path / "scenes", SMALL, jobs=2)
    assert files_of(tmp_path / "scenes") == files_of(made.folder)


def test_more_scenes_leave_the_first_ones_as_they_were(tmp_path: Path) -> None:
    make_scenes(tmp_path, SceneSettings(n=3, size=64), jobs=1)
    before = files_of(tmp_path)
    make_scenes(tmp_path, SceneSettings(n=5, size=64), jobs=1)
    after = files_of(tmp_path)
    assert {k: v for k, v in after.items() if k in before and k.startswith("images")} == {
        k: v for k, v in before.items() if k.startswith("images")
    }
    assert len({row["scene"] for row in rows_of(tmp_path)}) == 5


@pytest.mark.slow
def test_kill_minus_nine_loses_nothing(tmp_path: Path) -> None:
    make = ("--n", "24", "--size", "96", "--seed", "3", "--jobs", "1")
    command = ["scenes", "make", "--out", str(tmp_path / "killed"), *make]
    records, rng = tmp_path / "killed" / "scenes.jsonl", random.Random(3)
    for part in (1, 2):
        goal = int(24 * (part - rng.random()) / 3)
        process = Command(command)
        while process.poll() is None and (not records.exists() or records.read_bytes().count(b"\n") < goal):
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert run_command(command).returncode == 0
    make_scenes(tmp_path / "whole", SceneSettings(n=24, size=96, seed=3), jobs=1)
    left_behind = [p for p in files_of(tmp_path / "killed") if p.endswith(".part")]
    killed = {k: v for k, v in files_of(tmp_path / "killed").items() if k not in left_behind}
    assert killed == files_of(tmp_path / "whole")
    assert len(records.read_text().splitlines()) == 24


def test_a_lost_image_is_drawn_again(tmp_path: Path) -> None:
    make_scenes(tmp_path, SceneSettings(n=4, size=64), jobs=1)
    before = files_of(tmp_path)
    os.remove(tmp_path / "images" / "000002.png")
    make_scenes(tmp_path, SceneSettings(n=4, size=64), jobs=1)
    assert files_of(tmp_path) == before


def test_other_settings_and_other_files_are_refused(tmp_path: Path) -> None:
    make_scenes(tmp_path / "a", SceneSettings(n=2, size=64), jobs=1)
    with pytest.raises(RunConflict, match="seed: 0 there, 1 now"):
        make_scenes(tmp_path / "a", SceneSettings(n=2, size=64, seed=1), jobs=1)
    with pytest.raises(RunConflict, match="not removed"):
        make_scenes(tmp_path / "a", SceneSettings(n=1, size=64), jobs=1)
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "letter.txt").write_text("mine")
    with pytest.raises(RunConflict, match="other files"):
        make_scenes(tmp_path / "b", SceneSettings(n=2, size=64), jobs=1)


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"world": "moon"}, "sprites or rooms"),
        ({"n": 0}, "at least 1 scene"),
        ({"size": 9}, "64 to 2048"),
        ({"violation_rate": 1.5}, "0 to 1"),
        ({"max_violations": 4}, "1 to 3"),
        ({"kinds": ("haunted",)}, "no kind 'haunted'; the kinds are floating, .*, out of place"),
        ({"kinds": ("flaoting",)}, "did you mean 'floating'"),
    ],
)
def test_what_cannot_be_made_is_refused_with_what_can(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError, match=told):
        SceneSettings(**wrong)


def test_kinds_are_written_with_spaces_or_underscores() -> None:
    assert SceneSettings(kinds=("out of place", "missing_part")).kinds == ("out_of_place", "missing_part")  # type: ignore[arg-type]


def test_the_rate_is_the_share_of_scenes_with_violations() -> None:
    for rate in (0.0, 0.3, 1.0):
        counts = [scene_seed(SceneSettings(violation_rate=rate), scene)[1] for scene in range(2000)]
        assert abs(sum(c > 0 for c in counts) / 2000 - rate) < 0.04
        assert max(counts) <= 3


def test_generators_of_five_known_rates_are_ranked_right(tmp_path: Path) -> None:
    from anomreason.audit.assess import assess

    rates = (0.0, 0.2, 0.4, 0.7, 1.0)
    inputs = []
    for place, rate in enumerate(rates):
        folder = tmp_path / f"g{place}"
        make_scenes(folder, SceneSettings(n=40, size=64, seed=place, violation_rate=rate, twins=False), jobs=1)
        inputs.append(f"g{place}={folder / 'published.json'}")
    found = assess(inputs).generators
    for metric in ("mai", "af", "cap"):
        scores = {one.generator: one.scores[metric].value for one in found}
        ordered = [scores[f"g{place}"] for place in range(len(rates))]
        assert ordered == sorted(ordered)
        assert len(set(ordered)) == len(ordered)
