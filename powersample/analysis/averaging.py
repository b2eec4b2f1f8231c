# SPDX-License-Identifier: Apache-2.0
"""The pass over a power channel whose sensor is known: joules, their interval and a verdict for every window.

An averaging sensor's value belongs to the span that it averages, not to the poll that found it: windows are looked up
later by delay + W/2, cells of updates are summed, and a first-order lag is undone exactly, since the integral of the
true power over [a, b] is that of the lagged one plus tau x (its change from a to b). A long average is inverted instead
(inversion.py).
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.arrays import Array, Floats
from powersample.analysis.cells import HOLE, Cells, Reach
from powersample.analysis.integrals import Reads
from powersample.analysis.interval import limit, reconstructions
from powersample.analysis.inversion import Inversion
from powersample.analysis.polls import Polls
from powersample.analysis.published import Published, Updates
from powersample.analysis.sweep import edges
from powersample.analysis.told import Coverage, Told, best_verdicts, briefs, gap, guessed, short
from powersample.analysis.updates import Pace
from powersample.model import Channel, Kind, Response, SensorModel, Window, duration

RESOLVED = 3.0  # polls an update from which the sensor's own spacing is measured rather than looked up
PHASE_POLLS = 0.5  # poll spacings in what a value averages, up to which the phase of a window's start is told
MOST_QUANTUM_W = 1.0  # no sensor is known to be coarser; a load of few levels looks as if one were
NEAR_NS = 1_000_000_000
WIDE_NS = 30_000_000_000
STEP_COST_J = 3.0  # of moving a rest by one long average: real boards' averages are no exact boxcars (2 W, 1 s)
METHODS = {
    Response.PART_TIME: "cells of updates",
    Response.CONTIGUOUS: "cells of updates",
    Response.AVERAGE: "long average inverted",
    Response.LOGARITHMIC: "cells of updates, lag undone",
}


def resolves(seen: Pace) -> bool:
    """Whether polls tell the sensor's update period, so that it need not be looked up."""
    return seen.period_ns is not None and seen.poll_ns is not None and seen.period_ns >= RESOLVED * seen.poll_ns


def update_period_ns(model: SensorModel, seen: Pace) -> float:
    """Return the update period: measured where polls resolve it, else the table's."""
    return seen.period_ns if resolves(seen) and seen.period_ns is not None else model.period_s * 1e9


