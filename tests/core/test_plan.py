"""Write plans: units of whole chunks, honest reads and memory, by brute force."""

from __future__ import annotations

import math
from itertools import pairwise, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scout_dask_io.core.formatting import format_nbytes
from scout_dask_io.core.grid import (
    Blocks,
    Region,
    Shape,
    axis_amplification,
    chunk_counts,
    is_aligned,
    iter_block_regions,
    iter_regions,
    overlapping_blocks,
    region_shape,
    region_size,
)
from scout_dask_io.core.plan import Room, WritePlan, blocks_fit_chunks, plan_computed, plan_source
from scout_dask_io.errors import MemoryLimitError

MB = 10**6


@st.composite
def grids(draw: st.DrawFn) -> tuple[Shape, Shape]:
    shape = tuple(draw(st.lists(st.integers(0, 24), min_size=1, max_size=3)))
    return shape, tuple(draw(st.integers(1, 13)) for _ in shape)


@st.composite
def source_plans(draw: st.DrawFn) -> tuple[WritePlan, Shape]:
    shape, chunks = draw(grids())
    read = tuple(draw(st.integers(1, max(n, 1))) for n in shape)
    plan = plan_source(
        shape,
        np.dtype("<u2"),
        chunks,
        read,
        Room(draw(st.integers(1, 8)), _least_source(chunks, read) * draw(st.integers(1, 40))),
    )
    return plan, read


@st.composite
def cuts(draw: st.DrawFn, shape: Shape) -> Blocks:
    axes = []
    for n in shape:
        edges = [0, *sorted(draw(st.sets(st.integers(1, max(n - 1, 1)), max_size=5))), n]
        edges = sorted({e for e in edges if e <= n})
        axes.append(tuple(b - a for a, b in pairwise(edges)) or (0,))
    return tuple(axes)


@st.composite
def block_plans(draw: st.DrawFn) -> tuple[WritePlan, Blocks]:
    shape, chunks = draw(grids())
    blocks = draw(cuts(shape))
    least = 2 * math.prod(map(max, blocks)) * 2 + 7 * math.prod(chunks) * 2
    found = plan_computed(
        blocks,
        np.dtype("<u2"),
        chunks,
        Room(draw(st.integers(1, 5)), least * 2 * draw(st.integers(1, 30))),
    )
    return found, blocks


def _least_source(chunks: Shape, read: Shape) -> int:
    return 2 * (4 * math.prod(chunks) + 2 * math.prod(read))


def check_units(plan: WritePlan) -> None:
    """Units are disjoint, cover the array, and are made of whole chunks."""
    seen = np.zeros(plan.shape, np.uint8)
    units = list(plan.iter_units())
    for region in units:
        seen[region] += 1
        assert is_aligned(region, plan.shape, plan.chunks)
        assert all(n <= u for n, u in zip(region_shape(region), plan.unit, strict=True))
    assert (seen == 1).all()
    assert len(units) == plan.n_units
    assert all(b % c == 0 and b >= c for b, c in zip(plan.band, plan.chunks, strict=True))
    assert plan.nbytes == math.prod(plan.shape) * 2
    assert plan.n_chunks == math.prod(chunk_counts(plan.shape, plan.chunks))


def bands(plan: WritePlan) -> list[Region]:
    """What is in memory at one time, in array coordinates."""
    found = []
    for unit in plan.iter_units():
        for part in iter_regions(region_shape(unit), plan.band):
            found.append(
                tuple(
                    slice(p.start + u.start, p.stop + u.start)
                    for p, u in zip(part, unit, strict=True)
                )
            )
    return found


