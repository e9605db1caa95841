"""The viewer: what is served, how much is read for it, and who may ask."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

import dask.array as da
import numpy as np
import pytest
import tifffile
import zarr
from helpers import make_volume, write_planes
from run.test_lazy import RecordingSource

import scout_dask_io as io
from scout_dask_io.errors import ArgumentError
from scout_dask_io.run.lazy import lazy_array
from scout_dask_io.view.server import VolumeServer
from scout_dask_io.view.volume import ServedVolume

SHAPE = (5, 700, 530)


def get(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        assert answer.headers["Access-Control-Allow-Origin"] == "*"
        return answer.read()


def save(url: str, folder: Path) -> None:
    """Copy a served image, as a program that follows its metadata finds it."""
    folder.mkdir()
    for name in (".zgroup", ".zattrs"):
        (folder / name).write_bytes(get(f"{url}/{name}"))
    for dataset in json.loads((folder / ".zattrs").read_text())["multiscales"][0]["datasets"]:
        level = folder / dataset["path"]
        level.mkdir()
        (level / ".zarray").write_bytes(get(f"{url}/{level.name}/.zarray"))
        meta = json.loads((level / ".zarray").read_text())
        counts = [-(-n // c) for n, c in zip(meta["shape"], meta["chunks"], strict=True)]
        for index in np.ndindex(*counts):
            key = "/".join(map(str, index))
            (level / key).parent.mkdir(parents=True, exist_ok=True)
            (level / key).write_bytes(get(f"{url}/{level.name}/{key}"))


@pytest.mark.parametrize("kind", ["planes", "zarr", "computed"])
def test_zarr_reads_every_level_that_is_served(tmp_path: Path, kind: str):
    data = make_volume(SHAPE)
    if kind == "planes":
        write_planes(tmp_path / "planes", data)
        array = io.imread_folder(tmp_path / "planes")
    elif kind == "zarr":
        io.write_zarr(tmp_path / "a.zarr", data, (4, 64, 64))
        array = io.read_zarr(tmp_path / "a.zarr")
    else:
        array = da.from_array(data, chunks=(2, 300, 300)) + 0
    volume = ServedVolume("a", [array], [(4.0, 2.0, 2.0)], unit="micrometer")
    server = VolumeServer({"v": volume})
    try:
        save(server.url("v", "127.0.0.1"), tmp_path / "copy")
    finally:
        server.close()
    # Voxels are 4 high and 2 wide: the first step is in the plane alone.
    assert volume.n_levels == 2
    for level, part in enumerate([data, data[:, ::2, ::2]]):
        found = zarr.open_array(tmp_path / "copy" / str(level), mode="r")
        assert (found.shape, found.dtype) == (part.shape, np.dtype("<u2"))
        np.testing.assert_array_equal(found[:], part)
    image = json.loads((tmp_path / "copy" / ".zattrs").read_text())["multiscales"][0]
    assert image["axes"][0] == {"name": "z", "type": "space", "unit": "micrometer"}
    scales = [d["coordinateTransformations"][0]["scale"] for d in image["datasets"]]
    assert scales == [[4, 2, 2], [4, 4, 4]]


def test_a_chunk_reads_its_own_region_alone():
    source = RecordingSource(make_volume((40, 700, 530)))
    volume = ServedVolume("a", [lazy_array(source)], [(1, 1, 1)])
    assert source.log == []
    chunk = volume.file("0/2/1/0")
    z, y, x = json.loads(volume.file("0/.zarray") or b"")["chunks"]
    assert source.log == [(slice(2 * z, 3 * z), slice(y, min(2 * y, 700)), slice(0, min(x, 530)))]
    part = source.array[2 * z : 3 * z, y : 2 * y, :x]
    found = np.frombuffer(chunk or b"", "<u2").reshape(z, y, x)
    np.testing.assert_array_equal(found[:, : part.shape[1], : part.shape[2]], part)


def test_levels_end_where_a_chunk_would_read_too_much():
    # 100,000 planes of 7,000 x 7,000, of which no pixel is there.
    class Endless(RecordingSource):
        @property
        def read_shape(self) -> tuple[int, ...]:
            return (64, 64, 64)

    data = np.broadcast_to(np.uint16(0), (100_000, 7_000, 7_000))
    volume = ServedVolume("a", [lazy_array(Endless(data))], [(1, 1, 1)])
    assert volume.n_levels == 3
    assert volume.sample().size <= 2**22


def test_channels_of_one_array_are_served_each(tmp_path: Path):
    data = make_volume((2, 3, 40, 50))
    array = da.from_array(data, chunks=(1, 1, 40, 50))
    volumes = [ServedVolume(str(c), [array], [(1, 1, 1)], channel=c) for c in (0, 1)]
    for c, volume in enumerate(volumes):
        np.testing.assert_array_equal(volume.read(0, (0, 0, 0)), data[c])


@pytest.mark.parametrize(("given", "sent"), [("f8", "<f4"), ("?", "|u1"), (">i2", "<i2")])
def test_elements_that_browsers_do_not_know_are_converted(given: str, sent: str):
    data = (make_volume((2, 8, 9)) % 100).astype(given)
    volume = ServedVolume("a", [da.from_array(data)], [(1, 1, 1)])
    assert json.loads(volume.file("0/.zarray") or b"")["dtype"] == sent
    found = np.frombuffer(volume.file("0/0/0/0") or b"", sent).reshape(data.shape)
    np.testing.assert_array_equal(found, data.astype(sent))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((2, 3, 4), "c8"), "complex64"),
        (np.zeros(5), r"got shape \(5,\)"),
        (np.zeros((0, 4, 4)), r"got shape \(0, 4, 4\)"),
    ],
)
def test_what_cannot_be_shown_is_refused(array: np.ndarray, message: str):
    with pytest.raises(ArgumentError, match=message):
        io.viewer(array)


def test_without_the_token_nothing_is_served(tmp_path: Path):
    volume = ServedVolume("a", [da.zeros((2, 8, 8), dtype="u2")], [(1, 1, 1)])
    server = VolumeServer({"v": volume})
    try:
        url = server.url("v", "127.0.0.1")
        assert server._http.server_address[0] == "127.0.0.1"
        get(f"{url}/.zattrs")
        token = re.findall(r"//[^/]+/([^/]+)/", url)[0]
        for wrong in (
            url.replace(token, "x" * len(token)),
            url.replace(f"/{token}", ""),
            f"{url}/9",
        ):
            with pytest.raises(HTTPError, match="404"):
                get(f"{wrong}/.zattrs")
        with pytest.raises(HTTPError, match="404"):
            get(f"{url}/0/9/0/0")
    finally:
        server.close()
    with pytest.raises(OSError, match="refused"):
        get(f"{url}/.zattrs")


def test_many_may_connect_at_once_and_nothing_waits_to_be_sent(monkeypatch: pytest.MonkeyPatch):
    volume = ServedVolume("a", [da.zeros((2, 8, 8), dtype="u2")], [(1, 1, 1)])
    server, busy, free = VolumeServer({"v": volume}), threading.Event(), threading.Event()
    real = server._http.process_request

    def process(connection: Any, client: Any) -> None:
        busy.set()
        free.wait(60)
        real(connection, client)

    monkeypatch.setattr(server._http, "process_request", process)
    try:
        with ExitStack() as stack:
            # While none is taken up, forty more are not turned away.
            first = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
            assert busy.wait(60)
            for _ in range(40):
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), 10))
            free.set()
            first.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert first.recv(100).startswith(b"HTTP/1.1 404")
            taken = list(server._connections)
            assert {c.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) for c in taken} == {1}
    finally:
        free.set()
        server.close()


def page(url: str) -> bytes:
    with urllib.request.urlopen(url, timeout=20) as answer:
        found: bytes = answer.read()
        return found


def test_a_closed_server_hangs_up_and_a_malformed_address_is_a_bad_request():
    volume = ServedVolume("a", [da.zeros((2, 8, 8), dtype="u2")], [(1, 1, 1)])
    server = VolumeServer({"v": volume})
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=20)
    try:
        path = server.url("v", "").partition(f":{server.port}")[2] + "/.zattrs"
        for asked, status in ((path, 200), ("http://[/", 400), (path, 200)):
            kept.putrequest("GET", asked, skip_host=True)
            kept.endheaders()
            with kept.getresponse() as answer:
                assert (answer.status, bool(answer.read())) == (status, status == 200)
        connected = kept.sock
    finally:
        server.close()
    connected.settimeout(20)
    with suppress(OSError):
        connected.sendall(f"GET {path} HTTP/1.1\r\nHost: a\r\n\r\n".encode())
        assert connected.recv(100) == b""
    kept.close()


def test_a_view_that_is_closed_is_closed_alone():
    with io.viewer(np.zeros((2, 3, 4))) as first:
        second = io.viewer(np.zeros((2, 3, 4)))
        second.close()
        second.close()
        assert b"neuroglancer" in page(first.url).lower()
        with pytest.raises(OSError, match="refused"):
            page(second.url)
    with pytest.raises(OSError, match="refused"):
        page(first.url)


def test_a_view_listens_where_it_was_told_and_not_where_another_was():
    with (
        io.viewer(np.zeros((2, 3, 4)), host="0.0.0.0") as everywhere,
        io.viewer(np.zeros((2, 3, 4))) as here,
    ):
        # Loopback has more than one address, and only what listens on all has the second.
        elsewhere = re.sub(r"//[^:/]+:", "//127.0.0.2:", everywhere.url)
        assert b"neuroglancer" in page(elsewhere).lower()
        with pytest.raises(OSError, match="refused"):
            page(here.url.replace("127.0.0.1", "127.0.0.2"))


def test_a_damaged_file_is_an_error_and_no_zeros(tmp_path: Path, capsys: Any):
    io.write_zarr(tmp_path / "a.zarr", make_volume((4, 64, 64)), (4, 64, 64))
    chunk = next((tmp_path / "a.zarr").glob("0/0/0"))
    chunk.write_bytes(chunk.read_bytes()[:-20])
    volume = ServedVolume("a", [io.read_zarr(tmp_path / "a.zarr")], [(1, 1, 1)])
    server = VolumeServer({"v": volume})
    try:
        for _ in range(2):
            with pytest.raises(HTTPError, match="500"):
                get(f"{server.url('v', '127.0.0.1')}/0/0/0/0")
    finally:
        server.close()
    err = capsys.readouterr().err
    assert err.count("warning: ") == 1
    assert str(chunk) in err


def test_the_page_has_a_layer_a_channel_and_a_panel_a_volume(tmp_path: Path):
    channels = {"blue": make_volume((3, 40, 50)), "red": make_volume((3, 40, 50)) + 7}
    for name, data in channels.items():
        write_planes(tmp_path / "brain" / name, data)
    other = make_volume((3, 40, 50))
    with io.viewer(tmp_path / "brain", other, voxel_size=(5, 2, 2)) as shown:
        assert shown.url.startswith("http://127.0.0.1:")
        assert shown.url in shown._repr_html_()
        state = shown._viewer.state.to_json()
        assert b"neuroglancer" in urllib.request.urlopen(shown.url, timeout=20).read().lower()
    names = [layer["name"] for layer in state["layers"]]
    assert names == ["brain blue", "brain red", "array 1"]
    assert [g["layers"] for g in state["layout"]["children"]] == [names[:2], names[2:]]
    assert state["dimensions"] == {"x": [2e-06, "m"], "y": [2e-06, "m"], "z": [5e-06, "m"]}
    low, high = state["layers"][1]["shaderControls"]["normalized"]["range"]
    inside = np.percentile(channels["red"][1], [1, 99.8])
    assert low <= inside[0] + 300
    assert high >= inside[1] - 300
    assert channels["red"].min() <= low < high <= channels["red"].max()


def test_the_levels_of_an_ome_zarr_image_are_served_where_they_lie(tmp_path: Path):
    data = make_volume((2, 20, 90, 110))
    io.write_ome_zarr(
        tmp_path / "a.zarr", data, (1, 16, 32, 32), levels=3, voxel_size=(8, 2, 2),
        channels=["nuclei", "axons"],
    )  # fmt: skip
    with io.viewer(tmp_path / "a.zarr") as shown:
        state = shown._viewer.state.to_json()
        (source,) = state["layers"][1]["source"]
        url = source["url"].removeprefix("zarr2://")
        save(url, tmp_path / "copy")
    assert [layer["name"] for layer in state["layers"]] == ["a.zarr nuclei", "a.zarr axons"]
    for level in range(3):
        stored = zarr.open_array(tmp_path / "a.zarr" / str(level), mode="r")
        found = zarr.open_array(tmp_path / "copy" / str(level), mode="r")
        np.testing.assert_array_equal(found[:], stored[1])
    for copy, own in zip(
        *(
            json.loads((tmp_path / name / ".zattrs").read_text())["multiscales"][0]["datasets"]
            for name in ("copy", "a.zarr")
        ),
        strict=True,
    ):
        steps = [s.get("scale", s.get("translation")) for s in own["coordinateTransformations"]]
        assert [
            s.get("scale", s.get("translation")) for s in copy["coordinateTransformations"]
        ] == [step[1:] for step in steps]


@pytest.mark.parametrize("kind", ["hyperstack", "colour", "colour and alpha", "planes of channels"])
def test_channels_are_told_apart_whatever_the_order_of_a_file_s_axes(tmp_path: Path, kind: str):
    data = make_volume((3, 5, 40, 50), "u1")  # (c, z, y, x)
    path = tmp_path / "a.tif"
    if kind == "hyperstack":
        turned = data.swapaxes(0, 1)
        tifffile.imwrite(path, turned, imagej=True, metadata={"axes": "ZCYX"})
        names = ["channel 0", "channel 1", "channel 2"]
    elif kind == "planes of channels":
        data = data[:, :1]
        tifffile.imwrite(tmp_path / "a.ome.tif", data[:, 0], metadata={"axes": "CYX"})
        path, names = tmp_path / "a.ome.tif", ["channel 0", "channel 1", "channel 2"]
    else:
        data, names = data[:, :1], ["red", "green", "blue"]
        samples = np.moveaxis(data[:, 0], 0, -1)
        if "alpha" in kind:
            samples = np.concatenate([samples, samples[..., :1] // 2], axis=-1)
        tifffile.imwrite(
            path, samples, photometric="rgb", extrasamples=[2] if "alpha" in kind else None
        )
    with io.viewer(path) as shown:
        state = shown._viewer.state.to_json()["layers"]
        for k, layer in enumerate(state):
            (source,) = layer["source"]
            save(source["url"].removeprefix("zarr2://"), tmp_path / f"copy{k}")
            found = zarr.open_array(tmp_path / f"copy{k}" / "0", mode="r")
            np.testing.assert_array_equal(found[:], data[k])
    assert [layer["name"] for layer in state] == [f"{path.name} {name}" for name in names]
    if names[0] == "red":
        assert 'default="#FF0000"' in state[0]["shader"]


def test_of_several_time_points_the_first_is_shown_and_named(tmp_path: Path):
    data = make_volume((3, 5, 40, 50))
    tifffile.imwrite(tmp_path / "a.tif", data, imagej=True, metadata={"axes": "TZYX"})
    with io.viewer(tmp_path / "a.tif") as shown:
        (layer,) = shown._viewer.state.to_json()["layers"]
        save(layer["source"][0]["url"].removeprefix("zarr2://"), tmp_path / "copy")
    assert layer["name"] == "a.tif, t=0 of 3"
    found = zarr.open_array(tmp_path / "copy" / "0", mode="r")
    np.testing.assert_array_equal(found[:], data[0])


def test_colours_and_contrast_are_those_that_an_image_states(tmp_path: Path):
    data = make_volume((2, 20, 90, 110))
    group = io.write_ome_zarr(
        tmp_path / "a.zarr", data, (1, 16, 32, 32), channels=["a", "b"],
        colors=["FF8000", "0080FF"],
    )  # fmt: skip
    omero = dict(group.attrs)["omero"]
    omero["channels"][0]["window"].update({"start": 11.4, "end": 222.2})
    omero["channels"][1]["window"].update({"start": 5, "end": 5})
    group.attrs["omero"] = omero
    with io.viewer(tmp_path / "a.zarr") as shown:
        first, second = shown._viewer.state.to_json()["layers"]
    assert 'default="#FF8000"' in first["shader"]
    assert 'default="#0080FF"' in second["shader"]
    # Whole numbers, since the page takes no others for integers.
    assert first["shaderControls"]["normalized"]["range"] == [11, 222]
    low, high = second["shaderControls"]["normalized"]["range"]
    assert data[1].min() <= low < high <= data[1].max()  # the stated one is no range


@pytest.mark.parametrize(("colors", "shown_in"), [(["0080FF"], "#0080FF"), (["FFFFFF"], "")])
def test_one_channel_is_in_its_colour_and_white_is_grey(tmp_path: Path, colors, shown_in):
    io.write_ome_zarr(tmp_path / "a.zarr", make_volume((20, 90, 110)), 32, colors=colors)
    with io.viewer(tmp_path / "a.zarr") as shown:
        (layer,) = shown._viewer.state.to_json()["layers"]
    shader = layer["shader"]
    assert (f'default="{shown_in}"' in shader) if shown_in else ("emitGrayscale" in shader)


def test_labels_are_segments_and_other_volumes_beside_them_are_not(tmp_path: Path):
    labels = make_volume((20, 90, 110)) // 10_000
    io.write_ome_zarr(tmp_path / "a.zarr", labels, 32, labels=True)
    io.write_zarr(tmp_path / "b.zarr", labels, 32)
    with io.viewer(tmp_path / "a.zarr", tmp_path / "b.zarr") as shown:
        first, second = shown._viewer.state.to_json()["layers"]
    assert (first["type"], second["type"]) == ("segmentation", "image")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "neuroglancer", None)
    with pytest.raises(ArgumentError, match=r"pip install 'scout-dask-io\[view\]'"):
        io.viewer(np.zeros((2, 3, 4)))


def test_a_port_that_is_taken_is_an_error():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ArgumentError, match=f"cannot listen on 127.0.0.1:{port}"):
            io.viewer(np.zeros((2, 3, 4)), port=port)


def test_the_command_prints_an_address_and_ends_on_ctrl_c(tmp_path: Path):
    write_planes(tmp_path / "planes", make_volume((3, 40, 50)))
    process = subprocess.Popen(
        [sys.executable, "-m", "scout_dask_io", "view", "planes"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(io.__file__).parent.parent)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v/\w{20,}/", url)
        assert process.stdout.readline() == "Ctrl-C ends it.\n"
        assert urllib.request.urlopen(url, timeout=20).status == 200
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=30)
    finally:
        process.kill()
    assert process.returncode == 0
    assert "Traceback" not in err
