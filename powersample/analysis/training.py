# SPDX-License-Identifier: Apache-2.0
"""The energy of an epoch of training: of its window without what was done aside, such as validation.

What is left is a set of spans. They are measured by the same board, so its gain and offset add up linearly over them,
what reconstruction may be off by in quadrature (`relative.add`); errors of different devices are their own.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from powersample.analysis.calibrated import judge, stored_calibration
from powersample.analysis.dropout import dropouts
from powersample.analysis.interval import limit, verdict
from powersample.analysis.mean import cap_of, in_quadrature, summed_cap
from powersample.analysis.primary import POWER_ORDER, Measured, window_energies
from powersample.analysis.relative import Sum, add
from powersample.model import Energy, Kind, Trace, Window, amount

PARTS = ("gpu", "package", "dram")  # do not overlap: their sum is the total
TOLD = (*PARTS, "module", "wall")


@dataclass(frozen=True, slots=True, repr=False)
class Training:
    """What an epoch took.

    Printed it is a line about the total; `dataclasses.asdict` has everything.

    Attributes:
        spans: what was integrated, in the order of time.
        duration_s: of all of them.
        devices: energies by name ("gpu0", "package-0", "wall") and domain; a device whose readings do not speak
            for 99 % of the spans is absent, and one whose counter was reset, or slept, in them.
        dram: of all memories; None where there is none, or one is absent.
        total: of all GPUs, packages and memories; None where one of them is absent, or there is none. Its interval is
            None where one of theirs is.
        covered: share of the spans that the readings of the total's least covered part speak for; None without one.
        dropouts: of those devices' channels, in the spans.
        most_w: greatest power that was read, by name of GPU; absent where only an energy counter was.
        idle_j: what the same parts take in so much time while the node idles, by its calibration; None without one.
        reasons: why devices are absent.
        simulated: whether it is a simulated node's.
    """

    spans: tuple[Window, ...]
    duration_s: float
    devices: dict[tuple[str, str], Sum]
    dram: Sum | None
    total: Sum | None
    covered: float | None
    dropouts: int
    most_w: dict[str, float]
    idle_j: float | None
    reasons: tuple[str, ...]
    simulated: bool

    def __str__(self) -> str:
        because = "".join(f"; {reason}" for reason in self.reasons)
        banner = "SIMULATED " if self.simulated else ""
        return f"{banner}{self._of_what()}: {self.total or 'no total can be told'}{because}"

    def __repr__(self) -> str:
        absent = f"; {len(self.reasons)} left out" if self.reasons else ""
        banner = "SIMULATED " if self.simulated else ""
        return f"<Training {banner}{self._of_what()}: {self.total or 'no total'}{absent}>"

    def _of_what(self) -> str:
        """Return what the total is of: "gpu0 + package-0 over 'run', 1.2 s in 3 spans"."""
        if not self.spans:
            return "nothing is left"
        parts = [
            name if domain in ("gpu", "package") else f"{name} {domain}"
            for name, domain in self.devices
            if domain in PARTS
        ]
        count = f" in {len(self.spans)} spans" if len(self.spans) > 1 else ""
        return f"{' + '.join(parts) or 'no device'} over {self.spans[0].name!r}, {amount(self.duration_s)} s{count}"


def without(window: Window, aside: Iterable[Window]) -> tuple[Window, ...]:
    """Return the spans of `window` that none of `aside` covers, in the order of time.

    They bear its name and flags, and each edge the error of whichever window it is an edge of.
    """
    spans: list[Window] = []
    start_ns, (start_error_ns, last_error_ns) = window.start_ns, window.edge_errors_ns

    def add_span(end_ns: int, end_error_ns: float) -> None:
        if end_ns > start_ns:
            errors_ns = (start_error_ns, end_error_ns)
            spans.append(replace(window, start_ns=start_ns, end_ns=end_ns, edge_errors_ns=errors_ns))

    for one in sorted(aside, key=lambda one: one.start_ns):
        add_span(*min((one.start_ns, one.edge_errors_ns[0]), (window.end_ns, last_error_ns)))
        if one.end_ns > start_ns:
            start_ns, start_error_ns = one.end_ns, one.edge_errors_ns[1]
    add_span(window.end_ns, last_error_ns)
    return tuple(spans)


def training(trace: Trace, epoch: Window, aside: Iterable[Window] = ()) -> Training:
    """Return the energies of an epoch.

    Args:
        trace: the recording.
        epoch: its window.
        aside: windows that are no part of it, wherever they lie.

    Returns:
        The energies; without any device when nothing is left of the epoch.
    """
    spans = without(epoch, aside)
    rows = window_energies(trace, spans)
    groups: dict[tuple[str, str], list[Measured | None]] = {}
    for i, row in enumerate(rows):
        for one in row:
            if not one.spare and one.energy.domain in TOLD:
                mine = groups.setdefault((one.energy.device, one.energy.domain), [None] * len(spans))
                mine[i] = one if one.primary else mine[i]
    devices: dict[tuple[str, str], Sum] = {}
    reasons = []
    shares: list[float] = []
    duration_s = math.fsum(span.duration_s for span in spans)
    for (device, domain), found in groups.items():
        known = [one.energy for one in found if one is not None and one.energy.joules is not None]
        if domain in PARTS:
            shares.append(min(1.0, math.fsum(one.covered_s for one in known) / duration_s))
        void = [one for one in known if cap_of(one) == "unusable"]
        rest_s = math.fsum(
            span.duration_s for one, span in zip(found, spans, strict=True) if one is None or one.energy.joules is None
        )
        if void:
            reasons.append(f"what was read of {device} is void in {epoch.name!r}: {'; '.join(void[0].reasons)}")
        elif (told := _told(known, duration_s, rest_s)) is not None:
            devices[known[0].channel.partition(".")[0], domain] = told
        else:
            reasons.append(f"PSQ-PARTIAL what was read of {device} does not speak for all of {epoch.name!r}")

    def sum_of(*domains: str) -> Sum | None:
        mine = [one for (_, domain), one in devices.items() if domain in domains]
        whole_of_it = bool(mine) and len(mine) == sum(domain in domains for _, domain in groups)
        return _sum(mine) if whole_of_it else None

    total = sum_of(*PARTS)
    channels = {piece.channel for one in devices.values() for piece in one.pieces}
    return Training(
        spans,
        duration_s,
        devices,
        sum_of("dram"),
        total,
        min(shares, default=None),
        sum(len(dropouts(trace, name, span)) for name in channels for span in spans),
        {name: most for name, domain in devices if domain == "gpu" and (most := _most_w(trace, name, spans))},
        _idle_j(trace, {domain for _, domain in devices if domain in PARTS}, duration_s) if total else None,
        tuple(reasons),
        trace.simulated,
    )


def _told(known: Sequence[Energy], duration_s: float, rest_s: float) -> Sum | None:
    """Return a device's sum over spans of duration_s together; None where its readings do not speak for 99 % of them.

    The rest, such as a sliver between two pauses that no reading tells of, is taken at the mean power of what is told,
    and may be nothing or twice as much.

    Args:
        known: energies of the spans that have one.
        duration_s: of all spans.
        rest_s: of those that have none.
    """
    covered_s = math.fsum(one.covered_s for one in known)
    bridged_s = min(math.fsum(one.bridged_s for one in known), limit("much_hidden") * duration_s)
    if not known or covered_s + bridged_s < limit("whole") * duration_s:
        return None
    found = add(known)
    if rest_s <= 0:
        return found
    rest_j = found.joules * rest_s / (duration_s - rest_s)
    joules = found.joules + rest_j
    if found.low_j is None or found.high_j is None:
        return replace(found, joules=joules)
    low_j, high_j = found.low_j, found.high_j + 2 * rest_j
    cap = summed_cap([*map(cap_of, known)])
    return replace(
        found, joules=joules, high_j=high_j, verdict=verdict(max(joules - low_j, high_j - joules), joules, cap)
    )


def _sum(parts: Sequence[Sum]) -> Sum:
    pieces = tuple(piece for one in parts for piece in one.pieces)
    return Sum(math.fsum(one.joules for one in parts), *in_quadrature(parts), pieces)


def _most_w(trace: Trace, device: str, spans: Iterable[Window]) -> float | None:
    """Return the greatest power that a GPU's most direct channel showed."""
    mine = {
        name.rpartition(".")[2]: name
        for name, channel in trace.channels.items()
        if name.partition(".")[0] == device and channel.kind is Kind.POWER and trace.extent(name) is not None
    }
    name = next((mine[word] for word in POWER_ORDER if word in mine), None)
    if name is None:
        return None
    found = [
        float(series.value[series.status == 0].max())
        for span in spans
        for series in trace.chunks(name, span.start_ns, span.end_ns)
        if (series.status == 0).any()
    ]
    return max(found, default=None)


def _idle_j(trace: Trace, domains: set[str], duration_s: float) -> float | None:
    """Return what these parts would have taken idle, by the calibration of all of them that lies in the recording."""
    stored = stored_calibration(trace)
    calibration = None if stored is None else judge(trace, *stored).calibration
    if calibration is None:
        return None
    idle_w = calibration.idle_w()
    groups = {{"package": "cpu"}.get(domain, domain) for domain in domains}
    return duration_s * math.fsum(idle_w[group] for group in groups) if groups <= idle_w.keys() else None
