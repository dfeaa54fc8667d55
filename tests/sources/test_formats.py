"""Foreign formats: read as published, written whole or not at all, refused with the file and the place."""

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from anomreason.anomaly import Anomaly, Region
from anomreason.errors import StorageError, UsageError
from anomreason.sources.formats.published import PublishedImage, read_published, write_published
from anomreason.sources.manifests import read_manifest, read_split

FINGERS = Anomaly(name="Six fingers", phenomenon="The left hand has six.", reasoning="Hands have five.", severity=25)
ENTRY = {
    "Name": "Six fingers",
    "Observed Phenomenon": "The left hand has six.",
    "Reasoning": "Hands have five.",
    "Severity Score": "25/100 (noticeable but not highly disruptive).",
}
LOWER = {"name": ENTRY["Name"], "phenomenon": FINGERS.phenomenon, "reasoning": FINGERS.reasoning, "severity": 25}

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(lambda t: bool(t.strip()))
ANOMALIES = st.builds(
    Anomaly,
    name=TEXTS,
    phenomenon=TEXTS,
    reasoning=TEXTS,
    severity=st.one_of(st.integers(0, 100), st.floats(0, 100)),
)
PUBLISHED = st.one_of(
    st.builds(PublishedImage, anomalies=st.lists(ANOMALIES, max_size=3).map(tuple)),
    st.builds(PublishedImage, description=TEXTS),
)


def file(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return path


# --- the authors' JSON


def test_both_published_forms_and_descriptions_are_read(tmp_path: Path) -> None:
    path = file(tmp_path, "a.json", {"a.jpg": [ENTRY, LOWER], "none.jpg": [], "photo.jpg": "Two cats on a sofa."})
    assert read_published(path) == {
        "a.jpg": PublishedImage(anomalies=(FINGERS, FINGERS)),
        "none.jpg": PublishedImage(),
        "photo.jpg": PublishedImage(description="Two cats on a sofa."),
    }


@given(published=st.dictionaries(TEXTS, PUBLISHED, max_size=4), lower_case=st.booleans())
def test_what_is_written_is_read_back_equal(
    tmp_path_factory: pytest.TempPathFactory, published: dict[str, PublishedImage], lower_case: bool
) -> None:
    path = tmp_path_factory.getbasetemp() / "round.json"
    write_published(path, published, lower_case=lower_case)
    assert read_published(path) == published


def test_the_written_file_is_in_the_published_form(tmp_path: Path) -> None:
    located = FINGERS.model_copy(update={"name": "Fünf", "objects": ("a",), "region": Region(x0=0, y0=0, x1=1, y1=1)})
    write_published(tmp_path / "a.json", {"a.jpg": PublishedImage(anomalies=(located,))})
    write_published(tmp_path / "b.json", {"a.jpg": PublishedImage(anomalies=(located,))}, lower_case=True)
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"a.jpg": [ENTRY | {"Name": "Fünf", "Severity Score": "25/100"}]}
    assert "Fünf" in text
    assert json.loads((tmp_path / "b.json").read_bytes()) == {"a.jpg": [LOWER | {"name": "Fünf"}]}


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_published(path, {"a.jpg": PublishedImage(description="A cat.")})
    with pytest.raises(UsageError, match="rename the image"):
        write_published(path, {"\udcff.jpg": PublishedImage()})
    with pytest.raises(StorageError, match=r"cannot write .*; check the folder"):
        write_published(tmp_path / "missing" / "a.json", {})
    (tmp_path / "folder").mkdir()
    with pytest.raises(StorageError, match=r"cannot write .*; check the folder"):
        write_published(tmp_path / "folder", {})
    assert read_published(path) == {"a.jpg": PublishedImage(description="A cat.")}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.json", "folder"]


