"""Facts about `deepfake make`: what gets into a set, what is refused, and what a leak of the files leads to."""

import json
import os
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.deepfake import make as making
from anomreason.deepfake.encoding import Reencoding
from anomreason.deepfake.folder import SetFolder, sample
from anomreason.deepfake.judge import read_truth
from anomreason.deepfake.make import SetOptions, SetReport, SetSource, make_set
from anomreason.errors import RunConflict, UsageError
from anomreason.sources.annotations import read_names

HAND = {"name": "Hand", "phenomenon": "The hand has six fingers.", "reasoning": "Hands have five.", "severity": 5}


def scenery(n: int, side: int = 48) -> Image.Image:
    """Large patches of colour that no other number has."""
    patches = np.random.default_rng(n).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    return Image.fromarray(patches).resize((side, side), Image.Resampling.BICUBIC)


def images(folder: Path, numbers: range, suffix: str = ".png", side: int = 48) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for n in numbers:
        scenery(n, side).save(folder / f"{n}{suffix}")
    return folder


@pytest.fixture
def sources(tmp_path: Path) -> tuple[SetSource, ...]:
    return (
        SetSource("photos", images(tmp_path / "photos", range(12)), False),
        SetSource("flux", images(tmp_path / "flux", range(100, 106)), True),
        SetSource("sdxl", images(tmp_path / "sdxl", range(200, 206)), True),
    )


def parts(out: Path) -> dict[str, set[str]]:
    return {part: set(names) for part, names in json.loads(SetFolder(out).split.read_text()).items()}


def rows(out: Path) -> dict[str, dict[str, object]]:
    return {row["image"]: row for row in map(json.loads, SetFolder(out).truth.read_text().splitlines())}


def test_every_image_is_in_the_truth_and_in_one_part_and_nothing_is_copied(
    tmp_path: Path, sources: tuple[SetSource, ...]
) -> None:
    out = tmp_path / "set"
    report = make_set(out, sources)
    truth = read_truth(out / "truth.jsonl")
    assert [(one.name, one.generated, one.images) for one in report.sources] == [
        ("photos", False, 12),
        ("flux", True, 6),
        ("sdxl", True, 6),
    ]
    assert sum(bool(one.generated) for one in truth.images.values()) == 12
    found = parts(out)
    assert found["train"] | found["test"] == set(truth.images)
    assert not found["train"] & found["test"]
    assert set(read_names(f"{out / 'split.json'}:test")) == found["test"] == set(SetFolder(out).names("test"))
    assert all((out / "images" / name).is_symlink() and (out / "images" / name).is_file() for name in truth.images)
    assert {name.split("/")[1] for name in truth.images} == {"photos", "flux", "sdxl"}
    assert report.form is not None
    assert not report.form.leaks


