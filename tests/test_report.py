# SPDX-License-Identifier: Apache-2.0
import json
import re

import numpy as np
import pytest
from recordings import ENERGY, MS, POWER, S, recording, series

from powersample.errors import InvalidArgument
from powersample.model import Anchor, Channel, Kind, LaneStats, Series, Trace, Window
from powersample.report import build

WINDOWS = (
    Window("run", 0, 10 * S),
    Window("epoch 1", 2 * S, 5 * S),
    Window("killed", 8 * S, 10 * S, ("open",)),
)

REPORT = {"schema_version", "simulated", "windows", "channels", "lanes", "clock", "checks", "meta"}
WINDOW = {"name", "start_ns", "end_ns", "duration_s", "energies", "totals"}
TOTALS = {"gpu_j", "cpu_j", "dram_j", "node_j", "low_j", "high_j", "verdict"}
ENERGIES = {
    "channel",
    "device",
    "domain",
    "primary",
    "joules",
    "low_j",
    "high_j",
    "method",
    "verdict",
    "reasons",
    "budget",
}
CHANNELS = {
    "name", "kind", "unit", "asked_hz", "achieved_hz", "polls", "updates", "update_period_s",
    "averaging_window_s", "sensor_origin", "stale_share", "stuck", "errors", "skipped", "dropped", "gaps",
    "stalls",
}  # fmt: skip


def test_build_gives_the_promised_fields_as_json():
    data = json.loads(json.dumps(dict(build(recording(windows=WINDOWS)).data)))
    assert data.keys() >= REPORT
    assert data["schema_version"] == 1
    for window in data["windows"]:
        assert window.keys() >= WINDOW
        assert window["totals"].keys() >= TOTALS
        assert all(energy.keys() >= ENERGIES for energy in window["energies"])
        assert all("truth_j" not in energy for energy in window["energies"])
    assert all(channel.keys() >= CHANNELS for channel in data["channels"])
    assert data["clock"] == {
        "steps": 0, "suspends": 0, "asleep_s": 0, "rate_changes": 0, "boots": 1, "events": [],
    }  # fmt: skip


def test_build_numbers_of_a_window():
    epoch = build(recording(windows=WINDOWS)).data["windows"][1]
    by_name = {energy["channel"]: energy for energy in epoch["energies"]}
    assert by_name["gpu0.energy"]["joules"] == pytest.approx(600)
    assert by_name["gpu0.energy"]["primary"]
    assert by_name["gpu0.power.instant"]["joules"] == pytest.approx(618, rel=1e-4)
    assert epoch["totals"]["gpu_j"] == pytest.approx(600)
    assert epoch["totals"]["cpu_j"] is None
    assert by_name["gpu0.energy"]["low_j"] is None
    assert by_name["gpu0.energy"]["verdict"] == "unrated"


def test_build_channel_tells_what_its_sensor_averages_and_who_says_so():
    board = {"uuid": POWER.device, "name": "NVIDIA H100 PCIe", "architecture": "hopper"}
    trace = Trace.of([series(POWER, [0, MS], [1, 1])], meta={"devices": [board], "driver": "535.1"})
    (found,) = build(trace).data["channels"]
    assert found["averaging_window_s"] == 0.025
    assert "2312.02741" in found["sensor_origin"]["window_s"]


def test_build_without_windows_has_one_called_run():
    assert [window["name"] for window in build(recording()).data["windows"]] == ["run"]
    assert build(Trace.of([])).data["windows"] == []


def test_build_of_chosen_windows_and_of_an_unknown_one():
    trace = recording(windows=WINDOWS)
    assert [window["name"] for window in build(trace, ["epoch 1"]).data["windows"]] == ["epoch 1"]
    with pytest.raises(InvalidArgument, match="epoch 7"):
        build(trace, ["epoch 7"])


def test_build_simulated_carries_the_truth_and_says_so_first():
    report = build(recording(simulated=True, windows=WINDOWS))
    epoch = report.data["windows"][1]
    assert {energy["truth_j"] for energy in epoch["energies"]} == {600.0}
    assert "truth.gpu0.energy" not in {channel["name"] for channel in report.data["channels"]}
    for shown in (str(report), report.brief(), report.every_channel()):
        assert shown.splitlines()[0] == "SIMULATED NODE h100, not a measurement"
    lines = report.every_channel().splitlines()
    assert any("gpu0.power.instant" in line and "+3.00" in line for line in lines)


