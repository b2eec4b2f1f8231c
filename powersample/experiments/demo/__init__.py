# SPDX-License-Identifier: Apache-2.0
"""A training run on the simulated node, measured several ways against its truth."""

from powersample.experiments.demo.run import Demo, run_demo
from powersample.experiments.demo.show import to_json, to_text, write_png

__all__ = ["Demo", "run_demo", "to_json", "to_text", "write_png"]
