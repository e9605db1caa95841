"""What a project has beside its code: citation, recipe, workflows; a user's script is typed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jinja2
import pytest
import yaml
from helpers import REPO, make_volume, write_planes

import scout_dask_io

PROJECT = tomllib.loads((REPO / "pyproject.toml").read_text())["project"]
GITHUB = REPO / ".github"
#: Names of packages that conda-forge has under others.
CONDA = {"dask": "dask-core"}


def recipe() -> dict[str, Any]:
    """Give the conda recipe as conda-build renders it."""
    text = (GITHUB / "conda-recipe" / "meta.yaml").read_text()
    template = jinja2.Environment(undefined=jinja2.StrictUndefined).from_string(text)
    found = yaml.safe_load(template.render(environ=os.environ, PYTHON="python"))
    assert isinstance(found, dict)
    return found


def test_the_recipe_asks_for_what_the_package_does():
    bounds = [re.fullmatch(r"([\w-]+)(?:\[.*\])?(.*)", d) for d in PROJECT["dependencies"]]
    wanted = {f"{CONDA.get(m[1], m[1])} {m[2]}".strip() for m in bounds if m}
    wanted.add(f"python {PROJECT['requires-python']}")
    made = recipe()
    assert set(made["requirements"]["run"]) == wanted
    assert made["build"]["entry_points"] == [
        f"{name} = {where}" for name, where in PROJECT["scripts"].items()
    ]
    assert (REPO / made["about"]["license_file"]).is_file()


def test_what_repeats_the_version_repeats_it():
    citation = yaml.safe_load((REPO / "CITATION.cff").read_text())
    assert citation["version"] == recipe()["package"]["version"] == scout_dask_io.__version__
    assert citation["license"] == recipe()["about"]["license"] == PROJECT["license"]
    assert {"cff-version", "message", "title", "authors", "type"} <= set(citation)


@pytest.mark.parametrize(
    "path",
    [*GITHUB.rglob("*.yml"), REPO / ".pre-commit-config.yaml"],
    ids=lambda p: p.name,
)
def test_each_file_of_a_service_is_yaml_that_says_something(path: Path):
    assert isinstance(yaml.safe_load(path.read_text()), dict)


def test_the_workflow_runs_each_python_that_may_be_installed_on_three_systems():
    workflow = yaml.safe_load((GITHUB / "workflows" / "ci.yml").read_text())
    matrix = workflow["jobs"]["suite"]["strategy"]["matrix"]
    low, high = (int(n) for n in re.findall(r"3\.(\d+)", PROJECT["requires-python"]))
    assert matrix["python"] == [f"3.{minor}" for minor in range(low, high)]
    assert [name.split("-")[0] for name in matrix["os"]] == ["ubuntu", "windows", "macos"]
    release = yaml.safe_load((GITHUB / "workflows" / "release.yml").read_text())
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}


def test_files_that_the_conventions_point_to_exist():
    for page in [*GITHUB.glob("*.md"), REPO / "CONTRIBUTING.md"]:
        for target in re.findall(r"\]\((?!https?:)([^)#]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page}: {target}"


SCRIPT = '''
"""What a user writes, over the public names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import dask.array as da
import numpy as np
import zarr

import scout_dask_io as io

if TYPE_CHECKING:
    from dask.delayed import Delayed


def read(folder: Path) -> da.Array:
    volume = io.imread_folder(folder)
    both = io.imread_dataset(str(folder), position=None)
    channels = io.imread_channels(folder)
    stack = io.imread_parallel([folder / "a.tif", folder / "b.tif"])
    one: da.Array = io.imread("a.tif")
    names: list[str] = list(io.channel_names(folder))
    size = io.voxel_size(folder)
    if size is not None:
        z, y, x = size.micrometres
        print(size.z, z, y, x, names, both.shape, channels.chunks, stack.dtype, one.ndim)
    part: np.ndarray = np.asarray(io.read_region(volume, np.s_[0, :10]))
    print(part.mean())
    return volume


def write(volume: da.Array) -> None:
    plan = io.plan_zarr(volume, 64, codec="lz4", max_mem="2GB")
    print(plan.units, plan.projected_mem)
    array = io.write_zarr("a.zarr", volume, (64, 64, 64), codec={"id": "zlib"}, progress=print)
    io.write_zarr("b.zarr", np.zeros((3, 4)), codec=None, voxel_size=(4, 1.8, 1.8))
    if isinstance(array, zarr.Array):
        print(array.shape)
    group = io.write_ome_zarr(
        "c.ome.zarr", volume, levels=3, codec=("zstd", "lz4"), channels=["a"], colors=["00FF00"]
    )
    io.write_ome_zarr(Path("d.ome.zarr"), volume, factors=[(1, 2, 2), (2, 2, 2)], axes="zyx")
    io.write_labels("c.ome.zarr", "cells", volume > 3, colors={1: "FF0000"})
    print(group)
    later: zarr.Array[Any] | Delayed = io.write_zarr("e.zarr", volume, compute=False)
    print(later)
    io.imsave("a.tif", volume, compress=1)
    image = io.plan_ome_zarr(volume, levels=2)
    print(image.levels[0].shape, image.n_units)


