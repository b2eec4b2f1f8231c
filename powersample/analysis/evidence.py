# SPDX-License-Identifier: Apache-2.0
"""What shows that no load near a part-time sensor's update period hides from it in a window.

Its own values cannot: a load in step with it looks like a constant. Others can: the board's long average, which sees
every instant; the load's own period, where it beats with the sensor's often enough; and repeats of the same work at
other phases of the sensor (`Swept`).

Repeats. The sensor's error in a work that begins at phase phi is e(phi), of period T and of mean 0 over all phases: at
each instant of the work it looks with the same chance W / T. Weighted by the share of the circle that lies nearest to
each phase, N repeats are a mean over it, so that

    M = sum w_i E_i        is the work's energy, to  t s / sqrt n
    s^2 = sum w_i (E_i - M)^2 n / (n - 1)    is the mean square of e and of the work's own changes,   n = 1 / sum w_i^2

and any one repeat is off by no more than max(t s sqrt(1 + 1 / n), |E_i - M| + t s / sqrt n), t of n - 1 degrees of
freedom. It takes phases that leave no part of the circle longer than W out: else an instant of the work may never have
been looked at, and phases in step with each other scatter by nothing whatever they miss. An even sweep of N is blind
only to changes of N a period, of which the sensor's own window leaves |sinc(N W / T)|. And it takes marks that begin
with the work: windows cut anywhere out of a load that goes on have other phases, and their load the same.

Where energies of neighbouring phases are alike and those of others are not, the sensor is being fooled, and one repeat
may lie further off than its own values tell: their mean squared step is 2 s^2 (von Neumann) if phases say nothing.
Works that change slowly while the phase drifts look the same; so do their neighbours in time, and then nothing is said.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from powersample.analysis.interval import beats_often, limit
from powersample.analysis.told import Evidence, Told
from powersample.model import Response, Window, amount, duration

FEW = {1: 12.7062, 2: 4.3027, 3: 3.1824}  # where the expansion does not hold


def student_95(freedom: float) -> float:
    """Return the two-sided 95 % quantile of Student's t, to 1 %: exactly up to 3 degrees of freedom, and from 4 on.

    Source: the expansion about the normal quantile (Abramowitz and Stegun 26.7.5).
    """
    if freedom in FEW:
        return FEW[int(freedom)]
    z = 1.959964
    terms = (
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
        (79 * z**9 + 776 * z**7 + 1482 * z**5 - 1920 * z**3 - 945 * z) / 92160,
    )
    return z + math.fsum(term / freedom**i for i, term in enumerate(terms, 1))


@dataclass(frozen=True, slots=True)
class Swept:
    """What repeats of the same work say of one channel.

    Attributes:
        count: of repeats that are looked at: those of about the middle length that have an energy.
        seconds: that length.
        mean_j: their mean over the phases.
        spread_j: their scatter about it.
        freedom: degrees of freedom of both.
        fooled: whether their energies follow the phase, and not the time.
        doubt: why they exclude nothing, in words; "" where they do.
    """

    count: int
    seconds: float = math.nan
    mean_j: float = math.nan
    spread_j: float = math.nan
    freedom: float = 0.0
    fooled: bool = False
    doubt: str = ""

    def off_by_j(self, joules: float) -> float:
        """Return how far off one repeat of that energy can be."""
        t, n = student_95(self.freedom), self.freedom + 1
        alone_j = t * self.spread_j * math.sqrt(1 + 1 / n)
        return max(alone_j, abs(joules - self.mean_j) + t * self.spread_j / math.sqrt(n))


def sweep_of(told: Sequence[Told], windows: Sequence[Window]) -> Swept:
    """Return what repeats of the same work, by one part-time channel, say of what it may have missed.

    Repeats of another length are left out, as the first of a training often has.
    """
    some = [(one, window) for one, window in zip(told, windows, strict=True) if one.energy.joules is not None]
    seconds = np.array([window.duration_s for _, window in some])
    middle_s = float(np.median(seconds)) if some else math.nan
    alike = np.abs(seconds - middle_s) <= limit("same_work") * middle_s
    there = [each for each, same in zip(some, alike, strict=True) if same]
    count = len(there)
    phase = np.array([one.phase for one, _ in there])
    joules = np.array([one.energy.joules for one, _ in there], np.float64)
    doubt = ""
    if count < limit("most_alike") * len(some):
        doubt = f"repeats of {amount(seconds.min())} to {amount(seconds.max())} s are not the same work"
    elif count < limit("least_repeats"):
        doubt = f"it takes {limit('least_repeats'):.0f} repeats, and there are {count}"
    elif any(after.start_ns < before.end_ns for (_, before), (_, after) in pairwise(there)):
        doubt = "repeats overlap"
    elif np.isnan(phase).any():
        doubt = "polls are too slow to tell at which phases of the sensor the repeats began"
    if doubt:
        return Swept(count, doubt=doubt)
    model, period_s = told[0].model, told[0].period_s
    window = 0.0 if model is None else model.window_s / period_s
    order = np.argsort(phase)
    apart = np.diff(np.append(phase[order], phase[order[0]] + 1.0))
    weight = (apart + np.roll(apart, 1)) / 2
    if apart.max() > window:
        unseen_ms = 1e3 * period_s * float(apart.max() - window)
        return Swept(
            count, doubt=f"the phases of {count} repeats leave {duration(unseen_ms / 1e3, 2)} of the period unseen"
        )
    mean_j = float(weight @ joules[order])
    n = 1.0 / float(weight @ weight)
    spread_j = math.sqrt(float(weight @ (joules[order] - mean_j) ** 2) * n / (n - 1))
    by_phase, by_time = (_slowness(np.append(each, each[0])) for each in (joules[order], joules))
    return Swept(count, middle_s, mean_j, spread_j, n - 1, by_phase < limit("with_phase") <= by_time)


def _slowness(joules: NDArray[np.float64]) -> float:
    """Return the mean squared step over twice the variance: about 1 where neighbours have nothing in common."""
    variance = float(joules[1:].var())
    return float((np.diff(joules) ** 2).mean()) / (2 * variance) if variance > 0 else 1.0


def swept_evidence(one: Told, window: Window, swept: Swept) -> tuple[Evidence | None, str]:
    """Return what a sweep shows of one of its repeats, or why it shows nothing."""
    if swept.doubt or one.energy.joules is None:
        return None, swept.doubt
    if abs(window.duration_s - swept.seconds) > limit("same_work") * swept.seconds:
        return None, f"they take {amount(swept.seconds)} s and this takes {amount(window.duration_s)} s"
    scatter = f"{amount(swept.spread_j)} J"
    words = f"{swept.count} repeats at phases all around the sensor's period, which scatter by {scatter}"
    return Evidence(swept.off_by_j(one.energy.joules), words, swept.fooled), ""


def period_evidence(one: Told, window: Window, low_s: float, high_s: float, words: str) -> Evidence | None:
    """Return what a load's period shows; None where it does not beat with the sensor's often enough.

    Args:
        one: what a part-time channel tells.
        window: the window.
        low_s: the load's shortest period in it.
        high_s: its longest.
        words: where they come from.
    """
    if one.model is None or one.model.response is not Response.PART_TIME:
        return None
    if not beats_often(one.model, one.period_s, (low_s, high_s), window.duration_s, resolved=one.resolved):
        return None
    return Evidence(
        0.0, f"a load that repeats every {amount((low_s + high_s) / 2, 4)} s ({words}) and so beats with the sensor"
    )


def average_evidence(one: Told, told: Sequence[Told], window: Window) -> Evidence | None:
    """Return how far off a part-time sensor's energy can be by what the board's long average says.

    The average sees every instant, so the truth lies within its own interval: the two differ by so much at most that
    their distance and that interval hold it. Gain and offset are the board's and not told apart here.
    """
    if one.model is None or one.model.response is not Response.PART_TIME or one.energy.joules is None:
        return None
    if window.duration_s < limit("evidence_s"):
        return None
    joules, place = one.energy.joules, (one.energy.device, one.energy.domain)
    found = [
        Evidence(
            abs(joules - other.energy.joules)
            + other.reconstruction.half_j
            + limit("gain_of_fields") * max(joules, other.energy.joules),
            f"{other.energy.channel}, which sees every instant and differs by "
            f"{amount(abs(joules - other.energy.joules))} J",
        )
        for other in told
        if other.model is not None
        and other.model.response is Response.AVERAGE
        and other.energy.joules is not None
        and other.reconstruction is not None
        and (other.energy.device, other.energy.domain) == place
    ]
    return min(found, key=lambda each: each.off_by_j, default=None)
