# SPDX-License-Identifier: Apache-2.0
"""`powersample top`: what it shows in every size, what it says when devices go, and the terminal that it leaves."""

import contextlib
import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
import time
from dataclasses import replace

import numpy as np
import pytest
from traces import MS, channel

from powersample.capture import Plan
from powersample.cli import main
from powersample.model import SAMPLE_DTYPE
from powersample.report.top import Frame, Gauge, frame_json
from powersample.report.top_view import ASCII, draw, glyphs_of, si, span
from powersample.session.meters import asked_meters
from powersample.session.simulate import make_node, simulated_plan
from powersample.session.tail import Tail
from powersample.session.top import TopWatch

POWERSAMPLE = [sys.executable, "-m", "powersample.cli"]

GPU = Gauge(
    name="gpu0",
    kind="gpu",
    model="NVIDIA H100 PCIe",
    power_w=301.2,
    limit_w=350.0,
    age_s=0.08,
    window_s=0.025,
    period_s=0.1,
    joules=12345.6,
    mean_w=301.1,
    half_j=61.7,
    verdict="good",
    seconds=41.0,
    utilization_pct=98.0,
    memory_pct=41.0,
    clock_hz=1.755e9,
    temperature_c=62.0,
    processes=2,
    spark=((59.0, 0.0), (30.0, 175.0), (0.5, 350.0)),
    polls=820,
)
CPU = Gauge(name="package-0 dram", kind="cpu", power_w=12.0, age_s=0.04, joules=500.0, verdict="unrated", polls=820)
FRAME = Frame(
    host="node7",
    simulated="",
    unix_s=1.8e9,
    seconds=41.0,
    driver="580.65",
    gauges=(*(replace(GPU, name=f"gpu{i}") for i in range(8)), CPU),
    rates_hz=(20.0, 20.0),
    lanes=9,
    dropped=0,
    skipped=0,
    notes=(),
    trouble=(),
)


def shown(frame, width, height=None, **more):
    return [line.plain for line in draw(frame, width, height, **more)]


@pytest.mark.parametrize("width", [40, 60, 79, 80, 100, 132, 250])
@pytest.mark.parametrize("height", [6, 10, 24, 50, None])
def test_top_fits_the_terminal_and_shows_every_device_or_how_many_are_left_out(width, height):
    lost = replace(GPU, name="gpu8", power_w=None, error="15, the GPU is lost", errors=7, dropouts=3, dropout_s=4.0)
    frame = replace(FRAME, gauges=(*FRAME.gauges, lost), notes=("rapl: " + "permission denied " * 9,))
    lines = shown(replace(frame, simulated="h100x9"), width, height, keys=True)
    assert max(map(len, lines)) <= width
    assert height is None or len(lines) <= height
    assert "SIMULATED NODE" in lines[0]
    there = sum(line.startswith(("gpu", "package-0")) for line in lines)
    hidden = [int(found[1]) for line in lines if (found := re.match(r"\.\.\. (\d+) more devices", line))]
    assert there + sum(hidden) == 10


def test_top_at_80_columns_shows_what_a_person_looks_for():
    text = "\n".join(shown(FRAME, 80, 24))
    row = next(line for line in text.splitlines() if line.startswith("gpu3"))
    for words in ("301.2/350 W", "80ms", "12.35 kJ", "±0.5 %", "98 %", "62°C", "█"):
        assert words in row
    assert "9 lanes at 20 Hz, no slot late, no record dropped" in text


def test_top_adds_up_what_adds_up_in_the_first_line():
    """However many devices do not fit; the machine's own meter is no part of it."""
    parts = tuple(
        replace(GPU, name=f"gpu{i}", adds_up="GPU", power_w=300.0, joules=1000.0, half_j=30.0) for i in range(16)
    )
    meter = replace(CPU, name="power_meter", kind="board", power_w=6000.0, joules=2e5)
    frame = replace(FRAME, gauges=(*parts, meter))
    lines = shown(frame, 80, 12)
    (row,) = [line for line in lines if line.startswith("total")]
    assert lines.index(row) == 2
    for words in ("4800.0 W", "16.00 kJ", "±0.75 %"):  # 30 x sqrt(16) of 16000
        assert words in row
    assert any(re.match(r"\.\.\. 11 more devices", line) for line in lines)
    assert frame.total.model == "GPU"
    assert frame.total.spark == ((59.0, 0.0), (30.0, 16 * 175.0), (0.5, 16 * 350.0))
    data = frame_json(frame)
    assert data["total"]["joules"] == 16000.0
    assert "total" not in {one["name"] for one in data["gauges"]}


