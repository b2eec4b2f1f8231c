# SPDX-License-Identifier: Apache-2.0
"""What can be told of a sensor from a trace, against sensors that are known: simulated boards, and published logs."""

from pathlib import Path

import numpy as np
import pytest
from traces import MS, S, channel, polls, published, series

from powersample._native import api_sim
from powersample.errors import DeviceNotFound, InvalidArgument
from powersample.experiments.characterize import FRACTIONS, OFF, sensors_of, truth_of
from powersample.fit import Reference, characterize, disagreements
from powersample.fit.characterize import rise_s
from powersample.model import Channel, Kind, Response, SensorModel, Series, Trace
from powersample.readers import read
from powersample.sensors import look_up
from powersample.sim.profile import draw_board, driver, load_profile, profile_names

MEASURED = Path(__file__).parents[2] / "shared" / "data" / "measured" / "gpu_power_benchmark"
needs_measured = pytest.mark.skipif(not MEASURED.exists(), reason="the published traces (../shared/data) are not here")
FIELDS = {"instant": "nvml.field.186", "average": "nvml.field.185", "usage": "nvml.power_usage"}
BEGIN = 1000 * S


def board_of(name, seed):
    profile = load_profile(name)
    branch = driver(profile, None).branch
    return draw_board(profile, board_seed=seed, gpu=0, seed=seed, branch=branch, counter="integrating", start_ns=0)


