# SPDX-License-Identifier: Apache-2.0
"""A log of PTDaemon joined with what MLPerf's power flow left beside it: its zone, both hosts' clocks, warnings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from powersample.errors import InvalidArgument
from powersample.formats import mllog
from powersample.formats.mlperf_power import ClockReading, Session, ahead_s, console, ntp_offsets, session
from powersample.formats.parsed import Parsed
from powersample.model import Response, SensorModel, Series, Trace, Window

BESIDE = (".", "../power")  # where the session's files lie from the log: v1.0 and later submissions
LIMIT = 0.01  # of a sample's uncertainty, above which PTDaemon warns
SLACK_S = 60.0  # by which a record may miss its phase and still be of it


def joined(parsed: Parsed, path: Path) -> Parsed:
    """Return a log on UTC where its session's files are there to tell the zone, and with what they say in its meta.

    Raises:
        BadFormat: such a file is there and is not what it should be.
    """
    folders = [path.parent / name for name in BESIDE]
    folder = next((one for one in folders if (one / "client.json").exists() and (one / "server.json").exists()), None)
    if folder is None:
        note = "client.json and server.json of the run are not beside it: the zone of its times is unknown"
        return replace(parsed, notes=(*parsed.notes, note))
    run = session((folder / "client.json").read_bytes(), (folder / "server.json").read_bytes(), str(folder))
    zone_s, origin, fits = _zone(parsed, run)
    if zone_s is None:
        return replace(parsed, notes=(*parsed.notes, f"{folder}: the session does not tell the zone of its times"))
    moved_ns = -zone_s * 10**9
    told: dict[str, Any] = {
        "session": run.as_json(),
        "zone_s": zone_s,
        "zone_origin": origin,
        "fits_its_phase": fits,
        "daylight_saving": parsed.meta["daylight_saving"],
        "ntp": [
            {"host": host, "t_ns": at_ns + moved_ns, "offset_s": offset_s}
            for host, name in (("client", "client.log"), ("server", "server.log"))
            if (folder / name).exists()
            for at_ns, offset_s in ntp_offsets((folder / name).read_bytes(), str(folder / name))
        ],
    }
    if (folder / "ptd_logs.txt").exists():
        said = console((folder / "ptd_logs.txt").read_bytes(), str(folder / "ptd_logs.txt"))
        told["console"] = {
            "uncertainty_checked": said.uncertainty_checked,
            "mean_w": dict(said.mean_w),
            "troubles": [
                asdict(one) | {"start_ns": one.start_ns + moved_ns, "end_ns": one.end_ns + moved_ns}
                for one in said.troubles
            ],
        }
    series = tuple(replace(one, t0_ns=one.t0_ns + moved_ns, t1_ns=one.t1_ns + moved_ns) for one in parsed.series)
    windows = tuple((name, start_ns + moved_ns, end_ns + moved_ns) for name, start_ns, end_ns in parsed.windows)
    models = _checked_models(told.get("console"), series)
    return Parsed(series, "utc", windows, parsed.notes, {**parsed.meta, **models, "ptdaemon": told})


def _checked_models(said: Mapping[str, Any] | None, series: tuple[Series, ...]) -> dict[str, Any]:
    """Return what the daemon's own check of every sample says of the meter's scale; nothing where it was not made."""
    if said is None or not said["uncertainty_checked"]:
        return {}
    wall = next((one for one in series if one.channel.name == "wall.power"), None)
    if wall is None or len(wall) < 2:
        return {}
    start_ns, end_ns = int(wall.t0_ns[0]), int(wall.t1_ns[-1])
    if any(
        one["what"].startswith("uncertainty") and one["start_ns"] <= end_ns and start_ns <= one["end_ns"]
        for one in said["troubles"]
    ):
        return {}
    model = SensorModel(
        Response.POINT,
        period_s=float(np.median(np.diff(wall.t0_ns))) / 1e9,
        gain_sd=LIMIT / 1.96,
        origin={"gain_sd": "PTDaemon checked every sample: 1 % at most", "period_s": "spacing of the samples"},
    )
    return {"sensor_models": {wall.channel.name: model.as_json()}}


def power_windows(path: Path, data: bytes, trace: Trace) -> list[Window]:
    """Return the windows of an MLPerf log on the trace's clock.

    power_begin and power_end are of the client's clock, in local time; they are moved to the clock of the meter's host
    by the difference that the session measured. run_start and run_stop are UTC.

    Raises:
        BadFormat: the log marks neither.
        InvalidArgument: it cannot be told where its times lie on the trace's clock.
    """
    local = mllog.power_windows(data, str(path))
    clock = trace.meta.get("clock")
    if not local:
        if clock != "utc":
            raise InvalidArgument(f"{path} marks its run in UTC, and this record's clock is none")
        return [Window(*one, (), path.name) for one in mllog.parse(data, str(path)).windows]
    names = ["power"] if len(local) == 1 else [f"power {number}" for number in range(1, len(local) + 1)]
    if clock == "local":
        return [Window(name, *span, (), path.name) for name, span in zip(names, local, strict=True)]
    told: Mapping[str, Any] | None = trace.meta.get("ptdaemon")
    if told is None:
        raise InvalidArgument(
            f"{path} has local times of a zone that nothing tells", "Give windows with --start and --end, or as a CSV."
        )
    return [_moved(name, *span, told, path.name) for name, span in zip(names, local, strict=True)]


def _zone(parsed: Parsed, run: Session) -> tuple[int | None, str, bool]:
    """Return the log's zone, what tells it, and whether its times then lie in a phase of the session."""
    start_s = min(one.t0_ns[0] for one in parsed.series) / 1e9
    end_s = max(one.t1_ns[-1] for one in parsed.series) / 1e9
    candidates = [
        (zone_s, origin)
        for zone_s, origin in (
            (run.zone_s, "the session's name"),
            (run.stated_zone_s, "the timezone field"),
            (0, "UTC"),
        )
        if zone_s is not None
    ]
    for zone_s, origin in candidates:
        if _within(start_s - zone_s, end_s - zone_s, [server for _, server in run.phases.values()]):
            return zone_s, origin, True
    known = [one for one in candidates if one[1] != "UTC"]
    return (*known[0], False) if known else (None, "", False)


