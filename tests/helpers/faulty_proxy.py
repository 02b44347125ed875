"""An HTTP proxy for tests that stands before a server and makes chosen requests go wrong.

    with FaultyProxy(server_url) as proxy:
        proxy.faults.append(Fault("slow_down", method="PUT", key="records/", times=3))
        ... use proxy.url in place of the server's ...
        assert proxy.faults[0].hits == 3

It speaks HTTP/1.1 with connections that stay open, as S3 clients do, and no TLS.
"""

from __future__ import annotations

import http.client
import random
import re
import socket
import struct
import threading
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Literal
from urllib.parse import unquote, urlsplit

Kind = Literal["error", "slow_down", "denied", "reset", "stall", "half", "lost"]
ANSWERS = {
    "error": (500, "InternalError", "We encountered an internal error. Please try again."),
    "slow_down": (503, "SlowDown", "Please reduce your request rate."),
    "denied": (403, "AccessDenied", "Access Denied"),
}
_OWN_HEADERS = ("connection", "transfer-encoding", "content-length", "expect", "keep-alive")


@dataclass
class Fault:
    """What goes wrong, and for which requests.

    Attributes:
        kind: error, slow_down and denied are S3's answers with status 500, 503 and 403, and the server does
            not see the request; reset breaks the connection, stall never answers, half sends half of the
            body; lost has the server do what is asked and breaks the connection before the answer.
        method: Of the requests meant; None: all.
        key: Regular expression that is searched in the decoded path and query.
        skip: So many of the requests meant go through first.
        times: How many requests it hits; None: all that follow.
        share: Part of the requests meant that it hits, drawn with a fixed seed.
        hits: How many it hit so far.
    """

    kind: Kind
    method: str | None = None
    key: str = ""
    skip: int = 0
    times: int | None = None
    share: float = 1.0
    hits: int = 0
    _random: random.Random = field(default_factory=lambda: random.Random(0), repr=False)

    def strikes(self, method: str, key: str) -> bool:
        """Whether this request goes wrong; counts it."""
        if self.method not in (None, method) or not re.search(self.key, key):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if self.times == self.hits or self._random.random() >= self.share:
            return False
        self.hits += 1
        return True


@dataclass(frozen=True)
class Seen:
    """A request that came in."""

    method: str
    key: str
    signed: bool
    fault: Kind | None


class FaultyProxy:
    """The proxy; a context manager.

    Args:
        target: Address of the server.

    Attributes:
        url: Address of the proxy.
        faults: The first that strikes counts; may be changed at any time.
        seen: Every request so far.
        connections: How many were opened.
    """

    def __init__(self, target: str):
        self.target = urlsplit(target)
        self.faults: list[Fault] = []
        self.seen: list[Seen] = []
        self.connections = 0
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"proxy": self}))
        self._server.daemon_threads = True
        self.closed = threading.Event()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> FaultyProxy:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.closed.set()
        self._server.shutdown()
        self._server.server_close()

    def clear(self) -> None:
        """Forgets all faults and requests."""
        self.faults.clear()
        self.seen.clear()

    def count(self, method: str, key: str = "") -> int:
        """Returns how many requests of a method with a matching path came in."""
        return sum(seen.method == method and re.search(key, seen.key) is not None for seen in self.seen)

    def judge(self, method: str, key: str, signed: bool) -> Kind | None:
        """Notes a request and returns what is to go wrong with it."""
        with self._lock:
            kind = next((fault.kind for fault in self.faults if fault.strikes(method, key)), None)
            self.seen.append(Seen(method, key, signed, kind))
        return kind


class _Handler(BaseHTTPRequestHandler):
    proxy: FaultyProxy
    protocol_version = "HTTP/1.1"
    timeout = 120  # seconds that an idle connection stays open
    _upstream: http.client.HTTPConnection | None = None

    def do_GET(self) -> None:
        body = self._body()
        signed = "Authorization" in self.headers
        kind = self.proxy.judge(self.command, unquote(self.path), signed)
        if kind in ANSWERS:
            status, code, message = ANSWERS[kind]
            text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message></Error>"
            self._answer(status, {"Content-Type": "application/xml"}, text.encode())
        elif kind == "stall":
            self.proxy.closed.wait(120)
            self._reset()
        elif kind == "reset":
            self._reset()
        else:
            status, headers, answer = self._forward(body)
            if kind == "lost":
                self._reset()
            elif kind == "half":
                self._answer(status, headers, answer, len(answer) // 2)
                self.close_connection = True
            else:
                self._answer(status, headers, answer)

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length", 0)))
        parts = []
        while size := int(self.rfile.readline().partition(b";")[0], 16):
            parts.append(self.rfile.read(size))
            self.rfile.readline()
        while self.rfile.readline().strip():  # trailers
            pass
        return b"".join(parts)

    def _forward(self, body: bytes) -> tuple[int, dict[str, str], bytes]:
        if self._upstream is None:
            target = self.proxy.target
            self._upstream = http.client.HTTPConnection(target.hostname, target.port, timeout=120)
        # The Host header stays the client's, since the signature covers it.
        self._upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            if name.lower() not in _OWN_HEADERS:
                self._upstream.putheader(name, value)
        if body or self.command in ("PUT", "POST"):
            self._upstream.putheader("Content-Length", str(len(body)))
        self._upstream.endheaders(body or None)
        response = self._upstream.getresponse()
        answer = response.read()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _OWN_HEADERS}
        if self.command == "HEAD":
            headers["Content-Length"] = response.getheader("Content-Length", "0")
        if response.will_close:
            self._upstream.close()
        return response.status, headers, answer

    def _answer(self, status: int, headers: dict[str, str], body: bytes, sent: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        if "Content-Length" not in headers and status != 204:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:sent])

    def _reset(self) -> None:
        self.close_connection = True
        with suppress(OSError):
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.rfile.close()
            self.wfile.close()
            self.connection.close()  # the last of the three is a reset

    def handle(self) -> None:
        self.proxy.connections += 1
        # Clients that give up are what the tests are about.
        with suppress(ConnectionError, TimeoutError, ValueError):
            super().handle()

    def finish(self) -> None:
        if self._upstream is not None:
            self._upstream.close()
        with suppress(OSError, ValueError):
            super().finish()

    def log_message(self, *_: object) -> None:
        pass
