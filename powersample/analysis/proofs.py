# SPDX-License-Identifier: Apache-2.0
"""What the channels of a device tell of windows, with all that a trace holds against aliasing."""

import math
from collections.abc import Sequence

from powersample.analysis.energy import channel_energies
from powersample.analysis.evidence import period_evidence, sweep_of, swept_evidence
from powersample.analysis.interval import limit
from powersample.analysis.repeats import LoadPeriod, Marked, lots
from powersample.analysis.spectrum import shown_period
from powersample.analysis.told import Evidence, Told
from powersample.model import Kind, Response, Trace, Window
from powersample.sensors import model_of


class Proofs:
    """Works out what a device's channels tell.

    Args:
        trace: the recording.
        windows: that are asked for.
        load_period_s: of what ran in them, where somebody knows it.
        named: windows that somebody says are the same work, a sequence each.
    """

    def __init__(
        self,
        trace: Trace,
        windows: Sequence[Window],
        load_period_s: float | None = None,
        named: Sequence[Sequence[Window]] = (),
    ) -> None:
        self._trace, self._windows = trace, tuple(windows)
        self._given = None if load_period_s is None else LoadPeriod(load_period_s, load_period_s, "as given")
        self._lots = lots(trace, windows, named)
        self._marked = Marked(trace)

    def told(self, names: Sequence[str]) -> list[list[Told]]:
        """Return a list a channel of one device and domain, of what it tells of each window."""
        return [self._channel(name, names) for name in names]

    def _channel(self, name: str, names: Sequence[str]) -> list[Told]:
        model = model_of(self._trace, self._trace.channel(name))
        if model is None or model.response is not Response.PART_TIME or self._trace.channel(name).kind is Kind.ENERGY:
            return channel_energies(self._trace, name, self._windows)
        mine = [self._lots.get(window, ()) for window in self._windows]
        asked, different = set(self._windows), {id(lot): lot for lot in mine}
        beside = {one: None for lot in different.values() for one in lot if one not in asked}
        every = (*self._windows, *beside)
        told = channel_energies(self._trace, name, every)
        by_window = dict(zip(every, told, strict=True))
        sweeps = {key: sweep_of([by_window[one] for one in lot], lot) for key, lot in different.items() if lot}
        quick = self._quicker(model.window_s, name, names)
        found = []
        for one, window, lot in zip(told, self._windows, mine, strict=False):  # without those beside them
            evidence, doubts = [], []
            if (period := self._period_evidence(one, window, quick)) is not None:
                evidence.append(period)
            if lot:
                swept, doubt = swept_evidence(one, window, sweeps[id(lot)])
                evidence += [] if swept is None else [swept]
                doubts += [f"its repeats exclude nothing: {doubt}"] if doubt else []
            told_more = evidence or doubts
            found.append(one._replace(evidence=tuple(evidence), doubts=tuple(doubts)) if told_more else one)
        return found

    def _period_evidence(self, one: Told, window: Window, quick: tuple[str, float] | None) -> Evidence | None:
        """Return what the load's period shows: as given, else as marked, else as a quicker channel shows it."""
        if one.reconstruction is None or not one.reconstruction.half_j > one.reconstruction.unaliased_j:
            return None
        period = self._given or self._marked.period(window)
        if period is None and quick is not None:
            period = shown_period(self._trace, quick[0], window, quick[1])
        return None if period is None else period_evidence(one, window, period.low_s, period.high_s, period.origin)

    def _quicker(self, window_s: float, name: str, names: Sequence[str]) -> tuple[str, float] | None:
        """Return a channel that publishes at least once in what a value of `name` averages, and how often it does."""
        found = [(self._step_s(other), other) for other in names if other != name]
        step_s, quickest = min(found, default=(math.inf, ""))
        return (quickest, step_s) if step_s <= limit("quicker") * window_s else None

    def _step_s(self, name: str) -> float:
        """Return how often a channel shows something new; inf where that is not known, or not worth a spectrum.

        The driver's own samples and those of meters are all there is of them: their spacing tells.
        """
        channel, extent = self._trace.channel(name), self._trace.extent(name)
        model = model_of(self._trace, channel)
        if extent is None or extent.polls < 2 or (model is not None and model.response is Response.AVERAGE):
            return math.inf
        if model is None and channel.stamp != "instant":
            return math.inf
        spacing_s = (extent.last_ns - extent.first_ns) / 1e9 / (extent.polls - 1)
        return spacing_s if model is None else max(model.period_s, spacing_s)
