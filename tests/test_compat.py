"""What we write, others read bit-equal; what zarr 2 wrote, we read bit-equal.

Two readers run in child processes: zarr 2.18 needs an environment of its own, and a process
that has imported TensorStore can no longer fork.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import dask.array as da
import numcodecs
import numpy as np
import pytest
import zarr
from helpers import make_volume, python, write_channels, write_planes

import scout_dask_io as io

pytestmark = pytest.mark.compat

Built = dict[str, tuple[Path, np.ndarray]]
BUILDERS: dict[str, Callable[[Path], np.ndarray]] = {}


def output(build: Callable[[Path], np.ndarray]) -> Callable[[Path], np.ndarray]:
    """Enter a function that writes an array at a path and gives what it must hold."""
    BUILDERS[build.__name__] = build
    return build


def _from_numpy(name: str, data: np.ndarray, chunks: tuple[int, ...], **options: object) -> None:
    def build(path: Path) -> np.ndarray:
        io.write_zarr(path, data, chunks, **options)
        return data

    BUILDERS[name] = build


for code in ("b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f2", "f4", "f8"):
    _from_numpy(f"dtype_{code}", make_volume((5, 21, 34), code), (4, 8, 16))
for ndim, (shape, chunks) in enumerate(
    [((37,), (10,)), ((19, 23), (8, 8)), ((3, 5, 9), (2, 2, 4)), ((2, 3, 5, 9), (1, 2, 2, 4)),
     ((2, 2, 3, 5, 9), (1, 1, 2, 2, 4))], start=1,
):  # fmt: skip
    _from_numpy(f"ndim_{ndim}", make_volume(shape), chunks)
_from_numpy("codec_zstd", make_volume((5, 21, 34)), (4, 8, 16), codec="zstd")
_from_numpy("codec_lz4", make_volume((5, 21, 34)), (4, 8, 16), codec="lz4")
_from_numpy("codec_none", make_volume((5, 21, 34)), (4, 8, 16), codec="none")
_from_numpy("codec_object", make_volume((5, 21, 34)), (4, 8, 16), codec=numcodecs.Zlib(level=3))
_from_numpy("codec_config", make_volume((5, 21, 34)), (4, 8, 16), codec={"id": "bz2", "level": 2})


def _sparse() -> np.ndarray:
    data = np.full((9, 20, 30), 7, "u2")
    data[0, 0, 0], data[8, 19, 29] = 1, 2
    return data


_from_numpy("fill_value", _sparse(), (4, 8, 16), fill_value=7)
_from_numpy("mostly_empty", np.where(_sparse() == 7, 0, 5).astype("f4"), (4, 8, 16))
_from_numpy("attributes", make_volume((5, 21, 34)), (4, 8, 16), attributes={"unit": "µm"})


@output
def planes_big_endian(path: Path) -> np.ndarray:
    data = make_volume((7, 40, 33), ">u2")
    write_planes(path.with_suffix(".planes"), data, byteorder=">")
    io.write_zarr(path, io.imread_folder(path.with_suffix(".planes")), (4, 16, 16))
    return data.astype("u2")


@output
def blocks_across_chunks(path: Path) -> np.ndarray:
    data = make_volume((10, 30, 41))
    lazy = da.from_array(data, chunks=(3, 7, 11)) + 1
    io.write_zarr(path, lazy, (4, 8, 16))
    return data + 1


@output
def converted_channels(path: Path) -> np.ndarray:
    data = make_volume((2, 5, 40, 33))
    write_channels(path.with_suffix(".channels"), data)
    io.convert(path.with_suffix(".channels"), path, chunks=(4, 16, 16))
    return data


@output
def new_zarr(path: Path) -> np.ndarray:
    data = make_volume((5, 21, 34), "f4")
    io.new_zarr(path, data.shape, (4, 8, 16), data.dtype)[...] = data
    return data


@output
def new_zarr_like(path: Path) -> np.ndarray:
    data = make_volume((5, 21, 34), "i2")
    first = io.new_zarr(path.with_suffix(".first"), data.shape, (4, 8, 16), data.dtype)
    io.new_zarr_like(path, first)[...] = data
    return data


@output
def opened_and_changed(path: Path) -> np.ndarray:
    data = make_volume((5, 21, 34))
    io.write_zarr(path, data, (4, 8, 16))
    data[2, 3:19] = 9
    io.open(path)[2, 3:19] = 9
    return data


@output
def by_zarr_through_the_store(path: Path) -> np.ndarray:
    data = make_volume((5, 21, 34))
    array = zarr.create_array(
        store=io.NestedDirectoryStore(path),
        shape=data.shape,
        chunks=(4, 8, 16),
        dtype=data.dtype,
        zarr_format=2,
        chunk_key_encoding={"name": "v2", "separator": "/"},
    )
    array[...] = data
    return data


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("outputs")
    return {
        name: (folder / f"{name}.zarr", build(folder / f"{name}.zarr"))
        for name, build in BUILDERS.items()
    }


def compare(built: Built, interpreter: Callable[[str, str], str], opener: str) -> dict[str, str]:
    """Let another reader hold every output against the expected values, and give what differs.

    ``opener`` is code that defines ``read(path)`` giving a numpy array;
    ``interpreter`` runs code with one argument and gives what it printed.
    """
    code = f"""
import json, sys
import numpy as np
{opener}
differ = {{}}
for name, (path, expected) in json.loads(open(sys.argv[1]).read()).items():
    expected = np.load(expected)
    try:
        found = read(path)
    except Exception as err:
        differ[name] = repr(err)
        continue
    if (found.shape, found.dtype) != (expected.shape, expected.dtype):
        differ[name] = f"{{found.shape}} {{found.dtype}}"
    elif found.tobytes() != expected.tobytes():
        differ[name] = f"{{np.count_nonzero(found != expected)}} values differ"
