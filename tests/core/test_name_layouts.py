"""Names as microscopes write them: axes, shape and positions of each layout, no pattern given."""

from __future__ import annotations

from itertools import product

import pytest

from scout_dask_io.core import name_fields
from scout_dask_io.core.name_fields import grid_of_names, grid_of_pattern

GUIDS = [f"{k:08X}-1B2C-43D4-8E5F-{k:012x}" for k in range(10)]
# What is in braces varies: a name, and its values where they are no counters from 1.
LAYOUTS = {
    "UltraMicroscope": ("10-31-44_lung_UltraII_C{c:02d}_xyz-Table Z{z:04d}.ome.tif", "cz", {}, ()),
    "UltraMicroscope, filters": ("10-31-44_lung_Blaze_Filter{c:04d}_xyz-Table Z{z:04d}.ome.tif",
                                 "cz", {}, ()),
    "UltraMicroscope, tiles": ("10-31-44_lung_UltraII[{p}]_C{c:02d}_xyz-Table Z{z:04d}.ome.tif",
                               "pcz", {"p": ["00 x 00", "00 x 01", "01 x 00", "01 x 01"]},
                               ("00 x 00", "00 x 01", "01 x 00", "01 x 01")),
    "UltraMicroscope, tiles of one channel": (
        "10-31-44_lung_Blaze[00 x {p}]_xyz-Table Z{z:04d}.ome.tif", "pz",
        {"p": ["00", "01"]}, ("00 x 00", "00 x 01")),
    "Opera": ("r02c{p:02d}f07p{z:02d}-ch{c}sk{t}fk1fl1.tiff", "ptcz", {}, ("c1", "c2")),
    "Opera, wells and fields": ("Images/r03c{p:02d}f{q:02d}p{z:02d}-ch{c}sk1fk1fl1.tiff", "pqcz",
                                {}, ("c1_f1", "c1_f2", "c2_f1", "c2_f2")),
    "Opera, one plane": ("r02c03f01p01-ch{c}sk1fk1fl1.tiff", "c", {}, ()),
    "Micro-Manager 1.4": ("Pos{p}/img_{t:09d}_{c}_{z:03d}.tif", "ptcz",
                          {"c": ["Cy3", "FITC"], "p": [2, 10]}, ("Pos2", "Pos10")),
    "Micro-Manager 1.4, tiles": ("{p}/img_{t:09d}_{c}_{z:03d}.tif", "ptcz",
                                 {"c": ["Cy3_1", "FITC 2"],
                                  "p": ["1-Pos_000_000", "1-Pos_001_000"]},
                                 ("1-Pos_000_000", "1-Pos_001_000")),
    "Micro-Manager 1.4, times": ("img_{t:09d}_Default_000.tif", "t", {}, ()),
    "Micro-Manager 2.0": ("img_channel{c:03d}_position{p:03d}_time{t:09d}_z{z:03d}.tif", "ptcz", {},
                          ("position1", "position2")),
    "SmartSPIM": ("{c}/{p:06d}/{p:06d}_00{q}00/{z:06d}.tif", "pqcz",
                  {"c": ["Ex_488_Em_525", "Ex_639_Em_690"], "p": [900, 41300], "q": [12, 33]},
                  ("900_1200", "900_3300", "41300_1200", "41300_3300")),
    "TeraStitcher": ("{p:06d}/{p:06d}_00{q}00/{z:06d}.tif", "pqz",
                     {"p": [-41300, 0], "q": [12, 33]},
                     ("-41300_1200", "-41300_3300", "0_1200", "0_3300")),
    "mesoSPIM": ("cord_Mag1.25x_Tile{p}_Ch{c}_Sh0_Rot0.tiff", "pc", {"c": [488, 594]},
                 ("Tile1", "Tile2")),
    "mesoSPIM, both sides": ("cord_Mag1.25x_Tile0_Ch{c}_Sh{v}_Rot0.tif", "vc", {"c": [488, 594]},
                             ("Sh1", "Sh2")),
    "Zeiss": ("Exp-07_s{p:02d}_z{z:02d}_c{c}.tif", "pcz", {}, ("s1", "s2")),
    "Zeiss, channels together": ("Exp-07_t{t}_z{z:02d}_c1+2.tif", "tz", {}, ()),
    "Zeiss, without separators": ("Exp-07_s1t{t:02d}z{z:02d}c{c}_ORG.tif", "tcz", {}, ()),
    "Bio-Formats": ("img.s{p}.z{z}.c{c}.t{t}.tif", "ptcz", {}, ("s1", "s2")),
    "Leica": ("P3_Series{p:03d}_t{t}_z{z:02d}_ch{c:02d}.tif", "ptcz", {}, ("Series1", "Series2")),
    "Leica, short": ("image--Z{z:02d}--C{c:02d}.tif", "cz", {}, ()),
    "Leica, Matrix Screener": ("image--L00--S00--U{p:02d}--V00--J08--E00--O00--X{q:02d}--Y00--T00"
                               "--Z{z:02d}--C{c:02d}.ome.tif", "pqcz", {},
                               ("U1_X1", "U1_X2", "U2_X1", "U2_X2")),
    "CellVoyager": ("AS9_{p}_T{t:04d}F004L01A0{c}Z{z:02d}C{c:02d}.tif", "ptcz",
                    {"p": ["B03", "C11"]}, ("B03", "C11")),
    "CellVoyager, fields": ("AS9_B03_T0001F{p:03d}L01A0{c}Z{z:02d}C{c:02d}.tif", "pcz", {},
                            ("F1", "F2")),
    "CQ1": ("W0007F{p:04d}T0001Z{z:03d}C{c}.tif", "pcz", {}, ("F1", "F2")),
    "MetaXpress": ("TimePoint_{t}/ZStep_{z}/P7_B03_s{p}_w{c}.TIF", "ptcz", {}, ("s1", "s2")),
    "IN Cell": ("B - 3(fld {p} wv {c} z {z}).tif", "pcz",
                {"c": ["DAPI - DAPI", "FITC - FITC"]}, ("fld 1", "fld 2")),
    "Olympus": ("s9_C{c:03d}Z{z:03d}T{t:03d}.tif", "tcz", {}, ()),
    "Fluoview tiles": ("Mat_A01_G001_{p:04d}_C{c:03d}Z{z:03d}.tif", "pcz", {}, ("1", "2")),
    "ImageJ": ("C{c}-scan{z:04d}.tif", "cz", {}, ()),
    "BigStitcher": ("spim_TL{t}_Angle{v}_Ill{w}_Ch{c}_Tile0.tif", "vwtc",
                    {"v": [0, 60], "w": [0, 1]},
                    ("Angle0 Ill0", "Angle0 Ill1", "Angle60 Ill0", "Angle60 Ill1")),
    "BigStitcher, fused": ("fused_tp_{t}_ch_{c}.tif", "tc", {}, ()),
    "Imaris": ("cord_T{t}_C{c}_Z{z:03d}.tif", "tcz", {}, ()),
    "SiMView": ("TM{t:05d}/SPC00_TM{t:05d}_CM{v}_CHN{c:02d}_PLN{z:04d}.tif", "vtcz", {},
                ("CM1", "CM2")),
    "COLM": ("LOC{p:03d}_20130512_CHN{c:02d}_PLN{z:04d}.tif", "pcz", {}, ("LOC1", "LOC2")),
    "Incucyte": ("VID1_{p}_1_2021y03m{t:02d}d_10h00m.tif", "pt", {"p": ["B3", "C12"]},
                 ("B3", "C12")),
    "scanR": ("ki67--W0000{p}--P0000{q}--Z{z:05d}--T{t:05d}--{c}.tif", "pqtcz",
              {"c": ["Cy5", "DAPI"]}, ("W1_P1", "W1_P2", "W2_P1", "W2_P2")),
    "scanR, wells alone": ("W{p:05d}--Z{z:05d}--T00000--{c}.tif", "pcz", {"c": ["GFP", "RFP"]},
                           ("W1", "W2")),
    "Cellomics": ("MFGTMP_81_{p}f0{q}d{c}.TIF", "pqc", {"p": ["A01", "H12"], "q": [0, 1]},
                  ("A01_f0", "A01_f1", "H12_f0", "H12_f1")),
    "Gen5": ("{p}_02_1_{q}Z{z}_{c}_{t:03d}.tif", "pqtcz",
             {"p": ["B2", "D11"], "c": ["GFP", "Phase"]},
             ("B2_1", "B2_2", "D11_1", "D11_2")),
    "lattice light sheet, cameras": (
        "ex7_Iter_0000_{c}_CAM1_stack{t:04d}_560nm_0{t}msec_9{t}msecAbs_000x_00{p}y_000z_0000t.tif",
        "ptc", {"c": ["CamA_ch0", "CamB_ch0"]}, ("1", "2")),
    "QuPath": ("s7 [d=1,x={p},y=0,w=256,h=256,z={z},t={t}].tif", "ptz", {"p": [0, 256]},
               ("x=0", "x=256")),
    "wells": ("day3_{p}_z{z:02d}_c{c}.tif", "pcz", {"p": ["C3", "C11", "D3", "D11"]},
              ("C3", "C11", "D3", "D11")),
    "wells and dyes": ("{p}_{c}_{z:03d}.tif", "pcz", {"p": ["A01", "B01"], "c": ["Cy3", "Hoechst"]},
                       ("A01", "B01")),
    "wells as folders": ("{p}/f00/c{c}_z{z}.tif", "pcz", {"p": ["A1", "A2", "B1"]},
                         ("A1", "A2", "B1")),
    "stages": ("TileScan 3--Stage{p:02d}--Z{z:03d}--C{c:02d}.tif", "pcz", {}, ("Stage1", "Stage2")),
    "dyes with numbers and without": ("m9_{z}_{c}.tif", "cz", {"c": ["Alexa647", "BF", "Cy5"]}, ()),
    "dyes in other letters": ("{c}_z{z}.tif", "cz", {"c": ["grün", "röt"]}, ()),
    "signs": ("a_z{z}_c{c}.tif", "cz", {"z": [-20, -10, 0, 10]}, ()),
    "signs of both kinds": ("a_c{c}_z_{z}.tif", "cz", {"z": ["-020", "-010", "+000", "+010"]}, ()),
    "micrometres with a point": ("a_c{c}_{z}um.tif", "cz", {"z": [0, 2.5, 5, 7.5, 10]}, ()),
    "two sides of channels": ("embryo_{v}_t{t:03d}_c{c}.tif", "vtc", {"v": ["left", "right"]},
                              ("left", "right")),
    "days": ("day{t}/ch{c}/z{z:03d}.tif", "tcz", {}, ()),
    "lattice light sheet": ("Cell_ch{c}_stack{t:04d}_488nm_{t:07d}msec_00{t}msecAbs.tif", "tc",
                            {"t": [1000, 2003, 3001]}, ()),
}  # fmt: skip


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_layout_is_read_without_a_pattern_and_the_pattern_it_gives_reads_it_so(layout: str):
    form, axes, words, positions = LAYOUTS[layout]
    extents = {"p": 2, "q": 2, "v": 2, "w": 2, "t": 3, "c": 2, "z": 3}
    values = [words.get(a) or list(range(1, 1 + extents[a])) for a in axes]
    made = {
        index: form.format(**{a: v[k] for a, v, k in zip(axes, values, index, strict=True)})
        for index in product(*(range(len(v)) for v in values))
    }
    grid = grid_of_names(made.values())
    assert grid.axes == axes.replace("pq", "p").replace("vw", "v")
    assert (grid.holes, grid.strays, grid.gaps) == ((), (), ())
    assert sorted(made.values()) == sorted(grid.files.values())
    assert [grid.files[k] for k in sorted(grid.files)] == [made[k] for k in sorted(made)]
    assert tuple(p.replace("_Ill", " Ill") for p in grid.positions) == positions
    assert grid_of_pattern(made.values(), grid.pattern).files == grid.files


