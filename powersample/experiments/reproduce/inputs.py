# SPDX-License-Identifier: Apache-2.0
"""All that was put in: what is the paper's, what is other people's, and what is assumed. None of it is a finding."""

from __future__ import annotations

from dataclasses import dataclass

from powersample.analysis.agreement_table import PAPER_PEARSON
from powersample.analysis.codecarbon import INTERVAL_S
from powersample.experiments.calibrate.ground import NODE_SHARES
from powersample.experiments.paper.epochs import (
    BATCH_S,
    LEAST_W,
    MOST_W,
    PAUSE_S,
    REST_W,
    SHARES,
    SLEEP_S,
    WAIT_W,
)
from powersample.experiments.reproduce import carbon, loads, tracing
from powersample.experiments.reproduce.holistic import EPOCHS as RUN_EPOCHS
from powersample.experiments.reproduce.holistic import HIGH, LENGTHS_S, LOW, PRIMES, PRIOR, RUNS, STRESS
from powersample.experiments.reproduce.tools import RANGE_SHARE, RANGE_W, READING_SHARE
from powersample.model import amount

PAPER = "the paper"
ASSUMED = "assumed"


@dataclass(frozen=True, slots=True)
class Input:
    """Something that was put in: what, its value in words, whose it is."""

    what: str
    value: str
    origin: str


@dataclass(frozen=True, slots=True)
class Found:
    """A finding of arXiv 2505.15631 that stands beside ours: where it is, and in words."""

    value: str
    where: str


SMI_EPOCH, SMI_RUN, NVML_RUN = (
    f"{PAPER_PEARSON[one]:g}" for one in (("SMI", "epoch"), ("SMI", "run"), ("NVML", "run"))
)
# Every figure here is the paper's.
FINDINGS = {
    "few_share": Found("39 %", "section V: epochs with no more than 10 power samples"),
    "smi_epoch_r": Found(SMI_EPOCH, "section V.B: nvidia-smi against the meter, per epoch; of what is not said"),
    "smi_run_r": Found(SMI_RUN, "section V: nvidia-smi against the meter, per training"),
    "nvml_r": Found(NVML_RUN, "section VI.B: NVML against the meter, of which span is not said; it passes the KS test"),
    "codecarbon": Found("10.3 %", "section VI.D: largest error of Code Carbon, too little by a near-constant offset"),
    "bounds": Found("+8.9 .. -3.6 %", "section VI.D: errors of the bounds by offline calibration"),
    "prior": Found("6.6 %", "section VI.D: largest error of the upper bound when the load is known to be like primes"),
    "usage": Found("146-305 W", "section VI.C: usage of one GPU; narrower still with four"),
}

# The paper's largest errors of the wall's energy, %, each of what stands for it here; what it gives without a sign is
# too little of Code Carbon and too much of an upper bound.
PAPERS_PCT = {"Code Carbon 2": -10.3, LOW: -3.6, HIGH: +8.9, PRIOR: +6.6}


