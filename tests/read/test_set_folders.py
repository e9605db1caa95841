"""Folders that hold sets of files: every verb reads what the set's metadata say."""

from __future__ import annotations

import json
import os
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
import tifffile
from file_sets import grid_planes, micromanager, ndtiff, ome_files
from helpers import make_volume
from hypothesis import given, settings
from hypothesis import strategies as st

import scout_dask_io as io
from scout_dask_io.run.lazy import source_of

pytestmark = pytest.mark.filterwarnings("ignore:.*is read as an?:UserWarning")


def check_every_verb(folder: Path, volume: np.ndarray, axes: str, tmp_path: Path, **how) -> None:
    """Hold what each verb says of a folder against the array that made it."""
    got = io.imread_dataset(folder, **how)
    np.testing.assert_array_equal(got.compute(), volume)
    info = source_of(got).info
    assert info.axes == axes
    told = io.info(folder, **how)
    assert (told.shape, told.axes) == (volume.shape, axes)
    assert io.scan(folder, **how).ok
    out = tmp_path / "out"
    io.convert(folder, out / "a.zarr", chunks=16, **how)
    np.testing.assert_array_equal(io.read_zarr(out / "a.zarr").compute(), volume)
    assert io.verify(folder, out / "a.zarr", **how).ok
    io.convert(folder, out / "a.ome.zarr", ome=True, chunks=16, **how)
    image = io.info(out / "a.ome.zarr")
    assert (image.shape, image.axes) == (volume.shape, axes)
    assert list(image.channels) == list(info.names) or not info.names
    assert io.verify(folder, out / "a.ome.zarr", **how).ok
    seen = io.preview(folder, **how)
    assert seen.shape == volume.shape["t" in axes :]
    shutil.rmtree(out)


def test_a_micromanager_set_in_a_folder_has_its_own_axes(tmp_path: Path):
    volume = make_volume((1, 2, 2, 3, 11, 13))
    micromanager(tmp_path / "set", volume, split=5, names=["DAPI", "GFP"])
    check_every_verb(tmp_path / "set", volume[0], "tczyx", tmp_path)
    assert io.channel_names(tmp_path / "set") == ["DAPI", "GFP"]
    assert io.voxel_size(io.imread_dataset(tmp_path / "set")).micrometres == (1.5, 0.325, 0.325)
    assert "of a Micro-Manager data set: 2 time points x 2 channels x 3 planes" in (
        io.scan(tmp_path / "set").reading
    )


@pytest.mark.parametrize(
    "labels", [(), ("Pos0", "Pos1", "Pos2"), ("A-Pos_000_000", "A-Pos_1", "B")]
)
def test_positions_of_micromanager_are_arrays_of_their_own(tmp_path: Path, labels: tuple):
    volume = make_volume((3, 2, 2, 3, 11, 13))
    micromanager(tmp_path / "set", volume, split=7, labels=labels)
    found = io.dataset_positions(tmp_path / "set")
    assert found == list(labels or ("Pos0", "Pos1", "Pos2"))
    for k, name in enumerate(found):
        got = io.imread_dataset(tmp_path / "set", position=name)
        np.testing.assert_array_equal(got.compute(), volume[k])
    check_every_verb(tmp_path / "set", volume[1], "tczyx", tmp_path, position=found[1])
    with pytest.raises(io.ArgumentError, match="3 positions"):
        io.convert(tmp_path / "set", tmp_path / "a.zarr")


STAGE = [(30.5, -1200.0, 4130.0), (31.5, -1200.0, 6130.25), (32.5, 800.0, 4130.0)]


