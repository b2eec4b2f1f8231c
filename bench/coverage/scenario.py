# SPDX-License-Identifier: Apache-2.0
"""One scenario: a board that the analysis does not know, a load, polls with faults, a window and its exact truth."""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.coverage import loads
from powersample._native import api_sim
from powersample.model import Channel, Kind, Series, Trace, Window
from powersample.sim.profile import Board, Profile, draw_board, driver, load_profile, power_usage_sensor

MS, S = loads.MS, loads.S
BEFORE_NS, AFTER_NS = 6 * S, 3 * S
FIELDS = {
    "instant": "nvml.field.186",
    "average": "nvml.field.185",
    "module": "nvml.field.186.module",
    "usage": "nvml.power_usage",
    "energy": "nvml.total_energy",
}
BRANCHES = ("525.147.05", "530.41.03")  # PowerUsage alone, and the branch in which it was quick
SAMPLED = "samples"  # the "profile" of meters that give the power at instants
SAMPLED_GAIN_SD = 0.02
RAPL = "rapl"  # that of a processor's energy counter: 2^-14 J each 0.976 ms or a little later
RAPL_GAIN_SD, RAPL_PERIOD_NS, RAPL_JITTER_NS, RAPL_J = 0.03, 976_563, 20_000, 2.0**-14
HWMON = "hwmon"  # that of a firmware's own averages, one after the other, read three times in each
HWMON_GAIN_SD, HWMON_PERIODS_S, HWMON_POLLS = 0.03, (0.1, 3.0), 3.0


@dataclass(frozen=True, slots=True)
class Belief:
    """What the analysis is told of the board, where that is not the truth.

    Attributes:
        name: of the board.
        architecture: of the board.
        version: of the driver.
    """

    name: str | None = None
    architecture: str | None = None
    version: str | None = None


