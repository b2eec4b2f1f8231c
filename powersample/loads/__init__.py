# SPDX-License-Identifier: Apache-2.0
"""Loads of a known pattern, with the edges that they really had."""

from powersample.loads.edge_log import EdgeLog
from powersample.loads.pattern import KINDS, Pattern, chirp, from_file, parse, prbs, random_edges, square
from powersample.loads.run import run

__all__ = ["KINDS", "EdgeLog", "Pattern", "chirp", "from_file", "parse", "prbs", "random_edges", "run", "square"]
