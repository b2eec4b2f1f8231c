# SPDX-License-Identifier: Apache-2.0
"""The simulated meter's end of its line: a pseudo-terminal or a TCP port, which can be pulled and plugged in again."""

from __future__ import annotations

import contextlib
import os
import pty
import shutil
import socket
import tempfile
import termios
import tty
from pathlib import Path

from powersample.errors import DeviceError, OutputExists

READ_BYTES = 4096
SPEEDS = {
    getattr(termios, f"B{baud}"): baud
    for baud in (9600, 19200, 38400, 57600, 115200, 230400)
    if hasattr(termios, f"B{baud}")
}


class Line:
    """What the meter's loop reads and writes; nothing blocks."""

    address = ""

    def plug(self) -> None:
        """Be there."""
        raise NotImplementedError

    def unplug(self) -> None:
        """Be gone."""
        raise NotImplementedError

    def close(self) -> None:
        """Be gone for good."""
        self.unplug()

    def descriptors(self) -> list[int]:
        """Return what to wait for bytes on."""
        raise NotImplementedError

    def read(self, descriptor: int) -> bytes:
        """Return what came there; b"" for nothing."""
        raise NotImplementedError

    def write(self, data: bytes) -> int:
        """Return how many bytes went out; bytes to nobody are gone."""
        raise NotImplementedError

    def host_baud(self) -> int | None:
        """Return what the other side thinks the baud rate is; None where there is none."""
        return None

    def broke(self) -> bool:
        """Return whether a break has come since the last call."""
        return False


class PtyLine(Line):
    """A pseudo-terminal behind a symbolic link that stays when the terminal changes, as udev's names do."""

    def __init__(self, path: Path | None = None) -> None:
        self._folder = tempfile.mkdtemp(prefix="powersample-meter-") if path is None else None
        self.path = Path(self._folder) / "ttyLMG" if self._folder else path
        self._master = self._slave = -1
        self.plug()

    @property
    def address(self) -> str:  # type: ignore[override]
        """The link's path."""
        return str(self.path)

    def plug(self) -> None:
        """See `Line`.

        Raises:
            OutputExists: There is something else of that name.
        """
        if self._master >= 0:
            return
        assert self.path is not None
        if self.path.exists() and not self.path.is_symlink():
            raise OutputExists(f"{self.path} exists, and is no link to a terminal", "Choose another name.")
        self._master, self._slave = pty.openpty()
        tty.setraw(self._slave)  # else LF and CR are mangled
        os.set_blocking(self._master, False)
        self.path.unlink(missing_ok=True)
        self.path.symlink_to(os.ttyname(self._slave))

    def unplug(self) -> None:
        """See `Line`."""
        if self._master < 0:
            return
        assert self.path is not None
        self.path.unlink(missing_ok=True)
        for one in (self._slave, self._master):
            os.close(one)
        self._master = self._slave = -1

    def close(self) -> None:
        """See `Line`."""
        self.unplug()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)

    def descriptors(self) -> list[int]:
        """See `Line`."""
        return [self._master] if self._master >= 0 else []

    def read(self, descriptor: int) -> bytes:
        """See `Line`."""
        with contextlib.suppress(OSError):
            return os.read(descriptor, READ_BYTES)
        return b""

    def write(self, data: bytes) -> int:
        """See `Line`."""
        if self._master < 0:
            return len(data)
        try:
            return os.write(self._master, data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def host_baud(self) -> int | None:
        """See `Line`."""
        return SPEEDS.get(termios.tcgetattr(self._slave)[4]) if self._slave >= 0 else None


class TcpLine(Line):
    """A TCP port for one client at a time: a newer one takes over. `break_port`: also one for an LMG600's breaks."""

    def __init__(self, port: int = 0, *, break_port: int | None = None) -> None:
        self._port, self._break_port = port, break_port
        self._server: socket.socket | None = None
        self._aside: socket.socket | None = None
        self._client: socket.socket | None = None
        self._broke = False
        self.plug()

    @property
    def address(self) -> str:  # type: ignore[override]
        """The URL."""
        return f"tcp://127.0.0.1:{self._port}"

    @property
    def break_port(self) -> int | None:
        """Where breaks are taken."""
        return self._break_port

    def plug(self) -> None:
        """See `Line`.

        Raises:
            DeviceError: The port is taken, or not for this user.
        """
        if self._server is not None:
            return
        try:
            self._server = socket.create_server(("127.0.0.1", self._port))
        except OSError as error:
            raise DeviceError(
                f"TCP port {self._port} cannot be taken: {os.strerror(error.errno or 0)} [errno {error.errno}]",
                "Choose another; 0 takes a free one.",
            ) from error
        self._server.setblocking(False)
        self._port = self._server.getsockname()[1]
        if self._break_port is not None:
            self._aside = socket.create_server(("127.0.0.1", self._break_port))
            self._break_port = self._aside.getsockname()[1]

    def unplug(self) -> None:
        """See `Line`."""
        for one in (self._client, self._server, self._aside):
            if one is not None:
                one.close()
        self._client = self._server = self._aside = None

    def descriptors(self) -> list[int]:
        """See `Line`."""
        return [one.fileno() for one in (self._server, self._client, self._aside) if one is not None]

    def read(self, descriptor: int) -> bytes:
        """See `Line`."""
        with contextlib.suppress(OSError):
            if self._aside is not None and descriptor == self._aside.fileno():
                self._take_break(self._aside)
            elif self._server is not None and descriptor == self._server.fileno():
                newer, _ = self._server.accept()
                newer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                newer.setblocking(False)
                if self._client is not None:
                    self._client.close()
                self._client = newer
            elif self._client is not None:
                data = self._client.recv(READ_BYTES)
                if data:
                    return data
                self._client.close()
                self._client = None
        return b""

    def _take_break(self, server: socket.socket) -> None:
        peer, _ = server.accept()
        with peer:
            peer.settimeout(1.0)
            if peer.recv(64).strip() == b"break":
                self._broke = True
                peer.sendall(b"0 ok\n")

    def write(self, data: bytes) -> int:
        """See `Line`."""
        if self._client is None:
            return len(data)
        try:
            return self._client.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            return len(data)

    def broke(self) -> bool:
        """See `Line`."""
        broke, self._broke = self._broke, False
        return broke
