# SPDX-License-Identifier: Apache-2.0
"""Other people's measurements as a `Trace`, or, where only runs were published, as a `RunTable`."""

from powersample.readers.edges import read_edges
from powersample.readers.read import FORMATS, guess, read, read_carbon, read_points
from powersample.readers.span import instant_ns, read_windows
from powersample.readers.torch_trace import read_torch

__all__ = [
    "FORMATS",
    "guess",
    "instant_ns",
    "read",
    "read_carbon",
    "read_edges",
    "read_points",
    "read_torch",
    "read_windows",
]
