"""Write the snapshots anew: ``python -m tests.pins``; then look at what git says has changed.

The pinned numbers stand in tables at the top of the tests, and are changed by hand.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

if __name__ == "__main__":
    here = Path(__file__).parent
    tests = [str(here / "test_signatures.py")]
    command = [sys.executable, "-m", "pytest", "-q", *tests, *sys.argv[1:]]
    sys.exit(
        subprocess.run(command, env={**os.environ, "PINS_REWRITE": "1"}, check=False).returncode
    )
