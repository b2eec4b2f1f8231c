# SPDX-License-Identifier: Apache-2.0
"""Files of other tools as traces: guesses, times, windows, audits, the verb; and published traces where they are."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from test_formats import CARBON, ECNAS, SMI, mllog_line, pmd_frames
from traces import MS, S, channel, polls, series

from powersample.analysis import channel_energy, pace
from powersample.errors import AccessDenied, BadFormat, InputNotFound, InvalidArgument
from powersample.model import Anchor, RunRow, RunTable, Trace, Window
from powersample.readers import guess, instant_ns, read, read_windows
from powersample.report import audit, build

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured"
needs_measured = pytest.mark.skipif(not MEASURED.exists(), reason="the published traces (../shared/data) are not here")


@pytest.fixture
def smi(tmp_path):
    path = tmp_path / "smi.csv"
    lines = [f"2026/11/25 20:00:{t // 10:02}.{t % 10}00, {200 + t // 10 % 2}.00 W" for t in range(600)]
    path.write_text("timestamp, power.draw.instant [W]\n" + "\n".join(lines) + "\n")
    return path


def report(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "powersample.cli", "report", *map(str, arguments)], capture_output=True, text=True
    )


# ---- guesses ----


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("smi.csv", SMI.encode(), "nvidia-smi"),
        ("PMD_data.bin", pmd_frames(300), "pmd"),
        ("ac.txt", mllog_line("power_reading", 0, 1).encode(), "mllog"),
        ("runs.jsonl", json.dumps(ECNAS).encode(), "ecnas"),
        ("emissions.csv", CARBON.encode(), "codecarbon"),
        ("log.csv", b"t_s,power_w\n0,1\n", "csv"),
        ("other.csv", b"time,watts\n0,1\n", None),
        ("photo", b"\x89PNG\r\n\x1a\n\x00\x00", None),
        ("empty", b"", None),
    ],
)
def test_guess_only_what_is_certain(tmp_path, name, data, expected):
    (tmp_path / name).write_bytes(data)
    assert guess(tmp_path / name) == expected


def test_read_what_is_not_certain_asks_for_the_format(tmp_path):
    (tmp_path / "x").write_bytes(b"time,watts\n0,1\n1,1\n")
    with pytest.raises(BadFormat, match="not certain"):
        read(tmp_path / "x")
    trace = read(tmp_path / "x", columns={"time": "t_s", "watts": "power_w"})
    assert list(trace.channels) == ["power"]
    with pytest.raises(InvalidArgument, match="no format"):
        read(tmp_path / "x", format="excel")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "x is empty. Was it cut short"),
        (b"\x89PNG\r\n\x1a\n\x00\x00" * 900, "it is no text, no stream of a PMD-USB"),
        ("t_s,power_w\n0,1\n".encode("utf-16"), "it is UTF-16, as PowerShell's > writes. Write it anew as UTF-8."),
        (
            b"NVIDIA-SMI has failed because it couldn't communicate\n",
            "x is no log: nvidia-smi itself failed (NVIDIA-SMI",
        ),
        (b"No devices were found\n", "Log again once `nvidia-smi` works."),
        (b"timestamp, utilization.gpu [%]\n", "nvidia-smi: no column is a power: add power.draw"),
        (b"timestamp;power.draw [W]\n", "nvidia-smi: its columns are separated by semicolons"),
        (b"seconds,power_w\n", "csv: no column of time (one of t_s, t_ms, t_us, t_ns, time_iso; or `time (s)`)"),
        (b"t_s\tutil\n", "separated by tabs, its columns are 't_s', 'util'"),
        (b"timestamp,duration\n", "codecarbon: no column energy_consumed"),
        (b"hello\n", "mllog: no line has :::MLLOG ptdaemon: its first line is not Time,"),
    ],
)
def test_read_says_why_each_format_does_not_fit(tmp_path, data, words):
    (tmp_path / "x").write_bytes(data)
    with pytest.raises(BadFormat) as caught:
        read(tmp_path / "x")
    assert words in " ".join(str(caught.value).split())
    assert len(str(caught.value)) < 1200


def smi_log(tmp_path, stamps, cells=None):
    path = tmp_path / "smi.csv"
    rows = [f"{one}, {cell}" for one, cell in zip(stamps, cells or ["200.00 W"] * len(stamps), strict=True)]
    path.write_text("timestamp, power.draw.instant [W]\n" + "\n".join(rows) + "\n")
    return read(path, gpu="NVIDIA A100-PCIE-40GB")


def stamp(second_of_day):
    minutes, second = divmod(second_of_day, 60)
    return f"2026/10/25 {minutes // 60:02}:{minutes % 60:02}:{second:02}.000"


def test_smi_log_across_the_end_of_daylight_saving_keeps_all_of_it(tmp_path):
    """02:50 to 02:59:59, and again from 02:00: an hour back, and not half of the log lost."""
    stamps = [stamp(2 * 3600 + 50 * 60 + s) for s in range(600)] + [stamp(2 * 3600 + s) for s in range(600)]
    trace = smi_log(tmp_path, stamps)
    one = trace.series("gpu0.power.instant")
    assert one.good.sum() == 1200
    assert np.all(np.diff(one.t_ns) == S)
    found = channel_energy(trace, "gpu0.power.instant", Window("w", trace.start_ns, trace.end_ns))
    assert found.joules == pytest.approx(200 * 1199, rel=1e-3)
    (check,) = [one for one in build(trace).data["checks"] if one["code"] == "PSQ-CLOCK"]
    assert check["level"] == "info"
    assert "back by an hour: daylight saving ended" in check["what"]


@pytest.mark.parametrize("back_s", [12, 3700, 1800])
def test_smi_log_whose_clock_was_set_back_otherwise_says_what_that_costs(tmp_path, back_s):
    stamps = [stamp(7200 + s) for s in range(4000)] + [stamp(7200 + 4000 - back_s + s) for s in range(back_s + 100)]
    trace = smi_log(tmp_path, stamps)
    (check,) = [one for one in build(trace).data["checks"] if one["code"] == "PSQ-CLOCK"]
    assert check["level"] == "warning"
    assert f"{back_s} readings until it had caught up are left out" in check["what"]
    assert "PSQ-ORDER" in channel_energy(trace, "gpu0.power.instant", Window("w", trace.start_ns, trace.end_ns)).codes


def test_smi_log_with_a_pause_of_an_hour_keeps_the_pause(tmp_path):
    stamps = [stamp(7200 + s) for s in range(60)] + [stamp(7200 + 3660 + s) for s in range(60)]
    trace = smi_log(tmp_path, stamps)
    assert trace.end_ns - trace.start_ns == 3719 * S
    assert not [one for one in build(trace).data["checks"] if one["code"] == "PSQ-CLOCK"]


@pytest.mark.parametrize(("bad", "whole"), [(3, True), (30, False)])
def test_bad_cells_of_a_slow_log_are_bridged_and_the_total_is_whole_while_they_are_few(tmp_path, bad, whole):
    """One line a second: a cell that is no number hides an update, and its neighbours stand for it."""
    rng = np.random.default_rng(2)
    lost = set(rng.choice(np.arange(2, 118), bad, replace=False).tolist())
    cells = ["[Unknown Error]" if i in lost else f"{200 + i % 2}.00 W" for i in range(120)]
    trace = smi_log(tmp_path, [stamp(7200 + s) for s in range(120)], cells)
    report_ = build(trace)
    (window,) = report_.data["windows"]
    (one,) = window["energies"]
    assert one["whole"] is whole
    assert (window["totals"]["gpu_j"] is not None) is whole
    assert ("(bridged)" in str(report_)) is not whole
    assert one["bridged_s"] > 0
    assert f"(code 999, unknown error: {bad})" in " ".join(one["reasons"])
    assert "gaps" in {term["term"] for term in one["budget"] if term["value_j"] > 0}


def test_read_of_missing_or_unreadable_files(tmp_path):
    with pytest.raises(InputNotFound):
        read(tmp_path / "nothing")
    with pytest.raises((AccessDenied, BadFormat, InputNotFound)):
        read(tmp_path / "nothing" / "below")


def test_read_smi_with_card_and_driver_knows_its_sensor(smi):
    trace = read(smi, gpu="NVIDIA A100-PCIE-40GB", driver="535.54.03")
    assert trace.meta["devices"][0]["architecture"] == "ampere"
    found = channel_energy(trace, "gpu0.power.instant", Window("w", trace.start_ns + 5 * S, trace.start_ns + 50 * S))
    assert found.joules == pytest.approx(45 * 200.5, rel=1e-3)
    assert "PSQ-UNKNOWN" not in found.codes
    assert (
        "PSQ-UNKNOWN"
        in channel_energy(read(smi), "gpu0.power.instant", Window("w", trace.start_ns, trace.end_ns)).codes
    )


def test_read_pmd_takes_its_start_from_the_file_beside_it(tmp_path):
    (tmp_path / "PMD_data.bin").write_bytes(pmd_frames(300))
    assert read(tmp_path / "PMD_data.bin").start_ns == 0
    (tmp_path / "PMD_start_ts.txt").write_text("1688840908000000\n")
    assert read(tmp_path / "PMD_data.bin").start_ns == 1688840908 * S
    (tmp_path / "PMD_start_ts.txt").write_text("noon")
    with pytest.raises(BadFormat, match="noon"):
        read(tmp_path / "PMD_data.bin")


# ---- times and windows ----


def test_instant_by_seconds_and_by_time_of_day(smi):
    trace = read(smi)
    assert instant_ns("1.5", trace) == trace.start_ns + 3 * S // 2
    assert instant_ns("2026-11-25T20:00:02", trace) == trace.start_ns + 2 * S
    with pytest.raises(InvalidArgument, match="zone"):
        instant_ns("2026-11-25T20:00:02Z", trace)
    with pytest.raises(InvalidArgument, match="neither"):
        instant_ns("soon", trace)


def test_instant_of_our_own_trace_goes_through_its_anchors():
    t_ns = polls(0, 1, 10)
    anchor = Anchor(0, 0, 1_700_000_000 * S, 0, 0)
    trace = Trace.of([series(channel(), t_ns, t_ns)], anchors=[anchor])
    assert instant_ns("2023-11-14T22:13:20.5+00:00", trace) == S // 2
    bare = Trace.of([series(channel(), t_ns, t_ns)])
    with pytest.raises(InvalidArgument, match="time of day"):
        instant_ns("2023-11-14T22:13:20", bare)


def test_windows_file_names_line_and_trouble(tmp_path, smi):
    trace = read(smi)
    path = tmp_path / "w.csv"
    path.write_text("name,start,end\nwarm up,0,5\n\nepoch,2026-11-25T20:00:05,30\n")
    found = read_windows(path, trace)
    assert [(one.name, one.duration_s) for one in found] == [("warm up", 5.0), ("epoch", 25.0)]
    for text, message in (
        ("start,end\n", "line 1"),
        ("name,start,end\nx,5,1\n", "line 2: 'x' ends before"),
        ("name,start,end\nx,5\n", "line 2: 2 cells"),
        ("name,start,end\nx,5,later\n", "line 2: 'later'"),
    ):
        path.write_text(text)
        with pytest.raises(BadFormat, match=message):
            read_windows(path, trace)


# ---- the verb ----


def test_report_of_a_smi_log_explains_itself(smi):
    done = report(
        smi, "--gpu", "NVIDIA A100-PCIE-40GB", "--driver", "535.54", "--start", "5", "--end", "50", "--explain"
    )
    assert done.returncode == 0, done.stderr
    assert "95 times in 100" in done.stdout
    assert "gain" in done.stdout
    assert "averages 25 ms" in done.stdout
    assert max(map(len, done.stdout.splitlines())) <= 110


def test_report_of_windows_from_a_file_as_json(tmp_path, smi):
    (tmp_path / "w.csv").write_text("name,start,end\na,0,10\nb,10,20\nout,1000,1001\n")
    done = report(smi, "--windows", tmp_path / "w.csv", "--json")
    windows = json.loads(done.stdout)["windows"]
    assert [one["name"] for one in windows] == ["a", "b", "out"]
    assert windows[1]["energies"][0]["low_j"] < 2005 < windows[1]["energies"][0]["high_j"]
    assert windows[2]["energies"][0]["joules"] is None
    assert windows[2]["energies"][0]["verdict"] == "unusable"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--start", "50", "--end", "5"), "--end 5 does not come after --start 50; "),
        (("--start", "1e6"), "the last sample does not come after --start 1e6; "),
        (("--start", "soon"), "neither"),
        (("--windows", "no-such-file", "--start", "1"), "exclude"),
        (("--columns", "t"), "NAME=MEANING"),
        (("--format", "mllog"), "neither power readings"),
    ],
)
def test_report_of_wrong_arguments_says_what_to_do(smi, arguments, message):
    done = report(smi, *arguments)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr


# ---- audits ----


def table(*rows, **more):
    return RunTable("tool", None, rows, **more)


def codes(found):
    return [check["code"] for check in found.data["checks"] if check["level"] != "info"]


def test_audit_finds_a_constant_factor_inside_the_total():
    rows = [RunRow("r", None, 100.0, {"gpu": 1000.0 * i}, 1590.0 * i, {"gpu": 10.0 * i}) for i in (1, 2, 3)]
    found = audit(table(*rows))
    assert codes(found) == ["PSA-PUE"]
    assert found.data["factor"]["median"] == pytest.approx(1.59)
    assert "1.59 times" in str(found)


def test_audit_recognises_watt_hours_called_kilowatt_hours():
    """EA-HAS-Bench's tracer: mean power x time / 3600 are Wh, and are called kWh."""
    joules = 250.0 * 600.0 / 3600 * 3.6e6
    found = audit(table(RunRow("r", None, 600.0, {"gpu": joules}, joules, {"gpu": 250.0})))
    assert codes(found) == ["PSA-UNIT"]
    assert "EA-HAS-Bench" in str(found)


