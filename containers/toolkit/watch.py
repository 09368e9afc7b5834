"""Detect lost hosts of a job, and tell the other hosts which one was lost and why.

The collective operations of XGBoost and NCCL do not detect lost hosts reliably. In XGBoost 3.2, if a
connection breaks at the end of an operation, the network thread stops and the next operation blocks forever,
despite its timeout (`Loop::Block`). In 80 trials on a busy machine, the first of three hosts was killed; in 9
of them another host hung. NCCL waits for its timeout, then exits the process without a reason.

Therefore each host keeps a separate connection to the first host. A host is lost if its connection closes
without a shutdown message. A host that fails sends its reason before it closes the connection, and all hosts
report that reason.
"""

from __future__ import annotations

import contextlib
import math
import socket
import socketserver
import threading
import time
from collections.abc import Callable
from io import BufferedIOBase

from .failure import FatalError
from .sagemaker import Cluster

PORT = 9098
KEEPALIVE = {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 15, "TCP_KEEPCNT": 4}
"""An instance that fails without closing its connection counts as lost after 75 seconds of silence."""

SHUTDOWN = b"shutdown\n"
FAILED = b"failed "
"""Prefix of a message with a host's failure reason."""

LONGEST = 8192
"""Maximum size of a message (one line) in bytes. A reason has at most 1,024 characters."""


class Watch:
    """The connection of a host to the first host; on the first host, the connections to all other hosts.

    :param on_loss: called once, on another thread, when a host is lost. Default: does nothing
    """

    def __init__(self, cluster: Cluster, on_loss: Callable[[], None] = lambda: None) -> None:
        self.lost: str | None = None
        """The host that was lost first: it failed, or its connection closed without a shutdown message"""
        self.reason: str | None = None
        """Failure reason that the lost host sent; None if it sent none"""
        self.joined: set[str] = set()
        """Hosts connected to this host: on the first host all other hosts, elsewhere only the first host"""
        self._lost_at = math.inf
        self.cluster, self._on_loss = cluster, on_loss
        # connections: on the first host to all other hosts, elsewhere to the first host
        self._lines: list[socket.socket] = []
        self._last_words = b""
        self._ended: set[str] = set()
        self._guard = threading.Lock()

    def start(self) -> None:
        """Connect to the first host; on the first host, listen. Raises `FatalError` if the port is in use."""
        follow = self._listen() if self.cluster.first else self._call
        threading.Thread(target=follow, daemon=True).start()

    @property
    def alone(self) -> bool:
        """Whether all other hosts have ended, successfully or not. Valid on the first host only."""
        return len(self._ended) == self.cluster.size - 1

    def missing_for(self) -> float:
        """Return the seconds since a host was lost; negative if no host was lost."""
        return time.monotonic() - self._lost_at

    def shut_down(self) -> None:
        """Tell the other hosts that this host is done, so that they do not consider it lost."""
        self._end(SHUTDOWN)

    def fail(self, reason: str) -> None:
        """Tell the other hosts why this host failed."""
        self._end(FAILED + f"{self.cluster.host} {' '.join(reason.split())}\n".encode())

    def _end(self, words: bytes) -> None:
        with self._guard:
            self._last_words = words
            for line in self._lines:
                _tell(line, words)

    def _join(self, line: socket.socket, host: str, words: bytes = b"") -> None:
        with self._guard:
            self._lines.append(line)
            if self.lost is not None:
                words += self._loss()
            _tell(line, words + self._last_words)
            self.joined = self.joined | {host}

    def _miss(self, host: str, reason: str | None = None) -> None:
        with self._guard:
            if self.lost is not None:
                return
            self.lost, self.reason, self._lost_at = host, reason, time.monotonic()
            if self.cluster.first:
                for line in self._lines:
                    _tell(line, self._loss())
        self._on_loss()

    def _loss(self) -> bytes:
        """Return the message by which the first host tells the others about the lost host."""
        return (
            (FAILED + f"{self.lost} {self.reason}\n".encode()) if self.reason else f"{self.lost}\n".encode()
        )

    def _hear(self, words: bytes, host: str) -> None:
        """Process a connection's last message: a host's failure, or a shutdown. Without either, `host` is
        lost."""
        if words.startswith(FAILED):
            host, _, reason = words.removeprefix(FAILED).decode(errors="replace").strip().partition(" ")
            self._miss(host, reason)
        elif words != SHUTDOWN:
            self._miss(host)

    # --- on the first host ---

    def _listen(self) -> Callable[[], None]:
        watch = self

        class Line(socketserver.StreamRequestHandler):
            def handle(self) -> None:
                _keep_alive(self.connection)
                host = _heard(self.rfile).decode(errors="replace").strip()
                if host not in watch.cluster.hosts:
                    return
                watch._join(self.connection, host)
                watch._hear(_heard(self.rfile), host)
                watch._ended.add(host)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        first = self.cluster.host
        try:
            server = Server((socket.gethostbyname(first), PORT), Line)
        except OSError as error:
            raise FatalError(f"host {first} cannot listen on port {PORT}: {error.strerror}") from None
        return server.serve_forever

    # --- on the other hosts ---

    def _call(self) -> None:
        first = self.cluster.hosts[0]
        while True:  # hosts start in any order; the job decides how long to wait for connections
            try:
                connection = socket.create_connection((first, PORT), timeout=10)
                break
            except OSError:
                time.sleep(0.5)
        connection.settimeout(None)
        _keep_alive(connection)
        self._join(connection, first, f"{self.cluster.host}\n".encode())
        heard = _heard(connection.makefile("rb"))
        self._hear(heard, heard.decode(errors="replace").strip() or first)


def _tell(line: socket.socket, words: bytes) -> None:
    with contextlib.suppress(OSError):  # the reader of this connection detects that it is closed
        line.sendall(words)


def _heard(reader: BufferedIOBase) -> bytes:
    """Return the next message; empty if the connection is closed."""
    try:
        return reader.readline(LONGEST)
    except OSError:
        return b""


def _keep_alive(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in KEEPALIVE.items():
        if hasattr(socket, name):  # not available on every system
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
