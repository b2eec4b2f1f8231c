# SPDX-License-Identifier: Apache-2.0
"""Answers that released tools give, and that no reading of the same polls may give here.

Each case is asked with a sensor that nobody knows and with sensors that the table knows. What an averaging sensor shows
of a load is worked out from the load's exact integral.
"""

import numpy as np
import pytest
from traces import MS, S, channel, polls, series, shown

from powersample import store
from powersample.analysis import channel_energy, dropouts, pace, run_window, totals, window_energies
from powersample.model import Kind, Response, SensorModel, Trace, Window
from powersample.report import build

MODELS = {
    "unknown": None,
    "point": SensorModel(Response.POINT, 0.01),
    "part-time": SensorModel(Response.PART_TIME, 0.1, 0.025),
    "fast part-time": SensorModel(Response.PART_TIME, 0.02, 0.01),
    "contiguous": SensorModel(Response.CONTIGUOUS, 0.1, 0.1),
    "average": SensorModel(Response.AVERAGE, 0.1, 1.0),
}
A100 = {"devices": [{"uuid": "GPU-0", "name": "NVIDIA A100-PCIE-40GB", "architecture": "ampere"}], "driver": "535.1"}
COUNTERS = ("", "nvml.total_energy", "powercap")


def power(kind, start_s, end_s, knots_s, watts):
    """A trace of one power, polled every 5 ms."""
    t_ns, model = polls(start_s, end_s, 5), MODELS[kind]
    meta = {} if model is None else {"sensor_models": {"gpu0.power.instant": model.as_json()}}
    return Trace.of([series(channel(), t_ns, shown(model, t_ns, knots_s, watts))], meta=meta)


def holds(found, joules, wrong):
    """Whether an energy is the right one, and its interval holds it and not the wrong one."""
    if found.low_j is None:
        return True
    return found.low_j <= joules <= found.high_j and not found.low_j <= wrong <= found.high_j


@pytest.mark.parametrize("kind", MODELS)
def test_constant_100_w_for_3_s_is_300_j_and_not_0(kind):
    """A poller that keeps only changes has one sample, and integrates nothing."""
    found = channel_energy(power(kind, -3, 6, [-100], [100]), "gpu0.power.instant", Window("w", 0, 3 * S))
    assert found.joules == pytest.approx(300, rel=1e-9)
    assert holds(found, 300, 0)


@pytest.mark.parametrize("sensor", ["", "nvml.field.186", "nvml.field.185", "nvml.power_usage"])
@pytest.mark.parametrize("meta", [{}, A100], ids=["unknown board", "a100"])
def test_constant_100_w_for_3_s_without_a_poll_more_is_300_j_and_not_0(sensor, meta):
    t_ns = polls(0, 3, 10)
    trace = Trace.of([series(channel(sensor=sensor), t_ns, np.full(len(t_ns), 100_000))], meta=meta)
    found = channel_energy(trace, "gpu0.power.instant", run_window(trace))
    assert found.joules == pytest.approx(300, rel=1e-9)
    assert holds(found, 300, 0)
    assert ("PSQ-CONSTANT" in found.codes) == bool(sensor)
    assert "PSQ-STUCK" not in found.codes


@pytest.mark.parametrize("kind", MODELS)
def test_plateau_of_9_9_s_then_0_1_s_at_300_w_is_1020_j_and_not_2010(kind):
    """A poller that drops repeats and joins what is left draws a ramp across the plateau."""
    trace = power(kind, -3, 13, [-100, 9.9, 10.0], [100, 300, 100])
    found = channel_energy(trace, "gpu0.power.instant", Window("w", 0, 10 * S))
    assert found.joules == pytest.approx(1020, abs=10)
    assert holds(found, 1020, 2010)


