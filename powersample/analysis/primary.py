# SPDX-License-Identifier: Apache-2.0
"""Which channel stands for a device and domain in a window, and the sums of those that do."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from powersample.analysis.choice import choose, whole
from powersample.analysis.crosscheck import Crosscheck
from powersample.analysis.interval import ORDER, verdict
from powersample.analysis.proofs import Proofs
from powersample.analysis.told import Told
from powersample.analysis.truth import truths_joules
from powersample.errors import InvalidArgument
from powersample.model import TRUTH_PREFIX, Channel, Energy, Kind, Trace, Window

# By the last word of a channel's name. The driver's own samples come last until it is known what they average over.
POWER_ORDER = ("instant", "usage", "average", "driver")
PARTS = ("gpu_j", "cpu_j", "dram_j")  # do not overlap
DIE = "-die-"  # "package-0-die-1" is a part of "package-0"
TOTALS = {"gpu_j": "gpu", "cpu_j": "package", "dram_j": "dram", "node_j": "wall"}


@dataclass(frozen=True, slots=True)
class Measured:
    """One channel's energy over one window, and its place among its device's channels.

    Attributes:
        energy: the energy.
        primary: whether it stands for its device and domain.
        why: why it does; "" when it does not.
        truth_j: the simulated node's truth; None on real devices.
        spare: whether another source measures the same: then it is in no total.
        checks: how far it differs from the device's other channels, and how far it may.
    """

    energy: Energy
    primary: bool
    why: str
    truth_j: float | None
    spare: bool = False
    checks: tuple[Crosscheck, ...] = ()


def find_window(trace: Trace, window: str | Window) -> Window:
    """Return the window called `window`; where nobody marked a "run", that is the whole record.

    Raises:
        InvalidArgument: there is none, or several.
    """
    if isinstance(window, Window):
        return window
    found = [one for one in trace.windows if one.name == window]
    if len(found) == 1:
        return found[0]
    if found:
        raise InvalidArgument(f"{len(found)} windows are called {window!r}", "Take one from the trace's `windows`.")
    if window == "run" and (whole := run_window(trace)) is not None:
        return whole
    counts = Counter(one.name for one in trace.windows)
    named = [repr(name) if count == 1 else f"{name!r} ({count} times)" for name, count in counts.items()]
    there = ", ".join(named[:20]) or "no windows"
    raise InvalidArgument(f"no window is called {window!r}; the trace has {there}")


def run_window(trace: Trace) -> Window | None:
    """Return the whole record as a window called "run"; None when nothing was recorded."""
    start_ns, end_ns = trace.start_ns, trace.end_ns
    return None if start_ns is None or end_ns is None else Window("run", start_ns, end_ns, (), "trace")


def energies(trace: Trace, window: Window) -> list[Measured]:
    """Return every power and energy channel's energy over a window; one a device and domain is primary.

    The counter, if it moved often enough and agrees with the power (`choice.choose`); else instant power, PowerUsage,
    average, whichever has an energy first; else the counter as it is. What hwmon shows of a device that another source
    has an energy of never stands for it.
    """
    return window_energies(trace, [window])[0]


def window_energies(
    trace: Trace,
    windows: Sequence[Window],
    load_period_s: float | None = None,
    repeats: Iterable[Sequence[str | Window]] = (),
) -> list[list[Measured]]:
    """Return the same for many windows, in one pass over each channel.

    Args:
        trace: the recording.
        windows: the windows.
        load_period_s: of what ran in them, where it is known: it tells whether a part-time sensor can have been fooled.
            Else it is what regular windows, marks or a quicker channel show.
        repeats: windows of the same work, a sequence each, beside those whose names differ in a number at their end.

    Raises:
        InvalidArgument: a period that is not above 0, or an unknown window among the repeats.
    """
    if load_period_s is not None and not load_period_s > 0:
        raise InvalidArgument(f"load_period_s is {load_period_s!r}: it must be above 0 s")
    groups: dict[tuple[str, str], list[str]] = {}
    for name, channel in trace.channels.items():
        if channel.kind is not Kind.AUX and not name.startswith(TRUTH_PREFIX):
            groups.setdefault((channel.device, channel.domain), []).append(name)
    dies = {(device.partition(DIE)[0], domain) for device, domain in groups if DIE in device}
    proofs = Proofs(trace, windows, load_period_s, [[find_window(trace, one) for one in some] for some in repeats])
    found: list[list[Measured]] = [[] for _ in windows]
    for (device, domain), names in groups.items():
        truths = truths_joules(trace, device, domain, windows) if trace.simulated else [None] * len(windows)
        told = proofs.told(sorted(names, key=lambda one: rank(trace.channel(one))))
        for i, truth_j in enumerate(truths):
            mine = [one[i] for one in told]
            found[i] += _measured(trace, mine, windows[i], truth_j, settled=(device, domain) in dies)
    return found


def _measured(
    trace: Trace,
    told: Sequence[Told],
    window: Window,
    truth_j: float | None = None,
    *,
    settled: bool = False,
) -> list[Measured]:
    """Choose among one device and domain's channels, which come in the order of `rank`.

    Args:
        trace: the recording.
        told: what the channels tell.
        window: of this window.
        truth_j: the truth about it.
        settled: whether the device's parts are measured by themselves.
    """
    measured: list[Measured] = []
    for late, mine in groupby(told, key=lambda one: _is_late(trace.channel(one.energy.channel))):
        choice = choose(list(mine), window)
        spare = late and settled
        chosen = None if spare else choice.primary
        measured += [
            Measured(
                one,
                i == chosen,
                choice.why if i == chosen else "",
                truth_j,
                spare,
                tuple(check for check in choice.checks if one.channel in (check.channel, check.other)),
            )
            for i, one in enumerate(choice.energies)
        ]
        settled = settled or chosen is not None
    return measured


def _is_late(channel: Channel) -> bool:
    """Whether a channel is hwmon's, which may show what another source measures, too, and mostly better."""
    return channel.lane.startswith("hwmon:")