def test_an_image_has_anomalies_or_a_description() -> None:
    with pytest.raises(ValidationError, match="not both"):
        PublishedImage(anomalies=(FINGERS,), description="A cat.")


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ('{"a.jpg": [', "line 1"),
        ('{\n"a.jpg": [],\n"b.jpg": [}', "line 3"),
        ('{"a.jpg": [], "a.jpg": []}', "'a.jpg' stands twice"),
        ([ENTRY], "write one JSON object, not a list"),
        ({"a.jpg": 5}, "image 'a.jpg': write a list of anomalies"),
        ({"a.jpg": " "}, "image 'a.jpg': write a list of anomalies"),
        ({"a.jpg": "\ud800"}, "image 'a.jpg': the description holds characters"),
        ({"a.jpg": [ENTRY, "x"]}, "image 'a.jpg', anomaly 2: an anomaly is an object"),
        ({"a.jpg": [{"Name": "x", "Phenomena": "y"}]}, "anomaly 1: 'Phenomenon' is missing"),
        ({"a.jpg": [LOWER | {"Name": "x"}]}, "anomaly 1: 'Name' stands twice"),
        ({"a.jpg": [LOWER | {"severity": "150/100"}]}, "anomaly 1: 'Severity Score' is '150/100'"),
        ({"a.jpg": [LOWER | {"severity": float("nan")}]}, "'NaN' is not a number"),
        ({"a.jpg": [LOWER | {"name": ["x"]}]}, "anomaly 1: 'Name' is a list"),
        (b'{"a.jpg": []}\n\xff', "line 2: not UTF-8"),
        ("[" * 100_000, "nested too deeply"),
        ("", "line 1"),
    ],
    ids=range(16),
)
def test_a_wrong_file_is_named_with_the_place(tmp_path: Path, content: object, told: str) -> None:
    path = file(tmp_path, "wrong.json", content)
    with pytest.raises(UsageError) as caught:
        read_published(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)


@pytest.mark.parametrize("read", [read_published, read_split])
def test_a_file_that_is_not_there_is_a_usage_error(tmp_path: Path, read: object) -> None:
    assert callable(read)
    for path in (tmp_path / "missing.json", tmp_path):
        with pytest.raises(UsageError, match="cannot be read"):
            read(path)


# --- splits


def test_a_split_is_read_as_it_stands(tmp_path: Path) -> None:
    path = file(tmp_path, "split.json", b"\xef\xbb\xbf" + b'{"train": ["b.jpg", "a.jpg"], "test": []}')
    assert read_split(path) == {"train": ("b.jpg", "a.jpg"), "test": ()}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"train": "a.jpg"}, "part 'train': write a list of image names, not 'a.jpg'"),
        ({"train": ["a.jpg", 3]}, "part 'train', entry 2"),
        ({"train": [""]}, "part 'train', entry 1"),
        (["a.jpg"], "write one JSON object"),
        ('{"train": [], "train": []}', "'train' stands twice"),
    ],
)
def test_a_wrong_split_is_named_with_the_place(tmp_path: Path, content: object, told: str) -> None:
    with pytest.raises(UsageError, match="split") as caught:
        read_split(file(tmp_path, "split.json", content))
    assert told in str(caught.value)


# --- manifests


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (
            "m.jsonl",
            '{"image": "b.jpg", "n": 1}\n\n{"file_name": "in/a.jpg"}\r\n{"path": "./b.jpg"}\n{"file": "/x/c.jpg"}',
        ),
        ("m.csv", 'n,image\n1,b.jpg\n\n2,in/a.jpg\n3,./b.jpg\n4,"/x/c.jpg"\n'),
        ("m.CSV", "\ufefffile_name , text\r\nb.jpg,two words\r\nin/a.jpg,\r\nb.jpg,\r\n/x/c.jpg,\r\n"),
        (
            "metadata.jsonl",
            '{"file_name": "b.jpg"}\n{"file_name": "in/a.jpg", "text": "\u2028"}\n{"image": "/x/c.jpg"}',
        ),
    ],
)
def test_a_manifest_gives_each_picture_once_in_order_from_its_folder(tmp_path: Path, name: str, content: str) -> None:
    path = file(tmp_path, name, content)
    assert read_manifest(path) == (tmp_path / "b.jpg", tmp_path / "in" / "a.jpg", Path("/x/c.jpg"))


