"""Run folders damaged in one place are read right, or an error names file and line; nothing else happens."""

from __future__ import annotations

import json
import random
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from anomreason import detect
from anomreason.cli import runs as cli_runs
from anomreason.errors import AnomreasonError, UnknownKeys, UsageError
from anomreason.report.html import build_report
from anomreason.runs import read_results
from anomreason.sources.annotations import read_source
from anomreason.vlm.ledger import read_calls

World = Callable[..., Path]
FILES = ("run.json", "results.jsonl", "calls.jsonl", "responses.sqlite")
DAMAGES = 80


@pytest.fixture(scope="module")
def made(world: World, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of five images, one of which cannot be opened, and one has no result yet; and the truth file."""
    truth, run = world(4), tmp_path_factory.mktemp("made") / "run"
    (truth.parent / "broken.png").write_bytes(b"")
    detect([truth.parent], model=f"sim:{truth}", run=run)
    lines = (run / "results.jsonl").read_text().splitlines(keepends=True)
    (run / "results.jsonl").write_text("".join(lines[:4]))
    shutil.rmtree(run / "report", ignore_errors=True)
    return run, truth


def values(value: object, place: tuple[object, ...] = ()) -> list[tuple[object, ...]]:
    """Places of all values in a JSON value."""
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place, *(found for key, part in inner for found in values(part, (*place, key)))][not place :]


def with_value(value: object, draw: random.Random) -> object:
    """The same JSON with another value in one place, or a key more."""
    place = draw.choice(values(value))
    holder = value
    for step in place[:-1]:
        holder = holder[step]  # type: ignore[index]
    other = [None, True, -1, 10**30, 1e300, "", "x\0y", "\ud800", [], {}, [[]], {"a": {"b": 1}}, ["x"] * 3, 0.5]
    if draw.random() < 0.2 and isinstance(holder, dict):
        holder["added_by_a_later_version"] = draw.choice(other)
    else:
        holder[place[-1]] = draw.choice(other)  # type: ignore[index]
    return value


def damaged(data: bytes, name: str, draw: random.Random) -> bytes:
    """The bytes of a file with one damage."""
    at, kind = draw.randrange(len(data)), draw.randrange(7 if name != "responses.sqlite" else 4)
    if kind == 0:
        return data[:at] + bytes([data[at] ^ (1 << draw.randrange(8))]) + data[at + 1 :]
    if kind == 1:
        return data[:at] + data[at + draw.randrange(1, 40) :]
    if kind == 2:
        return (
            data[:at]
            + draw.choice([b"\0", b"\xff", b"9" * 400, b"{", b'"', b",", b"\n", b"NaN", b"\xc2\x9b"])
            + data[at:]
        )
    if kind == 3:
        return data[:at]
    lines = data.splitlines(keepends=True) if name != "run.json" else [data]
    line = draw.randrange(len(lines))
    if kind == 4:
        return b"".join([*lines[: line + 1], *lines[line:]])
    lines[line] = json.dumps(with_value(json.loads(lines[line]), draw)).encode() + b"\n"
    return b"".join(lines)


@pytest.mark.parametrize("name", FILES)
def test_one_damage_is_read_right_or_named(
    name: str, made: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    run, truth = made
    draw, whole, named = random.Random(name), (run / name).read_bytes(), 0
    folder = run.parent / "copy"  # beside the run, as the images' folder is named from there
    uses: list[Callable[[], object]] = [
        lambda: detect([truth.parent], model=f"sim:{truth}", run=folder),
        lambda: build_report(folder),
        lambda: cli_runs.calls(folder),
        lambda: read_source(folder),  # as eval does
    ]
    for n in range(DAMAGES // len(FILES)):
        draw.shuffle(uses)
        data = damaged(whole, name, draw)
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(run, folder)
        (folder / name).write_bytes(data)
        for use in uses:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", UnknownKeys)
                    use()
            except AnomreasonError as error:
                named += 1
                message = str(error)
                about_settings = name == "run.json" and ("run" in message)
                assert name in message or about_settings, (n, message)
                if name.endswith("l") and "no results yet" not in message:
                    assert re.search(rf"{name}, line \d+", message), (n, message)
    capsys.readouterr()
    assert named > 5


def test_a_line_of_a_later_version_is_read_and_the_key_is_named(made: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(made[0], tmp_path / "run")
    before, calls = read_results(run), list(read_calls(run))
    for name in ("results.jsonl", "calls.jsonl"):
        lines = [json.loads(line) for line in (run / name).read_text().splitlines()]
        for line in lines:
            line["language"] = {"en": 1}
            for anomaly in line.get("anomalies", []):
                anomaly["certainty"] = 3
                anomaly.get("region", {})["depth"] = 0.5
            line.get("usage", {})["electricity"] = 1
        (run / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.warns(UnknownKeys, match="unknown key .* is left out"):
        assert read_results(run) == before
    with pytest.warns(UnknownKeys, match="unknown key .* is left out"):
        assert list(read_calls(run)) == calls


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("anomblies", "anomalies"), ("usag", "usage"), ("cand\0idates", "candidates"), ("ssent", "sent")],
)
def test_a_damaged_key_is_no_later_version(wrong: str, right: str, made: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(made[0], tmp_path / "run")
    text = (run / "results.jsonl").read_text()
    assert f'"{right}"' in text
    (run / "results.jsonl").write_text(text.replace(f'"{right}"', json.dumps(wrong)))
    with pytest.raises(UsageError, match=r"results.jsonl, line \d: unknown key .* meant as"):
        read_results(run)


def test_a_call_that_stands_twice_is_counted_once(made: tuple[Path, Path], tmp_path: Path) -> None:
    run = shutil.copytree(made[0], tmp_path / "run")
    calls = list(read_calls(run))
    lines = (run / "calls.jsonl").read_text().splitlines(keepends=True)
    (run / "calls.jsonl").write_text("".join([*lines[:3], *lines[2:]]))
    assert list(read_calls(run)) == calls