def rank(channel: Channel) -> tuple[bool, int, str]:
    """Return a channel's place among its device's: counters before powers, hwmon's last."""
    late, word = _is_late(channel), channel.name.rpartition(".")[2]
    if channel.kind is Kind.ENERGY:
        return late, 0, channel.name
    return late, 1 + (POWER_ORDER.index(word) if word in POWER_ORDER else len(POWER_ORDER)), channel.name


def energy(
    trace: Trace,
    window: str | Window,
    device: str | None = None,
    *,
    domain: str = "gpu",
    load_period_s: float | None = None,
) -> Energy:
    """Return the energy of one device and domain over a window, by its primary channel.

    Args:
        trace: the recording.
        window: a window, or its name if only one bears it.
        device: "gpu0" or a UUID; None when the domain has only one.
        domain: gpu, module, package, dram, wall ...
        load_period_s: as `window_energies`.

    Returns:
        The primary's energy. When no channel covers the window, the preferred channel's, with `joules` None.

    Raises:
        InvalidArgument: no such window or device, or several.
    """
    found = find_window(trace, window)
    mine = {
        name: channel.device
        for name, channel in trace.channels.items()
        if channel.kind is not Kind.AUX and channel.domain == domain and not name.startswith(TRUTH_PREFIX)
    }
    if device is not None:
        mine = {name: uuid for name, uuid in mine.items() if device in (uuid, name.partition(".")[0])}
    devices = sorted(set(mine.values()))
    if len(devices) != 1:
        there = sorted({channel.name.partition(".")[0] for channel in trace.channels.values()} - {"truth"})
        domains = sorted(
            {one.domain for one in trace.channels.values() if device in (one.device, one.name.partition(".")[0])}
        )
        if device and domains:
            raise InvalidArgument(
                f"{device!r} has no {domain} power or energy, it has {', '.join(domains)}",
                f"Name the domain: domain={domains[-1]!r}.",
            )
        what = f"{device!r} is not recorded" if device else f"{len(devices)} devices have {domain} energy"
        raise InvalidArgument(f"{what}; the trace has {', '.join(there) or 'no devices'}", "Name one of them.")
    names = sorted(mine, key=lambda one: rank(trace.channel(one)))
    told = [one[0] for one in Proofs(trace, [found], load_period_s).told(names)]
    measured = _measured(trace, told, found)
    return next((one.energy for one in measured if one.primary), measured[0].energy)


