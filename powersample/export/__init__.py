# SPDX-License-Identifier: Apache-2.0
"""A trace in the formats of other tools."""

from powersample.export.influx import influx_chunks
from powersample.export.selection import Selection, clock_of, headline, select
from powersample.export.spl import spl_lines
from powersample.export.table import csv_chunks, windows_csv

__all__ = ["Selection", "clock_of", "csv_chunks", "headline", "influx_chunks", "select", "spl_lines", "windows_csv"]
