# SPDX-License-Identifier: Apache-2.0
"""The LMG driver against the simulated meter, over a pseudo-terminal and TCP, in all its ways and faults."""

import time

import numpy as np
import pytest
from meter_tools import constant_w, driver, read, sine_w

from powersample import errors
from powersample.formats.lmg import Line
from powersample.meters import lmg, lmg_dialogue, make_meter, parse_addresses
from powersample.meters.contract import NO_NUMBER, OVER_RANGE
from powersample.meters.lmg_stream import Stream
from powersample.meters.missing import CycleClock, CycleCount
from powersample.sim import lmg as sim_lmg
from powersample.sim.lmg import LmgSimulator
from powersample.sim.lmg_line import TcpLine

SCALE = 50  # a cycle of 50 ms takes one
MANY = 200  # 10,000 in 2.5 s; at 20, a node's, they take 25


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(lmg_dialogue, "QUIET_S", 0.03)
    monkeypatch.setattr(lmg, "RETRY_S", 0.1)


@pytest.fixture
def impatient(monkeypatch):
    """Where no answer comes; where one does, a busy machine may take its time."""
    monkeypatch.setattr(lmg_dialogue, "REPLY_S", 0.25)


def measured(sim, count, kind="lmg450", **options):
    """Read `count` cycles and stop in good order; return (what was read, info, driver)."""
    meter = driver(kind, sim, **options)
    info = meter.open()
    meter.start()
    got = read(meter, lambda got: len(got) >= count, timeout_s=60.0)
    meter.stop()
    got.take(meter.read(0))
    meter.close()
    return got, info, meter


def truth_of(sim, count):
    cycles = list(sim.cycles)[:count]
    return sum(one.watts * (one.end_ns - one.start_ns) / 1e9 for one in cycles)


@pytest.mark.parametrize(
    ("settings", "options"),
    [
        ({}, {}),
        ({"one_block": True}, {"format": "packed"}),
        ({"one_block": False, "whole_counts": True, "first_count": 65500}, {"format": "packed"}),
        ({"end": b"\r\n"}, {"end": "crlf"}),
        ({}, {"lang": "scpi"}),
        ({"one_block": False}, {"lang": "scpi", "format": "packed"}),
    ],
    ids=["short", "packed", "packed blocks, int32, wrapping", "crlf", "scpi", "scpi packed"],
)
def test_every_cycle_arrives_in_every_language_and_format(settings, options):
    with LmgSimulator(sine_w, time_scale=SCALE, **settings) as sim:
        got, info, meter = measured(sim, 200, **options)
        assert len(got) >= 200
        assert got.gaps == []
        watts = [one.watts for one in sim.cycles][: len(got)]
        assert got.array("watts") == pytest.approx(watts, rel=1e-5)
        assert set(meter.counts().values()) == {0}
        if info.settings["true_cycle"]:
            assert set(np.round(got.array("cycle_s"), 6)) == {0.04, 0.06}  # whole mains periods, 50 ms on average
            assert got.array("cycle_s").mean() == pytest.approx(0.05, abs=2e-4)


@pytest.fixture
def patient(monkeypatch):
    """What the host does not take in time waits in the simulator: a busy machine is late, and loses nothing by that."""
    monkeypatch.setattr(sim_lmg, "HELD_BYTES", 1 << 24)


@pytest.mark.usefixtures("patient")
def test_no_cycle_of_ten_thousand_is_lost_over_a_pty_and_the_energy_is_that_of_the_function():
    """However late the reader comes, so it depends on no timing; in real time bench/meters.py reads as many."""
    with LmgSimulator(sine_w, time_scale=MANY) as sim:
        got, _, meter = measured(sim, 10_000)
        assert len(got) >= 10_000
        assert set(meter.counts().values()) == {0}
        assert got.gaps == []
        assert got.energy_j == pytest.approx(truth_of(sim, len(got)), rel=5e-4)
        assert np.all(np.diff(got.array("arrival_ns")) >= 0)


