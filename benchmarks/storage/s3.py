"""A small S3 server in memory, with settable latency and bandwidth, that counts its requests.

Made for measuring clients, not for storing: it answers the requests that readers and writers
of arrays make (GET with ranges, HEAD, PUT, DELETE, lists, bulk deletes, copies, multipart
uploads, ``If-Match`` and ``If-None-Match``), checks no signature, and computes no hash. Every
answer waits ``latency_s``, and its body, or the request's, takes its length over the bandwidth
of one connection; the bodies of all answers share the bandwidth of one link, where that is set.
``Expect: 100-continue`` costs a wait of its own, as it does on the road.

Runs in a process of its own: ``python -m benchmarks.storage.s3 PORT``. Settings and counts go
by ``POST /_control`` and ``GET /_control``.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

PIECE_NBYTES = 256 * 2**10
MAX_KEYS = 1000


@dataclass
class State:
    """The objects, what is counted, and how slow the server is."""

    objects: dict[str, tuple[bytes, str]] = field(default_factory=dict)
    keys: list[str] = field(default_factory=list)  # sorted
    uploads: dict[str, dict[int, bytes]] = field(default_factory=dict)
    latency_s: float = 0.0
    nbytes_per_s: float = 0.0
    link_nbytes_per_s: float = 0.0
    link_free_at: float = 0.0
    version: int = 0
    counts: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    most_in_flight: int = 0
    area: float = 0.0  # requests in flight, summed over time
    changed_at: float = 0.0
    first_at: float = 0.0
    last_at: float = 0.0
    log: list[tuple[float, float, str]] | None = None  # begin, end and request, where asked for

    def flight(self, change: int) -> None:
        """Count a request that begins or ends."""
        now = time.perf_counter()
        if not self.first_at:
            self.first_at = self.changed_at = now
        self.area += self.in_flight * (now - self.changed_at)
        self.changed_at = self.last_at = now
        self.in_flight += change
        self.most_in_flight = max(self.most_in_flight, self.in_flight)

    def carry(self, nbytes: int, now: float) -> float:
        """Put bytes on the link after those that are on it; give in how many seconds they are over.

        0 where the link has no bound.
        """
        if not self.link_nbytes_per_s:
            return 0.0
        self.link_free_at = max(self.link_free_at, now) + nbytes / self.link_nbytes_per_s
        return self.link_free_at - now

    def put(self, key: str, data: bytes) -> str:
        """Store an object and give its ETag."""
        if key not in self.objects:
            bisect.insort(self.keys, key)
        self.version += 1
        etag = f'"{self.version:032x}"'
        self.objects[key] = (data, etag)
        return etag

    def remove(self, key: str) -> None:
        """Remove an object; none is no error."""
        if self.objects.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]

    def figures(self) -> dict[str, Any]:
        """Give the counts since the last reset."""
        busy = self.last_at - self.first_at
        return {
            "requests": dict(sorted(self.counts.items())),
            "all": sum(self.counts.values()),
            "most_in_flight": self.most_in_flight,
            "mean_in_flight": round(self.area / busy, 2) if busy else 0.0,
            "objects": len(self.objects),
            **({} if self.log is None else {"log": self.log}),
        }

    def reset(self) -> None:
        """Begin to count anew."""
        self.counts.clear()
        self.most_in_flight, self.area = 0, 0.0
        self.first_at = self.last_at = 0.0
        self.log = None if self.log is None else []


class Connection(asyncio.Protocol):
    """One client's connection: a request at a time, as HTTP/1.1 clients send them."""

    def __init__(self, state: State) -> None:
        self.state = state
        self.buffer = bytearray()
        self.head: tuple[str, str, dict[str, str]] | None = None
        self.length = 0

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        sock = transport.get_extra_info("socket")
        sock.setsockopt(6, 1, 1)  # TCP_NODELAY
        transport.set_write_buffer_limits(high=2**26)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        self.advance()

    def advance(self) -> None:
        """Answer the request at the start of the buffer once it is whole."""
        if self.head is None:
            end = self.buffer.find(b"\r\n\r\n")
            if end < 0:
                return
            lines = self.buffer[:end].decode("latin-1").split("\r\n")
            del self.buffer[: end + 4]
            method, target, _ = lines[0].split(" ", 2)
            headers = {
                name.strip().lower(): value.strip()
                for name, _, value in (line.partition(":") for line in lines[1:])
            }
            self.head = (method, target, headers)
            self.length = int(headers.get("content-length") or 0)
            if headers.get("transfer-encoding", "").lower() == "chunked":
                self.length = -1
            self.received_at = time.perf_counter()
            if not target.startswith("/_control"):
                self.state.flight(+1)
            if headers.get("expect", "").lower() == "100-continue":
                self.later(
                    self.state.latency_s,
                    lambda: self.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n"),
                )
        body = self.take_body()
        if body is None:
            return
        method, target, headers = self.head
        self.head = None
        if target.startswith("/_control"):
            self.control(method, body)
            self.advance_if_more()
            return
        if "aws-chunked" in headers.get("content-encoding", ""):
            body = unchunked(body)
        status, extra, answer = self.answer(method, target, headers, body)
        wait = self.state.latency_s
        if body and self.state.nbytes_per_s:
            took = time.perf_counter() - self.received_at
            wait += max(0.0, len(body) / self.state.nbytes_per_s - took)
        if self.state.log is not None:
            now = time.perf_counter()
            row = (self.received_at, now + wait, f"{method} {target} {status[:3]}")
            self.state.log.append(row)
        self.later(wait, lambda: self.send(method, status, extra, answer))

    def take_body(self) -> bytes | None:
        if self.length >= 0:
            if len(self.buffer) < self.length:
                return None
            body = bytes(self.buffer[: self.length])
            del self.buffer[: self.length]
            return body
        end = self.buffer.find(b"0\r\n\r\n")
        if end < 0:
            return None
        body = unchunked(bytes(self.buffer[: end + 5]))
        del self.buffer[: end + 5]
        return body

    def advance_if_more(self) -> None:
        if self.buffer:
            self.advance()

    @staticmethod
    def later(wait_s: float, call: Any) -> None:
        if wait_s > 0:
            asyncio.get_running_loop().call_later(wait_s, call)
        else:
            call()

    def control(self, method: str, body: bytes) -> None:
        state = self.state
        if method == "POST":
            for name, value in json.loads(body or b"{}").items():
                if name == "reset":
                    state.reset()
                elif name == "log":
                    state.log = [] if value else None
                elif name == "clear":
                    state.objects.clear()
                    state.keys.clear()
                elif name == "remove":
                    for key in [k for k in state.keys if k.startswith(value)]:
                        state.remove(key)
                else:
                    setattr(state, name, value)
        data = json.dumps(state.figures()).encode()
        self.transport.write(
            f"HTTP/1.1 200 OK\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data
        )

    def send(
        self, method: str, status: str, extra: dict[str, str], body: bytes | memoryview
    ) -> None:
        """Send an answer, its body no faster than the bandwidth."""
        headers = {"Content-Length": str(len(body)), "Server": "s3", **extra}
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers.items())
        self.transport.write(f"HTTP/1.1 {status}\r\n{lines}\r\n".encode())
        if method == "HEAD" or not len(body):
            self.sent()
            return
        speed = self.state.nbytes_per_s
        if not speed and not self.state.link_nbytes_per_s:
            self.transport.write(body)
            self.sent()
            return
        begun = time.perf_counter()

        def begin(at: int) -> None:
            part = body[at : at + PIECE_NBYTES]
            self.later(self.state.carry(len(part), time.perf_counter()), lambda: piece(at, part))

        def piece(at: int, part: bytes | memoryview) -> None:
            if self.transport.is_closing():
                self.state.flight(-1)
                return
            self.transport.write(part)
            at += len(part)
            due = begun + at / speed - time.perf_counter() if speed else 0
            self.later(due, (lambda: begin(at)) if at < len(body) else self.sent)

        begin(0)

    def sent(self) -> None:
        self.state.flight(-1)
        self.advance_if_more()

    def answer(
        self, method: str, target: str, headers: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], bytes | memoryview]:
        """Carry a request out; give status, headers and body of the answer."""
        state = self.state
        parts = urlsplit(target)
        key = unquote(parts.path).lstrip("/")
        query = {k: v[0] for k, v in parse_qs(parts.query, keep_blank_values=True).items()}
        bucket, _, name = key.partition("/")
        if method == "GET" and not name:
            state.counts["LIST"] += 1
            return "200 OK", {"Content-Type": "application/xml"}, listing(state, bucket, query)
        if method == "POST" and "delete" in query:
            state.counts["DELETE many"] += 1
            text = body.decode()
            names = [p.split("</Key>")[0] for p in text.split("<Key>")[1:]]
            for n in names:
                state.remove(f"{bucket}/{unescape(n)}")
            rows = "".join(f"<Deleted><Key>{n}</Key></Deleted>" for n in names)
            xml = f"<?xml version='1.0'?><DeleteResult>{rows}</DeleteResult>"
            return "200 OK", {"Content-Type": "application/xml"}, xml.encode()
        if "uploads" in query or "uploadId" in query:
            return self.multipart(method, key, query, body)
        state.counts[method] += 1
        if method in ("GET", "HEAD"):
            return fetch(state, key, headers)
        if method == "PUT":
            return store(state, key, headers, body)
        if method == "DELETE":
            state.remove(key)
            return "204 No Content", {}, b""
        return error("405 Method Not Allowed", "MethodNotAllowed")

    def multipart(
        self, method: str, key: str, query: dict[str, str], body: bytes
    ) -> tuple[str, dict[str, str], bytes]:
        state = self.state
        state.counts["MULTIPART"] += 1
        if method == "POST" and "uploads" in query:
            state.version += 1
            upload = str(state.version)
            state.uploads[upload] = {}
            xml = f"<R><UploadId>{upload}</UploadId></R>".replace(
                "R>", "InitiateMultipartUploadResult>"
            )
            return "200 OK", {"Content-Type": "application/xml"}, xml.encode()
        upload = query["uploadId"]
        if method == "PUT":
            state.uploads[upload][int(query["partNumber"])] = body
            return "200 OK", {"ETag": f'"{len(body)}"'}, b""
        whole = state.uploads.pop(upload, {})
        if method == "DELETE":
            return "204 No Content", {}, b""
        etag = state.put(key, b"".join(whole[n] for n in sorted(whole)))
        outer = "CompleteMultipartUploadResult"
        xml = f"<{outer}><ETag>{escape(etag)}</ETag></{outer}>"
        return "200 OK", {"Content-Type": "application/xml"}, xml.encode()