def test_audit_counts_the_samples_an_epoch_can_hold():
    rows = [RunRow("r", None, seconds, {"gpu": 1.0}, 1.0, {}, epochs=4.0) for seconds in (40.0, 4000.0)]
    found = audit(table(*rows, sample_s=10.0))
    assert found.data["samples_per_epoch"] == {"min": 1.0, "median": 50.5, "max": 100.0, "few_share": 0.5}
    assert "PSA-SAMPLES" in codes(found)


def test_audit_missing_energies_are_missing():
    found = audit(table(RunRow("r", None, None), RunRow("s", None, 1.0, {}, None, {}, mode="process")))
    assert found.data["published_j"] is None
    assert codes(found) == ["PSA-MISSING"]
    json.dumps(found.data, allow_nan=False)


def test_report_of_a_table_of_runs_is_an_audit(tmp_path):
    (tmp_path / "runs.jsonl").write_text(json.dumps(ECNAS))
    assert "published figures, no samples" in report(tmp_path / "runs.jsonl").stdout
    assert json.loads(report(tmp_path / "runs.jsonl", "--json").stdout)["runs"] == 1


# ---- what others published ----


@needs_measured
def test_measured_mlperf_tiny_windows_agree_with_the_published_energies():
    trace = read(MEASURED / "mlperf_tiny_v1.2/nucleo_l4r5zi_kws/trace1-energy.bin")
    published = ((2.770, 15.721, 546509.70), (17.562, 30.507, 546136.25), (61.912, 74.838, 545719.15))
    for start_s, end_s, uj in published:
        found = channel_energy(trace, "board.power", Window("w", round(start_s * S), round(end_s * S)))
        assert found.joules * 1e6 == pytest.approx(uj, rel=2e-4)


