# SPDX-License-Identifier: Apache-2.0
"""Clocks that are set, sleep, are slewed and start anew, as a recording's anchors show them."""

import sys
from pathlib import Path

import numpy as np
import pytest

from powersample.analysis import channel_energy, clock_events, clock_json
from powersample.model import Anchor, Trace, Window
from powersample.report import build

sys.path.insert(0, str(Path(__file__).parent))
from traces import S, channel, polls, series


def anchors(count=8, every_s=10.0, width_ns=100, seed=1):
    """What a machine's clocks show every 10 s: slewed by 12 ppm, read within 100 ns of each other."""
    chance = np.random.default_rng(seed)
    found = []
    for i in range(count):
        mono_ns = int((1000 + i * every_s) * S)
        jitter = chance.integers(-width_ns // 2, width_ns // 2, 3)
        found.append(
            Anchor(
                mono_ns,
                int(mono_ns / (1 + 12e-6)) + int(jitter[0]),
                mono_ns + 1_700_000_000 * S + int(jitter[1]),
                mono_ns + 40 * S + int(jitter[2]),
                width_ns,
            )
        )
    return found


def after(found, index, *, raw_ns=0, real_ns=0, boot_ns=0, raw_ppm=0.0):
    """The same, with clocks put forward from an anchor on, and MONOTONIC_RAW at another rate."""
    return [
        one
        if i < index
        else Anchor(
            one.monotonic_ns,
            one.monotonic_raw_ns + raw_ns + int((one.monotonic_ns - found[index - 1].monotonic_ns) * raw_ppm * 1e-6),
            one.realtime_ns + real_ns,
            one.boottime_ns + boot_ns,
            one.width_ns,
        )
        for i, one in enumerate(found)
    ]


def test_clocks_left_alone_tell_nothing():
    assert clock_events(anchors()) == []
    assert clock_events([]) == clock_events(anchors(1)) == []
    assert clock_json([])["boots"] == 1


def test_step_is_told_with_its_size_and_not_taken_for_sleep():
    (event,) = clock_events(after(anchors(), 3, real_ns=-2 * S))
    assert (event.kind, event.start_ns, event.end_ns) == ("step", 1020 * S, 1030 * S)
    assert event.size_s == pytest.approx(-2, abs=1e-6)


def test_step_that_slewing_could_have_done_is_none():
    """500 ppm of 10 s: what adjtime of an older kernel would have moved it by."""
    assert clock_events(after(anchors(), 3, real_ns=5_000_000)) == []


def test_suspend_moves_the_time_of_day_and_is_no_step():
    (event,) = clock_events(after(anchors(), 5, real_ns=90 * S, boot_ns=90 * S))
    assert (event.kind, event.start_ns, event.end_ns) == ("suspend", 1040 * S, 1050 * S)
    assert event.size_s == pytest.approx(90, abs=1e-6)
    both = clock_json(after(anchors(), 5, real_ns=100 * S, boot_ns=90 * S))
    assert (both["steps"], both["suspends"], both["asleep_s"]) == (1, 1, pytest.approx(90, abs=1e-6))


def test_short_sleep_is_seen():
    (event,) = clock_events(after(anchors(), 2, real_ns=20_000_000, boot_ns=20_000_000))
    assert event.kind == "suspend"
    assert event.size_s == pytest.approx(0.02, abs=1e-5)


@pytest.mark.parametrize("ppm", [-40.0, 6.0, 500.0])
def test_slew_that_begins_is_a_change_of_rate(ppm):
    found = after(anchors(), 4, raw_ppm=-ppm)
    (event,) = clock_events(found)
    assert (event.kind, event.start_ns, event.end_ns) == ("rate", 1030 * S, 1040 * S)
    assert event.change_ppm == pytest.approx(ppm, rel=0.01, abs=0.1)


def test_change_of_rate_within_what_anchors_leave_unsure_is_none():
    assert clock_events(after(anchors(), 4, raw_ppm=4.0)) == []
    wide = anchors(width_ns=100_000)  # a loaded machine: 20 ppm of 10 s
    assert clock_events(after(wide, 4, raw_ppm=15.0)) == []
    (event,) = clock_events(after(wide, 4, raw_ppm=80.0))
    assert event.kind == "rate"


def test_slow_drift_is_told_when_it_has_gathered():
    found, drifted_ns = [], 0.0
    for i, one in enumerate(anchors(30)):
        drifted_ns += i * 1e-6 * 10 * S  # 1 ppm more each time
        found.append(Anchor(one.monotonic_ns, one.monotonic_raw_ns - int(drifted_ns), one.realtime_ns,
                            one.boottime_ns, one.width_ns))  # fmt: skip
    kinds = [event.kind for event in clock_events(found)]
    assert kinds == ["rate"] * len(kinds)
    assert 4 <= len(kinds) <= 6


def test_anchors_of_two_boots_are_told():
    second = [Anchor(one.monotonic_ns + 100 * S, one.monotonic_raw_ns - 900 * S, one.realtime_ns + 900 * S,
                     one.boottime_ns - 900 * S, one.width_ns) for one in anchors()]  # fmt: skip
    assert [event.kind for event in clock_events([*anchors(), *second])] == ["boot"]
    assert clock_json([*anchors(), *second])["boots"] == 2


def recording(found, windows=()):
    t_ns = polls(1000, 1070, 10)
    power = series(channel(), t_ns, np.full(len(t_ns), 100_000))
    return Trace.of([power], anchors=found, windows=windows)


def test_window_in_which_the_machine_slept_says_so_and_is_unusable():
    found = after(anchors(), 5, real_ns=90 * S, boot_ns=90 * S)
    spans = {"in": (1035, 1055), "at": (1045, 1060), "out": (1001, 1039)}
    windows = [Window(name, a * S, b * S) for name, (a, b) in spans.items()]
    trace = recording(found, windows)
    inside, beside, outside = (channel_energy(trace, "gpu0.power.instant", window) for window in windows)
    assert inside.joules == pytest.approx(2000, rel=1e-6)  # of the time awake
    assert "PSQ-SUSPEND the machine slept for 90 s inside this window;" in " ".join(inside.reasons)
    assert "within 10 s of it" in " ".join(beside.reasons)
    assert "PSQ-SUSPEND" not in outside.codes
    assert {inside.verdict, beside.verdict} == {"unusable"}
    report = build(trace)
    assert "the machine slept once while recording, 90 s in all" in str(report)
    assert "PSQ-SUSPEND run, gpu0.power.instant" in str(report)
    told = {one["name"]: one["totals"]["verdict"] for one in report.data["windows"]}
    assert told == {"in": "unusable", "at": "unusable", "out": "unrated"}
    assert report.data["clock"]["events"][0]["size_s"] == pytest.approx(90)


def test_clock_set_while_recording_leaves_energies_and_is_told():
    still, moved = recording(anchors()), recording(after(anchors(), 3, real_ns=3600 * S))
    window = Window("w", 1010 * S, 1050 * S)
    name = "gpu0.power.instant"
    assert channel_energy(moved, name, window) == channel_energy(still, name, window)
    assert "the time of day was set once while recording, by +3,600 s" in str(build(moved))


def test_slewed_clock_is_told():
    text = str(build(recording(after(anchors(), 3, raw_ppm=-250))))
    assert "changed its rate once while recording, by +250 ppm" in " ".join(text.split())
