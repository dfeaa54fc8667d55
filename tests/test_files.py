"""Facts about files: what is read strictly, and that a file is written whole or not at all."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from anomreason.errors import StorageError, UsageError
from anomreason.files import read_lines, read_object, read_text, write_atomically

DAMAGED = {
    "torn": b'{"n": 2\n',
    "no object": b"[2]\n",
    "NaN": b'{"n": NaN}\n',
    "key twice": b'{"n": 2, "n": 3}\n',
    "zero bytes": b"\x00\x00\n",
    "not UTF-8": b'{"n": "\xff"}\n',
    "too deep": b"[" * 200_000 + b"\n",
}


@pytest.mark.parametrize("line", DAMAGED.values(), ids=DAMAGED)
@pytest.mark.parametrize("appended", [False, True])
def test_a_damaged_line_in_the_middle_is_an_error_that_names_it(tmp_path: Path, line: bytes, appended: bool) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'{"n": 1}\n\n' + line + b'{"n": 4}\n')
    with pytest.raises(UsageError, match=r"lines\.jsonl, line 3: "):
        list(read_lines(file, appended=appended))


def test_a_torn_last_line_counts_only_where_nobody_appends(tmp_path: Path) -> None:
    file = tmp_path / "lines.jsonl"
    file.write_bytes(b'\xef\xbb\xbf{"n": 1}\n{"n": 2}')
    assert list(read_lines(file)) == [(1, {"n": 1}), (2, {"n": 2})]
    assert list(read_lines(file, appended=True)) == [(1, {"n": 1})]
    file.write_bytes(b'{"n": 1}\n{"n":')
    assert list(read_lines(file, appended=True)) == [(1, {"n": 1})]
    with pytest.raises(UsageError, match="line 2"):
        list(read_lines(file))


def test_a_file_that_is_appended_to_need_not_exist_yet(tmp_path: Path) -> None:
    assert list(read_lines(tmp_path / "none", appended=True)) == []
    for read in (lambda path: list(read_lines(path)), read_object, read_text):
        with pytest.raises(UsageError, match="none cannot be read: No such file"):
            read(tmp_path / "none")
        with pytest.raises(UsageError, match="cannot be read: Is a directory"):
            read(tmp_path)


def test_a_file_is_written_whole_from_text_bytes_and_parts(tmp_path: Path) -> None:
    file = tmp_path / "a"
    write_atomically(file, "ü \udcff\n")
    assert file.read_bytes() == b"\xc3\xbc \\udcff\n"
    write_atomically(file, [b"a", b"b"])
    assert file.read_bytes() == b"ab"
    write_atomically(file, b"c", sync=False)
    assert file.read_bytes() == b"c"
    assert os.listdir(tmp_path) == ["a"]


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path: Path) -> None:
    def parts() -> Iterator[bytes]:
        yield b"half"
        raise ValueError("our own fault")

    file = tmp_path / "a"
    file.write_text("old")
    with pytest.raises(ValueError, match="our own fault"):
        write_atomically(file, parts())
    with pytest.raises(StorageError, match=r"cannot write .*missing.* check the folder"):
        write_atomically(tmp_path / "missing" / "a", "new")
    code = f"""
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from pathlib import Path
from anomreason.errors import StorageError
from anomreason.files import write_atomically
resource.setrlimit(resource.RLIMIT_FSIZE, (20, 20))
try:
    write_atomically(Path({str(file)!r}), "x" * 100)
except StorageError as e:
    print(e)
"""
    full = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "File too large; check the folder, its permissions and the free space" in full
    assert file.read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]
