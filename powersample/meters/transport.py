# SPDX-License-Identifier: Apache-2.0
"""Serial ports and TCP connections as descriptors of bytes; the only place that imports `serial`."""

from __future__ import annotations

import errno
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from powersample import errors
from powersample.meters.connect import connected

CONNECT_TIMEOUT_S = 3.0
BREAK_S = 0.25
TTY_FOLDER = Path("/sys/class/tty")


class Port(Protocol):
    """Something that becomes a descriptor of bytes."""

    name: str

    def open(self) -> int:
        """Return a non-blocking descriptor.

        Raises:
            DeviceNotFound, AccessDenied, DeviceError, Timeout: Why not, and what to do.
        """

    def send_break(self) -> bool:
        """Send a serial break, or what stands for it; return False where there is nothing of the kind."""

    def close(self) -> None:
        """Close it; harmless twice."""


class SerialPort:
    """A serial device.

    A pseudo-terminal is one, too: it takes any baud rate and `rtscts`, and ignores breaks.

    Args:
        path: /dev/ttyUSB0.
        baud: Bits a second.
        rtscts: Handshake by RTS and CTS.
        bits: "8N1", "8E1" ...
    """

    def __init__(self, path: str, baud: int = 115200, *, rtscts: bool = False, bits: str = "8N1") -> None:
        self.name, self.baud = path, baud
        self._rtscts, self._bits = rtscts, bits
        self._serial: Any = None

    def open(self) -> int:
        """See `Port`."""
        import serial

        try:
            self._serial = serial.Serial(
                self.name,
                baudrate=self.baud,
                bytesize=int(self._bits[0]),
                parity=self._bits[1],
                stopbits=int(self._bits[2]),
                rtscts=self._rtscts,
                timeout=0,
                exclusive=True,
            )
        except (OSError, ValueError) as error:  # SerialException is an OSError
            raise port_trouble(self.name, self.baud, error) from error
        return int(self._serial.fileno())

    def send_break(self) -> bool:
        """See `Port`."""
        if self._serial is None:
            return False
        try:
            self._serial.send_break(BREAK_S)
        except OSError:  # a device without breaks
            return False
        return True

    def clear_to_send(self) -> bool | None:
        """Return what the other side signals; None where there is no such line, as on a pseudo-terminal."""
        try:
            return None if self._serial is None else bool(self._serial.cts)
        except OSError:
            return None

    def close(self) -> None:
        """See `Port`."""
        port, self._serial = self._serial, None
        if port is not None:
            with suppress(OSError):  # it may have been pulled
                port.close()


class TcpPort:
    """A TCP connection: an instrument's own, or a serial-to-Ethernet server's raw one.

    Args:
        host: Name or address.
        port: Its number.
        break_port: Where `break` may be sent on a connection of its own (LMG600); None where nowhere.
    """

    def __init__(self, host: str, port: int, *, break_port: int | None = None) -> None:
        self.name = f"tcp://{host}:{port}"
        self._host, self._port, self._break_port = host, port, break_port
        self._socket: socket.socket | None = None

    def open(self) -> int:
        """See `Port`."""
        self._socket = self._connect(self._port)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        self._socket.setblocking(False)
        return self._socket.fileno()

    def _connect(self, port: int) -> socket.socket:
        where = f"tcp://{self._host}:{port}"
        try:
            return connected(self._host, port, CONNECT_TIMEOUT_S)
        except errors.Timeout:
            raise
        except TimeoutError as error:
            raise errors.Timeout(
                f"{where} did not answer within {CONNECT_TIMEOUT_S:g} s", "Check address, cable and firewall."
            ) from error
        except socket.gaierror as error:
            raise errors.DeviceNotFound(f"{where}: {error.strerror}", "Check the host's name.") from error
        except OSError as error:
            why = os.strerror(error.errno) if error.errno else str(error)
            raise errors.DeviceNotFound(
                f"{where}: {why} [errno {error.errno}]", "Is the meter on, and its interface set to this port?"
            ) from error

    def send_break(self) -> bool:
        """See `Port`."""
        if self._break_port is None:
            return False
        try:
            with self._connect(self._break_port) as aside:
                aside.sendall(b"break\n")
                return b"ok" in aside.recv(64)
        except (OSError, errors.PowerSampleError):
            return False

    def close(self) -> None:
        """See `Port`."""
        one, self._socket = self._socket, None
        if one is not None:
            one.close()


def port_of(where: str, *, baud: int, rtscts: bool, tcp_port: int, break_port: int | None = None) -> Port:
    """Return the port that an address names: `tcp://HOST[:PORT]`, else a serial device.

    Raises:
        InvalidArgument: It names none.
    """
    if not where:
        raise errors.InvalidArgument("the meter's address names no port; write KIND:/dev/ttyUSB0 or KIND:tcp://HOST")
    if "://" not in where:
        return SerialPort(where, baud, rtscts=rtscts)
    host, port = host_of(where, "tcp", tcp_port)
    return TcpPort(host, port, break_port=break_port)


def host_of(where: str, scheme: str, default_port: int) -> tuple[str, int]:
    """Return host and port of `scheme://HOST[:PORT]`.

    Raises:
        InvalidArgument: It is no such URL.
    """
    try:
        parts = urlsplit(where)
        host, port = parts.hostname, parts.port or default_port
    except ValueError:
        host, port = None, 0
    if not host or parts.scheme != scheme:
        raise errors.InvalidArgument(f"{where!r} is no address; write {scheme}://HOST or {scheme}://HOST:PORT")
    return host, port


def port_trouble(path: str, baud: int, error: OSError | ValueError) -> errors.PowerSampleError:
    """Return what to raise for a serial port that cannot be opened."""
    number = getattr(error, "errno", None)
    if number in (errno.ENOENT, errno.ENXIO, errno.ENODEV):
        return errors.DeviceNotFound(
            f"{path}: no such port [errno {number}]",
            "Is it plugged in? `powersample doctor` lists the ports there are.",
        )
    if number in (errno.EACCES, errno.EPERM):
        group = group_of(path)
        return errors.AccessDenied(
            f"{path} may not be used by this user (group {group}) [errno {number}]",
            f'Join the group: sudo usermod -aG {group} "$USER", then log in again.',
            code=number,
        )
    if number in (errno.EBUSY, errno.EAGAIN) or "exclusively lock" in str(error):
        return errors.DeviceError(f"{path} is in use by another program", "End it; `fuser -v PORT` names it.")
    if number in (errno.ENOTTY, errno.EINVAL) or isinstance(error, ValueError) or "not configure" in str(error):
        return errors.DeviceError(
            f"{path} is no serial port, or has no {baud} baud: {error}", "Name another port, or another baud rate."
        )
    return errors.DeviceError(f"{path} cannot be opened: {error}", code=number)


def group_of(path: str) -> str:
    """Return the group whose members may use a device; "dialout" where it cannot be told."""
    import grp

    try:
        status = os.stat(path)
        if status.st_mode & stat.S_IWGRP:
            return grp.getgrgid(status.st_gid).gr_name
    except (OSError, KeyError):
        pass
    return "dialout"


def latency_timer_ms(path: str, folder: Path = TTY_FOLDER) -> int | None:
    """Return how long an FTDI adapter holds back bytes, ms; None where it does not tell.

    Its default of 16 ms is the width of every stamp; 1 is the least.
    """
    try:
        text = (folder / Path(path).resolve().name / "device/latency_timer").read_text(encoding="ascii")
        return int(text)
    except (OSError, ValueError):
        return None
