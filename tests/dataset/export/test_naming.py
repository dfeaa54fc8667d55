"""Names of exported images: the original ones where they can be, unique and safe everywhere."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from anomreason.dataset.export.naming import Named, safe_name, safe_split, unique_names


def named(name: str, source: str = "flux", sha: str = "a", form: str = "PNG") -> Named:
    return Named(sha * 64, name, source, form)


@pytest.mark.parametrize("name", ["a.png", "cats/one two.PNG", "0_real/Straße (3).png", "_a.png", "a+b,c=d@e.png"])
def test_an_ordinary_name_stays_as_it_is(name: str) -> None:
    assert safe_name(name, "PNG") == name


@pytest.mark.parametrize(
    ("name", "safe"),
    [
        ("../../etc/passwd", "etc/passwd.png"),
        ("/absolute/a.png", "absolute/a.png"),
        (r"C:\images\a.png", "C_/images/a.png"),
        ('<script>alert("x")</script>\n\'.png', "_script_alert(_x_)_/script___.png"),
        (".hidden.png", "hidden.png"),
        ("__x/a.png", "x/a.png"),
        ("-rf.png", "rf.png"),
        ("con.png", "_con.png"),
        ("file://a[0]*.png", "file_/a_0__.png"),
        ("..", "image.png"),
        ("", "image.png"),
        ("a.jpg", "a.jpg.png"),
        ("a.png. ", "a.png"),
        ("a\u202eb.png", "a_b.png"),
    ],
)
def test_a_name_that_could_do_harm_is_made_safe(name: str, safe: str) -> None:
    assert safe_name(name, "PNG") == safe


def test_a_name_ends_as_its_format_does_in_any_of_the_usual_ways() -> None:
    assert [safe_name("a.jpeg", "JPEG"), safe_name("a.JFIF", "JPEG")] == ["a.jpeg", "a.JFIF"]
    assert [safe_name("a", "JPEG"), safe_name("a.png", "WEBP")] == ["a.jpg", "a.png.webp"]


def test_the_source_is_added_where_two_images_have_one_name_and_a_hash_where_that_does_not_tell_them_apart() -> None:
    images = [
        named("one.png"),
        named("two.png", "flux", "b"),
        named("two.png", "sd3", "c"),
        named("three.png", "flux", "d"),
        named("Three.PNG", "flux", "e"),
    ]
    assert unique_names(images) == [
        "one.png",
        "flux/two.png",
        "sd3/two.png",
        f"flux/{'d' * 12}-three.png",
        f"flux/{'e' * 12}-Three.PNG",
    ]


def test_a_name_that_another_one_would_be_given_stays_with_its_owner() -> None:
    images = [named("flux/two.png"), named("two.png", "flux", "b"), named("two.png", "sd3", "c")]
    assert unique_names(images) == ["flux/two.png", f"flux/{'b' * 12}-two.png", "sd3/two.png"]


def test_no_image_lies_where_another_one_needs_a_folder() -> None:
    assert unique_names([named("a.png"), named("a.png/b.png", sha="b")]) == ["flux/a.png", "a.png/b.png"]


@given(
    st.lists(
        st.builds(
            Named,
            st.text("0123456789abcdef", min_size=64, max_size=64),
            st.one_of(st.text(max_size=40), st.sampled_from(["a.png", "A.png", "a.png/b", "flux/a.png", "é.png"])),
            st.sampled_from(["flux", "FLUX", "..", "a.png", ""]),
            st.sampled_from(["PNG", "JPEG"]),
        ),
        max_size=8,
        unique_by=lambda image: image.sha256,
    )
)
@settings(max_examples=150, deadline=None)
def test_names_are_unique_on_every_file_system_and_lead_nowhere(images: list[Named]) -> None:
    names = unique_names(images)
    assert len({name.casefold() for name in names}) == len(images)
    folders = {str(parent).casefold() for name in names for parent in PurePosixPath(name).parents}
    for name in names:
        assert name.casefold() not in folders
        assert name.isprintable()
        name.encode("utf-8")
        for part in name.split("/"):
            assert part not in ("", ".", "..")
            assert not part.startswith((".", "-", "__"))
            assert len(part.encode()) <= 250
            assert not set(part) & set("<>:\"'|?*\\`\n")
    assert unique_names(images) == names


def test_a_split_has_a_name_that_datasets_takes() -> None:
    assert [safe_split(name) for name in ("train", "in-domain", "../x y", "-")] == [
        "train",
        "in_domain",
        "x_y",
        "split",
    ]
