# SPDX-License-Identifier: Apache-2.0
"""What a recording's powers and energies are worth for comparing trainings: its range of usage and its failures.

The reference is what a meter tells of the GPUs once all else is taken away (`analysis.meter_gpu`), for which the
uncaptured power must be known: as somebody gives it, or by the recording's calibration. A simulated node's exact truth
stands beside it, and is the reference where no meter can be.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from powersample.analysis import channel_energies, run_window, totals, truth_void, window_energies
from powersample.analysis.agreement_table import Spans, agreement_rows, spans_of
from powersample.analysis.dip import MOST, Dip, dip_test
from powersample.analysis.holistic import judge_of
from powersample.analysis.meter_gpu import meter_side_gpu
from powersample.analysis.primary import Measured
from powersample.analysis.signatures import Usage, offset, usage
from powersample.analysis.truth import truths_joules
from powersample.model import TRUTH_PREFIX, Channel, Kind, Trace, Window, simulated_name
from powersample.report import signatures as lines

SCHEMA_VERSION = 1
GRID_NS = 100_000_000  # in which the truth is looked at: the cycle of the paper's meter
LEAST_PAIRS = 3
KEPT = 200_000  # values of a GPU that are looked at
READINGS = "mean of readings"  # x length: what a script makes of nvidia-smi's log
OURS = "powersample"
TRUTH, METER = "the exact truth", "the meter"

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU over the epochs: `news_w` are readings within them that differ from the one before."""

    name: str
    device: str
    channel: str
    news_w: Floats
    readings_j: Floats
    energies_j: Floats
    truths_j: Floats
    updates: tuple[int, ...]
    limit_w: float | None
    least_w: float


def audit_trace(
    trace: Trace,
    *,
    idle_w: float | None = None,
    limit_w: float | None = None,
    busy_w: tuple[float, float] | None = None,
    most: int = lines.FEW,
) -> dict[str, Any]:
    """Return the audit's JSON object; None where something is unknown.

    Args:
        trace: the recording; its windows, but for one called "run", are taken for epochs.
        idle_w: a GPU at rest; None: its least reading.
        limit_w: its power limit; None: as NVML told.
        busy_w: lowest and highest uncaptured power, which makes a meter a reference; None: as the recording's
            calibration has it.
        most: how many updates of an epoch are few.
    """
    whole = run_window(trace)
    epochs = [one for one in trace.windows if one.name != "run" and one.duration_s > 0]
    run = next((one for one in trace.windows if one.name == "run"), whole)
    data: dict[str, Any] = {
        "schema_version": SCHEMA_VERSION,
        "simulated": trace.simulated,
        "simulated_node": simulated_name(trace.meta.get("simulated_node") or {}) or None,
        "kind": "trace",
        "epochs": len(epochs),
        "usage": [],
        "few_updates": None,
        "agreement": [],
        "bimodal": [],
        "offset": [],
        "captured": None,
        "checks": [],
        "notes": [],
    }
    if run is None or whole is None:
        data["notes"].append("the recording is empty")
        return data
    if not epochs:
        data["notes"].append("no epochs are marked: the whole record counts as one")
    windows = epochs or [run]
    measured = window_energies(trace, [*windows, run])
    gpus = [_gpu(trace, name, windows, measured[:-1], limit_w) for name in _devices(trace)]
    if busy_w is None:
        busy_w = _stored_w(trace)
    pairs, whose = _pairs(trace, "epoch" if epochs else "run", windows, gpus, busy_w)
    if whose != METER and gpus and _has_meter(trace):
        data["notes"].append("a meter was recorded: with --p-idle and --p-busy, or calibrated, it is the reference")
    data["checks"] = list(_checks(trace, data, windows, gpus, pairs, whose, idle_w, most))
    data["checks"] += _captured(data, measured[-1], run)
    data["reference"] = whose or None
    data["run"] = _run_pair(measured[-1], run)
    return data


