"""A small HTTP server of volumes: loopback unless asked, behind a token, read only."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Mapping
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

from scout_dask_io.errors import ArgumentError
from scout_dask_io.run.progress import say
from scout_dask_io.view.volume import ServedVolume

# Chunks that are read at the same time: a browser asks for dozens at once.
READERS = 2
# How long :meth:`VolumeServer.close` may wait for the listener to look up.
_LOOK_S = 0.05


class _Listener(ThreadingHTTPServer):
    # With a queue of 5, the system has a browser that opens more connections at once ask again
    # after a second.
    request_queue_size = 128
    daemon_threads = True


class VolumeServer:
    """Serves volumes at ``http://host:port/TOKEN/KEY`` until it is closed.

    Parameters
    ----------
    volumes : mapping of str to ServedVolume
        By the key that stands in the address.
    host : str
        Address to listen on.
    port : int
        0 is any that is free.

    Raises
    ------
    ArgumentError
        If it cannot listen there.
    """

    def __init__(
        self, volumes: Mapping[str, ServedVolume], host: str = "127.0.0.1", port: int = 0
    ) -> None:
        self._volumes = dict(volumes)
        self._token = secrets.token_urlsafe(24)
        self._slots = threading.BoundedSemaphore(READERS)
        self._told: set[str] = set()
        self._connections: set[socket.socket] = set()
        self._closed = False
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            # A body is sent when it is there, not 40 ms after its head.
            disable_nagle_algorithm = True

            def handle(self) -> None:
                server._connections.add(self.connection)
                try:
                    super().handle()
                finally:
                    server._connections.discard(self.connection)

            def do_GET(self) -> None:
                server._answer(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        try:
            self._http = _Listener((host, port), Handler)
        except (OSError, OverflowError) as err:
            raise ArgumentError(f"cannot listen on {host}:{port}: {err}") from err
        self._thread = threading.Thread(
            target=self._http.serve_forever,
            args=(_LOOK_S,),
            name="scout-dask-io-view",
            daemon=True,
        )
        self._thread.start()

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self._http.server_address[1])

    def url(self, key: str, host: str) -> str:
        """Give the address of a volume, as a browser reaches it by ``host``."""
        return f"http://{host}:{self.port}/{self._token}/{key}"

    def close(self) -> None:
        """Stop listening, and hang up on those who are connected."""
        self._closed = True
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()
        # Browsers keep connections, and would be answered on them until they let go.
        for connection in list(self._connections):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _answer(self, request: BaseHTTPRequestHandler) -> None:
        body: bytes | None = None
        token, volume, path, status = "", None, "", 404
        try:
            token, _, rest = unquote(urlsplit(request.path).path).lstrip("/").partition("/")
        except ValueError:
            status = 400
        else:
            key, _, path = rest.partition("/")
            volume = None if self._closed else self._volumes.get(key)
        if secrets.compare_digest(token.encode(), self._token.encode()) and volume is not None:
            try:
                with self._slots:
                    body = volume.file(path)
                status = 404 if body is None else 200
            except Exception as err:
                status, body = 500, str(err).encode()
                self._tell(f"{volume.name}: {err}")
        body = body or b""
        try:
            request.send_response(status)
            # The page comes from another port; the token keeps other pages out.
            request.send_header("Access-Control-Allow-Origin", "*")
            request.send_header("Content-Length", str(len(body)))
            request.end_headers()
            request.wfile.write(body)
        except (BrokenPipeError, ConnectionResetError):
            pass  # the browser no longer wants it

    def _tell(self, what: str) -> None:
        """Report each fault once: a browser asks again and again."""
        if what not in self._told:
            self._told.add(what)
            say(f"warning: {what}")
