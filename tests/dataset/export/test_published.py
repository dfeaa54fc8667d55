"""The authors' form, read back by everything of ours that reads it."""

import json
from pathlib import Path

from tests.dataset.export.filling import Filler

from anomreason.anomaly import Anomaly
from anomreason.dataset.export import ExportOptions, export
from anomreason.dataset.export.selecting import exported_images, plan_images
from anomreason.dataset.store import Store, open_store
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
    """As `collect` stores one: names as its keys, candidates of origin `published`."""
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
    write_published(tmp_path / "release.json", release)
    with open_store(tmp_path / "data", create=True) as store:
        with store.command("collect", {}) as command, store.writing() as session:
            make = Filler(store, session, command.id)
            kinds = {"0_real": "photograph", "1_fake": "ai"}
            sources = {folder: make.source(folder, kind=kind) for folder, kind in kinds.items()}
            for name, one in release.items():
                image = make.image(sources[name[:6]], name, split="train", format="JPEG")
                if one.description:
                    make.described(image, one.description)
                else:
                    make.searched(image)
                for number, anomaly in enumerate(one.anomalies):
                    values = anomaly.model_dump(include={"name", "phenomenon", "reasoning", "severity"})
                    make.candidate(image, values, number, origin="published", detector="authors")
        export(store, tmp_path / "out", ExportOptions("published"))
    assert read_published(tmp_path / "out/annotations.json") == release
    text = (tmp_path / "out/annotations.json").read_text()
    assert json.loads(text) == json.loads((tmp_path / "release.json").read_text())
    assert sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.jpg")) == sorted(
        release
    )
