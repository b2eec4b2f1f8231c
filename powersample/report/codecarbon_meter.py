# SPDX-License-Identifier: Apache-2.0
"""What a recorded meter says of a CodeCarbon run, found by the run's time of day."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, tzinfo

from powersample.analysis import window_energies
from powersample.errors import InvalidArgument
from powersample.formats.codecarbon import CarbonRow
from powersample.model import Trace, Window
from powersample.readers import instant_ns
from powersample.report.codecarbon import Wall

STAMP_NS = 10**9  # CodeCarbon cuts the second of its stamp off


def wall_of(trace: Trace, row: CarbonRow, zone: tzinfo | None, where: str) -> Wall:
    """Return the energy at the plug while a run went on.

    The stamp of a line is its end without the fraction of the second: the energy is that of the middle of what is
    possible, and its interval spans both ends.

    Args:
        trace: a recording with a meter.
        row: the run.
        zone: of CodeCarbon's machine; None: this machine's own.
        where: the recording's name.

    Raises:
        InvalidArgument: no meter in it, or it does not know the time of day.
    """
    if not any(one.domain == "wall" and not one.name.startswith("truth.") for one in trace.channels.values()):
        raise InvalidArgument(f"{where} has no meter's channel: record it with powersample record --meter")
    if row.end_ns is None or not row.duration_s:
        return Wall(None, None, None, where, ("the run does not tell when it was",))
    naive = datetime.fromtimestamp(row.end_ns // 10**9, UTC).replace(tzinfo=None)
    local = trace.meta.get("clock") == "local"
    stamp = naive if local else naive.replace(tzinfo=zone) if zone else naive.astimezone()
    end_ns = instant_ns(stamp.isoformat(), trace)
    long_ns = round(row.duration_s * 1e9)
    windows = [Window("run", end_ns + late - long_ns, end_ns + late) for late in (0, STAMP_NS // 2, STAMP_NS)]
    found = [
        next((one.energy for one in measured if one.energy.domain == "wall" and one.primary and not one.spare), None)
        for measured in window_energies(trace, windows)
    ]
    told = [one for one in found if one is not None and one.joules is not None]
    if len(told) < len(windows):
        worst = next((one for one in found if one is not None and one.joules is None), None)
        return Wall(None, None, None, where, (*(worst.reasons if worst else ()), _elsewhere(trace, windows)))
    lows = [one.low_j for one in told if one.low_j is not None]
    highs = [one.high_j for one in told if one.high_j is not None]
    whole = len(lows) == len(highs) == len(told)
    reasons = tuple(dict.fromkeys(reason for one in told for reason in one.reasons))
    return Wall(
        told[1].joules,
        min(lows) if whole else None,
        max(highs) if whole else None,
        f"{told[1].channel} of {where}, {told[1].verdict}; the run's stamp has whole seconds",
        reasons,
    )


def _elsewhere(trace: Trace, windows: Sequence[Window]) -> str:
    """Return where the run lies beside the record, in seconds."""
    begin_s, end_s = ((at - (trace.start_ns or 0)) / 1e9 for at in (windows[0].start_ns, windows[-1].end_ns))
    long_s = ((trace.end_ns or 0) - (trace.start_ns or 0)) / 1e9
    run = f"the run lies at {begin_s:.1f} to {end_s:.1f} s of a record of {long_s:.1f} s"
    return f"{run}: is it the right one, and CodeCarbon's machine in this zone (--zone)?"
