# SPDX-License-Identifier: Apache-2.0
"""Energies of meters that are asked: the maker's limits of error, and readings that are as old as they may be."""

import numpy as np
import pytest
from traces import S, series

from powersample.analysis import channel_energy
from powersample.meters.contract import power_channel
from powersample.model import Accuracy, MeterInfo, Trace, Window

LATE_S, PERIOD_S = 1.5, 0.5
PLUG = Accuracy(1.0, floor_w=1.0, origin="a data sheet")


def recorded(watts, t_ns, accuracy=PLUG, latency_max_s=LATE_S):
    channel = power_channel("wall", "shelly.power", span="none")
    info = MeterInfo(
        "wall", "shelly", "shelly:x", "", "", "", "", (channel,), np.nan,
        latency_max_s=latency_max_s, accuracy=accuracy,
    )  # fmt: skip
    return Trace.of([series(channel, t_ns, watts)], meta={"meters": [info.as_json()]})


def constant(watts, **more):
    t_ns = np.arange(0, 60 * S, round(PERIOD_S * S))
    trace = recorded(np.full(len(t_ns), watts), t_ns, **more)
    return channel_energy(trace, "wall.power", Window("w", 10 * S, 50 * S))


def test_steady_power_is_as_sure_as_the_makers_limits_of_error():
    found = constant(200.0)
    assert found.joules == pytest.approx(8000)
    half = (found.high_j - found.low_j) / 2
    assert half == pytest.approx(80 + 40, rel=0.01)  # 1 % of 200 W, and 1 W, for 40 s


@pytest.mark.parametrize("accuracy", [None, Accuracy(0.1, range_pct=0.05)], ids=["none admitted", "unknown range"])
def test_meter_without_limits_of_error_has_no_interval(accuracy):
    found = constant(200.0, accuracy=accuracy)
    assert found.joules == pytest.approx(8000)
    assert found.codes == ("PSM-ACCURACY",)
    assert found.low_j is None


def test_steps_at_the_edges_of_a_window_are_told_within_the_age_of_readings():
    """Each reading is as old as it likes, up to 1.5 s; the load steps where the window begins and ends."""
    held = 0
    for seed in range(100):
        rng = np.random.default_rng(seed)
        t_s = np.arange(0, 40, PERIOD_S) + rng.uniform(0, PERIOD_S)
        seen_s = t_s - rng.uniform(0, LATE_S, len(t_s))
        watts = np.where((seen_s >= 10) & (seen_s < 10 + 5 * (1 + seed % 4)), 300.0, 100.0)
        trace = recorded(watts, np.rint(t_s * S).astype(np.int64))
        window = Window("w", 10 * S, (10 + 5 * (1 + seed % 4)) * S)
        found = channel_energy(trace, "wall.power", window)
        held += found.low_j <= 300.0 * window.duration_s <= found.high_j
    assert held >= 95
