# SPDX-License-Identifier: Apache-2.0
"""VISA resources as lines of text; the only place that imports `pyvisa`.

pyvisa-py reaches USB, Ethernet and serial instruments without NI-VISA; another backend is chosen by `backend=`.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from powersample import errors
from powersample.meters.connect import bounded

LEAST_OPEN_S = 3.0  # a name is looked up and a port mapper asked, which not every backend ends by the time it is told


class VisaLines:
    """A VISA resource that is asked in lines.

    Args:
        resource: As VISA writes it: TCPIP::10.0.0.5::INSTR.
        backend: pyvisa's word for the library: "@py".
        timeout_s: How long an answer may take.
    """

    def __init__(self, resource: str, backend: str = "@py", timeout_s: float = 2.0) -> None:
        import pyvisa

        self._pyvisa = pyvisa
        self.name, self._backend, self.timeout_s = resource, backend, timeout_s
        self._resource: Any = None
        self._manager: Any = None

    def open(self) -> None:
        """Open the resource.

        Raises:
            DeviceNotFound: There is none, or the backend cannot reach it.
            Timeout: The backend did not say so in time.
        """
        limit_s = max(self.timeout_s, LEAST_OPEN_S)
        try:
            self._resource, self._manager = bounded(self._opened, limit_s, self._given_back)
        except TimeoutError as error:
            raise errors.Timeout(
                f"{self.name} could not be opened within {limit_s:g} s", "Check address, cable and firewall."
            ) from error
        except Exception as error:  # a backend raises what its transports raise: VisaIOError, OSError, ValueError ...
            raise errors.DeviceNotFound(
                f"no instrument at {self.name}: {error}",
                "`pyvisa-info` tells what the backend can reach; `pyvisa-shell` lists resources.",
            ) from error

    def _opened(self) -> tuple[Any, Any]:
        """Return the resource and its manager. All in one thread: nobody closes what another one is opening still."""
        resource, manager = None, self._pyvisa.ResourceManager(self._backend)
        timeout_ms = round(self.timeout_s * 1e3)
        try:
            resource = manager.open_resource(
                self.name, open_timeout=timeout_ms, read_termination="\n", write_termination="\n"
            )
            resource.timeout = timeout_ms
        except BaseException:
            self._given_back((resource, manager))
            raise
        return resource, manager

    def write(self, text: str) -> None:
        """Send a line. Raises as `ask`."""
        self._guarded(lambda: self._resource.write(text), text)

    def ask(self, text: str) -> str:
        """Send a line and return the answer.

        Raises:
            Timeout: There is none.
            DeviceError: The connection is gone.
            BadFormat: It is no text.
        """
        self.write(text)
        # Raw, because `read` warns where a device ends its answer by VISA's own end flag and no line end.
        return str(self._guarded(lambda: self._resource.read_raw().decode("ascii"), text)).strip()

    def _guarded(self, call: Any, text: str) -> Any:
        try:
            return call()
        except self._pyvisa.errors.VisaIOError as error:
            if error.error_code == self._pyvisa.constants.StatusCode.error_timeout:
                raise errors.Timeout(
                    f"{self.name} does not answer {text!r} within {self.timeout_s:g} s",
                    code=int(error.error_code),
                ) from error
            raise errors.DeviceError(f"{self.name}: {error.description}", code=int(error.error_code)) from error
        except UnicodeDecodeError as error:
            raise errors.BadFormat(f"{self.name} answers {text!r} with bytes that are no text") from error
        except (self._pyvisa.errors.Error, OSError, AttributeError) as error:
            raise errors.DeviceError(f"{self.name}: {error}") from error

    def close(self) -> None:
        """Close it; harmless twice."""
        opened, self._resource, self._manager = (self._resource, self._manager), None, None
        self._given_back(opened)

    @staticmethod
    def _given_back(opened: tuple[Any, Any]) -> None:
        """Close a resource and its manager, whatever the backend raises for one that was pulled."""
        for one in opened:
            if one is not None:
                with suppress(Exception):
                    one.close()
