# SPDX-License-Identifier: Apache-2.0
"""A trace in the formats of other tools."""

from powersample.export.archive import archive_chunks
from powersample.export.chrome import chrome_chunks
from powersample.export.influx import influx_chunks
from powersample.export.perfetto_trace import perfetto_chunks
from powersample.export.selection import Selection, clock_of, headline, select
from powersample.export.spl import spl_lines
from powersample.export.table import csv_chunks, windows_csv

__all__ = [
    "Selection",
    "archive_chunks",
    "chrome_chunks",
    "clock_of",
    "csv_chunks",
    "headline",
    "influx_chunks",
    "perfetto_chunks",
    "select",
    "spl_lines",
    "windows_csv",
]