@pytest.mark.parametrize("kind", ["one file", "a file a position", "NDTiff"])
@pytest.mark.parametrize("by", ["planes", "summary", "nothing"])
def test_names_and_places_of_positions_are_those_that_the_metadata_state(
    tmp_path: Path, kind: str, by: str
):
    names = ["mouse A", "mouse B", "control"]
    volume = make_volume((3, 2, 2, 3, 11, 13))
    rows = [
        {"Label": name, "DevicePositions": [{"Device": "XY", "Position_um": [x, y]},
                                            {"Device": "Z", "Position_um": [z]}]}
        for name, (z, y, x) in zip(names, STAGE, strict=True)
    ]  # fmt: skip
    stated = {
        "planes": {"places": STAGE},
        "summary": {"StagePositions": rows},
        "nothing": {"StagePositions": "none"},
    }[by]
    if kind == "NDTiff":
        planes = list(grid_planes(volume, ("position", "time", "channel", "z")))
        ndtiff(tmp_path / "set", planes, 7, **stated)
    else:
        labels = names if kind == "a file a position" else ()
        micromanager(tmp_path / "set", volume, split=7, labels=labels, **stated)
    found = io.dataset_positions(tmp_path / "set")
    is_named = by == "summary" or kind == "a file a position"
    assert found == (names if is_named else ["Pos0", "Pos1", "Pos2"])
    places = [None] * 3 if by == "nothing" else STAGE
    assert [p.position_um for p in found] == places
    assert list(io.scan(tmp_path / "set").positions_um) == places
    got = io.imread_dataset(tmp_path / "set", position=found[2])
    np.testing.assert_array_equal(got.compute(), volume[2])


def test_ndtiff_states_the_size_of_a_voxel(tmp_path: Path):
    planes = list(grid_planes(make_volume((2, 3, 11, 13)), ("channel", "z")))
    ndtiff(tmp_path / "set", planes, 4, **{"PixelSize_um": 0.65, "z-step_um": 2.5})
    got = io.imread_dataset(tmp_path / "set")
    assert io.voxel_size(got).micrometres == (2.5, 0.65, 0.65)


def test_ten_thousand_pixels_a_centimetre_are_micromanager_s_word_for_no_size(tmp_path: Path):
    planes = list(grid_planes(make_volume((2, 3, 11, 13)), ("channel", "z")))
    ndtiff(tmp_path / "set", planes, 4)
    assert io.voxel_size(io.imread_dataset(tmp_path / "set")) is None
    assert io.info(tmp_path / "set").voxel_size is None


@pytest.mark.parametrize("suffix", ["o.ome.tif", "o.tif", "ij.tif", "planes"])
@pytest.mark.parametrize("kind", ["OME-TIFF", "Micro-Manager", "NDTiff", "folders"])
def test_a_set_is_exported_with_its_axes_sizes_and_names(tmp_path: Path, kind: str, suffix: str):
    volume, names, folder = make_volume((2, 3, 8, 10)), ["DAPI", "GFP"], tmp_path / "set"
    size = {"PixelSize_um": 0.5, "z-step_um": 2}
    if kind == "OME-TIFF":
        ome_files(folder, [volume], "cz", "a_{n}.ome.tif", names=names)
    elif kind == "folders":
        for c in range(2):
            (folder / f"f{c}").mkdir(parents=True)
        ome_files(folder, [volume], "cz", "z{z}.ome.tif", renamed="f{c}/z{z}.ome.tif", names=names)
    elif kind == "Micro-Manager":
        micromanager(folder, volume[None, None], split=4, names=names, **size)
    else:
        ndtiff(folder, list(grid_planes(volume, ("channel", "z"), channel=names)), 4, **size)
    io.export(folder, tmp_path / suffix, imagej=suffix == "ij.tif")
    if suffix == "planes":
        np.testing.assert_array_equal(io.imread_channels(tmp_path / suffix).compute(), volume)
        assert io.voxel_size(tmp_path / suffix / "c0").micrometres == (2, 0.5, 0.5)
        return
    told, got = io.info(tmp_path / suffix), io.imread(tmp_path / suffix).compute()
    assert (told.axes, told.channels) == ("zcyx" if suffix == "ij.tif" else "czyx", tuple(names))
    assert told.voxel_size.micrometres == (2, 0.5, 0.5)
    np.testing.assert_array_equal(got.swapaxes(0, 1) if suffix == "ij.tif" else got, volume)


