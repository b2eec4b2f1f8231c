# SPDX-License-Identifier: Apache-2.0
"""From a trace to energies and to what they are worth: pure functions of a `Trace`, at constant memory."""

from powersample.analysis.clock import ClockEvent, clock_events, clock_json
from powersample.analysis.energy import channel_energies, channel_energy
from powersample.analysis.plan import MeasurementPlan, plan
from powersample.analysis.primary import Measured, energies, energy, find_window, run_window, totals, window_energies
from powersample.analysis.quality import Gap, Quality, carriers, quality
from powersample.analysis.relative import Relative, Sum, relative, together
from powersample.analysis.truth import truth_joules, truth_void
from powersample.analysis.updates import Pace, pace

__all__ = [
    "ClockEvent",
    "Gap",
    "Measured",
    "MeasurementPlan",
    "Pace",
    "Quality",
    "Relative",
    "Sum",
    "carriers",
    "channel_energies",
    "channel_energy",
    "clock_events",
    "clock_json",
    "energies",
    "energy",
    "find_window",
    "pace",
    "plan",
    "quality",
    "relative",
    "run_window",
    "together",
    "totals",
    "truth_joules",
    "truth_void",
    "window_energies",
]