def fetch(
    state: State, key: str, headers: dict[str, str]
) -> tuple[str, dict[str, str], bytes | memoryview]:
    """Answer a GET or a HEAD of an object."""
    found = state.objects.get(key)
    if found is None:
        return error("404 Not Found", "NoSuchKey")
    data, etag = found
    about = {
        "ETag": etag,
        "Last-Modified": "Thu, 01 Jan 2026 00:00:00 GMT",
        "Accept-Ranges": "bytes",
        "Content-Type": "binary/octet-stream",
    }
    if headers.get("if-match", etag) not in (etag, "*"):
        return error("412 Precondition Failed", "PreconditionFailed")
    if headers.get("if-none-match") == etag:
        return "304 Not Modified", about, b""
    span = headers.get("range", "")
    if not span.startswith("bytes="):
        return "200 OK", about, data
    first, _, last = span[6:].partition("-")
    start = int(first) if first else max(0, len(data) - int(last))
    stop = min(int(last) + 1, len(data)) if first and last else len(data)
    if start >= len(data):
        return error("416 Requested Range Not Satisfiable", "InvalidRange")
    about["Content-Range"] = f"bytes {start}-{stop - 1}/{len(data)}"
    return "206 Partial Content", about, memoryview(data)[start:stop]


def store(
    state: State, key: str, headers: dict[str, str], body: bytes
) -> tuple[str, dict[str, str], bytes]:
    """Answer a PUT: of a bucket, of an object, or a copy of one."""
    if "/" not in key.rstrip("/"):
        return "200 OK", {}, b""
    found = state.objects.get(key)
    if headers.get("if-none-match") == "*" and found is not None:
        which = "<Condition>If-None-Match</Condition>"
        return error("412 Precondition Failed", "PreconditionFailed", which)
    wanted = headers.get("if-match")
    if wanted is not None and (found is None or found[1] != wanted):
        return error("412 Precondition Failed", "PreconditionFailed")
    if "x-amz-copy-source" in headers:
        origin = state.objects.get(unquote(headers["x-amz-copy-source"]).lstrip("/"))
        if origin is None:
            return error("404 Not Found", "NoSuchKey")
        etag = state.put(key, origin[0])
        xml = f"<CopyObjectResult><ETag>{escape(etag)}</ETag></CopyObjectResult>"
        return "200 OK", {"Content-Type": "application/xml"}, xml.encode()
    return "200 OK", {"ETag": state.put(key, body)}, b""


