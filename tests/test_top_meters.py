# SPDX-License-Identifier: Apache-2.0
"""The sum of a meter's readings in a live view."""

import numpy as np
import pytest

from powersample.meters.contract import MeterReading
from powersample.session.top_meters import _Watched

S = 1_000_000_000


def instants(t_s, watts):
    t_ns = np.rint(np.asarray(t_s) * S).astype(np.int64)
    return MeterReading(t_ns, np.full(len(t_ns), np.nan), np.asarray(watts, np.float64), np.zeros(len(t_ns), np.uint16))


@pytest.mark.parametrize("period_s", [1.0, 5.0])
def test_first_reading_after_an_outage_does_not_speak_for_it(period_s):
    one = _Watched(meter=None, info=None)
    one._add(instants(100 + period_s * np.arange(11), np.full(11, 100.0)))
    one._add(instants([100 + 10 * period_s + 600], [500.0]))
    one._add(instants([100 + 11 * period_s + 600], [500.0]))
    assert one.joules == pytest.approx(100 * 10 * period_s + 500 * period_s)
    assert one.counted_s == pytest.approx(11 * period_s)