@pytest.mark.parametrize(
    "names",
    [("ch0", "ch1"), ("488nm", "561nm"), ("Cy5", "DAPI"), ("Ex_488_Em_525", "Ex_561_Em_600")],
)
@pytest.mark.parametrize("positions", [1, 2])
def test_sets_a_channel_folder_each_are_channels(tmp_path: Path, names: tuple, positions: int):
    volume = make_volume((positions, 2, 3, 4, 11, 13))
    titles = ["A", "B"][:positions]
    for k, name in enumerate(names):
        ome_files(tmp_path / "set" / name, list(volume[:, k]), "tz", "i{n}.ome.tif", in_file="z",
                  positions=titles)  # fmt: skip
    how = {"position": "B"} if positions > 1 else {}
    check_every_verb(tmp_path / "set", volume[-1].swapaxes(0, 1), "tczyx", tmp_path, **how)
    assert io.channel_names(tmp_path / "set") == list(names)
    (tmp_path / "set" / names[1] / "i0.ome.tif").unlink()
    with pytest.raises(io.PathNotFoundError, match=f"{names[1]}.i0.ome.tif"):
        io.imread_dataset(tmp_path / "set", position="A" if positions > 1 else None)


def test_a_set_is_read_whole_with_either_check_and_another_word_is_refused(tmp_path: Path):
    volume = make_volume((2, 20, 11, 13))
    files = ome_files(tmp_path / "set", [volume], "cz", "i{n}.ome.tif")
    got = io.imread_dataset(tmp_path / "set", check="first")
    np.testing.assert_array_equal(got.compute(), volume)
    os.truncate(files[25], 100)
    with pytest.raises(io.TiffReadError, match=files[25].name):
        io.imread_dataset(tmp_path / "set", check="first").compute()
    with pytest.raises(io.ArgumentError, match="check"):
        io.imread_dataset(tmp_path / "set", check="none")


ORDERS = ["XYCZT", "XYZCT", "XYTZC", "XYZTC"]


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("in_file", ["", "z", "cz", "tz"])
def test_an_ome_tiff_of_several_files_in_a_folder_has_its_own_axes(
    tmp_path: Path, order: str, in_file: str
):
    volume = make_volume((2, 3, 4, 11, 13))
    ome_files(tmp_path / "set", [volume], "tcz", "img_{n:03d}.ome.tif", order=order,
              in_file=in_file, names=["a", "b", "c"])  # fmt: skip
    got = io.imread_dataset(tmp_path / "set")
    np.testing.assert_array_equal(got.compute(), volume)
    assert list(source_of(got).info.names) == ["a", "b", "c"]
    if order == ORDERS[len(in_file)]:
        check_every_verb(tmp_path / "set", volume, "tczyx", tmp_path)


def test_names_that_agree_with_the_metadata_are_read_and_a_part_of_them_too(tmp_path: Path):
    volume = make_volume((2, 4, 11, 13))
    form = "11-02-59_b_UltraII_C{c:02d}_xyz-Table Z{z:04d}.ome.tif"
    files = ome_files(tmp_path / "set", [volume], "cz", form)
    check_every_verb(tmp_path / "set", volume, "czyx", tmp_path)
    assert io.channel_names(tmp_path / "set") == ["C00", "C01"]
    for path in files[4:]:
        path.unlink()
    with pytest.warns(UserWarning, match="holds 4 of 8 files of an OME-TIFF"):
        got = io.imread_dataset(tmp_path / "set")
    np.testing.assert_array_equal(got.compute(), volume[0])
    files[3].unlink()
    with pytest.raises(io.PathNotFoundError, match="holds 3 of 8 files"):
        io.imread_dataset(tmp_path / "set")


def test_a_companion_describes_files_that_hold_pages_alone(tmp_path: Path):
    volume = make_volume((2, 3, 11, 13))
    files = ome_files(tmp_path / "set", [volume], "cz", "p{n}.ome.tif", in_file="z",
                      companion="all.companion.ome")  # fmt: skip
    check_every_verb(tmp_path / "set", volume, "czyx", tmp_path)
    np.testing.assert_array_equal(io.imread(files[1]).compute(), volume.swapaxes(0, 1))
    (tmp_path / "set" / "all.companion.ome").unlink()
    with pytest.warns(UserWarning, match="its metadata lie in 'all.companion.ome'"):
        assert io.imread(files[1]).shape == (3, 11, 13)


def test_a_set_that_was_renamed_is_known_by_its_uuids(tmp_path: Path):
    volume = make_volume((2, 3, 11, 13))
    ome_files(tmp_path / "set", [volume], "cz", "p{n}.ome.tif", in_file="z", order="XYZCT",
              renamed="mouse {n}, good.tif")  # fmt: skip
    check_every_verb(tmp_path / "set", volume, "czyx", tmp_path)
    np.testing.assert_array_equal(io.imread(tmp_path / "set" / "mouse 1, good.tif"), volume)


