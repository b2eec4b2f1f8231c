# SPDX-License-Identifier: Apache-2.0
"""Three epochs of bursts, each with a validation behind it: what the picture of docs/report.md shows."""

import time

import powersample as ps

for epoch in range(3):
    with ps.window(f"epoch {epoch}"):
        for _ in range(8):
            end = time.monotonic() + 0.12
            while time.monotonic() < end:
                pass
            time.sleep(0.1)
    with ps.window(f"validation {epoch}"):
        time.sleep(0.5)