def listing(state: State, bucket: str, query: dict[str, str]) -> bytes:
    """Give the answer to ``list-type=2``."""
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token") or query.get("start-after", "")
    most = min(int(query.get("max-keys", MAX_KEYS)), MAX_KEYS)
    at = bisect.bisect_left(state.keys, f"{bucket}/{prefix}")
    if after:
        at = max(at, bisect.bisect_right(state.keys, f"{bucket}/{after}"))
    rows: list[str] = []
    folders: list[str] = []
    token = last = ""
    while at < len(state.keys):
        name = state.keys[at][len(bucket) + 1 :]
        if not state.keys[at].startswith(f"{bucket}/") or not name.startswith(prefix):
            break
        if len(rows) + len(folders) == most:
            token = last
            break
        cut = name.find(delimiter, len(prefix)) if delimiter else -1
        if cut >= 0:
            folder = name[: cut + len(delimiter)]
            folders.append(folder)
            last = folder + "\U0010ffff"
            at = bisect.bisect_left(state.keys, f"{bucket}/{last}")
            continue
        data, etag = state.objects[state.keys[at]]
        rows.append(
            f"<Contents><Key>{escape(name)}</Key><LastModified>2026-01-01T00:00:00.000Z"
            f"</LastModified><ETag>{escape(etag)}</ETag><Size>{len(data)}</Size>"
            "<StorageClass>STANDARD</StorageClass></Contents>"
        )
        last = name
        at += 1
    more = f"<NextContinuationToken>{escape(token)}</NextContinuationToken>" if token else ""
    shared = "".join(
        f"<CommonPrefixes><Prefix>{escape(f)}</Prefix></CommonPrefixes>" for f in folders
    )
    return (
        "<?xml version='1.0' encoding='UTF-8'?>"
        '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
        f"<Name>{bucket}</Name><Prefix>{escape(prefix)}</Prefix><MaxKeys>{most}</MaxKeys>"
        f"<KeyCount>{len(rows) + len(folders)}</KeyCount>"
        f"<IsTruncated>{'true' if token else 'false'}</IsTruncated>{more}"
        f"{''.join(rows)}{shared}</ListBucketResult>"
    ).encode()


