"""HTTP servers on loopback, for tests."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import ThreadingHTTPServer
from socket import IPPROTO_TCP, TCP_NODELAY, socket
from ssl import SSLContext
from typing import Any


class LoopbackServer(ThreadingHTTPServer):
    """Answers as many as ask at once.

    Where the queue is short, the system has a client that finds it full ask again after seconds;
    and it would keep what is written after a head for 40 ms.
    """

    request_queue_size = 256
    daemon_threads = True

    def get_request(self) -> tuple[socket, Any]:
        connection, client = super().get_request()
        connection.setsockopt(IPPROTO_TCP, TCP_NODELAY, 1)
        return connection, client


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
        thread.join(10)