class Averaging:
    """The pass."""

    def __init__(self, channel: Channel, model: SensorModel, seen: Pace, windows: Sequence[Window]) -> None:
        self._channel, self._model, self._seen, self._windows = channel, model, seen, windows
        self._period_ns = update_period_ns(model, seen)
        self._spacing_ns = max(self._period_ns, seen.poll_ns or 0.0)
        window_ns = model.window_s * 1e9
        self._edges = edges(windows)
        shifted = self._edges + round((model.delay_s + model.window_s / 2) * 1e9)
        reach = Reach(
            edge_ns=round(max(1.5 * self._spacing_ns, 0.6 * window_ns, 2e9 * model.tau_s)),
            near_ns=max(NEAR_NS, round(5 * self._period_ns)),
            wide_ns=WIDE_NS,
        )
        self._published = Published(self._period_ns, HOLE * self._spacing_ns)
        self._cells = Cells(shifted, spacing_ns=self._spacing_ns, window_ns=window_ns, reach=reach)
        self._inversion: Inversion | None = None
        if model.response is Response.AVERAGE:
            self._inversion = Inversion(
                self._edges,
                window_ns=window_ns,
                delay_ns=model.delay_s * 1e9,
                spacing_ns=self._spacing_ns,
                step_cost=STEP_COST_J * 1e9 / channel.scale,
            )
        self._reads = Reads(edges(windows), channel.sensor)
        self._last: Array | None = None
        self._quantum = np.inf

    def add(self, piece: Polls) -> None:
        """Take the next polls."""
        self._reads.add(piece)
        if len(piece.raw):
            raw = piece.raw if self._last is None else np.concatenate((self._last, piece.raw))
            steps = np.abs(np.diff(raw)).astype(np.float64)
            self._quantum = min(self._quantum, float(steps[steps > 0].min(initial=np.inf)))
            self._last = piece.raw[-1:]
        self._take(self._published.add(piece.t_ns, piece.raw, piece.omitted))

    def _take(self, updates: Updates) -> None:
        self._cells.add(updates)
        if self._inversion is not None:
            self._inversion.add(updates)

    def lacks(self) -> NDArray[np.bool_]:
        """Return bool, shape (2, windows): edges that the updates do not reach across."""
        return self._cells.lacks()

    def results(self) -> list[Told]:
        """Return what is told, a window each."""
        self._take(self._published.close())
        model, scale = self._model, self._channel.scale
        long = model.response is Response.AVERAGE  # of which a value held on says little
        sums = self._cells.close(self._spacing_ns + (0.0 if long else (model.delay_s + model.window_s / 2) * 1e9))
        joules = (sums.area * 1e-9 + model.tau_s * (sums.ends[1] - sums.ends[0])) * scale
        cost_j = None
        if self._inversion is not None:
            inverted, cost = self._inversion.close()
            told = np.isfinite(inverted)
            joules = np.where(told, inverted * scale * 1e-9, joules)
            cost_j = np.where(told, cost * scale * 1e-9, 0.0)
            sums = replace(
                sums,
                uncovered_ns=np.where(told, 0.0, sums.uncovered_ns),
                carried_ns=np.where(told, 0.0, sums.carried_ns),
            )
        length_ns = self._reads.lengths_ns()
        seconds = length_ns / 1e9
        joules = np.maximum((joules - model.offset_w * seconds) / model.gain, 0.0)
        unsure = reconstructions(
            model,
            sums,
            scale=scale,
            duration_s=seconds,
            period_s=self._period_ns * 1e-9,
            spacing_s=self._spacing_ns * 1e-9,
            quantum_w=min(self._quantum * scale, MOST_QUANTUM_W),
            inversion_j=cost_j,
        )
        coverage = Coverage(self._channel, self._windows, self._reads, sums.uncovered_ns, sums.hidden_ns)
        brief, new = briefs(length_ns, self._period_ns), duration(self._period_ns / 1e9)
        columns = (
            joules.tolist(),
            sums.hidden_ns.tolist(),
            sums.holes.tolist(),
            (sums.wide_least * scale).tolist(),
            (sums.wide_most * scale).tolist(),
            unsure,
            (np.maximum(sums.wide_most, 0.0) * scale * sums.uncovered_ns * 1e-9).tolist(),
            best_verdicts(length_ns, sums.hidden_ns, max(self._period_ns, model.window_s * 1e9)),
            self._phases(sums.phase_ns).tolist(),
        )
        sparse = self._spacing_ns > HOLE * self._period_ns  # no campaign tells what lies between such polls
        found = []
        for i, (window, each_j, hidden_ns, holes, least_w, most_w, off_by, missing_j, cap, phase) in enumerate(
            zip(self._windows, *columns, strict=True)
        ):
            reasons = self._reasons(i, window, hidden_ns, holes)
            if brief[i]:
                reasons.append(short(window, new))
            energy = coverage.energy(i, each_j, METHODS[model.response], reasons)
            known = not (sparse and self._reads.good(i) < limit("least_polls"))
            if not known:
                energy = guessed(energy)
            found.append(
                Told(
                    energy,
                    Kind.POWER,
                    self._period_ns * 1e-9,
                    False,
                    least_w,
                    most_w,
                    self._channel.divisor,
                    model if known else None,
                    off_by if known else None,
                    missing_j,
                    cap,
                    phase,
                    resolves(self._seen),
                )
            )
        return found

    def _phases(self, until_ns: Floats) -> Floats:
        """Return the time to the next update in update periods; NaN where polls cannot tell it, or nothing follows."""
        if not (self._seen.poll_ns or np.inf) <= PHASE_POLLS * self._model.window_s * 1e9:
            return np.full_like(until_ns, np.nan)
        return np.where(until_ns < self._period_ns * HOLE, until_ns / self._period_ns, np.nan)

    def _reasons(self, i: int, window: Window, hidden_ns: float, holes: int) -> list[str]:
        reasons, model = self._reads.reasons(i), self._model
        if self._reads.good(i) and not self._reads.within("changes", i):
            reasons.append("PSQ-CONSTANT the value never changed: repeats and a stuck sensor look the same")
        if hidden_ns:
            reasons.append(gap(holes, hidden_ns, window, "bridged by their neighbours"))
        if model.response is Response.AVERAGE and window.duration_s < model.window_s:
            words = f"{duration(window.duration_s)}, and each value averages {duration(model.window_s)}"
            reasons.append(f"PSQ-AVERAGED {words}")
        return reasons
