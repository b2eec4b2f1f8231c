# SPDX-License-Identifier: Apache-2.0
"""A meter's driver on the shipped simulator: cycles lost, energy, gaps, cuts, CPU, and how soon it is back."""

from __future__ import annotations

import math
import os
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from bench.figure import Bar, Figure, spread
from powersample.formats.lmg import LineReader, pack
from powersample.meters import Meter, MeterGap, MeterReading, make_meter, parse_addresses
from powersample.meters.recorder import READ_S, gather_s
from powersample.sim.lmg import LmgSimulator
from powersample.sim.lmg_line import TcpLine

STAND_IN = "stand-in: the shipped LMG450 simulator"
SCALE = 20.0
PERIOD_S, MEAN_W, SWING_W = 0.731, 500.0, 200.0
CPU_S = 30.0


def sine_w(start_ns: int, end_ns: int) -> float:
    """Return the exact mean of 500 W + 200 W sin(2 pi t / 0.731 s)."""
    w = 2 * math.pi / (PERIOD_S * 1e9)
    return MEAN_W - SWING_W * (math.cos(w * end_ns) - math.cos(w * start_ns)) / (w * (end_ns - start_ns))


def meter_at(where: str, **options: object) -> Meter:
    return make_meter(parse_addresses([",".join([f"lmg450:{where}", *(f"{k}={v}" for k, v in options.items())])])[0])


def read(meter: Meter, done: Callable[[list[MeterReading], list[MeterGap]], bool], limit_s: float) -> tuple[
    list[MeterReading], list[MeterGap]
]:  # fmt: skip
    """Read until `done` says so; raise when that takes too long."""
    readings: list[MeterReading] = []
    gaps: list[MeterGap] = []
    deadline = time.monotonic() + limit_s
    while not done(readings, gaps):
        if time.monotonic() > deadline:
            raise RuntimeError(f"{sum(map(len, readings))} readings and {gaps} in {limit_s} s")
        batch = meter.read(0.2)
        readings += batch.readings
        gaps += batch.gaps
    return readings, gaps


def lost(count: int, line: TcpLine | None = None, **options: object) -> tuple[int, float]:
    """Return how many of so many cycles are lost, and the error of their energy in percent."""
    with LmgSimulator(sine_w, line=line, time_scale=SCALE) as sim:
        meter = meter_at(sim.address, **options)
        meter.open()
        meter.start()
        readings, _ = read(meter, lambda got, _: sum(map(len, got)) >= count, 60 + 2 * count * 0.05 / SCALE)
        meter.close()
        cycles = list(sim.cycles)[:count]
        watts = np.concatenate([one.watts for one in readings])[:count]
        spans = np.concatenate([one.cycle_s for one in readings])[:count]
        told_j = float((watts * spans).sum())
        true_j = sine_w(cycles[0].start_ns, cycles[-1].end_ns) * (cycles[-1].end_ns - cycles[0].start_ns) / 1e9
        return int(meter.counts()["missing_cycles"]), 100 * abs(told_j - true_j) / true_j


def gaps_found(rng: random.Random, count: int) -> tuple[int, int]:
    """Return forced holes, and those of them that were found with their very length."""
    at, faults, forced = 10, {}, []
    for _ in range(count):
        length = rng.randrange(1, 5)
        faults |= {at + i: "missing" for i in range(length)}
        forced.append(length)
        at += length + rng.randrange(3, 20)
    with LmgSimulator(sine_w, time_scale=SCALE, faults=faults) as sim:
        meter = meter_at(sim.address)
        meter.open()
        meter.start()
        cycles = at + 10 - sum(forced)
        _, gaps = read(meter, lambda got, _: sum(map(len, got)) >= cycles, 120.0)
        meter.close()
    found = [gap.missing for gap in gaps]
    return count, sum(one == other for one, other in zip(forced, found, strict=False))


