# SPDX-License-Identifier: Apache-2.0
import errno
import pickle
import re
from pathlib import Path

import pytest

from powersample import errors

HEADER = Path(__file__).parents[1] / "csrc" / "include" / "powersample.h"
CLASSES = [c for c in vars(errors).values() if isinstance(c, type) and issubclass(c, errors.PowerSampleError)]


def test_status_table_equals_the_header():
    body = re.search(r"enum ps_status \{(.*?)\};", HEADER.read_text(), re.DOTALL)
    assert body
    found = {name: int(value) for name, value in re.findall(r"(PS_\w+) = (-?\d+)", body.group(1))}
    assert found == errors.STATUS


@pytest.mark.parametrize("cls", [c for c in CLASSES if c is not errors.PowerSampleError])
def test_every_error_is_also_a_builtin_and_survives_pickling(cls):
    builtin = [base for base in cls.__mro__ if base.__module__ == "builtins"]
    assert builtin[0] not in (Exception, BaseException, object)
    error = cls("it failed", "Do this.", call="open", code=7)
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.remedy, again.call, again.code) == (
        "it failed. Do this.",
        "Do this.",
        "open",
        7,
    )


@pytest.mark.parametrize("name", [name for name in errors.STATUS if name != "PS_OK"])
def test_from_status_every_failure_names_call_object_and_remedy(name):
    error = errors.from_status(errors.STATUS[name], "frobnicate", "on gpu0", 0)
    assert type(error) is not errors.PowerSampleError
    assert "frobnicate" in str(error)
    assert "on gpu0" in str(error)
    assert error.remedy.endswith(".")
    assert str(error).endswith(error.remedy)


def test_from_status_classes_are_distinct():
    kinds = {type(errors.from_status(code, "c", "t", 0)) for name, code in errors.STATUS.items() if code}
    assert len(kinds) == len(errors.STATUS) - 1


def test_from_status_system_failure_carries_errno():
    error = errors.from_status(errors.STATUS["PS_E_SYSTEM"], "open", "/dev/x", errno.EMFILE)
    assert isinstance(error, OSError)
    assert error.errno == errno.EMFILE
    assert "Too many open files" in str(error)


def test_from_status_keeps_names_of_our_own_calls_to_itself():
    error = errors.from_status(errors.STATUS["PS_E_NOT_FOUND"], "ps_nvml_open", "no sign of an NVIDIA driver", 0)
    assert str(error).startswith("not found: no sign of an NVIDIA driver")
    assert "nvml-lib" in error.remedy
    assert error.call == "ps_nvml_open"


def test_from_status_nvml_not_found_offers_the_simulation():
    error = errors.from_status(errors.STATUS["PS_E_NOT_FOUND"], "dlopen", "libnvidia-ml.so.1: no such file", 0)
    assert isinstance(error, errors.DeviceNotFound)
    assert "--simulate h100" in str(error)


def test_from_status_vendor_code_is_the_devices_own():
    error = errors.from_status(errors.STATUS["PS_E_VENDOR"], "nvmlDeviceGetPowerUsage", "GPU is lost", 15)
    assert isinstance(error, errors.DeviceError)
    assert error.code == 15
    assert "[code 15]" in str(error)


def test_from_status_access_by_nvml_is_no_errno():
    error = errors.from_status(errors.STATUS["PS_E_ACCESS"], "nvmlInit_v2", "Insufficient Permissions", 4)
    assert isinstance(error, PermissionError)
    assert "[code 4]" in str(error)


def test_from_status_full_disk_without_errno_is_enospc():
    error = errors.from_status(errors.STATUS["PS_E_FULL"], "write", "run.spool", 0)
    assert isinstance(error, errors.DiskFull)
    assert error.errno == errno.ENOSPC


def test_from_status_unknown_status_is_an_error_too():
    assert isinstance(errors.from_status(-99, "c", "", 0), errors.DeviceError)
