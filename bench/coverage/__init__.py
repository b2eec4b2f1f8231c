# SPDX-License-Identifier: Apache-2.0
"""Do the stated 95 % intervals hold the truth 95 times in 100? Simulated sensors, exact truth, seeded."""
