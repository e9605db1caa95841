"""Files beside TIFFs: sizes of voxels, names of channels and places of the stage come of them."""

from __future__ import annotations

import json
import warnings
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tifffile
from helpers import make_volume

import scout_dask_io as io
from scout_dask_io.run.lazy import source_of

SHAPE = (24, 36)


def frame(name: str, position: int) -> dict:
    return {"FileName": name, "PixelSizeUm": 0.325, "XPositionUm": 100.0 * position,
            "YPositionUm": -50.5, "ZPositionUm": 7.25}  # fmt: skip


def summary(n_c: int = 2, n_z: int = 3) -> dict:
    return {"PixelSize_um": 0.325, "z-step_um": -1.5, "ChNames": ["DAPI", "Cy5"][:n_c],
            "Slices": n_z, "Channels": n_c, "Frames": 1, "Width": SHAPE[1],
            "Height": SHAPE[0]}  # fmt: skip


def micromanager_1(root: Path) -> None:
    for p in range(2):
        name = "img_000000000_DAPI_000.tif"
        text = json.dumps({"Summary": summary(), "FrameKey-0-0-0": frame(name, p)}, indent=2)
        # As it stands where the acquisition was stopped: cut at its end.
        (root / f"Pos{p}" / "metadata.txt").write_text(text[:-2] if p else text)


def micromanager_2(root: Path) -> None:
    found: dict = {"Summary": summary()}
    for p in range(2):
        name = f"img_channel000_position{p:03d}_time000000000_z000.tif"
        found[f"Metadata-Default/{name}"] = frame("", p) | {"FileName": None}
    (root / "metadata.txt").write_text(json.dumps(found))


def display_settings(root: Path) -> None:
    rows = [{"Channel": {"type": "STRING", "scalar": n}} for n in ("DAPI", "Cy5")]
    settings = {"map": {"ChannelSettings": {"type": "PROPERTY_MAP", "array": rows}}}
    (root / "DisplaySettings.json").write_text(json.dumps(settings))
    (root / "scan_metadata.txt").write_text(json.dumps({"Summary": summary() | {"ChNames": []}}))


def mesospim(root: Path) -> None:
    for tile, laser in product(range(2), (488, 640)):
        name = f"cord_Mag2x_Tile{tile}_Ch{laser}_Sh0_Rot0.tiff_meta.txt"
        lines = [f"[Laser] {laser} nm", "[Pixelsize in um] 0.325", "[z_stepsize] 1.5",
                 "[z_planes] 3", "[x_pixels] 36", "[y_pixels] 24", f"[x_pos] {tile * 100}.0",
                 "[y_pos] -50.5", "[z_start] 7.25", "[z_end] 11.75"]  # fmt: skip
        (root / name).write_text("[CFG]\n" + "\n".join(lines) + "\n")


def smartspim_text(root: Path) -> None:
    (root / "metadata.txt").write_text(
        "Obj\tRes\tµm/pix\tZ step (µm)\n3.6x\t2048\t0.325\t1.5\n", encoding="latin-1"
    )


def smartspim_json(root: Path) -> None:
    found = {"session_config": {"Obj": "3.6x", "um/pix": "0.325", "Z step (um)": "1.5"}}
    (root / "metadata.json").write_text(json.dumps(found))


def opera(root: Path) -> None:
    images = "".join(
        f"<Image Version='1'><URL>r01c01f{f:02d}p{z:02d}-ch{c}sk1fk1fl1.tiff</URL>"
        f"<PlaneID>{z}</PlaneID>"
        f"<ChannelID>{c}</ChannelID><ChannelName>{('DAPI', 'Cy5')[c - 1]}</ChannelName>"
        "<ImageResolutionX Unit='m'>3.25E-07</ImageResolutionX>"
        "<ImageResolutionY Unit='m'>3.25E-07</ImageResolutionY>"
        f"<PositionX Unit='m'>{(f - 1) * 1e-4}</PositionX><PositionY Unit='m'>-5.05E-05</PositionY>"
        f"<AbsPositionZ Unit='m'>{5.75e-6 + z * 1.5e-6}</AbsPositionZ></Image>"
        for f, z, c in product((1, 2), (1, 2, 3), (1, 2))
    )
    start = "<EvaluationInputData xmlns='http://x/HarmonyV5'><Images>"
    (root / "Index.idx.xml").write_text(f"{start}{images}</Images></EvaluationInputData>")


