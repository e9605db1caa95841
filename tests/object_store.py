"""An S3 server on loopback, and a proxy before it that fails on purpose."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Any, NamedTuple

import fsspec
import numpy as np
import pytest
import s3fs
import zarr
from servers import http_server

from scout_dask_io.errors import WriteError
from scout_dask_io.files.remote import RemoteLocation

KEYS = {"key": "test", "secret": "test"}


def options(address: str) -> dict[str, Any]:
    """Give the storage_options for a server; the client's own retries are kept short."""
    retries = {"max_attempts": 2, "mode": "standard"}
    return {**KEYS, "endpoint_url": address, "config_kwargs": {"retries": retries}}


#: moto's server, which would look for its own modules on the disk at every request.
SERVER = """
import sys
from moto import backends
names = tuple(backends.list_of_moto_modules())
backends.list_of_moto_modules = lambda: names
from moto.server import main
main(sys.argv[1:])
"""


@contextmanager
def s3_server() -> Iterator[str]:
    """Run moto's server in a process of its own, on a free port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", SERVER, "-H", "127.0.0.1", "-p", str(port)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"{address}/moto-api/", timeout=2).close()
                break
            except OSError:
                if server.poll() is not None:
                    raise RuntimeError("the S3 server did not start") from None
                threading.Event().wait(0.1)
        yield address
    finally:
        server.terminate()
        server.wait(10)


class Lab:
    """A bucket, and the ways in which tests look into it."""

    def __init__(self, address: str, bucket: str) -> None:
        self.options = options(address)
        self.address, self.bucket = address, bucket
        self.url = f"s3://{bucket}/deep/a.zarr"
        self.fs = s3fs.S3FileSystem(**self.options, use_listings_cache=False)

    def names(self, under: str = "deep/a.zarr") -> list[str]:
        prefix = f"{self.bucket}/{under}/"
        return sorted(k[len(prefix) :] for k in self.fs.find(prefix))

    def put(self, key: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.bucket}/{key}", data)

    def by_zarr(self) -> np.ndarray:
        store = zarr.storage.FsspecStore.from_url(self.url, storage_options=dict(self.options))
        return zarr.open_array(store, mode="r")[...]


class Memory:
    """A new place in fsspec's store in memory, and what lies there."""

    def __init__(self) -> None:
        self.fs = fsspec.filesystem("memory")
        self.key = f"/{uuid.uuid4().hex}/a.zarr"
        self.url = f"memory:/{self.key}"

    def names(self) -> list[str]:
        return sorted(k[len(self.key) + 1 :] for k in self.fs.find(self.key))

    def objects(self) -> dict[str, bytes]:
        return {n: self.fs.cat_file(f"{self.key}/{n}") for n in self.names() if ".scout" not in n}

    def put(self, name: str, data: bytes) -> None:
        self.fs.pipe_file(f"{self.key}/{name}", data)


class Failing:
    """Fails the n-th of the writes and removals of objects from now on, and all after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.left, self.log = 10**9, list[str]()
        for name in ("write", "remove"):
            monkeypatch.setattr(RemoteLocation, name, self._wrapped(getattr(RemoteLocation, name)))

    def _wrapped(self, real: Any) -> Any:
        def call(place: RemoteLocation, *args: Any, **kwargs: Any) -> Any:
            if self.left <= 0:
                raise WriteError(f"{place}: on purpose")
            self.left -= 1
            self.log.append(str(place))
            return real(place, *args, **kwargs)

        return call


#: Given method and path, what to do instead of passing a request on: a status, "cut" the
#: connection, give "half" of the answer and cut it, or None.
Fault = Callable[[str, str], Any]

_BODY = b"<?xml version='1.0'?><Error><Code>%s</Code><Message>on purpose</Message></Error>"
_CODES = {403: b"AccessDenied", 500: b"InternalError", 503: b"SlowDown"}


class Request(NamedTuple):
    """A request that was passed on, and what was sent back."""

    method: str
    name: str  # what comes after the last slash, without a query
    span: str  # the Range asked for, or ""
    nbytes: int


@contextmanager
def faulty_proxy(
    address: str,
    fault: Fault,
    seen: list[Request] | None = None,
    expected: list[str] | None = None,
    dropped: Sequence[str] = (),
) -> Iterator[str]:
    """Pass requests on to a server, but for those that ``fault`` has something else for.

    What asked whether it may be sent, by ``Expect``, is noted in ``expected``. Headers whose names,
    in lower case, are ``dropped`` are not passed on.
    """
    host = address.removeprefix("http://")

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_any(self) -> None:
            if expected is not None and self.headers.get("Expect"):
                expected.append(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            wrong = fault(self.command, self.path)
            if wrong == "cut":
                self.connection.shutdown(socket.SHUT_RDWR)
                self.close_connection = True
                return
            if wrong not in (None, "half"):
                data = _BODY % _CODES[wrong]
                self.send_response(wrong)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)
                return
            upstream = HTTPConnection(host)
            try:
                headers = {k: v for k, v in self.headers.items() if k.lower() not in dropped}
                upstream.request(self.command, self.path, body, headers)
                answer = upstream.getresponse()
                data = answer.read()
                self.send_response(answer.status)
                for name, value in answer.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                length = str(len(data))
                if self.command == "HEAD":
                    length = answer.getheader("Content-Length") or "0"
                if seen is not None:
                    name = self.path.partition("?")[0].rpartition("/")[2]
                    seen.append(
                        Request(self.command, name, self.headers.get("Range") or "", len(data))
                    )
                self.send_header("Content-Length", length)
                self.end_headers()
                if wrong == "half":
                    self.wfile.write(data[: len(data) // 2])
                    self.wfile.flush()
                    self.connection.shutdown(socket.SHUT_RDWR)
                    self.close_connection = True
                    return
                self.wfile.write(data)
            finally:
                upstream.close()

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = handle_any

        def log_message(self, *_: Any) -> None:
            pass

    with http_server(Handler) as own:
        yield own
