"""Processes for tests that start at once, forked from one in which the imports have been made."""

from __future__ import annotations

import atexit
import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

_FORKS = """
import json, os, sys, traceback
code, runs = json.load(sys.stdin)
imports = [line for line in code.splitlines() if line.startswith(("import ", "from "))]
exec("\\n".join(imports))
codes = []
for arguments in runs:
    child = os.fork()
    if not child:
        sys.argv = ["-c", *arguments]
        try:
            exec(compile(code, "forked", "exec"), {"__name__": "__main__"})
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
print(json.dumps(codes))
"""


def exit_codes(code: str, runs: Sequence[Sequence[object]]) -> list[int]:
    """What `python -c code ARGUMENTS` ends with for each list of arguments, one after another.

    Each run is a process of its own, forked from one in which the code's imports were made, which takes longer than
    what the code does.
    """
    told = json.dumps([code, [[str(argument) for argument in arguments] for arguments in runs]])
    ran = subprocess.run([sys.executable, "-c", _FORKS], input=told, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    print(ran.stderr)
    codes: list[int] = json.loads(ran.stdout.splitlines()[-1])
    return codes


# --- commands of the program

_STARTER = multiprocessing.get_context("forkserver")
_STARTER.set_forkserver_preload(
    [
        *("pytest", "tests.forking", "anomreason.__main__", "anomreason.cli.detect", "anomreason.planning"),
        *("anomreason.cli.simulate", "anomreason.vlm.simulator.server", "anomreason.vlm.endpoint.openai"),
        *("anomreason.dataset.annotate", "anomreason.dataset.filter", "anomreason.gating.choosing"),
    ]
)


@cache
def _folder() -> str:
    """Where commands write what would stand on the terminal; removed with this process."""
    folder = tempfile.mkdtemp(prefix="commands")
    atexit.register(shutil.rmtree, folder)
    return folder


class Command:
    """`anomreason ARGUMENTS` in a process of its own, forked from one that has imported what most commands need.

    It is killed, and ends, as any process; it only starts without the second that the imports take.
    """

    def __init__(
        self, arguments: Sequence[object], environment: Mapping[str, str] | None = None, cwd: Path | str = "."
    ) -> None:
        folder = Path(tempfile.mkdtemp(dir=_folder()))
        self.out, self.err = folder / "out", folder / "err"
        told = [str(argument) for argument in arguments]
        given = (told, dict(os.environ if environment is None else environment), str(cwd), str(self.out), str(self.err))
        self._process = _STARTER.Process(target=_main, args=given)
        self._process.start()

    def poll(self) -> int | None:
        """What it ended with; None while it runs."""
        return self._process.exitcode

    def send_signal(self, number: int) -> None:
        """Send it a signal."""
        assert self._process.pid
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """kill -9; nothing if it has ended."""
        with suppress(ProcessLookupError):
            self.send_signal(signal.SIGKILL)

    def wait(self, seconds: float = 600) -> int:
        """What it ended with, once it has."""
        self._process.join(seconds)
        assert self._process.exitcode is not None, "it does not end"
        return self._process.exitcode

    def first_line(self) -> str:
        """The first line that it writes, as soon as it stands there; what there is of it should the command end."""
        while self.poll() is None and (not self.out.exists() or "\n" not in self.out.read_text()):
            self._process.join(0.01)
        return self.out.read_text().partition("\n")[0]

    def communicate(self) -> tuple[str, str]:
        """All that it wrote, once it has ended."""
        self.wait()
        return self.out.read_text(), self.err.read_text()


def run_command(
    arguments: Sequence[object], environment: Mapping[str, str] | None = None, cwd: Path | str = "."
) -> subprocess.CompletedProcess[str]:
    """Run `anomreason ARGUMENTS` to its end."""
    command = Command(arguments, environment, cwd)
    out, err = command.communicate()
    return subprocess.CompletedProcess(list(arguments), command.wait(), out, err)


def _main(arguments: list[str], environment: dict[str, str], cwd: str, out: str, err: str) -> None:
    from anomreason.__main__ import main

    os.environ.clear()
    os.environ.update(environment)
    os.chdir(cwd)
    for descriptor, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.argv = ["anomreason", *arguments]
    main()