def test_no_cycle_is_lost_when_more_has_come_than_one_read_takes(monkeypatch):
    monkeypatch.setattr(lmg, "CHUNKS_A_READ", 1)
    with LmgSimulator(sine_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        time.sleep(0.1)
        got = read(meter, lambda got: len(got) >= 150)
        meter.close()
    assert got.gaps == []
    assert meter.counts()["missing_cycles"] == 0


@pytest.mark.usefixtures("patient")
def test_no_cycle_of_a_thousand_is_lost_over_tcp_and_an_lmg600_is_broken_off_first():
    with LmgSimulator(sine_w, line=TcpLine(), time_scale=MANY, baud=None) as sim:
        got, _, meter = measured(sim, 1000)
        assert len(got) >= 1000
        assert meter.counts()["missing_cycles"] == 0
        assert got.energy_j == pytest.approx(truth_of(sim, len(got)), rel=5e-4)


def test_lmg600_over_tcp_takes_its_own_words_and_breaks(monkeypatch):
    line = TcpLine(break_port=0)
    monkeypatch.setattr("powersample.meters.lmg_settings.LMG600_BREAK_PORT", line.break_port)
    with LmgSimulator(constant_w, line=line, model="LMG670", time_scale=SCALE, baud=None) as sim:
        sim.panel.execute(":SYST:LANG SHORT")
        sim.panel.execute("FRMT PACKED;ACTN;P1?")
        sim.panel.execute("CONT ON")  # a killed program left it so
        got, info, _ = measured(sim, 50, kind="lmg600", i=5)
        assert info.model == "LMG670"
        assert info.settings["baud"] is None
        assert sim.panel.ranges == {"U": 250.0, "I": 5.0}
        assert got.array("watts") == pytest.approx(783.5, rel=1e-5)


def test_ranges_are_fixed_and_give_the_limits_of_error():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        _, info, _ = measured(sim, 5, u=250, i=1.2, ipeak=3.75, phases="1+2")
        assert sim.panel.ranges == {"U": 250.0, "I": 1.2}
        assert sim.panel.auto == {"U": False, "I": False}
    assert info.accuracy.range_w == 2 * 400 * 3.75  # errors of one meter's phases add up
    assert [channel.name for channel in info.channels] == ["wall.power", "wall.power.p1", "wall.power.p2"]
    assert not any("peak" in note for note in info.notes)


def test_peak_ranges_that_nobody_told_are_taken_too_large_and_said():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim, i=5)
        info = meter.open()
        meter.close()
    assert info.accuracy.range_w == 400 * 3.2 * 5
    assert any("ipeak=" in note for note in info.notes)


def test_phases_are_summed_and_kept_apart():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim, phases="1+3")
        meter.open()
        meter.start()
        batch = meter.read(0.5)
        meter.close()
    assert [one.channel for one in batch.readings] == [0, 1, 2]
    assert batch.readings[0].watts[0] == pytest.approx(783.5)
    assert batch.readings[2].watts[0] == 0


FAULTS = {20: "missing", 40: b"\x00\xff garbage", 60: "half", 80: "repeat", 100: "nan", 120: "over", 140: "restart"}


@pytest.mark.parametrize("form", ["ascii", "packed"])
def test_every_forced_fault_is_found_by_its_name(form):
    faults = FAULTS | {n: "missing" for n in range(25, 31)}
    with LmgSimulator(constant_w, time_scale=SCALE, faults=faults, first_count=30000) as sim:
        got, _, meter = measured(sim, 200, format=form)
    found = [(gap.cause, gap.missing) for gap in got.gaps]
    assert found[:2] == [("missing cycles", 1), ("missing cycles", 6)]
    assert ("garbage", 1) in found  # the half line, and in ASCII the line that had garbage before it
    assert found[-1] == ("restarted", None)
    assert meter.counts()["repeats"] == 1
    assert meter.counts()["missing_cycles"] == sum(gap.missing or 0 for gap in got.gaps)
    flags = got.array("flags")
    assert (flags == NO_NUMBER).sum() == 1
    assert (flags == OVER_RANGE).sum() == 1
    assert np.isnan(got.array("watts")[flags != 0]).all()
    assert np.isfinite(got.array("watts")[flags == 0]).all()


def test_current_beyond_its_range_is_flagged_and_not_a_value():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        got, _, _ = measured(sim, 10, i=1.2)
    assert (got.array("flags") == OVER_RANGE).all()


def test_missing_cycles_without_a_counter_are_told_by_the_time():
    faults = {*range(90, 93), 150}
    clock, found, t_ns = CycleClock(), [], 0
    for n in range(400):
        t_ns += 50_000_000
        if n not in faults:
            late_ns = 90_000_000 if n % 37 == 0 else (n * 7919 % 11) * 100_000
            step = clock.step(t_ns + late_ns, 0.05)
            if step:
                found.append(step[0])
    assert sum(found) == 4