def _within(start_s: float, end_s: float, phases: Sequence[Sequence[float]]) -> bool:
    """Whether a span lies between asking for some phase and its end."""
    return any(phase[0] - SLACK_S <= start_s and end_s <= phase[-1] + SLACK_S for phase in phases if phase)


def _moved(name: str, start_ns: int, end_ns: int, told: Mapping[str, Any], source: str) -> Window:
    """Return a window on the clock of the meter's host."""
    run = told["session"]
    phases = [client for client, _ in run["phases"].values()]
    ours_s = run["client_zone_s"] if run["client_zone_s"] is not None else told["zone_s"]
    likely_s = [one for one in (ours_s, told["zone_s"], 0) if _within(start_ns / 1e9 - one, end_ns / 1e9 - one, phases)]
    zone_s = likely_s[0] if likely_s else ours_s
    clock = tuple(ClockReading(**one) for one in run["clock"])
    ahead = [ahead_s(clock, local_ns / 1e9 - zone_s) for local_ns in (start_ns, end_ns)]
    by_ns = [0 if one is None else -round(one.ahead_s * 1e9) for one in ahead]
    source += (
        ", as if the client's clock were the meter's"
        if None in ahead
        else f", moved to the meter's clock by {by_ns[0] / 1e6:+.0f} ms and {by_ns[1] / 1e6:+.0f} ms"
    )
    zone_ns = zone_s * 10**9
    return Window(name, start_ns - zone_ns + by_ns[0], end_ns - zone_ns + by_ns[1], (), source)
