# SPDX-License-Identifier: Apache-2.0
"""The clock that stamps every reading, and what the CPU's frequency does meanwhile."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator

from powersample.doctor.check import OK, SKIP, WARN, Check, Tried
from powersample.doctor.machine import Machine

SECTION = "clock"
QUICK = ("tsc", "arch_sys_counter", "kvm-clock", "hyperv_clocksource_tsc_page", "xen", "riscv_clocksource")
SLOW_NS = 1000.0  # a system call; without one it is some tens of ns
ANCHOR_READINGS = 4  # clock readings between the two that an anchor's width lies between
TIMEX_BYTES, STATUS_AT, STA_UNSYNC = 512, 40, 0x40  # struct timex of linux/timex.h, on 64 bits


def check_clock(machine: Machine) -> Iterator[Check]:
    """Yield how well and how quickly time is told."""
    folder = machine.sys / "devices/system/clocksource/clocksource0"
    source, tried = machine.read(folder / "current_clocksource")
    cost_ns = reading_cost_ns()
    cost = "" if cost_ns is None else f", clock_gettime {cost_ns:.0f} ns"
    if source is None:
        yield Check("PS-CLK-02", SKIP, f"the clock source cannot be told{cost}", (tried,))
    elif source not in QUICK or (cost_ns is not None and cost_ns > SLOW_NS):
        tsc = "tsc" in machine.text(folder / "available_clocksource").split()
        yield Check(
            "PS-CLK-01",
            WARN,
            f"clock source {source}{cost}: every reading is stamped twice, so a slow clock costs rate",
            (tried,),
            f"echo tsc | sudo tee {folder}/current_clocksource" if tsc and source != "tsc" else None,
        )
    else:
        yield Check("PS-CLK-00", OK, f"clock source {source}{cost}")
    yield _synchronised()
    slack = machine.text(machine.proc / "self/timerslack_ns")
    if slack:
        yield Check("PS-CLK-04", OK, f"timer slack {slack} ns here; the sampler's own threads set theirs to 1 ns")
    yield from _governors(machine)


def reading_cost_ns() -> float | None:
    """Return about what one reading of a clock takes; None without the native core."""
    try:
        from powersample._native.api import anchor
    except ImportError:
        return None
    return min(anchor()["width_ns"] for _ in range(20)) / ANCHOR_READINGS


def synchronised() -> bool | None:
    """Whether the kernel says that this machine's wall clock follows another; None when it does not say."""
    try:
        libc = ctypes.CDLL(None)
        timex = ctypes.create_string_buffer(TIMEX_BYTES)  # modes 0: changes nothing
        if ctypes.sizeof(ctypes.c_void_p) != 8 or libc.adjtimex(timex) < 0:
            return None
    except (OSError, AttributeError):
        return None
    status = int.from_bytes(timex.raw[STATUS_AT : STATUS_AT + 4], "little", signed=True)
    return not status & STA_UNSYNC


def _synchronised() -> Check:
    state = synchronised()
    if state is None:
        return Check("PS-CLK-05", SKIP, "whether the wall clock is synchronised cannot be told", (Tried("adjtimex"),))
    how = "is synchronised" if state else "is not synchronised: that matters only beside other machines' stamps"
    return Check("PS-CLK-03", OK, f"the wall clock {how}", (Tried("adjtimex"),))


def _governors(machine: Machine) -> Iterator[Check]:
    folder = machine.sys / "devices/system/cpu"
    found = Counter(
        governor
        for name in machine.names(folder)
        if name.startswith("cpu") and name[3:].isdigit()
        if (governor := machine.text(folder / name / "cpufreq/scaling_governor"))
    )
    if found:
        told = ", ".join(found) if len(found) == 1 else ", ".join(f"{name} on {n} CPUs" for name, n in found.items())
        yield Check("PS-CLK-06", OK, f"CPU frequency governor {told}; keep it the same between runs that are compared")
