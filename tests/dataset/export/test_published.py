"""The authors' form, read back by everything of ours that reads it."""

import json
from pathlib import Path

import pytest
from tests.dataset.export.filling import picture

from anomreason.anomaly import Anomaly
from anomreason.dataset.collect import CollectOptions, collect
from anomreason.dataset.export import ExportOptions, export
from anomreason.dataset.export.planning import plan_images
from anomreason.dataset.export.records import exported_images
from anomreason.dataset.store import Store, open_store
from anomreason.errors import UsageError
from anomreason.scenes.make import SceneSettings, make_scenes
from anomreason.sources.annotations import read_source
from anomreason.sources.formats.published import PublishedImage, read_published, write_published
from anomreason.sources.manifests import read_split
from anomreason.training.data.sources import read_annotated


def quadruple(anomaly: Anomaly) -> Anomaly:
    return anomaly.model_copy(update={"kind": None, "objects": (), "region": None})


def test_annotations_splits_and_descriptions_are_read_back_equal(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out, ExportOptions("published"))
    with filled.reading() as session:
        plan = plan_images(session, ExportOptions())
        images = list(exported_images(session, filled, plan, ExportOptions()))
    assert read_published(out / "annotations.json") == {
        i.name: PublishedImage(description=i.description)
        if i.description
        else PublishedImage(anomalies=tuple(map(quadruple, i.quadruples)))
        for i in images
    }
    assert read_split(out / "split.json") == {
        split: tuple(i.name for i in images if i.split == split) for split in ("test", "train")
    }
    for image in images:
        assert image.name in read_source(out / "annotations.json").images


def test_the_folder_can_be_trained_on_as_it_is(filled: Store, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(filled, out, ExportOptions("published"))
    parts = [read_annotated(out, part=part) for part in ("train", "test")]
    assert {one.reason for part in parts for one in part.dropped} == {
        "not in part 'train' of the split",
        "not in part 'test' of the split",
    }
    images = [one for part in parts for one in part.images]
    assert {one.name: one.generated for one in images} == {
        "clean.webp": True,
        "etc/_script_alert(_x_)_/script___q_.png": True,
        "sd _ 3.5/two.jpg": True,
        "cats/one.png": True,
        "flux/two.jpg": True,
        "0_real/park.png": False,
        "scene.png": True,
    }
    assert all(one.image.is_file() for one in images)


def test_a_release_goes_in_and_comes_out_as_it_was(tmp_path: Path) -> None:
    release = {
        "1_fake/b.jpg": PublishedImage(
            anomalies=(
                Anomaly(name="Six fingers", phenomenon="A hand\nhas six.", reasoning='"Five".', severity=5),
                Anomaly(name="Ohne Schatten", phenomenon="Keiner.", reasoning="Licht.", severity=33.25),
            )
        ),
        "1_fake/clean.jpg": PublishedImage(),
        "0_real/a.jpg": PublishedImage(description="A street\nin the rain."),
    }
    splits = {"test": ["1_fake/clean.jpg"], "train": ["0_real/a.jpg", "1_fake/b.jpg"]}
    for number, name in enumerate(release):
        (tmp_path / "release" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "release" / name).write_bytes(picture(number, "JPEG"))
    write_published(tmp_path / "anomalies.json", release)
    (tmp_path / "split.json").write_text(json.dumps(splits))
    options = CollectOptions(annotations=(str(tmp_path / "anomalies.json"),), splits=(tmp_path / "split.json",))
    with open_store(tmp_path / "data", create=True) as store:
        collect(store, [tmp_path / "release"], options)
        with pytest.raises(UsageError, match="no division 'default' into splits; give --scheme 'published'"):
            export(store, tmp_path / "out", ExportOptions("published"))
        export(store, tmp_path / "out", ExportOptions("published", scheme="published"))
    assert read_published(tmp_path / "out/annotations.json") == release
    annotations = (json.loads((tmp_path / f).read_text()) for f in ("out/annotations.json", "anomalies.json"))
    assert next(annotations) == next(annotations)
    written = json.loads((tmp_path / "out/split.json").read_text())
    assert {split: sorted(names) for split, names in written.items()} == splits
    for name in release:
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "release" / name).read_bytes()


def test_scenes_come_out_with_all_that_was_planted_and_clean_ones_as_clean(tmp_path: Path) -> None:
    made = make_scenes(tmp_path / "scenes", SceneSettings(n=6, size=64), jobs=1)
    with open_store(tmp_path / "data", create=True) as store:
        collect(store, [tmp_path / "scenes"])
        report = export(store, tmp_path / "out", ExportOptions("published"))
    assert (report.images, report.left_out) == (made.images, {})
    assert read_published(tmp_path / "out/annotations.json") == read_published(tmp_path / "scenes/published.json")
