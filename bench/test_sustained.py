# SPDX-License-Identifier: Apache-2.0
"""Group `sustained`: some seconds of sampling by every method at 10 Hz to 10 kHz, beside an idle main thread and beside
one that is busy in Python.

What came of it is in `extra_info`; the time that pytest-benchmark measures is no more than the seconds asked for.
"""

from __future__ import annotations

import pytest

from bench import sustained
from powersample.errors import NotSupported
from powersample.sim import Latency

CALL_S = 50e-6


@pytest.fixture
def slow_board(board):
    board.node.set_latency("any", Latency.fixed(CALL_S))
    yield board
    board.node.set_latency("any", Latency.none())


@pytest.mark.benchmark(group="sustained")
@pytest.mark.parametrize("rate_hz", [10, 100, 1000, 10_000])
@pytest.mark.parametrize("load", list(sustained.LOADS))
@pytest.mark.parametrize("method", sustained.METHODS)
def test_sampling(benchmark, slow_board, method, load, rate_hz, sustain_s):
    benchmark.extra_info |= {
        "method": method,
        "load": load,
        "board": f"{slow_board.what}, calls of {1e6 * CALL_S:g} us",
    }
    try:
        taken = benchmark.pedantic(
            sustained.take, (method, slow_board, float(rate_hz), sustained.LOADS[load], sustain_s), rounds=1
        )
    except NotSupported as error:
        pytest.skip(f"{method} at {rate_hz} Hz: {error}")
    published = slow_board.published(method, int(taken.t_ns[0]), int(taken.t_ns[-1])) if len(taken) > 1 else 0
    benchmark.extra_info |= taken.as_json() | {"values_published": published}
    assert len(taken) > 0
