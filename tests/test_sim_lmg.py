# SPDX-License-Identifier: Apache-2.0
"""The simulated LMG: its clock and cycles, its two languages, its line."""

import os
import socket
import struct
import time
from itertools import pairwise

import pytest
from meter_tools import constant_w, driver, read, sine_w

from powersample import errors
from powersample.formats.lmg import LineReader
from powersample.sim.lmg import LmgSimulator
from powersample.sim.lmg_line import PtyLine, TcpLine
from powersample.sim.lmg_words import Panel, encode

SCALE = 50


def panel(**more):
    values = {"P1": 783.5, "COUNT": 7, "CYCR": 0.06, "UTRMS1": 230.0}
    return Panel("ZES,LMG450,1,2", values.get, **more)


def test_cycles_end_with_mains_periods_and_are_as_long_as_asked_on_average():
    with LmgSimulator(sine_w, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        read(meter, lambda got: len(got) >= 100)
        meter.close()
        cycles = list(sim.cycles)[:100]
    lengths = {one.end_ns - one.start_ns for one in cycles}
    assert lengths == {40_000_000, 60_000_000}
    assert cycles[99].end_ns - cycles[0].start_ns == pytest.approx(100 * 50_000_000, abs=20_000_000)
    assert all(before.end_ns == after.start_ns for before, after in pairwise(cycles))  # gapless
    assert all(one.watts == sine_w(one.start_ns, one.end_ns) for one in cycles)


def test_fast_clock_tells_longer_cycles_than_there_were():
    """+500 ppm: the meter's own seconds are shorter, so a mains period holds more of them."""
    with LmgSimulator(constant_w, skew_ppm=500, time_scale=SCALE) as sim:
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        got = read(meter, lambda got: len(got) >= 50)
        meter.close()
    assert {round(one * 1e6) for one in got.array("cycle_s")} == {40020, 60030}


def test_values_arrive_after_firmware_and_wire():
    """20 bytes at 9600 baud are 21 ms on the wire; 12 ms of firmware before."""
    with LmgSimulator(constant_w, baud=9600, latency_s=0.012, line=TcpLine()) as sim:
        meter = driver("lmg450", sim, baud=9600, cycle=0.1)
        info = meter.open()
        meter.start()
        got = read(meter, lambda got: len(got) >= 3)
        meter.close()
        ends = [one.end_ns for one in list(sim.cycles)[: len(got)]]
    late_s = min((arrival - end) / 1e9 for arrival, end in zip(got.array("arrival_ns"), ends, strict=True))
    assert 0.03 < late_s < 0.3
    assert info.latency_s == pytest.approx(36 * 10 / 9600)


def test_short_and_scpi_obey_their_own_words_only():
    one = panel()
    assert one.execute("*IDN?;*OPC?") == ["ZES,LMG450,1,2", "1"]
    one.execute("CYCL 0.05")  # SHORT, and this is SCPI
    assert one.execute(":SYST:ERR:ALL?") == ['-113,"Undefined header"']
    assert one.execute(":SENS:SWE:TIME 0.05;:SYST:ERR:ALL?") == ['0,"No error"']
    assert one.execute(":SENSE:SWEEP:TIME 0.1;:FETC:POW:ACT1?") == [783.5]
    assert one.cycle_s == 0.1
    one.execute(":SYSTem:LANGuage SHORT")
    assert one.execute("CYCL 0.05;P1?;UTRMS1?;ERRALL?") == [783.5, 230.0, '0,"No error"']
    one.execute("lang scpi")
    assert one.language == "SCPI"


def test_question_for_a_phase_that_is_not_there_hangs_its_line():
    one = panel(language="SHORT")
    assert one.execute("P1?;P9?") == []
    assert one.execute("ERRALL?") == ['-113,"Undefined header"']
    assert panel(language="SHORT", hangs_on_unknown=False).execute("P1?;P9?") == [783.5]


def test_trigger_makes_a_line_wait_for_its_cycle():
    one = panel(language="SHORT")
    assert one.execute("INIM;COUNT?;P1?") == []
    assert one.cycle_is_over() == [[7, 783.5]]
    assert one.cycle_is_over() == []
    one.execute("ACTN;CYCR?;P1?;CONT ON")
    assert one.cycle_is_over() == [[0.06, 783.5]]
    one.break_()
    assert (one.cycle_is_over(), one.language, one.packed) == ([], "SCPI", False)


def test_values_outside_their_range_are_refused():
    one = panel(language="SHORT")
    one.execute("CYCL 0.01;IRNG 99")
    assert one.execute("ERRALL?;ERRALL?;ERRALL?") == [
        '-222,"Data out of range"', '-222,"Data out of range"', '0,"No error"',
    ]  # fmt: skip


def test_answers_as_bytes_are_what_the_parser_reads():
    how = {"end": b"\r\n", "whole_counts": True}
    assert encode([7, 783.5], packed=False, one_block=True, **how) == b"7;7.83500E+02\r\n"
    assert encode(["1"], packed=True, one_block=True, **how) == b"#5000011\n"
    many = encode([7, 783.5], packed=True, one_block=False, **how)
    assert many == b"#500004" + struct.pack("<i", 7) + b"#500004" + struct.pack("<f", 783.5) + b"\n"
    (line,) = LineReader(packed=True).feed(many)
    assert line.values("if") == (7, 783.5)


def test_link_stays_while_terminals_come_and_go(tmp_path):
    port = tmp_path / "ttyLMG"
    line = PtyLine(port)
    first = os.readlink(port)
    line.unplug()
    assert not port.is_symlink()
    line.plug()
    assert os.path.exists(os.readlink(port))
    assert first.startswith("/dev/pts/")
    line.close()
    assert not port.is_symlink()
    port.write_text("something else")
    with pytest.raises(errors.OutputExists):
        PtyLine(port)


def test_line_pulled_between_a_look_and_the_wait_ends_nothing():
    """The meter's thread waited on a descriptor that another had closed since, and died: no cycle ever came again."""
    with LmgSimulator(constant_w, time_scale=SCALE) as sim:
        real, gone = sim.line.descriptors, os.dup(0)
        os.close(gone)
        stale = iter([[gone]])
        sim.line.descriptors = lambda: next(stale, None) or real()
        meter = driver("lmg450", sim)
        meter.open()
        meter.start()
        read(meter, lambda got: len(got) >= 3)
        meter.close()


def test_host_that_does_not_read_loses_lines_and_they_are_counted():
    with LmgSimulator(constant_w, line=TcpLine(), time_scale=1000, baud=None) as sim:
        host, port = sim.address.removeprefix("tcp://").split(":")
        with socket.create_connection((host, int(port))) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            for _ in range(3000):
                sim.send(b"x" * 1000)
            deadline = time.monotonic() + 10
            while not sim.lost_lines and time.monotonic() < deadline:
                time.sleep(0.01)
        assert sim.lost_lines


@pytest.mark.parametrize("wrong", [{"time_scale": 0}, {"mains_hz": 0}, {"faults": {3: "explode"}}])
def test_settings_that_cannot_be_are_refused(wrong):
    with pytest.raises(errors.InvalidArgument):
        LmgSimulator(constant_w, **wrong)
