# SPDX-License-Identifier: Apache-2.0
"""Sampler lanes into a spool: what to record (`plan`) and the two ways to run it (`recorder`)."""

from powersample.capture.defaults import PACE, ROOTS, plan_with_defaults
from powersample.capture.plan import KNOWN_SOURCES, Inventory, Plan, discover
from powersample.capture.recorder import Executable, InProcess, Recorder, sampler_path

__all__ = [
    "KNOWN_SOURCES",
    "PACE",
    "ROOTS",
    "Executable",
    "InProcess",
    "Inventory",
    "Plan",
    "Recorder",
    "discover",
    "plan_with_defaults",
    "sampler_path",
]
