"""How long `anomreason --help` and the help of one command take, beside the libraries of the command line alone.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time

ROUNDS = 11
LINES = {
    "import typer, rich": ["-c", "import typer, rich"],
    "anomreason --help": ["-m", "anomreason", "--help"],
    "anomreason calls --help": ["-m", "anomreason", "calls", "--help"],
    "anomreason detect --help": ["-m", "anomreason", "detect", "--help"],
}


def seconds(line: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run([sys.executable, *line], stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun


def main() -> None:
    # In turn, so that what else the machine does falls on all of them.
    rounds = [{name: seconds(line) for name, line in LINES.items()} for _ in range(ROUNDS)]
    libraries = statistics.median(times["import typer, rich"] for times in rounds)
    for name in LINES:
        times = [one[name] for one in rounds]
        median = statistics.median(times)
        bar = " (bar: 0.6)" if name == "anomreason --help" else ""
        print(f"{name}: {median:.2f} s median of {ROUNDS}, longest {max(times):.2f} s{bar}; {median / libraries:.1f} x")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