def _devices(trace: Trace) -> list[str]:
    return list(dict.fromkeys(one.device for one in trace.channels.values() if _is_gpus(one)))


def _is_gpus(channel: Channel) -> bool:
    return channel.kind is not Kind.AUX and channel.domain == "gpu" and not channel.name.startswith(TRUTH_PREFIX)


def _gpu(
    trace: Trace, device: str, windows: Sequence[Window], measured: Sequence[Sequence[Measured]], limit_w: float | None
) -> Gpu:
    mine = [one for one in trace.channels.values() if _is_gpus(one) and one.device == device]
    powers = [one for one in mine if one.kind is Kind.POWER] or mine  # a counter shows no power, and still an energy
    shown = max(powers, key=lambda one: extent.polls if (extent := trace.extent(one.name)) else 0).name
    told = channel_energies(trace, shown, windows)
    means_w, news_w, least_w = np.full(len(windows), np.nan), np.empty(0), float("nan")
    if trace.channel(shown).kind is Kind.POWER:
        means_w, news_w, least_w = _readings(trace, shown, windows)
    devices = [one for one in trace.meta.get("devices") or () if one.get("uuid") == device]
    told_limit = devices[0].get("power_limit_w") if devices else None
    primaries = [
        next((one for one in each if one.primary and (one.energy.device, one.energy.domain) == (device, "gpu")), None)
        for each in measured
    ]
    seconds = np.array([one.duration_s for one in windows])
    return Gpu(
        name=shown.partition(".")[0],
        device=device,
        channel=shown,
        news_w=news_w,
        readings_j=means_w * seconds,
        energies_j=np.array([None if one is None else one.energy.joules for one in primaries], np.float64),
        truths_j=np.array([None if one is None else one.truth_j for one in primaries], np.float64),
        updates=tuple(one.energy.updates for one in told),
        limit_w=told_limit if limit_w is None else limit_w,
        least_w=least_w,
    )