def error(status: str, code: str, more: str = "") -> tuple[str, dict[str, str], bytes]:
    """Give an answer that says what is wrong as S3 does."""
    xml = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{code}</Message>{more}</Error>"
    return status, {"Content-Type": "application/xml"}, xml.encode()


def unescape(text: str) -> str:
    """Give text as it was before it went into XML."""
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&amp;", "&")):
        text = text.replace(entity, char)
    return text


def unchunked(body: bytes) -> bytes:
    """Give a body without the lengths, signatures and trailers of ``aws-chunked``."""
    out, at = bytearray(), 0
    while at < len(body):
        end = body.index(b"\r\n", at)
        size = int(body[at:end].split(b";")[0], 16)
        if not size:
            break
        out += body[end + 2 : end + 2 + size]
        at = end + 2 + size + 2
    return bytes(out)


class Server:
    """A running server, as its client sees it."""

    def __init__(self, address: str) -> None:
        self.address = address

    def control(self, **settings: Any) -> dict[str, Any]:
        """Change what the state has, ``reset``, ``clear``, ``remove``; give counts.

        ``latency_s``, ``nbytes_per_s`` of a connection, ``link_nbytes_per_s`` of all.

        ``remove`` says with what the keys of objects begin that are removed; it counts as nothing.
        """
        request = urllib.request.Request(
            f"{self.address}/_control", json.dumps(settings).encode(), method="POST"
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: dict[str, Any] = json.load(answer)
        return found


@contextmanager
def running() -> Iterator[Server]:
    """Run the server in a process of its own, on a free port of loopback."""
    child = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.storage.s3", "0"], stdout=subprocess.PIPE, text=True
    )
    try:
        assert child.stdout is not None
        yield Server(f"http://127.0.0.1:{int(child.stdout.readline())}")
    finally:
        child.terminate()
        child.wait(10)


async def serve(port: int) -> None:
    """Answer until the process is ended; the port is printed first."""
    state = State()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", port, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
