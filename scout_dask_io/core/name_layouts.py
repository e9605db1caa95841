r"""Layouts of names that microscopes and their programs are known to write. No files.

Most names say by a word what each number counts, and need no table. Those here do not: a letter
means something else than elsewhere (``p`` is a plane of Opera's), two numbers are one tile, or
the place of a number is all that there is. Each is an expression that a whole path below the
dataset's folder fits, whose groups are named for axes, as those of a pattern are: ``p0`` and
``p1`` make one axis of positions. A group that begins with an underscore counts only where files
are not told apart without it.

Sources: the file names that Micro-Manager 1.4 (``img_%09d_%s_%03d``), Harmony of Opera and
Operetta, CellVoyager, CQ1, MetaXpress, IN Cell Analyzer, Incucyte, LAS AF's Matrix Screener,
Fluoview, scanR, Cellomics, Gen5, mesoSPIM-control, ImspectorPro, QuPath and the lattice light
sheet of Janelia write, and TeraStitcher's folders (Bria and Iannello, BMC Bioinformatics 13:316,
2012), in tenths of a micrometre.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

#: What names of TIFF files end in, whoever writes them: the plain ones, BigTIFF, MetaMorph, Zeiss,
#: and the slide scanners of Aperio, Hamamatsu, Ventana and Akoya.
TIFF_ENDINGS = (
    ".tif", ".tiff", ".btf", ".tf2", ".tf8", ".stk", ".lsm",
    ".svs", ".ndpi", ".bif", ".qptiff", ".ptif", ".ptiff",
)  # fmt: skip
#: An expression that each of them fits, in any case.
TIFF_ENDING = f"(?i:{'|'.join(map(re.escape, TIFF_ENDINGS))})"
_END = rf"(?:\.ome)?{TIFF_ENDING}"
_GUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
_ANY = "(?:.*/)?"


@dataclass(frozen=True)
class NameLayout:
    """A known way to name the files of a dataset.

    Attributes
    ----------
    name : str
        Whose it is, for people.
    expression : re.Pattern
        What a path below the folder fits.
    scale_um : float
        What a number of a position is in micrometres; 0 where it is none.
    """

    name: str
    expression: re.Pattern[str]
    scale_um: float = 0.0


def _layout(name: str, expression: str, scale_um: float = 0.0) -> NameLayout:
    return NameLayout(name, re.compile(expression), scale_um)


#: Held against names in this order; the first that most names fit is theirs.
LAYOUTS = (
    _layout(
        "TeraStitcher or SmartSPIM",
        r"(?:(?P<c>[^/]+)/)?(?P<x>-?[0-9]{5,7})/(?P=x)_(?P<y>-?[0-9]{5,7})/"
        r"(?:[^/]*_)?(?P<z>-?[0-9]{4,7})" + TIFF_ENDING,
        0.1,
    ),
    _layout(
        "UltraMicroscope",
        _ANY + r"[^/]*\[(?P<p>[0-9]+ x [0-9]+)\](?:_(?P<c>(?:C|Filter)[0-9]+))?(?:_[^/]*?)??"
        r"(?:_(?P<_v>L[0-9]+))?(?:_xyz-Table Z(?P<z>[0-9]+))?" + _END,
    ),
    _layout(
        "Opera or Operetta",
        _ANY + r"(?P<row>r[0-9]{2})(?P<col>c[0-9]{2})(?P<site>f[0-9]{2,})p(?P<z>[0-9]{2,})"
        r"(?:rc[0-9]+)?-(?P<c>ch[0-9]+)sk(?P<t>[0-9]+)fk[0-9]+fl[0-9]+" + _END,
    ),
    _layout(
        "Micro-Manager 1.4",
        r"(?:.*/)??(?:(?P<p>[^/]+)/)?img_(?P<t>[0-9]{9})_(?P<c>[^/]*)_(?P<z>[0-9]{3,})" + _END,
    ),
    _layout(
        "Yokogawa CellVoyager",
        _ANY + r"(?:[^/]*_)?(?P<well>[A-P][0-9]{2})_T(?P<t1>[0-9]{4})(?P<site>F[0-9]{3,})"
        r"L(?P<_t0>[0-9]{2})A(?P<_v>[0-9]{2})Z(?P<z>[0-9]{2,})(?P<c>C[0-9]{2})" + _END,
    ),
    _layout(
        "Yokogawa CQ1",
        _ANY + r"(?:[^/]*_)?(?P<well>W[0-9]+)(?P<site>F[0-9]+)T(?P<t>[0-9]+)Z(?P<z>[0-9]+)"
        r"(?P<c>C[0-9]+)" + _END,
    ),
    _layout(
        "MetaXpress",
        r"(?:.*/)??(?:TimePoint_(?P<t>[0-9]+)/)?(?:ZStep_(?P<z>[0-9]+)/)?"
        r"[^/]*_(?P<well>[A-P][0-9]{2})(?=_[sw][0-9])"
        rf"(?:_(?P<site>s[0-9]+))?(?:_(?P<c>w[0-9]+?))?(?:{_GUID})?" + _END,
    ),
    _layout(
        "Incucyte",
        _ANY + r"(?:[^/]*_)?(?P<well>[A-P][0-9]{1,2})_(?P<site>[0-9]+)_"
        r"(?P<t>[0-9]{4}y[0-9]{2}m[0-9]{2}d_[0-9]{2}h[0-9]{2}m)" + _END,
    ),
    _layout(
        "IN Cell Analyzer",
        _ANY + r"(?P<well>[A-P] - [0-9]+)\((?P<site>fld [0-9]+) wv (?P<c>[^()]+?)"
        r"(?: z (?P<z>[0-9]+))?(?: time (?P<t>[0-9]+)[^()]*)?\)" + _END,
    ),
    _layout(
        "Leica's Matrix Screener",
        _ANY + r"[^/]*?(?:--L(?P<_t0>[0-9]+))?(?:--(?P<p0>S[0-9]+))?(?:--(?P<p1>U[0-9]+))?"
        r"(?:--(?P<p2>V[0-9]+))?(?:--J(?P<_v0>[0-9]+))?(?:--E(?P<_v1>[0-9]+))?"
        r"(?:--O(?P<_v2>[0-9]+))?(?:--(?P<p3>X[0-9]+))?(?:--(?P<p4>Y[0-9]+))?"
        r"(?:--T(?P<t1>[0-9]+))?--Z(?P<z>[0-9]+)--(?P<c>C[0-9]+)" + _END,
    ),
    _layout(
        "mesoSPIM",
        _ANY + r"[^/]*_(?P<p>Tile[0-9]+)_(?P<c>Ch[^_/]+)_(?P<_v0>Sh[^_/]+)_(?P<_v1>Rot-?[0-9.]+)"
        + _END,
    ),
    _layout(
        "scanR",
        _ANY + r"(?:[^/]*?--)?(?P<p0>W[0-9]+)(?:--(?P<p1>P[0-9]+))?(?:--Z(?P<z>[0-9]+))?"
        r"(?:--T(?P<t>[0-9]+))?--(?P<c>[^/]+?)" + _END,
    ),
    _layout(
        "Cellomics",
        _ANY + r"[^/]*_(?P<well>[A-P][0-9]{2})(?P<site>f[0-9]{2,})(?P<c>d[0-9]+)" + _END,
    ),
    _layout(
        "Gen5",
        _ANY + r"(?:[^/]*_)?(?P<well>[A-P][0-9]{1,2})_(?P<_v>[0-9]+)_[0-9]+_(?P<site>[0-9]+)"
        r"(?:Z(?P<z>[0-9]+))?_(?P<c>[^_/]+)_(?P<t>[0-9]{3,})" + _END,
    ),
    _layout(
        "lattice light sheet",
        _ANY + r"[^/]*?_(?:Iter_(?P<t0>[0-9]+)_)?(?P<c>(?:Cam[A-Z]_)?ch[0-9]+)(?:_CAM[0-9]+)?"
        r"_stack(?P<t1>[0-9]+)_[0-9]+nm_[0-9]+msec_[0-9]+msecAbs"
        r"(?:_(?P<p0>-?[0-9]+)x_(?P<p1>-?[0-9]+)y_(?P<p2>-?[0-9]+)z_(?P<t2>[0-9]+)t)?" + _END,
    ),
    _layout(
        "QuPath",
        _ANY + r"[^/]*\[(?:d=[0-9.]+,)?(?P<p0>x=-?[0-9]+),(?P<p1>y=-?[0-9]+),w=[0-9]+,h=[0-9]+"
        r"(?:,z=(?P<z>[0-9]+))?(?:,t=(?P<t>[0-9]+))?\]" + _END,
    ),
    _layout(
        "Fluoview",
        _ANY + r"[^/]*_(?P<p0>A[0-9]{2})_(?P<p1>G[0-9]{3})(?:_(?P<p2>[0-9]{4}))?_?"
        r"(?P<c>C[0-9]{3})?(?:Z(?P<z>[0-9]{3}))?(?:T(?P<t>[0-9]{3}))?" + _END,
    ),
)  # fmt: skip


def layout_of(names: Sequence[str]) -> tuple[NameLayout, list[re.Match[str] | None]] | None:
    """Give the layout that most names fit, and how each does; ``None`` where none is known.

    Examples
    --------
    >>> layout, matches = layout_of(["img_000000000_Cy5_000.tif", "img_000000000_Cy5_001.tif"])
    >>> layout.name, [m["z"] for m in matches]
    ('Micro-Manager 1.4', ['000', '001'])
    """
    some = {names[0], names[len(names) // 2], names[-1]} if names else set()
    for layout in LAYOUTS:
        if not any(map(layout.expression.fullmatch, some)):
            continue
        matches = [layout.expression.fullmatch(name) for name in names]
        if 2 * sum(m is not None for m in matches) > len(names):
            return layout, matches
    return None


def stage_of_name(name: str) -> tuple[float, float, float] | None:
    """Give where the stage was, ``(z, y, x)`` in micrometres, by the name of a plane.

    ``None`` where the names of its layout do not say that.

    Examples
    --------
    >>> stage_of_name("Ex_488_Em_525/041300/041300_-01200/000020.tif")
    (2.0, -120.0, 4130.0)
    """
    for layout in LAYOUTS:
        match = layout.expression.fullmatch(name) if layout.scale_um else None
        if match is not None:
            z, y, x = (int(match[axis]) * layout.scale_um for axis in "zyx")
            return round(z, 6), round(y, 6), round(x, 6)
    return None
