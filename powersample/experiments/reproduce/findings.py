# SPDX-License-Identifier: Apache-2.0
"""What the study's figures say, a sentence each with its numbers; and what they do not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from powersample.analysis.agreement_table import PAPER_PEARSON
from powersample.experiments.reproduce.carbon import VERSIONS
from powersample.experiments.reproduce.figures import Over, over, tracing_figures
from powersample.experiments.reproduce.holistic import IDLE, PRIMES, STRESS, uncaptured_w
from powersample.experiments.reproduce.inputs import FINDINGS
from powersample.experiments.reproduce.run import Reproduction
from powersample.experiments.reproduce.tracing import FEW_SHARE, SMI, settings

MEANS = {"mean": "1 s mean", "quick": "quick"}
CONSTANT_SHARE = 0.25  # an offset that varies by less of itself is near-constant


def findings(study: Reproduction) -> Iterator[str]:
    """Yield what the figures say, each with its numbers."""
    figures = [
        {name: over(study, of) for name, of in tracing_figures(place).items()} for place in range(len(settings()))
    ]
    by_power, by_energy = (
        sum(each[epoch].here < each[run].here for each in figures)
        for epoch, run in (("smi_epoch_r", "smi_run_r"), ("smi_epoch_j_r", "smi_run_j_r"))
    )
    yield (
        f"nvidia-smi's loop agrees with the meter less over epochs than over trainings in {by_power} of {len(figures)} "
        f"settings by mean power and in {by_energy} by energy, whose r the different lengths lift: of which of the two "
        "the paper's figures are is not said."
    )
    yield from _by_share(figures)
    yield from _by_field(figures)
    worst = max(each["native_error_pct"].here for each in figures)
    least = min(each["smi_error_pct"].here for each in figures)
    held = min(each["held_share"].here for each in figures)
    yield (
        f"Against the truth an epoch's energy is off in the median by at least {least:.1f} % by nvidia-smi's loop and "
        f"by at most {worst:.1f} % by powersample, whose 95 % intervals hold it in {share(held)} of epochs"
        f"{'' if held == 1 else ' or more'}."
    )
    bias = figures[0]["meter_bias_w"]
    yield (
        f"The paper's reference has an error that no correlation shows: GPU power through the meter is off by "
        f"{bias.here:+.0f} W ({bias.low:+.0f} to {bias.high:+.0f} W on drawn nodes), because P_busy under a prime "
        "search is not that of the training."
    )
    yield from _of_code_carbon(study)
    low_w, high_w = study.here.one.usage_w
    four_low_w, four_high_w = study.here.four.usage_w
    limit_w, idle_w = study.here.one.limit_w
    yield (
        f"Usage of a GPU over trainings: {low_w:.0f} to {high_w:.0f} W alone, {four_low_w:.0f} to {four_high_w:.0f} W "
        f"among four, {100 * (high_w - low_w) / (limit_w - idle_w):.0f} and "
        f"{100 * (four_high_w - four_low_w) / (limit_w - idle_w):.0f} % of what the board can vary by; "
        f"{FINDINGS['usage'].value} of the paper were put in as the power while it computes."
    )


def _by_share(figures: Sequence[dict[str, Over]]) -> Iterator[str]:
    """Yield what the paper's share of epochs with few readings does by itself."""
    place = next(i for i, one in enumerate(settings()) if one.field == "mean")
    mine, papers = figures[place]["smi_epoch_r"].here, PAPER_PEARSON[SMI, "epoch"]
    least = min(one["smi_epoch_r"].here for one in figures)
    words = f"With the paper's {share(FEW_SHARE)} of epochs put in, r of an epoch is {r_of(mine)} beside its {papers:g}"
    if mine <= papers or np.isnan(mine):
        yield f"{words}."
    elif least <= papers:
        yield f"{words}: few readings alone do not bring it so low, short epochs and slow calls do ({r_of(least)})."
    else:
        yield f"{words}, and in no setting as low: the least is {r_of(least)}."


def _by_field(figures: Sequence[dict[str, Over]]) -> Iterator[str]:
    """Yield what more readings mend, of either field, where calls are slowest: the last setting of each."""
    slow = {one.field: each for one, each in zip(settings(), figures, strict=True)}
    r = {field: (each["smi_epoch_r"].here, each["nvml_epoch_r"].here) for field, each in slow.items()}
    words = "; ".join(
        f"{MEANS[field]}: {r_of(smi)} by nvidia-smi, {r_of(nvml)} by NVML" for field, (smi, nvml) in r.items()
    )
    mends = [MEANS[field] for field, (smi, nvml) in r.items() if nvml > smi]
    what = f"mend r of a {' and a '.join(mends)} field" if mends else "mend neither"
    yield f"With slow calls 10 readings a second {what} ({words}): a mean over the last second stays one at any rate."


def _of_code_carbon(study: Reproduction) -> Iterator[str]:
    for version in VERSIONS:
        mean_w, sd_w = study.here.one.offset_w[version]
        like = ": near-constant, as the paper's" if sd_w < CONSTANT_SHARE * mean_w else ""
        yield f"{version} is short by {mean_w:.0f} W, with a standard deviation of {sd_w:.0f} W over trainings{like}."
    powers = {name: uncaptured_w(study.here.calibration, name) for name in (IDLE, PRIMES, STRESS)}
    best = study.here.calibration.node
    yield (
        f"Uncaptured power as calibrated here: {powers[IDLE]:.0f} W idle and {powers[PRIMES]:.0f} W under primes, "
        f"which were put in, {powers[STRESS]:.0f} W under a mixed stress load"
        + ("." if best is None else f"; the node model's leave-one-out error is {best.leave_one_out_max_pct:.1f} %.")
    )


def share(value: float) -> str:
    """Return a share in percent."""
    return f"{100 * value:.0f} %"


def r_of(value: float) -> str:
    """Return a correlation; "-" where there is none."""
    return "-" if np.isnan(value) else f"{value:.2f}"
