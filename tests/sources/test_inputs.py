"""Facts about which images an input means, in folders as people have them."""

import os
import socket
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomreason.errors import UsageError
from anomreason.sources.inputs import find_images


def touch(*paths: Path) -> None:
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def names(*inputs: str | Path) -> list[str]:
    return [image.name for image in find_images(inputs).images]


def passed_over(*inputs: str | Path) -> str:
    return "\n".join(find_images(inputs).passed_over)


@pytest.mark.parametrize("given", ["", " ", "\n"])
def test_an_empty_input_is_an_error(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "private.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match="is empty"):
        find_images([tmp_path, given])


@pytest.mark.parametrize("given", ["a\0b.png", "missing.png", "x" * 5000 + ".png", "no/*.png", "no/**/*.png"])
def test_an_input_that_cannot_be_is_named(given: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError) as caught:
        find_images([given])
    assert repr(given)[:30] in str(caught.value)


@pytest.mark.parametrize(
    "name",
    [
        *("@eaDir", "__MACOSX", "#recycle", "$RECYCLE.BIN", "lost+found", ".thumbnails", ".Trashes", ".git"),
        *("@Recycle", ".AppleDouble", ".snapshot", ".ipynb_checkpoints"),
    ],
)
def test_folders_of_the_system_are_not_searched_unless_named(tmp_path: Path, name: str) -> None:
    touch(tmp_path / "a.png", tmp_path / name / "t.png", tmp_path / "sub" / name / "a.png" / "SYNOPHOTO_THUMB_M.png")
    for given in (tmp_path, f"{tmp_path}/**/*.png", f"{tmp_path}/**/**/*.png"):
        assert names(given) == ["a.png"]
    assert names(tmp_path / name) == names(f"{tmp_path}/{name}/*.png") == ["t.png"]
    assert name.startswith(".") or name in passed_over(tmp_path)


def test_files_of_the_system_are_not_taken(tmp_path: Path) -> None:
    junk = ["._a.png", ".DS_Store", "Thumbs.db", "desktop.ini", ".hidden.jpg"]
    touch(tmp_path / "a.png", *(tmp_path / name for name in junk))
    assert names(tmp_path) == names(f"{tmp_path}/*") == names(f"{tmp_path}/**") == ["a.png"]


def test_an_unreadable_folder_is_passed_over_and_reported(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "z" / "b.png", tmp_path / "locked" / "c.png", tmp_path / "half" / "d.png")
    code = (
        "import sys, os; from anomreason.sources.inputs import find_images; os.geteuid() or (os.setgroups([]), "
        "os.setuid(65534)); f = find_images(sys.argv[1:]); print([i.name for i in f.images], f.passed_over)"
    )
    for folder in (tmp_path, *tmp_path.parents):
        if Path(tempfile.gettempdir()) in folder.parents:
            folder.chmod(0o755)
    (tmp_path / "locked").chmod(0)
    (tmp_path / "half").chmod(0o444)
    try:
        ran = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True)
    finally:
        (tmp_path / "locked").chmod(0o755)
        (tmp_path / "half").chmod(0o755)
    assert "['a.png', 'half/d.png', 'z/b.png']" in ran.stdout, ran.stderr
    assert "could not be read (Permission denied) (1)" in ran.stdout
    assert "locked" in ran.stdout


def test_a_folder_with_nothing_but_unreadable_folders_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "lost+found" / "a.png")
    with pytest.raises(UsageError, match=r"holds no images.*passed over: folders of the system"):
        find_images([tmp_path])


def test_linked_folders_are_followed_once(tmp_path: Path) -> None:
    photos, other = tmp_path / "photos", tmp_path / "other"
    touch(photos / "a.png", photos / "z" / "c.png", other / "b.png", other / "deep" / "d.png")
    for link, target in {"linked": other, "again": other, "0": photos / "z", "self": photos, "up": tmp_path}.items():
        (photos / link).symlink_to(target)
    (other / "back").symlink_to(photos)
    (other / "loop").symlink_to("loop")
    for given in (photos, f"{photos}/**/*.png"):
        assert names(given) == ["a.png", "z/c.png", "again/b.png", "again/deep/d.png"]
        assert "searched already (5)" in passed_over(given)


