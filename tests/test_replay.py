# SPDX-License-Identifier: Apache-2.0
"""A recorded power as the truth of a simulated node: our own traces, CSV files, and published measurements."""

import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from traces import S, channel, series

import powersample as ps
from powersample import errors, store
from powersample.model import Kind, Trace
from powersample.session.replay import read_replays
from powersample.session.simulate import apply_load
from powersample.sim import Node

MEASURED = Path(__file__).resolve().parents[2] / "shared" / "data" / "measured" / "gpu_power_benchmark"


def gpu(number, kind=Kind.POWER, word="power.instant", **more):
    return channel(f"gpu{number}.{word}", kind, f"GPU-{number}", **more)


def saved(tmp_path, *all_series):
    store.save(Trace.of(list(all_series)), tmp_path / "recorded.parquet")
    return tmp_path / "recorded.parquet"


def test_replay_of_a_counter_is_the_power_between_its_changes(tmp_path):
    """100 W, then 300 W; the counter moves each 0.1 s, is read each 10 ms, begins anew once and fails once."""
    t_ns = 7 * S + np.arange(300) * S // 100
    mj = np.where(t_ns < 8 * S, (t_ns - 7 * S) // (S // 10) * 10_000, 100_000 + (t_ns - 8 * S) // (S // 10) * 30_000)
    mj = np.where(t_ns >= 9 * S, mj - 300_000, mj)
    status = np.zeros(300, np.uint16)
    status[55] = 15
    path = saved(tmp_path, series(gpu(0, Kind.ENERGY, "energy"), t_ns, mj, status))
    (one,) = read_replays(path)
    assert one.source == "gpu0.energy of recorded.parquet"
    assert one.simulated is False
    assert np.round(one.watts).tolist() == [100] * 10 + [300] * 18
    with Node("a100") as node:
        start = node.load_trace(0, one.t_ns, one.watts)
        assert node.truth_j(0, start, start + 28 * S // 10) == pytest.approx(100 + 1.8 * 300, abs=0.01)


def test_replay_prefers_power_and_gives_each_gpu_its_own(tmp_path):
    t_ns = np.arange(100) * S // 100
    path = saved(
        tmp_path,
        series(gpu(0), t_ns, np.repeat([100_000, 250_000], 50)),
        series(gpu(0, Kind.ENERGY, "energy"), t_ns, np.arange(100) * 5),
        series(gpu(0, word="power.average"), t_ns, np.full(100, 7)),
        series(gpu(1, word="power.usage"), t_ns, np.full(100, 60_000)),
        series(channel("gpu1.module.power.instant", Kind.POWER, "GPU-1", "module"), t_ns, np.full(100, 999_000)),
    )
    first, second = read_replays(path)
    assert (first.t_ns.tolist(), first.watts.tolist()) == ([0, S // 2], [100.0, 250.0])
    assert (second.t_ns.tolist(), second.watts.tolist()) == ([0], [60.0])
    with Node("h100", gpus=3) as node:
        apply_load(node, f"trace:{path}", 0)
        later = time.monotonic_ns() + 5 * S
        assert [node.truth_power_w(number, later)[0] for number in range(3)] == [250, 60, 250]
        assert node.truth_state()["load"] == (
            "replay of gpu0.power.instant of recorded.parquet; gpu1.power.usage of recorded.parquet"
        )


def test_replay_of_a_csv_and_of_what_is_no_recording(tmp_path):
    (tmp_path / "load.csv").write_text("seconds,watts\n5,100\n5.5,200.5\n")
    (one,) = read_replays(tmp_path / "load.csv")
    assert (one.t_ns.tolist(), one.watts.tolist(), one.source) == ([0, S // 2], [100.0, 200.5], "load.csv")
    with pytest.raises(errors.InputNotFound, match=r"nowhere\.csv"):
        read_replays(tmp_path / "nowhere.csv")
    t_ns = np.arange(10) * S
    failed = series(gpu(0), t_ns, np.zeros(10), np.full(10, 15))
    still = series(gpu(1, Kind.ENERGY, "energy"), t_ns, np.full(10, 5))
    with pytest.raises(errors.BadFormat, match="no GPU power"):
        read_replays(saved(tmp_path, failed, still))


def test_replay_of_a_simulated_recording_says_so(tmp_path):
    with ps.measure(simulate="v100", output=tmp_path / "first.parquet"):
        time.sleep(0.1)
    with ps.measure(simulate="h100", load=f"trace:{tmp_path / 'first.parquet'}") as run:
        time.sleep(0.1)
    said = "replay of gpu0.power.instant of first.parquet, itself simulated"
    assert run.trace.meta["simulated_node"]["load"] == said
    assert str(run.report()).splitlines()[:2] == ["SIMULATED NODE h100, not a measurement", f"load: {said}"]


# ---- published measurements ----


@pytest.fixture(scope="module")
def step_a100():
    folder = MEASURED / "step_a100"
    if not folder.is_dir():
        pytest.skip(f"no published measurements here: {folder}")
    return folder


def smi_log(folder):
    """Return (UTC ns, power.draw.instant in W) of the nvidia-smi log, whose clock is an hour ahead of UTC."""
    rows = [line.split(", ") for line in (folder / "gpudata.csv").read_text().splitlines()]
    column = next(i for i, name in enumerate(rows[0]) if name.startswith("power.draw.instant"))
    when = [
        datetime.strptime(row[0], "%Y/%m/%d %H:%M:%S.%f").replace(tzinfo=UTC) - timedelta(hours=1) for row in rows[1:]
    ]
    t_ns = np.array([round(one.timestamp() * 1000) * 1_000_000 for one in when], np.int64)
    return t_ns, np.array([float(row[column]) for row in rows[1:]])


def wired_meter(folder):
    """Return (UTC ns, W) of the meter's 4.8 kHz stream: nine words a sample, values in their upper 12 bits."""
    words = np.fromfile(folder / "PMD_data.bin", "<u2").reshape(-1, 9)
    ticks = np.concatenate(([0], np.cumsum(np.diff(words[:, 0]).astype(np.int64))))
    values = np.maximum(words[:, 1:].astype(np.int16) >> 4, 0)
    watts = (values[:, ::2] * 7.568e-3 * values[:, 1::2] * 48.8e-3).sum(axis=1)
    start_us = int((folder / "PMD_start_ts.txt").read_text()) - 50_000
    return start_us * 1000 + np.rint(ticks / 2933.5 * 1e6).astype(np.int64), watts


def test_measured_log_replayed_is_the_truth_to_the_milliwatt(step_a100):
    t_ns, watts = smi_log(step_a100)
    with Node("a100") as node:
        start = node.load_trace(0, t_ns, watts)
        span = int(t_ns[-1] - t_ns[0])
        held_j = float(np.sum(np.diff(t_ns) * 1e-9 * watts[:-1]))
        assert node.truth_j(0, start, start + span) == pytest.approx(held_j, rel=1e-9)


def test_measured_truth_through_the_simulated_sensor_is_what_the_real_one_said(step_a100):
    """The board's real power by a wired meter, replayed: our A100's readings follow the log of the real A100's.

    Its published gain and offset, 0.954 and -1.2 W, are the line between the two.
    """
    meter_ns, meter_w = wired_meter(step_a100)
    log_ns, log_w = smi_log(step_a100)
    inside = (log_ns > meter_ns[0] + S // 2) & (log_ns < meter_ns[-1])
    log_ns, log_w = log_ns[inside], log_w[inside]
    with Node("a100") as node:
        start = node.load_trace(0, meter_ns, meter_w)
        simulated_w = node.sensor_values(0, "instant", start + log_ns - meter_ns[0])
    gain, offset_w = np.polyfit(simulated_w, log_w, 1)
    assert np.corrcoef(simulated_w, log_w)[0, 1] > 0.98
    assert gain == pytest.approx(0.954, abs=0.03)
    assert offset_w == pytest.approx(-1.2, abs=3.0)
    assert log_w.mean() / simulated_w.mean() == pytest.approx(0.943, abs=0.01)  # the published energies' ratio
