"""Pictures of volumes: what they show, how much is read for them, what is refused."""

from __future__ import annotations

import json
import re
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, shared_data, write_channels, write_planes
from PIL import Image

import scout_dask_io as io
from scout_dask_io.core.contrast import contrast_limits
from scout_dask_io.core.image_info import label_color
from scout_dask_io.core.picture import blend
from scout_dask_io.core.source import Source
from scout_dask_io.errors import ArgumentError, LayoutError, TargetExistsError
from scout_dask_io.read.tiff import imread_folder
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.tiff import open_file as files
from scout_dask_io.view.preview import preview
from scout_dask_io.view.sampling import Reader, plan_samples, sample
from scout_dask_io.write.zarr import write_zarr

GAP, MARGIN = 4, 8


def panels(picture, shape):
    """Cut the three panels out of a picture whose voxels are pixels."""
    z, y, x = shape
    low, right = MARGIN + y + GAP, MARGIN + x + GAP
    image = picture.image
    return (
        image[MARGIN : MARGIN + y, MARGIN : MARGIN + x],
        image[MARGIN : MARGIN + y, right : right + z],
        image[low : low + z, MARGIN : MARGIN + x],
    )


def grey(values, limits):
    low, high = limits
    level = np.clip((values.astype("f8") - low) / (high - low), 0, 1) * 255
    return np.repeat(np.rint(level)[..., np.newaxis], 3, axis=-1)


