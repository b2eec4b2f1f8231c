# SPDX-License-Identifier: Apache-2.0
"""What a trace says, as one JSON object and as text for a terminal."""

from powersample.report.audit import Audit, audit
from powersample.report.build import Report, build
from powersample.report.holistic import Factors
from powersample.report.screen import screen

__all__ = ["Audit", "Factors", "Report", "audit", "build", "screen"]
