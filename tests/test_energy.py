# SPDX-License-Identifier: Apache-2.0
"""Closed-form energies through the public functions; channels stand in memory."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from traces import MS, S, channel, one, polls, published, series

from powersample.analysis import channel_energies, channel_energy
from powersample.model import Kind, Response, SensorModel, Series, Trace, Window

# ---- power -------------------------------------------------------------------------------------------------


@given(
    powers=st.lists(st.integers(50_000, 700_000), min_size=2, max_size=20),
    edges=st.tuples(st.floats(0, 1), st.floats(0, 1)),
)
@settings(max_examples=60, deadline=None)
def test_power_lines_between_polls_are_integrated_exactly(powers, edges):
    t_ns = np.arange(len(powers)) * S
    trace = Trace.of([series(channel(), t_ns, powers)])
    a, b = sorted(round(edge * int(t_ns[-1])) for edge in edges)
    if a == b:
        return
    knots = np.unique(np.concatenate(([a, b], t_ns[(t_ns > a) & (t_ns < b)])))
    expected = np.trapezoid(np.interp(knots, t_ns, np.asarray(powers) * 1e-3), knots / 1e9)
    assert channel_energy(trace, "gpu0.power.instant", Window("w", a, b)).joules == pytest.approx(expected, abs=1e-4)


CONTIGUOUS = {"sensor_models": {"gpu0.power.instant": SensorModel(Response.CONTIGUOUS, 0.1, 0.1).as_json()}}


def test_power_of_averaging_sensor_belongs_to_what_it_averaged():
    """Each published value is the mean of the 100 ms before it: windows on publications are then exact."""
    rng = np.random.default_rng(3)
    means = rng.integers(100_000, 500_000, 60)  # of [100 k ms, 100 (k + 1) ms]
    t_ns = polls(0, 5.5, 1)
    raw = published(t_ns, np.concatenate(([100_000], means)), 100 * MS)
    found = one(Trace.of([series(channel(), t_ns, raw)], meta=CONTIGUOUS), 1, 4)
    assert found.method == "cells of updates"
    assert found.joules == pytest.approx(means[10:40].sum() * 1e-3 * 0.1, rel=2e-3)
    assert found.updates == 30


def test_power_repeated_updates_hold_their_value():
    """Equal updates in a row are real: 2 s of idle before a step add no ramp."""
    rng = np.random.default_rng(5)
    means = np.concatenate(
        (rng.integers(100_000, 200_000, 20), np.full(20, 60_000), rng.integers(300_000, 400_000, 30))
    )
    t_ns = polls(0, 6.9, 1)
    raw = published(t_ns, np.concatenate(([100_000], means)), 100 * MS)
    found = one(Trace.of([series(channel(), t_ns, raw)], meta=CONTIGUOUS), 2, 5)
    assert found.joules == pytest.approx(means[20:50].sum() * 1e-4, rel=2e-3)


def test_power_failed_reads_are_counted_and_bridged():
    t_ns = polls(0, 3, 10)
    status = np.zeros(len(t_ns), np.uint16)
    status[[100, 200]] = 15
    raw = np.full(len(t_ns), 100_000)
    raw[status != 0] = -1
    found = one(Trace.of([series(channel(), t_ns, raw, status)]), 0, 3)
    assert found.joules == pytest.approx(300)
    assert found.reasons == ("PSQ-ERRORS 2 of 300 reads failed (code 15: 2)",)


def test_power_gap_is_named_and_counts_against_coverage():
    t_ns = polls(0, 10, 10)
    keep = (t_ns <= 4 * S) | (t_ns >= 5 * S)
    found = one(Trace.of([series(channel(), t_ns[keep], np.full(keep.sum(), 100_000))]), 0, 10)
    assert found.joules == pytest.approx(1000)
    assert found.codes == ("PSQ-GAP",)
    assert found.covered_s == pytest.approx(9)
    mostly = (t_ns <= 1 * S) | (t_ns >= 9 * S)
    found = one(Trace.of([series(channel(), t_ns[mostly], np.full(mostly.sum(), 100_000))]), 0, 10)
    assert found.joules is None


@pytest.mark.parametrize(("start_s", "end_s", "joules"), [(-1, 2, 200), (8, 11, 200), (-5, 2, None), (12, 13, None)])
def test_power_window_beyond_the_record_counts_what_is_there_or_nothing(start_s, end_s, joules):
    t_ns = polls(0, 10, 10)
    found = one(Trace.of([series(channel(), t_ns, np.full(len(t_ns), 100_000))]), start_s, end_s)
    assert found.joules == (None if joules is None else pytest.approx(joules, rel=0.02))
    assert found.codes == ("PSQ-UNCOVERED",)


def test_power_without_a_single_reading_is_missing_not_zero():
    chan = channel()
    assert one(Trace.of([Series.empty(chan)]), 0, 1).joules is None


@pytest.mark.parametrize("kind", [Kind.POWER, Kind.ENERGY])
def test_reads_that_all_failed_are_missing_and_named(kind):
    failed = series(channel(kind=kind, sensor="nvml"), polls(0, 1, 10), np.zeros(101), np.full(101, 3))
    found = one(Trace.of([failed]), 0, 1)
    assert found.joules is None
    assert found.reasons == ("PSQ-ERRORS all 100 reads failed (code 3, not supported: 100)",)


def test_power_that_is_no_number_is_not_code_0():
    t_ns = polls(0, 1, 10)
    raw = np.full(len(t_ns), 100_000.0)
    raw[[50, 60]] = np.nan
    found = one(Trace.of([series(channel(raw_dtype="float64"), t_ns, raw)]), 0, 1)
    assert found.joules == pytest.approx(100)
    assert found.reasons == ("PSQ-ERRORS 2 of 100 reads failed (not a number: 2)",)


def test_power_shorter_than_one_poll_spacing_is_interpolated():
    t_ns = polls(0, 2, 100)
    found = one(Trace.of([series(channel(), t_ns, np.full(len(t_ns), 250_000))]), 1.01, 1.03)
    assert found.joules == pytest.approx(5)


def test_power_in_chunks_equals_power_in_one_piece(monkeypatch):
    rng = np.random.default_rng(1)
    t_ns = np.cumsum(rng.integers(MS // 2, 2 * MS, 5000))
    raw = published(t_ns, rng.integers(100_000, 500_000, 200), 40 * MS)
    status = (rng.random(5000) < 0.01).astype(np.uint16)
    power = series(channel(sensor="nvml"), t_ns, raw, status)
    counter = series(channel("gpu0.energy", Kind.ENERGY), t_ns, np.cumsum(raw) // 1000, status)
    trace, window = Trace.of([power, counter]), Window("w", int(t_ns[700]) + 77, int(t_ns[4100]) + 99)
    whole = [channel_energy(trace, name, window) for name in trace.channels]
    monkeypatch.setattr("powersample.model.trace.MEMORY_CHUNK", 7)
    pieces = [channel_energy(trace, name, window) for name in trace.channels]
    for left, right in zip(whole, pieces, strict=True):
        assert right.joules == pytest.approx(left.joules, rel=1e-12)
        assert (right.reasons, right.updates) == (left.reasons, left.updates)


# ---- counters ----------------------------------------------------------------------------------------------


@given(start_ms=st.integers(1000, 1400), length_ms=st.integers(30, 3000), phase_ms=st.integers(0, 99))
@settings(max_examples=60, deadline=None)
def test_counter_held_between_updates_is_interpolated_at_the_edges(start_ms, length_ms, phase_ms):
    """A 100 ms counter polled at 1 kHz under 300 W: last values alone would be wrong by up to 30 J."""
    t_ns = polls(0, 5, 1)
    raw = published(t_ns, np.arange(60) * 30_000, 100 * MS, phase_ms * MS)
    trace = Trace.of([series(channel("gpu0.energy", Kind.ENERGY), t_ns, raw)])
    found = channel_energy(trace, "gpu0.energy", Window("w", start_ms * MS, (start_ms + length_ms) * MS))
    assert found.joules == pytest.approx(0.3 * length_ms, abs=0.3)  # a poll's worth


def test_counter_wrap_with_known_modulus_is_no_reset():
    t_ns = polls(0, 10, 100)
    raw = (np.arange(len(t_ns)) * 20_000 + 900_000) % (1 << 20)
    counter = channel("package-0.energy", Kind.ENERGY, "package-0", "package", modulus=1 << 20)
    found = one(Trace.of([series(counter, t_ns, raw)]), 1, 9)
    assert found.joules == pytest.approx(80 * 20)
    assert "PSQ-RESET" not in found.codes


def test_counter_unread_for_longer_than_half_a_turn_says_so():
    """At 200 W a counter of 1049 J turns every 5.2 s; nobody read it for 12 s, which hides two turns."""
    t_ns = polls(0, 30, 100)
    raw = (np.arange(len(t_ns)) * 20_000) % (1 << 20)
    read = (t_ns < 10_000 * MS) | (t_ns >= 22_000 * MS)
    counter = channel("package-0.energy", Kind.ENERGY, "package-0", "package", modulus=1 << 20)
    found = one(Trace.of([series(counter, t_ns[read], raw[read])]), 1, 29)
    assert "PSQ-WRAP" in found.codes
    assert "every 5.2" in next(reason for reason in found.reasons if reason.startswith("PSQ-WRAP"))
    before = one(Trace.of([series(counter, t_ns[read], raw[read])]), 1, 9)
    assert "PSQ-WRAP" not in before.codes


def test_counter_that_goes_back_keeps_what_was_before():
    t_ns = polls(0, 10, 100)
    raw = np.arange(len(t_ns)) * 10_000
    raw[60:] -= raw[60]
    found = one(Trace.of([series(channel("gpu0.energy", Kind.ENERGY), t_ns, raw)]), 1, 9)
    assert found.joules == pytest.approx(790)  # 800 J less the one step that nobody saw
    assert "PSQ-RESET" in found.codes


def test_counter_that_never_moves_is_missing_not_zero():
    t_ns = polls(0, 10, 100)
    found = one(Trace.of([series(channel("gpu0.energy", Kind.ENERGY), t_ns, np.full(len(t_ns), 5))]), 1, 9)
    assert found.joules is None
    assert found.codes == ("PSQ-STUCK",)


def test_counter_large_values_keep_their_millijoules():
    t_ns = polls(0, 10, 100)
    raw = (1 << 52) + np.arange(len(t_ns)) * 3
    found = one(Trace.of([series(channel("gpu0.energy", Kind.ENERGY), t_ns, raw)]), 1, 9)
    assert found.joules == pytest.approx(0.24, rel=1e-9)


# ---- faults of the record ----------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["twice", "back"])
@pytest.mark.parametrize("kind", [Kind.POWER, Kind.ENERGY])
@pytest.mark.parametrize("edge_s", [1.0, 1.005, 1.99])
def test_stamps_that_do_not_advance_are_left_out_and_never_give_nan(kind, order, edge_s):
    t_ns = polls(0, 3, 10)
    raw = t_ns // MS * 100 if kind is Kind.ENERGY else np.full(len(t_ns), 100_000)
    for at in (100, 200):  # at the edges themselves
        t_ns, raw = np.insert(t_ns, at + 1, t_ns[at] - (0 if order == "twice" else 5 * MS)), np.insert(raw, at, raw[at])
    found = one(Trace.of([series(channel(kind=kind), t_ns, raw)]), edge_s, 2.005)
    assert found.joules == pytest.approx(100 * (2.005 - edge_s), rel=0.01)
    assert ("PSQ-ORDER" in found.codes) == (edge_s < 1.99)


def test_power_with_all_stamps_equal_is_missing_not_nan():
    found = one(Trace.of([series(channel(), np.full(5, S), np.full(5, 100_000))]), 0.5, 1.5)
    assert found.joules is None


def test_counter_window_inside_a_hole_is_missing_and_named():
    t_ns = polls(0, 60, 10)
    keep = (t_ns <= 20 * S) | (t_ns >= 40 * S)
    trace = Trace.of([series(channel(kind=Kind.ENERGY), t_ns[keep], (t_ns // MS * 100)[keep])])
    found = one(trace, 25, 35)
    assert found.joules is None
    assert found.codes == ("PSQ-GAP",)
    assert found.covered_s == 0


@pytest.mark.parametrize(("start_s", "end_s", "covered_s"), [(10, 23, 10), (37, 50, 10), (5, 55, 50), (12, 20, 8)])
def test_counter_hole_counts_only_where_an_edge_lies_in_it(start_s, end_s, covered_s):
    """Between two polls a counter goes on counting; only when it did so is hidden."""
    t_ns = polls(0, 60, 10)
    keep = (t_ns <= 20 * S) | (t_ns >= 40 * S)
    trace = Trace.of([series(channel(kind=Kind.ENERGY), t_ns[keep], (t_ns // MS * 100)[keep])])
    found = one(trace, start_s, end_s)
    assert found.joules == pytest.approx(100 * (end_s - start_s))
    assert found.covered_s == pytest.approx(covered_s)
    assert ("PSQ-GAP" in found.codes) == (covered_s < end_s - start_s)


@pytest.mark.parametrize("chunk", [1 << 18, 61, 60, 7, 1])
@pytest.mark.parametrize("modulus", [None, 1 << 20])
@pytest.mark.parametrize("glitch", [0, 900_000])
def test_counter_single_wrong_read_is_left_out(monkeypatch, chunk, modulus, glitch):
    """Who takes the jump back for a reset, and the jump up for energy, is 38 % off."""
    monkeypatch.setattr("powersample.model.trace.MEMORY_CHUNK", chunk)
    t_ns = polls(0, 10, 100)
    raw = 300_000 + np.arange(len(t_ns)) * 5_000
    raw[60] = glitch
    counter = channel("gpu0.energy", Kind.ENERGY, modulus=modulus)
    found = one(Trace.of([series(counter, t_ns, raw)]), 1, 9)
    assert found.joules == pytest.approx(400)
    assert found.codes == ("PSQ-GLITCH", "PSQ-EDGE")


# ---- many windows at once ----------------------------------------------------------------------------------


def test_windows_together_equal_each_alone():
    """With holes, failures, wraps, edges beyond the record, and parts far apart that are read separately."""
    rng = np.random.default_rng(7)
    t_ns = np.cumsum(rng.integers(5 * MS, 15 * MS, 90_000))  # 900 s
    keep = np.ones(len(t_ns), bool)
    for hole_s, length_s in ((100, 1), (300, 50), (500, 0.2), (700, 130)):
        keep &= (t_ns < hole_s * S) | (t_ns > (hole_s + length_s) * S)
    t_ns = t_ns[keep]
    status = (rng.random(len(t_ns)) < 0.01).astype(np.uint16)
    watts = published(t_ns, rng.integers(100_000, 500_000, 12_000), 100 * MS)
    mj = np.cumsum(watts) % (1 << 28)
    trace = Trace.of(
        [
            series(channel(sensor="nvml"), t_ns, watts, status),
            series(channel("wall.power", device="wall", domain="wall"), t_ns, watts, status),
            series(channel("gpu0.energy", Kind.ENERGY, modulus=1 << 28), t_ns, mj, status),
        ]
    )
    starts_s, lengths_s = rng.uniform(-5, 905, 60), [0.05, 1, 40] * 20
    windows = [Window("w", int(s * S), int((s + d) * S)) for s, d in zip(starts_s, lengths_s, strict=True)]
    windows += [Window("all", 0, 900 * S), Window("none", S, S), Window("in a hole", 710 * S, 720 * S)]
    for name in trace.channels:
        for told, window in zip(channel_energies(trace, name, windows), windows, strict=True):
            alone = channel_energy(trace, name, window)
            joules = None if alone.joules is None else pytest.approx(alone.joules, rel=1e-9)
            assert told.energy.joules == joules
            assert told.energy.covered_s == pytest.approx(alone.covered_s)
            assert (told.energy.reasons, told.energy.updates) == (alone.reasons, alone.updates)


def test_two_reads_right_after_a_stall_do_not_make_a_counters_edge_unsure():
    """After 36 ms without a poll two come 10 us apart, and the counter moves between them: that is no 20 kW."""
    t_ns = np.concatenate((polls(0, 5, 2), 5 * S + np.array([36.08, 36.09]) * MS, polls(5.038, 10, 2))).astype(np.int64)
    uj = (t_ns + 50_000) // (976_563) * 195_313  # 200 W
    rapl = channel("package-0.energy", Kind.ENERGY, "package-0", "package", sensor="powercap")
    rapl = replace(rapl, scale=1e-6)
    found = channel_energy(Trace.of([series(rapl, t_ns, uj)]), "package-0.energy", Window("w", 5 * S + 18 * MS, 7 * S))
    assert found.joules == pytest.approx(200 * 1.982, rel=0.01)
    assert found.high_j - found.joules < 0.1 * found.joules