class Huge(Source):
    """Planes that exist nowhere; it counts what is read of them."""

    def __init__(self, shape, read_shape):
        self.shape, self.dtype, self.token = shape, np.dtype("u2"), "huge"
        self._cell, self.elements, self.largest = read_shape, 0, 0

    @property
    def read_shape(self):
        return self._cell

    def iter_pieces(self, region):
        extents = [s.stop - s.start for s in region]
        self.largest = max(self.largest, int(np.prod(extents)))
        cells = [-(-s.stop // c) - s.start // c for s, c in zip(region, self._cell, strict=True)]
        self.elements += int(np.prod(cells) * np.prod(self._cell))
        yield tuple(slice(0, n) for n in extents), np.broadcast_to(np.uint16(7), extents)


@pytest.mark.parametrize("kind", ["numpy", "dask", "folder", "tiff", "zarr"])
def test_slices_show_the_three_planes_through_the_middle(kind: str, tmp_path: Path):
    volume = make_volume((70, 260, 300))
    data = {
        "numpy": lambda: volume,
        "dask": lambda: da.from_array(volume, chunks=(30, 100, 100)) + 0,
        "folder": lambda: write_planes(tmp_path / "p", volume)[0].parent,
        "tiff": lambda: write_planes(tmp_path, volume[np.newaxis], names=["v.tif"])[0],
        "zarr": lambda: write_zarr(tmp_path / "v.zarr", volume).store.root,
    }[kind]()
    picture = preview(data, percentiles=(0, 100))
    (limits,) = picture.limits
    xy, zy, xz = volume[35], volume[:, :, 150].T, volume[:, 130]
    assert (picture.at, picture.step, picture.shape) == ((35, 130, 150), (1, 1, 1), volume.shape)
    assert limits == (
        min(p.min() for p in (xy, zy, xz)), max(p.max() for p in (xy, zy, xz))
    )  # fmt: skip
    assert picture.image.dtype == np.uint8
    for shown, plane in zip(panels(picture, volume.shape), (xy, zy, xz), strict=True):
        np.testing.assert_allclose(shown, grey(plane, limits), atol=1)


def test_max_shows_the_three_projections():
    volume = make_volume((70, 260, 300))
    picture = preview(
        da.from_array(volume, chunks=(30, 100, 100)), mode="max", percentiles=(0, 100)
    )
    (limits,) = picture.limits
    expected = volume.max(0), volume.max(2).T, volume.max(1)
    for shown, plane in zip(panels(picture, volume.shape), expected, strict=True):
        np.testing.assert_allclose(shown, grey(plane, limits), atol=1)


@pytest.mark.parametrize("shape", [(7, 301, 130), (200, 66, 67)])
@pytest.mark.parametrize("chunks", [(3, 40, 50), (64, 64, 64)])
def test_a_pixel_is_the_mean_or_maximum_of_its_voxels(shape, chunks):
    volume = make_volume(shape)
    reader = Reader(da.from_array(volume, chunks=chunks) + 0, chunks, 3)
    plan = plan_samples(shape, 2, reader, {}, 64, 1 << 40)
    full = [step <= cell for step, cell in zip(plan.step, chunks, strict=True)]
    means = sample(reader, plan, 2)[0]
    tops = sample(reader, plan, 2, projections=(0, 1, 2))
    assert means.shape == plan.bins
    expected = np.zeros(plan.bins)
    highest = np.zeros(plan.bins)
    for at in np.ndindex(*plan.bins):
        part = volume[
            tuple(
                slice(i * s, (i + 1) * s) if f else min(i * s + s // 2, n - 1)
                for i, s, f, n in zip(at, plan.step, full, shape, strict=True)
            )
        ]
        expected[at], highest[at] = part.mean(), part.max()
    np.testing.assert_allclose(means, expected, rtol=1e-5)
    for axis, top in enumerate(tops):
        np.testing.assert_array_equal(top, highest.max(axis))


@pytest.mark.parametrize(
    ("read_shape", "mode"),
    [
        ((1, 1, 8000), "slices"),  # rows of raw planes
        ((1, 1, 8000), "max"),
        ((1, 64, 8000), "slices"),  # compressed strips
        ((1, 64, 8000), "max"),
        ((64, 64, 64), "slices"),  # chunks
    ],
)
def test_a_terabyte_is_looked_at_in_little_reading_and_memory(mode: str, read_shape):
    source = Huge((8000, 8000, 8000), read_shape)
    picture = preview(lazy_array(source, (64, 64, 8000)), mode=mode)
    assert source.nbytes > 1e12
    assert 0 < source.elements * 2 < source.nbytes / 50
    assert source.largest * 2 <= 64 << 20
    assert max(picture.image.shape) < 1200


def test_projections_of_a_terabyte_of_chunks_are_refused_before_anything_is_read():
    source = Huge((8000, 8000, 8000), (64, 64, 64))
    with pytest.raises(ArgumentError, match=r"would take about 172 GB of reading.*smaller levels"):
        preview(lazy_array(source, 64), mode="max")
    assert source.elements == 0


def test_only_the_rows_and_planes_that_are_shown_are_read(tmp_path: Path, monkeypatch):
    volume = make_volume((40, 300, 200))
    write_planes(tmp_path, volume)
    data = imread_folder(tmp_path)
    read = []
    read_at = files.read_at

    def recording(fd, offset, out):
        read.append(len(out))
        return read_at(fd, offset, out)

    monkeypatch.setattr(files, "read_at", recording)
    preview(data)
    # One plane, a row of each plane, and each plane for its column.
    assert 0 < sum(read) <= (300 + 40 + 300 * 40) * 200 * 2


def test_channels_have_names_and_colours(tmp_path: Path):
    volume = make_volume((2, 20, 256, 256))
    write_channels(tmp_path / "d", volume, names=["cells", "nuclei"])
    picture = preview(tmp_path / "d", percentiles=(0, 100))
    assert picture.channels == ("cells", "nuclei")
    xy = panels(picture, (20, 256, 256))[0]
    magenta = grey(volume[0, 10], picture.limits[0])[..., 0]
    green = grey(volume[1, 10], picture.limits[1])[..., 1]
    np.testing.assert_allclose(xy[..., 1], green, atol=1)
    np.testing.assert_allclose(xy[..., 0], magenta, atol=1)
    np.testing.assert_array_equal(xy[..., 0], xy[..., 2])


@pytest.mark.parametrize("alpha", [False, True])
def test_samples_of_colour_planes_are_red_green_and_blue(alpha: bool, tmp_path: Path):
    rgb = make_volume((260, 300, 3 + alpha), "u1")
    tifffile.imwrite(
        tmp_path / "rgb.tif", rgb, photometric="rgb", extrasamples=[2] if alpha else None
    )
    picture = preview(tmp_path / "rgb.tif", percentiles=(0, 100))
    assert picture.channels == ("red", "green", "blue")
    assert picture.limits[1] == (rgb[..., 1].min(), rgb[..., 1].max())
    shown = picture.image[MARGIN : MARGIN + 260, MARGIN : MARGIN + 300]
    for k in range(3):
        meant = grey(rgb[..., k], picture.limits[k])[..., 0]
        np.testing.assert_allclose(shown[..., k], meant, atol=1)


@pytest.mark.parametrize("stated", [None, ["0000FF", "no col"], ["0000FF", "00FF00"]])
def test_colours_are_those_that_an_image_states_if_they_are_colours(stated, tmp_path: Path):
    volume = np.zeros((2, 4, 256, 256), "u2")
    volume[0, :, :100, :100], volume[1, :, 100:, 100:] = 1000, 1000
    group = io.write_ome_zarr(tmp_path / "a.zarr", volume, channels=["a", "b"])
    omero = dict(group.attrs)["omero"]
    for channel, color in zip(omero["channels"], stated or [None, None], strict=True):
        channel.update({} if color is None else {"color": color})
    group.attrs["omero"] = omero
    image = preview(tmp_path / "a.zarr").image
    left, right = (image[MARGIN + k, MARGIN + k].tolist() for k in (50, 200))
    assert right == [0, 255, 0]
    assert left == ([0, 0, 255] if stated and "no col" not in stated else [255, 0, 255])


def test_a_hyperstack_looks_as_its_channels_in_folders_do(tmp_path: Path):
    volume = make_volume((2, 6, 256, 300))
    write_channels(tmp_path / "d", volume)
    tifffile.imwrite(
        tmp_path / "a.tif", volume.swapaxes(0, 1), imagej=True, metadata={"axes": "ZCYX"}
    )
    folders, stack = preview(tmp_path / "d"), preview(tmp_path / "a.tif")
    assert (stack.shape, stack.at, stack.limits) == (folders.shape, folders.at, folders.limits)
    for one, other in zip(
        panels(stack, (6, 256, 300)), panels(folders, (6, 256, 300)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_volume_of_one_plane_is_shown_as_a_plane():
    plane = make_volume((256, 300))
    found = preview(plane[np.newaxis, np.newaxis])
    np.testing.assert_array_equal(found.image[:270], preview(plane).image[:270])


def test_a_voxel_size_sets_proportions_and_a_scale_bar():
    volume = np.zeros((30, 256, 300), "u2")
    bare, sized = preview(volume), preview(volume, voxel_size=(5, 2, 2))
    # Black but for the bar, 30 planes of 5 um as wide as 75 pixels of 2 um.
    assert not bare.image[MARGIN : MARGIN + 256, MARGIN : MARGIN + 300].any()
    bar = sized.image[MARGIN + 256 - 12, MARGIN : MARGIN + 300]
    assert (bar == 255).all(axis=1).sum() == 50  # 100 um of 600
    assert sized.image.shape[1] == 2 * MARGIN + 300 + GAP + 75
    assert sized.voxel_size.micrometres == (5, 2, 2)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_ome_zarr_image_is_read_at_the_level_that_suffices(zarr_format, tmp_path: Path):
    root = tmp_path / "image.zarr"
    group = zarr.open_group(root, mode="w", zarr_format=zarr_format)
    levels = [np.full((2, 16 >> k, 400 >> k, 512 >> k), 100 + k, "u2") for k in range(3)]
    for k, level in enumerate(levels):
        group.create_array(str(k), data=level, chunks=(1, 4, 64, 64))
    axes = [{"name": "c", "type": "channel"}] + [
        {"name": n, "type": "space", "unit": "nanometer"} for n in "zyx"
    ]
    datasets = [
        {
            "path": str(k),
            "coordinateTransformations": [
                {"type": "scale", "scale": [1, 4000 * 2**k, 2000 * 2**k, 2000 * 2**k]}
            ],
        }
        for k in range(3)
    ]
    image = {
        "multiscales": [{"axes": axes, "datasets": datasets}],
        "omero": {
            "channels": [{"label": "a", "color": "FF0000"}, {"label": "b", "color": "0000FF"}]
        },
    }
    group.attrs.update({"ome": image} if zarr_format == 3 else image)
    picture = preview(root, size=256)
    assert (picture.level, picture.shape) == (1, (2, 8, 200, 256))
    assert picture.limits[0][0] == 101
    assert picture.voxel_size.micrometres == (8, 4, 4)
    assert picture.channels == ("a", "b")
    group.attrs.update(
        {"ome": {"multiscales": [{"axes": 3}]}} if zarr_format == 3 else {"multiscales": [{}]}
    )
    with pytest.raises(LayoutError, match=r"image\.zarr: the multiscales metadata are damaged"):
        preview(root)


def test_nan_and_infinity_are_no_contrast():
    values = np.array([[0.0, 1.0, np.nan, np.inf, -np.inf]])
    assert contrast_limits([values], (0, 100)) == (0, 1)
    assert contrast_limits([np.full((2, 2), np.nan)], (0, 100)) == (0, 1)
    shown = blend([values], [(0.0, 1.0)], ["#ffffff"])
    assert shown[0, :, 0].tolist() == [0, 255, 0, 255, 0]


def test_a_notebook_shows_it_and_it_is_saved_as_png(tmp_path: Path):
    picture = preview(make_volume((10, 40, 50)))
    path = tmp_path / "new" / "a.png"
    assert picture.save(path) == str(path)
    assert path.read_bytes() == picture._repr_png_()
    np.testing.assert_array_equal(np.asarray(Image.open(path)), picture.image)
    with pytest.raises(TargetExistsError, match="overwrite=True"):
        picture.save(path)
    picture.save(path, overwrite=True)
    with pytest.raises(ArgumentError, match=r"must end in \.png"):
        picture.save(tmp_path / "a.tif")
    assert [p.name for p in path.parent.iterdir()] == ["a.png"]


@pytest.mark.parametrize(
    ("data", "options", "match"),
    [
        (np.zeros(5), {}, "needs an array"),
        (np.zeros((1, 2, 3, 4, 5)), {}, "needs an array"),
        (np.zeros((4, 5), "c8"), {}, "real numbers"),
        (np.zeros((0, 5)), {}, "nothing to show"),
        (np.zeros((4, 5)), {"mode": "mean"}, "mode must be one of 'slices', 'max'"),
        (np.zeros((4, 5)), {"size": 10}, "size must be an int from 64"),
        (np.zeros((4, 5)), {"percentiles": (99, 1)}, "percentiles must be"),
        ([[1, 2]], {}, "a path or an array was expected, got list"),
    ],
)
def test_what_cannot_be_shown_is_refused(data, options, match: str):
    with pytest.raises(ArgumentError, match=match):
        preview(data, **options)


def test_the_command_makes_a_picture_of_real_data(tmp_path: Path, capsys):
    from scout_dask_io.cli import main

    brain, out = shared_data("brain"), tmp_path / "brain.png"
    with pytest.raises(SystemExit, match="0"):
        main(["preview", str(brain), str(out), "--json", "--mode", "max"])
    report = json.loads(capsys.readouterr().out)
    assert (report["shape"], report["channels"]) == ([2, 30, 510, 667], ["ch0", "ch1"])
    image = np.asarray(Image.open(out))
    assert image[MARGIN : MARGIN + 390, MARGIN : MARGIN + 512].std() > 20
    with pytest.raises(SystemExit, match="1"):
        main(["preview", str(brain), str(out)])
    assert "give --overwrite" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("shape", "mode", "shows"),
    [
        ((5, 40, 50), "max", "maximum projections"),
        ((5, 40, 50), "slices", "planes z = 2, y = 20, x = 25"),
        ((2, 5, 40, 50), "max", "maximum projections"),
        ((40, 50), "slices", "the plane"),
        ((40, 50), "max", "the plane"),
    ],
    ids=str,
)
def test_the_command_says_what_its_picture_shows(
    tmp_path: Path, capsys, shape: tuple[int, ...], mode: str, shows: str
):
    from scout_dask_io.cli import main

    write_zarr(tmp_path / "a.zarr", make_volume(shape))
    with pytest.raises(SystemExit, match="0"):
        main(["preview", str(tmp_path / "a.zarr"), str(tmp_path / "a.png"), "--mode", mode])
    assert re.search(rf"^ +shows +{shows}$", capsys.readouterr().out, re.MULTILINE)


@pytest.mark.parametrize("scale", [1e-300, 1e300])
@pytest.mark.parametrize("mode", ["slices", "max"])
def test_values_that_float32_has_not_are_shown(tmp_path, recwarn, scale, mode):
    ramp = np.linspace(0, 1, 5 * 30 * 40).reshape(5, 30, 40)
    tifffile.imwrite(tmp_path / "f8.tif", ramp * scale, photometric="minisblack")
    picture = io.preview(tmp_path / "f8.tif", mode=mode)
    ((low, high),) = picture.limits
    assert 0 <= low < high <= scale
    assert len(np.unique(picture.image)) > 100
    assert not [str(w.message) for w in recwarn if "names" not in str(w.message)]


def colors_of(image: np.ndarray) -> set[tuple[int, ...]]:
    """Give the colours of an image, each once."""
    packed = np.unique(image.astype("u4") @ np.array([1 << 16, 1 << 8, 1], "u4"))
    return {(int(c) >> 16, int(c) >> 8 & 255, int(c) & 255) for c in packed}


@pytest.mark.parametrize("mode", ["slices", "max"])
@pytest.mark.parametrize("size", [64, 512])
def test_labels_are_drawn_in_their_colours_and_no_other(
    tmp_path: Path, mode: str, size: int
) -> None:
    # Beyond 2**24, where float32 cannot tell one label from the next.
    first = 2**24 + 1
    labels = np.zeros((30, 130, 150), "u4")
    for k in range(9):
        labels[3 * k : 3 * k + 2, 10 * k : 10 * k + 25, 12 * k : 12 * k + 40] = first + k
    io.write_ome_zarr(tmp_path / "a.zarr", labels, labels=True)
    group = zarr.open_group(tmp_path / "a.zarr", mode="r+")
    stated = {first + 4: [1, 2, 250, 255], first + 5: [250, 120, 0, 127]}
    colors = [{"label-value": v, "rgba": c} for v, c in stated.items()]
    group.attrs["image-label"] = {"version": "0.4", "colors": [*colors, {"rgba": "red"}, None]}
    picture = io.preview(tmp_path / "a.zarr", mode=mode, size=size)
    known = {tuple(label_color(first + k)[:3]) for k in range(9) if first + k not in stated}
    known |= {(1, 2, 250), (124, 59, 0), (0, 0, 0), (24, 24, 24)}
    seen = colors_of(picture.image[:-60])
    assert seen <= known
    assert (1, 2, 250) in seen
    assert len(seen) > (10 if mode == "max" else 3)
    assert picture.limits[0][0] == 0.0
    # An array in memory that was read from labels alone is drawn so too.
    part = io.preview(io.read_zarr(tmp_path / "a.zarr"), mode=mode, size=size)
    assert colors_of(part.image[:-60]) <= known