def jobs() -> None:
    report = io.convert("brain", "brain.zarr", ome=True, voxel_size=(4.0, 1.8, 1.8), qc=False)
    print(report.shape, report.nbytes_per_s, report.to_json(), report.render())
    checked = io.verify("brain", "brain.zarr")
    print(checked.ok)
    found = io.info("brain.zarr")
    print(found.levels[0].scale, found.kind)
    exported = io.export("brain.zarr", "out.tif")
    print(exported.n_files)
    added = io.pyramid("brain.zarr", "p.zarr")
    print(added.levels)
    updated = io.update("brain", "brain.zarr")
    print(updated.changed)
    followed = io.follow("brain", "brain.zarr", 400, progress=True)
    print(followed.lag_s)
    scanned = io.scan("brain")
    print(scanned.ok)
    mended = io.repair("brain.zarr", dry_run=True)
    print(mended.actions)
    picture = io.preview("brain.zarr", mode="max")
    picture.save("a.png")
    try:
        io.open("nothing")
    except io.PathNotFoundError as err:
        print(err)


def arrays() -> None:
    made = io.new_zarr("f.zarr", (4, 5), (2, 2), "uint16")
    like = io.new_zarr_like("g.zarr", made)
    lazy = io.read_zarr("g.zarr", level=0)
    labelled = io.to_xarray("g.zarr")
    io.write_zarr("h.zarr", labelled)
    print(like.shape, lazy.shape, io.__version__)


if __name__ == "__main__":
    write(read(Path("brain")))
    jobs()
    arrays()
'''
WRONG = """
import scout_dask_io as io

io.write_zarr("a.zarr", "b.zarr")
io.write_ome_zarr("a.zarr", [1, 2])
io.imsave("a.tif", io.read_zarr("a.zarr"), compress="little")
io.write_zarr("a.zarr", io.read_zarr("b.zarr"), codec=3)
io.convert("a", "b.zarr", voxel_size="four")
io.write_labels("a.zarr", "cells", "b.zarr")
"""


@pytest.mark.slow
def test_a_users_script_is_typed_and_its_mistakes_are_seen(tmp_path: Path):
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)

    def mypy(name: str) -> str:
        done = subprocess.run(
            [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), name],
            cwd=tmp_path, env={**os.environ, "MYPYPATH": str(REPO)}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        return done.stdout + done.stderr

    pytest.importorskip("mypy")
    assert "Success" in mypy("script.py")
    said = mypy("wrong.py")
    assert said.count("[arg-type]") == 6, said


@pytest.mark.slow
def test_pyright_finds_a_users_script_typed_and_sees_its_mistakes(tmp_path: Path):
    pyright = shutil.which("pyright")
    if pyright is None:
        pytest.skip("needs pyright")
    (tmp_path / "script.py").write_text(SCRIPT)
    (tmp_path / "wrong.py").write_text(WRONG)
    (tmp_path / "pyrightconfig.json").write_text(json.dumps({"extraPaths": [str(REPO)]}))
    done = subprocess.run(
        [pyright, "--outputjson", "--pythonpath", sys.executable],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    found = json.loads(done.stdout)["generalDiagnostics"]
    assert {Path(each["file"]).name for each in found} == {"wrong.py"}, done.stdout
    assert [each["rule"] for each in found] == ["reportArgumentType"] * 6, done.stdout


@pytest.mark.slow
def test_what_is_built_is_sound_and_works_installed_from_the_built_file(tmp_path: Path):
    pytest.importorskip("build")
    pytest.importorskip("twine")
    tools = SimpleNamespace(out=tmp_path / "dist", venv=tmp_path / "venv")
    copy = tmp_path / "copy"
    names = subprocess.run(
        ["git", "ls-files", "-z"], cwd=REPO, capture_output=True, check=True, text=True
    ).stdout
    for name in filter(None, names.split("\0")):
        (copy / name).parent.mkdir(parents=True, exist_ok=True)
        (copy / name).write_bytes((REPO / name).read_bytes())

    def run(*args: object) -> str:
        done = subprocess.run(
            [*map(str, args)], cwd=tmp_path, capture_output=True, text=True, check=False,
            env={k: v for k, v in os.environ.items() if k != "PYTHONPATH"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run(sys.executable, "-m", "build", "--outdir", tools.out, copy)
    files = sorted(tools.out.iterdir())
    assert [f.suffix for f in files] == [".whl", ".gz"]
    assert run(sys.executable, "-m", "twine", "check", "--strict", *files).count("PASSED") == 2
    for built in files:
        # What is installed already serves its dependencies: the built file is what is tried.
        run(sys.executable, "-m", "pip", "install", "--no-deps", "--target", tools.venv, built)
        code = "import sys; sys.path.insert(0, sys.argv.pop(1)); from scout_dask_io.cli import main"
        run(sys.executable, "-c", f"{code}; main(['demo', '-q'])", tools.venv)
        shutil.rmtree(tools.venv)


@pytest.mark.slow
@pytest.mark.parametrize(
    "commands",
    [
        ["convert planes a.zarr", "verify planes a.zarr", "export a.zarr out -q", "info a.zarr"],
        ["convert planes b.zarr --ome --zarr-format 3 --qc", "verify b.zarr", "info b.zarr"],
        ["convert planes c.zarr --ome", "preview c.zarr c.png", "export c.zarr c.ome.tif"],
    ],
)
def test_ordinary_commands_end_well_where_warnings_are_errors(tmp_path: Path, commands: list[str]):
    write_planes(tmp_path / "planes", make_volume((5, 40, 50)))
    for line in commands:
        size = ["--voxel-size", "4,2,2"] if line.startswith("convert") else []
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "scout_dask_io", *line.split(), *size],
            cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(REPO)}, capture_output=True,
            text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (line, done.stderr)
