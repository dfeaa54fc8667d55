"""Runs code that kills its own process, once for each moment, in processes that share one start."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence

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
