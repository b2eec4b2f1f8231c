# SPDX-License-Identifier: Apache-2.0
"""Joins capture, marks, the simulated node and the report into recordings."""

from powersample.session.run import Run, measure

__all__ = ["Run", "measure"]