def test_top_tells_no_total_that_lacks_a_part():
    lost = replace(GPU, name="gpu1", adds_up="GPU", power_w=None, error="15, the GPU is lost")
    total = replace(FRAME, gauges=(replace(GPU, adds_up="GPU"), lost)).total
    assert (total.power_w, total.joules) == (None, 2 * GPU.joules)
    unrated = replace(lost, half_j=None, joules=None)
    total = replace(FRAME, gauges=(replace(GPU, adds_up="GPU"), unrated)).total
    assert (total.joules, total.half_j, total.verdict) == (None, None, "")
    assert replace(FRAME, gauges=(replace(GPU, adds_up="GPU"),)).total is None


def test_top_where_nothing_bounds_its_height_tells_notes_to_their_end():
    """What to do stands at a note's end."""
    frame = replace(FRAME, notes=("rapl: " + "permission denied, " * 9 + "sudo setcap",))
    assert "sudo setcap" in shown(frame, 80)[-1]
    assert max(map(len, shown(frame, 80))) <= 80
    assert not any("setcap" in line for line in shown(frame, 80, 24))


def test_top_at_60_columns_keeps_power_energy_and_its_interval():
    row = next(line for line in shown(FRAME, 60, 24) if line.startswith("gpu0"))
    assert "301.2/350 W" in row
    assert "12.35 kJ" in row
    assert "±0.5 %" in row


def test_top_where_there_is_room_tells_of_sensors_and_programs():
    text = "\n".join(shown(FRAME, 120, None))
    assert "NVIDIA H100 PCIe, averages 25ms of 100ms, 2 programs, mean 301.1 W" in text


def test_top_of_a_lost_gpu_says_so_and_shows_no_power():
    lost = replace(GPU, power_w=None, error="15, the GPU is lost", errors=7, polls=820)
    lines = shown(replace(FRAME, gauges=(lost,), trouble=("nvml:gpu0: a device call never returned",)), 80, 24)
    assert any("lost" in line and "301.2" not in line for line in lines if line.startswith("gpu0"))
    assert any("reads fail: 15, the GPU is lost, 7 of 820 reads failed" in line for line in lines)
    assert "trouble: nvml:gpu0: a device call never returned" in lines


def test_top_in_a_terminal_that_is_too_small_says_what_it_needs():
    assert shown(FRAME, 30, 24) == ["too small: 40 x 6 at least"]
    assert shown(FRAME, 80, 3) == ["too small: 40 x 6 at least"]
    assert len(shown(FRAME, 8, 1)[0]) == 8


def test_top_in_a_terminal_without_these_letters_keeps_to_ascii():
    assert glyphs_of("ascii") is ASCII
    assert glyphs_of("no such encoding") is ASCII
    for line in shown(FRAME, 120, 40, glyphs=ASCII):
        line.encode("ascii")
    assert glyphs_of("utf-8") is not ASCII


def test_top_draws_the_last_minute_from_left_to_right():
    row = next(line for line in shown(FRAME, 80, 24) if line.startswith("gpu0"))
    sparks = row[-11:]
    assert sparks[0] == "▁"
    assert sparks[-1] == "█"
    assert sorted(sparks) == list(sparks)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.0801, "80ms"), (2.5, "2.5s"), (187.0, "3:07"), (3723.0, "1:02:03"), (90000.0, "1d 01:00")],
)
def test_span_is_short(seconds, words):
    assert span(seconds) == words


@pytest.mark.parametrize(("value", "words"), [(901.2, "901.2 "), (12345.6, "12.35 k"), (999999.0, "1.000 M")])
def test_si_has_four_digits(value, words):
    assert si(value) == words


def test_frame_as_json_is_plain_and_has_its_version():
    data = json.loads(json.dumps(frame_json(FRAME), allow_nan=False))
    assert data["schema_version"] == 1
    assert data["gauges"][0]["joules"] == 12345.6
    assert data["gauges"][8]["temperature_c"] is None


