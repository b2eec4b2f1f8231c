# SPDX-License-Identifier: Apache-2.0
"""Experiment 1 of arXiv 2505.15631: one training, measured by every usual method, against what is known for sure."""

from powersample.experiments.race.draw import write_png
from powersample.experiments.race.run import Race, run_race
from powersample.experiments.race.setup import Setup
from powersample.experiments.race.show import to_json, to_text

__all__ = ["Race", "Setup", "run_race", "to_json", "to_text", "write_png"]
