# SPDX-License-Identifier: Apache-2.0
"""Which channel stands for a device and domain in a window."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from powersample.analysis.choice import choose
from powersample.analysis.crosscheck import Crosscheck
from powersample.analysis.proofs import Proofs
from powersample.analysis.told import Told
from powersample.analysis.truth import truths_joules
from powersample.analysis.walls import WALL, one_wall
from powersample.errors import InvalidArgument, did_you_mean
from powersample.model import TRUTH_PREFIX, Channel, Energy, Kind, Trace, Window

# By the last word of a channel's name. The driver's own samples come last until it is known what they average over.
POWER_ORDER = ("instant", "usage", "average", "driver")
DIE = "-die-"  # "package-0-die-1" is a part of "package-0"


@dataclass(frozen=True, slots=True)
class Measured:
    """One channel's energy over one window, and its place among its device's channels.

    Attributes:
        energy: the energy.
        primary: whether it stands for its device and domain.
        why: why it does; "" when it does not.
        truth_j: the simulated node's truth; None on real devices.
        spare: whether another source, or a surer meter, measures the same: then it is in no total.
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
        raise InvalidArgument(
            f"{len(found)} windows are called {window!r}",
            f"energies({window!r}) has all of them; for one of them give the window itself, out of `windows`.",
        )
    if window == "run" and (whole := run_window(trace)) is not None:
        return whole
    counts = Counter(one.name for one in trace.windows)
    like = sum(fnmatchcase(one.name, window) for one in trace.windows)
    hint = f"energies({window!r}) has all {like} windows like it." if like else did_you_mean(window, counts)
    named = [repr(name) if count == 1 else f"{name!r} ({count} times)" for name, count in counts.items()]
    there = ", ".join(named[:20]) or "no windows"
    raise InvalidArgument(f"no window is called {window!r}; the trace has {there}", hint)


def run_window(trace: Trace) -> Window | None:
    """Return the whole record as a window called "run"; None when nothing was recorded."""
    start_ns, end_ns = trace.start_ns, trace.end_ns
    return None if start_ns is None or end_ns is None else Window("run", start_ns, end_ns, (), "trace")


def energies_in(trace: Trace, window: Window) -> list[Measured]:
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
        names.sort(key=lambda one: rank(trace.channel(one)))
        own, settled = owned(trace, names), (device, domain) in dies
        each = zip(*proofs.told(names), strict=True)
        for row, told, window, truth_j in zip(found, each, windows, truths, strict=True):
            row.extend(measured_of(told, own, window, truth_j, settled=settled))
    if len({device for device, domain in groups if domain == WALL}) > 1:
        return [one_wall(row, window) for row, window in zip(found, windows, strict=True)]
    return found


def measured_of(
    told: Sequence[Told], own: int, window: Window, truth_j: float | None = None, *, settled: bool = False
) -> list[Measured]:
    """Choose among one device and domain's channels, which come in the order of `rank`.

    Args:
        told: what the channels tell.
        own: how many of them are the device's own: see `owned`.
        window: of this window.
        truth_j: the truth about it.
        settled: whether the device's parts are measured by themselves.
    """
    measured: list[Measured] = []
    for late, some in (False, told[:own]), (True, told[own:]):
        if not some:
            continue
        choice = choose(some, window)
        spare = late and settled
        chosen = None if spare else choice.primary
        for i, one in enumerate(choice.energies):
            checks = tuple([each for each in choice.checks if one.channel in (each.channel, each.other)])
            measured.append(Measured(one, i == chosen, choice.why if i == chosen else "", truth_j, spare, checks))
        settled = settled or chosen is not None
    return measured


def owned(trace: Trace, names: Iterable[str]) -> int:
    """Return how many of a device's channels are not hwmon's, which come last."""
    return sum(not _is_late(trace.channel(name)) for name in names)


def _is_late(channel: Channel) -> bool:
    """Whether a channel is hwmon's, which may show what another source measures, too, and mostly better."""
    return channel.lane.startswith("hwmon:")


def rank(channel: Channel) -> tuple[bool, int, str]:
    """Return a channel's place among its device's: counters before powers, hwmon's last."""
    late, word = _is_late(channel), channel.name.rpartition(".")[2]
    if channel.kind is Kind.ENERGY:
        return late, 0, channel.name
    return late, 1 + (POWER_ORDER.index(word) if word in POWER_ORDER else len(POWER_ORDER)), channel.name
