# SPDX-License-Identifier: Apache-2.0
"""The behaviour table (`table.toml`, beside this file) and the look-up in it.

The meaning of a power field depends on the board's generation and on the driver's branch (arXiv 2312.02741): the same
`nvmlDeviceGetPowerUsage` was a 1 s average, became quick in branch 530, and is an average again.
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from importlib import resources
from typing import Any

from powersample.errors import BadFormat
from powersample.model import Channel, Kind, Response, SensorModel, Trace

FIELDS = {  # the source's own words for where a channel's values come from
    "nvml.field.186": "instant",
    "nvml.field.185": "average",
    "nvml.field.186.module": "module",
    "nvml.field.185.module": "average",
    "nvml.power_usage": "usage",
    "nvml.total_energy": "energy",
    "nvml.field.83": "energy",
}
SAMPLED = ("hwmon", "pmd", "lpm01a", "mllog", "ptdaemon", "csv")  # of which no more is known than power at instants
RAPL_ROUTES = ("perf", "powercap", "msr")
CONDITIONS = ("architecture", "name", "field", "driver")
FIGURES = {
    "period_ms": ("period_s", 1e-3),
    "window_ms": ("window_s", 1e-3),
    "tau_ms": ("tau_s", 1e-3),
    "delay_ms": ("delay_s", 1e-3),
    "gain": ("gain", 1.0),
    "gain_sd": ("gain_sd", 1.0),
    "offset_w": ("offset_w", 1.0),
    "offset_sd_w": ("offset_sd_w", 1.0),
}


def look_up(field: str, *, name: str = "", architecture: str = "", driver: str | None = None) -> SensorModel:
    """Return what the table says of a board's field; a wide default, marked as such, for boards it does not know.

    Args:
        field: "instant", "average", "module", "usage", "energy" or "rapl".
        name: NVML's name of the board.
        architecture: NVML's: "hopper", "ampere" ...; "" when unknown.
        driver: version of NVIDIA's driver, "535.247.01"; None when unknown.
    """
    board = {"name": name, "architecture": architecture, "driver": driver or ""}
    for row in _rows():
        if _holds(row, {**board, "field": field}):
            if "same_as" in row:
                return look_up(str(row["same_as"]), name=name, architecture=architecture, driver=driver)
            return _model(row)
    raise BadFormat(f"the sensor table has no row for field {field!r}")


def field_of(channel: Channel) -> str | None:
    """Return the table's word for a channel's field; None for sensors that the table does not speak of."""
    origin = channel.sensor.partition(".")[0]
    if origin in RAPL_ROUTES:
        return "rapl"
    if origin in SAMPLED and channel.kind is Kind.POWER:
        return "samples"
    return FIELDS.get(channel.sensor)


def architecture_of(name: str) -> str:
    """Return the generation of a board by NVIDIA's name of it; "" for names that the table does not know."""
    generations: list[dict[str, str]] = _table()["generation"]
    return next((one["architecture"] for one in generations if re.search(one["names"], name)), "")


def model_of(trace: Trace, channel: Channel) -> SensorModel | None:
    """Return the model of a recorded channel's sensor, or None where nothing is known of it.

    A model stored in the trace (`meta["sensor_models"]`, by channel) goes before the table.
    """
    stored = (trace.meta.get("sensor_models") or {}).get(channel.name)
    return table_model(trace, channel) if stored is None else SensorModel.from_json(stored)


def table_model(trace: Trace, channel: Channel) -> SensorModel | None:
    """Return what the table alone says of a recorded channel's sensor; None where it does not speak of it."""
    field = field_of(channel)
    if field is None:
        return None
    if field == "samples" and channel.span == "fixed" and channel.span_ns:
        # Its own word: each value averages so long, and such meters publish one average after the other.
        span_s, samples = channel.span_ns / 1e9, look_up(field)
        origin = {**samples.origin, "period_s": "the sensor's own word", "window_s": "the sensor's own word"}
        return replace(samples, response=Response.CONTIGUOUS, period_s=span_s, window_s=span_s, origin=origin)
    board: Mapping[str, Any] = next(
        (one for one in trace.meta.get("devices") or () if one.get("uuid") == channel.device), {}
    )
    return look_up(
        field,
        name=str(board.get("name") or ""),
        architecture=str(board.get("architecture") or ""),
        driver=trace.meta.get("driver"),
    )


@cache
def _table() -> Mapping[str, Any]:
    text = (resources.files("powersample.sensors") / "table.toml").read_text("utf-8")
    return tomllib.loads(text)


def _rows() -> list[Mapping[str, Any]]:
    rows: list[Mapping[str, Any]] = _table()["sensor"]
    return rows


def _holds(row: Mapping[str, Any], board: Mapping[str, str]) -> bool:
    return all(_meets(key, row[key], board[key]) for key in CONDITIONS if key in row)


def _meets(key: str, wanted: Any, there: str) -> bool:
    if key == "name":
        return re.search(wanted, there) is not None
    if key == "driver":
        branch = there.partition(".")[0]
        if not branch.isdigit():
            return False
        sign, figure = (wanted[0], int(wanted[1:])) if wanted[0] in "<>" else ("=", int(wanted))
        number = int(branch)
        return number < figure if sign == "<" else number > figure if sign == ">" else number == figure
    return there in ([wanted] if isinstance(wanted, str) else wanted)


def _model(row: Mapping[str, Any]) -> SensorModel:
    sources = _table()["source"]
    figures = {attribute: row[key][0] * unit for key, (attribute, unit) in FIGURES.items() if key in row}
    origin = {attribute: sources[row[key][1]] for key, (attribute, _) in FIGURES.items() if key in row}
    return SensorModel(Response(row["response"]), **figures, known=row.get("known", True), origin=origin)