def test_near_duplicates_and_images_of_one_prompt_are_in_one_part(
    tmp_path: Path, sources: tuple[SetSource, ...]
) -> None:
    for n in range(12):
        scenery(n).save(tmp_path / "photos" / f"{n}-again.jpg", quality=80)
    prompts = [{"file_name": f"{n}.png", "prompt": f"prompt {n % 3}"} for n in range(100, 106)]
    (tmp_path / "flux/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in prompts))
    report = make_set(tmp_path / "set", sources)
    assert report.alike == 12
    part = {name: part for part, names in parts(tmp_path / "set").items() for name in names}
    for n in range(12):
        assert part[f"0_real/photos/{n}.png"] == part[f"0_real/photos/{n}-again.jpg"]
    for n in range(100, 103):
        assert part[f"1_fake/flux/{n}.png"] == part[f"1_fake/flux/{n + 3}.png"]


def test_the_same_again_changes_nothing_and_new_images_join_while_the_others_keep_their_part(
    tmp_path: Path, sources: tuple[SetSource, ...]
) -> None:
    out = tmp_path / "set"
    first = make_set(out, sources)
    before, files = parts(out), (out / "files.jsonl").read_bytes()
    assert make_set(out, sources) == first
    assert (out / "files.jsonl").read_bytes() == files
    images(tmp_path / "sdxl", range(206, 230))
    (tmp_path / "photos/3.png").unlink()
    assert make_set(out, sources).images == first.images + 24 - 1
    after = parts(out)
    assert all(before[part] - {"0_real/photos/3.png"} <= after[part] for part in before)
    assert not (out / "images/0_real/photos/3.png").is_symlink()
    with pytest.raises(UsageError, match="was made with ratios"):
        make_set(out, sources, SetOptions(ratios={"train": 0.8, "test": 0.2}))


def test_a_second_process_is_refused_while_a_set_is_made(tmp_path: Path, sources: tuple[SetSource, ...]) -> None:
    refused = list[str]()

    def second(*_: object) -> None:
        if not refused:
            with pytest.raises(RunConflict) as error:
                make_set(tmp_path / "set", sources)
            refused.append(str(error.value))

    made = make_set(tmp_path / "set", sources, progress=second)
    assert f"another process ({os.getpid()}) works in the set folder" in refused[0]
    assert make_set(tmp_path / "set", sources) == made


def test_a_making_that_was_killed_is_continued(
    tmp_path: Path, sources: tuple[SetSource, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    undisturbed = make_set(tmp_path / "other", sources)
    for step in ("_place", "_divide", "_write_truth"):
        with monkeypatch.context() as patch:
            patch.setattr(making, step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
            with pytest.raises(KeyboardInterrupt):
                make_set(tmp_path / "set", sources)
        with pytest.raises(UsageError, match="make one: anomreason deepfake make"):
            SetFolder(tmp_path / "set").names("test")
    with (tmp_path / "set/files.jsonl").open("a") as file:
        file.write('{"path": "torn')
    assert make_set(tmp_path / "set", sources) == undisturbed
    assert parts(tmp_path / "set") == parts(tmp_path / "other")


@pytest.mark.parametrize("suffix", [".png", ".bmp"])
def test_an_image_that_is_in_both_classes_is_an_error_that_names_both_files(
    tmp_path: Path, sources: tuple[SetSource, ...], suffix: str
) -> None:
    scenery(7).save(tmp_path / f"flux/same{suffix}")
    with pytest.raises(UsageError, match=r"1 image is in both classes: .*photos/7\.png.* and .*flux/same"):
        make_set(tmp_path / "set", sources)


def test_copies_within_a_class_are_left_out_and_unreadable_files_are_counted_and_named(
    tmp_path: Path, sources: tuple[SetSource, ...]
) -> None:
    shutil.copy(tmp_path / "photos/1.png", tmp_path / "photos/copy.png")
    (tmp_path / "flux/broken.png").write_bytes(b"no image")
    report = make_set(tmp_path / "set", sources)
    counts = {one.name: (one.images, one.duplicates, one.unreadable) for one in report.sources}
    assert counts == {"photos": (12, 1, 0), "flux": (6, 0, 1), "sdxl": (6, 0, 0)}
    assert list(report.unreadable) == [str(tmp_path / "flux/broken.png")]


def test_a_file_whose_name_is_not_utf_8_is_named_and_left_out(tmp_path: Path, sources: tuple[SetSource, ...]) -> None:
    scenery(50).save(tmp_path / "one.png")
    os.rename(tmp_path / "one.png", os.fsencode(tmp_path / "photos") + b"/\xff.png")
    report = make_set(tmp_path / "set", sources)
    assert [(one.images, one.unreadable) for one in report.sources] == [(12, 1), (6, 0), (6, 0)]
    assert "rename the file" in "".join(report.unreadable.values())


def test_what_a_metadata_file_knows_is_in_the_truth(tmp_path: Path, sources: tuple[SetSource, ...]) -> None:
    described = [{"file_name": f"{n}.png", "description": f"Colours {n}."} for n in range(12)]
    (tmp_path / "photos/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in described))
    known = [{"file_name": f"{n}.png", "anomalies": [HAND] if n % 2 else []} for n in range(100, 106)]
    (tmp_path / "flux/metadata.jsonl").write_text("".join(json.dumps(row) + "\n" for row in known))
    report = make_set(tmp_path / "set", sources)
    assert (report.described, report.annotated) == (12, 6)
    truth = read_truth(tmp_path / "set/truth.jsonl").images
    assert truth["0_real/photos/3.png"].description == "Colours 3."
    assert [len(truth[f"1_fake/flux/{n}.png"].anomalies) for n in (100, 101)] == [0, 1]
    (tmp_path / "flux/metadata.jsonl").write_text('{"file_name": "100.png", "anomalies": [{"name": "x"}]}\n')
    with pytest.raises(UsageError, match=r"image '100\.png': an anomaly of its metadata file cannot be read"):
        make_set(tmp_path / "set", sources)


def test_bad_sources_are_refused(tmp_path: Path, sources: tuple[SetSource, ...]) -> None:
    photos, flux, sdxl = sources
    for given, message in (
        ((photos,), "no folder of AI images is named; give one with --fake"),
        ((flux,), "no folder of photographs"),
        ((photos, flux, sdxl._replace(name="Flux")), "2 folders are called 'flux'"),
        ((photos, flux._replace(folder=tmp_path / "none")), "is no folder"),
        ((photos, flux._replace(name="a/b")), "cannot name a source"),
    ):
        with pytest.raises(UsageError, match=message):
            make_set(tmp_path / "set", given)
    with pytest.raises(UsageError, match=r"holds other files .* and no made\.json; give another OUT"):
        make_set(tmp_path / "photos", (photos._replace(folder=tmp_path / "sdxl"), flux))


def called(*arguments: str) -> str:
    result = CliRunner().invoke(app, ["deepfake", *arguments])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_leak_of_file_types_is_named_and_the_command_that_is_offered_removes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    images(Path("photos"), range(40), ".jpg", 80)
    images(Path("made"), range(100, 140), ".png", 96)
    said = called("make", "set", "--real", "photos", "--fake", "flux=made")
    assert "WARNING: the files alone tell photographs from AI images" in said
    assert re.search(r"file type: balanced accuracy 1\.00 .*AI image when the file type is PNG", said)
    assert "It may hide what shows that an image is generated" in said
    (offered,) = re.findall(r"anomreason (deepfake make set-alike .*)", said)
    called(*shlex.split(offered)[1:])
    alike = SetReport.model_validate_json(Path("set-alike/made.json").read_text())
    assert alike.form is not None
    assert not {leak.fact for leak in alike.form.telling} & {"file type", "width", "height", "jfif metadata"}
    with Image.open("set-alike/images/1_fake/flux/100.jpg") as image:
        assert (image.format, image.size) == ("JPEG", (80, 80))


def test_photographs_are_described_by_a_model_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    images(Path("photos"), range(6))
    images(Path("made"), range(100, 106))
    known = {f"photos/{n}.png": {"objects": [], "anomalies": [], "generated": False} for n in range(6)}
    Path("sim.json").write_text(json.dumps(known))
    command = ("make", "set", "--real", "photos", "--fake", "made", "--model", "sim:sim.json")
    assert "6 photographs described" in called(*command)
    assert sum("description" in row for row in rows(Path("set")).values()) == 6
    calls = Path("set/descriptions/calls.jsonl").read_bytes()
    called(*command)
    assert Path("set/descriptions/calls.jsonl").read_bytes() == calls
    assert sum("description" in row for row in rows(Path("set")).values()) == 6


def test_a_sample_takes_photographs_and_ai_images_by_turns_and_grows() -> None:
    names = [f"0_real/a/{n}.png" for n in range(20)] + [f"1_fake/b/{n}.png" for n in range(4)]
    few, many = sample(names, 6), sample(names, 15)
    assert len([name for name in few if name.startswith("1_fake")]) == 3
    assert set(few) <= set(many)
    assert len(many) == 15
    assert sample(names, 100) == tuple(sorted(names))


@pytest.mark.parametrize("text", ["jpeg", "jpeg:0", "jpeg:101", "png:9", "gif", "", "jpeg:9x"])
def test_a_form_that_cannot_be_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no form of a file"):
        Reencoding.parse(text)
