# SPDX-License-Identifier: Apache-2.0
"""What a recording is, in memory: numpy and the standard library only, no files, no devices."""

from powersample.model.amounts import amount, duration
from powersample.model.calibration import Calibration, LinearModel, OperatingPoint
from powersample.model.channel import KEPT_DTYPE, METER_DTYPE, SAMPLE_DTYPE, Channel, Kind
from powersample.model.clock import Anchor, to_boottime_ns, to_realtime_ns
from powersample.model.clock_fit import ClockFit, Knot
from powersample.model.energy import BudgetTerm, Energy, Window
from powersample.model.host import host_of, simulated_key, simulated_name
from powersample.model.lane import LaneStats
from powersample.model.meter import Accuracy, MeterInfo
from powersample.model.run_table import RunRow, RunTable
from powersample.model.sensor import Response, SensorModel
from powersample.model.series import Series
from powersample.model.trace import TRUTH_PREFIX, Backend, Extent, InMemory, Trace

__all__ = [
    "KEPT_DTYPE",
    "METER_DTYPE",
    "SAMPLE_DTYPE",
    "TRUTH_PREFIX",
    "Accuracy",
    "Anchor",
    "Backend",
    "BudgetTerm",
    "Calibration",
    "Channel",
    "ClockFit",
    "Energy",
    "Extent",
    "InMemory",
    "Kind",
    "Knot",
    "LaneStats",
    "LinearModel",
    "MeterInfo",
    "OperatingPoint",
    "Response",
    "RunRow",
    "RunTable",
    "SensorModel",
    "Series",
    "Trace",
    "Window",
    "amount",
    "duration",
    "host_of",
    "simulated_key",
    "simulated_name",
    "to_boottime_ns",
    "to_realtime_ns",
]
