# SPDX-License-Identifier: Apache-2.0
"""From a trace to a model: pure functions, no devices."""

from powersample.fit.characterize import FIGURES, Characterization, characterize
from powersample.fit.figure import Figure
from powersample.fit.reference import Reference
from powersample.fit.verdict import disagreements

__all__ = ["FIGURES", "Characterization", "Figure", "Reference", "characterize", "disagreements"]
