# SPDX-License-Identifier: Apache-2.0
"""VISA resources as lines of text; the only place that imports `pyvisa`.

pyvisa-py reaches USB, Ethernet and serial instruments without NI-VISA; another backend is chosen by `backend=`.
"""

from __future__ import annotations

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
            manager = self._manager = self._pyvisa.ResourceManager(self._backend)
            self._resource = bounded(
                lambda: manager.open_resource(
                    self.name, open_timeout=round(self.timeout_s * 1e3), read_termination="\n", write_termination="\n"
                ),
                limit_s,
                lambda late: late.close(),
            )
            self._resource.timeout = round(self.timeout_s * 1e3)
        except TimeoutError as error:
            self.close()
            raise errors.Timeout(
                f"{self.name} could not be opened within {limit_s:g} s", "Check address, cable and firewall."
            ) from error
        except Exception as error:  # a backend raises what its transports raise: VisaIOError, OSError, ValueError ...
            self.close()
            raise errors.DeviceNotFound(
                f"no instrument at {self.name}: {error}",
                "`pyvisa-info` tells what the backend can reach; `pyvisa-shell` lists resources.",
            ) from error

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
        resource, self._resource = self._resource, None
        manager, self._manager = self._manager, None
        for one in (resource, manager):
            if one is not None:
                try:
                    one.close()
                except (self._pyvisa.errors.Error, OSError):
                    continue  # it may have been pulled
