"""Every job that reads takes the same choice of files, images and pages, and refuses the same."""

from __future__ import annotations

import re
import shlex
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.cli.run import main
from scout_dask_io.view.browser import viewer

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


@pytest.fixture
def two(tmp_path: Path) -> Path:
    """Give a file of two series: three pages of 8 x 9, and two of 12 x 10."""
    path = tmp_path / "two.tif"
    with tifffile.TiffWriter(path) as out:
        out.write(make_volume((3, 8, 9)), photometric="minisblack")
        out.write(make_volume((2, 12, 10)), photometric="minisblack")
    return path


@pytest.fixture
def miscounted(tmp_path: Path) -> Path:
    """Give a file of five pages, of which ImageJ's description counts three."""
    path = tmp_path / "counted.tif"
    with tifffile.TiffWriter(path) as out:
        for k, plane in enumerate(make_volume((5, 8, 9))):
            text = "ImageJ=1.53\nimages=3\nslices=3\n" if k == 0 else None
            out.write(plane, metadata=None, contiguous=False, description=text)
    return path


def shapes_by_job(path: Path, folder: Path, **how: Any) -> dict[str, tuple[int, ...]]:
    """Give the shape that each job sees of a source, by the job."""
    array = folder / "job.zarr"
    report = io.convert(path, array, overwrite=True, **how)
    seen = {
        "convert": report.shape,
        "info": io.info(path, **how).shape or (),
        "preview": io.preview(path, **how).shape,
    }
    assert io.verify(path, array, **how).equal
    if viewer_is_there():
        with viewer(path, **how) as shown:
            (volume,) = shown._server._volumes.values()
            seen["view"] = volume.level_shape(0)
    return seen


def viewer_is_there() -> bool:
    try:
        import neuroglancer  # noqa: F401
    except ImportError:
        return False
    return True


def test_every_job_reads_the_series_that_is_asked_for(two: Path, tmp_path: Path) -> None:
    assert set(shapes_by_job(two, tmp_path).values()) == {(3, 8, 9)}
    assert set(shapes_by_job(two, tmp_path, series=1).values()) == {(2, 12, 10)}
    assert "2 series; this is series 1" in io.info(two, series=1).render()


@pytest.mark.parametrize(("pages", "n"), [("all", 5), ("counted", 3)])
def test_every_job_reads_the_pages_that_are_asked_for(
    miscounted: Path, tmp_path: Path, pages: str, n: int
) -> None:
    for job in (io.info, io.preview):
        with pytest.raises(io.TiffReadError, match="counts 3 pages, but the file has 5"):
            job(miscounted)
    assert set(shapes_by_job(miscounted, tmp_path, pages=pages).values()) == {(n, 8, 9)}


def test_a_dataset_reads_the_pages_that_are_asked_for(tmp_path: Path) -> None:
    volume = make_volume((2, 5, 8, 9))
    for c, stack in enumerate(volume):
        with tifffile.TiffWriter(tmp_path / f"a_C{c:02}.tif") as out:
            for k, plane in enumerate(stack):
                text = "ImageJ=1.53\nimages=3\nslices=3\n" if k == 0 else None
                out.write(plane, metadata=None, contiguous=False, description=text)
    for pages, n in (("all", 5), ("counted", 3)):
        lazy = io.imread_dataset(tmp_path, "a_C{c}.tif", pages=pages)
        np.testing.assert_array_equal(lazy.compute(), volume[:, :n])


def test_two_series_of_a_dataset_never_share_a_name(tmp_path: Path) -> None:
    # Of the same shape: dask would take what it has computed of one for the other.
    volume = make_volume((2, 2, 3, 8, 9))
    for c, images in enumerate(volume):
        with tifffile.TiffWriter(tmp_path / f"a_C{c:02}.tif") as out:
            for image in images:
                out.write(image, photometric="minisblack")
    lazy = [io.imread_dataset(tmp_path, "a_C{c}.tif", series=s) for s in (0, 1)]
    assert lazy[0].name != lazy[1].name
    for s in (0, 1):
        np.testing.assert_array_equal(lazy[s].compute(), volume[:, s])


