# SPDX-License-Identifier: Apache-2.0
"""Loads of a known pattern, with the edges that they really had."""

from powersample.loads.edge_log import EdgeLog, Step
from powersample.loads.pattern import (
    KINDS,
    Pattern,
    chirp,
    from_file,
    ladder,
    parse,
    prbs,
    random_edges,
    square,
    steady,
)
from powersample.loads.run import KERNELS, VECTORS, allowed, run

__all__ = [
    "KERNELS",
    "KINDS",
    "VECTORS",
    "EdgeLog",
    "Pattern",
    "Step",
    "allowed",
    "chirp",
    "from_file",
    "ladder",
    "parse",
    "prbs",
    "random_edges",
    "run",
    "square",
    "steady",
]
