# SPDX-License-Identifier: Apache-2.0
"""From a trace to a model: pure functions, no devices."""

from powersample.fit.align import Aligned, align, align_meter
from powersample.fit.characterize import FIGURES, Characterization, characterize
from powersample.fit.envelope import Envelope, envelope
from powersample.fit.figure import Figure
from powersample.fit.forward import Cycles
from powersample.fit.lag import Lag, Search
from powersample.fit.reference import Reference
from powersample.fit.steady import Steady, steady_points
from powersample.fit.sync import Synced, default_search, synchronise
from powersample.fit.together import surer, together, with_fit
from powersample.fit.verdict import disagreements

__all__ = [
    "FIGURES",
    "Aligned",
    "Characterization",
    "Cycles",
    "Envelope",
    "Figure",
    "Lag",
    "Reference",
    "Search",
    "Steady",
    "Synced",
    "align",
    "align_meter",
    "characterize",
    "default_search",
    "disagreements",
    "envelope",
    "steady_points",
    "surer",
    "synchronise",
    "together",
    "with_fit",
]
