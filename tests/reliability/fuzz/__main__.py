"""Fuzz one target, guided by the lines that its inputs reach: ``python -m fuzz TARGET SECONDS``.

Prints how many inputs were tried, and what was found with the input that shows it; exit code 1
then. What libFuzzer keeps lies in memory, or in a folder that is removed: the inputs to begin with
are made anew.
"""

from __future__ import annotations

import logging
import sys
import tempfile
from pathlib import Path


def main() -> None:
    """Fuzz as the arguments say."""
    import atheris

    with atheris.instrument_imports(include=["scout_dask_io"]):
        from fuzz.targets import TARGETS, quietly

    name, seconds = sys.argv[1:]
    target, seeds = TARGETS[name]
    logging.disable(logging.CRITICAL)
    with tempfile.TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus"
        corpus.mkdir()
        for number, seed in enumerate(seeds()):
            (corpus / str(number)).write_bytes(seed)
        options = [
            f"-max_total_time={seconds}", "-timeout=20", "-rss_limit_mb=2048", "-max_len=8192",
            f"-artifact_prefix={folder}/", "-print_final_stats=1", "-seed=27", "-close_fd_mask=0",
        ]  # fmt: skip
        atheris.Setup([sys.argv[0], *options, str(corpus)], quietly(target))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
