"""Run the whole reliability suite, the slow part too, and print its figures as a table.

    python -m tests.reliability [--quick] [arguments for pytest]

``--quick`` runs the everyday part only.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

HERE = Path(__file__).parent
#: What belongs to it: this folder, pools of processes, a pipeline in pools, and bombs.
TESTS = (
    HERE,
    HERE.parent / "run" / "test_fork.py",
    HERE.parent / "test_scout.py",
    HERE.parent / "store" / "test_decompression.py",
)


def main(arguments: list[str]) -> int:
    quick = "--quick" in arguments
    rest = [a for a in arguments if a != "--quick"]
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        figures = Path(folder) / "figures.jsonl"
        figures.touch()
        command = [sys.executable, "-m", "pytest", *map(str, TESTS), "-q", "-rs"]
        command += [] if quick else ["-m", ""]
        done = subprocess.run(
            [*command, *rest],
            env={**os.environ, "RELIABILITY_FIGURES": str(figures)},
            check=False,
        )
        sums: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
        for line in figures.read_text().splitlines():
            entry = json.loads(line)
            for name, count in entry.items():
                if name != "test":
                    sums[entry["test"]][name] += int(count)
    print(f"\nPython {platform.python_version()}, {platform.system()} {platform.release()}, "
          f"{os.cpu_count()} cores, {time.monotonic() - began:.0f} s\n")  # fmt: skip
    print("| test | figures |\n|---|---|")
    for test, counts in sorted(sums.items()):
        text = ", ".join(f"{n:,} {name.replace('_', ' ')}" for name, n in counts.items())
        print(f"| {test} | {text} |")
    return done.returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
