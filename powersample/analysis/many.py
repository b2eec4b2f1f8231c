# SPDX-License-Identifier: Apache-2.0
"""The energies of many windows at once, such as every "step": a sequence, arrays, their mean and their sum."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, overload

import numpy as np

from powersample.analysis.arrays import Floats
from powersample.analysis.asked import energies_of
from powersample.analysis.mean import MeanEnergy, mean_energy
from powersample.analysis.primary import find_window
from powersample.analysis.relative import Sum, add, stretches
from powersample.errors import InvalidArgument
from powersample.model import Energy, Trace, Window

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True, repr=False)
class Energies(Sequence[Energy]):
    """Energies of one device, or of all together, over many windows; a sequence of `Energy`.

    Attributes:
        windows: in the order of their begin.
        each: their energies, in the same order.
        stretches: energies of what the windows cover, those that touch or overlap as one.
    """

    windows: tuple[Window, ...]
    each: tuple[Energy, ...]
    stretches: tuple[Energy, ...]

    @property
    def joules(self) -> Floats:
        """Energies, float64, J; NaN where none can be told."""
        return _floats(one.joules for one in self.each)

    @property
    def low_j(self) -> Floats:
        """Lower ends of their 95 % intervals, float64, J; NaN where there is none."""
        return _floats(one.low_j for one in self.each)

    @property
    def high_j(self) -> Floats:
        """Upper ends."""
        return _floats(one.high_j for one in self.each)

    @property
    def duration_s(self) -> Floats:
        """Lengths of the windows, float64, s."""
        return np.array([one.duration_s for one in self.windows], np.float64)

    def mean(self) -> MeanEnergy:
        """Return the mean with its 95 % interval: what chance does is less for many, what the board is off by is not.

        Windows whose energy cannot be told are left out; `runs` counts those that are in it. What several processes
        marked at once was measured once, and makes the mean no surer.
        """
        return mean_energy(self.each, apart=_apart(self.windows))

    def sum(self) -> Sum:
        """Return the sum with its 95 % interval; what windows overlap is counted once.

        Raises:
            InvalidArgument: the energy of one of them cannot be told.
        """
        return add(self.stretches)

    def to_pandas(self) -> pd.DataFrame:
        """Return a row a window.

        Returns:
            Columns `window`, `start_ns` (CLOCK_MONOTONIC), `duration_s`, `channel`, `joules`, `low_j`, `high_j` (NaN
            where not known), `verdict` and `codes` (those of its reasons, with spaces between).
        """
        import pandas as pd

        return pd.DataFrame(
            {
                "window": [one.name for one in self.windows],
                "start_ns": np.array([one.start_ns for one in self.windows], np.int64),
                "duration_s": self.duration_s,
                "channel": [one.channel for one in self.each],
                "joules": self.joules,
                "low_j": self.low_j,
                "high_j": self.high_j,
                "verdict": [one.verdict for one in self.each],
                "codes": [" ".join(dict.fromkeys(one.codes)) for one in self.each],
            }
        )

    @overload
    def __getitem__(self, at: int) -> Energy: ...
    @overload
    def __getitem__(self, at: slice) -> tuple[Energy, ...]: ...
    def __getitem__(self, at: int | slice) -> Energy | tuple[Energy, ...]:
        return self.each[at]

    def __len__(self) -> int:
        return len(self.each)

    def __iter__(self) -> Iterator[Energy]:
        return iter(self.each)

    def __repr__(self) -> str:
        names = dict.fromkeys(repr(one.name) for one in self.windows)
        first = ", ".join(list(names)[:3]) + (", ..." if len(names) > 3 else "")
        return f"<Energies of {len(self)} windows, {first}, {self.each[0].channel}: {self.mean()}>"


def energies(
    trace: Trace,
    windows: str | Iterable[str | Window],
    device: str | None = None,
    *,
    domain: str | None = None,
    load_period_s: float | None = None,
) -> Energies:
    """Return the energies of all windows of a name, in one pass over the recording.

    Args:
        trace: the recording.
        windows: a name that any number of windows bears, or a pattern of names: "step", "epoch *"; or windows.
        device: as `energy`.
        domain: as `energy`.
        load_period_s: as `energy`.

    Raises:
        InvalidArgument: no such window, device or domain, or several devices.
    """
    found = windows_called(trace, windows) if isinstance(windows, str) else [find_window(trace, one) for one in windows]
    if not found:
        raise InvalidArgument("energies of no windows were asked for")
    found.sort(key=lambda one: one.start_ns)
    joined, asked = stretches(found), set(found)
    more = [one for one in joined if one not in asked]
    told = energies_of(trace, [*found, *more], device, domain=domain, load_period_s=load_period_s)
    by_window = dict(zip([*found, *more], told, strict=True))
    return Energies(tuple(found), tuple(told[: len(found)]), tuple(by_window[one] for one in joined))


def windows_called(trace: Trace, name: str, only: Callable[[Window], bool] = lambda _: True) -> list[Window]:
    """Return the windows of a name, or of a pattern such as "epoch *" where none bears it as it is.

    Args:
        trace: the recording.
        name: the name or pattern.
        only: of these, those that are preferred, if there are any.

    Raises:
        InvalidArgument: there is none; the message lists those there are.
    """
    found = [one for one in trace.windows if one.name == name]
    found = found or [one for one in trace.windows if fnmatchcase(one.name, name)]
    return list(filter(only, found)) or found or [find_window(trace, name)]


def _apart(windows: Iterable[Window]) -> int:
    """Return how many of the windows can be chosen so that none overlaps another."""
    count, free_ns = 0, None
    for one in sorted(windows, key=lambda one: one.end_ns):
        if free_ns is None or one.start_ns >= free_ns:
            count, free_ns = count + 1, one.end_ns
    return count


def _floats(values: Iterable[float | None]) -> Floats:
    return np.array([np.nan if one is None else one for one in values], np.float64)