def test_cycle_count_wraps_repeats_and_begins_anew():
    count = CycleCount()
    steps = [(65534, 0), (65535, 1), (0, 2), (0, 2), (3, 5), (4, 6 + 65536), (0, 65543)]
    assert [count.step(c, int(t * 50e6), 0.05) for c, t in steps] == [0, 0, 0, -1, 2, 65536, None]


def test_meter_without_counter_and_true_cycle_is_read_all_the_same(monkeypatch):
    """What it does not know it never answers: the probe's time passes, and a reset follows."""
    monkeypatch.setattr(lmg, "PROBE_S", 0.3)
    with LmgSimulator(constant_w, time_scale=SCALE, with_cycr=False) as sim:
        got, info, _ = measured(sim, 50)
    assert info.settings["count"] is info.settings["true_cycle"] is False
    assert len(info.notes) >= 2
    assert set(got.array("cycle_s")) == {0.05}


@pytest.mark.parametrize(
    ("address", "what"),
    [
        ("lmg450:/dev/x,baud=9600,phases=1+2+3+4", "more than half of a cycle"),
        ("lmg450:/dev/x,cycle=0.01", "from 0.05 to 60 s"),
        ("lmg450:/dev/x,phases=0", "phases"),
        ("lmg450:/dev/x,phases=1+1", "twice"),
        ("lmg450:/dev/x,lang=forth", "lang=forth is unknown"),
        ("lmg450:/dev/x,speed=1", "unknown option speed"),
        ("lmg450:", "names no port"),
        ("lmg600:http://x", "tcp://HOST"),
    ],
)
def test_address_that_cannot_be_meant_is_refused_before_anything_is_opened(address, what):
    with pytest.raises(errors.InvalidArgument, match=what):
        make_meter(parse_addresses([address])[0])


def test_slow_line_is_no_trouble_with_a_longer_cycle():
    meter = make_meter(parse_addresses(["lmg450:/dev/x,baud=9600,cycle=0.5,phases=1+2+3+4"])[0])
    assert meter._set.wire_s(4) == pytest.approx(0.05)


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("streams", [False, True])
def test_wrong_baud_rate_is_told_in_bounded_time(streams):
    """A meter that hears no word of ours says nothing; one that streams by itself says what nobody can read."""
    with LmgSimulator(constant_w, baud=57600) as sim:
        if streams:
            sim.panel.execute(":TRIG:ACT;:FETC:POW:ACT1?;:INIT:CONT ON")
            sim.panel.cycle_s = 0.05
        start = time.monotonic()
        expected = r"bytes came at 115200 baud.*baud=57600" if streams else r"nobody answers.*at 115200.*baud rate"
        with pytest.raises(errors.Timeout, match=expected):
            driver("lmg450", sim).open()
        assert time.monotonic() - start < 8


def test_wrong_model_is_told_by_its_name():
    with (
        LmgSimulator(constant_w, model="LMG95", time_scale=SCALE) as sim,
        pytest.raises(errors.DeviceError, match="LMG95, not an LMG450"),
    ):
        driver("lmg450", sim).open()


@pytest.mark.usefixtures("impatient")
def test_meter_that_never_answers_is_told_in_bounded_time():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        sim._hear = lambda data: None
        with pytest.raises(errors.Timeout, match="nobody answers"):
            driver("lmg450", sim).open()


def test_range_that_the_meter_refuses_is_told_in_its_own_words():
    with (
        LmgSimulator(constant_w, time_scale=SCALE) as sim,
        pytest.raises(errors.DeviceError, match=r"IRNG 32.*-222, Data out of range"),
    ):
        driver("lmg450", sim, i=32).open()


def test_meter_left_streaming_by_a_killed_program_is_brought_back():
    """A pseudo-terminal and a serial-to-TCP server pass no break: words must do."""
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        first = driver("lmg450", sim, format="packed")
        first.open()
        first.start()
        first._link.close()  # as if killed
        got, _, _ = measured(sim, 20)
        assert got.array("watts") == pytest.approx(783.5, rel=1e-5)


def test_unplugged_meter_is_a_gap_and_back_in_less_than_three_seconds():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        got = read(meter, lambda got: len(got) >= 20)
        sim.unplug()
        read(meter, lambda got: got.gaps, got=got)
        assert (got.gaps[-1].cause, got.gaps[-1].end_ns) == ("unplugged", None)
        got.take(meter.read(0.3))
        before = len(got)
        sim.plug()
        back = time.monotonic()
        read(meter, lambda got: len(got) > before, got=got)
        assert time.monotonic() - back < 3
        assert got.gaps[-1].end_ns is not None
        assert got.gaps[-1].start_ns == got.gaps[-2].start_ns
        assert meter.counts()["reconnects"] == 1
        meter.stop()
        meter.close()


