# SPDX-License-Identifier: Apache-2.0
"""Does polling faster change the energy? The same polls thinned out, and the same estimator on what is left.

A sensor that is polled often enough gives the same energy from every second of its polls, and from every eighth. Where
it does not, the full rate may be too low as well: who polls at the rate at which the answer stops moving has enough.
It tells nothing of what the sensor itself does not see between two updates.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from powersample.analysis.energy import channel_energies
from powersample.analysis.sweep import CONTEXT_NS
from powersample.analysis.updates import pace
from powersample.errors import InvalidArgument, NotSupported
from powersample.model import Kind, Series, Trace, Window

THINNED = (1, 2, 4, 8)
MOST_POLLS = 2_000_000  # that are looked at; of a longer window its beginning


@dataclass(frozen=True, slots=True)
class Thinned:
    """A window's energy from every n-th poll, over all n ways to choose them.

    Attributes:
        every: n.
        poll_hz: polls a second that are left; None where the polls' spacing is unknown.
        least_j: least energy that any of the n ways gives; None where one of them gives none.
        most_j: greatest.
    """

    every: int
    poll_hz: float | None
    least_j: float | None
    most_j: float | None


@dataclass(frozen=True, slots=True)
class RateSensitivity:
    """Whether a channel's energy depends on how often it was polled.

    Attributes:
        channel: its name.
        window: what was looked at.
        rates: by the share of polls that is left, all of them first.
        half_j: what reconstruction at the full rate may be off by, 95 %; None where nothing is known of the sensor.
        verdict: "insensitive" while every way to leave out polls stays within half_j of the full rate; "sensitive" from
            where one does not; "unknown" without half_j or without an energy.
        enough_hz: least rate from which on it is insensitive; None where none is.
    """

    channel: str
    window: Window
    rates: tuple[Thinned, ...]
    half_j: float | None
    verdict: str
    enough_hz: float | None


def rate_sensitivity(trace: Trace, name: str, window: Window) -> RateSensitivity:
    """Return a window's energy from all, half, a quarter and an eighth of a channel's polls.

    Args:
        trace: the recording; polls that it left out because they repeated others are put back.
        name: a power or energy channel.
        window: the span; of one with more than two million polls the beginning is looked at.

    Raises:
        InvalidArgument: the channel is of another kind, or the window has no length.
        NotSupported: its lane followed the sensor's updates.
        DeviceNotFound: there is no such channel.
    """
    channel = trace.channel(name)
    if channel.kind is Kind.AUX:
        raise InvalidArgument(f"{name} is in {channel.unit}: only power and energy channels have joules")
    if window.end_ns <= window.start_ns:
        raise InvalidArgument(f"window {window.name!r} has no length: no rate changes its energy")
    seen = pace(trace, name)
    if seen.followed_ns is not None:
        raise NotSupported(f"{name} was polled around its updates only: it has no rate that could be thinned out")
    polls = _every_poll(trace, name, window)
    last_ns = int(polls.t_ns[-1]) if len(polls) == MOST_POLLS else window.end_ns
    if last_ns < window.end_ns:
        window = Window(window.name, window.start_ns, max(window.start_ns + 1, last_ns - CONTEXT_NS))
    rates = []
    half_j: float | None = None
    for every in THINNED:
        found_j: list[float | None] = []
        for phase in range(every):
            thin = Trace.of([polls.take(slice(phase, None, every))], meta=trace.meta)
            (told,) = channel_energies(thin, name, [window])
            found_j.append(told.energy.joules)
            if every == 1 and told.reconstruction is not None:
                half_j = told.reconstruction.half_j
        known_j = [one for one in found_j if one is not None]
        whole = len(known_j) == every
        rates.append(
            Thinned(
                every,
                1e9 / (seen.poll_ns * every) if seen.poll_ns else None,
                min(known_j) if whole else None,
                max(known_j) if whole else None,
            )
        )
    within = [_within(one, rates[0], half_j) for one in rates]
    sure = len(rates) if all(within) else within.index(False)
    verdict = "insensitive" if sure == len(rates) else "sensitive"
    if half_j is None or rates[0].least_j is None:
        verdict = "unknown"
    enough_hz = rates[sure - 1].poll_hz if verdict != "unknown" and sure > 1 else None
    return RateSensitivity(name, window, tuple(rates), half_j, verdict, enough_hz)


def _within(one: Thinned, full: Thinned, half_j: float | None) -> bool:
    if half_j is None or one.least_j is None or one.most_j is None or full.least_j is None:
        return False
    return max(abs(one.least_j - full.least_j), abs(one.most_j - full.least_j)) <= half_j


def _every_poll(trace: Trace, name: str, window: Window) -> Series:
    """Return the polls in and around a window, those included that repeated others and were not kept."""
    return Series.concat(trace.channel(name), _unfolded(trace, name, window)).take(slice(0, MOST_POLLS))


def _unfolded(trace: Trace, name: str, window: Window) -> Iterator[Series]:
    polls = 0
    before: Series | None = None
    for chunk in trace.chunks(name, window.start_ns - CONTEXT_NS, window.end_ns + CONTEXT_NS):
        whole = _put_back(chunk, before) if chunk.left_out.any() else chunk
        before = chunk.take(slice(-1, None))
        polls += len(whole)
        yield whole
        if polls >= MOST_POLLS:
            return


def _put_back(chunk: Series, before: Series | None) -> Series:
    """Return readings with those between that were left out, evenly spaced: they say the same as the later one."""
    left_out = chunk.left_out.astype(np.int64)
    if before is None or not len(before):
        left_out[0] = 0
    first_ns = chunk.t0_ns[:1] if before is None or not len(before) else before.t0_ns
    begins_ns = np.concatenate((first_ns, chunk.t0_ns[:-1]))
    count = left_out + 1
    reading = np.repeat(np.arange(len(chunk)), count)
    place = np.arange(len(reading)) - np.repeat(np.cumsum(count) - count, count) + 1
    back_ns = (chunk.t0_ns - begins_ns)[reading] * (count[reading] - place) // count[reading]
    return Series(
        chunk.channel,
        chunk.t0_ns[reading] - back_ns,
        chunk.t1_ns[reading] - back_ns,
        chunk.raw[reading],
        chunk.status[reading],
        chunk.seq[reading],
        None if chunk.span_ns is None else chunk.span_ns[reading],
    )
