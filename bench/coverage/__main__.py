# SPDX-License-Identifier: Apache-2.0
"""Command line: `python -m bench.coverage [--quick]`: the validation campaign of energies' intervals, and its table."""

from __future__ import annotations

import argparse
import sys
import time

from bench import machine
from bench.coverage import deck, measured, swept, table
from bench.coverage.scenario import HWMON, RAPL, SAMPLED
from powersample.analysis.interval import table_version

FIRST, REAL_SEED = 0, 1  # fit.py's seeds are others


def main() -> int:
    """Return 0 if every figure is what is asked."""
    parser = argparse.ArgumentParser(prog="python -m bench.coverage", description=__doc__)
    parser.add_argument("--count", type=int, default=1000, help="scenarios a profile (default %(default)s)")
    parser.add_argument("--quick", action="store_true", help="100 a profile, printed; README.md is left alone")
    asked = parser.parse_args()
    count = 100 if asked.quick else asked.count
    begin_s, seeds = time.monotonic(), range(FIRST, FIRST + count)
    if not measured.there():
        print(f"no published traces in {measured.FOLDER}: the real deck and two loads are left out", file=sys.stderr)
    decks = {
        "matched": deck.run("matched", seeds),
        "samples": deck.run("matched", seeds, [SAMPLED]),
        "hwmon": deck.run("matched", seeds, [HWMON]),
        "rapl": deck.run("matched", seeds, [RAPL]),
        "misspecified": deck.run("misspecified", seeds[: max(100, count // 2)]),
        "real": deck.real(100 if asked.quick else 300, REAL_SEED),
    }
    repeats = swept.run(seeds[: max(10, count // 12)])
    here = machine.describe()
    about = {
        **here,
        "version": table_version(),
        "seeds": f"{FIRST} to {seeds[-1]} of every profile (misspecified: the first {max(100, count // 2)}; repeats: "
        f"{max(10, count // 12)})",
        "seconds": time.monotonic() - begin_s,
        "numpy": here["packages"]["numpy"],
    }
    figures = table.figures(decks, repeats)
    for one in figures:
        met = {True: "met", False: "MISSED", None: ""}[one.met]
        print(f"{met:>7}  {one.what}: {one.found}" + (f" (asked {one.asked})" if one.asked else ""))
    if not asked.quick and measured.there():
        table.update_readme(table.render(decks, about, repeats))
    return int(any(one.met is False for one in figures))


if __name__ == "__main__":
    sys.exit(main())