print(json.dumps(differ))
"""
    with tempfile.TemporaryDirectory() as folder:
        todo = {}
        for name, (path, expected) in built.items():
            saved = Path(folder, f"{name}.npy")
            np.save(saved, expected)
            todo[name] = (str(path), str(saved))
        listing = Path(folder, "todo.json")
        listing.write_text(json.dumps(todo))
        return json.loads(interpreter(code, str(listing)))


def a_child(code: str, argument: str) -> str:
    return python("-c", code, argument)


def this_process(code: str, argument: str) -> str:
    out = StringIO()
    with redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["-c", argument])
        exec(code, {})
    return out.getvalue()


READERS = {
    "zarr": "import zarr\ndef read(path): return zarr.open(path, mode='r')[...]",
    "zarr_array": "import zarr\ndef read(path): return zarr.open_array(path, mode='r')[...]",
    "ours": "import scout_dask_io\ndef read(path): return scout_dask_io.open(path, mode='r')[...]",
    "ours_lazy": "import scout_dask_io\n"
    "def read(path): return scout_dask_io.read_zarr(path).compute(scheduler='sync')",
    "dask": "import dask.array as da\n"
    "def read(path): return da.from_zarr(path).compute(scheduler='sync')",
    "tensorstore": """
import tensorstore as ts
def read(path):
    spec = {"driver": "zarr", "kvstore": {"driver": "file", "path": path}}
    return ts.open(spec, read=True).result().read().result()
""",
}


@pytest.mark.parametrize("reader", READERS)
def test_every_output_is_read_bit_equal(built: Built, reader: str):
    if reader == "tensorstore" and importlib.util.find_spec("tensorstore") is None:
        pytest.skip("TensorStore is not installed")
    interpreter = a_child if reader == "tensorstore" else this_process
    assert compare(built, interpreter, READERS[reader]) == {}


def test_the_comparison_sees_a_changed_value(built: Built):
    path, expected = built["dtype_u2"]
    wrong = expected.copy()
    wrong[4, 20, 33] += 1
    found = compare({"it": (path, wrong)}, this_process, READERS["zarr"])
    assert found == {"it": "1 values differ"}


@pytest.mark.parametrize("name", BUILDERS)
def test_every_output_is_nested_zarr_v2(built: Built, name: str):
    path, expected = built[name]
    meta = json.loads((path / ".zarray").read_text())
    assert meta["zarr_format"] == 2
    assert meta["dimension_separator"] == "/"
    assert meta["shape"] == list(expected.shape)
    assert not (path / "zarr.json").exists()
    depths = {
        len(p.relative_to(path).parts)
        for p in path.rglob("*")
        if p.is_file() and not p.name.startswith(".")
    }
    assert depths == {expected.ndim}


# zarr 2.18, the last that has a NestedDirectoryStore of its own.

OLD_STORE = """
import zarr
def read(path): return zarr.open(zarr.NestedDirectoryStore(path), mode='r')[...]
"""
OLD_AUTOMATIC = "import zarr\ndef read(path): return zarr.open(path, mode='r')[...]"


@pytest.fixture(scope="module")
def zarr_2() -> Iterator[Callable[[str, str], str]]:
    """Give a runner of code in a fresh environment with zarr 2.18, gone afterwards."""
    with tempfile.TemporaryDirectory() as folder:
        interpreter = Path(folder, "bin", "python")
        env = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        install = [str(interpreter), "-m", "pip", "install", "-q", "zarr==2.18.*", "numcodecs<0.16"]
        for command in ([sys.executable, "-m", "venv", folder], install):
            done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
            if done.returncode:
                why = f"no environment with zarr 2.18: {done.stderr.strip()[-500:]}"
                pytest.fail(why) if os.environ.get("CI") else pytest.skip(why)

        def run(code: str, argument: str) -> str:
            done = subprocess.run(
                [str(interpreter), "-c", code, argument],
                env=env,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            return done.stdout

        assert run("import zarr; print(zarr.__version__)", "").startswith("2.18.")
        yield run


@pytest.mark.slow
@pytest.mark.parametrize("opener", [OLD_STORE, OLD_AUTOMATIC], ids=["nested_store", "automatic"])
def test_zarr_2_reads_every_output_bit_equal(
    built: Built, zarr_2: Callable[[str, str], str], opener: str
):
    assert compare(built, zarr_2, opener) == {}


@pytest.mark.slow
@pytest.mark.parametrize("key", ["with_separator", "without_separator"])
def test_what_zarr_2_wrote_nested_is_read_bit_equal(
    tmp_path: Path, zarr_2: Callable[[str, str], str], key: str
):
    data = make_volume((9, 21, 34))
    path = tmp_path / "old.zarr"
    np.save(tmp_path / "data.npy", data)
    zarr_2(
        "import sys, numpy as np, zarr\n"
        "data = np.load(sys.argv[1] + '/data.npy')\n"
        "store = zarr.NestedDirectoryStore(sys.argv[1] + '/old.zarr')\n"
        "zarr.open(store, mode='w', shape=data.shape, chunks=(4, 8, 16), dtype=data.dtype)"
        "[...] = data\n",
        str(tmp_path),
    )
    meta = json.loads((path / ".zarray").read_text())
    assert meta["dimension_separator"] == "/"
    if key == "without_separator":  # as zarr up to 2.7 wrote it
        del meta["dimension_separator"]
        (path / ".zarray").write_text(json.dumps(meta))
    for found in (io.open(path, mode="r")[...], io.read_zarr(path).compute()):
        assert (found.shape, found.dtype) == (data.shape, data.dtype)
        np.testing.assert_array_equal(found, data)
