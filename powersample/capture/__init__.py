# SPDX-License-Identifier: Apache-2.0
"""Sampler lanes into a spool: what to record (`plan`), and the ways to run it (`recorder`, `streamed`)."""

from powersample.capture.defaults import PACE, ROOTS, plan_with_defaults
from powersample.capture.live import Lanes, Piece, live_lanes
from powersample.capture.plan import KNOWN_SOURCES, Inventory, Plan, discover
from powersample.capture.privileged import recipe, sampler_path
from powersample.capture.recorder import Executable, InProcess, Recorder, sources_of
from powersample.capture.streamed import recorder_for

__all__ = [
    "KNOWN_SOURCES",
    "PACE",
    "ROOTS",
    "Executable",
    "InProcess",
    "Inventory",
    "Lanes",
    "Piece",
    "Plan",
    "Recorder",
    "discover",
    "live_lanes",
    "plan_with_defaults",
    "recipe",
    "recorder_for",
    "sampler_path",
    "sources_of",
]