@dataclass(frozen=True, slots=True)
class Nature:
    """What a board is drawn from, and what is believed of it.

    Attributes:
        profile: the board's figures and spreads.
        version: of its driver; None draws one.
        counter: what its energy counter counts: "integrating" or "attended".
        belief: what the analysis is told otherwise.
        exception: in words; "" for a board as the table describes it.
    """

    profile: Profile
    version: str | None = None
    counter: str = "integrating"
    belief: Belief = field(default_factory=Belief)
    exception: str = ""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What was drawn, and the trace that it gives.

    Attributes:
        profile: of the board.
        seed: that drew it.
        load: what it did.
        window: to be told.
        truths_j: its exact energy by field.
        gain: of the board.
        offsets_w: what its sensors read at no power, by field.
        trace: one channel a field of the board.
        exception: what the analysis was not told.
    """

    profile: str
    seed: int
    load: loads.Load
    window: Window
    truths_j: Mapping[str, float]
    gain: float
    offsets_w: Mapping[str, float]
    trace: Trace
    exception: str = ""


def draw(name: str, seed: int, nature: Nature | None = None) -> Scenario:
    """Return scenario number `seed` of a profile, of `SAMPLED` or `HWMON` meters, or of a counter (`RAPL`)."""
    dice = random.Random(f"{name} {seed}")
    nature = nature or Nature(load_profile("h100" if name in (SAMPLED, RAPL, HWMON) else name))
    profile = nature.profile
    start_ns = 1000 * S + dice.randrange(S)
    end_ns = start_ns + round(0.05 * S * (60 / 0.05) ** dice.random())
    idle_mw, max_mw = (round(float(profile[f"board.{one}_w"]) * 1000) for one in ("idle", "max"))
    own = dice.random() < 0.5  # the window is the load; else it is cut out of one that runs
    margin = (0, 0) if own else (dice.randrange(2 * S), dice.randrange(2 * S))
    load = loads.draw(dice, start_ns - margin[0], end_ns + margin[1], idle_mw, max_mw)
    marks = [round(dice.uniform(-MS, MS)) if own else 0 for _ in range(2)]
    window = Window("w", start_ns + marks[0], end_ns + marks[1])
    begin_ns, over_ns = start_ns - BEFORE_NS, end_ns + AFTER_NS
    with tempfile.TemporaryDirectory() as folder:
        truth = api_sim.Truth.create(Path(folder) / "t", begin_ns - 20 * S, idle_mw, 1 << 17)
        for step in load.steps:
            truth.append(*step, live=False)
        joules = truth.joules(window.start_ns, window.end_ns)
        meta: Mapping[str, Any] = {}
        if name == SAMPLED:
            gain = dice.gauss(1.0, SAMPLED_GAIN_SD)
            parts = [_samples(dice, truth, gain, begin_ns, over_ns)]
            truths_j, offsets_w = {"samples": joules}, {"samples": 0.0}
        elif name == HWMON:
            gain = dice.gauss(1.0, HWMON_GAIN_SD)
            # Such a record is often short: it begins and ends where a command does, or little before and after.
            near_ns, after_ns = (round(0.1 * S * (over / 0.1) ** dice.random()) for over in (6.0, 3.0))
            parts = [_hwmon(dice, truth, gain, window.start_ns - near_ns, window.end_ns + after_ns)]
            truths_j, offsets_w = {"power": joules}, {"power": 0.0}
        elif name == RAPL:
            gain = dice.gauss(1.0, RAPL_GAIN_SD)
            parts = [_rapl(dice, truth, gain, begin_ns, over_ns)]
            truths_j, offsets_w = {"energy": joules}, {"energy": 0.0}
        else:
            board, meta, gain = _board(dice, nature, seed, begin_ns)
            parts = list(_channels(dice, board, truth, begin_ns, over_ns))
            base_w = {one: float(profile.figures.get(f"sensor.{one}.base_w", 0.0)) for one in board.sensors}
            truths_j = {one: joules + base * window.duration_s for one, base in base_w.items()}
            offsets_w = {
                one: 0.0 if one == "energy" else board.offset_w + (1 - gain) * base for one, base in base_w.items()
            }
        truth.close()
    trace = Trace.of(parts, meta=meta)
    return Scenario(name, seed, load, window, truths_j, gain, offsets_w, trace, nature.exception)


def _board(dice: random.Random, nature: Nature, seed: int, begin_ns: int) -> tuple[Board, Mapping[str, Any], float]:
    profile, belief = nature.profile, nature.belief
    drawn = dice.random()
    version = nature.version
    if version is None and drawn < 0.3 and profile["driver.power_usage"] == "average":
        version = BRANCHES[0] if drawn < 0.15 else BRANCHES[1]
    versions = driver(profile, version)
    board = draw_board(
        profile, board_seed=seed, gpu=0, seed=seed, branch=versions.branch, counter=nature.counter,
        start_ns=begin_ns - 10 * S,
    )  # fmt: skip
    sensors = {one: sensor for one, sensor in board.sensors.items() if one in FIELDS}
    if "usage" not in sensors and version is not None and versions.branch == 530:
        # Of other branches it repeats a field that is there: the same figures would count twice.
        sensors["usage"] = sensors[power_usage_sensor(profile, versions.branch)]
    board = Board(board.gain, board.offset_w, board.noise_w, sensors)
    device = {
        "uuid": "GPU-X",
        "name": profile["board.name"] if belief.name is None else belief.name,
        "architecture": profile["board.architecture"] if belief.architecture is None else belief.architecture,
    }
    return board, {"devices": [device], "driver": belief.version or versions.version}, board.gain


def _polls(
    dice: random.Random, begin_ns: int, end_ns: int, rates_hz: tuple[float, float] = (10.0, 1000.0)
) -> tuple[NDArray[np.int64], NDArray[np.uint16]]:
    """Return the stamps and statuses of one lane's polls."""
    step = 1e9 / (rates_hz[0] * (rates_hz[1] / rates_hz[0]) ** dice.random())
    random_state = np.random.default_rng(dice.randrange(1 << 30))
    t = begin_ns + np.arange(int((end_ns - begin_ns) / step)) * step
    t = t + np.abs(random_state.normal(0, 0.03 * step, len(t)))
    keep = np.ones(len(t), bool)
    if dice.random() < 0.4:
        at = begin_ns
        while at < end_ns:
            at += round(random_state.exponential(4 * S))
            stall = round(min(random_state.exponential(0.15 * S), 2 * S))
            keep &= ~((t > at) & (t < at + stall))
            at += stall
    t_ns = t[keep].astype(np.int64)
    status = np.zeros(len(t_ns), np.uint16)
    if dice.random() < 0.3:
        status[random_state.random(len(t_ns)) < 0.01] = 999
    return t_ns, status


