"""AI image or photograph: what folders, labels and annotations say, and what happens when they disagree."""

from __future__ import annotations

import pytest

from anomreason.anomaly import Anomaly
from anomreason.errors import UsageError
from anomreason.sources.annotations import ImageAnnotation, pack
from anomreason.sources.generated import by_folder, is_generated

ANOMALIES = pack([(Anomaly(name="Hand", phenomenon="Six fingers.", reasoning="Hands have five.", severity=5), None)])


@pytest.mark.parametrize(
    ("name", "generated"),
    [
        ("0_real/a.jpg", False),
        ("1_fake/flux/a.jpg", True),
        ("x/1_fake/a.jpg", True),
        ("1_fake/y/1_fake/a.jpg", True),
        ("a.jpg", None),
        ("1_fake", None),
        ("1_fakes/a.jpg", None),
    ],
)
def test_folders_anywhere_in_the_name_say_what_an_image_is(name: str, generated: bool | None) -> None:
    assert by_folder(name, "truth.json") is generated


@pytest.mark.parametrize(
    ("annotation", "name", "generated"),
    [
        (ImageAnnotation("a", ANOMALIES), "a", True),
        (ImageAnnotation("a"), "a", True),
        (ImageAnnotation("a", description="A cat.", annotated=False), "a", False),
        (ImageAnnotation("a", annotated=False), "a", None),
        (ImageAnnotation("a"), "0_real/a", False),
        (ImageAnnotation("a", annotated=False), "1_fake/a", True),
        (ImageAnnotation("a", generated=False), "0_real/a", False),
        (ImageAnnotation("a", generated=False, annotated=False), "a", False),
    ],
)
def test_a_label_goes_before_the_form_of_the_annotation(
    annotation: ImageAnnotation, name: str, generated: bool | None
) -> None:
    assert is_generated(annotation, name, "truth.json") is generated


@pytest.mark.parametrize(
    ("annotation", "name"),
    [
        (ImageAnnotation("a", ANOMALIES), "0_real/a"),
        (ImageAnnotation("a", description="A cat.", annotated=False), "1_fake/a"),
        (ImageAnnotation("a", generated=True), "0_real/a"),
        (ImageAnnotation("a", ANOMALIES, generated=False), "a"),
        (ImageAnnotation("a"), "0_real/1_fake/a"),
    ],
)
def test_what_contradicts_itself_is_an_error_that_names_file_and_image(annotation: ImageAnnotation, name: str) -> None:
    with pytest.raises(UsageError, match=r"truth\.json, image 'a': labelled as both"):
        is_generated(annotation, name, "truth.json")
