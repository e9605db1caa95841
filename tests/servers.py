"""HTTP servers on loopback, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import ThreadingHTTPServer
from socket import IPPROTO_TCP, SHUT_RDWR, TCP_NODELAY, socket
from ssl import SSLContext
from typing import Any


class LoopbackServer(ThreadingHTTPServer):
    """Answers as many as ask at once.

    Where the queue is short, the system has a client that finds it full ask again after seconds;
    and it would keep what is written after a head for 40 ms.
    """

    request_queue_size = 256
    daemon_threads = True

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.connections = set[Any]()

    def get_request(self) -> tuple[socket, Any]:
        connection, client = super().get_request()
        connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        self.connections.add(connection)
        return connection, client

    def shutdown_request(self, request: Any) -> None:
        self.connections.discard(request)
        super().shutdown_request(request)

    def hang_up(self) -> None:
        """End the connections that clients keep, and so the threads that wait for more."""
        for connection in list(self.connections):
            with suppress(OSError):
                connection.shutdown(SHUT_RDWR)


@contextmanager
def http_server(handler: Callable[..., Any], tls: SSLContext | None = None) -> Iterator[str]:
    """Run a server on a free port, which ends with the block; give its address."""
    server = LoopbackServer(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"{'https' if tls else 'http'}://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        server.hang_up()
        thread.join(10)