def totals(measured: Sequence[Measured], window: Window) -> dict[str, Any]:
    """Return the sums of primaries in J, None where they would not be whole.

    A sum is None where there is no device, where one has no energy, or where one's readings speak for less than 99 %
    of the window: a part of an energy looks like an energy.

    Args:
        measured: a window's energies.
        window: the window.

    Returns:
        "gpu_j", "cpu_j", "dram_j", "node_j"; "low_j", "high_j" and "verdict", the 95 % interval of the first three
        together, None and "unrated" where one of their energies has none; "covered_s", the seconds that the least
        covered device's readings speak for, None without any device; and "reasons", what keeps a sum from being told.
    """
    sums: dict[str, Any] = {}
    reasons: list[str] = []
    covered_s: list[float] = []
    for key, domain in TOTALS.items():
        devices: dict[str, Measured | None] = {}
        for one in measured:
            if one.energy.domain == domain and not one.spare:
                devices[one.energy.device] = one if one.primary else devices.get(one.energy.device)
        absent, part = [], []
        for device, primary in devices.items():
            told = primary.energy if primary else None
            covered_s.append(told.covered_s if told else 0.0)
            if told is None or told.joules is None:
                absent.append(device)
            elif not whole(told, window):
                part.append((told.covered_s, f"{told.channel} of {device}"))
        lacking = [f"PSQ-PARTIAL no energy of {absent[0]}{_more(absent)} can be told: no {key}"] if absent else []
        if part:  # the least covered stands for all: eight GPUs' identities would be a page
            least_s, name = min(part)
            share = f"{least_s:.4g} s of {window.duration_s:.4g} s"
            lacking.append(f"PSQ-PARTIAL {name}{_more(part)} speaks for {share}: no {key}")
        known = [one.energy.joules for one in devices.values() if one is not None and one.energy.joules is not None]
        sums[key] = sum(known) if devices and not lacking else None
        reasons += lacking
    summed = {TOTALS[key] for key in PARTS if sums[key] is not None}
    parts = [one.energy for one in measured if one.primary and one.energy.domain in summed]
    return sums | _interval(parts) | {"covered_s": min(covered_s, default=None), "reasons": reasons}


def _more(some: Sequence[object]) -> str:
    return f" (and of {len(some) - 1} more)" if len(some) > 1 else ""


def _interval(parts: Sequence[Energy]) -> dict[str, Any]:
    """Return the interval of a sum of devices: their errors are their own, so half-widths add in quadrature.

    What keeps one's verdict below that of its width, such as a counter that was reset, does so of the sum.
    """
    total = below2 = above2 = 0.0
    cap = "good"
    for one in parts:
        if one.joules is None or one.low_j is None or one.high_j is None:
            return {"low_j": None, "high_j": None, "verdict": "unrated"}
        total += one.joules
        below2 += (one.joules - one.low_j) ** 2
        above2 += (one.high_j - one.joules) ** 2
        if one.verdict in ORDER and one.verdict != verdict(
            max(one.joules - one.low_j, one.high_j - one.joules), one.joules
        ):
            cap = max(cap, one.verdict, key=ORDER.index)
    if not parts:
        return {"low_j": None, "high_j": None, "verdict": "unrated"}
    half_j = math.sqrt(max(below2, above2))
    return {
        "low_j": max(0.0, total - math.sqrt(below2)),
        "high_j": total + math.sqrt(above2),
        "verdict": verdict(half_j, total, cap),
    }
