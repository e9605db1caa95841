"""Reports and plans: what they have in common, and that a plan runs as its job does."""

from __future__ import annotations

import dataclasses
import inspect
import json
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.core.messages import RESUME, Message
from scout_dask_io.core.selection import Selection
from scout_dask_io.core.voxel_size import VoxelSize
from scout_dask_io.jobs.convert import ConvertOptions, plan_convert
from scout_dask_io.jobs.export import ExportOptions, plan_export
from scout_dask_io.jobs.pyramid import PyramidOptions, plan_pyramid
from scout_dask_io.jobs.report import JobReport, table

SHAPE = (9, 300, 40)


@pytest.fixture
def array(tmp_path: Path) -> Path:
    io.write_zarr(tmp_path / "a.zarr", make_volume(SHAPE), (4, 16, 16))
    return tmp_path / "a.zarr"


@pytest.mark.parametrize(
    ("job", "options"),
    [
        (io.convert, ConvertOptions),
        (io.export, ExportOptions),
        (io.pyramid, PyramidOptions),
    ],
)
def test_the_options_of_a_plan_are_the_parameters_of_its_job(
    job: Callable[..., Any], options: type
):
    parameters = inspect.signature(job).parameters.values()
    keywords = {p.name: p.default for p in parameters if p.kind is p.KEYWORD_ONLY}
    assert keywords.pop("progress") is False
    found = {f.name: f.default for f in dataclasses.fields(options)}
    if found.pop("selection", None) is not None:
        own = ("check", "known")  # nobody gives them to a job
        chosen = {f.name: f.default for f in dataclasses.fields(Selection) if f.name not in own}
        found |= {**chosen, "names": "check"}  # of a source that is to be converted
    assert found == keywords


def test_no_job_takes_what_readers_alone_are_asked(array: Path, tmp_path: Path):
    with pytest.raises(TypeError, match="check"):
        plan_convert(array, tmp_path / "b.zarr", check="first")
    with pytest.raises(TypeError, match="known"):
        plan_convert(array, tmp_path / "b.zarr", known={})


@pytest.mark.parametrize(
    ("job", "plan", "out", "options"),
    [
        (io.convert, plan_convert, "b.zarr", {"chunks": (4, 16, 16)}),
        (io.convert, plan_convert, "b.zarr", {"ome": True, "levels": 2}),
        (io.export, plan_export, "planes", {"dtype": "f4"}),
        (io.pyramid, plan_pyramid, "b.zarr", {"levels": 2}),
    ],
)
def test_a_plan_runs_as_its_job_does(
    array: Path, job: Callable[..., Any], plan: Callable[..., Any], out: str, options: Any
):
    planned = plan(array, array.with_name(out), **options)
    assert not array.with_name(out).exists()
    units: list[tuple[int, int]] = []
    report = planned.run(lambda done, n, nbytes: units.append((done, n)))
    assert units[-1][0] == units[-1][1] > 0
    assert report.plan is planned
    (array.parent / "again").mkdir()
    at_once = job(array, array.parent / "again" / out, **options)
    one, other = (json.loads(r.to_json()) for r in (report, at_once))
    for found in (one, other):
        assert "plan" not in found
        del found["elapsed_s"], found["path"]
        found.pop("nbytes_per_s", None)
    assert one == other


def test_what_is_written_is_reported_as_it_stands(tmp_path: Path):
    write_planes(tmp_path / "planes", make_volume(SHAPE))
    report = io.convert(tmp_path / "planes", tmp_path / "a.zarr", ome=True, chunks=(4, 16, 16))
    group = io.open(tmp_path / "a.zarr", mode="r")
    levels = [group[str(n)] for n in range(len(report.levels))]
    assert report.levels == tuple(a.shape for a in levels)
    assert (report.shape, report.chunks) == (levels[0].shape, levels[0].chunks)
    assert report.dtype == str(levels[0].dtype)
    assert report.nbytes == np.prod(SHAPE) * 2
    assert report.n_chunks == sum(a.nchunks for a in levels)
    again = io.convert(
        tmp_path / "planes", tmp_path / "a.zarr", ome=True, chunks=(4, 16, 16), resume=True
    )
    assert (again.n_units, again.n_resumed) == (report.n_units, report.n_units)


def test_a_report_is_a_title_and_rows_in_columns():
    class Told(JobReport):
        def title(self) -> str:
            return "a.zarr: an array"

        def rows(self) -> list[tuple[str | None, str]]:
            return [
                ("shape", "2 x 3"),
                ("channels", ""),
                ("attributes", "voxel_size_um"),
                ("", "channels"),
                (None, "an unfinished write; " + RESUME + " finishes it"),
            ]

    text = Told().render()
    assert text.splitlines() == [
        "a.zarr: an array",
        "  shape       2 x 3",
        "  attributes  voxel_size_um",
        "              channels",
        "  an unfinished write; resume=True finishes it",
    ]
    assert isinstance(text, Message)
    assert RESUME in text.parts
    assert table([("shape", "2 x 3")]) == ["  shape     2 x 3"]


def test_notebooks_show_reports_plans_and_sizes_as_tables(tmp_path: Path, array: Path) -> None:
    for report in (io.info(array), plan_convert(array, tmp_path / "<b>.zarr")):
        text = report._repr_html_()
        root = ET.fromstring(text)
        assert root.findtext("b") == str(report.title())
        shown = [row.findtext("th") for row in root.iter("tr")]
        assert [s for s in shown if s is not None] == [
            label for label, said in report.rows() if said and label is not None
        ]
    assert str(io.info(array)) == io.info(array).render()
    size = VoxelSize(4, 1.8, None, "a < b")
    root = ET.fromstring(size._repr_html_())
    assert [cell.text for cell in root.iter("td")] == ["4 µm", "1.8 µm", "?"]
    assert root.findtext("caption") == "a < b"


def test_plans_of_writes_are_short_in_a_terminal_and_tables_in_notebooks() -> None:
    data = np.zeros((5, 2000, 3000), "u2")
    plan = io.plan_zarr(data, 10, nb_workers=2, max_mem="1GB")
    assert repr(plan).startswith("<WritePlan: 5 x 2000 x 3000, uint16, 60 MB, 60,000 chunks of 10 ")
    assert len(repr(plan)) < 150
    cells = [r.findtext("th") for r in ET.fromstring(plan._repr_html_()).iter("tr")]
    assert cells == ["array", "chunks", "units", "workers", "memory", "reads"]
    image = io.plan_ome_zarr(data, axes="zyx", factors=[(1, 2, 2)])
    assert repr(image).startswith(
        "<ImagePlan: zyx, levels 5 x 2000 x 3000, 5 x 1000 x 1500 by mean, "
    )
    rows = {
        r.findtext("th"): r.findtext("td") for r in ET.fromstring(image._repr_html_()).iter("tr")
    }
    assert rows["levels"] == "2 by mean: 5 x 2000 x 3000, 5 x 1000 x 1500"