def _channels(dice: random.Random, board: Board, truth: api_sim.Truth, begin_ns: int, end_ns: int) -> Iterator[Series]:
    t, status = _polls(dice, begin_ns, end_ns)
    stamp = t // MS * MS if dice.random() < 0.3 else t
    for name, sensor in board.sensors.items():
        published = sensor.publications(begin_ns - 3 * S, end_ns)
        value = sensor.read(truth, published)
        raw = value[np.searchsorted(published, t, "right") - 1]
        kind, unit = (Kind.ENERGY, "J") if name == "energy" else (Kind.POWER, "W")
        channel = Channel(
            f"gpu0.{kind}" if name == "energy" else f"gpu0.power.{name}", "GPU-X",
            "module" if name == "module" else "gpu", kind, unit, 1e-3, sensor=FIELDS[name],
        )  # fmt: skip
        yield Series(channel, stamp, stamp, raw, status, np.arange(len(t), dtype=np.uint32))


def _samples(dice: random.Random, truth: api_sim.Truth, gain: float, begin_ns: int, end_ns: int) -> Series:
    t, status = _polls(dice, begin_ns, end_ns, (1.0, 5000.0 if end_ns - begin_ns < 15 * S else 1000.0))
    watts = truth.power_mw(t) * (gain * 1e-3)
    channel = Channel("power.samples", "meter", "gpu", Kind.POWER, "W", raw_dtype="float64", sensor="csv")
    return Series(channel, t, t, watts, status, np.arange(len(t), dtype=np.uint32))


def _hwmon(dice: random.Random, truth: api_sim.Truth, gain: float, begin_ns: int, end_ns: int) -> Series:
    low_s, high_s = HWMON_PERIODS_S
    period_ns = round(low_s * S * (high_s / low_s) ** dice.random())
    t, status = _polls(dice, begin_ns, end_ns, 2 * (HWMON_POLLS * S / period_ns,))
    sensor = api_sim.Sensor(
        kind=api_sim.GAUGE, quantum=1000, start_ns=begin_ns - 20 * S, gain=gain, offset_mw=0.0, period_ns=period_ns,
        window_ns=period_ns, phase_ns=dice.randrange(period_ns), seed=dice.randrange(1 << 30),
    )  # fmt: skip
    published = sensor.publications(begin_ns - 10 * S, end_ns)
    raw = sensor.read(truth, published)[np.searchsorted(published, t, "right") - 1]
    channel = Channel(
        "board.power", "board", "psys", Kind.POWER, "W", 1e-3, sensor="hwmon.power_meter.power1_average", span="fixed",
        span_ns=period_ns,
    )  # fmt: skip
    return Series(channel, t, t, raw, status, np.arange(len(t), dtype=np.uint32))


def _rapl(dice: random.Random, truth: api_sim.Truth, gain: float, begin_ns: int, end_ns: int) -> Series:
    t, status = _polls(dice, begin_ns, end_ns)
    sensor = api_sim.Sensor(
        kind=api_sim.COUNTER, quantum=1, start_ns=begin_ns - 10 * S, gain=gain / (RAPL_J * 1e3), offset_mw=0.0,
        period_ns=RAPL_PERIOD_NS, phase_ns=dice.randrange(RAPL_PERIOD_NS), jitter_ns=RAPL_JITTER_NS,
        seed=dice.randrange(1 << 30),
    )  # fmt: skip
    published = sensor.publications(begin_ns - 3 * S, end_ns)
    raw = sensor.read(truth, published)[np.searchsorted(published, t, "right") - 1]
    channel = Channel(
        "package-0.energy", "package-0", "package", Kind.ENERGY, "J", RAPL_J, sensor="powercap", modulus=1 << 32
    )
    return Series(channel, t, t, raw, status, np.arange(len(t), dtype=np.uint32))
