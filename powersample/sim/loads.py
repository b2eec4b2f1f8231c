# SPDX-License-Identifier: Apache-2.0
"""The part of `Node` that gives devices their load: scripts, recorded traces, waves, a program's CPU use."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterable

from numpy.typing import ArrayLike

from powersample._native import api_sim
from powersample.errors import InvalidArgument, StateError
from powersample.sim import cpu, scenario

LEAD_NS = 20_000_000  # a load begins so much after it is asked for, to be published before it is true

Step = tuple[int, tuple[int, ...]]  # ns from the start; mW, or a wave's mW, mW, period and first part in ns


class LoadControl:
    """Loads of the node's devices: GPUs by index or as "gpu0", "package-0", "package-0.dram", "board".

    What lies in a package (core, uncore) takes its share of the package's load; DRAM and board have their own.
    """

    _follow: api_sim.Follow | None = None
    _followed: api_sim.FollowStats | None = None

    def _truths_of(self, device: int | str) -> tuple[api_sim.Truth, ...]:
        raise NotImplementedError

    def _sources(self) -> dict[str, tuple[api_sim.Truth, int, int]]:
        """Return truth, idle and full power in mW of everything that draws power."""
        raise NotImplementedError

    def _package(self, device: int | str) -> tuple[cpu.Part, tuple[cpu.Part, ...]] | None:
        """Return a package and what lies in it; None when `device` is none. Refuses what lies in a package."""
        raise NotImplementedError

    def _must_be_open(self) -> None:
        raise NotImplementedError

    def load_script(
        self, device: int | str, steps: Iterable[tuple[float, float]], *, start_ns: int | None = None
    ) -> int:
        """Let a device draw the power of `steps`, (seconds from the start, watts from then on); the last holds.

        Args:
            device: A GPU's index, or a name of `devices`.
            steps: At least one, times ascending.
            start_ns: CLOCK_MONOTONIC, in the future and after any load given before; None: as soon as
                possible.

        Returns:
            The start.

        Raises:
            InvalidArgument: A step or `start_ns` outside its range; a device that has no load of its own.
            StateError: A program is being followed, or the node is closed.
            DiskFull: The truth found no space; what was given so far holds.
        """
        return self._append(device, [(t, (p,)) for t, p in scenario.checked_steps(steps)], start_ns)

    def load_trace(self, device: int | str, t_ns: ArrayLike, watts: ArrayLike, *, start_ns: int | None = None) -> int:
        """Let a device draw a recorded power: `watts[i]` from `t_ns[i] - t_ns[0]` on; else as `load_script`."""
        times, power = scenario.checked_trace(t_ns, watts)
        return self._append(device, [(t, (p,)) for t, p in zip(times.tolist(), power.tolist(), strict=True)], start_ns)

    def load_wave(
        self,
        device: int | str,
        p1_w: float,
        p2_w: float,
        period_s: float,
        duty: float,
        *,
        start_ns: int | None = None,
    ) -> int:
        """Let a device draw `p1_w` for `duty` of each period, then `p2_w`, for ever; else as `load_script`."""
        period_ns = scenario.nanoseconds(period_s, "period")
        on_ns = round(period_ns * duty) if math.isfinite(duty) else 0
        if not 0 < on_ns < period_ns:
            raise InvalidArgument(f"a wave of {period_s!r} s with duty {duty!r} has no two levels")
        levels = (scenario.milliwatts(p1_w, "p1_w"), scenario.milliwatts(p2_w, "p2_w"))
        return self._append(device, [(0, (*levels, period_ns, on_ns))], start_ns)

    def follow(self, pid: int = 0, *, capacity_cpus: float | None = None) -> None:
        """Turn a program's CPU use into the load of all devices, idle to full power at `capacity_cpus` CPUs.

        Power comes 2 to 12 ms after the use. Until `unfollow`, no other load can be given.

        Args:
            pid: A process; what it starts from now on counts too where perf is allowed (`truth_state` tells),
                else its threads alone. 0: this process, the recorder's own small use included.
            capacity_cpus: None: the CPUs this process may use.

        Raises:
            InvalidArgument: `capacity_cpus` is not above 0.
            DeviceNotFound: There is no such process.
            StateError: One is being followed already, or the node is closed.
        """
        self._must_be_free()
        capacity = float(len(os.sched_getaffinity(0))) if capacity_cpus is None else float(capacity_cpus)
        if not (math.isfinite(capacity) and capacity > 0):
            raise InvalidArgument(f"capacity_cpus is {capacity_cpus!r}; it must be above 0")
        truths, idle_mw, max_mw = (list(column) for column in zip(*self._sources().values(), strict=True))
        self._follow = api_sim.Follow(pid, truths=truths, idle_mw=idle_mw, max_mw=max_mw, capacity_cpus=capacity)
        self._followed = None

    def unfollow(self) -> None:
        """Stop following; the devices become idle. Without effect when nothing is followed."""
        follow, self._follow = self._follow, None
        if follow is not None:
            self._followed = follow.stop()

    def _must_be_free(self) -> None:
        self._must_be_open()
        if self._follow is not None:
            raise StateError("a program is being followed as the load", "Call unfollow first.")

    def _append(self, device: int | str, steps: list[Step], start_ns: int | None) -> int:
        loaded = self._loaded(device, steps)
        self._must_be_free()
        last_ns = max(truth.state().last_t0_ns for truth, _ in loaded)
        now_ns = time.monotonic_ns()
        if start_ns is None:
            start_ns = max(now_ns + LEAD_NS, last_ns + 1)
        elif start_ns <= max(now_ns, last_ns):
            behind_s = (max(now_ns, last_ns) - start_ns) / 1e9
            raise InvalidArgument(f"start_ns lies {behind_s:.3f} s before now or before the end of the last load")
        for step, (offset_ns, _) in enumerate(steps):  # in order of time: the next instant is the most urgent
            for truth, powers in loaded:
                truth.append(start_ns + offset_ns, *powers[step], live=True)
        return start_ns

    def _loaded(self, device: int | str, steps: list[Step]) -> list[tuple[api_sim.Truth, list[tuple[int, ...]]]]:
        """Return every truth that a load of `device` moves, with its power at each step."""
        package = self._package(device)
        (truth,) = self._truths_of(device)
        if package is None:
            return [(truth, [power for _, power in steps])]
        whole, inner = package
        powers: dict[str, list[tuple[int, ...]]] = {part.name: [] for part in (whole, *inner)}
        for _, power in steps:
            levels = [cpu.shares(whole, inner, level_mw) for level_mw in power[:2]]
            for name, of in powers.items():
                of.append((*(level[name] for level in levels), *power[2:]))
        return [(self._truths_of(name)[0], of) for name, of in powers.items()]