@pytest.mark.parametrize("sensor", COUNTERS)
def test_counter_of_9_9_s_at_100_w_then_0_1_s_at_300_w_is_1020_j(sensor):
    t_ns = polls(-0.5, 10.5, 10)
    mj = np.where(t_ns < 9.9 * S, t_ns // MS * 100, 990_000 + (t_ns - int(9.9 * S)) // MS * 300)
    trace = Trace.of([series(channel("gpu0.energy", Kind.ENERGY, sensor=sensor), t_ns, mj - mj[0])])
    found = channel_energy(trace, "gpu0.energy", Window("w", 0, 10 * S))
    assert found.joules == pytest.approx(1020, rel=1e-9)
    assert holds(found, 1020, 2010)


@pytest.mark.parametrize("kind", MODELS)
def test_four_gpus_are_summed_to_2000_j_and_not_averaged_to_500(kind):
    """100 + 200 + 300 + 400 W for 2 s; a tool that divides by the number of GPUs says 500 J."""
    t_ns, model, parts, models = polls(-3, 5, 5), MODELS[kind], [], {}
    for gpu in range(4):
        name = f"gpu{gpu}.power.instant"
        watts = [100 * (gpu + 1)]
        parts.append(series(channel(name, device=f"GPU-{gpu}"), t_ns, shown(model, t_ns, [-100], watts)))
        models |= {} if model is None else {name: model.as_json()}
    trace, window = Trace.of(parts, meta={"sensor_models": models}), Window("w", 0, 2 * S)
    (measured,) = window_energies(trace, [window])
    assert totals(measured, window)["gpu_j"] == pytest.approx(2000)
    (told,) = build(trace, [window]).data["windows"]
    assert told["totals"]["gpu_j"] == pytest.approx(2000)
    if model is not None:
        assert told["totals"]["low_j"] <= 2000 <= told["totals"]["high_j"]
        assert told["totals"]["low_j"] > 500


@pytest.mark.parametrize("sensor", COUNTERS)
@pytest.mark.parametrize(
    ("steps_j", "wrong"), [([10, 200, 200, 200, 200], 715), ([200, 200, 200, 200, 10], 905)], ids=["first", "last"]
)
def test_rapl_10_j_and_4_times_200_j_are_810_and_neither_715_nor_905(steps_j, wrong, sensor):
    """Who takes a counter's steps for powers and draws lines between them loses half a step at either end."""
    counter = channel("package-0.energy", Kind.ENERGY, "package-0", "package", sensor=sensor)
    raw = np.concatenate(([0], np.cumsum(steps_j))) * 1000
    trace = Trace.of([series(counter, np.arange(6) * S, raw)])
    found = channel_energy(trace, "package-0.energy", Window("w", 0, 5 * S))
    assert found.joules == pytest.approx(810)
    assert found.joules != pytest.approx(wrong, abs=50)


@pytest.mark.parametrize("sensor", COUNTERS)
@pytest.mark.parametrize("failed", [1, 2, 3])
def test_one_failed_counter_read_of_four_is_200_j_and_not_100(sensor, failed):
    """50 J a second: who drops the difference across the failed read says 100 J; its 0 is no wrap."""
    counter = channel("gpu0.energy", Kind.ENERGY, sensor=sensor)
    raw, status = np.arange(5) * 50_000, np.zeros(5, np.uint16)
    raw[failed], status[failed] = 0, 9
    found = channel_energy(
        Trace.of([series(counter, np.arange(5) * S, raw, status)]), "gpu0.energy", Window("w", 0, 4 * S)
    )
    assert found.joules == pytest.approx(200)
    assert "PSQ-ERRORS" in found.codes
    assert "PSQ-RESET" not in found.codes


@pytest.mark.parametrize("kind", MODELS)
@pytest.mark.parametrize("uptime_s", [86_400, 400 * 86_400])
def test_stamps_of_1_khz_after_a_day_are_1_ms_apart_and_not_0_or_7_8(tmp_path, kind, uptime_s):
    """float32 seconds are 7.8 ms apart after a day, float64 nanoseconds 2 us apart after 400."""
    model = MODELS[kind]
    t_ns = uptime_s * S + np.arange(4001, dtype=np.int64) * MS + 1
    meta = {} if model is None else {"sensor_models": {"gpu0.power.instant": model.as_json()}}
    trace = Trace.of([series(channel(), t_ns, shown(model, t_ns, [uptime_s - 10], [100]))], meta=meta)
    store.save(trace, tmp_path / "day.parquet")
    again = store.load(tmp_path / "day.parquet")
    assert np.array_equal(np.unique(np.diff(again.series("gpu0.power.instant").t_ns)), [MS])
    assert pace(again, "gpu0.power.instant").poll_ns == MS
    assert dropouts(again, "gpu0.power.instant") == ()
    first_ns = int(t_ns[2000])
    found = channel_energy(again, "gpu0.power.instant", Window("w", first_ns, first_ns + 7 * MS))
    assert found.joules == pytest.approx(0.7, rel=1e-9)