def watched(sensor, field, folder, *, low_w=50, high_w=300, nominal_s=None, seconds=20, rate_hz=1000, load=FRACTIONS):
    """A sensor under square waves of the fractions in `load`, polled with jitter, and the truth beside it."""
    period_ns = nominal_s * S if nominal_s else sensor.period_ns
    with api_sim.Truth.create(folder / f"truth-{field}", BEGIN - 20 * S, low_w * 1000, 1 << 12) as truth:
        for i, fraction in enumerate(load):
            wave_ns = round(fraction * OFF * period_ns)
            at_ns = BEGIN + S + i * seconds * S // len(load)
            truth.append(at_ns, high_w * 1000, low_w * 1000, wave_ns, wave_ns // 2, live=False)
        end_ns = BEGIN + (seconds + 1) * S
        truth.append(end_ns, low_w * 1000, live=False)
        dice = np.random.default_rng(1)
        step = S / rate_hz
        t_ns = BEGIN + (np.arange(int((seconds + 2) * rate_hz)) * step).astype(np.int64)
        t_ns += np.abs(dice.normal(0, 0.03 * step, len(t_ns))).astype(np.int64)
        raw = sensor.read(truth, t_ns)
        edges_ns = np.unique(np.concatenate(([BEGIN - S], truth.edges(BEGIN - S, end_ns + S), [end_ns + S])))
        exact = Channel("truth.gpu0.energy", "GPU-0", "gpu", Kind.ENERGY, "J", 1e-9, stamp="instant")
        return Trace.of(
            [
                series(channel("gpu0.power", sensor=FIELDS[field]), t_ns, raw),
                series(exact, edges_ns, truth.energy_nj(BEGIN - S, edges_ns)),
            ],
            meta={"simulated": True, "driver": "535.247.01"},
        )


def found_in(trace, reference="truth"):
    given = truth_of(trace, trace.channel("gpu0.power")) if reference == "truth" else reference
    return characterize(trace, "gpu0.power", given, on="2026-11-25")


EXPECTED = {  # of the quick field; a drawn T within 4 % and W within 10 % of the profile's leave the class as it is
    "a100": Response.PART_TIME, "gh200": Response.PART_TIME, "h100": Response.PART_TIME, "m40": Response.PART_TIME,
    "p100": Response.PART_TIME, "v100": Response.PART_TIME, "k40m": Response.LOGARITHMIC,
    "rtx2080ti": Response.CONTIGUOUS, "rtx3090": Response.CONTIGUOUS, "rtx4090": Response.CONTIGUOUS,
}  # fmt: skip


def test_every_profile_is_expected_to_be_something():
    assert set(EXPECTED) == set(profile_names())


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_drawn_board_of_every_profile_is_told_without_knowing_it(name, tmp_path):
    board = board_of(name, seed=5)
    for field in ("instant", "average", "usage"):
        if field not in board.sensors:
            continue
        sensor = board.sensors[field]
        fast = sensor.period_ns < 50 * MS
        found = found_in(watched(sensor, field, tmp_path, seconds=4 if fast else 16))
        figures = found.figures
        assert figures["period_s"].value == pytest.approx(sensor.period_ns / S, rel=0.002)
        low, high = figures["jitter_s"].span
        assert low - 3e-4 <= sensor.jitter_ns / S / 3**0.5 <= high + 3e-4
        assert found.response is (Response.AVERAGE if field == "average" else EXPECTED[name])
        if sensor.window_ns:
            assert figures["window_s"].value == pytest.approx(sensor.window_ns / S, rel=0.05)
        else:
            assert figures["window_s"].value == 0
            assert figures["window_s"].high < 0.25 * sensor.period_ns / S
        assert figures["tau_s"].value == pytest.approx(sensor.tau_ns / S, abs=3e-3)
        assert figures["delay_s"].value == pytest.approx(sensor.delay_ns / S, abs=3e-3)
        assert figures["gain"].value == pytest.approx(sensor.gain, abs=0.01)
        assert figures["offset_w"].value == pytest.approx(sensor.offset_mw / 1000, abs=1.0)
        assert figures["quantum"].value == pytest.approx(sensor.quantum / 1000)


def test_window_range_holds_the_true_window_about_as_often_as_it_says(tmp_path):
    """8 boards: of 95 % ranges two may miss, and none by more than a range's width."""
    missed = 0
    for seed in range(8):
        sensor = board_of("v100", seed).sensors["instant"]
        folder = tmp_path / str(seed)
        folder.mkdir()
        window = found_in(watched(sensor, "instant", folder, seconds=2)).figures["window_s"]
        low, high = window.span
        true_s = sensor.window_ns / S
        missed += not low <= true_s <= high
        assert low - (high - low) <= true_s <= high + (high - low)
    assert missed <= 2


# ---- the update period ----


def test_period_of_a_15_ms_sensor_that_mostly_repeats_itself_is_not_doubled():
    dice = np.random.default_rng(3)
    changes = dice.random(2000) < 0.35
    values = 100_000 + np.cumsum(changes * dice.choice([-1000, 1000], 2000))
    t_ns = polls(0, 30, 1)
    found = found_in(Trace.of([series(channel("gpu0.power"), t_ns, published(t_ns, values, 15 * MS))]), None)
    assert found.figures["period_s"].value == pytest.approx(0.015, rel=0.01)
    assert found.figures["repeats"].value == pytest.approx(0.65, abs=0.05)


def test_period_of_a_sensor_whose_spacings_are_two_and_three_periods_is_one():
    """No single spacing is there to be seen: the period is what two of them have in common."""
    dice = np.random.default_rng(4)
    values = np.repeat(np.arange(600), dice.choice([2, 3], 600))
    t_ns = polls(0, 20, 1)
    found = found_in(Trace.of([series(channel("gpu0.power"), t_ns, published(t_ns, values, 15 * MS))]), None)
    assert found.figures["period_s"].value == pytest.approx(0.015, rel=0.01)


def test_phase_tells_where_the_next_update_falls():
    t_ns = polls(5, 25, 1)
    values = np.arange(1000)
    found = found_in(Trace.of([series(channel("gpu0.power"), t_ns, published(t_ns, values, 100 * MS, 37 * MS))]), None)
    assert found.figures["phase_s"].value == pytest.approx(0.037, abs=0.001)
    assert found.figures["jitter_s"].value == pytest.approx(0, abs=4e-4)


@pytest.mark.parametrize(
    ("values", "step_ms", "reason"),
    [
        (np.full(100, 70_000), 1, "too few"),
        (np.arange(100), 80, "too slow"),
        (np.arange(3).repeat(40), 1, "too few"),
    ],
    ids=["constant", "slow polls", "two changes"],
)
def test_period_that_cannot_be_told_is_refused_with_the_reason(values, step_ms, reason):
    t_ns = polls(0, 9, step_ms)
    found = found_in(Trace.of([series(channel("gpu0.power"), t_ns, published(t_ns, values, 100 * MS))]), None)
    assert found.figures["period_s"].value is None
    assert reason in found.figures["period_s"].reason
    assert found.found() == {}


def test_empty_channel_tells_nothing_and_says_so():
    found = found_in(Trace.of([Series.empty(channel("gpu0.power"))]), None)
    assert all(one.value is None and one.reason for one in found.figures.values())


def test_call_latency_is_told_by_median_and_99th_percentile():
    t_ns = polls(0, 2, 1)
    spent = np.where(np.arange(len(t_ns)) % 20 == 0, 900_000, 100_000)
    zeros = np.zeros(len(t_ns), np.uint16)
    one = Series(channel("gpu0.power"), t_ns, t_ns + spent, t_ns // (100 * MS), zeros, np.arange(len(t_ns)))
    figures = found_in(Trace.of([one]), None).figures
    assert figures["call_median_s"].value == pytest.approx(100e-6)
    assert figures["call_p99_s"].value == pytest.approx(900e-6)
    assert figures["quantum"].value == pytest.approx(0.001)


# ---- refusals of the response ----


@pytest.fixture
def h100(tmp_path):
    return watched(board_of("h100", 1).sensors["instant"], "instant", tmp_path, seconds=6)


def test_window_without_a_known_load_is_refused(h100):
    found = found_in(h100, None)
    assert (found.response, found.figures["window_s"].value) == (None, None)
    assert "known load" in found.reason
    assert set(found.found()) == {"period_s"}


def test_window_from_a_few_steps_is_refused_and_the_lag_told(tmp_path):
    trace = watched(board_of("a100", 1).sensors["instant"], "instant", tmp_path, seconds=12, load=(40,))
    found = found_in(trace)
    assert found.figures["window_s"].value is None
    assert "edges of the load are too few" in found.reason


def test_window_from_a_flat_load_is_refused(h100):
    flat = Reference(np.array([BEGIN - S, BEGIN + 20 * S]), np.array([200.0]), "a flat load")
    assert "hardly moves" in found_in(h100, flat).reason


def test_window_from_another_boards_load_is_refused(h100):
    dice = np.random.default_rng(2)
    t_ns = BEGIN - S + np.cumsum(dice.integers(10 * MS, 200 * MS, 200))
    other = Reference(t_ns, np.resize([50.0, 300.0], 199), "another load")
    assert "do not follow" in found_in(h100, other).reason


def test_window_from_a_load_that_cannot_tell_it_is_refused(tmp_path):
    """Edges far apart beside T: few updates fall near one, and any short window explains them."""
    sensor = api_sim.Sensor(
        kind=api_sim.GAUGE,
        period_ns=100 * MS,
        window_ns=3 * MS,
        tau_ns=60 * MS,
        noise_mw=8000,
        jitter_ns=2 * MS,
        seed=1,
    )
    found = found_in(watched(sensor, "instant", tmp_path, seconds=10, load=(7, 9)))
    window = found.figures["window_s"]
    assert window.value in (None, 0.0)
    assert window.value == 0.0 or "tells W only" in window.reason


def test_window_that_another_explains_as_well_is_refused(tmp_path):
    """A load of one period P, its begin and end unseen: W and W + P differ by their gain alone, which is free."""
    sensor = api_sim.Sensor(kind=api_sim.GAUGE, period_ns=97 * MS, window_ns=20 * MS, jitter_ns=2 * MS, seed=3)
    trace = watched(sensor, "instant", tmp_path, seconds=14, load=(0.6,))
    exact = truth_of(trace, trace.channel("gpu0.power"))
    inside = (exact.t_ns > BEGIN + 2 * S) & (exact.t_ns < BEGIN + 14 * S)
    part = Reference(exact.t_ns[inside], exact.power_w[inside[:-1]][:-1], "one period", calibrated=True)
    found = found_in(trace, part)
    assert found.figures["window_s"].value is None
    assert "tells W only" in found.reason or "tells W only" in found.figures["window_s"].reason


def test_reference_in_time_and_level_alone_tells_the_window_and_no_gain(h100):
    exact = truth_of(h100, h100.channel("gpu0.power"))
    levels = Reference(exact.t_ns, (exact.power_w > 100).astype(float), "edges", own_clock=True)
    found = found_in(h100, levels)
    true_s = board_of("h100", 1).sensors["instant"].window_ns / S
    assert found.figures["window_s"].value == pytest.approx(true_s, rel=0.1)
    assert {"window_s", "tau_s", "delay_s"} <= set(found.found())
    assert not {"gain", "offset_w", "gain_sd"} & set(found.found())


def test_delay_against_another_clock_is_not_taken_over(h100):
    exact = truth_of(h100, h100.channel("gpu0.power"))
    found = found_in(h100, Reference(exact.t_ns, exact.power_w, "a meter", calibrated=True))
    assert "delay_s" not in found.found()
    assert "gain" in found.found()


def test_power_channel_is_asked_for_by_name(h100):
    with pytest.raises(DeviceNotFound):
        characterize(h100, "gpu9.power")
    with pytest.raises(InvalidArgument, match="only power"):
        characterize(h100, "truth.gpu0.energy")
    assert sensors_of(h100) == ("gpu0.power",)


# ---- what it becomes ----


def test_model_takes_what_was_measured_and_leaves_the_rest_to_the_table(h100):
    table = look_up("instant", architecture="hopper")
    exact = truth_of(h100, h100.channel("gpu0.power"))
    found = found_in(h100, Reference(exact.t_ns, exact.power_w, "a meter"))
    model = found.model(table)
    assert model.window_s == found.figures["window_s"].value
    assert (model.gain, model.gain_sd, model.delay_s) == (table.gain, table.gain_sd, table.delay_s)
    assert model.origin["window_s"].startswith("characterized 2026-11-25 on GPU-0, driver 535.247.01, simulated")
    assert model.origin["gain"] == table.origin["gain"]


def test_verdict_names_what_contradicts_the_table(h100):
    found = found_in(h100)
    assert disagreements(found, look_up("instant", architecture="hopper")) == []
    said = " ".join(disagreements(found, look_up("instant", name="Tesla V100", architecture="volta")))
    assert "T is" in said
    assert "W is" in said


@pytest.mark.parametrize("tau_s", [0.0, 0.001, 0.05, 0.3])
def test_rise_of_lag_and_window_meets_its_closed_forms(tau_s):
    assert rise_s(0.0, tau_s) == pytest.approx(2.197 * tau_s, rel=1e-3)
    assert rise_s(0.1, 0.0) == pytest.approx(0.08)
    assert rise_s(1.0, tau_s) >= 0.8 - 1e-9


def test_reference_lagged_mean_equals_a_fine_recursion():
    dice = np.random.default_rng(7)
    t_ns = np.concatenate(([0], np.cumsum(dice.integers(150, 4500, 60) * 20_000)))
    power = dice.uniform(50, 300, 60)
    step = 20_000
    grid = np.arange(0, t_ns[-1], step)
    fine = power[np.minimum(np.searchsorted(t_ns, grid + step // 2, "right") - 1, 59)]
    y, tau = np.empty(len(grid) + 1), 40 * MS
    y[0] = power[0]
    for i, p in enumerate(fine):
        y[i + 1] = p + (y[i] - p) * np.exp(-step / tau)
    at, window = 2 * S, 25 * MS
    first, last = (at - window) // step, at // step
    expected = float(np.mean((y[first:last] + y[first + 1 : last + 1]) / 2))
    lagged = Reference(t_ns, power, "r").lagged(tau)
    assert lagged.mean_w(np.array([float(at)]), window)[0] == pytest.approx(expected, rel=1e-4)
    assert lagged.power_w(np.array([float(at)]))[0] == pytest.approx(y[at // step], rel=1e-3)


def test_model_measured_keeps_the_prior_where_nothing_was():
    prior = SensorModel(Response.PART_TIME, 0.1, 0.025, origin={"period_s": "table", "window_s": "table"})
    model = prior.measured({"period_s": 0.101}, "characterized")
    assert (model.period_s, model.window_s) == (0.101, 0.025)
    assert dict(model.origin) == {"period_s": "characterized", "window_s": "table"}


# ---- published logs ----


@needs_measured
@pytest.mark.parametrize(
    ("log", "name", "period_ms", "margin_ms"),
    [
        ("update_v100_gpudata.csv", "gpu0.power.usage", 20, 1),
        ("update_v100_gpudata.csv", "gpu0.power.instant", 20, 1),
        # Its changes are 7 or 8 polls of 13 ms apart, so their mode is 104; all of them keep to a grid of 101.2 ms.
        ("step_a100/gpudata.csv", "gpu0.power.instant", 101.2, 0.5),
        ("square_3090/gpudata.csv", "gpu0.power.instant", 100, 2),
    ],
)
def test_period_of_published_logs(log, name, period_ms, margin_ms):
    trace = read(MEASURED / log)
    assert characterize(trace, name).figures["period_s"].value * 1000 == pytest.approx(period_ms, abs=margin_ms)


def metered(folder):
    meter = read(MEASURED / folder / "PMD_data.bin")
    shift_ns = 3600 * S - 50 * MS  # the log's zone, and the publishers' correction of the meter's start
    return Reference.of_channel(meter, "pmd.power", shift_ns=shift_ns, label="the meter")


@needs_measured
def test_published_square_wave_against_its_meter_gives_the_windows_of_both_fields():
    trace, meter = read(MEASURED / "square_3090" / "gpudata.csv"), metered("square_3090")
    quick = characterize(trace, "gpu0.power.instant", meter)
    assert quick.response is Response.CONTIGUOUS
    assert quick.figures["window_s"].value == pytest.approx(0.100, abs=0.002)
    assert quick.r > 0.999
    average = characterize(trace, "gpu0.power.average", meter)
    assert average.response is Response.AVERAGE
    # Eleven updates of the quick field, and that field's delay: 1.0 s fits with 90 ms more delay, a little worse.
    assert average.figures["window_s"].value == pytest.approx(1.1, abs=0.05)
    assert average.figures["delay_s"].value == pytest.approx(quick.figures["delay_s"].value, abs=0.02)


@needs_measured
def test_published_step_against_its_meter_tells_no_window():
    found = characterize(read(MEASURED / "step_a100" / "gpudata.csv"), "gpu0.power.instant", metered("step_a100"))
    assert found.figures["window_s"].value is None
    assert "too few" in found.reason
