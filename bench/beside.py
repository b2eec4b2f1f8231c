# SPDX-License-Identifier: Apache-2.0
"""Sampling beside a main thread busy in Python: the native lane and a pynvml thread on the same grid, by turns."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import numpy as np

from bench import native, sustained
from bench.figure import Bar, Figure, spread
from bench.sustained import Taken

KEY = "beside"
MORE = "readings of the native lane over those of a pynvml thread, {:g} kHz, beside a Python-busy main thread"
CLOSER = "p99 gap of a pynvml thread over that of the native lane, {:g} kHz, beside the same"
BEYOND = "the same of what the p99 gaps are beyond the grid's own spacing, {:g} kHz"
BARS = {1000.0: (Bar(">=", 2.5), Bar(">=", 20)), 10_000.0: (Bar(">=", 15), Bar(">=", 20))}
CLOCK_US = 1.0  # an excess is not told finer than this


def _share(taken: Taken) -> float:
    """Return the share of slots served; of a method without slots, readings over those asked for."""
    if taken.slots and taken.passes is not None:
        return taken.passes / taken.slots
    return len(taken) / (taken.seconds * taken.asked_hz)


def _run(method: str, rate_hz: float, load: str, seconds: float) -> Taken:
    from powersample.experiments.baselines import PynvmlThread

    library = native.stub_library()
    if method == "native":
        return sustained.lane(library, rate_hz, sustained.LOADS[load], seconds)
    return sustained.baseline(PynvmlThread(library, asked_hz=rate_hz), sustained.LOADS[load], seconds)


def beyond_us(taken: Taken) -> float:
    """Return by how much the p99 gap is longer than the grid's spacing, us: what a sampler can do something about."""
    return max(CLOCK_US, taken.gap_us(99) - 1e6 / taken.asked_hz)


def between_neighbours(runs: list[Taken]) -> str:
    """Return how far one method's runs differ by themselves, as a note: what is less than that is no difference."""
    rates = [len(one) / one.seconds for one in runs]
    differing = [abs(one / other - 1) for one, other in pairwise(rates)]
    return f"{np.median(differing):.1%}" if differing else "unknown"


def _at(rate_hz: float, repeats: int, seconds: float) -> Iterator[Figure]:
    runs: dict[tuple[str, str], list[Taken]] = {
        (method, load): [] for method in ("native", "pynvml") for load in ("idle", "python")
    }
    for _ in range(repeats):
        for (method, load), mine in runs.items():
            mine.append(_run(method, rate_hz, load, seconds))
    ours, theirs = runs["native", "python"], runs["pynvml", "python"]
    khz = rate_hz / 1000
    where = f"{repeats} runs of {seconds:g} s by turns at {khz:g} kHz, stand-in: the stub library, whose call is free"
    if rate_hz == 1000:
        for method, what, bar in (
            ("native", "slots served by the native lane beside a Python-busy main thread", Bar(">=", 0.98)),
            ("pynvml", "readings of a pynvml thread over those asked for, beside the same", None),
        ):
            at_rest = [_share(one) for one in runs[method, "idle"]]
            shares = [_share(one) for one in runs[method, "python"]]
            notes = [where, f"beside an idle main thread: {np.median(at_rest):.4f}", f"quartiles {spread(shares)}"]
            yield Figure(KEY, what, "share", bar, shares, notes)
    ratios = [len(one) / max(1, len(other)) for one, other in zip(ours, theirs, strict=True)]
    at_rest = [
        len(one) / max(1, len(other)) for one, other in zip(runs["native", "idle"], runs["pynvml", "idle"], strict=True)
    ]
    more, closer = BARS[rate_hz]
    notes = [
        where,
        f"quartiles {spread(ratios)}",
        f"beside an idle main thread {np.median(at_rest):.3g}",
        f"A/A: neighbouring runs of one method differ by {between_neighbours(ours)} (native) and "
        f"{between_neighbours(theirs)} (pynvml), median",
    ]
    yield Figure(KEY, MORE.format(khz), "ratio", more, ratios, notes)
    gaps = [other.gap_us(99) / one.gap_us(99) for one, other in zip(ours, theirs, strict=True)]
    ours_us, theirs_us = ([one.gap_us(99) for one in mine] for mine in (ours, theirs))
    notes = [
        where,
        f"quartiles {spread(gaps)}",
        f"p99 of the gaps {np.median(ours_us):.0f} us (native) and {np.median(theirs_us):.0f} us (pynvml)",
    ]
    grid_us = 1e6 / rate_hz
    notes.append(
        f"no gap is below the grid's {grid_us:g} us: {closer.limit:g} times takes a p99 gap of the thread of "
        f"{closer.limit * grid_us / 1e3:g} ms, whatever the lane does; what is beyond the grid is the next row"
    )
    yield Figure(KEY, CLOSER.format(khz), "ratio", closer, gaps, notes)
    excess = [beyond_us(other) / beyond_us(one) for one, other in zip(ours, theirs, strict=True)]
    ours_us, theirs_us = ([beyond_us(one) for one in mine] for mine in (ours, theirs))
    notes = [
        where,
        f"quartiles {spread(excess)}",
        f"{np.median(ours_us):.0f} us (native) and {np.median(theirs_us):.0f} us (pynvml)",
    ]
    yield Figure(KEY, BEYOND.format(khz), "ratio", None, excess, notes)


def figures(quick: bool) -> Iterator[Figure]:
    """Yield shares of both methods and their ratios at 1 and 10 kHz."""
    if not sustained.interpreter_has_a_lock():
        reason = "this Python has no interpreter lock, which is what keeps a thread from sampling"
        for rate_hz, (more, closer) in BARS.items():
            yield Figure(KEY, MORE.format(rate_hz / 1000), "ratio", more, skipped=reason)
            yield Figure(KEY, CLOSER.format(rate_hz / 1000), "ratio", closer, skipped=reason)
            yield Figure(KEY, BEYOND.format(rate_hz / 1000), "ratio", skipped=reason)
        return
    repeats, seconds = (2, 0.5) if quick else (5, 2.0)
    for rate_hz in BARS:
        yield from _at(rate_hz, repeats, seconds)
