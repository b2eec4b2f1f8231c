# SPDX-License-Identifier: Apache-2.0
"""Whether the sampler gets a CPU when its time has come."""

from __future__ import annotations

import re
from collections.abc import Iterator

from powersample.doctor.check import OK, SKIP, WARN, Check, Tried
from powersample.doctor.machine import CAP_SYS_NICE, Machine

SECTION = "scheduling"


def check_scheduling(machine: Machine) -> Iterator[Check]:
    """Yield which CPUs there are, how much of them, and whether real-time priority is allowed."""
    listed = machine.status("Cpus_allowed_list")
    usable = count_cpus(listed)
    tried = (Tried(str(machine.proc / "self/status")),)
    if usable == 1:
        yield Check(
            "PS-SCHED-01",
            WARN,
            f"only CPU {listed} may be used: sampler and program take it from each other, and slots are missed",
            tried,
        )
    elif usable:
        yield Check("PS-SCHED-00", OK, f"{usable} CPUs may be used ({listed})", tried)
    yield from _quota(machine)
    yield _fifo(machine)


def count_cpus(listed: str) -> int:
    """Return how many CPUs a list such as "0-3,8" holds."""
    parts = [re.fullmatch(r"(\d+)(?:-(\d+))?", word.strip()) for word in listed.split(",")]
    return sum(int(part[2] or part[1]) - int(part[1]) + 1 for part in parts if part)


def _quota(machine: Machine) -> Iterator[Check]:
    """A control group that has used its share up is stopped for the rest of the period, sampler included."""
    group = re.search(r"^0::(/.*)$", machine.text(machine.proc / "self/cgroup"), re.MULTILINE)
    inside = group[1].strip("/") if group else ""
    for folder in dict.fromkeys((machine.sys / "fs/cgroup" / inside, machine.sys / "fs/cgroup")):
        words, tried = machine.read(folder / "cpu.max")
        found = re.fullmatch(r"(\d+) (\d+)", words or "")
        if found:
            cpus = int(found[1]) / int(found[2])
            yield Check(
                "PS-SCHED-02",
                WARN,
                f"a control group limits this to {cpus:g} CPUs by stopping it now and then: the sampler is stopped, "
                "too, and misses slots. Give it whole CPUs (cpuset) in place of a quota",
                (tried,),
            )
            return


def _fifo(machine: Machine) -> Check:
    limits = machine.proc / "self/limits"
    found = re.search(r"^Max realtime priority\s+(\S+)", machine.text(limits), re.MULTILINE)
    allowed = found is not None and found[1] != "0"
    if allowed or machine.has_capability(CAP_SYS_NICE):
        how = f"up to priority {found[1]}" if allowed and found else "by CAP_SYS_NICE"
        return Check("PS-SCHED-03", OK, f"real-time scheduling (--fifo) is allowed, {how}", (Tried(str(limits)),))
    return Check(
        "PS-SCHED-04",
        SKIP,
        "real-time scheduling (--fifo) is refused to this user; it helps only where all CPUs are busy",
        (Tried(str(limits)),),
        'echo "$USER - rtprio 10" | sudo tee /etc/security/limits.d/70-powersample.conf  # then log in again',
    )
