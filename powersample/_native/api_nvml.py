# SPDX-License-Identifier: Apache-2.0
"""NVML's C functions as Python: a loaded library, what it tells of its boards, and a source for each."""

from __future__ import annotations

import os
from dataclasses import dataclass

from powersample._native.api import Source, _check, _Owner, _path, _text
from powersample._native.door import ffi, lib


@dataclass(frozen=True, slots=True)
class NvmlDevice:
    """What NVML tells of one board; None where the library does not."""

    index: int
    name: str
    uuid: str
    pci_bus_id: str
    architecture: str | None
    power_limit_w: float | None
    power_limit_default_w: float | None
    power_limit_min_w: float | None
    power_limit_max_w: float | None
    persistence: bool | None
    mig: bool | None
    compute_processes: int | None


class Nvml(_Owner):
    """A loaded libnvidia-ml.

    Args:
        library: Path or name for dlopen. None takes the driver's, if there is any sign of one.

    Raises:
        DeviceNotFound: No library, no driver, or the library lacks what is indispensable.
        DeviceError: The library loads and refuses to initialise.
    """

    def __init__(self, library: str | os.PathLike[str] | None = None) -> None:
        out, error = ffi.new("ps_nvml **"), ffi.new("ps_error *")
        _check(lib.ps_nvml_open(_path(library), out, error), error)
        super().__init__(out[0], lib.ps_nvml_close)

    def count(self) -> int:
        """Return the number of GPUs."""
        out, error = ffi.new("uint32_t *"), ffi.new("ps_error *")
        _check(lib.ps_nvml_count(self.pointer, out, error), error)
        return int(out[0])

    def describe(self, index: int) -> NvmlDevice:
        """Return what NVML says of GPU `index`."""
        out, error = ffi.new("ps_nvml_device *"), ffi.new("ps_error *")
        _check(lib.ps_nvml_describe(self.pointer, index, out, error), error)

        def watts(milliwatts: int) -> float | None:
            return milliwatts / 1000 if milliwatts else None

        def known(value: int) -> int | None:
            return value if value >= 0 else None

        persistence, mig = known(out.persistence), known(out.mig)
        return NvmlDevice(
            index=int(out.index),
            name=_text(out.name),
            uuid=_text(out.uuid),
            pci_bus_id=_text(out.pci_bus_id),
            architecture=_text(out.architecture) or None,
            power_limit_w=watts(out.power_limit_mw),
            power_limit_default_w=watts(out.power_limit_default_mw),
            power_limit_min_w=watts(out.power_limit_min_mw),
            power_limit_max_w=watts(out.power_limit_max_mw),
            persistence=None if persistence is None else bool(persistence),
            mig=None if mig is None else bool(mig),
            compute_processes=known(out.compute_processes),
        )

    def versions(self) -> tuple[str, str, bool]:
        """Return (driver version, library version, whether this is the project's stand-in)."""
        driver, library = ffi.new("char[96]"), ffi.new("char[96]")
        simulated, error = ffi.new("int32_t *"), ffi.new("ps_error *")
        _check(lib.ps_nvml_versions(self.pointer, driver, 96, library, 96, simulated, error), error)
        return _text(driver), _text(library), bool(simulated[0])

    def source(self, index: int) -> Source:
        """Return a source that reads GPU `index`."""
        out, error = ffi.new("ps_source **"), ffi.new("ps_error *")
        _check(lib.ps_nvml_source_new(self.pointer, index, out, error), error)
        return Source(out[0])
