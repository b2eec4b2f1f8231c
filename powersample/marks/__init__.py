# SPDX-License-Identifier: Apache-2.0
"""Marks: how a measured program says where its windows begin and end.

The recorder names a file in $POWERSAMPLE_MARKS, and every mark is a line in it (`lines`). Without the variable every
call here does nothing, so a program keeps its marks when nobody measures. Nothing heavy is imported.
"""

from powersample.marks.here import begin, dismiss, end, enlist, event, step, wait_for_recording, window
from powersample.marks.lines import ENVIRONMENT, LINE_BYTES, boot_id, time_is_shifted
from powersample.marks.reading import Log, Marks, parse
from powersample.marks.window import WindowMark
from powersample.marks.writer import MarkWriter

__all__ = [
    "ENVIRONMENT",
    "LINE_BYTES",
    "Log",
    "MarkWriter",
    "Marks",
    "WindowMark",
    "begin",
    "boot_id",
    "dismiss",
    "end",
    "enlist",
    "event",
    "parse",
    "step",
    "time_is_shifted",
    "wait_for_recording",
    "window",
]
