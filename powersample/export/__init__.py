# SPDX-License-Identifier: Apache-2.0
"""A trace in the formats of other tools."""

from powersample.export.spl import spl_lines

__all__ = ["spl_lines"]
