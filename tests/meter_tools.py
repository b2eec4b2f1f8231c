# SPDX-License-Identifier: Apache-2.0
"""Powers in closed form, and what tests of meters share."""

import math
import time

import numpy as np

from powersample.meters import make_meter, parse_addresses

PERIOD_S, MEAN_W, SWING_W = 0.731, 500.0, 200.0


def sine_w(start_ns, end_ns):
    """Mean of 500 W + 200 W sin(2 pi t / 0.731 s) over a span, exactly."""
    w = 2 * math.pi / (PERIOD_S * 1e9)
    return MEAN_W - SWING_W * (math.cos(w * end_ns) - math.cos(w * start_ns)) / (w * (end_ns - start_ns))


def constant_w(_start_ns, _end_ns):
    return 783.5


def driver(kind, sim, **options):
    """Return the driver of a simulator."""
    more = "".join(f",{key}={value}" for key, value in options.items())
    return make_meter(parse_addresses([f"{kind}:{sim.address}{more}"])[0])


class Got:
    """What a driver has read: arrays of the first channel, and gaps."""

    def __init__(self):
        self.batches, self.gaps = [], []

    def take(self, batch):
        self.batches += [one for one in batch.readings if one.channel == 0]
        self.gaps += batch.gaps

    def __len__(self):
        return sum(map(len, self.batches))

    def array(self, name):
        return np.concatenate([getattr(one, name) for one in self.batches] or [np.empty(0)])

    @property
    def energy_j(self):
        return float((self.array("watts") * self.array("cycle_s")).sum())


def read(meter, until, timeout_s=20.0, got=None):
    """Read until `until(got)`; fail when that takes too long."""
    got = Got() if got is None else got
    deadline = time.monotonic() + timeout_s
    while not until(got):
        assert time.monotonic() < deadline, f"{len(got)} readings, {got.gaps}, {meter.counts()}"
        got.take(meter.read(0.1))
    return got
