"""Every notebook runs from top to bottom, anywhere and without a network; none carries outputs."""

from __future__ import annotations

import os
from pathlib import Path

import nbformat
import pytest
from helpers import REPO

NOTEBOOKS = sorted((REPO / "notebooks").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=[p.stem for p in NOTEBOOKS])

pytestmark = pytest.mark.skipif(not NOTEBOOKS, reason="needs the notebooks of the checkout")


@pytest.mark.notebook
@each_notebook
def test_a_notebook_runs_and_leaves_nothing(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from nbclient import NotebookClient

    import scout_dask_io

    scratch, cwd = tmp_path / "tmp", tmp_path / "cwd"
    scratch.mkdir()
    cwd.mkdir()
    root = str(Path(scout_dask_io.__file__).parent.parent)
    # The kernel is a child: it takes the environment, and not the tests' sys.path.
    monkeypatch.setenv(
        "PYTHONPATH", os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH")]))
    )
    monkeypatch.setenv("TMPDIR", str(scratch))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook, timeout=120, kernel_name="python3", resources={"metadata": {"path": str(cwd)}}
    )
    client.execute()  # raises CellExecutionError with the cell and its traceback
    assert [p.name for p in scratch.iterdir()] == []
    assert list(cwd.iterdir()) == []
    ran = [c.execution_count for c in notebook.cells if c.cell_type == "code"]
    assert ran == list(range(1, len(ran) + 1))


@each_notebook
def test_a_notebook_is_stored_without_outputs(path: Path):
    notebook = nbformat.read(path, as_version=4)
    code = [c for c in notebook.cells if c.cell_type == "code"]
    assert code
    assert [c for c in code if c.outputs or c.execution_count is not None] == []


@each_notebook
def test_a_notebook_says_first_what_it_is(path: Path):
    notebook = nbformat.read(path, as_version=4)
    assert notebook.cells[0].cell_type == "markdown"
    assert notebook.cells[0].source.startswith("# ")
