# SPDX-License-Identifier: Apache-2.0
"""What can be measured on this machine, what is missing, and one thing to do about each; changes nothing.

Every section is a function of a `Machine`, which is folders, an environment and a few calls, so that any machine can
be made up in a folder.
"""

from powersample.doctor.check import Check, Diagnosis, Tried
from powersample.doctor.diagnose import diagnose
from powersample.doctor.machine import Machine

__all__ = ["Check", "Diagnosis", "Machine", "Tried", "diagnose"]
