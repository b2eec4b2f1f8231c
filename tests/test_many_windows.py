# SPDX-License-Identifier: Apache-2.0
"""Thousands of windows are integrated together, and each comes out as it would alone."""

import gc
import json
import re

import nodes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from powersample.analysis import energies, energy, window_energies
from powersample.cli import main
from powersample.model import Channel, Kind, Series, Trace, Window
from powersample.report import build
from powersample.report.html import html
from powersample.store import save

S = 1_000_000_000


def trace_of(seconds=8, windows=(), seed=1):
    """An H100's power and counter, and a package's counter, at 1 kHz."""
    dice, count = np.random.default_rng(seed), seconds * 1000
    t_ns = np.arange(count, dtype=np.int64) * 1_000_000 + dice.integers(0, 200_000, count)
    power_mw = dice.integers(60_000, 300_000, count // 100 + 2)[(t_ns + 37_000_000) // 100_000_000]
    package_uj = np.arange(count) * 70_000
    rows = (
        ("gpu0.power.instant", "GPU-X", "gpu", Kind.POWER, "W", 1e-3, "nvml.field.186", power_mw),
        ("gpu0.energy", "GPU-X", "gpu", Kind.ENERGY, "J", 1e-3, "nvml.energy", np.cumsum(power_mw) // 1000),
        (
            "package-0.energy",
            "package-0",
            "package",
            Kind.ENERGY,
            "J",
            1e-6,
            "rapl.powercap",
            package_uj,
        ),
    )
    status, seq = (dice.random(count) < 0.001).astype(np.uint16), np.arange(count, dtype=np.uint32)
    made = [
        Series(
            Channel(name, device, domain, kind, unit, scale, stamp="bracket", sensor=sensor),
            *(t_ns, t_ns + 20_000, raw.astype(np.int64), status, seq),
        )
        for name, device, domain, kind, unit, scale, sensor, raw in rows
    ]
    board = {"uuid": "GPU-X", "name": "NVIDIA H100 PCIe", "architecture": "hopper"}
    return Trace.of(made, windows=windows, meta={"devices": [board], "driver": "535.247.01"})


@settings(max_examples=6, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(-S, 9 * S), st.sampled_from([0, 1_000_000, 30_000_000, S, 4 * S])),
        min_size=1,
        max_size=10,
    )
)
def test_windows_together_equal_each_alone_to_the_last_bit(spans):
    """To the last bit: budgets and reasons too."""
    windows = [Window("w", start_ns, start_ns + length_ns) for start_ns, length_ns in spans]
    trace = trace_of(windows=windows)  # whose repeats count, whichever are asked for
    for row, window in zip(window_energies(trace, windows), windows, strict=True):
        (alone,) = window_energies(trace, [window])
        for one, other in zip(row, alone, strict=True):
            assert (one.primary, one.why) == (other.primary, other.why)
            assert one.energy == other.energy