def test_text_shows_the_primary_energy_of_every_window_and_the_codes_once():
    windows = [Window(f"epoch {i}", i * S, (i + 1) * S) for i in range(8)]
    shown = str(build(recording(windows=[*windows, Window("late", 9 * S, 30 * S), Window("later", 9 * S, 30 * S)])))
    lines = [line for line in shown.splitlines() if line.startswith("epoch ")]
    assert [line.split()[1] for line in lines] == [str(i) for i in range(8)]
    assert all("200.0" in line and "unrated" in line for line in lines)
    assert len([line for line in shown.splitlines() if line.startswith("  PSQ-PARTIAL")]) == 1
    assert "more)" in shown
    assert "gpu0.temperature" not in shown
    assert "2 channels and 1 auxiliary one" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


def test_text_of_many_windows_stays_short_and_says_where_the_rest_is():
    windows = [Window(f"step {i}", i * 10 * MS, (i + 1) * 10 * MS) for i in range(300)]
    report = build(recording(windows=windows))
    assert "step x 300" in str(report)
    assert "--json has all" in str(report)
    assert "step x 300" in report.brief()
    assert "PSQ-SHORT 300 times" in str(report)


def test_text_names_program_host_time_and_boards():
    meta = {
        "command": {"program": "train"},
        "host": "node7",
        "started_unix_ns": 1_700_000_000 * S,
        "devices": [{"name": "NVIDIA H100"}, {"name": "NVIDIA H100"}],
        "driver": "550.1",
    }
    first = str(build(Trace.of([], meta=meta))).splitlines()[0]
    assert first == "train, on node7, 2023-11-14 22:13:20 UTC, 2 x NVIDIA H100, driver 550.1"


def test_text_of_every_channel_shows_energies_totals_quality_and_late_lanes_within_100_columns():
    windows = (*WINDOWS, Window("x" * 300 + "\n\x1b[31m", S, 2 * S))
    shown = build(recording(windows=windows)).every_channel()
    assert max(len(line) for line in shown.splitlines()) <= 100
    assert all(character.isprintable() or character == "\n" for character in shown)
    assert "SIMULATED" not in shown
    assert "truth" not in shown
    for words in (
        "epoch 1",
        "3.000 s",
        "600",
        "counter difference",
        "unrated",
        "total: GPU 600.0 J",
        "never ended",
    ):
        assert words in shown
    assert "skipped" in shown


def test_truth_that_the_node_voided_is_not_shown():
    node = {"profile": "h100", "truth_void": True, "truth_late": 3, "truth_late_max_ns": 4_000_000, "truth_full": True}
    trace = recording(simulated=True, windows=WINDOWS)
    assert {one["truth_j"] for one in build(trace).data["windows"][1]["energies"]} == {600.0}
    parts = [trace.series(name) for name in trace.channels]
    void = build(Trace.of(parts, windows=WINDOWS, meta={"simulated": True, "simulated_node": node}))
    assert {one["truth_j"] for window in void.data["windows"] for one in window["energies"]} == {None}
    (said,) = (one["what"] for one in void.data["checks"] if one["code"] == "PSQ-TRUTH-VOID")
    assert "3 times" in said
    assert "4 ms" in said
    assert "no room" in said


def test_text_of_a_partly_covered_window_says_part_and_why_there_is_no_total():
    report = build(recording(windows=[Window("long", 0, 16 * S)]))
    assert report.data["windows"][0]["totals"]["gpu_j"] is None
    assert report.data["windows"][0]["totals"]["covered_s"] == pytest.approx(10, abs=0.1)
    shown = str(report)
    assert "(part)" in shown
    assert "(part)" in report.brief()
    assert "PSQ-PARTIAL" in shown
    assert "(part)" not in str(build(recording(windows=WINDOWS)))


def test_text_ends_with_notes_of_marks_devices_pinning_and_rates():
    origin = "calls limited to 2 % of the lane's time"
    lane = LaneStats("nvml:gpu0", rate_hz=125.0, rate_origin=origin, cpu_errno=22)
    meta = {
        "marks_left_out": {"unknown": 2, "unmatched": 0, "other_boot": 1},
        "notes": ["CUDA_VISIBLE_DEVICES=1 selects 1 of 2 GPUs"],
    }
    shown = str(build(Trace.of([], lanes=[lane], meta=meta)))
    for words in (
        "2 lines of the marks' file are no marks",
        "1 marks are of another boot",
        "selects 1 of 2 GPUs",
        "not pinned to the CPU asked for: Invalid argument",
        "nvml:gpu0 ran at 125.0 Hz: calls limited to 2 %",
    ):
        assert words in shown
    assert "no begin" not in shown
    assert "note:" not in str(build(recording()))


def test_text_of_an_empty_recording_says_nothing_was_recorded():
    assert "Nothing was recorded" in str(build(Trace.of([])))


def test_text_of_missing_energy_is_a_dash_and_a_reason():
    report = build(recording(windows=[Window("late", 20 * S, 30 * S)]))
    assert "total: none can be told" in report.every_channel()
    for shown in (str(report), report.every_channel()):
        assert "PSQ-UNCOVERED" in shown


