"""Messages that know which of their words are arguments, and warnings in the caller's name."""

from __future__ import annotations

import pickle
import warnings
from pathlib import Path

import pytest
from helpers import make_volume, write_planes

import scout_dask_io as io
from scout_dask_io.core.messages import OVERWRITE, RESUME, Message, Option, joined
from scout_dask_io.jobs.scan import scan


def test_a_message_reads_as_functions_have_it_and_keeps_its_arguments():
    message = "either " + RESUME + " or " + OVERWRITE + f" of {'max_mem'}"
    assert message == "either resume=True or overwrite=True of max_mem"
    assert isinstance(message, Message)
    assert message.parts == ("either ", RESUME, " or ", OVERWRITE, " of max_mem")
    assert joined(" ", ["a", message]).parts == ("a", " ", *message.parts)


@pytest.mark.parametrize("kind", [io.ArgumentError, io.TargetExistsError, io.WriteError])
def test_an_error_keeps_the_arguments_of_its_message_on_the_way_from_a_worker(kind: type):
    error = kind("raise " + Option("max_mem"))
    error.add_note("then " + RESUME)
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == "raise max_mem"
    assert again.args[0].parts == ("raise ", Option("max_mem"))
    assert again.__notes__[0].parts == ("then ", RESUME)


def _open_folder(folder: Path) -> None:
    io.imread_folder(folder)


def _open_channels(folder: Path) -> None:
    io.imread_channels(folder.parent)


def _convert(folder: Path) -> None:
    io.convert(folder, folder.parent / "out.zarr")


def _convert_image(folder: Path) -> None:
    io.convert(folder, folder.parent / "image.zarr", ome=True)


def _info(folder: Path) -> None:
    io.info(folder)


def _verify(folder: Path) -> None:
    io.verify(folder, folder)


def _preview(folder: Path) -> None:
    io.preview(folder, size=64)


@pytest.mark.parametrize(
    "call", [_open_folder, _open_channels, _convert, _convert_image, _info, _verify, _preview]
)
def test_a_warning_points_to_the_line_that_called_the_library(call, tmp_path: Path):
    names = ["z9.tif", "z10.tif", "z12.tif"]
    write_planes(tmp_path / "planes", make_volume((3, 20, 30)), names=names)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        call(tmp_path / "planes")
    assert any("natural order" in str(w.message) for w in caught)
    assert {w.filename for w in caught} == {__file__}
    assert {w.lineno for w in caught} == {call.__code__.co_firstlineno + 1}


def test_what_scan_says_of_an_order_names_the_argument(tmp_path: Path):
    write_planes(tmp_path, make_volume((2, 20, 30)), names=["z9.tif", "z10.tif"])
    (told,) = scan(tmp_path).folders[0].warnings
    assert isinstance(told, Message)
    assert Option("order", "natural") in told.parts
