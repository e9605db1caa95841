"""What the pages in ``docs`` show is what happens: their code runs, and their links lead somewhere.

Pages at the top but the first, such as those of the commands' JSON, have tests of their own.
"""

from __future__ import annotations

import json
import re
import shlex
import sys
import threading
from contextlib import nullcontext, suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import REPO, make_volume, write_channels, write_planes

import scout_dask_io as io
from scout_dask_io.cli import main

DOCS = REPO / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
#: Pages of one subject at the top have tests of their own.
OWN = [page for page in PAGES if page.parent != DOCS or page.stem == "index"]
RUN = [page for page in OWN if FENCE.search(page.read_text())]
#: Lines of other programs, which are read and not run.
OTHERS = ("pip ", "ssh ")

pytestmark = pytest.mark.skipif(not PAGES, reason="needs the docs of the checkout")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the working directory, with the data that the pages speak of."""
    monkeypatch.chdir(tmp_path)
    brain = make_volume((2, 9, 50, 60))
    write_channels(tmp_path / "brain", brain, names=["ch0", "ch1"])
    names = [f"cells_C0{c}_Z{z:04d}.tif" for c in range(2) for z in range(9)]
    write_planes(tmp_path / "named", brain.reshape(18, 50, 60), names=names)
    write_channels(tmp_path / "lapse", make_volume((3, 4, 30, 40)), names=["t00", "t01", "t02"])
    names = [f"p{p}_z{z:03d}.tif" for p in (1, 2) for z in range(4)]
    write_planes(tmp_path / "tiles", make_volume((8, 30, 40)), names=names)
    tifffile.imwrite("cells.tif", brain[0], photometric="minisblack")
    labels = np.kron(np.arange(27).reshape(3, 3, 3), np.ones((4, 8, 8), int)).astype("u2")
    tifffile.imwrite("nuclei.tif", labels, photometric="minisblack")
    io.write_zarr("legacy.zarr", brain[0], 16)
    metadata = json.loads(Path("legacy.zarr/.zarray").read_text())
    del metadata["dimension_separator"]
    Path("legacy.zarr/.zarray").write_text(json.dumps(metadata))
    return tmp_path


def run_commands(block: str) -> None:
    """Run the commands of a page as they are typed."""
    for line in block.splitlines():
        if line.strip() and not line.startswith(OTHERS):
            program, *args = shlex.split(line)
            assert program == "scout-dask-io", line
            with pytest.raises(SystemExit) as ended:
                main(args)
            assert ended.value.code == 0, line


@pytest.mark.in_process
@pytest.mark.parametrize("page", RUN, ids=lambda p: str(p.relative_to(DOCS)))
def test_the_code_of_a_page_runs(
    page: Path, data: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
):
    names: dict[str, Any] = {"__name__": "page"}
    text = page.read_text()
    if page.stem == "s3":
        options = {
            "key": "test",
            "secret": "test",
            "endpoint_url": request.getfixturevalue("s3_address"),
        }
        names["OPTIONS"] = options
        text = text.replace("@OPTIONS@", shlex.quote(json.dumps(options)))
        text = text.replace(
            "s3://lab", "s3://" + request.getfixturevalue("bucket").split("://")[-1]
        )
    elif page.stem == "slurm":
        text = text.replace("tcp://10.0.0.1:8786", _cluster(monkeypatch, request))
    elif page.stem in ("view", "labels"):
        _let_view_end(monkeypatch)
    for block in FENCE.finditer(text):
        if block[1] == "bash":
            run_commands(block[2])
        else:
            lines = text.count("\n", 0, block.start(2))
            exec(compile("\n" * lines + block[2], str(page), "exec"), names)


def _cluster(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Give the address of a cluster, and have dask-jobqueue's class begin one like it."""
    from distributed import LocalCluster

    running: Any = LocalCluster(
        n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None,
        protocol="tcp", host="127.0.0.1",
    )  # fmt: skip
    running.scale = lambda *_, **__: None

    def close() -> None:
        # Its thread has ten seconds to end, which a busy machine may not give it.
        with suppress(TimeoutError):
            running.close()

    module = ModuleType("dask_jobqueue")
    module.SLURMCluster = lambda **_: nullcontext(running)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "dask_jobqueue", module)
    request.addfinalizer(close)
    return str(running.scheduler_address)


def _let_view_end(monkeypatch: pytest.MonkeyPatch) -> None:
    browser = pytest.importorskip("scout_dask_io.view.browser")

    class Ends:
        def wait(self) -> None:
            raise KeyboardInterrupt

    shown = SimpleNamespace(url="http://127.0.0.1:1/v/token/")
    monkeypatch.setattr(browser, "viewer", lambda *_, **__: nullcontext(shown))
    # That of the command alone: dask's threads wait for events too.
    monkeypatch.setattr("scout_dask_io.cli.view.threading", SimpleNamespace(Event=Ends))
    assert threading.Event is not Ends


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(DOCS)))
def test_links_of_a_page_lead_to_files(page: Path):
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text()):
        assert (page.parent / target).exists(), target


def test_every_public_name_and_command_is_in_the_reference():
    hooks: dict[str, Any] = {"__file__": str(DOCS / "hooks.py"), "__name__": "hooks"}
    exec((DOCS / "hooks.py").read_text(), hooks)
    marks = {m for page in PAGES for m in re.findall(r"^\{\{ (\w+) \}\}$", page.read_text(), re.M)}
    assert marks == set(hooks["MARKS"])
    shown = set(re.findall(r"^::: \S+\.(\w+)$", hooks["names"](), re.M))
    shown |= set(re.findall(r"^\| `(\w+)`", hooks["errors"](), re.M))
    assert shown == set(io.__all__) - {"__version__"}
    assert "| `--max-mem SIZE` | Memory" in hooks["commands"]()
    page = '<h3 id="scout_dask_io.jobs.verify.verify"></h3>'
    page += ":func:<code>~a.verify</code>, :meth:<code>b</code>"
    assert hooks["on_page_content"](page).partition("</h3>")[2] == (
        '<a href="#scout_dask_io.jobs.verify.verify"><code>verify</code></a>, <code>b</code>'
    )
