"""Facts about what is read: every form, and every way in which a file can be damaged."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anomreason.anomaly import Anomaly, Basis, Candidate, Detection, Failure, Region
from anomreason.errors import UsageError
from anomreason.runs import RunFolder
from anomreason.sources.annotations import MAX_ANOMALIES, MAX_TEXT, key_of, read_names, read_source
from anomreason.sources.joining import Joined, entrant, join, scored_images

ODD = {
    "Name": "Odd hand",
    "Observed Phenomenon": "Six fingers.",
    "Reasoning": "Hands have five.",
    "Severity Score": "5/100",
}


def anomaly(severity: float = 5, **more: Any) -> Anomaly:
    return Anomaly(name="Odd hand", phenomenon="Six fingers.", reasoning="Hands have five.", severity=severity, **more)


def written(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(value, bytes):
        path.write_bytes(value)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in value))
    else:
        path.write_text(json.dumps(value))
    return path


def run_of(folder: Path, *detections: Detection) -> Path:
    with RunFolder(folder, {"model": "m"}, {"root": "../pictures"}) as run:
        for detection in detections:
            run.append(detection)
    return folder


def detection(image: str, *anomalies: Anomaly, **more: Any) -> Detection:
    return Detection(image=image, detector="m lean", status="ok", anomalies=anomalies, **more)


def test_both_published_forms_ours_and_a_run_say_the_same(tmp_path: Path) -> None:
    lower = {"name": "Odd hand", "phenomenon": "Six fingers.", "reasoning": "Hands have five.", "severity": 5}
    sources = [
        written(tmp_path / "a.json", {"x.jpg": [ODD], "y.jpg": []}),
        written(tmp_path / "b.json", {"x.jpg": [lower], "y.jpg": []}),
        written(
            tmp_path / "c.jsonl", [{"image": "x.jpg", "anomalies": [lower]}, {"image": "./y.jpg", "anomalies": []}]
        ),
        run_of(tmp_path / "run", detection("x.jpg", anomaly()), detection("y.jpg")),
    ]
    found = [read_source(path) for path in sources]
    assert [source.name for source in found] == ["a", "b", "c", "run"]
    assert len({tuple((k, s.anomalies, s.annotated) for k, s in source.images.items()) for source in found}) == 1
    assert found[3].detectors == ("m lean",)
    assert found[3].image_folder == tmp_path / "../pictures"


def test_of_a_run_the_last_line_of_an_image_counts_and_a_torn_one_is_passed_over(tmp_path: Path) -> None:
    refused = Detection(
        image="x.jpg", detector="m", status="failed", failure=Failure(kind="refused", message="It said no.")
    )
    run = run_of(tmp_path / "run", detection("x.jpg"), detection("y.jpg", anomaly()), refused)
    with (run / "results.jsonl").open("a") as file:
        file.write('{"image": "z.jpg", "det')
    for path in (run, run / "results.jsonl"):
        source = read_source(path)
        assert source.name == "run"
        assert {name: said.failure for name, said in source.images.items()} == {"x.jpg": "refused", "y.jpg": None}


def test_a_described_image_does_not_count_as_searched_for_anomalies(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", detection("x.jpg", description="A dog on a lawn."))
    [said] = read_source(run).images.values()
    assert (said.description, said.annotated, said.anomalies) == ("A dog on a lawn.", False, ())


def test_confidences_are_read_where_there_are_any(tmp_path: Path) -> None:
    kept = Candidate(
        name="Odd hand", phenomenon="Six fingers.", reasoning="Hands have five.", role="r", step="s", score=81
    )
    run = run_of(tmp_path / "run", detection("x.jpg", anomaly(), candidates=(kept,)), detection("y.jpg", anomaly()))
    assert [s.rated[0][1] for s in read_source(run).images.values()] == [81, None]
    reworded = anomaly(basis=Basis(role="r", step="s", score=64))
    run = run_of(tmp_path / "other", detection("x.jpg", reworded, candidates=(kept,)))
    assert read_source(run).images["x.jpg"].rated == [(anomaly(), 64)]
    published = written(tmp_path / "p.json", {"x.jpg": [{**ODD, "Confidence": 0.25}, ODD]})
    assert [sure for _, sure in read_source(published).images["x.jpg"].rated] == [0.25, None]


def test_objects_and_regions_are_kept_and_a_wrong_region_is_named(tmp_path: Path) -> None:
    region = Region(x0=0.1, y0=0.2, x1=0.5, y1=1)
    known = anomaly(objects=("hand", "cup"), region=region)
    rows = [{"image": "x.jpg", "anomalies": [{**ODD, "objects": ["hand", "cup"], "region": [0.1, 0.2, 0.5, 1]}, ODD]}]
    for path in (run_of(tmp_path / "run", detection("x.jpg", known, anomaly())), written(tmp_path / "l.jsonl", rows)):
        first, second = read_source(path).images["x.jpg"].anomalies
        assert (first.objects, first.region) == (("hand", "cup"), region)
        assert (second.objects, second.region) == ((), None)
    for wrong in ([0.5, 0, 0.1, 1], [10, 20, 300, 400], "left"):
        rows[0]["anomalies"][0]["region"] = wrong  # type: ignore[index]
        with pytest.raises(UsageError, match=r"l\.jsonl, line 1, image 'x\.jpg', anomaly 1: the region"):
            read_source(written(tmp_path / "l.jsonl", rows))


def test_a_name_that_no_disk_takes_is_an_error_that_shows_it() -> None:
    with pytest.raises(UsageError, match=r"xxx.* cannot be read: File name too long"):
        read_source("x" * 300)


def test_a_run_whose_calls_a_simulator_answered_is_simulated_under_whatever_name(tmp_path: Path) -> None:
    (tmp_path / "run.json").write_text("{}")
    row = {"image": "a.jpg", "detector": "gpt-4o lean", "status": "ok", "anomalies": []}
    (tmp_path / "results.jsonl").write_text(json.dumps(row) + "\n")
    assert not read_source(tmp_path).simulated
    (tmp_path / "calls.jsonl").write_text('{"model": "gpt-4o"}\n{"model": "sim:truth.json"}\n')
    assert read_source(tmp_path).simulated


def test_a_name_can_be_given(tmp_path: Path) -> None:
    path = written(tmp_path / "results.json", {"x.jpg": []})
    assert read_source(f"gpt-4o={path}").name == "gpt-4o"
    odd = written(tmp_path / "a=b.json", {"x.jpg": []})
    assert read_source(odd).name == "a=b"


WRONG: dict[str, tuple[str, Any, tuple[str, ...]]] = {
    "truncated": ("p.json", b'{"a.jpg": [{"Name": "x"', ("p.json", "line 1")),
    "truncated line": ("p.jsonl", b'{"image": "a.jpg", "anomalies": []}\n{"image": "b', ("p.jsonl", "line 2")),
    "wrong keys": ("p.json", {"a.jpg": [{"Title": "x"}]}, ("p.json", "'a.jpg'", "anomaly 1", "Name")),
    "wrong key of a line": ("p.jsonl", [{"image": "a.jpg", "anomalys": []}], ("line 1", "'anomalys'")),
    "no image": ("p.jsonl", [{"anomalies": []}], ("line 1", "image")),
    "nothing said": ("p.jsonl", [{"image": "a.jpg"}], ("line 1", "'a.jpg'", "anomalies")),
    "unknown failure": ("p.jsonl", [{"image": "a.jpg", "failure": "tired"}], ("'tired'", "refused")),
    "misspelt field of a detection": (
        "p.jsonl",
        [{"image": "a.jpg", "detector": "m", "status": "ok", "anomalys": []}],
        ("line 1", "unknown key 'anomalys', meant as 'anomalies'"),
    ),
    "NaN": ("p.json", b'{"a.jpg": [],\n"b.jpg": [{"severity": NaN}]}', ("p.json", "line 2", "NaN")),
    "NaN in a line": ("p.jsonl", b'{"image": "a.jpg", "p_generated": NaN, "anomalies": []}', ("line 1", "NaN")),
    "severity out of range": ("p.json", {"a.jpg": [{**ODD, "Severity Score": 150}]}, ("'a.jpg'", "anomaly 1", "150")),
    "long text": ("p.json", {"a.jpg": [{**ODD, "Reasoning": "x" * 10**6}]}, ("'a.jpg'", "anomaly 1", "1,000,000")),
    "long description": ("p.json", {"a.jpg": "x" * 10**6}, ("'a.jpg'", "1,000,000")),
    "many anomalies": ("p.json", {"a.jpg": [ODD] * 10_000}, ("'a.jpg'", "10,000")),
    "many anomalies in a line": ("p.jsonl", [{"image": "a.jpg", "anomalies": [ODD] * 10_000}], ("line 1", "10,000")),
    "not UTF-8": ("p.json", b'{"a.jpg":\n ["\xff"]}', ("p.json", "line 2", "UTF-8")),
    "line not UTF-8": ("p.jsonl", b'{"image": "\xff"}', ("p.jsonl", "line 1", "UTF-8")),
    "image twice": ("p.json", b'{"a.jpg": [], "a.jpg": []}', ("p.json", "'a.jpg'", "twice")),
    "image twice by another spelling": ("p.json", {"a.jpg": [], "./a.jpg": []}, ("p.json", "'./a.jpg'", "duplicate")),
    "image twice in lines": ("p.jsonl", [{"image": "a.jpg", "anomalies": []}] * 2, ("line 2", "'a.jpg'", "duplicate")),
    "name that is no text": ("p.json", b'{"\\ud800.jpg": []}', ("p.json", "ud800", "not text")),
    "text that is no text": ("p.jsonl", b'{"image": "a.jpg", "description": "\\ud800"}', ("line 1", "not text")),
    "empty": ("p.json", {}, ("p.json", "no image")),
    "a list": ("p.json", [1], ("p.json", "object")),
    "a line that is a list": ("p.jsonl", [[1]], ("line 1", "object")),
    "confidence in words": ("p.json", {"a.jpg": [{**ODD, "confidence": "high"}]}, ("anomaly 1", "'high'")),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_damaged_file_is_named_with_the_place(case: str, tmp_path: Path) -> None:
    name, content, told = WRONG[case]
    path = written(tmp_path / name, content)
    with pytest.raises(UsageError) as raised:
        read_source(path)
    assert [part for part in (path.name, *told) if part not in str(raised.value)] == []
    assert len(str(raised.value)) < 600


def test_a_damaged_run_is_named_with_the_line(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", detection("x.jpg"))
    with (run / "results.jsonl").open("a") as file:
        file.write('{"image": 5}\n')
    with pytest.raises(UsageError, match=r"results\.jsonl, line 2"):
        read_source(run)
    with pytest.raises(UsageError, match="does not exist"):
        read_source(tmp_path / "nowhere")
    with pytest.raises(UsageError, match="no results yet"):
        read_source(run_of(tmp_path / "new"))


def test_bounds_are_bearable(tmp_path: Path) -> None:
    full = [{**ODD, "Reasoning": "x" * MAX_TEXT}] + [ODD] * (MAX_ANOMALIES - 1)
    assert len(read_source(written(tmp_path / "p.json", {"a.jpg": full})).images["a.jpg"].anomalies) == MAX_ANOMALIES


def test_names_of_a_subset_in_every_form(tmp_path: Path) -> None:
    split = written(tmp_path / "split.json", {"train": ["a.jpg"], "test": ["b.jpg", "c.jpg"]})
    assert read_names(split) == ("b.jpg", "c.jpg")
    assert read_names(f"{split}:train") == ("a.jpg",)
    assert read_names(written(tmp_path / "list.json", ["a.jpg"])) == ("a.jpg",)
    assert read_names(written(tmp_path / "names.txt", b"a.jpg\n\n b.jpg \n")) == ("a.jpg", "b.jpg")
    assert read_names(written(tmp_path / "m.csv", b"file_name,x\nsub/a.jpg,1\n")) == ("sub/a.jpg",)
    with pytest.raises(UsageError, match="'train', 'test'"):
        read_names(f"{split}:val")
    with pytest.raises(UsageError, match="PART"):
        read_names(written(tmp_path / "two.json", {"one": ["a.jpg"], "two": []}))
    with pytest.raises(UsageError, match="entry 1"):
        read_names(written(tmp_path / "bad.json", [5]))


def test_images_are_joined_by_path_else_by_a_file_name_that_occurs_once() -> None:
    here = ["a/1.png", "b/1.png", "b/2.png", "3.png"]
    assert join(here, ["a/1.png", "x/2.png", "3.png"]) == Joined(
        {"a/1.png": "a/1.png", "3.png": "3.png", "b/2.png": "x/2.png"}, {"b/2.png": "file name"}, ()
    )
    assert join(here, ["x/1.png", "x/2.png", "y/2.png", "3.png", "4.png"]) == Joined(
        {"3.png": "3.png"}, {}, ("4.png",), ("x/1.png", "x/2.png", "y/2.png")
    )


@pytest.mark.parametrize(
    ("here", "there", "way"),
    [
        ("Zo\u00eb.png", "Zoe\u0308.png", "spelling"),
        ("a/Zo\u00eb.png", "b/Zoe\u0308.png", "spelling"),
        ("my photo.png", "my%20photo.png", "spelling"),
        ("Zoe\u0308.png", "Zo%C3%AB.PNG", "spelling"),
        ("D.JPG", "D.jpg", "spelling"),
        ("x/100%.png", "100%.PNG", "spelling"),
        ("sub/m.png", "sub%2Fm.png", "spelling"),
        ("sub/m.png", "sub%5Cm.png", "spelling"),
        ("cup.png", "3b051792-cup.png", "upload prefix"),
        ("data/cup.png", "upload/1/3b051792-cup.PNG", "upload prefix"),
        ("3b051792-cup.png", "cup.png", "upload prefix"),
        ("my cup.png", "3b051792-my%20cup.png", "upload prefix"),
        ("cup.png", "0f8fad5b-d9cb-469f-a165-70867728950e_cup.png", "upload prefix"),
        ("Cup.png", "cup.png", None),
        ("cup.png", "cup.jpg", None),
        ("cup.png", "20240101-cup.png", None),
        ("cup.png", "new-cup.png", None),
        ("cup.png", "3b0517-cup.png", None),
        ("\u0430.png", "a.png", None),
    ],
)
def test_another_spelling_of_a_name_is_joined(here: str, there: str, way: str | None) -> None:
    here, there = key_of(here), key_of(there)
    joined = join([here, "other.png"], ["third.png", there])
    assert joined.of == ({here: there} if way else {})
    assert joined.ways == ({here: way} if way else {})
    assert joined.strangers == (("third.png",) if way else ("third.png", there))


@pytest.mark.parametrize(
    ("here", "there"),
    [
        (["D.JPG", "D.jpg"], ["D.Jpg"]),
        (["D.Jpg"], ["D.JPG", "D.jpg"]),
        (["my photo.png"], ["x/my%20photo.png", "y/my%20photo.png"]),
        (["cup.png"], ["3b051792-cup.png", "5b051792-cup.png"]),
        (["a/cup.png", "b/cup.png"], ["3b051792-cup.png"]),
        (["Zo\u00eb.PNG"], ["Zoe\u0308.png", "Zo%C3%AB.png"]),
    ],
)
def test_a_spelling_that_may_be_one_of_several_is_not_joined(here: list[str], there: list[str]) -> None:
    assert join(here, there) == Joined({}, {}, (), tuple(there))


def test_a_name_as_it_stands_goes_before_another_spelling() -> None:
    joined = join(["cup.png", "a/cup.PNG", "D.jpg"], ["cup.png", "cup.PNG", "D.jpg", "3b051792-D.jpg"])
    assert joined.of == {"cup.png": "cup.png", "a/cup.PNG": "cup.PNG", "D.jpg": "D.jpg"}
    assert joined.strangers == ("3b051792-D.jpg",)


def test_a_name_that_may_be_one_of_several_is_told_apart_from_a_stranger(tmp_path: Path) -> None:
    true = scored_images(read_source(written(tmp_path / "t.json", {"x/a.jpg": [], "y/a.jpg": [], "b.jpg": []})), None)
    said = entrant(read_source(written(tmp_path / "p.json", {"./a.jpg": [], "b.jpg": [], "new.jpg": []})), true)
    assert (said.named(said.ambiguous), said.named(said.strangers)) == (["./a.jpg"], ["new.jpg"])
    assert join(["x/a.jpg"], ["x/a.jpg", "a.jpg"]).strangers == ("a.jpg",), "the only one it might be has its partner"
    names = tmp_path / "names.txt"
    names.write_text("b.jpg\na.jpg\n")
    assert scored_images(true.source, names).unknown == ("a.jpg",)


names = st.lists(st.sampled_from([f"{d}{n}" for d in ("", "a/", "b/c/") for n in "1234"]), unique=True)


@given(names, names)
def test_a_join_is_one_to_one_and_loses_nothing(here: list[str], there: list[str]) -> None:
    joined = join(here, there)
    assert len(set(joined.of.values())) == len(joined.of)
    assert set(joined.of) <= set(here)
    parts = [*joined.of.values(), *joined.strangers, *joined.ambiguous]
    assert sorted(parts) == sorted(there)
    assert set(here) & set(there) <= set(joined.of)


def test_names_are_compared_in_one_form() -> None:
    assert {key_of(name) for name in ("./a//b.png", "a/b.png", "a\\b.png", "a/x/../b.png")} == {"a/b.png"}


def test_what_cannot_be_scored_is_listed_and_not_lost(tmp_path: Path) -> None:
    truth = read_source(written(tmp_path / "t.json", {"a.jpg": [ODD], "b.jpg": "A cat.", "c.jpg": []}))
    true = scored_images(truth, written(tmp_path / "s.txt", b"a.jpg\nb.jpg\nz.jpg"))
    assert (list(true.images), true.photographs, true.unknown) == (["a.jpg"], ("b.jpg",), ("z.jpg",))
    other = entrant(read_source(written(tmp_path / "p.json", {"q/a.jpg": [], "c.jpg": [], "n.jpg": []})), true)
    assert (list(other.answers), other.ways, other.strangers) == (["a.jpg"], {"a.jpg": "file name"}, ("n.jpg",))
    with pytest.raises(UsageError, match="no annotated image"):
        scored_images(truth, written(tmp_path / "none.txt", b"b.jpg"))
    with pytest.raises(UsageError, match=r"no image in common.*'n\.jpg'.*'a\.jpg'"):
        entrant(read_source(written(tmp_path / "q.json", {"n.jpg": []})), true)


def test_kind_and_polygon_are_read_from_runs_and_lines_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    region = Region.from_polygon([(0.1, 0.2), (0.5, 0.2), (0.3, 1)])
    known = anomaly(kind="anatomy", region=region)
    row = {**ODD, "kind": "anatomy", "region": region.model_dump(mode="json")}
    lines = written(tmp_path / "l.jsonl", [{"image": "x.jpg", "anomalies": [row]}])
    for path in (run_of(tmp_path / "run", detection("x.jpg", known)), lines):
        assert read_source(path).images["x.jpg"].anomalies == (known,)
    for wrong, message in (
        ({"kind": 7}, "anomaly 1: 'kind' is 7"),
        ({"region": {**row["region"], "x1": 0.6}}, "anomaly 1: the region is an object: .*not the bounding box"),
        ({"region": {**row["region"], "polygon": [[0, 0]] * 10_000}}, "anomaly 1: the region .*polygon .*at most 2000"),
        ({"region": {**row["region"], "polygon": [[0.1, 0.2]]}}, "anomaly 1: the region .*polygon .*at least 3"),
    ):
        with pytest.raises(UsageError, match=message):
            read_source(written(lines, [{"image": "x.jpg", "anomalies": [row | wrong]}]))


@pytest.mark.parametrize("given", ["", " ", "name=", "name= "])
def test_an_empty_path_is_an_error_and_not_the_current_folder(given: str) -> None:
    with pytest.raises(UsageError, match="is empty"):
        read_source(given)