def test_checks_tell_of_drops_hangs_failed_channels_suspends_and_trouble():
    t_ns = np.arange(0, 20 * S, 10 * MS)
    failed = series(POWER, t_ns, np.zeros(len(t_ns)), np.full(len(t_ns), 3))
    still = series(ENERGY, t_ns, np.full(len(t_ns), 7))
    lane = LaneStats("nvml:gpu0", dropped=4, state="hung")
    anchors = [Anchor(0, 0, 0, 0, 1), Anchor(S, S, 100 * S, 50 * S, 1)]
    data = build(Trace.of([failed, still], lanes=[lane], anchors=anchors, meta={"trouble": ["disk full"]})).data
    codes = {check["code"] for check in data["checks"]}
    assert codes == {
        "PSQ-TROUBLE", "PSQ-DROPPED", "PSQ-HUNG", "PSQ-STUCK", "PSQ-ERRORS", "PSQ-SUSPEND", "PSQ-CLOCK",
    }  # fmt: skip
    assert all(check["what"] and check["fix"] for check in data["checks"])


def unread():
    """The recording above without 450 ms of polls, with a late start, failed reads, and a counter that ends early."""
    whole, parts = recording(windows=WINDOWS), []
    for name in whole.channels:
        one = whole.series(name)
        status = one.status.copy()
        keep = (one.t_ns <= 3 * S) | (one.t_ns > 3450 * MS)
        if name == POWER.name:
            status[(one.t_ns > 6 * S) & (one.t_ns < 6300 * MS)] = 15
            keep &= one.t_ns >= S
        if name == ENERGY.name:
            keep &= one.t_ns < 9 * S
        parts.append(Series(one.channel, one.t0_ns, one.t1_ns, one.raw, status, one.seq).take(keep))
    devices = [{"uuid": "GPU-0", "index": 0, "name": "NVIDIA A100", "architecture": "ampere"}]
    return Trace.of(parts, windows=whole.windows, lanes=whole.lanes, meta={"devices": devices, "driver": "535.1"})


def test_build_tells_of_each_channel_what_was_published_and_not_read():
    power, counter, _ = build(unread()).data["channels"]
    assert [(one["cause"], one["code"], one["updates_missed"]) for one in power["dropouts"]] == [
        ("late start", None, 10),
        ("dropped", None, 4),
        ("errors", 15, 3),
    ]
    assert (power["dropouts_total"], power["updates_missed"], power["updates_expected"]) == (3, 17, 100)
    assert power["updates"] + power["updates_missed"] == pytest.approx(power["updates_expected"], abs=2)
    assert (power["sensor_period_s"], power["averaging_window_s"]) == (pytest.approx(0.1), 0.025)
    assert (power["sensor_period_origin"], power["averaging_window_origin"]) == (
        "the spacing of its changes here",
        power["sensor_origin"]["window_s"],
    )
    assert counter["dropouts"][0]["energy_j"] == 0
    assert counter["dropouts"][1]["energy_j"] == pytest.approx(202)


def test_build_tells_of_each_window_what_was_published_and_not_read():
    run, epoch, _ = build(unread()).data["windows"]
    power = next(one for one in epoch["energies"] if one["channel"] == POWER.name)
    assert (power["updates_expected"], power["dropouts_total"]) == (30, 1)
    assert power["stale_share"] == pytest.approx(0.99, abs=0.01)
    assert power["dropouts"][0]["start_ns"] == 3 * S
    assert run["energies"][0]["dropouts_total"] == 2


def test_text_shows_where_a_sensors_figures_come_from_and_its_worst_dropout():
    lines = build(unread()).explained().splitlines()
    assert max(map(len, lines)) <= 100
    (row,) = [line.split() for line in lines if line.startswith("gpu0.power.instant") and "seen here" in line]
    assert row[1:] == ["0.1000", "seen", "here", "0.02500", "table", "3", "17", "206.0"]
    text = " ".join(" ".join(lines).split())
    assert "3 dropouts (1 dropped, 1 errors, 1 late start); the worst 1.000 s from 0 s on, late start" in text