# ---- watching --------------------------------------------------------------------------------------------------------


def records(first_ms, count, step_ms=10):
    found = np.zeros(count, SAMPLE_DTYPE)
    found["t0_ns"] = found["t1_ns"] = (first_ms + step_ms * np.arange(count)) * MS
    found["raw"] = found["t0_ns"] // MS
    return found


def test_tail_keeps_so_many_seconds_however_long_it_goes_on():
    tail = Tail(5.0)
    for second in range(1, 1000):
        tail.add([(channel("gpu0.power.instant"), records(1000 * second, 100))])
    trace = tail.trace((), {})
    assert 500 <= trace.extent("gpu0.power.instant").records <= 700
    assert trace.series("gpu0.power.instant").raw[-1] == 999_990


def test_tail_ends_where_the_slowest_lane_does_and_waits_for_no_lane_that_is_gone():
    tail = Tail(60.0)
    tail.add([(channel("gpu0.power.instant", lane="nvml:gpu0"), records(1000, 100))])
    tail.add([(channel("gpu0.power.usage", lane="nvml:gpu0"), records(1000, 1))])
    tail.add([(channel("gpu1.power.instant", lane="nvml:gpu1"), records(1000, 90))])
    assert tail.end_ns == 1890 * MS
    tail.add([(channel("gpu0.power.instant", lane="nvml:gpu0"), records(2000, 1000))])
    assert tail.end_ns == 11990 * MS


def test_watch_of_a_constant_load_has_the_mean_that_it_draws_from_its_first_second_on():
    """What passes before a device's first reading is in no joules, so it is in no mean either."""
    with make_node("h100x2") as node:
        for gpu in range(2):
            node.load_wave(gpu, 300.0, 300.0, 1.0, 0.5)
        time.sleep(0.3)  # what the sensor averages is all of the load
        with TopWatch(simulated_plan(Plan(rate_hz=50.0), node), node=node, meters=asked_meters(["sim"], None)) as watch:
            watch.start()
            for settle in (False, True, False):
                time.sleep(0.35)
                frame = watch.look(settle=settle)
                gpus = [one for one in frame.gauges if one.kind == "gpu"]
                assert [one.mean_w for one in gpus] == pytest.approx([300.0, 300.0], abs=0.05)
                assert gpus[0].joules < 300.0 * frame.seconds
            wall = next(one for one in frame.gauges if one.name == "wall")
            parts = [one.mean_w for one in frame.gauges if one.adds_up]
    assert wall.mean_w == pytest.approx(wall.power_w, rel=0.01)
    assert frame.total.mean_w == pytest.approx(sum(parts))
    assert "mean 300.0 W" in "\n".join(shown(frame, 80))


def test_watch_tells_energies_with_the_truth_inside_and_a_gpu_that_is_lost():
    """Two seconds of a square wave, a meter beside; then one board falls off the bus."""
    with make_node("h100x2") as node:
        for gpu in range(2):
            node.load_wave(gpu, 300.0, 100.0, 0.7, 0.5)
        plan = simulated_plan(Plan(rate_hz=50.0), node)
        with TopWatch(plan, node=node, simulated="h100x2", meters=asked_meters(["sim"], None)) as watch:
            start_ns = time.monotonic_ns()
            watch.start()
            for _ in range(7):
                time.sleep(0.3)
                watch.look()
            end_ns = time.monotonic_ns()
            frame = watch.look(settle=True)
            node.inject("any", 15, gpu=1)
            time.sleep(0.35)
            after = watch.look()
        truth_j = node.truth_j("gpu0", start_ns, end_ns)
    by_name = {one.name: one for one in frame.gauges}
    gpu = by_name["gpu0"]
    assert gpu.joules - gpu.half_j <= truth_j <= gpu.joules + gpu.half_j
    assert (gpu.model, gpu.limit_w, gpu.processes) == ("NVIDIA H100 PCIe", 350.0, 0)
    assert 0 <= gpu.age_s < 20
    assert gpu.spark
    assert by_name["wall"].power_w > 0
    assert by_name["wall"].half_j < 0.02 * by_name["wall"].joules
    assert by_name["package-0"].joules > 0
    assert [one.kind for one in frame.gauges][:2] == ["gpu", "gpu"]
    assert {one.name for one in frame.gauges if one.adds_up} == {"gpu0", "gpu1", "package-0", "package-0 dram"}
    assert frame.total.power_w > by_name["gpu0"].power_w + by_name["gpu1"].power_w
    assert frame.total.model == "GPU + CPU + DRAM"
    assert after.total.power_w is None
    lost = {one.name: one for one in after.gauges}["gpu1"]
    assert lost.power_w is None
    assert "the GPU is lost" in lost.error
    assert {one.name: one for one in after.gauges}["gpu0"].power_w is not None


