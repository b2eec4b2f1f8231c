# SPDX-License-Identifier: Apache-2.0
"""Loads of a known pattern, with the edges that they really had."""

from powersample.loads.cpus import allowed, cores_first, second_threads
from powersample.loads.edge_log import EdgeLog, Step
from powersample.loads.pattern import (
    KINDS,
    Pattern,
    chirp,
    cut,
    from_file,
    ladder,
    parse,
    prbs,
    random_edges,
    square,
    steady,
)
from powersample.loads.run import KERNELS, PERIOD_S, VECTORS, run

__all__ = [
    "KERNELS",
    "KINDS",
    "PERIOD_S",
    "VECTORS",
    "EdgeLog",
    "Pattern",
    "Step",
    "allowed",
    "chirp",
    "cores_first",
    "cut",
    "from_file",
    "ladder",
    "parse",
    "prbs",
    "random_edges",
    "run",
    "second_threads",
    "square",
    "steady",
]