def _readings(trace: Trace, channel: str, windows: Sequence[Window]) -> tuple[Floats, Floats, float]:
    """Return each window's mean of readings, the news among them (at most `KEPT`), and the record's least, W."""
    starts, ends = (np.array([getattr(one, edge) for one in windows], np.int64) for edge in ("start_ns", "end_ns"))
    sums, counts = np.zeros(len(windows)), np.zeros(len(windows))
    extent = trace.extent(channel)
    step = 1 if extent is None else -(-extent.polls // KEPT)
    kept, least_w, last_w = [np.empty(0)], float("inf"), float("nan")
    for chunk in trace.chunks(channel):
        good = chunk.status == 0
        t_ns, watts = chunk.t_ns[good], chunk.value[good]
        if not len(watts):
            continue
        first, end = np.searchsorted(t_ns, starts, "left"), np.searchsorted(t_ns, ends, "right")
        total = np.concatenate(([0.0], np.cumsum(watts)))
        sums, counts = sums + total[end] - total[first], counts + end - first
        inside = np.zeros(len(watts) + 1, np.int64)
        np.add.at(inside, first, 1)
        np.add.at(inside, end, -1)
        news = np.diff(watts, prepend=last_w) != 0
        last_w = float(watts[-1])
        kept.append(watts[news & (np.cumsum(inside)[:-1] > 0)][::step])
        least_w = min(least_w, float(watts.min()))
    means = np.divide(sums, counts, out=np.full(len(windows), np.nan), where=counts > 0)
    return means, np.concatenate(kept), least_w


def _pairs(
    trace: Trace, level: str, windows: Sequence[Window], gpus: Sequence[Gpu], busy_w: tuple[float, float] | None
) -> tuple[list[Spans], str]:
    """Return energies of every epoch beside a reference, of each GPU or of all together; and whose the reference is."""
    seconds = [one.duration_s for one in windows]
    exact = trace.simulated and not truth_void(trace.meta)
    if gpus and busy_w is not None and _has_meter(trace):
        told = [one.watts for one in meter_side_gpu(trace, windows, busy_w, memory=_memory(trace))]
        reference = np.array(told, np.float64) * np.array(seconds)
        names = {READINGS: "readings_j", OURS: "energies_j"} | ({TRUTH: "truths_j"} if exact else {})
        sums = {name: np.sum([getattr(one, key) for one in gpus], axis=0) for name, key in names.items()}
        return [spans_of(level, seconds, reference, sums)], METER
    if not exact:
        return [], ""
    truths, readings, ours = (
        np.concatenate([getattr(one, key) for one in gpus] or [np.empty(0)])
        for key in ("truths_j", "readings_j", "energies_j")
    )
    return [spans_of(level, seconds * len(gpus), truths, {READINGS: readings, OURS: ours})], TRUTH


def _has_meter(trace: Trace) -> bool:
    return any(one.domain == "wall" and not one.name.startswith(TRUTH_PREFIX) for one in trace.channels.values())


def _memory(trace: Trace) -> str:
    """Return where memory's power is: with a counter of its own, or within what no counter sees."""
    counted = any(one.domain == "dram" and not one.name.startswith(TRUTH_PREFIX) for one in trace.channels.values())
    return "measured" if counted else "inside"


def _stored_w(trace: Trace) -> tuple[float, float] | None:
    """Return the uncaptured power by the recording's own calibration, where it may be used."""
    judged = judge_of(trace)
    return None if judged.calibration is None else judged.calibration.bounds_w


def _checks(
    trace: Trace,
    data: dict[str, Any],
    windows: Sequence[Window],
    gpus: Sequence[Gpu],
    pairs: Sequence[Spans],
    whose: str,
    idle_w: float | None,
    most: int,
) -> Iterator[dict[str, Any]]:
    marked = data["epochs"] > 0
    for name, of, found in _ranges(windows, gpus, idle_w, marked=marked):
        data["usage"].append({"name": name, "of": of, **asdict(found), "span_w": found.span_w, "share": found.share})
        yield lines.range_check(name, of, found)
    if marked and gpus:
        updates = [one for gpu in gpus for one in gpu.updates]
        few = sum(one <= most for one in updates)
        data["few_updates"] = {"epochs": len(updates), "few": few, "share": few / len(updates), "most": most}
        yield lines.few_check(_named(gpus), updates, most)
    seconds = np.array([one.duration_s for one in windows])
    floors = [floor for one in gpus if (floor := usage(one.energies_j / seconds)) is not None]
    if floors and len(windows) >= LEAST_PAIRS:  # of epochs, for a load that rests at times has a floor by itself
        yield lines.floor_check(_named(gpus), "epochs", max(floors, key=lambda one: one.floor_share))
    yield from _clusters(trace, data, windows, gpus)
    data["agreement"] = [row.as_json() for row in agreement_rows(pairs)]
    for spans in pairs:
        yield from _against(spans, whose, data["offset"])


def _known(watts: float) -> float | None:
    return watts if np.isfinite(watts) else None


def _named(gpus: Sequence[Gpu]) -> str:
    return gpus[0].channel if len(gpus) == 1 else f"{len(gpus)} GPUs, {gpus[0].channel.partition('.')[2]}"


def _clusters(
    trace: Trace, data: dict[str, Any], windows: Sequence[Window], gpus: Sequence[Gpu]
) -> Iterator[dict[str, Any]]:
    """Yield the line of the GPU whose readings are the least like one mode."""
    found = [(dip, one) for one in gpus if (dip := dip_test(one.news_w)) is not None]
    exact = trace.simulated and not truth_void(trace.meta)
    for dip, one in found:
        real = _true_dip(trace, one, windows) if exact else None
        told = {"channel": one.channel, "updates": asdict(dip), "truth": None if real is None else asdict(real)}
        data["bimodal"].append(told)
    if found:
        dip, one = max(found, key=lambda pair: pair[0].dip * pair[0].n ** 0.5)
        real = _true_dip(trace, one, windows) if exact else None
        yield lines.bimodal_check(one.channel, "updates", dip, real, f"{TRUTH} in 100 ms")


def _against(spans: Spans, whose: str, offsets: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for row in agreement_rows([spans]):
        if row.unit != "W" or row.method == TRUTH:  # which says what the meter is worth, and is no method
            continue
        if row.pearson is not None:
            yield lines.agreement_check(row, whose)
        found = offset(spans.methods_j[row.method] / spans.seconds, spans.reference_j / spans.seconds)
        if found is not None:
            offsets.append({"name": spans.level, "method": row.method, **asdict(found)})
            yield lines.offset_check(f"{spans.level}, {row.method}", found, "W", whose)


def _ranges(
    windows: Sequence[Window], gpus: Sequence[Gpu], idle_w: float | None, *, marked: bool
) -> Iterator[tuple[str, str, Usage]]:
    """Yield the range of every GPU, and of several together: of epochs' means, or of readings where none is marked."""
    seconds = np.array([one.duration_s for one in windows])
    of = "epochs" if marked and len(windows) > 1 else "updates"
    for one in gpus:
        watts = one.energies_j / seconds if of == "epochs" else one.news_w
        found = usage(watts, idle_w=_known(one.least_w) if idle_w is None else idle_w, limit_w=one.limit_w)
        if found is not None:
            yield one.name, of, found
    limits = [one.limit_w for one in gpus]
    if len(gpus) > 1 and of == "epochs":
        limit_w = None if None in limits else sum(one for one in limits if one is not None)
        rest_w = _known(sum(one.least_w for one in gpus)) if idle_w is None else idle_w * len(gpus)
        found = usage(sum(one.energies_j for one in gpus) / seconds, idle_w=rest_w, limit_w=limit_w)
        if found is not None:
            yield f"{len(gpus)} GPUs together", of, found


def _true_dip(trace: Trace, gpu: Gpu, windows: Sequence[Window]) -> Dip | None:
    """Return the dip of a GPU's exact power in spans as a meter's cycles, over the epochs."""
    begins = np.concatenate([np.arange(one.start_ns, one.end_ns - GRID_NS, GRID_NS) for one in windows])
    cells = [Window("", int(at), int(at) + GRID_NS) for at in begins[:: -(-len(begins) // MOST) or 1]]
    told = [one for one in truths_joules(trace, gpu.device, "gpu", cells) if one is not None]
    return dip_test(np.array(told) / (GRID_NS / 1e9))


def _captured(data: dict[str, Any], measured: Sequence[Measured], run: Window) -> Iterator[dict[str, Any]]:
    sums = totals(measured, run)
    parts = [sums[key] for key in ("gpu_j", "cpu_j", "dram_j") if sums[key] is not None]
    wall_j = sums["node_j"]
    if not wall_j or not parts or sums["cpu_j"] is None:
        return
    data["captured"] = {"parts_j": sum(parts), "wall_j": wall_j, "share": sum(parts) / wall_j}
    yield lines.captured_check(sum(parts), wall_j, "what the meter says", run.duration_s)


def _run_pair(measured: Sequence[Measured], run: Window) -> Mapping[str, float | None]:
    """Return the run's own energies of all GPUs, for tables over several recordings."""
    mine = [one for one in measured if one.primary and one.energy.domain == "gpu"]
    joules = [one.energy.joules for one in mine]
    truths = [one.truth_j for one in mine]
    return {
        "seconds": run.duration_s,
        "gpu_j": None if not mine or None in joules else sum(one for one in joules if one is not None),
        "truth_j": None if not mine or None in truths else sum(one for one in truths if one is not None),
    }