def test_a_loop_of_links_ends(tmp_path: Path) -> None:
    touch(tmp_path / "a.png")
    for n in range(8):
        (tmp_path / f"l{n}").symlink_to(".")
    assert names(tmp_path) == names(f"{tmp_path}/**/*.png") == names(f"{tmp_path}/**/**/*.png") == ["a.png"]


def test_a_file_counts_once_however_it_is_reached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path / "sub" / "m.png")
    (tmp_path / "a.png").symlink_to("sub/m.png")
    (tmp_path / "door").symlink_to("sub")
    monkeypatch.chdir(tmp_path)
    assert names(".") == ["sub/m.png"]
    assert names("sub", "sub/m.png", "./sub/../sub/m.png", tmp_path, "sub/*.png", "door/*", "door") == ["sub/m.png"]
    assert names("a.png", "sub/m.png") == ["a.png"]
    assert "that is there already (1): " in passed_over("a.png", "sub/m.png")
    (tmp_path / "list.csv").write_text("image\na.png\nsub/m.png\n")
    assert names("list.csv") == ["a.png", "sub/m.png"], "a list means the names that it has"


def test_names_of_equal_files_stay_different_images(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "b.png")
    os.link(tmp_path / "a.png", tmp_path / "c.png")
    assert names(tmp_path) == ["a.png", "b.png", "c.png"]


def test_links_to_images_elsewhere_are_images(tmp_path: Path) -> None:
    store, subset = tmp_path / "store", tmp_path / "subset"
    touch(store / "0f3a.png", store / "77aa.png")
    subset.mkdir()
    (subset / "1.png").symlink_to(store / "0f3a.png")
    (subset / "2.png").symlink_to(store / "77aa.png")
    (subset / "3.png").symlink_to(store / "gone.png")
    assert names(subset) == ["1.png", "2.png", "3.png"], "the third fails by its name, when it is opened"


def test_pipes_and_sockets_are_passed_over(tmp_path: Path) -> None:
    touch(tmp_path / "a.png", tmp_path / "folder.png" / "b.png")
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "null.png").symlink_to("/dev/null")
    there = os.getcwd()
    os.chdir(tmp_path)
    try:
        with socket.socket(socket.AF_UNIX) as listening:
            listening.bind("s.png")
    finally:
        os.chdir(there)
    for given in (tmp_path, f"{tmp_path}/**/*.png"):
        assert names(given) == ["a.png", "folder.png/b.png"]
        assert "pipes, sockets and devices (3)" in passed_over(given)


def test_a_folder_that_goes_while_it_is_searched_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path / "a.png", tmp_path / "gone" / "b.png", tmp_path / "z" / "c.png")
    scan = os.scandir

    def vanishing(path: str) -> object:
        if path.endswith("gone"):
            os.rename(path, tmp_path.parent / f"{tmp_path.name}-gone")
        return scan(path)

    monkeypatch.setattr(os, "scandir", vanishing)
    found = find_images([tmp_path])
    assert [image.name for image in found.images] == ["a.png", "z/c.png"]
    assert "No such file or directory" in found.passed_over[0]