@needs_measured
def test_measured_v100_log_has_an_update_period_of_20_ms():
    trace = read(MEASURED / "gpu_power_benchmark/update_v100_gpudata.csv", gpu="Tesla V100-PCIE-16GB")
    assert pace(trace, "gpu0.power.instant").period_ns / MS == pytest.approx(20, abs=1)


@needs_measured
@pytest.mark.parametrize(
    ("name", "gpu", "joules"),
    [("square_3090", "NVIDIA GeForce RTX 3090", 2693.44), ("step_a100", "NVIDIA A100-PCIE-40GB", 1711.60)],
)
def test_measured_smi_intervals_hold_the_meters_energy(name, gpu, joules):
    """The log is an hour ahead of UTC, the meter's start 50 ms behind its stamp, as its publishers say."""
    meter = read(MEASURED / f"gpu_power_benchmark/{name}/PMD_data.bin")
    log = read(MEASURED / f"gpu_power_benchmark/{name}/gpudata.csv", gpu=gpu, driver="535.54.03")
    span = Window("w", meter.start_ns, meter.end_ns)
    metered = channel_energy(meter, "pmd.power", span).joules
    assert metered == pytest.approx(joules, rel=1e-3)
    shifted = Window("w", span.start_ns + 3600 * S - 50 * MS, span.end_ns + 3600 * S - 50 * MS)
    for channel_ in log.channels:
        found = channel_energy(log, channel_, shifted)
        assert found.low_j < metered < found.high_j


@needs_measured
def test_measured_ecnas_and_codecarbon_audits():
    assert audit(read(MEASURED / "ecnas/ecnas_4V9E_4epochs.jsonl")).data["factor"]["median"] == pytest.approx(
        1.59, rel=1e-3
    )
    assert "PSA-MEAN" in codes(audit(read(MEASURED / "codecarbon/emissions_example.csv")))


def test_power_of_a_meter_is_a_trapezoid_with_an_interval(tmp_path):
    """A triangle: the trapezoid is exact, and the interval is about its corners."""
    t = np.arange(0, 10.01, 0.01)
    watts = 100 + 50 * np.abs(t % 2 - 1)
    path = tmp_path / "m.csv"
    path.write_text("t_s,power_w\n" + "\n".join(f"{a:.3f},{b:.6f}" for a, b in zip(t, watts, strict=True)))
    trace = read(path)
    found = channel_energy(trace, "power", Window("w", 2 * S, 8 * S))
    assert found.joules == pytest.approx(6 * 125, rel=1e-6)
    assert found.low_j < 750 < found.high_j
    assert found.method == "trapezoid"
