# SPDX-License-Identifier: Apache-2.0
"""Meters that state their own averaging, T of a second: windows shorter than that, and records that end too early."""

import numpy as np
import pytest
from traces import S, channel, one, polls, series, shown

from powersample.analysis.published import Published
from powersample.model import Response, SensorModel, Trace, Window
from powersample.report.build import build

METER = channel("board.power", device="board", domain="psys", sensor="hwmon.power_meter.power1_average", span="fixed",
                span_ns=S)  # fmt: skip
OWN_WORD = SensorModel(Response.CONTIGUOUS, 1.0, 1.0)
IDLE_W, BUSY_W = 100, 500


def seen(begin_s, end_s, load_s, phase_s=0.0):
    """What polls three times a second see of a meter that publishes at whole seconds + phase_s; a load in load_s."""
    t_ns = polls(begin_s, end_s, 333)
    knots = np.array([-100.0, *load_s]) - phase_s
    raw = shown(OWN_WORD, t_ns - round(phase_s * S), knots, np.array([IDLE_W, BUSY_W, IDLE_W]))
    return Trace.of([series(METER, t_ns, raw)])


def test_window_that_no_value_was_published_after_has_no_energy():
    """A command of 0.1 s in a record of 0.7 s: its one value is of the second before, and near to any load's."""
    found = one(seen(-0.3, 0.4, (0.0, 0.1), phase_s=0.6), 0, 0.1)
    assert found.joules is None
    assert found.verdict == "unusable"
    assert "PSQ-UNCOVERED" in found.codes


@pytest.mark.parametrize("phase_s", [0.15, 0.5, 0.95])
def test_pulse_shorter_than_an_update_is_in_the_interval(phase_s):
    """Its 50 J are a tenth of one value: they may all have been in the window, and they were."""
    found = one(seen(-10, 10, (0.0, 0.1), phase_s), 0, 0.1)
    assert found.low_j <= BUSY_W * 0.1 <= found.high_j
    assert found.verdict == "unusable"
    assert {"hidden within an update"} <= {term.term for term in found.budget}


def test_loads_of_their_own_are_in_the_interval_or_not_told():
    """Whatever the phase, and wherever the record begins and ends: the case that people meet most."""
    dice, held = np.random.default_rng(1), []
    for _ in range(400):
        length_s, phase_s = dice.uniform(0.05, 4), dice.uniform(0, 0.999)
        before_s, after_s = dice.uniform(0.1, 3, 2)
        found = one(seen(-before_s, length_s + after_s, (0.0, length_s), phase_s), 0, length_s)
        if found.joules is None:
            assert found.codes
            assert length_s < 3
        else:
            held.append(found.low_j <= BUSY_W * length_s <= found.high_j)
    assert len(held) > 300
    assert np.mean(held) >= 0.95


def test_values_that_never_changed_tell_no_phase():
    """Two seconds of one value at T = 1 s: three publications if it began right before the first poll, two for sure."""
    t_ns = polls(0, 1.9, 100)
    maker = Published(S, 1.5 * S)
    maker.add(t_ns, np.full(len(t_ns), 7), np.zeros(len(t_ns), np.uint32))
    assert len(maker.close().t_ns) == 2


def test_explain_tells_a_verdict_that_the_width_alone_would_not_give():
    trace = seen(-10, 10, (-30.0, 30.0), phase_s=0.5)
    trace = Trace.of([trace.series(METER.name)], windows=(Window("w", 0, 2 * S),))
    text = " ".join(build(trace).explained().split())
    assert "poor: a reason below (PSQ-CONSTANT, PSQ-SHORT, PSQ-UNKNOWN) makes it so; its half-width alone" in text
