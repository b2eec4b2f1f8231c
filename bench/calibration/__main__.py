# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m bench.calibration [--quick]`: calibrated nodes at loads that nobody calibrated."""

from __future__ import annotations

import argparse
import sys
import time

from bench import machine
from bench.calibration import deck, table

FIRST = 100  # other nodes than those that the models were developed with


def main() -> int:
    """Return 0 if every figure is what is asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.calibration", description=__doc__)
    parser.add_argument("--count", type=int, default=25, help="nodes of each kind (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="3 of each kind, printed; README.md is left alone")
    asked = parser.parse_args()
    begin_s, seeds = time.monotonic(), range(FIRST, FIRST + (3 if asked.quick else asked.count))
    rows = deck.run(seeds)
    here = machine.describe()
    about = {
        **here,
        "seeds": f"{seeds[0]} to {seeds[-1]}",
        "seconds": time.monotonic() - begin_s,
        "numpy": here["packages"]["numpy"],
    }
    figures = table.figures(rows)
    for one in figures:
        met = {True: "met", False: "MISSED", None: ""}[one.met]
        print(f"{met:>7}  {one.what}: {one.found}" + (f" (asked {one.asked})" if one.asked else ""))
    if not asked.quick:
        table.update_readme(table.render(rows, about))
    return int(any(one.met is False for one in figures))


if __name__ == "__main__":
    sys.exit(main())
