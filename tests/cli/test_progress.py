"""Facts about the progress that a command shows without a terminal."""

import subprocess
import sys

import pytest

from anomreason.cli.progress import EVERY, LEAST, ProgressLines, progress


def test_a_line_tells_what_is_done_what_it_cost_and_the_time_left() -> None:
    lines = ProgressLines("images", lambda: "3 failed, $1.20")
    assert lines.step(0, 20_000, 100.0) == "0 of 20,000 images, 3 failed, $1.20"
    line = None
    for done in range(1, 2001):
        line = lines.step(done, 20_000, 100.0 + done * 0.128)
        assert (line is None) == (done < 2000)
    assert line == "2,000 of 20,000 images, 3 failed, $1.20, about 38 minutes left"


def test_lines_come_at_the_start_and_at_each_tenth_and_not_at_the_end() -> None:
    lines = ProgressLines("images")
    written = [lines.step(done, 1000, done / 2) for done in range(1001)]
    assert [line.split(" of ")[0] for line in written if line] == ["0", *(f"{n}00" for n in range(1, 10))]


def test_fast_work_does_not_fill_a_log() -> None:
    lines = ProgressLines("images")
    written = dict[float, str]()
    for step in range(100):  # another tenth every five seconds
        for now, line in ((step / 2, lines.step(10 * step, 1000, step / 2)), (step / 2, lines.due(step / 2))):
            if line:
                written[now] = line.split(" of ")[0]
    assert written == {n * LEAST: f"{200 * n}" for n in range(5)}


def test_slow_work_gets_a_line_now_and_then() -> None:
    lines = ProgressLines("images")
    assert lines.due(1e6) is None, "nothing has begun"
    lines.step(0, 5, 0.0)
    written = [lines.due(float(second)) for second in range(200)]
    assert written.count("0 of 5 images") == 200 // EVERY
    assert lines.step(1, 5, 200.0) is None, "few images need no line each"


@pytest.mark.parametrize(("before", "total"), [(0, 3), (0, 9), (0, 0), (5, 5)])
def test_little_work_is_done_in_silence(before: int, total: int) -> None:
    lines = ProgressLines("images")
    assert not any(lines.step(done, total, 100.0 * done) for done in range(before, total + 1))


def test_the_time_left_is_that_of_this_run() -> None:
    lines = ProgressLines("scenes")
    assert lines.step(500, 1000, 0.0) == "500 of 1,000 scenes", "what was there before took no time"
    assert lines.step(600, 1000, 20.0) == "600 of 1,000 scenes, about 80 seconds left"


def test_without_a_terminal_lines_go_to_stderr_alone(capsys: pytest.CaptureFixture[str]) -> None:
    for quiet in (False, True):
        with progress("images", quiet=quiet) as step:
            for done in range(21):
                step(done, 20)
        out, err = capsys.readouterr()
        assert out == ""
        assert len(err.splitlines()) == (0 if quiet else 1)


def test_scenes_tell_their_progress_in_a_log(tmp_path: object) -> None:
    command = [
        sys.executable,
        "-m",
        "anomreason",
        "scenes",
        "make",
        "--out",
        f"{tmp_path}/s",
        "--n",
        "12",
        "--size",
        "64",
    ]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    assert " of 12 scenes" in ran.stderr
