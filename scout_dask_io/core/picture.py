"""Pictures of volumes: colour, panels, scale bars, PNG bytes. Pure but for its fonts."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from scout_dask_io.core.image_info import label_color

_GAP, _MARGIN, _TEXT = 4, 8, 13
_BACK, _INK = (24, 24, 24), (225, 225, 225)


def blend(
    channels: Sequence[np.ndarray],
    limits: Sequence[tuple[float, float]],
    colors: Sequence[str],
) -> np.ndarray:
    """Add channels up in their colours: 2-D images to ``(y, x, 3)`` uint8.

    What is not finite is black.
    """
    total = np.zeros((*channels[0].shape, 3), np.float32)
    for values, (low, high), color in zip(channels, limits, colors, strict=True):
        # In the precision of the values: those of float64 may be beyond what float32 has.
        exact = np.asarray(values, np.result_type(values.dtype, np.float32))
        shown = np.nan_to_num((exact - low) / (high - low), posinf=1, neginf=0)
        rgb = np.array([int(color[k : k + 2], 16) for k in (1, 3, 5)], np.float32)
        total += np.clip(shown, 0, 1)[..., np.newaxis] * rgb
    clipped: np.ndarray = np.clip(np.rint(total), 0, 255).astype(np.uint8)
    return clipped


def paint(channels: Sequence[np.ndarray], stated: Any = ()) -> np.ndarray:
    """Give labels in their colours, 2-D whole numbers as ``(y, x, 3)`` uint8; 0 is none, and black.

    A label has the colour that is ``stated``, as the ``colors`` of ``image-label``, as far as
    that makes sense, else one of its own. Where several channels have one, the last is seen.
    """
    known: dict[int, list[int]] = {}
    for entry in stated if isinstance(stated, (list, tuple)) else ():
        with suppress(TypeError, ValueError, KeyError):
            *rgb, opacity = (int(part) for part in (*entry["rgba"], 255)[:4])
            if len(rgb) == 3 and all(0 <= part <= 255 for part in (*rgb, opacity)):
                known[int(entry["label-value"])] = [part * opacity // 255 for part in rgb]
    out = np.zeros((*channels[0].shape, 3), np.uint8)
    for values in channels:
        found, at = np.unique(values, return_inverse=True)
        table = [known.get(int(v), label_color(int(v))[:3] if v else [0, 0, 0]) for v in found]
        colors = np.array(table, np.uint8)[at.reshape(values.shape)]
        seen = (values != 0) | (colors != 0).any(axis=-1)
        out[seen] = colors[seen]
    return out


def nice_length(most: float) -> float:
    """Give the largest of 1, 2 and 5 times a power of ten that is no more than ``most``.

    Examples
    --------
    >>> nice_length(83.0), nice_length(0.3)
    (50.0, 0.2)
    """
    power = math.floor(math.log10(most))
    for step in (5, 2, 1):
        length = float(f"{step}e{power}")
        if length <= most:
            return length
    return float(f"1e{power}")


def lay_out(
    panels: Sequence[np.ndarray],
    sizes: Sequence[tuple[int, int]],
    um_per_pixel: float | None,
    lines: Sequence[tuple[str, str | None]],
    *,
    labels: bool = False,
) -> np.ndarray:
    """Put one panel, or three (xy, zy to its right, xz below), and lines of text on one sheet.

    Parameters
    ----------
    panels : sequence of numpy.ndarray
        ``(y, x, 3)`` uint8, one or three.
    sizes : sequence of (int, int)
        Height and width of each on the sheet, in pixels.
    um_per_pixel : float or None
        Micrometres a pixel of the sheet's first panel; with it a scale bar is drawn.
    lines : sequence of (str, str or None)
        Text under the panels, and the colour of a swatch before it.
    labels : bool
        Whether a panel's colours are names, so that none between two of them is made.

    Returns
    -------
    numpy.ndarray
        ``(y, x, 3)`` uint8.
    """
    (high, wide), *others = sizes
    places = [(_MARGIN, _MARGIN)]
    if others:
        places += [(_MARGIN, _MARGIN + wide + _GAP), (_MARGIN + high + _GAP, _MARGIN)]
    bottom = max(y + h for (y, _), (h, _) in zip(places, sizes, strict=True))
    right = max(x + w for (_, x), (_, w) in zip(places, sizes, strict=True))
    lines = caption(lines, max(right, 320) - _MARGIN)
    text_height = len(lines) * (_TEXT + 5)
    sheet = Image.new("RGB", (max(right, 320) + _MARGIN, bottom + 2 * _MARGIN + text_height), _BACK)
    how = Image.Resampling.NEAREST if labels else Image.Resampling.BILINEAR
    for panel, (y, x), (h, w) in zip(panels, places, sizes, strict=True):
        sheet.paste(Image.fromarray(panel).resize((w, h), how), (x, y))
    draw = ImageDraw.Draw(sheet)
    if um_per_pixel is not None:
        _scale_bar(draw, places[0], sizes[0], um_per_pixel)
    for n, (text, color) in enumerate(lines):
        x, y = _MARGIN, bottom + _MARGIN + n * (_TEXT + 5)
        if color is not None:
            draw.rectangle((x, y + 3, x + 9, y + 12), fill=color)
            x += 16
        draw.text((x, y), text, fill=_INK, font=_font())
    return np.asarray(sheet)


def caption(lines: Sequence[tuple[str, str | None]], width: int) -> list[tuple[str, str | None]]:
    """Break lines of text at spaces so that each fits in a width in pixels."""
    font, broken = _font(), []
    for text, color in lines:
        here = ""
        for word in text.split(" "):
            longer = f"{here} {word}".strip()
            if here and font.getlength(longer) > width - (16 if color else 0):
                broken.append((here, color))
                here = word
            else:
                here = longer
        broken.append((here, color))
    return broken


def _font() -> Any:
    return ImageFont.load_default(_TEXT)


def _scale_bar(
    draw: Any, place: tuple[int, int], size: tuple[int, int], um_per_pixel: float
) -> None:
    length = nice_length(size[1] * um_per_pixel / 4)
    pixels = max(1, round(length / um_per_pixel))
    right, low = place[1] + size[1] - 10, place[0] + size[0] - 10
    left = right - pixels + 1
    draw.rectangle((left - 1, low - 4, right + 1, low + 1), fill="black")
    draw.rectangle((left, low - 3, right, low), fill="white")
    text = f"{length / 1000:g} mm" if length >= 1000 else f"{length:g} um"
    middle = right - pixels // 2
    draw.text(
        (middle, low - 5), text, fill="white", font=_font(), anchor="mb",
        stroke_width=1, stroke_fill="black",
    )  # fmt: skip


def png_bytes(image: np.ndarray) -> bytes:
    """Give an ``(y, x, 3)`` uint8 image, or a ``(y, x)`` one in grey, as a PNG file."""
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=True)
    return out.getvalue()
