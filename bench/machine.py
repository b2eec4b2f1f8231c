# SPDX-License-Identifier: Apache-2.0
"""What the figures were measured on, and with what."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PACKAGES = ("numpy", "cffi", "pyarrow", "nvidia-ml-py")
SAME = ("cpu", "cores", "kernel")  # figures of machines that differ here are not put into one table


def _first_line(path: str, default: str = "unknown") -> str:
    try:
        return Path(path).read_text(encoding="utf-8").strip().splitlines()[0]
    except (OSError, IndexError):
        return default


def _said_by(*command: str) -> str | None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.splitlines()[0].strip() if done.stdout.strip() else None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model"):
            return value.strip()
    return platform.machine()


def _virtual() -> bool:
    return "hypervisor" in Path("/proc/cpuinfo").read_text(encoding="utf-8")


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def hardware() -> dict[str, Any]:
    """Return the machine; nothing that names a person or a host."""
    return {
        "cpu": _cpu_model(),
        "virtual": _virtual(),
        "cores": len(os.sched_getaffinity(0)),
        "kernel": platform.release(),
        "clocksource": _first_line("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
    }


def conditions() -> dict[str, Any]:
    """Return what one run of benchmarks is under: when it begins, what else the machine does, what is measured."""
    return {
        "begun": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "load_average_before": round(os.getloadavg()[0], 2),
        "commit": _said_by("git", "rev-parse", "--short=12", "HEAD"),
        "python": platform.python_version(),
        "compiler": _said_by(os.environ.get("CC", "cc"), "--version"),
        "valgrind": _said_by("valgrind", "--version"),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def describe() -> dict[str, Any]:
    """Return both, of a result that is of one run; and the date by itself."""
    now = conditions()
    return hardware() | now | {"date": now["begun"][:10]}


def timing() -> dict[str, Any]:
    """Return what else bears on wake-ups and readings here; "unknown" where the kernel does not say, as in guests."""
    slack_ns = _first_line("/proc/self/timerslack_ns")
    return {
        "governor": _first_line("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        "timer_slack_ns": int(slack_ns) if slack_ns.isdigit() else slack_ns,
        "preemption": next((word for word in platform.version().split() if word.startswith("PREEMPT")), "unknown"),
        "nvml": _nvml(),
    }


def _nvml() -> str:
    """Return the driver that this machine has. The benchmarks' own readings are of stand-ins all the same."""
    driver = _first_line("/proc/driver/nvidia/version", "")
    return f"stand-in; the machine has {driver}" if driver else "stand-in"


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two descriptions are of one machine."""
    return all(one.get(key) == other.get(key) for key in SAME)