@given(st.integers(0, 60), st.integers(1, 70), st.integers(1, 70))
def test_axis_amplification_is_the_mean_number_of_times_that_an_element_is_decoded(
    n: int, step: int, read: int
) -> None:
    decoded = 0
    for start in range(0, n, step):
        segments = {k // read for k in range(start, min(start + step, n))}
        decoded += sum(min((s + 1) * read, n) - s * read for s in segments)
    assert axis_amplification(n, step, read) == pytest.approx(decoded / n if n else 1.0)


@given(source_plans())
def test_units_of_a_source_plan_are_disjoint_whole_chunks_that_cover(
    case: tuple[WritePlan, Shape],
) -> None:
    plan, _ = case
    assert plan.route == "source"
    check_units(plan)


@given(source_plans())
def test_a_source_plan_counts_the_decoded_bytes_as_they_are(case: tuple[WritePlan, Shape]) -> None:
    plan, read = case
    decoded = 0
    for region in bands(plan):
        if region_size(region):
            spans = (
                min(-(-s.stop // r) * r, n) - s.start // r * r
                for s, r, n in zip(region, read, plan.shape, strict=True)
            )
            decoded += math.prod(spans)
    assert plan.read_nbytes == pytest.approx(decoded * 2, abs=1)
    if plan.nbytes:
        assert plan.read_amplification == pytest.approx(decoded * 2 / plan.nbytes)


@given(source_plans())
def test_a_source_plan_projects_at_least_its_bands_and_at_most_max_mem(
    case: tuple[WritePlan, Shape],
) -> None:
    plan, read = case
    held = max((math.prod(_ceil(region_shape(r), plan.chunks)) for r in bands(plan)), default=0)
    least = plan.nb_workers * 2 * (held + math.prod(read) + 2 * math.prod(plan.chunks))
    assert least <= plan.projected_mem <= plan.max_mem


def _ceil(extent: Shape, chunks: Shape) -> Shape:
    return tuple(-(-n // c) * c for n, c in zip(extent, chunks, strict=True))


@given(st.data())
def test_more_memory_never_makes_a_source_plan_dearer(data: st.DataObject) -> None:
    shape, chunks = data.draw(grids())
    read = tuple(data.draw(st.integers(1, max(n, 1))) for n in shape)
    cost = math.inf
    for factor in (1, 2, 5, 50, 10**6):
        plan = plan_source(
            shape,
            np.dtype("<u2"),
            chunks,
            read,
            Room(4, _least_source(chunks, read) * factor),
        )
        now = (1 + plan.read_amplification) / plan.nb_workers
        assert now <= cost * (1 + 1e-9)
        cost = now
    assert plan.nb_workers == 4
    assert plan.read_amplification == 1.0


@pytest.mark.parametrize(
    ("read", "chunks", "max_mem", "amplification"),
    [
        ((1, 1, 2048), (64, 64, 64), 200 * MB, 1.0),  # rows read singly: one chunk row high
        ((1, 64, 2048), (64, 64, 64), 2000 * MB, 1.0),  # strips as high as chunks
        ((1, 2048, 2048), (64, 64, 64), 4000 * MB, 1.0),  # one strip a page: whole slabs
        ((1, 2048, 2048), (64, 64, 64), 100 * MB, 2048 / 64 / 2),  # no room for slabs: read again
        ((1, 256, 256), (64, 64, 64), 2000 * MB, 1.0),  # tiles
    ],
)
def test_a_source_plan_reads_twice_only_where_memory_forces_it(
    read: Shape, chunks: Shape, max_mem: int, amplification: float
) -> None:
    plan = plan_source((200, 2048, 2048), np.dtype("<u2"), chunks, read, Room(2, max_mem))
    assert plan.read_amplification <= amplification
    assert plan.projected_mem <= max_mem


def test_a_large_array_is_planned_in_few_units() -> None:
    # 20 TB: a unit of UNIT_NBYTES would be 78,000 tasks.
    shape = (20_000, 20_000, 25_000)
    plan = plan_source(shape, np.dtype("<u2"), (64, 64, 64), (1, 1, 25_000), Room(8, 8_000 * MB))
    assert plan.n_units <= 50_000
    assert plan.projected_mem <= 8_000 * MB


def test_a_small_array_still_has_units_for_every_worker() -> None:
    plan = plan_source(
        (64, 512, 512), np.dtype("<u2"), (32, 64, 64), (1, 1, 512), Room(4, 1000 * MB)
    )
    assert plan.n_units >= 4


@given(block_plans())
def test_units_of_block_plans_are_disjoint_whole_chunks_that_cover(
    case: tuple[WritePlan, Blocks],
) -> None:
    plan, blocks = case
    check_units(plan)
    if plan.route == "blocks":
        assert plan.units == blocks


@given(block_plans())
def test_block_plans_never_project_more_than_max_mem(case: tuple[WritePlan, Blocks]) -> None:
    plan, blocks = case
    assert plan.projected_mem <= plan.max_mem
    assert plan.nb_workers >= 1
    largest = math.prod(map(max, blocks)) * 2
    assert plan.projected_mem >= plan.nb_workers * largest
    assert plan.read_nbytes == plan.nbytes


@given(block_plans())
def test_a_gather_plan_projects_the_blocks_of_the_units_in_hand(
    case: tuple[WritePlan, Blocks],
) -> None:
    plan, blocks = case
    if plan.route != "gather":
        return
    needed = [
        {i: region_size(r) * 2 for i, r in overlapping_blocks(blocks, unit)}
        for unit in plan.iter_units()
    ]
    for k in range(len(needed)):
        at_once: dict[Shape, int] = {}
        for blocks_of_unit in needed[k : k + plan.nb_workers]:
            at_once.update(blocks_of_unit)
        assert sum(at_once.values()) <= plan.projected_mem


@given(st.data())
def test_blocks_fit_chunks_where_every_block_is_aligned(data: st.DataObject) -> None:
    shape, chunks = data.draw(grids().filter(lambda g: 0 not in g[0]))
    blocks = data.draw(cuts(shape))
    by_hand = all(is_aligned(r, shape, chunks) for _, r in iter_block_regions(blocks))
    assert blocks_fit_chunks(blocks, chunks) == by_hand


@pytest.mark.parametrize("extra", [0, 1, 10**6, 10**10])
def test_a_source_plan_is_made_from_the_least_that_it_needs_up(extra: int) -> None:
    chunks, read = (64, 64, 64), (1, 2048, 2048)
    max_mem = _least_source(chunks, read) + extra
    plan = plan_source((99, 2048, 2048), np.dtype("<u2"), chunks, read, Room(3, max_mem))
    assert plan.projected_mem <= max_mem


def test_a_source_that_does_not_fit_is_refused_with_what_it_needs() -> None:
    chunks, read = (64, 64, 64), (1, 2048, 2048)
    least = _least_source(chunks, read)
    with pytest.raises(MemoryLimitError) as caught:
        plan_source((99, 2048, 2048), np.dtype("<u2"), chunks, read, Room(3, least - 1))
    assert format_nbytes(least) in str(caught.value)
    assert isinstance(caught.value, MemoryError)


@pytest.mark.parametrize("along_z", [(64, 36), (50, 50)], ids=["whole chunks", "across chunks"])
def test_blocks_that_do_not_fit_in_max_mem_are_refused_with_the_numbers(along_z: Shape) -> None:
    blocks = (along_z, (1000,), (1000,))
    with pytest.raises(MemoryLimitError, match=r"max_mem=10 MB .* \(\d+, 1000, 1000\) uint16"):
        plan_computed(blocks, np.dtype("<u2"), (64, 64, 64), Room(2, 10 * MB))


def test_planes_that_fit_are_gathered_and_larger_ones_go_through_scratch() -> None:
    blocks = ((1,) * 200, (2048,), (2048,))
    routes = [
        plan_computed(blocks, np.dtype("<u2"), (64, 64, 64), Room(2, m * MB)).route
        for m in (60, 200, 4000)
    ]
    assert routes == ["scratch", "scratch", "gather"]


@pytest.mark.parametrize(
    ("nbytes", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (1_610_000_000, "1.61 GB"), (3 * 10**15, "3 PB")],
)
def test_format_nbytes_counts_in_powers_of_1000(nbytes: int, text: str) -> None:
    assert format_nbytes(nbytes) == text


def test_every_pair_of_axis_extents_keeps_the_plan_aligned() -> None:
    # Exhaustive where Hypothesis samples: every chunk and segment up to 6 on an axis of 11.
    for c, r in product(range(1, 7), repeat=2):
        for max_mem in (_least_source((c,), (r,)), 10**4):
            plan = plan_source((11,), np.dtype("<u2"), (c,), (r,), Room(2, max_mem))
            check_units(plan)
            assert plan.projected_mem <= max_mem


@pytest.mark.parametrize(
    ("asked", "max_mem", "rows"),
    [
        (0, 2**30, 128),
        # A unit a worker: planes are asked for whole.
        (2**27, 2**30, 1024),
        (2**25, 2**30, 256),
        # Memory has the last word.
        (2**27, 40 * 2**20, 128),
    ],
    ids=["on a disk", "in a store", "as asked", "little memory"],
)
def test_bands_are_as_long_as_a_source_asks_where_memory_and_workers_permit(
    asked: int, max_mem: int, rows: int
) -> None:
    plan = plan_source(
        (128, 1024, 1024), np.dtype("<u2"), (64, 64, 64), (1, 1, 1024), Room(2, max_mem),
        band_nbytes=asked,
    )  # fmt: skip
    assert plan.band == (64, rows, 1024)
    assert plan.projected_mem <= max_mem
    assert plan.n_units >= plan.nb_workers


def test_what_is_held_of_answers_ahead_is_counted_and_gives_way() -> None:
    def planned(max_mem: int, ahead_nbytes: int) -> WritePlan:
        return plan_source(
            (256, 512, 512), np.dtype("<u2"), (64, 64, 64), (1, 1, 512), Room(2, max_mem),
            ahead_nbytes=ahead_nbytes,
        )  # fmt: skip

    disk, store = planned(1000 * MB, 0), planned(1000 * MB, 32 * MB)
    assert store.ahead_nbytes == 32 * MB
    assert store.projected_mem == disk.projected_mem + 2 * 32 * MB
    # A quarter of a task's share, and next to nothing where a chunk would not fit beside it.
    assert planned(80 * MB, 32 * MB).ahead_nbytes == 10 * MB
    least = 4 * 64**3 * 2 + 2 * 1024 + 1
    tight = planned(least, 32 * MB)
    assert (tight.ahead_nbytes, tight.nb_workers) == (1, 1)
    assert tight.projected_mem <= least