# ---- the command -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (("top", "--nvml-lib", "/no/lib.so", "--sources", "nvml", "-1"), 3, "--simulate h100"),
        (("top", "--simulate", "z80"), 2, "h100"),
        (("top", "-d", "0"), 2, "--delay"),
        (("top", "-n", "0"), 2, "at least 1"),
        (("top", "--json"), 2, "-1"),
        (("top", "--load", "idle"), 2, "--simulate"),
    ],
)
def test_top_refuses_with_a_code_and_what_to_do(arguments, code, words, capfd):
    assert main(arguments) == code
    assert words in capfd.readouterr().err


def test_top_once_is_one_json_object(capfd):
    assert main(("top", "--simulate", "h100", "-1", "-d", "0.3", "--json")) == 0
    data = json.loads(capfd.readouterr().out)
    assert data["simulated"] == "h100"
    assert data["gauges"][0]["name"] == "gpu0"
    assert data["gauges"][0]["half_j"] > 0


def test_top_into_a_pipe_is_blocks_of_lines_without_escapes(capfd):
    assert main(("top", "--simulate", "h100+none", "-n", "2", "-d", "0.1")) == 0
    said = capfd.readouterr().out
    assert said.count("SIMULATED NODE h100+none, not a measurement") == 2
    assert "\x1b" not in said


class Terminal:
    """`powersample top` on a terminal of its own."""

    def __init__(self, *arguments, columns=80, rows=24):
        self.ours, theirs = pty.openpty()
        self.resize(columns, rows)
        self.before = termios.tcgetattr(theirs)
        self.theirs = theirs
        environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "LINES", "NO_COLOR")}
        self.process = subprocess.Popen(
            ["setsid", "--ctty", *POWERSAMPLE, "top", *arguments],  # else its Ctrl-C would be nobody's
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env={**environment, "TERM": "xterm-256color"},
        )
        self.seen = b""

    def resize(self, columns, rows):
        fcntl.ioctl(self.ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def until(self, words, patience_s=30.0):
        deadline = time.monotonic() + patience_s
        while words not in self.seen:
            assert time.monotonic() < deadline, self.seen[-2000:]
            self.seen += os.read(self.ours, 65536)

    def end(self):
        os.set_blocking(self.ours, False)
        self.code = None
        deadline = time.monotonic() + 30
        while self.code is None and time.monotonic() < deadline:
            try:
                self.seen += os.read(self.ours, 65536)
            except BlockingIOError:
                time.sleep(0.02)
            self.code = self.process.poll()
        with contextlib.suppress(BlockingIOError):
            self.seen += os.read(self.ours, 65536)
        after = termios.tcgetattr(self.theirs)
        os.close(self.ours)
        os.close(self.theirs)
        return after


@pytest.mark.parametrize("how", ["q", "Ctrl-C"])
def test_top_on_a_terminal_follows_its_size_and_leaves_it_as_it_was(how):
    terminal = Terminal("--simulate", "h100", "-d", "0.3")
    terminal.until(b"gpu0")
    assert b"\x1b[?1049h" in terminal.seen
    assert termios.tcgetattr(terminal.theirs) != terminal.before
    terminal.seen = b""
    terminal.resize(20, 4)
    terminal.until(b"too small")
    terminal.resize(80, 24)
    terminal.seen = b""
    terminal.until(b"gpu0")
    os.write(terminal.ours, b"q" if how == "q" else b"\x03")
    after = terminal.end()
    assert terminal.code == 0
    assert after == terminal.before
    assert terminal.seen.endswith((b"\x1b[?1049l\x1b[?25h", b"\x1b[?25h\x1b[?1049l"))
