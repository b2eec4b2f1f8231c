# SPDX-License-Identifier: Apache-2.0
"""What others did on this machine meanwhile: all CPUs' use less that of this process and what it started.

/proc/stat counts what all CPUs did not do: by the clock, where the sum of what they did is counted at ticks, from
which a load of a regular duty hides. /proc/PID/stat counts what a process did, with children that have ended and were
waited for.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from powersample.errors import BadFormat, NotSupported

LIMIT_SHARE = 0.01  # of all CPUs: one busy thread of 100 is some watts
LEAST_CPUS = 0.1  # but no less than this, of one CPU: every system does something
SPARE = (4, 5, 8)  # idle, iowait, and steal: what a hypervisor took is no load here


@dataclass(frozen=True, slots=True)
class Accounts:
    """What CPUs had done at an instant.

    Attributes:
        at_ns: CLOCK_MONOTONIC.
        cpus: how many there are.
        spare_s: what all of them together did not do, s.
        own_s: what this process and its descendants did, s.
    """

    at_ns: int
    cpus: int
    spare_s: float
    own_s: float

    def others_cpus(self, later: Accounts) -> float:
        """Return how many CPUs others kept busy until `later`, on the mean; never below 0."""
        elapsed_s = (later.at_ns - self.at_ns) * 1e-9
        if elapsed_s <= 0:
            return 0.0
        busy = later.cpus - (later.spare_s - self.spare_s) / elapsed_s
        return max(0.0, busy - (later.own_s - self.own_s) / elapsed_s)


class Watch:
    """Looks at the accounts.

    Args:
        proc: What stands for /proc.
        pid: Whose use is not others'; this process unless told.

    Raises:
        NotSupported: This system has no such accounts.
    """

    def __init__(self, proc: Path = Path("/proc"), pid: int | None = None) -> None:
        self._proc, self._pid = proc, os.getpid() if pid is None else pid
        self._tick_s = 1 / os.sysconf("SC_CLK_TCK")
        self.cpus, spare_s = self._stat()
        if not spare_s:  # some sandboxes write zeros
            raise NotSupported(f"{proc / 'stat'} does not count what CPUs do")

    @property
    def limit_cpus(self) -> float:
        """From how many CPUs on that others keep busy a point counts as disturbed."""
        return max(LEAST_CPUS, LIMIT_SHARE * self.cpus)

    def look(self, now_ns: int) -> Accounts:
        """Return the accounts. Raises `NotSupported` when they are gone."""
        own_s = sum(self._used_s(pid) for pid in self._family())
        return Accounts(now_ns, *self._stat(), own_s)

    def _stat(self) -> tuple[int, float]:
        """Return the number of CPUs and what they did not do, s."""
        path = self._proc / "stat"
        try:
            lines = path.read_text("ascii").splitlines()
            fields = lines[0].split()
            if fields[0] != "cpu":
                raise BadFormat(f"{path} does not begin with the CPUs")
            cpus = sum(line.startswith("cpu") for line in lines[1:])
            return cpus, sum(int(fields[i]) for i in SPARE) * self._tick_s
        except OSError as error:
            raise NotSupported(f"{path} cannot be read: {error.strerror} [errno {error.errno}]") from error
        except (IndexError, ValueError) as error:
            raise BadFormat(f"{path} is not what Linux writes ({error})") from error

    def _family(self) -> list[int]:
        found, todo = [], [self._pid]
        while todo:
            pid = todo.pop()
            found.append(pid)
            for children in (self._proc / str(pid)).glob("task/*/children"):
                try:
                    todo += [int(one) for one in children.read_text("ascii").split()]
                except OSError:  # that thread has just ended
                    continue
        return found

    def _used_s(self, pid: int) -> float:
        """Return what a process did, with children it has waited for; 0 of one that has just ended."""
        try:
            text = (self._proc / str(pid) / "stat").read_text("ascii", "replace")
        except OSError:
            return 0.0
        fields = text.rpartition(")")[2].split()  # the name may hold anything
        return sum(int(fields[i]) for i in range(11, 15)) * self._tick_s  # utime, stime, cutime, cstime
