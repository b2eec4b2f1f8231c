# SPDX-License-Identifier: Apache-2.0
"""From a trace to energies and to what they are worth: pure functions of a `Trace`, at constant memory."""

from powersample.analysis.asked import energy
from powersample.analysis.calibrated import Judged, judge
from powersample.analysis.choice import whole
from powersample.analysis.clock import ClockEvent, clock_events, clock_json
from powersample.analysis.crosscheck import Crosscheck
from powersample.analysis.drift import Drift, drift
from powersample.analysis.dropout import Dropout, Missing, dropouts
from powersample.analysis.energy import channel_energies, channel_energy
from powersample.analysis.gaps import Gap
from powersample.analysis.holistic import Holistic, WallEnergy, holistic, holistics, judge_of
from powersample.analysis.many import Energies, energies, windows_called
from powersample.analysis.mean import MeanEnergy, RunningEnergy, mean_energy
from powersample.analysis.plan import MeasurementPlan, plan
from powersample.analysis.primary import Measured, energies_in, find_window, run_window, window_energies
from powersample.analysis.quality import Quality, carriers, quality
from powersample.analysis.relative import Relative, Sum, add, relative
from powersample.analysis.sensitivity import RateSensitivity, Thinned, rate_sensitivity
from powersample.analysis.totals import total, totals
from powersample.analysis.training import Training, training, without
from powersample.analysis.truth import truth_joules, truth_void
from powersample.analysis.updates import Pace, pace

__all__ = [
    "ClockEvent",
    "Crosscheck",
    "Drift",
    "Dropout",
    "Energies",
    "Gap",
    "Holistic",
    "Judged",
    "MeanEnergy",
    "Measured",
    "MeasurementPlan",
    "Missing",
    "Pace",
    "Quality",
    "RateSensitivity",
    "Relative",
    "RunningEnergy",
    "Sum",
    "Thinned",
    "Training",
    "WallEnergy",
    "add",
    "carriers",
    "channel_energies",
    "channel_energy",
    "clock_events",
    "clock_json",
    "drift",
    "dropouts",
    "energies",
    "energies_in",
    "energy",
    "find_window",
    "holistic",
    "holistics",
    "judge",
    "judge_of",
    "mean_energy",
    "pace",
    "plan",
    "quality",
    "rate_sensitivity",
    "relative",
    "run_window",
    "total",
    "totals",
    "training",
    "truth_joules",
    "truth_void",
    "whole",
    "window_energies",
    "windows_called",
    "without",
]
