"""The viewer's page as a person sees it, in a real browser: pictures, scale, no other host."""

from __future__ import annotations

import io as bytes_io
import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from helpers import shared_data, write_planes
from PIL import Image

import scout_dask_io as io

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
FLAGS = """--headless --no-sandbox --use-angle=swiftshader --enable-unsafe-swiftshader
    --disable-background-networking --disable-component-update --disable-sync --no-first-run
    --window-size=1000,700"""
# A page on a busy machine; reached only where something is wrong.
PATIENCE_S = 90

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="no chromium and chromedriver here"),
]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Give one browser for all pages; each page is another server's, and opened anew."""
    from selenium import webdriver

    options = webdriver.ChromeOptions()
    for flag in [*FLAGS.split(), f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]:
        options.add_argument(flag)
    options.binary_location = str(CHROMIUM)
    options.set_capability("goog:loggingPrefs", {"performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


def see(browser: Any, url: str, good: Callable[[np.ndarray], bool]) -> np.ndarray:
    """Open a page and look until the picture is as it should be; give the last look."""
    browser.get(url)
    end = time.monotonic() + PATIENCE_S
    while True:
        shot = np.asarray(Image.open(bytes_io.BytesIO(browser.get_screenshot_as_png())))[..., :3]
        if good(shot) or time.monotonic() > end:
            return shot.astype(int)


def hosts(browser: Any) -> set[str]:
    """Give the hosts that the page asked for anything."""
    found = set()
    for entry in browser.get_log("performance"):
        message = json.loads(entry["message"])["message"]
        if message["method"] == "Network.requestWillBeSent":
            url = urlsplit(message["params"]["request"]["url"])
            # Chromium's own first page asks chrome:// and chrome-untrusted:// for its parts.
            if not url.scheme.startswith(("chrome", "data", "blob")):
                found.add(str(url.hostname))
    return found


def bright(shot: np.ndarray, color: tuple[int, int, int]) -> int:
    """Count the pixels that are near a colour."""
    return int((np.abs(shot.astype(int) - color) < 60).all(axis=-1).sum())


def test_channels_are_seen_in_their_colours_and_no_other_host_is_asked(
    browser: Any, tmp_path: Path
):
    # One square a channel, left and right.
    for name, where in (("a", np.s_[:, 40:80, 20:60]), ("b", np.s_[:, 40:80, 140:180])):
        data = np.full((8, 120, 200), 100, "u2")
        data[where] = 1000
        write_planes(tmp_path / "brain" / name, data)
    with io.viewer(tmp_path / "brain", voxel_size=(2, 2, 2)) as shown:
        shot = see(
            browser,
            shown.url,
            lambda s: bright(s, (255, 0, 255)) > 3000 and bright(s, (0, 255, 0)) > 3000,
        )
        assert hosts(browser) == {"127.0.0.1"}
    # The panel at the upper left is the plane: magenta left of green, as wide and as high.
    plane = shot[60 : shot.shape[0] // 2, : shot.shape[1] // 2]
    magenta = np.argwhere((np.abs(plane - (255, 0, 255)) < 60).all(axis=-1))
    green = np.argwhere((np.abs(plane - (0, 255, 0)) < 60).all(axis=-1))
    assert len(magenta) > 2000
    assert len(green) > 2000
    assert np.median(magenta[:, 1]) < np.median(green[:, 1])
    high, wide = (np.percentile(magenta, 90, axis=0) - np.percentile(magenta, 10, axis=0)).tolist()
    assert high == pytest.approx(wide, rel=0.15)


def test_several_volumes_are_seen_side_by_side_each_by_itself(browser: Any, tmp_path: Path):
    # A TIFF dataset of two channels, and a Zarr array: a square each.
    squares = (np.s_[:, 40:80, 20:60], np.s_[:, 40:80, 140:180], np.s_[:, 70:110, 80:120])
    volumes = []
    for where in squares:
        data = np.full((8, 120, 200), 100, "u2")
        data[where] = 1000
        volumes.append(data)
    for name, data in zip("ab", volumes, strict=False):
        write_planes(tmp_path / "brain" / name, data)
    io.write_zarr(tmp_path / "sum.zarr", volumes[2])
    magenta, green, white = (255, 0, 255), (0, 255, 0), (255, 255, 255)

    def halves(shot: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        middle = shot.shape[1] // 2
        # Below the names of the layers, which are white.
        return shot[90:, :middle], shot[90:, middle:]

    def good(shot: np.ndarray) -> bool:
        left, right = halves(shot)
        both = min(bright(left, magenta), bright(left, green))
        return both > 500 and bright(right, white) > 500

    with io.viewer(tmp_path / "brain", tmp_path / "sum.zarr", voxel_size=(2, 2, 2)) as shown:
        left, right = halves(see(browser, shown.url, good))
    assert min(bright(left, magenta), bright(left, green)) > 500
    assert bright(right, white) > 500
    # Neither shows what is the other's, but for the axes, of which one is green.
    assert bright(left, white) < bright(right, white) / 4
    assert bright(right, magenta) < 50
    assert bright(right, green) < bright(left, green) / 4
    # In the plane, at the upper left of its half, the square is as wide as it is high.
    plane = right[: right.shape[0] // 2 - 60, : right.shape[1] // 2]
    square = np.argwhere((np.abs(plane - white) < 60).all(axis=-1))
    high, wide = (np.percentile(square, 90, axis=0) - np.percentile(square, 10, axis=0)).tolist()
    assert high == pytest.approx(wide, rel=0.2)


def test_the_brain_of_a_tiff_folder_is_seen(browser: Any):
    brain = shared_data("brain") / "ch0"
    with io.viewer(brain, voxel_size=(5, 2, 2)) as shown:
        # Bright cells on dark tissue, in the panel of the plane.
        def plane(shot: np.ndarray) -> np.ndarray:
            part = shot[60 : shot.shape[0] // 2, 60 : shot.shape[1] // 2 - 60]
            return part.mean(axis=-1)

        # How many they are depends on the height that the browser gives the page.
        shot = see(browser, shown.url, lambda s: (plane(s) > 200).mean() > 0.003)
    grey = plane(shot)
    assert (grey > 200).mean() > 0.003
    assert (grey < 90).mean() > 0.3


@pytest.mark.parametrize("dtype", ["u1", "i4", "u8"])
def test_labels_have_a_colour_each_and_what_is_none_has_none(
    browser: Any, tmp_path: Path, dtype: str
):
    labels = np.zeros((8, 120, 200), dtype)
    labels[:, 40:80, 20:60], labels[:, 40:80, 140:180] = 3, 90
    io.write_ome_zarr(tmp_path / "a.zarr", labels, labels=True, voxel_size=(2, 2, 2))

    def plane(shot: np.ndarray) -> np.ndarray:
        return shot[90 : shot.shape[0] // 2, 10 : shot.shape[1] // 2 - 10].astype(int)

    def vivid(shot: np.ndarray) -> np.ndarray:
        """Give where pixels are of a colour, and of no grey."""
        return np.asarray(np.ptp(plane(shot), axis=-1) > 60)

    with io.viewer(tmp_path / "a.zarr") as shown:
        shot = see(browser, shown.url, lambda s: vivid(s).sum() > 4000)
    seen, where = plane(shot), vivid(shot)
    middle = where.shape[1] // 2
    left, right = seen[:, :middle][where[:, :middle]], seen[:, middle:][where[:, middle:]]
    assert min(len(left), len(right)) > 2000
    one, other = np.median(left, axis=0), np.median(right, axis=0)
    assert np.abs(one - other).max() > 40
    # Each is one colour all over, and what lies between is black.
    assert (np.abs(left - one).max(axis=1) < 30).mean() > 0.9
    assert (np.abs(right - other).max(axis=1) < 30).mean() > 0.9
    assert (seen[~where].max(axis=-1) < 40).mean() > 0.9