JOBS = [io.info, io.preview, io.scan]


@pytest.mark.parametrize("job", JOBS)
@pytest.mark.parametrize(
    ("how", "says"),
    [
        ({"pattern": "{z}.tif"}, "a pattern reads the names of files in folders"),
        ({"position": "S0"}, "has no positions by the names of its files"),
        ({"series": 7}, "no series 7"),
        ({"series": 1, "pages": "all"}, 'pages="all" gives all pages'),
    ],
)
def test_what_does_not_fit_a_file_is_refused(two: Path, job: Any, how: Any, says: str) -> None:
    with pytest.raises(io.ArgumentError, match=says):
        job(two, **how)


@pytest.mark.parametrize(
    "how", [{"pattern": "{z}.tif"}, {"position": "S0"}, {"series": 0}, {"pages": "all"}]
)
def test_what_chooses_among_files_is_refused_of_an_array(tmp_path: Path, how: Any) -> None:
    array = tmp_path / "a.zarr"
    io.write_zarr(array, make_volume((3, 8, 9)))
    for job in (io.info, io.preview, io.verify, lambda p, **k: io.convert(p, tmp_path / "b", **k)):
        with pytest.raises(io.ArgumentError, match=re.escape(str(array))):
            job(array, **how)
    assert not (tmp_path / "b").exists()


def test_info_refuses_a_position_or_a_pattern_that_a_folder_does_not_have(tmp_path: Path) -> None:
    write_planes(tmp_path / "planes", make_volume((3, 8, 9)))
    with pytest.raises(io.ArgumentError, match="has no positions"):
        io.info(tmp_path / "planes", position="S0")
    with pytest.raises(io.PathNotFoundError, match="pattern"):
        io.info(tmp_path / "planes", pattern="{name}_t{t}.tif")


@pytest.mark.parametrize(
    "how",
    [
        ["--series", "1"],
        ["--pages", "all"],
        ["--pages", "counted", "--allow-sparse"],
    ],
)
def test_the_command_that_checks_what_was_converted_has_the_options_that_it_needs(
    two: Path,
    miscounted: Path,
    tmp_path: Path,
    how: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = two if "--series" in how else miscounted
    check = command_after(["convert", str(source), str(tmp_path / "a.zarr"), *how], capsys)
    assert check[-len(how) :] == how
    run(check[check.index("verify") :], capsys)


def test_the_command_that_checks_sorts_planes_as_they_were_sorted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for k in (2, 10):
        tifffile.imwrite(tmp_path / f"z{k}.tif", np.full((8, 9), k, "u2"))
    words = ["convert", str(tmp_path), "out.zarr", "--order", "natural", "--names", "allow"]
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path.parent)
        check = command_after(words, capsys)
        run(check[check.index("verify") :], capsys)
    assert check[-2:] == ["--order", "natural"]


def test_no_secret_stands_in_the_command_that_checks(capsys: pytest.CaptureFixture[str]) -> None:
    from scout_dask_io.cli.base import given_to

    given = {"storage_options": {"key": "AKIA", "secret": "xyzzy", "anon": False}}
    words = given_to("verify", given)
    assert words[1::2] == ["key=…", "secret=…", "anon=false"]
    assert not {"AKIA", "xyzzy"} & set(" ".join(words).split("="))


def command_after(words: list[str], capsys: pytest.CaptureFixture[str]) -> list[str]:
    out = run(words, capsys)
    (line,) = [line for line in out.splitlines() if "check it" in line]
    return shlex.split(line.partition("check it")[2])


def run(words: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        main(words)
    out, err = capsys.readouterr()
    assert ended.value.code == 0, err
    return out