def test_a_member_that_is_missing_is_named_or_filled_on_record(tmp_path: Path):
    volume = make_volume((2, 3, 4, 11, 13))
    files = ome_files(tmp_path / "set", [volume], "tcz", "p{n}.ome.tif", in_file="z")
    files[4].unlink()
    with pytest.raises(io.PathNotFoundError, match=r"5 of 6 files.*'p4.ome.tif'"):
        io.imread_dataset(tmp_path / "set")
    with pytest.raises(io.PathNotFoundError, match=r"one of 6 files.*'p4.ome.tif'"):
        io.imread(files[0])
    report = io.scan(tmp_path / "set")
    assert not report.ok
    assert "p4.ome.tif" in report.mismatch
    volume[1, 1] = 0
    with pytest.warns(UserWarning, match=r"lacks time 1, channel 1, z 0; .*hold zeros"):
        got = io.imread_dataset(tmp_path / "set", missing="fill")
    np.testing.assert_array_equal(got.compute(), volume)
    assert [f.plane for f in source_of(got).filled] == [(1, 1, z) for z in range(4)]
    with pytest.warns(UserWarning, match="hold zeros"):
        io.convert(tmp_path / "set", tmp_path / "a.zarr", missing="fill", chunks=16)
    assert len(io.info(tmp_path / "a.zarr").filled) == 4
    with pytest.warns(UserWarning, match="hold zeros"):
        again = io.imread(files[0], missing="fill")
    np.testing.assert_array_equal(again.compute(), volume.swapaxes(1, 2))


def test_images_of_one_ome_tiff_are_positions_and_a_member_says_which_is_its_own(tmp_path: Path):
    volume = make_volume((3, 2, 4, 11, 13))
    files = ome_files(tmp_path / "set", list(volume), "cz", "s{p}.ome.tif", in_file="cz",
                      positions=["left", "right", "top"])  # fmt: skip
    assert io.dataset_positions(tmp_path / "set") == ["left", "right", "top"]
    for k, name in enumerate(["left", "right", "top"]):
        check_every_verb(tmp_path / "set", volume[k], "czyx", tmp_path, position=name)
    with pytest.warns(UserWarning, match=r"one of 3 files.*its own is series=2"):
        io.imread(files[2])
    got = io.imread(files[2], series=2)
    np.testing.assert_array_equal(got.compute(), volume[2].swapaxes(0, 1))


@pytest.mark.parametrize("split", [1, 5, 100])
def test_ndtiff_is_read_by_its_index(tmp_path: Path, monkeypatch, split: int):
    volume = make_volume((2, 3, 2, 11, 13))
    planes = list(grid_planes(volume, ("time", "z", "channel"), channel=["GFP", "RFP"]))
    files = ndtiff(tmp_path / "set", planes, split)
    monkeypatch.chdir(tmp_path / "set")
    check_every_verb(Path("."), volume.swapaxes(1, 2), "tczyx", tmp_path)
    monkeypatch.chdir("/")
    check_every_verb(tmp_path / "set", volume.swapaxes(1, 2), "tczyx", tmp_path)
    assert io.channel_names(tmp_path / "set") == ["GFP", "RFP"]
    np.testing.assert_array_equal(io.imread(files[0]).compute(), volume)
    np.testing.assert_array_equal(io.imread(files[0]).compute(), tifffile.imread(files[0]))