def test_names_of_metaxpress_have_guids_that_do_not_count():
    made = [
        f"P7_{well}_s{site}_w{c}{guid}.tif"
        for (well, site, c), guid in zip(
            product(("B03", "C11"), (1, 2), (1, 2)), GUIDS, strict=False
        )
    ]
    grid = grid_of_names([*made, "P7_B03_s1_w1_thumb.tif"])
    assert (grid.axes, grid.shape, grid.strays) == ("pc", (4, 2), ("P7_B03_s1_w1_thumb.tif",))
    assert grid.positions == ("B03_s1", "B03_s2", "C11_s1", "C11_s2")


def test_a_file_beside_those_of_a_layout_is_a_stray_and_a_hole_is_named():
    made = [f"img_{t:09d}_Cy3_{z:03d}.tif" for t in range(3) for z in range(2)]
    grid = grid_of_names([*made[:4], *made[5:], "dark.tif"])
    assert (grid.axes, grid.strays, grid.holes) == ("tz", ("dark.tif",), ("time 2, z 0",))
    assert grid.layout == "Micro-Manager 1.4"
    assert "named as those of Micro-Manager 1.4" in str(grid)


def test_tiles_of_qupath_are_told_apart_by_where_they_begin_whatever_their_width():
    made = [f"a [x={x},y={y},w={512 - x // 4},h=512].tif" for x in (0, 512) for y in (0, 512)]
    grid = grid_of_names(made)
    assert grid.axes == "p"
    assert grid.positions == ("x=0_y=0", "x=0_y=512", "x=512_y=0", "x=512_y=512")


def test_what_looks_like_a_layout_and_does_not_fit_it_is_read_as_ever():
    names = [f"scan_C{c:02d}_t{t}_z{z}.tif" for c in range(2) for t in range(2) for z in range(3)]
    grid = grid_of_names(names)
    assert (grid.axes, grid.shape, grid.layout) == ("tcz", (2, 2, 3), "")


def test_the_pattern_of_a_layout_is_tried_on_one_name_of_each_kind(monkeypatch):
    names = [
        f"P{p}/img_000000000_{c}_{z:03d}.tif" for p in (1, 2) for c in "ab" for z in range(999)
    ]
    tried: list[int] = []
    monkeypatch.setattr(
        name_fields, "grid_of_pattern", lambda n, p: tried.append(len(n)) or grid_of_pattern(n, p)
    )
    grid = grid_of_names([*names, "notes.tif"])
    assert (grid.shape, grid.pattern) == ((2, 2, 999), "P{p}/img_000000000_{c}_{z}.tif")
    assert tried[0] < 10
    assert grid_of_pattern(names, grid.pattern).files == grid.files
