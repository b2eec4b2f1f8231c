# SPDX-License-Identifier: Apache-2.0
"""A Python thread that polls the power: through pynvml, as most tools do, or through cuda.bindings.

Most tools ask `nvmlDeviceGetPowerUsage`. What the native sampler reads on the same board is field 186; the thread that
asks for that, too, tells the sampler's share of a difference from the field's.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable
from types import MappingProxyType, SimpleNamespace
from typing import Any

import numpy as np

from powersample import errors
from powersample.experiments.baselines.base import ByTrapezoid, Samples
from powersample.experiments.baselines.binding import NvmlBinding


class _Polling(ByTrapezoid):
    """A thread of this interpreter that calls a function for milliwatts on a grid that late calls move."""

    reads = "PowerUsage"

    def __init__(self, gpu: int, asked_hz: float, meaning: str) -> None:
        self.asked_hz = asked_hz
        if meaning:
            self.reads = f"{self.reads} ({meaning})"
        self._gpu = gpu
        self._t_ns: list[int] = []
        self._milliwatts: list[int] = []
        self._wrong: Counter[str] = Counter()
        self._cpu_s = 0.0
        self._end = threading.Event()
        self._thread: threading.Thread | None = None

    def _open(self) -> tuple[Callable[[Any], int], Any, type[Exception]]:
        """Return the function, the device to call it with, and what it raises."""
        raise NotImplementedError

    def _close(self) -> None:
        raise NotImplementedError

    def start(self) -> None:
        """Initialise NVML and start the thread.

        Raises:
            NotSupported: The binding or the library will not work here.
        """
        try:
            opened = self._open()
        except BaseException:  # such as an AttributeError of an old binding: it must not stay pointed at our library
            self._close()
            raise
        self._thread = threading.Thread(target=self._loop, args=opened, daemon=True)
        self._thread.start()

    def _loop(self, read: Callable[[Any], int], handle: Any, failure: type[Exception]) -> None:
        period_s = 1.0 / self.asked_hz
        begin_cpu_s, due_s = time.thread_time(), time.monotonic()
        while not self._end.is_set():
            try:
                milliwatts = read(handle)
                self._t_ns.append(time.monotonic_ns())
                self._milliwatts.append(milliwatts)
            except failure as error:
                self._wrong[str(error)] += 1
            due_s = max(due_s + period_s, time.monotonic())  # late: go on from now, as such loops do
            time.sleep(max(0.0, due_s - time.monotonic()))
        self._cpu_s = time.thread_time() - begin_cpu_s

    def stop(self) -> Samples:
        """Stop the thread and return its readings; the CPU time is the thread's own, without NVML's start."""
        self._end.set()
        if self._thread is not None:
            self._thread.join()
            self._close()
        lost = bool(self._wrong) and not self._t_ns
        return Samples(
            np.array(self._t_ns, np.int64),
            np.array(self._milliwatts, np.float64) / 1000,
            self._cpu_s,
            self._wrong.total(),
            f"no reading succeeded: {self._wrong.most_common(1)[0][0]}" if lost else None,
            MappingProxyType(dict(self._wrong)),
        )


class PynvmlThread(_Polling):
    """Polls one GPU through pynvml.

    Args:
        library: Path of the NVML library; None takes the driver's.
        gpu: NVML index.
        asked_hz: Readings a second; infinite is back to back.
        meaning: What PowerUsage tells on this board and driver, for `reads`.
    """

    name = "pynvml-thread"

    def __init__(
        self, library: str | os.PathLike[str] | None, gpu: int = 0, asked_hz: float = 1000.0, meaning: str = ""
    ) -> None:
        super().__init__(gpu, asked_hz, meaning)
        self._binding = NvmlBinding(library)

    def _open(self) -> tuple[Callable[[Any], int], Any, type[Exception]]:
        pynvml = self._binding.open()
        try:
            handle = pynvml.nvmlDeviceGetHandleByIndex(self._gpu)
            return self._reader(pynvml, handle), handle, pynvml.NVMLError
        except pynvml.NVMLError as error:
            raise errors.NotSupported(f"NVML refuses: {error}") from error

    def _reader(self, pynvml: Any, handle: Any) -> Callable[[Any], int]:
        """Return what to call for milliwatts."""
        read: Callable[[Any], int] = pynvml.nvmlDeviceGetPowerUsage
        return read

    def _close(self) -> None:
        self._binding.close()


class PynvmlInstant(PynvmlThread):
    """Polls field 186, the board's quick power, by `nvmlDeviceGetFieldValues`; as `PynvmlThread` in all else.

    Args:
        library: As there.
        gpu: As there.
        asked_hz: As there.
    """

    name = "pynvml-instant"
    reads = "field 186"

    def __init__(self, library: str | os.PathLike[str] | None, gpu: int = 0, asked_hz: float = 1000.0) -> None:
        super().__init__(library, gpu, asked_hz)

    def _reader(self, pynvml: Any, handle: Any) -> Callable[[Any], int]:
        fields = [pynvml.NVML_FI_DEV_POWER_INSTANT]

        def read(device: Any) -> int:
            (one,) = pynvml.nvmlDeviceGetFieldValues(device, fields)
            if one.nvmlReturn != pynvml.NVML_SUCCESS:  # the call itself succeeds all the same
                raise pynvml.NVMLError(one.nvmlReturn)
            if one.valueType != pynvml.NVML_VALUE_TYPE_UNSIGNED_INT:  # a library that leaves what it does not know
                raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
            return int(one.value.uiVal)

        try:
            read(handle)
        except (pynvml.NVMLError_NotSupported, pynvml.NVMLError_InvalidArgument) as error:
            raise errors.NotSupported(f"this board or driver has no field 186: {error}") from error
        return read


class CudaBindingsThread(_Polling):
    """Polls one GPU through `cuda.bindings.nvml`, NVIDIA's compiled binding.

    The binding looks for the driver's library itself, once in a process. Another one is put in its finder's place
    before that; in a process where it has found one already, no other can be used.

    Args:
        library: Path of the NVML library; None takes the driver's.
        gpu: NVML index.
        asked_hz: Readings a second; infinite is back to back.
        meaning: What PowerUsage tells on this board and driver, for `reads`.
    """

    name = "cuda-bindings"

    def __init__(
        self, library: str | os.PathLike[str] | None, gpu: int = 0, asked_hz: float = 1000.0, meaning: str = ""
    ) -> None:
        super().__init__(gpu, asked_hz, meaning)
        self._library = None if library is None else os.fspath(library)
        self._nvml: Any = None

    def _open(self) -> tuple[Callable[[Any], int], Any, type[Exception]]:
        nvml = _cuda_nvml(self._library)
        try:
            nvml.init_v2()
            self._nvml = nvml
            handle = nvml.device_get_handle_by_index_v2(self._gpu)
        except (nvml.NvmlError, RuntimeError) as error:  # RuntimeError: its finder's, without a library
            raise errors.NotSupported(f"cuda.bindings: {error}") from error
        return nvml.device_get_power_usage, handle, nvml.NvmlError

    def _close(self) -> None:
        nvml, self._nvml = self._nvml, None
        if nvml is not None:
            nvml.shutdown()


def _cuda_nvml(library: str | None) -> Any:
    """Return `cuda.bindings.nvml`, bound to the library or to be bound to it by its first call.

    Raises:
        NotSupported: It is not installed, works otherwise than known, or is bound to another library.
    """
    try:
        from cuda.bindings import nvml
        from cuda.bindings._internal import nvml as inner
    except ImportError as error:
        raise errors.NotSupported("cuda.bindings with NVML is not installed; pip install cuda-bindings") from error
    finder = getattr(inner, "load_nvidia_dynamic_lib", None)
    if finder is None:
        raise errors.NotSupported("this version of cuda.bindings finds its library in a way that is not known here")
    own = finder.own if isinstance(finder, _Finder) else finder
    if isinstance(finder, _Finder) and finder.asked:
        if finder.library != library:
            bound = finder.library or "the driver's library"
            raise errors.NotSupported(f"cuda.bindings is bound to {bound} in this process, and cannot be bound again")
        return nvml
    try:
        inner.load_nvidia_dynamic_lib = _Finder(library, own)
    except OSError as error:
        raise errors.NotSupported(f"the NVML library cannot be loaded: {error}") from error
    return nvml


class _Finder:
    """Stands before the binding's own finder: answers with one library, and remembers that it was asked."""

    def __init__(self, library: str | None, own: Callable[[str], Any]) -> None:
        import ctypes

        self.library, self.own, self.asked = library, own, False
        self._loaded = None if library is None else ctypes.CDLL(library)

    def __call__(self, name: str) -> Any:
        found = self.own(name) if self._loaded is None else SimpleNamespace(_handle_uint=self._loaded._handle)
        self.asked = True
        return found
