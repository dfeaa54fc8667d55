"""Ctrl-C ends any command at any moment: before it has computed much more, with status 130, without a traceback."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest
from PIL import Image

SECONDS = 5.0
"""Of a processor, which are the same on a busy machine."""
COMMANDS = {
    "detect": ["detect", "{world}", "--model", "sim:{world}/simulator.json", "--run", "{out}/run"],
    "detect large": ["detect", "{large}", "--model", "sim:{world}/simulator.json", "--run", "{out}/run"],
    "report": ["report", "{run}"],
    "calls": ["calls", "{run}"],
    "eval": ["eval", "{run}", "{run}", "--backbone", "{world}", "--out", "{out}/eval"],
    "scenes": ["scenes", "make", "--out", "{out}/scenes", "--n", "200"],
    "leaderboard": ["leaderboard", "{run}"],
    "deepfake": ["deepfake", "{run}", "{run}"],
    "plausibility": ["plausibility", "{run}"],
    "train": ["train", "{run}", "--dry-run"],
    "demo": ["demo"],
}


@pytest.fixture(scope="module")
def places(world: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    from anomreason import detect

    truth, made = world(3), tmp_path_factory.mktemp("made")
    detect([truth.parent], model=f"sim:{truth}", run=made / "run")
    large = made / "large"
    large.mkdir()
    for n in range(4):
        Image.new("F", (9459, 9459), 0.5).save(large / f"{n}.tiff", compression="tiff_deflate")
    return {"world": truth.parent, "run": made / "run", "large": large}


LONG = ("detect", "detect large", "scenes", "demo")
MOMENTS = [(name, moment) for name in COMMANDS for moment in ((0.05, 0.3, 1.0, 2.0) if name in LONG else (0.3, 1.0))]
"""Commands that are done within a second are not asked later."""


@pytest.mark.slow
@pytest.mark.parametrize(("name", "moment"), MOMENTS)
def test_ctrl_c_ends_the_command(name: str, moment: float, places: dict[str, Path], tmp_path: Path) -> None:
    arguments = [part.format(**places, out=tmp_path) for part in COMMANDS[name]]
    code = "from anomreason.__main__ import main; print(flush=True); main()"
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    process.stdout.readline()  # Python itself has started
    try:
        _, said = process.communicate(timeout=moment)  # some commands are done before
    except subprocess.TimeoutExpired:
        so_far = computed(process.pid)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        in_all = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
        assert in_all - so_far < SECONDS
        assert process.returncode in (130, -signal.SIGINT, 0, 2, 3)
    assert "Traceback" not in said, said


def computed(process: int) -> float:
    """Seconds of processors that a process and those that it started have used."""
    ticks, parents = dict[int, int](), dict[int, int]()
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with suppress(OSError):  # it has ended
            _, parent, *fields = stat.read_text().rpartition(")")[2].split()
            parents[int(stat.parent.name)] = int(parent)
            ticks[int(stat.parent.name)] = sum(map(int, fields[9:13]))  # those that have ended included
    tree = {process}
    while more := {one for one, parent in parents.items() if parent in tree} - tree:
        tree |= more
    return sum(ticks.get(one, 0) for one in tree) / os.sysconf("SC_CLK_TCK")


def test_a_long_call_of_a_library_does_not_keep_the_process() -> None:
    code = """
import hashlib, anomreason.interrupt as interrupt
interrupt.SECONDS = 0.5
interrupt.end_on_ctrl_c()
print("ready", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)  # minutes, within one step of Python
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=120)
    assert process.returncode == 130
    assert said == b"\nanomreason: interrupted\n"


IN_CONTAINER = """
import os, signal, anomreason.cli
from anomreason.__main__ import main
anomreason.cli.main = lambda: os.kill(os.getpid(), signal.SIGTERM)
main()
"""


def test_sigterm_ends_the_first_process_of_a_container_before_a_command_has_begun() -> None:
    inside = ["unshare", "--map-root-user", "--pid", "--fork"]
    if shutil.which("unshare") is None or subprocess.run([*inside, "true"], capture_output=True).returncode:
        pytest.skip("needs process namespaces")
    ran = subprocess.run([*inside, sys.executable, "-c", IN_CONTAINER], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (128 + signal.SIGTERM, "")


FIRST_ASKS = """
import sys, time
from anomreason.interrupt import end_on_ctrl_c, first_ctrl_c
end_on_ctrl_c()
asked = []
with first_ctrl_c(lambda: asked.append(1)):
    print("ready", flush=True)
    while not asked:
        time.sleep(0.01)
    print("asked", flush=True)
    if sys.argv[1] == "finish":
        time.sleep(2.5)
        print("finished", flush=True)
    else:
        time.sleep(60)
"""


@pytest.mark.parametrize(("way", "code", "last"), [("finish", 0, "finished\n"), ("hurry", 130, "")])
def test_work_can_be_finished_after_the_first_ctrl_c_and_dropped_by_the_second(way: str, code: int, last: str) -> None:
    with subprocess.Popen([sys.executable, "-c", FIRST_ASKS, way], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.stdout.readline() == "asked\n"
        if way == "hurry":
            process.send_signal(signal.SIGINT)
        assert process.stdout.read() == last
        assert process.wait(600) == code


CLOSES_LATE = """
import asyncio, os, signal, sys
from pathlib import Path
from anomreason.cli import detect
from anomreason.detector import DetectOptions, set_up
from anomreason.sources.inputs import find_images
from anomreason.vlm.simulator.model import Simulator

class Interrupted(Simulator):
    reopens = True

    async def ask(self, request):
        os.kill(os.getpid(), signal.SIGINT)
        return await super().ask(request)

    async def close(self):
        await asyncio.sleep(3 * detect.GRACE)
        print("closed")

detect.GRACE = 0.2
truth, run = map(Path, sys.argv[1:])
setup, found = set_up(Interrupted.from_file(truth), DetectOptions(in_flight=1)), find_images([truth.parent])
with setup.open_run(run, found, [str(truth.parent)]) as opened:
    print(asyncio.run(detect.detect_watched(setup, opened, found.images, quiet=True)))
"""


def test_what_is_open_is_closed_in_peace_once_the_calls_in_flight_have_ended(
    world: Callable[..., Path], tmp_path: Path
) -> None:
    command = [sys.executable, "-c", CLOSES_LATE, str(world(2)), str(tmp_path / "run")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert ran.stdout.split() == ["closed", "130"], ran.stderr
