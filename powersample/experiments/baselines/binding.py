# SPDX-License-Identifier: Apache-2.0
"""`import pynvml` pointed at a library of our choice, for a while.

The module keeps one library and a cache of its functions for the whole process; whatever else uses it meanwhile (Zeus,
CodeCarbon, carbontracker) gets the same. It is put back as it was found when the last user leaves.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from typing import Any

from powersample import errors

_lock = threading.Lock()
_users: list[NvmlBinding] = []  # of this process's one pynvml, those on a library of their own
_before: list[Any] = []  # what nvmlLib was before the first of them


class NvmlBinding:
    """One user of pynvml.

    Args:
        library: Path of the NVML library; None takes the driver's.
    """

    def __init__(self, library: str | os.PathLike[str] | None) -> None:
        self.library = None if library is None else os.fspath(library)
        self._module: Any = None

    def open(self) -> Any:
        """Return the module, initialised on the library.

        Raises:
            NotSupported: pynvml is missing, the library cannot be loaded or refuses, or another one is in use.
        """
        self.point()
        try:
            self._module.nvmlInit()
        except self._module.NVMLError as error:
            self._leave()
            raise errors.NotSupported(f"NVML refuses: {error}") from error
        return self._module

    def point(self) -> Any:
        """Point the module at the library without initialising it, for tools that do that themselves; see `open`."""
        try:
            import pynvml
        except ImportError as error:
            raise errors.NotSupported("pynvml is missing; pip install nvidia-ml-py") from error
        with _lock:
            if any(user.library != self.library for user in _users):
                raise errors.NotSupported(f"pynvml is in use on another library, {_users[0].library}")
            if self.library is not None and not _users:
                try:
                    loaded = ctypes.CDLL(self.library)
                except OSError as error:
                    raise errors.NotSupported(f"the NVML library cannot be loaded: {error}") from error
                _before.append(pynvml.nvmlLib)
                pynvml.nvmlLib = loaded
                pynvml._nvmlGetFunctionPointer_cache.clear()
            if self.library is not None:
                _users.append(self)
        self._module = pynvml
        return pynvml

    def close(self, *, initialised: bool = True) -> None:
        """Shut down what `open` began, or with `initialised` False only let go; further calls do nothing."""
        if self._module is None:
            return
        if initialised:
            with contextlib.suppress(self._module.NVMLError):
                self._module.nvmlShutdown()
        self._leave()

    def _leave(self) -> None:
        module, self._module = self._module, None
        with _lock:
            if self in _users:
                _users.remove(self)
                if not _users:
                    module.nvmlLib = _before.pop()
                    module._nvmlGetFunctionPointer_cache.clear()
