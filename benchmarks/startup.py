"""How long `anomreason --help` takes.

python benchmarks/startup.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time


def main() -> None:
    times = []
    for _ in range(11):
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-m", "anomreason", "--help"], stdout=subprocess.DEVNULL, check=True)
        times.append(time.perf_counter() - begun)
    median = statistics.median(times)
    print(f"anomreason --help: {median:.2f} s median of {len(times)}, longest {max(times):.2f} s (bar: 0.6)")
    print(f"load average {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
