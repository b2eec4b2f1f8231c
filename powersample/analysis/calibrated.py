# SPDX-License-Identifier: Apache-2.0
"""Whether a calibration of a node may be used for a recording: the same machine, parts, driver and sampling."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from powersample.analysis.course import GROUPS
from powersample.model import TRUTH_PREFIX, Calibration, Kind, Trace, amount, host_of, simulated_key

MOST_RATE_RATIO = 2.0  # sampling draws power itself, and that is in the calibration; an automatic rate moves a little
SMALL = {"dram"}  # may be among the uncaptured, as it is where no counter shows it
FROM_TRACE = "the recording's own"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a calibration is not used.

    Attributes:
        reason: a code and a sentence.
        final: whether nobody can override it: it would be an invention, or cannot be worked out.
    """

    reason: str
    final: bool = False


@dataclass(frozen=True, slots=True)
class Judged:
    """A calibration beside a recording.

    Attributes:
        found: it; None where there is none.
        origin: where it is from; "" where there is none.
        refusals: why it is not used, or used although.
        anyway: whether somebody wants it used in spite of all refusals that are not final.
    """

    found: Calibration | None = None
    origin: str = ""
    refusals: tuple[Refusal, ...] = ()
    anyway: bool = False

    @property
    def calibration(self) -> Calibration | None:
        """The calibration if it is used."""
        final = any(one.final for one in self.refusals)
        return self.found if not self.refusals or (self.anyway and not final) else None

    @property
    def overridden(self) -> bool:
        """Whether it is used although there are refusals."""
        return bool(self.refusals) and self.calibration is not None

    @property
    def reasons(self) -> tuple[str, ...]:
        """The refusals' codes and sentences."""
        return tuple(one.reason for one in self.refusals)


def stored_calibration(trace: Trace) -> tuple[Calibration, str] | None:
    """Return the calibration that a trace's metadata hold, and where it was from; None where they hold none.

    Raises:
        BadFormat: what is stored is no calibration.
    """
    stored = trace.meta.get("calibration")
    if not stored:
        return None
    return Calibration.from_json(stored), str(stored.get("origin") or FROM_TRACE)


def judge(trace: Trace, calibration: Calibration | None, origin: str = "", *, anyway: bool = False) -> Judged:
    """Return whether a calibration is used for a recording.

    Args:
        trace: the recording.
        calibration: it; None: there is none.
        origin: where it is from.
        anyway: use it in spite of every refusal that is not final.
    """
    if calibration is None:
        return Judged()
    return Judged(calibration, origin, tuple(_refusals(trace, calibration)), anyway)


def _refusals(trace: Trace, calibration: Calibration) -> Iterator[Refusal]:
    if not calibration.accepted:
        why = f": {calibration.reasons[0]}" if calibration.reasons else ""
        yield Refusal(f"PSQ-CAL-REFUSED the calibration itself was not accepted{why}")
    if calibration.bounds_w is None and calibration.model is None:
        yield Refusal("PSQ-CAL-REFUSED the calibration has neither a model nor bounds", final=True)
    if trace.simulated or calibration.simulated is not None:
        node = trace.meta.get("simulated_node") or {}
        key = simulated_key(node) if node else None
        if not trace.simulated:
            what = f"it is of the simulated node {calibration.simulated}, and this is a real recording"
            yield Refusal(f"PSQ-CAL-HOST {what}", final=True)
        elif calibration.simulated is None or key != calibration.simulated:
            of = calibration.simulated or "a real machine"
            yield Refusal(f"PSQ-CAL-HOST it is of {of}, and this is the simulated node {key}", final=True)
    else:
        yield from _host(calibration.host or {}, host_of(trace.meta))
    yield from _parts(calibration.host or {}, host_of(trace.meta))
    yield from _groups(trace, calibration)
    yield from _rates(trace, calibration.rates_hz or {})


def _host(calibrated: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[Refusal]:
    by = next((key for key in ("id", "name") if calibrated.get(key) and recorded.get(key)), None)
    names = [str(one.get("name") or one.get("id") or "an unknown host") for one in (calibrated, recorded)]
    if by is None:
        yield Refusal(f"PSQ-CAL-HOST it is of {names[0]}, and the recording of {names[1]}: nothing tells they are one")
    elif calibrated[by] != recorded[by]:
        yield Refusal(f"PSQ-CAL-HOST it is of {names[0]}, and the recording of {names[1]}")
    elif by == "id" and calibrated.get("name") and recorded.get("name") and names[0] != names[1]:
        words = "both with one machine-id, as cloned images have it, or a host that was renamed"
        yield Refusal(f"PSQ-CAL-HOST it is of {names[0]}, and the recording of {names[1]}, {words}")


def _parts(calibrated: Mapping[str, Any], recorded: Mapping[str, Any]) -> Iterator[Refusal]:
    """Of a simulated node as of any: a recording may be of some of its GPUs."""
    for key, what in (("gpus", "GPUs"), ("packages", "CPU packages")):
        was, there = ({str(each) for each in one.get(key) or ()} for one in (calibrated, recorded))
        if was and was != there:
            same = len(was & there)
            words = f"{len(was)} {what} were calibrated, and of those {same} are among the {len(there)} recorded"
            yield Refusal(f"PSQ-CAL-HOST {words}")
    made, now = calibrated.get("driver"), recorded.get("driver")
    if made and now and made != now:
        words = f"it was made under driver {made}, and the recording under {now}: its counters may mean another thing"
        yield Refusal(f"PSQ-CAL-OLD {words}")


def _groups(trace: Trace, calibration: Calibration) -> Iterator[Refusal]:
    there = {
        group
        for group, domain in GROUPS.items()
        if any(
            one.domain == domain and one.kind is not Kind.AUX and not one.name.startswith(TRUTH_PREFIX)
            for one in trace.channels.values()
        )
    }
    if absent := [group for group in calibration.groups if group not in there]:
        words = f"it takes the power of {' and '.join(absent)}, which was not recorded"
        yield Refusal(f"PSQ-CAL-GROUPS {words}", final=True)
    if more := sorted(there - set(calibration.groups) - SMALL):
        words = f"{' and '.join(more)} was recorded, and was not calibrated: no model knows what the wall adds to it"
        yield Refusal(f"PSQ-CAL-GROUPS {words}", final=True)


def _rates(trace: Trace, calibrated_hz: Mapping[str, float]) -> Iterator[Refusal]:
    """Compare by source, all of its lanes together: of several like lanes one may have timed its calls badly."""
    recorded_hz = {lane.name: lane.rate_hz for lane in trace.lanes if lane.rate_hz}
    both = [lane for lane, hz in calibrated_hz.items() if hz and lane in recorded_hz]
    for source in dict.fromkeys(lane.partition(":")[0] for lane in both):
        lanes = [lane for lane in both if lane.partition(":")[0] == source]
        was_hz, there_hz = (sum(of[lane] for lane in lanes) for of in (calibrated_hz, recorded_hz))
        if not 1 / MOST_RATE_RATIO <= there_hz / was_hz <= MOST_RATE_RATIO:
            where = f"{lanes[0]} was" if len(lanes) == 1 else f"the {len(lanes)} lanes of {source} together were"
            rates = f"at {amount(was_hz, 4)} Hz for it, and at {amount(there_hz, 4)} Hz here"
            yield Refusal(f"PSQ-CAL-RATE {where} read {rates}: reading draws power")
            return