def test_another_meter_on_the_port_is_not_taken_for_the_first():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        got = read(meter, lambda got: len(got) >= 5)
        sim.unplug()
        sim.panel.identity = sim.panel.identity.replace("SIM-0000", "SIM-0001")
        sim.plug()
        read(meter, lambda got: got.gaps, got=got)
        count = len(got)
        for _ in range(4):
            got.take(meter.read(0.1))
        assert len(got) == count
        assert got.gaps[-1].start_ns == got.gaps[0].start_ns
        assert got.gaps[-1].end_ns is None
        assert got.gaps[-1].text.endswith("another meter is there now: LMG450 SIM-0001")
        assert len([gap for gap in got.gaps if "another meter" in gap.text]) == 1  # and not at each try
        meter.close()


def test_meter_that_does_not_answer_any_more_holds_nobody_up(monkeypatch):
    """Two seconds for each question is more than a recording waits for at its end."""
    monkeypatch.setattr(lmg, "BACK_S", 0.2)
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        got = read(meter, lambda got: len(got) >= 5)
        sim.unplug()
        read(meter, lambda got: got.gaps, got=got)
        sim._hear = lambda data: None
        sim.plug()
        before_s = time.monotonic()
        read(meter, lambda got: "nobody answers" in got.gaps[-1].text, got=got)
        assert time.monotonic() - before_s < lmg_dialogue.REPLY_S
        meter.close()


def test_silent_link_is_dead_after_its_time_and_brought_back(monkeypatch):
    """Switched off and on, the meter has forgotten that it streams; nothing tells the host."""
    monkeypatch.setattr(lmg, "DEAD_S", 0.3)
    monkeypatch.setattr(lmg, "DEAD_CYCLES", 1)
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        got = read(meter, lambda got: len(got) >= 5)
        sim.power_cycle()
        read(meter, lambda got: got.gaps and got.gaps[-1].end_ns, got=got)
        assert got.gaps[-1].cause == "silent"
        meter.close()


@pytest.mark.parametrize("whole", [False, True], ids=["float32", "int32"])
def test_packed_counts_are_read_as_what_they_are_after_the_meter_was_switched_off(whole):
    """A counter that begins anew is nowhere near what it was as the meter was opened."""
    with LmgSimulator(constant_w, time_scale=SCALE, first_count=50000, whole_counts=whole) as sim:
        meter = driver("lmg450", sim, format="packed")
        meter.open()
        meter.start()
        got = read(meter, lambda got: len(got) >= 5)
        sim.unplug()
        read(meter, lambda got: got.gaps, got=got)
        sim.power_cycle()
        sim.plug()
        before = len(got)
        read(meter, lambda got: len(got) >= before + 50, got=got)
        assert meter.counts()["repeats"] == 0
        assert got.array("watts") == pytest.approx(783.5, rel=1e-5)
        meter.close()


def test_link_that_was_silent_and_goes_on_by_itself_is_one_gap_of_so_many_cycles():
    """The record keeps gaps by their beginning: a second one in its place would lose why the link was silent."""
    stream = Stream(1, 0.05)
    stream.begin(10**9, with_count=True, with_cycle=False, packed=False)
    stream.take(Line("17;230.5", None, 2 * 10**9), 0)
    stream.open_gap("silent", "nothing came for 10 s")
    assert [(gap.cause, gap.end_ns) for gap in stream.batch().gaps] == [("silent", None)]
    stream.take(Line("217;231.5", None, 12 * 10**9), 0)
    (gap,) = stream.batch().gaps
    assert (gap.start_ns, gap.end_ns, gap.cause, gap.missing) == (2 * 10**9, 12 * 10**9, "silent", 199)
    assert gap.text == "nothing came for 10 s; 199 cycles are missing, by the meter's own count"


def test_meter_that_is_gone_as_it_starts_or_stops_raises_nothing():
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        sim.unplug()
        meter.start()
        got = read(meter, lambda got: got.gaps)
        assert got.gaps[0].cause == "unplugged"
        meter.stop()
        meter.close()
        meter.close()


def test_what_is_under_way_at_the_stop_still_comes():
    with LmgSimulator(constant_w, latency_s=0.5, time_scale=SCALE) as sim:  # ten cycles of firmware
        got, _, _ = measured(sim, 30)
        lag = len(sim.cycles) - len(got)
        assert lag <= 1
