# SPDX-License-Identifier: Apache-2.0
"""The experiments of arXiv 2505.15631 on a simulated node of its kind: its findings and ours side by side."""

from powersample.experiments.reproduce.draw import write_png
from powersample.experiments.reproduce.run import NODES, TRAININGS, Reproduction, run_reproduce
from powersample.experiments.reproduce.show import to_json, to_text

__all__ = ["NODES", "TRAININGS", "Reproduction", "run_reproduce", "to_json", "to_text", "write_png"]
