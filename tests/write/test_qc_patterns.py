"""Faults of a stack that show beside its neighbours: found where they are, and nowhere else."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import SHARED_DATA

import scout_dask_io as io
from scout_dask_io.write.qc.patterns import of_focus, of_intensities, of_stripes

CHUNKS = (8, 64, 64)


@cache
def sample_of(n_z: int = 30, high: int = 160, wide: int = 200, seed: int = 0) -> np.ndarray:
    """Give planes as a microscope has them: blobs that go through several, and a camera's noise."""
    rng = np.random.default_rng(seed)
    z, y, x = np.ogrid[:n_z, :high, :wide]
    found = np.full((n_z, high, wide), 200.0)
    for _ in range(60):
        at, size = rng.uniform(0, (n_z, high, wide)), rng.uniform(3, 12)
        apart = ((z - at[0]) / 12) ** 2 + ((y - at[1]) / size) ** 2 + ((x - at[2]) / size) ** 2
        found += rng.uniform(300, 1500) * np.exp(-apart)
    found *= 1 + 0.05 * np.sin(z / 7)
    found.flags.writeable = False
    return found


def camera(found: np.ndarray, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.clip(rng.poisson(found) + rng.normal(100, 3, found.shape), 0, 65535).astype("u2")


def blurred(plane: np.ndarray) -> np.ndarray:
    for axis in (0, 1):
        plane = sum(np.roll(plane, k, axis) for k in range(-4, 5)) / 9
    return plane


def findings(path: Path, volume: np.ndarray, **more: Any) -> list[str]:
    chunks = CHUNKS if volume.ndim < 4 else (1, *CHUNKS)
    io.write_zarr(path, volume, chunks, qc=True, **more)
    found: list[str] = json.loads(Path(f"{path}.qc.json").read_text())["findings"]
    return found


def saw(found: np.ndarray) -> np.ndarray:
    return found * (0.6 + 0.05 * (np.arange(len(found)) % 10))[:, None, None]


def step(found: np.ndarray) -> np.ndarray:
    return found * np.where(np.arange(len(found)) < 17, 1.0, 0.6)[:, None, None]


def odd(found: np.ndarray) -> np.ndarray:
    found = found.copy()
    found[12] *= 0.5
    return found


def drift(found: np.ndarray) -> np.ndarray:
    return found * np.exp(-0.03 * np.arange(len(found)))[:, None, None]


def along_x(found: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(3)
    return found * rng.uniform(0.7, 1.3, (len(found), found.shape[1], 1))


def along_y(found: np.ndarray) -> np.ndarray:
    rng = np.random.default_rng(3)
    return found * rng.uniform(0.7, 1.3, (1, 1, found.shape[2]))


def mirrored(found: np.ndarray) -> np.ndarray:
    found = found.copy()
    found[9] = found[9][:, ::-1]
    return found


def mirrored_from(found: np.ndarray) -> np.ndarray:
    return np.concatenate([found[:20], found[20:, ::-1]])


def shifted(found: np.ndarray) -> np.ndarray:
    found = found.copy()
    found[14] = np.roll(found[14], (25, -15), (0, 1))
    return found


def out_of_focus(found: np.ndarray) -> np.ndarray:
    found = found.copy()
    rng = np.random.default_rng(4)
    found *= 0.8 + 0.5 * rng.random(found.shape[1:])  # a texture, to be lost
    for k in (20, 21):
        found[k] = blurred(found[k])
    return found


FAULTS = {
    saw: ["Intensities repeat every 10 planes: the median goes from "],
    step: ["Intensities change at once, by -", "from z=17 on."],
    odd: ["1 plane is darker than the planes around, by -", ": z=12."],
    drift: ["Intensities drift evenly from the first plane to the last, by -"],
    along_x: ["Planes have stripes along x: neighbouring rows differ"],
    along_y: ["Planes have stripes along y: neighbouring columns differ"],
    mirrored: ["1 plane is mirrored along x, against those around: z=9."],
    mirrored_from: ["Planes from z=20 on are mirrored along y, against those before."],
    shifted: ["1 plane is shifted by about 25 pixels along y and -15 along x", ": z=14."],
    out_of_focus: ["2 planes are less sharp than the planes around, as out of focus: z=20, 21."],
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.__name__)
def test_a_fault_is_found_and_no_other(tmp_path: Path, fault: Any) -> None:
    found = findings(tmp_path / "a.zarr", camera(fault(sample_of())))
    assert len(found) == 1, found
    assert all(part in found[0] for part in FAULTS[fault]), found


@pytest.mark.parametrize("seed", range(4))
def test_a_stack_without_a_fault_has_none(tmp_path: Path, seed: int) -> None:
    assert findings(tmp_path / "a.zarr", camera(sample_of(seed=seed), seed)) == []


@pytest.fixture(scope="module")
def large() -> np.ndarray:
    return sample_of(8, 300, 310)


@pytest.mark.parametrize("period", [2, 8, 16])
def test_fine_stripes_are_found_along_either_axis_and_told_apart(
    tmp_path: Path, large: np.ndarray, period: int
) -> None:
    sample = large
    for axis, name in ((1, "x"), (2, "y")):
        place = np.arange(sample.shape[axis]).reshape(-1, *(1,) * (2 - axis))
        striped = sample * (1 + 0.15 * (2 * (place // (period // 2) % 2) - 1))
        found = findings(tmp_path / f"{name}.zarr", camera(striped))
        assert len(found) == 1, found
        assert found[0].startswith(f"Planes have stripes along {name}: "), found


def test_each_channel_is_looked_at_by_itself(tmp_path: Path) -> None:
    one = sample_of()
    found = findings(tmp_path / "a.zarr", np.stack([camera(one), camera(saw(one))]),
                     attributes={"channels": ["nuclei", "axons"]})  # fmt: skip
    assert len(found) == 1
    assert found[0].startswith("axons: Intensities repeat every 10 planes")


def test_where_units_and_chunks_end_does_not_matter(tmp_path: Path) -> None:
    volume = camera(out_of_focus(sample_of()))
    io.write_zarr(tmp_path / "a.zarr", volume, (7, 33, 71), qc=True, max_mem=600_000)
    io.write_zarr(tmp_path / "b.zarr", volume, volume.shape, qc=True)
    one, other = (json.loads((tmp_path / f"{n}.zarr.qc.json").read_text()) for n in "ab")
    assert one["planes"] == other["planes"]
    assert one["findings"] == other["findings"]
    step_x = one["sampled"]["means_percentiles_histogram"]["every_nth_column"]
    step_y = one["sampled"]["means_percentiles_histogram"]["every_nth_row"]
    rows = volume[:, ::step_y].astype("f8")
    apart = np.abs(
        rows[..., 1::step_x] - rows[..., :-1:step_x][..., : rows[..., 1::step_x].shape[-1]]
    )
    np.testing.assert_allclose(one["planes"]["sharpness"], apart.mean(axis=(1, 2)), atol=1e-3)


@pytest.mark.skipif(not (SHARED_DATA / "brain").is_dir(), reason="needs the real planes")
@pytest.mark.parametrize("channel", ["ch0", "ch1"])
def test_the_sawtooth_of_the_real_planes_is_found(tmp_path: Path, channel: str) -> None:
    volume = io.imread_folder(SHARED_DATA / "brain" / channel)
    found = findings(tmp_path / "a.zarr", volume)
    assert len(found) == 1
    assert found[0].startswith("Intensities repeat every 10 planes: the median goes from ")


def test_few_planes_and_noise_have_no_pattern() -> None:
    rng = np.random.default_rng(0)
    for n in (1, 2, 5, 9, 16, 30, 200):
        values = 500 * np.exp(rng.normal(0, 0.1, n))
        found = of_intensities(values)
        assert (found.period, found.changes, found.drift) == (None, (), None), n
    assert of_intensities(np.full(40, 7.0)).period is None
    assert of_intensities(np.full(40, np.nan)).changes == ()
    assert of_focus(np.zeros(30), np.ones(30)) == []
    assert of_stripes(np.full(5, np.nan), np.full(5, np.nan)) == ""
