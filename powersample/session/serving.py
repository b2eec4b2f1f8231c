# SPDX-License-Identifier: Apache-2.0
"""Metrics over HTTP and into a textfile, asked for by anybody at any time, and never at a device's cost."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import socket
import threading
import time
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from powersample.errors import AccessDenied, InvalidArgument, SystemFailure

PATH = "/metrics"
AT_ONCE = 16  # requests that are answered at a time; more are told to come again
PATIENCE_S = 10.0  # from a client's first byte to the answer's last, however little comes at a time
PAGE = b"<!doctype html><title>powersample</title><p>powersample: <a href=/metrics>metrics</a></p>\n"

Exposition = Callable[[str | None], tuple[bytes, str]]  # of an Accept header: the metrics and their type


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of "HOST:PORT", ":PORT" for this machine only, or "[::1]:PORT".

    Raises:
        InvalidArgument: It is none of these.
    """
    found = re.fullmatch(r"(?:\[([0-9a-fA-F:.%\w]+)\]|([^:\[\]]*)):(\d{1,5})", text)
    if found is None or int(found[3]) > 65535:
        raise InvalidArgument(f"--listen {text}: HOST:PORT, such as 127.0.0.1:10188 or [::1]:10188")
    return found[1] or found[2] or "127.0.0.1", int(found[3])


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches an address that a server is bound to."""
    return address.startswith("127.") or address == "::1"


class MetricsServer(ThreadingHTTPServer):
    """Answers GET and HEAD of `/metrics`, a thread each, `AT_ONCE` at most, and none for longer than `PATIENCE_S`.

    Args:
        host: Name or address to listen at.
        port: And the port; 0 takes a free one.
        exposition: What is answered.
        on_trouble: Told why that could not be made, and None when it could.

    Raises:
        SystemFailure: The port is taken, by whom where that can be told; or the name is unknown.
        AccessDenied: A port below 1024, without the right to it.
    """

    daemon_threads = True
    request_queue_size = 64

    def __init__(
        self,
        host: str,
        port: int,
        exposition: Exposition,
        on_trouble: Callable[[str | None], None] = lambda _: None,
    ) -> None:
        self.exposition, self.on_trouble = exposition, on_trouble
        self.slots = threading.BoundedSemaphore(AT_ONCE)
        self._begun_s: dict[socket.socket, float] = {}  # requests that are being answered
        try:
            family, *_, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
            self.address_family = family
            super().__init__(where[:2], _Handler)  # type: ignore[arg-type]  # of AF_INET and AF_INET6 both
        except socket.gaierror as error:
            raise SystemFailure(f"--listen {host}:{port}: {error.strerror}", code=error.errno) from error
        except OSError as error:
            raise _refusal(host, port, error) from error

    @property
    def url(self) -> str:
        """Where the metrics are."""
        host, port = self.server_address[:2]
        return f"http://{f'[{host!s}]' if ':' in str(host) else str(host)}:{port}{PATH}"

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer in a thread, or at once that there are too many."""
        if not self.slots.acquire(blocking=False):
            request.setblocking(False)
            with contextlib.suppress(BlockingIOError):
                request.recv(1 << 16)  # what is left unread at the close would take the answer with it
            request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n")
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread could be started, whose end would make room
            self.slots.release()
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer, and make room for the next."""
        try:
            self._begun_s[request] = time.monotonic()
            super().process_request_thread(request, client_address)
        finally:
            del self._begun_s[request]
            self.slots.release()

    def service_actions(self) -> None:
        """Hang up on who has had time enough: a timeout of the socket would begin anew at every byte."""
        over_s = time.monotonic() - PATIENCE_S
        for request in [one for one, begun_s in list(self._begun_s.items()) if begun_s < over_s]:
            with contextlib.suppress(OSError):  # it has just ended by itself
                request.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Pass over a client that left or never spoke."""


class _Handler(BaseHTTPRequestHandler):
    server: MetricsServer
    server_version = "powersample"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the metrics, or the page that leads there."""
        path = self.path.partition("?")[0]
        if path == PATH:
            self._metrics()
        elif path == "/":
            self._answer(HTTPStatus.OK, PAGE, "text/html; charset=utf-8")
        else:
            self._answer(HTTPStatus.NOT_FOUND, f"there is only {PATH} here\n".encode(), "text/plain; charset=utf-8")

    def do_HEAD(self) -> None:
        """Answer as GET, without the body."""
        self.do_GET()

    def _metrics(self) -> None:
        try:
            body, kind = self.server.exposition(self.headers.get("Accept"))
        except Exception as error:  # whatever it is: a scrape that fails unheard is a node that seems to be gone
            trouble = f"the metrics cannot be made: {type(error).__name__}: {error}"
            self.server.on_trouble(trouble)
            text = f"powersample: {trouble}\n".encode(errors="replace")
            self._answer(HTTPStatus.INTERNAL_SERVER_ERROR, text, "text/plain; charset=utf-8")
            return
        self.server.on_trouble(None)
        self._answer(HTTPStatus.OK, body, kind)

    def _answer(self, status: HTTPStatus, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, *_: Any) -> None:
        """Keep quiet: a scrape each few seconds is no news."""


def _refusal(host: str, port: int, error: OSError) -> Exception:
    where = f"{host}:{port}"
    if error.errno == errno.EADDRINUSE:
        owner = port_owner(port)
        by = f" by {owner}" if owner else "; whose it is only root can see"
        return SystemFailure(f"{where} is taken{by}", "Listen elsewhere: --listen 127.0.0.1:PORT.", code=error.errno)
    if error.errno == errno.EACCES:
        return AccessDenied(f"{where}: this user may not listen at ports below 1024", "Take a higher one.")
    return SystemFailure(f"--listen {where}: {error.strerror}", code=error.errno)


def port_owner(port: int, proc: Path = Path("/proc")) -> str | None:
    """Return "NAME (pid N)" of the process that listens at a TCP port, None where this user cannot see it."""
    inodes = set()
    for table in ("net/tcp", "net/tcp6"):
        try:
            rows = [line.split() for line in (proc / table).read_text().splitlines()[1:]]
        except OSError:
            continue
        inodes |= {row[9] for row in rows if row[3] == "0A" and int(row[1].rpartition(":")[2], 16) == port}
    wanted = {f"socket:[{inode}]" for inode in inodes}
    for process in proc.glob("[0-9]*") if wanted else ():
        try:
            if any(os.readlink(fd) in wanted for fd in (process / "fd").iterdir()):
                return f"{(process / 'comm').read_text().strip()} (pid {process.name})"
        except OSError:  # another user's, or gone meanwhile
            continue
    return None