def cuts(count: int) -> tuple[int, int]:
    """Return how many random cuts were made, and how many cut streams gave other lines."""
    rng, made, wrong = random.Random(20), 0, 0
    while made < count:
        stream = b"".join(
            pack([struct.pack("<3f", i, 0.05, 783 + rng.random())])[: None if rng.random() > 0.1 else rng.randrange(19)]
            + (b"" if rng.random() > 0.15 else rng.randbytes(rng.randrange(40)))
            for i in range(40)
        )
        whole = [line.payload for line in LineReader(packed=True).feed(stream)]
        for _ in range(20):
            at = sorted(rng.randrange(len(stream)) for _ in range(rng.randrange(1, 100)))
            reader = LineReader(packed=True)
            pieces = zip([0, *at], [*at, len(stream)], strict=True)
            lines = [line.payload for first, last in pieces for line in reader.feed(stream[first:last])]
            made, wrong = made + len(at), wrong + (lines != whole)
    return made, wrong


def cpu_pct(seconds: float) -> float:
    """Return the share of a core that reading four packed phases takes as the recorder does it; the meter is aside."""
    with tempfile.TemporaryDirectory() as folder:
        port = Path(folder) / "ttyLMG"
        command = [sys.executable, "-m", "powersample.cli", "sim", "meter", "--pty", str(port)]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
            deadline = time.monotonic() + 60
            while not port.exists() and time.monotonic() < deadline:
                time.sleep(0.05)
            meter = meter_at(os.fspath(port), format="packed", phases="1+2+3+4")
            gather = gather_s(meter.open())
            meter.start()
            begin, cpu = time.monotonic(), time.process_time()
            while time.monotonic() - begin < seconds:
                meter.read(READ_S)
                time.sleep(gather)
            share = (time.process_time() - cpu) / (time.monotonic() - begin)
            meter.close()
            process.terminate()
    return 100 * share


def back_after_s() -> float:
    """Return how long after its port is there again a meter's first value comes."""
    with LmgSimulator(sine_w) as sim:
        meter = meter_at(sim.address)
        meter.open()
        meter.start()
        read(meter, lambda got, _: len(got) > 0, 20.0)
        sim.unplug()
        read(meter, lambda _, gaps: len(gaps) > 0, 20.0)
        for _ in range(5):
            meter.read(0.1)
        sim.plug()
        begin = time.monotonic()
        read(meter, lambda got, _: len(got) > 0, 20.0)
        took_s = time.monotonic() - begin
        meter.close()
    return took_s


def figures(quick: bool) -> Iterator[Figure]:
    """Yield what a driver loses, and what it costs."""
    count = 1000 if quick else 10_000
    for name, line, options, cycles in (
        ("a pseudo-terminal", None, {}, count),
        ("a pseudo-terminal, packed", None, {"format": "packed"}, count),
        ("TCP", TcpLine(), {}, 1000),
    ):
        missing, error_pct = lost(cycles, line, **options)
        notes = [STAND_IN, f"{cycles} cycles of 50 ms, {SCALE:g} times as quick as real time"]
        yield Figure("meters", f"cycles lost over {name}", "cycles", Bar("<=", 0), [missing], notes)
        yield Figure("meters", f"error of the energy of a sine over {name}", "%", Bar("<=", 0.05), [error_pct], notes)
    forced, found = gaps_found(random.Random(1), 20 if quick else 200)
    notes = [STAND_IN, f"{forced} holes of 1 to 4 cycles"]
    yield Figure("meters", "forced gaps found with their length", "share", Bar(">=", 1), [found / forced], notes)
    made, wrong = cuts(10_000 if quick else 100_000)
    notes = [f"{made} random cuts of packed streams with garbage and half packets"]
    yield Figure("meters", "cut streams that gave other lines", "streams", Bar("<=", 0), [wrong], notes)
    runs = [cpu_pct(5.0 if quick else CPU_S) for _ in range(1 if quick else 3)]
    notes = [STAND_IN, f"4 phases, count and cycle, 115200 baud, 20 Hz, {len(runs)} runs of {CPU_S:g} s in real time"]
    yield Figure("meters", "CPU of reading a packed stream", "% of a core", Bar("<=", 1), runs, notes)
    times = [back_after_s() for _ in range(2 if quick else 10)]
    notes = [STAND_IN, "from the port being there again to the first value", f"quartiles {spread(np.array(times))}"]
    yield Figure("meters", "time until an unplugged meter is back", "s", Bar("<=", 3), times, notes)
