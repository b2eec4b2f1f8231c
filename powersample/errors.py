# SPDX-License-Identifier: Apache-2.0
"""Every exception that powersample raises, and the one table from C status codes to them.

Each class is also the builtin that a caller would expect, so `except PermissionError` works without knowing
this module. A message says what failed, on what, with which code, and the one thing to do about it.
"""
# ruff: noqa: N818 (each name says what happened; the builtin beside it carries the word Error)

import errno
import os
from collections.abc import Iterable


class PowerSampleError(Exception):
    """Base of all errors of this package; never raised itself.

    Attributes:
        remedy: the one thing to do, a sentence; "" when the message says it already.
        call: the C or library call that failed; "" when none is to blame.
        code: errno, or the device library's own code; None when there is none.
    """

    def __init__(self, message: str, remedy: str = "", *, call: str = "", code: int | None = None) -> None:
        super().__init__(f"{message.rstrip('.')}. {remedy}" if remedy else message)
        self.remedy = remedy
        self.call = call
        self.code = code


class InvalidArgument(PowerSampleError, ValueError):
    """An argument outside its range."""


class ConfigurationError(InvalidArgument):
    """A configuration file that says what nobody understands; the message names the file, and the line or key."""


class BadFormat(PowerSampleError, ValueError):
    """A file or stream that is not what it should be."""


class DeviceNotFound(PowerSampleError, LookupError):
    """No such library, device, source or channel."""


class AccessDenied(PowerSampleError, PermissionError):
    """It exists and this user may not use it."""


class NotSupported(PowerSampleError, NotImplementedError):
    """The device, its driver or this machine lacks it."""


class PackageMissing(NotSupported, ImportError):
    """A package of one of the extras is not installed, or too old."""


class Timeout(PowerSampleError, TimeoutError):
    """The deadline passed first."""


class DiskFull(PowerSampleError, OSError):
    """No space is left for the recording; windows and counters are kept."""


class SystemFailure(PowerSampleError, OSError):
    """A system call failed; `code` is its errno."""


class OutOfMemory(PowerSampleError, MemoryError):
    """Memory was refused."""


class StateError(PowerSampleError, RuntimeError):
    """The call does not fit the object's state, such as a window that is ended twice."""


class DeviceError(PowerSampleError, RuntimeError):
    """The device's library refused; `code` is its own code."""


class NothingMeasurable(PowerSampleError, RuntimeError):
    """No source on this machine can be read."""


class InputNotFound(PowerSampleError, FileNotFoundError):
    """There is no such file to read."""


class OutputExists(PowerSampleError, FileExistsError):
    """The output is there already and would be overwritten."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return "Did you mean 'record'?", of the words that there are the one that is most like `word`; "" of none."""
    from difflib import get_close_matches

    folded = {one.casefold(): one for one in known}
    found = get_close_matches(word.casefold(), folded, n=1, cutoff=0.6)
    return f"Did you mean {folded[found[0]]!r}?" if found else ""


# enum ps_status of csrc/include/powersample.h, retyped because this module stands above the native one; a
# test compares the two.
STATUS = {
    "PS_OK": 0,
    "PS_E_INVALID": -1,
    "PS_E_NOMEM": -2,
    "PS_E_SYSTEM": -3,
    "PS_E_NOT_FOUND": -4,
    "PS_E_ACCESS": -5,
    "PS_E_UNSUPPORTED": -6,
    "PS_E_STATE": -7,
    "PS_E_TIMEOUT": -8,
    "PS_E_FORMAT": -9,
    "PS_E_VENDOR": -10,
    "PS_E_FULL": -11,
}

OWN_CALLS = "ps_"  # names of our own C calls say nothing to those who read a message

_CASES: dict[str, tuple[type[PowerSampleError], str, str]] = {
    # status: class, what happened, what to do
    "PS_E_INVALID": (InvalidArgument, "argument outside its range", "Correct the argument that is named."),
    "PS_E_NOMEM": (
        OutOfMemory,
        "memory was refused",
        "Free memory, or ask for fewer lanes or smaller rings.",
    ),
    "PS_E_SYSTEM": (SystemFailure, "a system call failed", "Remove the cause that the system names."),
    "PS_E_NOT_FOUND": (
        DeviceNotFound,
        "not found",
        "Check its name or path.",
    ),
    "PS_E_ACCESS": (
        AccessDenied,
        "access denied",
        "Ask for read access to it, or run as a user who has it.",
    ),
    "PS_E_UNSUPPORTED": (
        NotSupported,
        "not supported by the device or its library",
        "Choose another source or channel; `powersample-sampler --list` names those that work.",
    ),
    "PS_E_STATE": (
        StateError,
        "not possible in this state",
        "Make a new object instead of reusing this one.",
    ),
    "PS_E_TIMEOUT": (
        Timeout,
        "the deadline passed first",
        "Look in the kernel log for a hung device (`dmesg`), or allow more time.",
    ),
    "PS_E_FORMAT": (
        BadFormat,
        "malformed data",
        "Check that it was written by this version of powersample and is whole.",
    ),
    "PS_E_VENDOR": (
        DeviceError,
        "the device's library refused",
        "Check the device with its vendor's own tool.",
    ),
    "PS_E_FULL": (
        DiskFull,
        "full",
        "Free space on that file system, or record to another with `-o`.",
    ),
}

_NVML_REMEDIES = {
    "PS_E_NOT_FOUND": "Install the NVIDIA driver, name its library with `--nvml-lib PATH`, "
    "or use `--simulate h100` to try powersample without a GPU.",
    "PS_E_ACCESS": "Ask for read access to /dev/nvidiactl and /dev/nvidia*.",
    "PS_E_UNSUPPORTED": "This board or driver has no such reading: choose another channel or a newer driver.",
    "PS_E_TIMEOUT": "Look for a lost GPU in the kernel log (`dmesg`, Xid) and with `nvidia-smi`.",
    "PS_E_VENDOR": "Compare with `nvidia-smi -q -d POWER`; if that fails too, the driver needs attention.",
}


def from_status(status: int, call: str, text: str, vendor: int) -> PowerSampleError:
    """The exception that stands for a failed C call.

    Args:
        status: a negative enum ps_status.
        call: the call that failed, such as "nvmlInit_v2" or "open".
        text: what it failed on and what the vendor says; may be empty.
        vendor: errno or the device library's own code; 0 when there is none.

    Returns:
        The exception, to be raised by the caller. An unknown status gives a DeviceError.
    """
    name = next((known for known, value in STATUS.items() if value == status), "")
    kind, what, remedy = _CASES.get(
        name, (DeviceError, f"unknown status {status}", "Report this: the C and Python parts do not match.")
    )
    if "nvml" in call.lower() or "libnvidia-ml" in text:
        remedy = _NVML_REMEDIES.get(name, remedy)
    by_errno = name in ("PS_E_SYSTEM", "PS_E_FULL") or (name == "PS_E_ACCESS" and not call.startswith("nvml"))
    if name == "PS_E_FULL" and not vendor:
        vendor = errno.ENOSPC
    message = f"{call}: {what}" if call and not call.startswith(OWN_CALLS) else what  # its `call` has it all the same
    if text:
        message += f": {text}"
    if vendor and by_errno:
        cause = os.strerror(vendor)
        message += f" [errno {vendor}]" if cause in text else f" [errno {vendor}: {cause}]"
    elif vendor:
        message += f" [code {vendor}]"
    error = kind(message, remedy, call=call, code=vendor or None)
    if by_errno and isinstance(error, OSError):
        error.errno = vendor or None
    return error