def test_energies_of_windows_that_do_not_touch_take_time_in_proportion_to_their_number(monkeypatch):
    """Counted, not timed: how often windows are looked up. By their square, 10,000 steps took 20 s."""
    count, hashes, own = 400, 0, Window.__hash__

    def counted(window):
        nonlocal hashes
        hashes += 1
        return own(window)

    trace = trace_of(windows=[Window("step", S + i * S // 100, S + i * S // 100 + S // 110) for i in range(count)])
    monkeypatch.setattr(Window, "__hash__", counted)
    assert len(energies(trace, "step", "gpu0").sum().pieces) == count
    assert count <= hashes < 50 * count


def test_report_of_many_steps_tells_them_together_and_lists_all_in_json():
    windows = [Window("run", S, 19 * S)]
    windows += [Window("step", S + i * S // 100, S + (i + 1) * S // 100) for i in range(1800)]
    windows += [Window(f"epoch {i}", S + i * S // 10, S + (i + 1) * S // 10) for i in range(180)]
    report = build(trace_of(seconds=20, windows=windows))
    assert len(report.data["windows"]) == 1981
    text = str(report)
    assert len(text.splitlines()) < 80
    step = next(line for line in text.splitlines() if line.startswith("step x 1800"))
    assert "0.01" in step
    assert any(line.startswith("epoch x 180") for line in text.splitlines())


def test_ranks_that_mark_the_same_steps_do_not_multiply_what_devices_took():
    """Four ranks, each with its own marks a bit beside the others': the sum is over devices, never over ranks."""
    marks = [("step", 1 + i / 2 + rank / 50, 1.5 + i / 2 + rank / 50) for i in range(100) for rank in range(4)]
    trace = nodes.trace([60.0], {"cpu": [300.0], "dram": [40.0], "gpu": [200.0]}, windows=marks)
    report = build(trace)
    (gpu,) = [one for one in report.data["sums"] if one["domain"] == "gpu"]
    truth = energy(trace, Window("w", S, round(51.06 * S)), "gpu0")
    assert gpu["stretches"] == 1
    assert gpu["joules"] == pytest.approx(truth.joules, rel=1e-9)
    assert (gpu["low_j"], gpu["high_j"]) == pytest.approx((truth.low_j, truth.high_j), rel=1e-9)
    (total,) = [one for one in report.data["sums"] if one["device"] == "total"]
    assert total["joules"] == pytest.approx(sum(one["joules"] for one in report.data["sums"]) / 2, rel=1e-9)
    row = next(line for line in str(report).splitlines() if line.startswith("step x 400"))
    assert f"  {total['joules']:.1f}  " in row
    page = html(trace, report, "run.parquet")
    assert re.search(rf"400 windows .*step.*</strong>: {gpu['joules']:.1f} J \(&plusmn;", page)


def test_total_of_many_windows_is_of_those_that_are_whole_and_their_sum_of_what_all_cover():
    """A package was read in the first half only: steps in the second have no total, and all together has none."""
    windows = [Window("step", S + i * S // 20, S + i * S // 20 + S // 25) for i in range(100)]
    whole = trace_of(windows=windows)
    package = whole.series("package-0.energy")
    early = package.t0_ns < int(3.5 * S)
    arrays = (getattr(package, name)[early] for name in ("t0_ns", "t1_ns", "raw", "status", "seq"))
    others = [whole.series(name) for name in whole.channels if name != package.channel.name]
    half = Trace.of([*others, Series(package.channel, *arrays)], windows=windows, meta=whole.meta)
    told = build(half)
    known = [one["totals"]["joules"] for one in told.data["windows"] if one["totals"]["joules"] is not None]
    assert 40 < len(known) < 60
    row = next(line for line in str(told).splitlines() if line.startswith("step x 100"))
    assert f"({100 - len(known)} without)" in row
    assert f"  {np.mean(known):.2f}  " in row
    sums = {one["domain"]: one for one in told.data["sums"]}
    assert sums["gpu"]["joules"] == pytest.approx(energies(half, "step", "gpu0").sum().joules)
    assert sums["gpu"]["stretches"] == 100
    assert sums["package"]["joules"] is None
    assert sums["gpu+package+dram"]["joules"] is None


def test_windows_that_no_name_tells_apart_are_one_row_sooner():
    windows = [
        Window(name, S + i * S // 10, S + (i + 1) * S // 10) for i in range(13) for name in ("step", f"epoch {i}")
    ]
    lines = str(build(trace_of(windows=windows))).splitlines()
    assert any(line.startswith("step x 13") for line in lines)
    assert sum(line.startswith("epoch ") for line in lines) >= 13


def test_explain_says_how_a_window_was_marked():
    windows = [
        Window("waited", S, 2 * S, (), "", "device"),
        Window("noted", S, 2 * S, (), "", "event", (1500.0, 800.0)),
        Window("late", S, 2 * S, ("unresolved",), "", "event"),
        Window("plain", S, 2 * S),
    ]
    report = build(trace_of(windows=windows))
    text = " ".join(report.explained().split())
    assert text.count("once the accelerator had done what was queued") == 2  # devices
    assert text.count("the accelerator's own, mapped to the host's clock to 1.500 and 0.8000 us") == 2
    assert text.count("PSQ-EVENT") >= 2


def test_json_of_hundreds_of_windows_is_one_line_and_of_few_is_indented(tmp_path, capsys):
    """Indented by Python's own encoder, which takes ten times as long, JSON is for the eye."""
    threshold = gc.get_threshold()
    for count, is_one in ((3, False), (201, True)):
        path = tmp_path / f"{count}.parquet"
        save(trace_of(windows=[Window("step", S + i * S // 50, S + (i + 1) * S // 50) for i in range(count)]), path)
        assert main(["report", str(path), "--json"]) == 0
        shown = capsys.readouterr().out
        assert len(json.loads(shown)["windows"]) == count
        assert (len(shown.splitlines()) == 1) == is_one
    assert gc.get_threshold() == threshold  # which the report sets for itself