def test_positions_of_ndtiff_and_axes_of_other_names_are_arrays_of_their_own(tmp_path: Path):
    volume = make_volume((2, 2, 3, 11, 13))
    planes = list(grid_planes(volume, ("position", "camera", "z"), camera=["L", "R"]))
    ndtiff(tmp_path / "a" / "Full resolution", planes, 4)
    (tmp_path / "a" / "Downsampled_x2").mkdir()
    shutil.copy(tmp_path / "a/Full resolution/r_NDTiffStack.tif", tmp_path / "a/Downsampled_x2")
    found = io.dataset_positions(tmp_path / "a")
    assert found == [f"position{p} camera{c}" for p in range(2) for c in "LR"]
    for k, name in enumerate(found):
        check_every_verb(tmp_path / "a", volume[k // 2, k % 2], "zyx", tmp_path, position=name)


def test_an_index_of_ndtiff_that_is_cut_or_gone_is_one_error_that_leads_out(tmp_path: Path):
    volume = make_volume((3, 2, 11, 13))
    files = ndtiff(tmp_path / "s", list(grid_planes(volume, ("z", "channel"))), 4)
    index = (tmp_path / "s" / "NDTiff.index").read_bytes()
    (tmp_path / "s" / "NDTiff.index").write_bytes(index[:-9])
    with pytest.raises(io.TiffReadError, match="damaged or cut after 5 planes"):
        io.imread_dataset(tmp_path / "s")
    (tmp_path / "s" / "NDTiff.index").unlink()
    for read in (io.imread_dataset, io.info):
        with pytest.raises(io.TiffReadError, match=r"index 'NDTiff\.index' is not beside it"):
            read(tmp_path / "s")
    with pytest.raises(io.TiffReadError, match='pages="all"'):
        io.imread(files[0])
    got = io.imread(files[0], pages="all")
    np.testing.assert_array_equal(got.compute(), volume.reshape(-1, 11, 13)[:4])


def test_a_file_beside_a_set_is_told_of_and_a_copy_of_a_member_is_refused(tmp_path: Path):
    volume = make_volume((1, 2, 2, 3, 11, 13))
    files = micromanager(tmp_path / "set", volume, split=6)
    tifffile.imwrite(tmp_path / "set" / "MAX_run.tif", volume[0, 0, 0, 0])
    with pytest.warns(UserWarning, match=r"'MAX_run.tif' is no file of a Micro-Manager data set"):
        got = io.imread_dataset(tmp_path / "set")
    np.testing.assert_array_equal(got.compute(), volume[0])
    with pytest.raises(io.ArgumentError, match=r"MAX_run.tif.*names=\"allow\""):
        io.convert(tmp_path / "set", tmp_path / "a.zarr", names="check")
    shutil.copy(files[1], files[1].with_name("run_1_MMStack_1 - Copy.ome.tif"))
    with pytest.raises(io.TiffReadError, match=r"have the same planes.*move one of them away"):
        io.imread_dataset(tmp_path / "set")


def test_acquisitions_in_folders_of_their_own_are_positions_and_no_channels(tmp_path: Path):
    volumes = [make_volume((1, 2, 2, 3, 11, 13), seed=k) for k in range(2)]
    for k, volume in enumerate(volumes):
        micromanager(tmp_path / "day" / f"mouse_{k}", volume, split=6, prefix=f"mouse_{k}")
    assert io.dataset_positions(tmp_path / "day") == ["mouse_0", "mouse_1"]
    for k, volume in enumerate(volumes):
        check_every_verb(tmp_path / "day", volume[0], "tczyx", tmp_path, position=f"mouse_{k}")


def test_a_damaged_member_is_named_and_filled_where_that_is_asked(tmp_path: Path):
    volume = make_volume((1, 2, 2, 3, 11, 13))
    files = micromanager(tmp_path / "set", volume, split=4)
    os.truncate(files[2], files[2].stat().st_size // 2)
    with pytest.raises(io.TiffReadError, match=rf"{files[2].name}.*truncated.*pages=\"all\""):
        io.imread_dataset(tmp_path / "set")
    report = io.scan(tmp_path / "set")
    assert [Path(p.path).name for f in report.folders for p in f.problems] == [files[2].name]
    with pytest.warns(UserWarning, match="hold zeros"):
        got = io.imread_dataset(tmp_path / "set", missing="fill")
    whole = volume[0].swapaxes(1, 2).reshape(-1, 11, 13).copy()
    whole[8:] = 0
    np.testing.assert_array_equal(got.compute(), whole.reshape(2, 3, 2, 11, 13).swapaxes(1, 2))


def test_a_stopped_acquisition_says_what_lacks_and_either_way_out_works(tmp_path: Path):
    volume = make_volume((1, 3, 2, 2, 11, 13))
    files = micromanager(tmp_path / "set", volume[:, :2], Frames=3)
    with pytest.raises(io.TiffReadError, match=r"12 planes, of which 8.*no time 2, channel 0"):
        io.imread_dataset(tmp_path / "set")
    np.testing.assert_array_equal(
        io.imread(files[0], pages="counted").compute(), volume[0, :2].swapaxes(1, 2)
    )
    with pytest.warns(UserWarning, match="hold zeros"):
        got = io.imread_dataset(tmp_path / "set", missing="fill")
    volume[0, 2] = 0
    np.testing.assert_array_equal(got.compute(), volume[0])


@pytest.mark.parametrize("store", ["memory", "s3"])
def test_a_set_in_a_store_is_read_as_one_on_a_disk(tmp_path: Path, request, memory, store: str):
    volume = make_volume((2, 2, 3, 11, 13))
    if store == "s3":
        lab = request.getfixturevalue("lab")
        fs, above, url, options = lab.fs, lab.bucket, f"s3://{lab.bucket}", lab.options
    else:
        fs, above = memory.fs, memory.key.rpartition("/")[0]
        url, options = memory.url.rpartition("/")[0], None
    for kind, make in {
        "ome": lambda f: ome_files(f, [volume], "tcz", "p{n}.ome.tif", in_file="z"),
        "companion": lambda f: ome_files(
            f, [volume], "tcz", "p{n}.ome.tif", in_file="z", companion="a.companion.ome"
        ),
        "mm": lambda f: micromanager(f, volume[None], split=5),
        "nd": lambda f: ndtiff(f, list(grid_planes(volume, ("time", "channel", "z"))), 5),
    }.items():
        make(tmp_path / kind)
        for path in (tmp_path / kind).iterdir():
            fs.pipe_file(f"{above}/{kind}/{path.name}", path.read_bytes())
        how = {"storage_options": options}
        got = io.imread_dataset(f"{url}/{kind}", **how)
        np.testing.assert_array_equal(got.compute(), volume)
        assert io.scan(f"{url}/{kind}", **how).ok
        assert io.info(f"{url}/{kind}", **how).axes == "tczyx"
        first = min(p.name for p in (tmp_path / kind).glob("*.tif"))
        alone = io.imread(f"{url}/{kind}/{first}", **how).compute()
        np.testing.assert_array_equal(alone, io.imread(tmp_path / kind / first).compute())


@settings(max_examples=20, deadline=None)
@given(
    extents=st.tuples(*[st.integers(1, 3)] * 4),
    kind=st.sampled_from(["ome", "companion", "mm", "mm by position", "nd"]),
    in_file=st.sampled_from(["", "z", "cz", "tcz"]),
    order=st.sampled_from(ORDERS),
    split=st.integers(1, 20),
)
def test_a_random_set_reads_as_what_made_it(tmp_path_factory, extents, kind, in_file, order, split):
    folder = tmp_path_factory.mktemp("set")
    volume = make_volume((*extents, 5, 7))
    n_p = extents[0]
    names = [f"Pos{p}" for p in range(n_p)]
    if kind in ("ome", "companion"):
        ome_files(folder, list(volume), "tcz", "f{n}.ome.tif", in_file=in_file, order=order,
                  positions=names, companion="c.companion.ome" * (kind != "ome"))  # fmt: skip
    elif kind == "nd":
        ndtiff(folder, list(grid_planes(volume, ("position", "time", "channel", "z"))), split)
    else:
        micromanager(folder, volume, split=split, labels=names * (kind != "mm"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = io.dataset_positions(folder)
        assert len(found) == (n_p if n_p > 1 else 0)
        for p, name in enumerate(found or [None]):
            got = io.imread_dataset(folder, position=name).compute()
            np.testing.assert_array_equal(got.reshape(volume[p].shape), volume[p])


def test_info_of_a_member_says_which_set_it_is_of(tmp_path: Path):
    files = micromanager(tmp_path / "s", make_volume((1, 2, 2, 3, 11, 13)), split=6)
    report = io.info(files[1])
    assert report.shape == (2, 3, 2, 11, 13)
    assert "one of 2 files of a Micro-Manager data set" in report.details
    assert json.loads(report.to_json())["n_files"] == 2
    with pytest.warns(UserWarning, match="one of 2 files of a Micro-Manager data set"):
        assert io.imread(files[1], pages="all").shape == (6, 11, 13)


def test_a_folder_that_is_stacked_though_it_is_a_set_or_channels_is_told_of(tmp_path: Path):
    volume = make_volume((2, 3, 4, 11, 13))
    ome_files(tmp_path / "set", [volume], "tcz", "img_{n:03d}.ome.tif")
    with pytest.warns(UserWarning, match=r"24 files of an OME-TIFF: 2 time points x 3 channels"):
        got = io.imread_folder(tmp_path / "set")
    np.testing.assert_array_equal(got.compute(), volume.reshape(-1, 11, 13))
    ome_files(tmp_path / "z", [volume[0, 0]], "z", "img_{n:03d}.ome.tif")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(io.imread_folder(tmp_path / "z"), volume[0, 0])
    (tmp_path / "names").mkdir()
    for c, z in np.ndindex(3, 4):
        tifffile.imwrite(tmp_path / "names" / f"b_C{c}_Z{z}.tif", volume[0, c, z])
    with pytest.warns(UserWarning, match=r"the names tell of 3 channels x 4 planes"):
        io.imread_folder(tmp_path / "names")


@pytest.mark.parametrize("kind", ["channel", "time", "position"])
def test_a_file_of_micromanager_s_a_channel_a_time_or_a_position_brings_its_own_axes(
    tmp_path: Path, kind: str
):
    volume = make_volume((2, 2, 2, 3, 11, 13))
    for k, one in enumerate(volume):
        if kind == "channel":
            micromanager(tmp_path / "d" / f"ch{k}", one[None, :, :1], prefix="run")
        elif kind == "time":
            micromanager(tmp_path / "d", one[None, :1], prefix=f"t{k}")
        else:
            micromanager(tmp_path / "d" / f"Pos{k}", one[None], prefix="run")
    wanted = {
        "channel": volume[:, :, 0].swapaxes(0, 1),
        "time": volume[:, 0],
        "position": volume[1],
    }[kind]
    how = {"position": "Pos1"} if kind == "position" else {}
    check_every_verb(tmp_path / "d", wanted, "tczyx", tmp_path, **how)
    if kind == "time":
        micromanager(tmp_path / "p", volume[:, :1], prefix="t0")
        micromanager(tmp_path / "p", volume[:, :1], prefix="t1")
        with pytest.raises(io.TiffReadError, match="holds 2 positions"):
            io.imread_dataset(tmp_path / "p", "t{t}_MMStack.ome.tif")


ACROSS = {
    # names in the XML, on the disk, axes in a file
    "paths below the folder": ("ch{c}/z{z}.ome.tif", "", ""),
    "moved into folders": ("a_c{c}_z{z}.ome.tif", "ch{c}/a_c{c}_z{z}.ome.tif", ""),
    "the same names in each": ("z{z}.ome.tif", "ch{c}/z{z}.ome.tif", ""),
    "a stack a folder": ("a_c{c}.ome.tif", "Ex_{c}/a_c{c}.ome.tif", "z"),
    "a stack of one name a folder": ("a.ome.tif", "Ex_{c}/a.ome.tif", "z"),
}  # fmt: skip


@pytest.mark.parametrize("case", ACROSS)
def test_a_set_that_spans_folders_is_one_image_and_no_plane_is_another_folder_s(
    tmp_path: Path, case: str
):
    form, renamed, in_file = ACROSS[case]
    volume = make_volume((2, 3, 8, 9))
    folder = tmp_path / "src"
    for c in range(2):
        (folder / f"ch{c}").mkdir(parents=True)
    written = ome_files(
        folder, [volume], "cz", form, renamed=renamed, in_file=in_file, names=["DAPI", "GFP"]
    )
    check_every_verb(folder, volume, "czyx", tmp_path)
    assert io.info(folder).channels == tuple(io.channel_names(folder)) == ("DAPI", "GFP")
    for path in (written[0], written[-1]):
        with pytest.raises((io.PathNotFoundError, io.TiffReadError), match='pages="all" reads'):
            io.imread(path)
    own = io.imread(written[-1], pages="all").compute()
    np.testing.assert_array_equal(own.squeeze(), volume[1] if in_file else volume[1, 2])
    written[-1].unlink()
    with pytest.raises((io.ShapeMismatchError, io.PathNotFoundError)):
        io.imread_dataset(folder)