@pytest.mark.parametrize("odd", [b"\xff\xfe.png", b"a\nb.png", b"\x1b[31m.png", b" .png", "Zoë.png".encode()])
def test_any_name_is_found(tmp_path: Path, odd: bytes) -> None:
    try:
        Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + odd)).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system takes only UTF-8 names")
    assert names(tmp_path) == [odd.decode("utf-8", "backslashreplace").replace("\\x", "\\udc")]


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.png", ["a.png"]),
        ("*", ["a.png", "n.txt"]),
        ("**/*.png", ["a.png", "s/b.png", "s/t/c.png"]),
        ("**/t/*", ["s/t/c.png"]),
        ("*/*/*.png", ["s/t/c.png"]),
        ("s/**", ["b.png", "t/c.png"]),
        ("[st]/?.png", ["s/b.png"]),
        ("x [1]/*.png", ["x [1]/d.png"]),
        (".h/*.png", ["e.png"]),
        ("*/.k.png", ["s/.k.png"]),
    ],
)
def test_globs_match_as_in_a_shell(tmp_path: Path, pattern: str, expected: list[str]) -> None:
    files = ["a.png", "n.txt", "s/b.png", "s/t/c.png", "x [1]/d.png", ".h/e.png", "s/.k.png"]
    touch(*(tmp_path / name for name in files))
    assert [name for name in names(f"{tmp_path}/{pattern}") if "[1]" not in name or "[1]" in pattern] == expected


@pytest.mark.parametrize(
    "row", ["../secret.png", "{}/secret.png", "link.png", "door/secret.png", "sub/../../secret.png"]
)
def test_a_folders_own_list_names_nothing_outside_of_it(tmp_path: Path, row: str) -> None:
    folder, outer = tmp_path / "photos", tmp_path
    touch(folder / "a.png", outer / "secret.png")
    (folder / "link.png").symlink_to(outer / "secret.png")
    (folder / "door").symlink_to(outer)
    manifest = folder / "metadata.csv"
    manifest.write_text(f"file_name\na.png\n{row.format(outer)}\n")
    with pytest.raises(UsageError, match=r"metadata.csv, line 3: .* lies outside of the folder .* --outside"):
        find_images([folder])
    assert len(find_images([manifest]).images) == 2, "the list itself was named"
    assert len(find_images([folder], outside=True).images) == 2


def tar(path: Path, *names: str) -> None:
    with tarfile.open(path, "w") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(name))


def test_shards_of_webdataset_are_named_by_a_pattern_or_a_glob(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for n in (8, 9, 10):
        tar(tmp_path / f"shard-{n:03}.tar", f"{n}.jpg", f"{n}.json", f"{n}.txt")
    expected = ["shard-008.tar/8.jpg", "shard-009.tar/9.jpg", "shard-010.tar/10.jpg"]
    for entry in ("shard-{008..010}.tar", "shard-*.tar"):
        found = find_images([entry])
        assert [image.name for image in found.images] == expected
        assert len(found.passed_over) == 1
        assert "texts beside the images in archives" in found.passed_over[0]
    with pytest.raises(UsageError, match=r"'shard-011.tar' does not exist"):
        find_images(["shard-{010..011}.tar"])
    with pytest.raises(UsageError, match="stands for no shards"):
        find_images(["shard-{9..1}.tar"])


def test_a_parquet_file_lists_images_by_their_paths(tmp_path: Path) -> None:
    (tmp_path / "a.png").touch()
    pq.write_table(pa.table({"image": ["a.png", "b.png"], "prompt": ["x", "y"]}), tmp_path / "list.parquet")
    found = find_images([tmp_path / "list.parquet"])
    assert [image.path for image in found.images] == [tmp_path / "a.png", tmp_path / "b.png"]
    pq.write_table(pa.table({"image": [b"x", b"y"], "file_name": ["a.png", "b.png"]}), tmp_path / "held.parquet")
    assert names(tmp_path / "held.parquet") == ["held.parquet/0", "held.parquet/1"]
    pq.write_table(pa.table({"prompt": ["x"]}), tmp_path / "none.parquet")
    with pytest.raises(UsageError, match="names no image"):
        find_images([tmp_path / "none.parquet"])
    (tmp_path / "torn.parquet").write_bytes(b"PAR1")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        find_images([tmp_path / "torn.parquet"])