def leica(root: Path) -> None:
    (root / "MetaData").mkdir()
    rows = "".join(
        f'<DimensionDescription DimID="{k}" NumberOfElements="{n}" Length="{size * (n - 1)}"'
        ' Unit="um"/>'
        for k, n, size in ((1, 36, 0.325), (2, 24, 0.325), (3, 3, 1.5))
    )
    (root / "MetaData" / "P_Series001.xml").write_text(
        f"<Data><Dimensions>{rows}</Dimensions></Data>"
    )
    (root / "MetaData" / "P_Series009.xml").write_text("<Data/>")


SIDES = [(0.0, -50.5, 7.25), (100.0, -50.5, 7.25)]
CASES = {
    "Micro-Manager 1.4": ("Pos{p}/img_000000000_{c}_{z:03d}.tif", {"c": ["Cy5", "DAPI"]},
                          micromanager_1, ["Cy5", "DAPI"], SIDES),
    "Micro-Manager 2.0": ("img_channel{c:03d}_position{p:03d}_time000000000_z{z:03d}.tif", {},
                          micromanager_2, ["DAPI", "Cy5"], SIDES),
    "display settings": ("img_channel{c:03d}_position{p:03d}_time000000000_z{z:03d}.tif", {},
                         display_settings, ["DAPI", "Cy5"], None),
    "SmartSPIM": ("{c}/{p:06d}/{p:06d}_-00505/{z:06d}.tif",
                  {"c": ["Ex_488_Em_525", "Ex_639_Em_690"], "p": [0, 1000], "z": [70, 85, 100]},
                  smartspim_text, ["Ex_488_Em_525", "Ex_639_Em_690"],
                  [(0.0, -50.5, 7.0), (100.0, -50.5, 7.0)]),
    "SmartSPIM, JSON": ("{c}/{p:06d}/{p:06d}_-00505/{z:06d}.tif",
                        {"c": ["Ex_488_Em_525", "Ex_639_Em_690"], "p": [0, 1000]},
                        smartspim_json, ["Ex_488_Em_525", "Ex_639_Em_690"],
                        [(0.0, -50.5, 0.0), (100.0, -50.5, 0.0)]),
    "Opera": ("r01c01f{p:02d}p{z:02d}-ch{c}sk1fk1fl1.tiff",
              {"p": [1, 2], "z": [1, 2, 3], "c": [1, 2]}, opera, ["DAPI", "Cy5"], SIDES),
    "Leica": ("P_Series001_s{p}_z{z:02d}_ch{c:02d}.tif", {}, leica, ["ch00", "ch01"], None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_sizes_channels_and_places_are_those_that_the_files_beside_state(tmp_path: Path, case: str):
    form, words, write, names, places = CASES[case]
    volume = make_volume((2, 2, 3, *SHAPE))
    for p, c, z in product(range(2), range(2), range(3)):
        values = dict(zip("pcz", (p, c, z), strict=True))
        name = form.format(**{a: words.get(a, range(3))[k] for a, k in values.items()})
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        tifffile.imwrite(tmp_path / name, volume[p, c, z])
    write(tmp_path)
    positions = io.dataset_positions(tmp_path)
    assert len(positions) == 2
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what is stated agrees with what is there
        got = [io.imread_dataset(tmp_path, position=p) for p in positions]
    for array, expected in zip(got, volume, strict=True):
        np.testing.assert_array_equal(array.compute(), expected)
    info = source_of(got[0]).info
    assert (info.axes, list(info.names)) == ("czyx", names)
    assert info.voxel_size.micrometres == pytest.approx((1.5, 0.325, 0.325))
    stated = [p.position_um for p in positions]
    if places is not None:
        assert [s and tuple(np.round(s[::-1], 6)) for s in stated] == places
    report = io.scan(tmp_path)
    assert (report.positions, list(report.positions_um)) == (tuple(positions), stated)
    assert io.info(tmp_path).channels == tuple(names)


def test_tiles_of_mesospim_are_stacks_with_the_metadata_of_each(tmp_path: Path):
    volume = make_volume((2, 2, 3, *SHAPE))
    for p, (c, laser) in product(range(2), enumerate((488, 640))):
        name = f"cord_Mag2x_Tile{p}_Ch{laser}_Sh0_Rot0.tiff"
        tifffile.imwrite(tmp_path / name, volume[p, c], photometric="minisblack", metadata=None)
    mesospim(tmp_path)
    positions = io.dataset_positions(tmp_path)
    assert [p.position_um for p in positions] == [(7.25, -50.5, 0.0), (7.25, -50.5, 100.0)]
    array = io.imread_dataset(tmp_path, position="Tile1")
    np.testing.assert_array_equal(array.compute(), volume[1])
    info = source_of(array).info
    assert (info.axes, info.names) == ("czyx", ("488 nm", "640 nm"))
    assert info.voxel_size.micrometres == (1.5, 0.325, 0.325)


def test_what_lies_beside_planes_and_they_contradict_is_said(tmp_path: Path):
    for c, z in product(range(2), range(3)):
        name = f"img_channel{c:03d}_position000_time000000000_z{z:03d}.tif"
        tifffile.imwrite(tmp_path / name, make_volume(SHAPE), resolution=(1e4, 1e4),
                         resolutionunit="CENTIMETER", metadata={"unit": "um"})  # fmt: skip
    (tmp_path / "metadata.txt").write_text(json.dumps({"Summary": summary(n_z=5)}))
    with (
        pytest.warns(UserWarning, match="states 5 along z and there are 3"),
        pytest.warns(UserWarning, match=r"voxel sizes differ along y: 0.325 .* 1 by"),
    ):
        size = source_of(io.imread_dataset(tmp_path)).info.voxel_size
    assert size.y == 0.325


@pytest.mark.parametrize(
    "text", ["", "{", '{"Summary": 7}', '{"Summary": {"ChNames": 3}}', "a\tb\n"]
)
def test_what_makes_no_sense_states_nothing(tmp_path: Path, text: str):
    for c, z in product(range(2), range(2)):
        tifffile.imwrite(tmp_path / f"C{c}_Z{z}.tif", make_volume(SHAPE))
    for name in ("metadata.txt", "metadata.json", "Index.idx.xml", "DisplaySettings.json"):
        (tmp_path / name).write_text(text)
    info = source_of(io.imread_dataset(tmp_path)).info
    assert (info.voxel_size, info.names) == (None, ("C0", "C1"))


def test_ome_planes_of_tiles_say_where_the_stage_was(tmp_path: Path):
    for p, z in product(range(2), range(2)):
        name = f"11-03-07_lung_UltraII[00 x {p:02d}]_C00_xyz-Table Z{z:04d}.ome.tif"
        meta = {"PhysicalSizeX": 1.63, "PhysicalSizeY": 1.63, "PhysicalSizeZ": 4.0,
                "Plane": {"PositionX": 2000.0 * p, "PositionY": 10.0, "PositionXUnit": "µm",
                          "PositionZ": 4.0 * z, "PositionZUnit": "µm",
                          "PositionYUnit": "mm"}}  # fmt: skip
        tifffile.imwrite(tmp_path / name, make_volume(SHAPE), ome=True, metadata=meta)
    positions = io.dataset_positions(tmp_path)
    assert positions == ["00 x 00", "00 x 01"]
    assert [p.position_um for p in positions] == [(0.0, 1e4, 0.0), (0.0, 1e4, 2000.0)]
    size = source_of(io.imread_dataset(tmp_path, position=positions[1])).info.voxel_size
    assert size.micrometres == (4.0, 1.63, 1.63)
