"""What people read: sizes, times, counts, texts cut to a length, rows as a table. Pure."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any, TypeAlias

#: What a line of a report is about, and what it says. ``""`` goes on with the line above; without
#: a label at all, the text is a sentence of its own.
Row: TypeAlias = tuple[str | None, str]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def format_nbytes(nbytes: float) -> str:
    """Give a size in decimal units and three digits, as disks are sold.

    Examples
    --------
    >>> format_nbytes(512), format_nbytes(1_536_000_000)
    ('512 B', '1.54 GB')
    """
    size, unit = float(nbytes), 0
    # 999.5 would print as 1e+03
    while abs(size) >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return (
        f"{size:.0f} {_UNITS[unit]}" if unit == 0 or size >= 999.5 else f"{size:.3g} {_UNITS[unit]}"
    )


def format_s(seconds: float) -> str:
    """Give a duration in the two largest units that matter.

    Examples
    --------
    >>> format_s(0.25), format_s(130), format_s(3720)
    ('0.25 s', '2 min 10 s', '1 h 02 min')
    """
    if seconds < 9.95:
        return f"{max(seconds, 0.01):.2g} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    minutes = round(seconds / 60)
    if minutes < 24 * 60:
        return f"{minutes // 60} h {minutes % 60:02d} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24} h"


def format_count(n: int, noun: str) -> str:
    """Give a number and its noun, singular or plural.

    Examples
    --------
    >>> format_count(1, "chunk"), format_count(12345, "chunk")
    ('1 chunk', '12,345 chunks')
    """
    return f"{n:,} {noun if n == 1 else noun + 's'}"


def format_percent(n: int, of: int) -> str:
    """Give a share in per cent and two digits; all of it and a little less are told apart.

    Examples
    --------
    >>> format_percent(1, 8), format_percent(8, 8), format_percent(1, 10**6)
    ('12 %', '100 %', 'under 0.01 %')
    """
    percent = 100 * n / of
    # 99.5 would print as 1e+02
    if percent >= 99.5:
        return "100 %" if n == of else "over 99 %"
    return f"{percent:.2g} %" if percent >= 0.01 or not n else "under 0.01 %"


def format_shape(shape: Sequence[int]) -> str:
    """Give extents with a multiplication sign between them.

    Examples
    --------
    >>> format_shape((30, 510, 667))
    '30 x 510 x 667'
    """
    return " x ".join(str(n) for n in shape)


def format_found(value: Any, most: int = 200) -> str:
    """Give what was found in a file as a message shows it: ``repr``, cut where it is long.

    Examples
    --------
    >>> format_found([1, 2]), format_found([7] * 3000)
    ('[1, 2]', '[7, 7, 7, 7, 7, 7, ...]')
    """
    short = repr(value)
    return cut(reprlib.repr(value) if len(short) > most else short, most)


def cut(text: str, most: int = 300) -> str:
    """Give a text, without its middle where it is longer than ``most`` characters.

    Examples
    --------
    >>> cut("short"), cut("a" * 50 + "z" * 50, 20)
    ('short', 'aaaaaaaaaa...zzzzzzz')
    """
    return text if len(text) <= most else f"{text[: most // 2]}...{text[3 - most // 2 :]}"


def memory_text(plan: Any) -> str:
    """Say what a plan is expected to use, and may."""
    return (
        f"{format_nbytes(plan.projected_mem)} projected peak, {format_nbytes(plan.max_mem)} "
        "allowed, beside Python itself"
    )


def read_text(plan: Any) -> str:
    """Say how much a plan reads, and how often."""
    again = ""
    if plan.read_amplification > 1.005:
        again = f", each pixel {plan.read_amplification:.2f} times on average"
    return format_nbytes(plan.read_nbytes) + again


def order_text(n_reads: int) -> str:
    """Say in how many pieces planes on a disk are read; empty of what is not read from there."""
    if not n_reads:
        return ""
    return ", each file once, in order" if n_reads == 1 else f", each plane in {n_reads:,} pieces"


def html_table(title: str, rows: Iterable[Row]) -> str:
    """Give rows as a table for notebooks; those without text are left out.

    Examples
    --------
    >>> html_table("Wrote a", [("voxel", "")])
    '<div><b>Wrote a</b><table></table></div>'
    """
    cells = [
        f'<tr><td colspan="2" style="text-align:left">{escape(text)}</td></tr>'
        if label is None
        else f'<tr><th style="text-align:left">{escape(label)}</th>'
        f'<td style="text-align:left">{escape(text)}</td></tr>'
        for label, text in rows
        if text
    ]
    return f"<div><b>{escape(title)}</b><table>{''.join(cells)}</table></div>"
