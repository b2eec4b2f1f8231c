# SPDX-License-Identifier: Apache-2.0
"""The collection loop behind arXiv 2505.15631's first finding, on short epochs, beside the native sampler."""

from powersample.experiments.paper.draw import write_png
from powersample.experiments.paper.run import Paper, run_paper
from powersample.experiments.paper.show import to_json, to_text

__all__ = ["Paper", "run_paper", "to_json", "to_text", "write_png"]
