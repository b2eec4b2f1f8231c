# SPDX-License-Identifier: Apache-2.0
"""What a sensor published, out of polls that come in chunks.

A new value appears somewhere between the last poll that did not see it and the first that did; the middle is its
instant. An equal value is an update as well: a run of repeats is filled with updates at the sensor's own spacing, up to
the run's last poll. Without them a step after a calm stretch would look like a long ramp. Where nobody polled for long
the run ends, though the value may be the same behind the hole.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Array, Omitted

SURE_OF_ONE = 1.03  # periods back from a poll at which its value must have been published
LONG_RUN = 64  # updates that an unfinished run may hold back
KEPT_BACK = 2  # of a longer one: their spacing is known only once the run has ended


@dataclass(frozen=True, slots=True)
class Updates:
    """Published values; both arrays of shape (n,), instants rising.

    Attributes:
        t_ns: int64, when each was published.
        value: float64, in the channel's raw unit.
    """

    t_ns: NDArray[np.int64]
    value: NDArray[np.float64]


class Published:
    """The updates behind good polls.

    Args:
        period_ns: the sensor's update period.
        hole_ns: spacing of polls from which something is hidden between them.
    """

    def __init__(self, period_ns: float, hole_ns: float) -> None:
        self._period_ns, self._hole_ns = period_ns, hole_ns
        self._at_ns = 0  # newest update of the run that goes on, not yet told
        self._changed = False  # before any change it may be half a period older or newer
        self._last: tuple[NDArray[np.int64], Array] | None = None  # its last poll

    def add(self, t_ns: NDArray[np.int64], raw: Array, omitted: Omitted) -> Updates:
        """Take the next good polls, with how many equal ones were left out before each.

        Returns:
            The updates of the runs that ended.
        """
        if not len(t_ns):
            return _none()
        if self._last is None:
            self._at_ns = int(t_ns[0]) - round(self._period_ns / 2)
            omitted = omitted[1:]
        else:
            t_ns, raw = np.concatenate((self._last[0], t_ns)), np.concatenate((self._last[1], raw))
        self._last = (t_ns[-1:], raw[-1:])
        hole = (np.diff(t_ns) > self._hole_ns) & (omitted == 0)
        changed = np.flatnonzero((np.diff(raw) != 0) | hole) + 1
        self._changed |= len(changed) > 0
        earliest = np.maximum(t_ns[changed - 1], t_ns[changed] - round(SURE_OF_ONE * self._period_ns))
        begins = np.concatenate(([self._at_ns], earliest + (t_ns[changed] - earliest) // 2))
        self._at_ns = int(begins[-1])
        values = raw[np.concatenate(([0], changed))].astype(np.float64)
        length_ns = np.diff(begins).astype(np.float64)
        slots = np.maximum(1.0, np.rint(length_ns / self._period_ns))
        step_ns = length_ns / slots
        seen = np.floor((t_ns[changed - 1] - begins[:-1]) / np.maximum(step_ns, 1.0))
        ended = _filled(begins[:-1], values[:-1], step_ns, np.clip(seen, 0, slots - 1))
        waiting = int((int(t_ns[-1]) - self._at_ns) / self._period_ns)
        if waiting <= LONG_RUN:
            return ended
        told = waiting - KEPT_BACK
        going_on = _filled(begins[-1:], values[-1:], np.array([self._period_ns]), np.array([told - 1.0]))
        self._at_ns += round(told * self._period_ns)
        return _joined(ended, going_on)

    def close(self) -> Updates:
        """Return the updates of the run that the record ends with."""
        if self._last is None:
            return _none()
        t_ns, raw = self._last
        latest_ns = self._at_ns + (0 if self._changed else round(self._period_ns / 2))
        more = max(0, int((int(t_ns[0]) - latest_ns) / self._period_ns))  # that were published for sure
        begin = np.array([self._at_ns], np.int64)
        return _filled(begin, raw.astype(np.float64), np.array([self._period_ns]), np.array([float(more)]))


def _none() -> Updates:
    return Updates(np.empty(0, np.int64), np.empty(0))


def _joined(first: Updates, second: Updates) -> Updates:
    return Updates(np.concatenate((first.t_ns, second.t_ns)), np.concatenate((first.value, second.value)))


def _filled(
    begins: NDArray[np.int64], values: NDArray[np.float64], step_ns: NDArray[np.float64], repeats: NDArray[np.float64]
) -> Updates:
    """Return every run's first update and its repeats."""
    count = repeats.astype(np.int64) + 1
    run = np.repeat(np.arange(len(begins)), count)
    place = np.arange(len(run)) - np.repeat(np.cumsum(count) - count, count)
    return Updates(begins[run] + (place * step_ns[run]).astype(np.int64), values[run])