def test_text_of_a_channel_read_seldom_on_purpose_speaks_of_no_loss():
    """One read in 10 s of what two other fields carry: no dropout that anybody should mend."""
    often = np.arange(0, 10 * S + 1, MS)
    usage = Channel(
        "gpu0.power.usage",
        "GPU-0",
        "gpu",
        Kind.POWER,
        "W",
        1e-3,
        lane="nvml:gpu0",
        divisor=10_000,
        sensor="nvml.power_usage",
    )
    instant = series(POWER, often, 200_000 + often // (100 * MS) % 2)
    report = build(Trace.of([instant, series(usage, [0], np.array([200_000]))]))
    found = {one["name"]: one for one in report.data["channels"]}["gpu0.power.usage"]
    assert found["carried_by"] == ["gpu0.power.instant"]
    assert found["dropouts_total"] == 1
    lines = [line for line in report.explained().splitlines() if line.startswith("gpu0.power.usage ")]
    assert lines[-1].split()[-3:] == ["-", "-", "-"]
    assert "gpu0.power.usage: 1 dropouts" not in str(report)
    assert "gpu0.power.usage: 1 dropouts" in report.every_channel()


def test_explain_lists_the_windows_dropouts():
    text = " ".join(build(unread()).explained().split())
    assert "Published and not read, 2 times: 0.4600 s from 3.000 s on, dropped, 46 updates, no energy lost" in text
    assert "1.010 s from 8.990 s on, early end, 101 updates, up to 202.0 J" in text
    assert "Published and not read, once, for 0.4600 s at most; no energy was lost." in text


def test_check_of_an_asked_rate_that_occupies_the_lane_names_its_share():
    """--rate is obeyed, and said to cost more than the automatic one would."""

    def codes(**lane):
        data = build(Trace.of([], lanes=[LaneStats("nvml:gpu0", rate_hz=1000.0, **lane)])).data
        return {check["code"]: check["what"] for check in data["checks"]}

    assert "40.0 %" in codes(rate_origin="asked", call_cost_ns=400_000.0)["PSQ-DUTY"]
    assert "PSQ-DUTY" not in codes(rate_origin="asked", call_cost_ns=15_000.0)
    assert "PSQ-DUTY" not in codes(rate_origin="highest useful", call_cost_ns=400_000.0)


# ---- windows that make no sense, and some that do ----


def test_windows_that_are_empty_turned_round_or_outside_have_no_energy_and_say_why():
    windows = [Window("empty", S, S), Window("turned", 3 * S, 2 * S), Window("outside", 60 * S, 70 * S)]
    report = build(recording(), windows)
    codes = [
        [{reason.split()[0] for reason in one["reasons"]} for one in each["energies"]]
        for each in report.data["windows"]
    ]
    assert codes == [[{"PSQ-EMPTY"}] * 2, [{"PSQ-EMPTY"}] * 2, [{"PSQ-UNCOVERED"}] * 2]
    for window in report.data["windows"]:
        assert [(one["joules"], one["verdict"], one["primary"]) for one in window["energies"]] == [
            (None, "unusable", False)
        ] * 2
        assert window["totals"]["gpu_j"] is None
    assert "None" not in str(report)
    assert "nan" not in report.explained()


def test_windows_that_overlap_are_each_told_by_themselves():
    """Their energies are not to be added, and nothing is shared out between them."""
    windows = [Window("a", 2 * S, 6 * S), Window("b", 4 * S, 8 * S), Window("inner", 5 * S, int(5.5 * S))]
    together = build(recording(), windows).data["windows"]
    alone = [build(recording(), [window]).data["windows"][0] for window in windows]
    assert together == alone
    assert [one["totals"]["gpu_j"] for one in together] == pytest.approx([800, 800, 100], rel=0.04)


def test_window_before_the_record_and_one_across_its_end_count_what_is_there_or_nothing():
    before, across = build(recording(), [Window("before", -9 * S, -S), Window("across", 8 * S, 11 * S)]).data["windows"]
    assert before["energies"][0]["joules"] is None
    assert [one["cause"] for one in before["energies"][0]["dropouts"]] == ["late start"]
    assert across["energies"][0]["joules"] == pytest.approx(400, rel=0.01)
    assert [one["cause"] for one in across["energies"][0]["dropouts"]] == ["early end"]
    assert across["totals"]["gpu_j"] is None


def test_report_tells_a_packages_dram_and_a_gpus_module_apart_in_the_device_column():
    t_ns = np.arange(0, 10 * S, 10 * MS)
    parts = []
    for name, device, domain in (
        ("package-0.energy", "package-0", "package"),
        ("package-0.dram.energy", "package-0", "dram"),
        ("gpu0.energy", "GPU-0", "gpu"),
        ("gpu0.module.power.instant", "GPU-0", "module"),
    ):
        kind = Kind.ENERGY if name.endswith("energy") else Kind.POWER
        raw = t_ns // MS * 100 if kind is Kind.ENERGY else np.full(len(t_ns), 100_000)
        unit = "J" if kind is Kind.ENERGY else "W"
        parts.append(series(Channel(name, device, domain, kind, unit, 1e-3), t_ns, raw))
    lines = str(build(Trace.of(parts))).splitlines()[2:6]
    devices = {re.split(r"\s{2,}", line.strip())[0] for line in lines}
    assert devices == {"package-0", "package-0 dram", "gpu0", "gpu0 module"}
