# SPDX-License-Identifier: Apache-2.0
"""The report's JSON object: energies of every window, quality of every channel, checks."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from powersample.analysis import (
    Crosscheck,
    Dropout,
    Measured,
    Missing,
    Quality,
    carriers,
    clock_json,
    drift,
    find_window,
    holistics,
    judge_of,
    quality,
    run_window,
    totals,
    truth_void,
    whole,
    window_energies,
)
from powersample.analysis.meter import info_of, is_meter
from powersample.model import TRUTH_PREFIX, Calibration, Channel, Trace, Window, amount, duration
from powersample.report.check import check
from powersample.report.clock_fits import clock_fit_checks, clock_fits, without_residuals
from powersample.report.explain import explain
from powersample.report.holistic import Factors, calibration_json, holistic_checks, holistic_json, node_totals
from powersample.report.in_all import stretches_in_all, sums_json
from powersample.report.lead import record_window
from powersample.report.meter_checks import meter_checks
from powersample.report.meters import own_causes, recorded_meter_checks
from powersample.report.notebook import notebook
from powersample.report.screen import brief, screen
from powersample.report.table import joined
from powersample.report.text import full
from powersample.report.words import OWN_WORD, SEEN, SPACING, badness
from powersample.sensors import model_of

SCHEMA_VERSION = 1
DROPOUTS_OF_A_WINDOW = 10
DUTY_PCT = 2.0  # what the automatic rate keeps to
NO_FACTORS = Factors()


@dataclass(frozen=True, slots=True)
class Report:
    """A report: `print` shows it, `data` is its JSON object."""

    data: Mapping[str, Any]

    def __str__(self) -> str:
        return screen(self.data)

    def every_channel(self) -> str:
        """Return the text with every channel of every window."""
        return full(self.data, every=True)

    def explained(self) -> str:
        """Return each window by device, how each channel was read, and a note on every number."""
        return joined([full(self.data), "", *explain(self.data)]).rstrip()

    def _repr_html_(self) -> str:
        """Return the energies alone, as a notebook shows them."""
        return notebook(self.data)

    def brief(self) -> str:
        """Return the energies alone: of the run by device, of its windows a line each."""
        return brief(self.data)


def build(
    trace: Trace,
    windows: Iterable[str | Window] | None = None,
    *,
    load_period_s: float | None = None,
    repeats: Iterable[Sequence[str | Window]] = (),
    calibration: Calibration | None = None,
    calibration_origin: str = "",
    calibration_anyway: bool = False,
    load_like: str | None = None,
    factors: Factors = NO_FACTORS,
) -> Report:
    """Work out everything that a trace tells.

    Args:
        trace: the recording.
        windows: names or windows; None takes all, or the whole record as "run" where nobody marked any.
        load_period_s: of what ran, such as an iteration's length, where it is known; else it is what regular windows,
            marks or a quicker channel show.
        repeats: names or windows of the same work, a sequence each, beside those whose names differ in a number at
            their end.
        calibration: of the node; None takes the recording's own, if it has one.
        calibration_origin: where that is from, for the reader.
        calibration_anyway: use it although it is of another host, driver or rate; the report says so.
        load_like: the calibrated load that what ran is known to be like.
        factors: PUE and CO2 per kWh, of whoever asks.

    Returns:
        The report. In its JSON missing values are None.

    Raises:
        InvalidArgument: a window is unknown, or its name belongs to several; or no such load was calibrated.
        BadFormat: the recording's calibration is damaged.
    """
    if windows is None:
        run = run_window(trace)
        chosen = list(trace.windows) or ([run] if run else [])
    else:
        chosen = [find_window(trace, window) for window in windows]
    names = [name for name in trace.channels if not name.startswith(TRUTH_PREFIX)]
    found = {name: quality(trace, name) for name in names}
    whole = run_window(trace)
    channels = [own_causes(_channel(trace, trace.channels[name], found[name], whole), trace.meta) for name in names]
    missing = {name: one.missing for name, one in found.items()}
    record = record_window(chosen, whole) if windows is None else None
    shown = chosen if record is None else [*chosen, record]
    pieces, asked = stretches_in_all(chosen), set(shown)
    joined = [one for some in pieces.values() for one in some if one not in asked]
    every = window_energies(trace, [*shown, *joined], load_period_s, repeats)
    energies, told = every[: len(shown)], dict(zip([*shown, *joined], every, strict=True))
    judged = judge_of(trace, calibration, calibration_origin, anyway=calibration_anyway)
    sums = [totals(measured, window) for measured, window in zip(energies, shown, strict=True)]
    nodes = holistics(trace, shown, energies, judged, load_like=load_like, sums=sums)
    found_windows = [
        _window(window, measured, missing, simulated=trace.simulated)
        | {"totals": summed | node_totals(node), "holistic": holistic_json(node, factors, simulated=trace.simulated)}
        for window, measured, summed, node in zip(shown, energies, sums, nodes, strict=True)
    ]
    made_up = [str(one["name"]) for one in trace.meta.get("meters") or () if one.get("simulated")]
    simulated = trace.simulated
    data = {
        "schema_version": SCHEMA_VERSION,
        "simulated": simulated or bool(made_up),
        "simulated_node": simulated,  # everything, with its truth
        "simulated_meters": made_up,
        "windows": found_windows[: len(chosen)],
        "record": None if record is None else found_windows[-1],
        "sums": sums_json(pieces, told),
        "calibration": calibration_json(judged),
        "channels": channels,
        "lanes": [lane.as_json() | {"notes": lane.notes()} for lane in trace.lanes],
        "clock": clock_json(trace.anchors),
        "clock_fits": clock_fits(trace.meta),
        "checks": [],
        "meta": without_residuals(trace.meta),
    }
    drifted = None if whole is None else drift(trace, whole, judged)
    data["checks"] = [*_checks(data), *holistic_checks(judged, drifted)]
    return Report(data)


def _window(
    window: Window, measured: list[Measured], missing: Mapping[str, Missing], *, simulated: bool
) -> dict[str, Any]:
    return window.as_json() | {
        "duration_s": window.duration_s,
        "energies": [_energy(one, window, missing[one.energy.channel], simulated=simulated) for one in measured],
    }


def _energy(measured: Measured, window: Window, missing: Missing, *, simulated: bool) -> dict[str, Any]:
    energy = measured.energy
    dropouts = missing.within(window)
    data = {
        "channel": energy.channel,
        "device": energy.device,
        "domain": energy.domain,
        "primary": measured.primary,
        "primary_reason": measured.why or None,
        "spare": measured.spare,
        "joules": energy.joules,
        "low_j": energy.low_j,
        "high_j": energy.high_j,
        "method": energy.method,
        "verdict": energy.verdict,
        "reasons": list(energy.reasons),
        "budget": [{"term": one.term, "kind": one.kind, "value_j": one.value_j} for one in energy.budget],
        "aliasing_excluded_by": energy.excluded or None,
        "crosschecks": [_crosscheck(one, energy.channel) for one in measured.checks],
        "updates": energy.updates,
        "updates_expected": missing.expected(window.duration_s),
        "polls": energy.polls,
        "stale_share": max(0.0, 1 - energy.updates / energy.polls) if energy.polls else None,
        "covered_s": energy.covered_s,
        "bridged_s": energy.bridged_s,
        "whole": whole(energy, window),
        "dropouts": _worst(dropouts) if dropouts else [],
        "dropouts_total": len(dropouts),
    }
    return data | {"truth_j": measured.truth_j} if simulated else data


def _worst(dropouts: Iterable[Dropout]) -> list[dict[str, Any]]:
    worst = sorted(map(asdict, dropouts), key=badness)[:DROPOUTS_OF_A_WINDOW]
    return sorted(worst, key=lambda one: one["start_ns"])


def _crosscheck(check: Crosscheck, channel: str) -> dict[str, Any]:
    """Return how far a channel's energy is from another's: above 0 where it is the larger."""
    first = check.channel == channel
    return {
        "channel": check.other if first else check.channel,
        "residual_j": check.residual_j if first else -check.residual_j,
        "budget_j": check.budget_j,
        "agrees": check.agrees,
    }


def _channel(trace: Trace, channel: Channel, found: Quality, whole: Window | None) -> dict[str, Any]:
    model, missing = model_of(trace, channel), found.missing
    window_s = channel.span_ns / 1e9 if channel.span_ns else model.window_s if model else None
    window_origin = OWN_WORD if channel.span_ns else model.origin.get("window_s") if model else None
    meter = info_of(trace, channel.name) if is_meter(trace, channel) else None
    if meter is not None and math.isfinite(meter.cycle_s):
        window_s, window_origin = meter.cycle_s, OWN_WORD
    period_origin = {"changes": SEEN, "polls": SPACING, "cycle": OWN_WORD}.get(missing.origin or "")
    if missing.origin == "table" and model is not None:
        period_origin = model.origin.get("period_s", "a stored model")
    dropouts = missing.within(whole) if whole else ()
    missed = sum(one.updates_missed or 0 for one in dropouts)
    expected = missing.expected(whole.duration_s) if whole else None
    if meter is not None and expected is not None:  # every one of its readings is news: no estimate is needed
        expected = found.updates + missed
    extent = trace.extent(channel.name)
    return {
        "name": channel.name,
        "device": channel.device,
        "domain": channel.domain,
        "kind": str(channel.kind),
        "unit": channel.unit,
        "asked_hz": found.asked_hz,
        "achieved_hz": found.achieved_hz,
        "polls": found.polls,
        "start_ns": extent.first_ns if extent else None,
        "end_ns": extent.last_ns if extent else None,
        "stored": extent.records if extent else 0,
        "updates": found.updates,
        "updates_expected": expected,
        "updates_missed": missed,
        "update_period_s": found.update_period_s,
        "sensor_period_s": missing.period_s,
        "sensor_period_origin": period_origin,
        "averaging_window_s": window_s,
        "averaging_window_origin": window_origin,
        "sensor": channel.sensor or None,
        "meter": None if meter is None else f"{meter.maker} {meter.model}".strip(),
        "sensor_origin": dict(model.origin) if model else None,
        "stale_share": found.stale_share,
        "stuck": found.stuck,
        "errors": {str(code): count for code, count in found.errors.items()},
        "not_numbers": found.not_numbers,
        "skipped": found.skipped,
        "dropped": found.dropped,
        "gaps": [asdict(gap) for gap in found.gaps],
        "gaps_total": found.gaps_total,
        "stalls": found.stalls,
        "dropouts": [asdict(one) for one in dropouts],
        "dropouts_total": len(dropouts) - len(missing.lost) + missing.total,
        "followed": found.followed,
        "carried_by": list(carriers(trace, channel.name)),
    }


def _duty_pct(lane: Mapping[str, Any]) -> float | None:
    """Share of its time that a lane of an asked rate spends in device calls, by their cost as timed at start."""
    cost_ns, rate_hz = lane["call_cost_ns"], lane["rate_hz"]
    if lane["rate_origin"] != "asked" or not cost_ns or not rate_hz:
        return None
    return float(cost_ns * rate_hz / 1e7)


def _why_void(node: Mapping[str, Any]) -> str:
    causes = []
    if late := node.get("truth_late"):
        worst_ms = (node.get("truth_late_max_ns") or 0) / 1e6
        causes.append(f"power was set {late} times after its own instant, {duration(worst_ms / 1e3)} at worst")
    if node.get("truth_full"):
        causes.append("there was no room for all changes of power")
    return f"the simulated node's truth is void: {' and '.join(causes) or 'the node says so'}"


def _checks(data: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for trouble in data["meta"].get("trouble") or ():
        yield check("PSQ-TROUBLE", "error", str(trouble), "Record again once its cause is gone.")
    if truth_void(data["meta"]):
        yield check("PSQ-TRUTH-VOID", "warning", _why_void(data["meta"]["simulated_node"]), "Simulate on an idle core.")
    if data["meta"].get("recovered") and not data["meta"].get("spool_end"):
        what = "the recording was cut short and recovered"
        yield check("PSQ-RECOVERED", "warning", what, "Windows that were open stand to the record's end.")
    if others := data["meta"].get("other_samplers"):
        told = (f"process {one['pid']} ({', '.join(one.get('shared') or ['this node'])})" for one in others)
        what = f"another sampler ran at the same time on the same devices: {'; '.join(told)}"
        fix = "Each recording has all that these took, so never add them up; their calls cost twice."
        yield check("PSQ-SAMPLERS", "info", what, fix)
    yield from _device_checks(data["meta"].get("devices") or ())
    yield from _lane_checks(data["lanes"])
    for channel in data["channels"]:
        if channel["stuck"]:
            what = f"{channel['name']} no longer moved at the end of the record"
            yield check("PSQ-STUCK", "warning", what, "Compare with the device's other channels.")
        if channel["polls"] and sum(channel["errors"].values()) + channel["not_numbers"] == channel["polls"]:
            what = f"every read of {channel['name']} failed"
            yield check(
                "PSQ-ERRORS", "warning", what, "The codes are the device library's own; compare with its vendor's tool."
            )
    for one in data["meta"].get("log_clock") or ():
        yield check("PSQ-CLOCK", one["level"], one["what"], "Compare the log's times with others' with care.")
    yield from _clock_checks(data["clock"])
    yield from clock_fit_checks(data["clock_fits"])
    yield from meter_checks(data)
    yield from recorded_meter_checks(data)


def _clock_checks(clock: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    def times(count: int) -> str:
        return "once" if count == 1 else f"{count} times"

    if clock["suspends"]:
        what = f"the machine slept {times(clock['suspends'])} while recording, {duration(clock['asleep_s'])} in all"
        yield check("PSQ-SUSPEND", "warning", what, "Keep it awake: energy while asleep is not seen.")
    if clock["steps"]:
        by_s = [one["size_s"] for one in clock["events"] if one["kind"] == "step"]
        most = amount(max(by_s, key=abs), signed=True)
        what = f"the time of day was set {times(clock['steps'])} while recording, by {most} s at most"
        yield check("PSQ-CLOCK", "info", what, "Energies are not touched; compare other logs with care.")
    if clock["rate_changes"]:
        ppm = [one["change_ppm"] for one in clock["events"] if one["kind"] == "rate"]
        what = (
            f"CLOCK_MONOTONIC changed its rate {times(clock['rate_changes'])} while recording, by "
            f"{amount(max(ppm, key=abs), signed=True)} ppm at most: the time of day was being corrected"
        )
        yield check("PSQ-RATE", "info", what, "Harmless for energies; a meter's clock has to be fitted piecewise.")
    if clock["boots"] > 1:
        what = f"the anchors are of {clock['boots']} boots of this machine"
        yield check("PSQ-BOOT", "error", what, "Readings of two boots have no common clock: record them apart.")


def _device_checks(devices: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for device in devices:
        if device.get("mig"):
            what = f"gpu{device.get('index')} is divided by MIG: its energy is the whole board's, not one instance's"
            yield check(
                "PSQ-MIG", "warning", what, "Add up what ran on all of its instances, or measure on an undivided board."
            )


def _lane_checks(lanes: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    for lane in lanes:
        if lane["dropped"]:
            what = f"{lane['name']} lost {lane['dropped']} records to a full ring"
            yield check(
                "PSQ-DROPPED",
                "warning",
                what,
                "Lower the rate, or free the disk and a core for the recorder.",
            )
        duty_pct = _duty_pct(lane)
        if duty_pct is not None and duty_pct > DUTY_PCT:
            what = f"the device calls of {lane['name']} take about {duty_pct:.1f} % of its time"
            yield check(
                "PSQ-DUTY", "warning", what, f"Up to {DUTY_PCT:g} % is harmless: leave --rate out, or lower it."
            )
        if lane["state"] == "hung":
            what = f"a device call of {lane['name']} never returned"
            yield check("PSQ-HUNG", "error", what, "Look for a lost GPU in the kernel log (`dmesg`).")