@pytest.mark.parametrize(
    "content",
    [
        "file_name;label\nsub/m.png;1\n",
        "label;file_name\r\n1;sub/m.png\r\n",
        "sep=;\r\nlabel;image\r\n1;sub/m.png\r\n",
        "label\timage\n1\tsub/m.png\n",
        "image|label\nsub/m.png|1\n",
        'label;"file_name"\n"a;b, c";"sub/m.png"\n',
        "file_name\nsub\\m.png\n",
        "file_name\n.\\sub\\m.png\n",
        "Filename,Label\nsub/m.png,1\n",
        "label,File Name\n1,sub/m.png\n",
        "Image-Path\nsub/m.png\n",
        *(f"label,{key}\n1,sub/m.png\n" for key in ("img", "img_path", "image_file_name", "image_path", "IMAGE")),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_a_table_is_read_whatever_program_wrote_it(tmp_path: Path, content: str, encoding: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "m.png").touch()
    path = file(tmp_path, "m.csv", content.encode(encoding))
    assert read_manifest(path) == (tmp_path / "sub" / "m.png",)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_lines_are_read_in_any_encoding_that_windows_writes(tmp_path: Path, encoding: str) -> None:
    mark = "\ufeff" if encoding[-3:] in ("-le", "-be") else ""
    text = mark + '{"Image Path": "sub\\\\Zoë.png"}\r\n{"filename": "b.png"}\r\n'
    path = file(tmp_path, "m.jsonl", text.encode(encoding))
    assert read_manifest(path) == (tmp_path / "sub" / "Zoë.png", tmp_path / "b.png")


@pytest.mark.parametrize(
    ("written", "there"),
    [
        ("sub\\m.png", "sub\\m.png"),
        ("sub\\m.png", "sub/m.png"),
        ("my%20photo.png", "my photo.png"),
        ("my%20photo.png", "my%20photo.png"),
        ("100%.png", "100%.png"),
        ("Zoe\u0308.png", "Zo\u00eb.png"),
        ("Zo\u00eb.png", "Zoe\u0308.png"),
        ("sub\\Zo%C3%AB.png", "sub/Zoe\u0308.png"),
    ],
)
def test_a_manifest_may_spell_a_name_otherwise(tmp_path: Path, written: str, there: str) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / there).touch()
    path = file(tmp_path, "m.jsonl", json.dumps({"file_name": written}))
    assert read_manifest(path) == (tmp_path / there,)


def test_a_path_column_beside_a_file_column_is_left_alone(tmp_path: Path) -> None:
    path = file(tmp_path, "manifest.csv", "file,label,repo,path\nai/a.png,ai,x/y,docs/other.png\n")
    assert read_manifest(path) == (tmp_path / "ai" / "a.png",)


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("m.jsonl", '{"image": "a.jpg"}\n{"image": "b', "line 2"),
        ("m.jsonl", '{"image": "a.jpg"}\n\n{"picture": "b.jpg"}', "line 3: names no image"),
        ("m.jsonl", '{"image": "a.jpg", "image": "b.jpg"}', "line 1: the JSON cannot be read: the key 'image'"),
        ("m.jsonl", '{"image": NaN}', "line 1"),
        ("m.jsonl", '["a.jpg"]', "line 1: write one JSON object, not a list"),
        ("m.jsonl", '{"image": {"path": "a.jpg"}}', "line 1: write the path of an image, not an object"),
        ("m.jsonl", '{"image": "a\\u0000.jpg"}', "line 1: 'a\\x00.jpg' cannot be a path"),
        ("m.jsonl", '{"image": "\\ud800.jpg"}', "line 1: '\\ud800.jpg' cannot be a path"),
        (
            "m.jsonl",
            '{"image": "https://example.org/a.jpg?sig=1"}',
            "line 1: 'https://example.org/a.jpg': what",
        ),
        ("m.jsonl", "\n", "lists no images"),
        ("m.jsonl", b'{"image": "a.jpg"}\n{"image": "\xff.jpg"}', "line 2: not UTF-8"),
        ("m.csv", "", "lists no images"),
        ("m.csv", "image\n", "lists no images"),
        ("m.csv", "picture,n\na.jpg,1\n", "line 1: names no image"),
        ("m.csv", "n,image\n1,a.jpg\n2\n", "line 3: write the path of an image"),
        ("m.csv", "n,image\n1, \n", "line 2: write the path of an image"),
        ("m.csv", 'image\n"a.jpg\n', "line 2: not CSV"),
        ("m.csv", "image\n" + "a" * 200_000, "line 2: not CSV"),
        ("m.csv", "picture;n\na.jpg;1\n", "(the columns separated by semicolon are 'picture', 'n'"),
        ("m.csv", "file_nam,n\na.jpg,1\n", "did you mean 'file_nam' to be it?"),
        ("m.csv", "a.jpg,1\nb.jpg,2\n", "write a line such as file_name above it"),
        ("m.csv", "n,image\n1,C:\\data\\a.jpg\n", "line 2: 'C:\\\\data\\\\a.jpg' is a path of a Windows machine"),
        ("m.jsonl", '{"pictures": "a.jpg", "n": 1}', "(the keys are 'pictures', 'n'"),
        ("m.jsonl", '{"image": "a.jpg"}\n'.encode("utf-16")[:-1], "nor whole UTF-16"),
        ("m.txt", "a.jpg\n", "a manifest is a .jsonl, .csv or .tsv file"),
    ],
    ids=range(25),
)
def test_a_wrong_manifest_is_named_with_the_line(tmp_path: Path, name: str, content: object, told: str) -> None:
    path = file(tmp_path, name, content)
    with pytest.raises(UsageError) as caught:
        read_manifest(path)
    assert str(path) in str(caught.value)
    assert told in str(caught.value)