def inputs(profile: str, nodes: int, trainings: int) -> tuple[Input, ...]:
    """Return everything that was put in."""
    short, long = tracing.lengths_for(tracing.FEW_SHARE, tracing.CALLS_S[0])
    return (
        Input("node", f"{profile}: 2 CPUs, 2 TB, 4 x H100, LMG450 at its supplies", PAPER),
        Input("uncaptured power of the idle node", "783 W, of the node that is not drawn", PAPER),
        Input("the same under a prime search", "811 W, likewise", PAPER),
        Input(
            "the stress load",
            f"{STRESS!r}, registers and memory together, in place of the paper's Firestarter",
            f"Firestarter {PAPER}'s, its stand-in {ASSUMED}",
        ),
        Input(
            "what a load draws of a device's range from idle to its limit",
            "; ".join(f"{name}: {_shares(name)}" for name in (PRIMES, STRESS)),
            ASSUMED,
        ),
        Input(
            "the meter's limit of error",
            f"{100 * READING_SHARE:g} % of reading and {100 * RANGE_SHARE:g} % of range, of a range of {RANGE_W:g} W",
            f"percents {PAPER}'s, the range {ASSUMED}",
        ),
        Input("power of one GPU while it computes", f"{LEAST_W:g} to {MOST_W:g} W; at rest {REST_W:g} W", PAPER),
        Input("trainings", f"{RUNS} in 2a and 2b; 500 in experiment 1, of which {trainings} are held here", PAPER),
        Input("epochs of a training of experiment 1", f"{tracing.EPOCHS}", ASSUMED),
        Input(
            "readings", "nvidia-smi nominally 10 a second, NVML 10 a second, a value of the meter each 100 ms", PAPER
        ),
        Input("nvidia-smi's loop", f"sleeps {SLEEP_S:g} s, calls, takes the mean", "EA-HAS-Bench's tracer"),
        Input(
            "Code Carbon's memory",
            f"3 W for 8 GB (2), 5 W a module and less from the fifth on (3): {_memory()} of {carbon.MEMORY_GIB:g} GiB",
            "Code Carbon",
        ),
        Input(
            "Code Carbon's readings",
            f"NVML's energy counters and RAPL's packages, at a training's begin and end and between every "
            f"{INTERVAL_S:g} s, in experiment 1 also every {carbon.PAPERS_S:g} s; "
            "an epoch gets what was read within it",
            f"{INTERVAL_S:g} s Code Carbon's default, {carbon.PAPERS_S:g} s {PAPER}'s",
        ),
        Input(
            "epochs, first kind",
            f"{amount(short, 2)} to {amount(long, 2)} s: so long that {100 * tracing.FEW_SHARE:.0f} % get at most 10 "
            "readings",
            f"the share {PAPER}'s, lengths log-uniform over a factor of {tracing.SPAN:g} {ASSUMED}",
        ),
        Input("epochs, second kind", f"{tracing.SHORT_S[0]:g} to {tracing.SHORT_S[1]:g} s, log-uniform", ASSUMED),
        Input("a call of nvidia-smi -q -x", " or ".join(f"{1e3 * one:g} ms" for one in tracing.CALLS_S), ASSUMED),
        Input(
            "what power.draw is", "the mean of the last second (driver 535), or quick (driver 530)", "NVIDIA, measured"
        ),
        Input(
            "within an epoch",
            f"batches of {BATCH_S[0]:g} to {BATCH_S[1]:g} s that compute for {100 * SHARES[0]:.0f} to "
            f"{100 * SHARES[1]:.0f} % and wait at {WAIT_W:g} W; {PAUSE_S:g} s and more between epochs",
            ASSUMED,
        ),
        Input(
            "the host meanwhile",
            f"{loads.HOST_W[0]:g} to {loads.HOST_W[1]:g} W a socket, {loads.MEMORY_W[0]:g} to {loads.MEMORY_W[1]:g} W "
            "its memory",
            ASSUMED,
        ),
        Input(
            "trainings of 2a and 2b",
            f"{RUN_EPOCHS} epochs of {LENGTHS_S[0]:g} to {LENGTHS_S[1]:g} s; of four GPUs each draws "
            f"{100 * loads.SHARES[0]:.0f} to {100 * loads.SHARES[1]:.0f} % of what one alone would",
            ASSUMED,
        ),
        Input(
            "supply, fans, gains, boards",
            f"as the profile says of each figure; {nodes} nodes draw them within its spreads",
            ASSUMED,
        ),
    )


def _memory() -> str:
    return " and ".join(f"{carbon.memory_w(version):g} W" for version in carbon.VERSIONS.values())


def _shares(kernel: str) -> str:
    return ", ".join(f"{100 * share:.0f} % {device}" for device, share in NODE_SHARES[kernel].items())
