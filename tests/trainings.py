# SPDX-License-Identifier: Apache-2.0
"""What trainings of every framework are held to: the truth in every epoch, and nothing left behind."""

import os
import threading
import time
from contextlib import contextmanager
from pathlib import Path

from powersample.analysis import training, truth_joules
from powersample.sim import Node

EPOCH_S = 0.45
FIFO = 5  # lanes that a busy machine does not starve, where it allows that
KEYS = {  # what is logged unless somebody asks for more
    "energy/gpu0_joules", "energy/total_joules", "energy/total_joules_low", "energy/total_joules_high",
    "energy/cumulative_joules", "power/gpu0_watts_mean", "quality/half_width_pct", "quality/simulated",
}  # fmt: skip
MORE_KEYS = {
    "energy/gpu0_joules_low", "energy/gpu0_joules_high", "energy/cpu_pkg0_joules", "energy/dram_joules",
    "energy/step_joules", "quality/coverage", "quality/dropouts",
}  # fmt: skip


@contextmanager
def busy_node():
    """An H100 and its CPU under a load that goes on all the time, so that an edge in the wrong place is seen."""
    with Node("h100", cpu="intel_icx") as node:
        node.load_wave(0, 300.0, 500.0, period_s=1.0, duty=0.5)
        yield node


def work(seconds=EPOCH_S / 3):
    """A step's own time: not much of a processor, since tests run beside others."""
    time.sleep(seconds)


def epochs_of(run):
    """Yield each epoch's window with what was done aside in it."""
    for epoch in [one for one in run.windows if one.name.startswith("epoch ")]:
        aside = [one for one in run.windows if one.name.partition(" ")[0] in ("validation", "checkpoint")]
        yield epoch, aside


def truths_j(run):
    """Yield (GPU, total) of every epoch's training, exactly."""
    trace = run.trace
    for epoch, aside in epochs_of(run):
        found = training(trace, epoch, aside)
        parts = {}
        for (name, domain), one in found.devices.items():
            device = one.pieces[0].device
            parts[name, domain] = sum(truth_joules(trace, device, domain, span) for span in found.spans)
        yield parts["gpu0", "gpu"], sum(parts[key] for key in parts if key[1] in ("gpu", "package", "dram"))


def check_truth_in_every_epoch(account, epochs):
    """Hold every epoch's logged interval against the truth of its spans."""
    truths = list(truths_j(account.run))
    assert len(account.history) == len(truths) == epochs
    for keys, (gpu_j, total_j) in zip(account.history, truths, strict=True):
        assert keys["energy/gpu0_joules_low"] < gpu_j < keys["energy/gpu0_joules_high"]
        assert keys["energy/total_joules_low"] < total_j < keys["energy/total_joules_high"]
        assert keys.keys() >= KEYS | MORE_KEYS
        assert keys["quality/coverage"] > 0.5


def names_of(run):
    """Names of the windows, without the run's own."""
    return [one.name for one in run.windows if one.name != "run"]


def threads():
    """Names of a recording's threads, native lanes too."""
    native = [path.read_text().strip() for path in Path("/proc/self/task").glob("*/comm")]
    return [name for name in native if name.startswith("ps-")] + [
        one.name for one in threading.enumerate() if one.name in ("powersample-convert", "powersample-left")
    ]


def check_nothing_left(account):
    """No thread of a recorder is left, and no marks file that others would write to."""
    assert not account.running
    assert "POWERSAMPLE_MARKS" not in os.environ
    assert threads() == []
    assert account.run is None or not account.run.trace.path.with_name("run.parquet.spool").exists()


def wait_for_nothing_left(account):
    """The same, soon: a thread sees to it where no hook tells of an exception."""
    deadline = time.monotonic() + 20
    while account.running or threads():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    check_nothing_left(account)
