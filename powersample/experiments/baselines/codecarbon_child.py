# SPDX-License-Identifier: Apache-2.0
"""CodeCarbon itself, in a process of its own: tracks the machine that it sees until its standard input ends.

Run as a program by `codecarbon_process`, which decides what machine that is. Prints one JSON object a line: when its
account began, and at its end how it came by the CPU's power. Its emissions.csv is left in the folder given.
"""

from __future__ import annotations

import json
import sys

from powersample.experiments.baselines.quiet import silence


def _say(**told: object) -> None:
    print(json.dumps(told), flush=True)


def main(folder: str, interval_s: str, country: str) -> int:
    """Track, and leave an emissions.csv in `folder`."""
    try:
        with silence():
            from codecarbon import OfflineEmissionsTracker
    except ImportError as error:
        _say(missing=str(error))
        return 1
    with silence():
        tracker = OfflineEmissionsTracker(
            country_iso_code=country,
            measure_power_secs=float(interval_s),
            output_dir=folder,
            api_call_interval=-1,
            emissions_endpoint=False,
            tracking_mode="machine",
            log_level="critical",
            pue=1.0,
            wue=0.0,
            allow_multiple_runs=True,
        )
        tracker.start()
    if tracker._start_time is None:
        print("its tracker did not start", file=sys.stderr)
        return 1
    _say(start_ns=round(tracker._start_time * 1e9))  # its time.perf_counter is CLOCK_MONOTONIC on Linux
    sys.stdin.read()
    with silence():
        tracker.stop()
    _say(cpu=next((one._mode for one in tracker._hardware if type(one).__name__ == "CPU"), "none"))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(*sys.argv[1:]))
