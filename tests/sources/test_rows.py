"""Tables are read row by row: a damaged row is a value that names its line, and the next ones follow."""

from __future__ import annotations

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from anomreason.errors import UsageError
from anomreason.sources.rows import count_rows, open_parquet, read_rows


def read(path: Path, data: bytes) -> list[tuple[int, dict[str, object], str | None]]:
    path.write_bytes(data)
    return [(row.number, dict(row.values), row.wrong) for row in read_rows(path)]


def test_a_damaged_line_of_json_is_named_and_the_next_ones_follow(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.jsonl", b'{"a": 1}\n\n{torn\n\xff\n[1]\n{"a": 2}\n{"a"')
    assert [(number, values) for number, values, wrong in rows if wrong is None] == [(1, {"a": 1}), (6, {"a": 2})]
    wrong = {number: why for number, _, why in rows if why}
    assert wrong.keys() == {3, 4, 5, 7}
    assert "line 4: not UTF-8" in wrong[4]


@pytest.mark.parametrize(
    ("data", "number"),
    [
        (b"a,b\n1,x\n", 2),
        (b"a;b\r\n1;x\r\n", 2),
        (b"sep=|\r\na|b\r\n1|x\r\n", 3),
        ("a,b\n1,x\n".encode("utf-16"), 2),
        (b"\xef\xbb\xbfa,b\n1,x\n", 2),
    ],
)
def test_csv_of_any_separator_and_encoding(data: bytes, number: int, tmp_path: Path) -> None:
    assert read(tmp_path / "a.csv", data) == [(number, {"a": "1", "b": "x"}, None)]


def test_a_damaged_row_of_csv_is_named_and_the_next_ones_follow(tmp_path: Path) -> None:
    rows = read(tmp_path / "a.csv", b'file,text\na,"x"y\nb,caf\xe9\nc,z\n')
    assert [values for _, values, wrong in rows if wrong is None] == [{"file": "c", "text": "z"}]
    assert ["line 2: not CSV" in (wrong or "") or "line 3: not UTF-8" in (wrong or "") for *_, wrong in rows[:2]] == [
        True
    ] * 2


def test_a_long_field_is_read_and_the_limit_of_other_readers_stays(tmp_path: Path) -> None:
    limit = csv.field_size_limit()
    assert len(str(read(tmp_path / "a.csv", b"text\n" + b"x" * 1_000_000 + b"\n")[0][1]["text"])) == 1_000_000
    assert csv.field_size_limit() == limit


def test_a_parquet_file_is_read_by_row_groups_of_which_a_damaged_one_is_a_row(tmp_path: Path) -> None:
    file = tmp_path / "a.parquet"
    pq.write_table(
        pa.table({"text": [f"row {n} " + "x" * 500 for n in range(6)], "more": range(6)}), file, row_group_size=2
    )
    table = open_parquet(file)
    assert (table.columns, table.groups, count_rows(file)) == ({"text": False, "more": False}, (2, 2, 2), 6)
    rows = list(table.rows(["text"], lambda numbers: 2 not in numbers))
    assert [(row.number, list(row.values)) for row in rows] == [(n, ["text"]) for n in (0, 1, 4, 5)]

    start = pq.ParquetFile(file).metadata.row_group(1).column(0).data_page_offset
    data = bytearray(file.read_bytes())
    data[start : start + 40] = b"\xff" * 40
    file.write_bytes(data)
    rows = list(open_parquet(file).rows(["text"]))
    assert [row.number for row in rows if row.wrong is None] == [0, 1, 4, 5]
    assert ["rows 2 to 3: cannot be read" in row.wrong for row in rows if row.wrong] == [True]


def test_what_is_no_parquet_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and nothing")
    with pytest.raises(UsageError, match="cannot be read as Parquet"):
        open_parquet(tmp_path / "a.parquet")


def test_columns_that_hold_embedded_images_are_known_by_their_type(tmp_path: Path) -> None:
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    columns = {"image": pa.array([{"bytes": b"x", "path": "a"}], kind), "raw": pa.array([b"x"]), "name": ["a"]}
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert open_parquet(tmp_path / "a.parquet").columns == {"image": True, "raw": True, "name": False}
