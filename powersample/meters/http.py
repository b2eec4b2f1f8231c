# SPDX-License-Identifier: Apache-2.0
"""Meters behind HTTP by the standard library: each answer in bounded time and size, certificates verified.

Names and passwords come from the environment, never from an address, which every user of the machine can read. No
redirect is followed: a meter has no reason to send anybody, and its password, elsewhere.
"""

from __future__ import annotations

import base64
import math
import socket
import ssl
import threading
import time
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any

from powersample import errors
from powersample.formats.plugs import parsed
from powersample.meters.connect import connected
from powersample.meters.contract import MeterInfo, power_channel
from powersample.meters.registry import Address

USER, PASSWORD = "POWERSAMPLE_METER_USER", "POWERSAMPLE_METER_PASSWORD"
MOST_BYTES = 1 << 20


class Http:
    """Resources below one URL.

    Args:
        base: http://HOST or https://HOST.
        timeout_s: How long an answer may take, from the look-up of the name to its last byte.
        secret: (user, password) for basic authentication; None without.
        insecure: Do not verify certificates.
    """

    def __init__(
        self, base: str, timeout_s: float, secret: tuple[str, str] | None = None, *, insecure: bool = False
    ) -> None:
        parts = urllib.parse.urlsplit(base)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise errors.InvalidArgument(f"{base!r} is no address; write http://HOST or https://HOST")
        if parts.username or parts.password:
            raise errors.InvalidArgument(
                "the meter's address holds a name or password, which every user of this machine can read",
                f"Set {USER} and {PASSWORD} in the environment.",
            )
        if secret is not None and parts.scheme == "http" and not insecure:
            raise errors.InvalidArgument(
                f"{base}: a password over http can be read on the way", "Use https, or say insecure=yes."
            )
        self.base, self.insecure, self._timeout_s = base.rstrip("/"), insecure, timeout_s
        self._secret = secret is not None
        self._host, self._port, self._root = parts.hostname, parts.port, parts.path.rstrip("/")
        self._context: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._context = ssl.create_default_context()
            if insecure:
                self._context.check_hostname = False
                self._context.verify_mode = ssl.CERT_NONE
        self._headers = {"Accept": "application/json"}
        if secret is not None:
            token = base64.b64encode(f"{secret[0]}:{secret[1]}".encode()).decode("ascii")
            self._headers["Authorization"] = f"Basic {token}"

    def get(self, path: str) -> dict[str, Any]:
        """Return a resource.

        Raises:
            Timeout, DeviceNotFound, AccessDenied, NotSupported, DeviceError, BadFormat: As the answer is.
        """
        where = self.base + path
        # A connection a question, and no proxy: the password is not for whom HTTP_PROXY names.
        deadline_s = time.monotonic() + self._timeout_s
        connection = self._connection()
        late = threading.Event()
        try:
            try:
                line = connection.sock = self._line(connection.port)
            except errors.Timeout:
                raise
            except OSError as error:
                raise self._unreachable(where, error) from error
            left_s = max(0.0, deadline_s - time.monotonic())
            end = threading.Timer(left_s, _cut, (line, late))  # however slowly it trickles in
            end.daemon = True
            end.start()
            try:
                if isinstance(line, ssl.SSLSocket):
                    self._shake_hands(line, where, late)
                connection.request("GET", self._root + path, headers=self._headers)
                answer = connection.getresponse()
                body, status = answer.read(MOST_BYTES + 1), answer.status
            finally:
                end.cancel()
        except errors.PowerSampleError:
            raise
        except (HTTPException, OSError, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise errors.Timeout(f"{where} does not end its answer within {self._timeout_s:g} s") from error
            if isinstance(error, OSError):
                raise errors.DeviceError(f"{where}: {error}") from error
            raise errors.BadFormat(f"{where} does not speak HTTP: {error!r}") from error
        finally:
            connection.close()
        if late.is_set():
            raise errors.Timeout(f"{where} does not end its answer within {self._timeout_s:g} s")
        if status != HTTPStatus.OK:
            raise self._refused(where, status)
        if len(body) > MOST_BYTES:
            raise errors.BadFormat(f"{where} answers with more than {MOST_BYTES} bytes")
        return parsed(body, where)

    def _connection(self) -> HTTPConnection:
        if self._context is None:
            return HTTPConnection(self._host, self._port, timeout=self._timeout_s)
        return HTTPSConnection(self._host, self._port, timeout=self._timeout_s, context=self._context)

    def _line(self, port: int) -> socket.socket:
        """Return a connection, over TLS without having shaken hands yet."""
        plain = connected(self._host, port, self._timeout_s)
        if self._context is None:
            return plain
        try:
            return self._context.wrap_socket(plain, server_hostname=self._host, do_handshake_on_connect=False)
        except BaseException:
            plain.close()
            raise

    def _shake_hands(self, line: ssl.SSLSocket, where: str, late: threading.Event) -> None:
        try:
            line.do_handshake()
        except OSError as error:
            if late.is_set():
                raise
            raise self._unreachable(where, error) from error

    def _refused(self, where: str, status: int) -> errors.PowerSampleError:
        if status in (401, 403):
            fix = "Are name and password right?" if self._secret else f"Redfish: set {USER} and {PASSWORD}."
            return errors.AccessDenied(f"{where} refuses [HTTP {status}]", fix, code=status)
        if status == 404:
            return errors.NotSupported(f"{where} does not exist [HTTP 404]", "Is it another device?", code=status)
        return errors.DeviceError(f"{where} answers with HTTP {status}", code=status)

    def _unreachable(self, where: str, error: OSError) -> errors.PowerSampleError:
        if isinstance(error, TimeoutError):
            return errors.Timeout(f"{where} does not answer within {self._timeout_s:g} s")
        if isinstance(error, ssl.SSLCertVerificationError):
            return errors.AccessDenied(
                f"{where}: the certificate cannot be verified: {error.verify_message}",
                "Add the controller's authority to the system's, or say insecure=yes.",
            )
        return errors.DeviceNotFound(f"{where}: {error}", "Check its address, and that it is on.")


def _cut(connection: socket.socket, late: threading.Event) -> None:
    """End a connection whose time is over: whoever reads from it sees its end."""
    late.set()
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


class HttpMeter:
    """An `Instrument` that is one resource, or a few, of an HTTP server.

    Args:
        address: Where.
        http: Its server.
        find: Return what identifies the device, and the paths to ask; called at each connection.
        watts: Return the watts of each channel from the answers, in the order of the paths.
        facts: What `MeterInfo` says of the kind.
    """

    def __init__(
        self,
        address: Address,
        http: Http,
        find: Callable[[Http], tuple[dict[str, str], str]],
        watts: Callable[[dict[str, Any]], tuple[float, ...]],
        facts: Mapping[str, Any],
    ) -> None:
        self._address, self._http, self._find, self._watts, self._facts = address, http, find, watts, dict(facts)
        self._path = ""

    def connect(self) -> MeterInfo:
        """See `Instrument`."""
        told, self._path = self._find(self._http)
        count = len(self._watts(self._http.get(self._path)))
        parts = [""] if count == 1 else [f"ch{number}" for number in range(1, count + 1)]
        notes = ["asked, not in step with its updates: readings are taken for instants"]
        if self._http.insecure:
            notes.append("its certificate was not verified")
        return MeterInfo(
            name=self._address.name,
            kind=self._address.kind,
            address=str(self._address),
            maker=told.get("maker", ""),
            model=told.get("model", ""),
            serial=told.get("serial", ""),
            firmware=told.get("firmware", ""),
            channels=tuple(
                power_channel(self._address.name, f"{self._address.kind}.power", part=part, span="none")
                for part in parts
            ),
            cycle_s=math.nan,
            simulated=self._address.simulated,
            settings={"path": self._path},
            notes=tuple(notes),
            **self._facts,
        )

    def ask(self) -> tuple[float, ...]:
        """See `Instrument`."""
        return self._watts(self._http.get(self._path))

    def disconnect(self) -> None:
        """See `Instrument`; every question is a connection of its own."""
