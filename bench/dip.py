# SPDX-License-Identifier: Apache-2.0
"""Writes `powersample/analysis/dip_table.py`: quantiles of the dip of uniform samples, by simulation.

python -m bench.dip          (some minutes of a core)
"""

from pathlib import Path

import numpy as np

from powersample.analysis import dip_table
from powersample.analysis.dip import dip_of

SEED = 20_261_126
SIZES = (4, 5, 6, 8, 10, 15, 20, 30, 50, 100, 200, 500, 1000, 2000)
PROBABILITIES = (0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999)
DRAWS = 2_000_000  # values a size, so that large samples take no longer
MOST_SAMPLES, LEAST_SAMPLES = 20_000, 4_000

HEAD = '''# SPDX-License-Identifier: Apache-2.0
"""Quantiles of sqrt(n) x dip of n uniform values, made by `python -m bench.dip`: {least} to {most} samples a size."""

PROBABILITIES = {probabilities}
SIZES = {sizes}
SQRT_N_DIP = ('''


def quantiles(n: int) -> list[float]:
    """Return the quantiles for samples of n values."""
    dice = np.random.default_rng((SEED, n))
    samples = max(LEAST_SAMPLES, min(MOST_SAMPLES, DRAWS // n))
    dips = [dip_of(np.sort(dice.uniform(size=n)))[0] for _ in range(samples)]
    return [float(one) for one in np.quantile(np.array(dips) * n**0.5, PROBABILITIES)]


def main() -> None:
    """Write the module."""
    lines = [HEAD.format(least=LEAST_SAMPLES, most=MOST_SAMPLES, probabilities=PROBABILITIES, sizes=SIZES)]
    lines += [f"    ({', '.join(f'{one:.4f}' for one in quantiles(n))}),  # n {n}" for n in SIZES]
    Path(dip_table.__file__).write_text("\n".join([*lines, ")", ""]))


if __name__ == "__main__":
    main()
