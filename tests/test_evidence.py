# SPDX-License-Identifier: Apache-2.0
"""What excludes aliasing: repeats at other phases, the load's period as marked or shown."""

import json
import math

import numpy as np
import pytest
from traces import S, channel, polls, published, series

from powersample import cli, store
from powersample.analysis import channel_energy, energy, window_energies
from powersample.analysis.evidence import student_95, sweep_of, swept_evidence
from powersample.analysis.interval import beats_often
from powersample.analysis.repeats import Marked, lots, stem
from powersample.analysis.spectrum import shown_period
from powersample.analysis.told import Told
from powersample.errors import InvalidArgument
from powersample.model import Energy, Kind, Response, SensorModel, Trace, Window
from powersample.report import build

NAME = "gpu0.power.instant"
T, W = 0.1, 0.025
MODEL = SensorModel(Response.PART_TIME, T, W, gain_sd=0.04, offset_sd_w=4.0)
WORK_S = 20  # update periods of one repeat
SWING_W = 200.0


def seen(phase, duty=0.5):
    """Mean power seen of a square wave of period T, which looks at [phase - W, phase]; phases and duty in periods."""
    up = lambda x: SWING_W * (np.floor(x) * duty + np.minimum(x - np.floor(x), duty))  # noqa: E731
    return (up(phase) - up(phase - W / T)) / (W / T)


def told(joules, phase, duration_s=2.0, model=MODEL):
    made = [
        Told(Energy(float(j), None, None, "m", (), "unrated", ()), Kind.POWER, T, model=model, phase=float(p))
        for j, p in zip(joules, phase, strict=True)
    ]
    length = np.broadcast_to(np.asarray(duration_s, float), len(made))
    windows = [Window(f"epoch {i}", i * 10 * S, i * 10 * S + round(each * S)) for i, each in enumerate(length)]
    return made, windows


def errors_j(phase, duty=0.5):
    """Error of 20 periods of a load in step with the sensor: all of it is the phase's."""
    return WORK_S * T * (seen(phase, duty) - duty * SWING_W)


@pytest.mark.parametrize(
    ("freedom", "table"), [(4, 2.776), (6, 2.447), (7, 2.365), (15, 2.131), (31, 2.040), (200, 1.972)]
)
def test_students_t_is_that_of_the_tables(freedom, table):
    assert student_95(freedom) == pytest.approx(table, rel=0.01)


def test_scatter_of_an_even_sweep_is_that_of_the_closed_form():
    """Half on, half off, seen through W: flat for 1 - 2 W / T, ramps else: variance A^2 (1/4 - W / 3 T)."""
    phase = (np.arange(400) + 0.3) / 400
    swept = sweep_of(*told(1000 + errors_j(phase), phase))
    sd_w = SWING_W * math.sqrt(1 / 4 - W / T / 3)
    assert swept.spread_j == pytest.approx(WORK_S * T * sd_w, rel=0.01)
    assert swept.mean_j == pytest.approx(1000, abs=0.5)


@pytest.mark.parametrize("count", [8, 10, 16])
@pytest.mark.parametrize("duty", [0.1, 0.3, 0.5, 0.8])
def test_even_sweep_bounds_every_repeat_and_finds_the_truth(count, duty):
    for begin in np.linspace(0, 1, 23):
        phase = (begin + np.arange(count) / count) % 1
        error_j = errors_j(phase, duty)
        made, windows = told(1000 + error_j, phase)
        swept = sweep_of(made, windows)
        assert not swept.doubt
        assert abs(swept.mean_j - 1000) < 0.1 * np.abs(errors_j(np.linspace(0, 1, 200), duty)).max() + 1e-9
        for one, off_j in zip(made, error_j, strict=True):
            assert abs(off_j) <= swept.off_by_j(one.energy.joules)


def test_repeats_at_random_phases_hold_the_truth_as_often_as_they_say():
    """Monte Carlo: 24 repeats, loads in step with the sensor, of any duty, and works that differ by 1 %."""
    rng = np.random.default_rng(11)
    held, used = [], 0
    for _ in range(400):
        phase, duty = rng.random(24), rng.uniform(0.05, 0.95)
        own_j = 1000 * (1 + 0.01 * rng.standard_normal(24))
        made, windows = told(own_j + errors_j(phase, duty), phase)
        swept = sweep_of(made, windows)
        if swept.doubt:
            continue
        used += 1
        held += [
            abs(one.energy.joules - truth_j) <= swept.off_by_j(one.energy.joules)
            for one, truth_j in zip(made, own_j, strict=True)
        ]
    assert used > 300
    assert np.mean(held) >= 0.95


def test_steady_repeats_leave_almost_no_room():
    phase = (np.arange(12) * 0.29) % 1
    swept = sweep_of(*told(1000 + np.random.default_rng(1).normal(0, 1.0, 12), phase))
    assert swept.off_by_j(1000.0) < 5


@pytest.mark.parametrize(
    ("phase", "words"),
    [
        (np.full(30, 0.4), "unseen"),  # an epoch is a whole number of update periods: locked
        (np.tile([0.1, 0.6], 15), "unseen"),  # locked at two phases
        (np.linspace(0, 0.7, 30), "unseen"),  # a drift that has not gone round
        (np.arange(7) / 7, "it takes 8 repeats"),
        (np.append(np.arange(29) / 29, np.nan), "too slow"),
    ],
)
def test_repeats_whose_phases_do_not_go_round_exclude_nothing(phase, words):
    """Locked repeats scatter by nothing, whatever they miss."""
    swept = sweep_of(*told(np.full(len(phase), 1000.0), phase))
    assert words in swept.doubt
    made, windows = told([1000.0], [0.4])
    assert swept_evidence(made[0], windows[0], swept) == (None, swept.doubt)


def test_a_cluster_with_a_few_strays_counts_by_the_circle_and_not_by_heads():
    """40 repeats at one phase and 7 elsewhere: by heads the cluster's error would be the mean."""
    phase = np.concatenate((np.full(40, 0.02), np.arange(1, 8) / 8))
    error_j = errors_j(phase, 0.5)
    made, windows = told(1000 + error_j, phase)
    swept = sweep_of(made, windows)
    assert abs((1000 + error_j).mean() - 1000) > 10 * abs(swept.mean_j - 1000)
    assert all(abs(e) <= swept.off_by_j(one.energy.joules) for one, e in zip(made, error_j, strict=True))


def test_changing_work_widens_the_bound_or_is_no_repeat():
    phase = (np.arange(16) * 0.29) % 1
    growing = sweep_of(*told(np.linspace(800, 1200, 16), phase))
    assert growing.off_by_j(1000.0) > 200
    assert "not the same work" in sweep_of(*told(np.full(16, 1000.0), phase, np.linspace(2, 3, 16))).doubt
    made, _ = told(np.full(16, 1000.0), phase)
    nested = [Window("epoch", i * S, (i + 4) * S) for i in range(16)]
    assert sweep_of(made, nested).doubt == "repeats overlap"


def test_a_repeat_of_another_length_is_left_out_and_gets_no_evidence():
    """The first epoch of a training compiles; the last may be cut short."""
    phase = (np.arange(12) * 0.29) % 1
    length = np.full(12, 2.0)
    length[0], length[11] = 3.1, 1.0
    made, windows = told(np.where(length == 2.0, 1000.0, 500.0 * length), phase, length)
    swept = sweep_of(made, windows)
    assert (swept.count, swept.doubt, swept.mean_j) == (10, "", pytest.approx(1000))
    assert "they take 2 s and this takes 3.1 s" in swept_evidence(made[0], windows[0], swept)[1]
    assert swept_evidence(made[5], windows[5], swept)[0].off_by_j < 1


def test_a_window_that_was_never_ended_is_no_repeat():
    windows = [Window(f"s {i}", i * S, i * S + S // 2, ("open",) if i == 9 else ()) for i in range(10)]
    assert windows[9] not in lots(Trace.of([], windows=windows), windows)


# ---- through the whole analysis ----


def recording(starts_s, work_s, period_s, duty=0.5, poll_ms=5, names="epoch {}", phase_s=0.013, events=()):
    """Works of a square wave that begins anew with each window, idle between, seen by a part-time sensor."""
    end_s = starts_s[-1] + work_s + 3
    grid_s = np.arange(0, end_s, 0.0005)
    watts = np.full(len(grid_s), 50.0)
    for start_s in starts_s:
        inside = (grid_s >= start_s) & (grid_s < start_s + work_s)
        since = (grid_s[inside] - start_s) % period_s
        watts[inside] = np.where(since < duty * period_s, 50 + SWING_W, 50)
    joules = np.concatenate(([0.0], np.cumsum(watts) * 0.0005))
    update_s = phase_s + np.arange(int(end_s / T)) * T
    mean = (
        np.interp(update_s, np.append(grid_s, end_s), joules)
        - np.interp(update_s - W, np.append(grid_s, end_s), joules)
    ) / W
    t_ns = polls(0, end_s - 0.2, poll_ms)
    raw = published(t_ns, np.rint(1000 * mean).astype(np.int64), round(T * S), round(phase_s * S))
    windows = [Window(names.format(i), round(one * S), round((one + work_s) * S)) for i, one in enumerate(starts_s)]
    truths = [float(np.diff(np.interp([one, one + work_s], np.append(grid_s, end_s), joules))[0]) for one in starts_s]
    meta = {"sensor_models": {NAME: MODEL.as_json()}, "events": list(events)}
    return Trace.of([series(channel(NAME), t_ns, raw)], windows=windows, meta=meta), truths


def test_epochs_that_sweep_the_phase_of_a_harmless_load_exclude_aliasing():
    """37 ms of load period hide nothing from windows of 4 s: the scatter says so, and the interval narrows."""
    trace, truths = recording(5 + np.arange(10) * 4.537, 4.0, 0.037)
    alone = window_energies(Trace.of([trace.series(NAME)], meta=trace.meta), [trace.windows[3]])[0][0].energy
    found = [one[0].energy for one in window_energies(trace, trace.windows)]
    for one, truth_j in zip(found, truths, strict=True):
        assert one.low_j <= truth_j <= one.high_j
        assert "10 repeats at phases all around" in one.excluded
        assert "PSQ-ALIAS" not in one.codes
    assert found[3].high_j - found[3].low_j < 0.7 * (alone.high_j - alone.low_j)
    assert "PSQ-ALIAS" in alone.codes
    assert energy(trace, "epoch 3") == found[3]  # asked for alone, it says the same


def test_epochs_of_a_load_in_step_follow_the_phase_and_get_the_room_that_takes():
    """Some of the epochs show nothing but idle, a constant: only their repeats tell that it is none."""
    trace, truths = recording(5 + np.arange(16) * 4.537, 4.0, T)
    found = [one[0].energy for one in window_energies(trace, trace.windows)]
    alone = [channel_energy(trace, NAME, window) for window in trace.windows]
    assert not all(one.low_j <= truth_j <= one.high_j for one, truth_j in zip(alone, truths, strict=True))
    for one, truth_j in zip(found, truths, strict=True):
        assert one.low_j <= truth_j <= one.high_j
        assert "follow the phase" in next(r for r in one.reasons if r.startswith("PSQ-ALIAS"))
        half_j = math.sqrt(sum(term.value_j**2 for term in one.budget))
        assert one.high_j - one.joules == pytest.approx(half_j)


def test_work_that_grows_while_the_phase_drifts_is_not_taken_for_aliasing():
    phase = (np.arange(16) / 16 + 0.01) % 1
    swept = sweep_of(*told(np.linspace(800, 1200, 16), phase))
    assert not swept.fooled
    assert sweep_of(*told(1000 + errors_j((np.arange(16) * 0.37) % 1), (np.arange(16) * 0.37) % 1)).fooled
    assert not sweep_of(*told(1000 + np.random.default_rng(4).normal(0, 9, 16), (np.arange(16) * 0.37) % 1)).fooled


def test_epochs_in_step_with_the_sensor_exclude_nothing_and_the_report_says_why():
    """All of them are off alike, which no interval of one channel can hold; that is what PSQ-ALIAS is for."""
    trace, truths = recording(5 + np.arange(10) * 4.5, 4.0, T, duty=0.8)  # begins 45 update periods apart
    found = [one[0].energy for one in window_energies(trace, trace.windows)]
    for one in found:
        assert not one.excluded
        assert "leave 75 ms of the period unseen" in next(r for r in one.reasons if r.startswith("PSQ-ALIAS"))
    assert min(abs(one.joules / truth_j - 1) for one, truth_j in zip(found, truths, strict=True)) > 0.2


def test_repeats_of_other_names_are_named():
    trace, _ = recording(5 + np.arange(10) * 4.537, 4.0, 0.037, names="{} th")
    assert not window_energies(trace, trace.windows)[0][0].energy.excluded
    named = [one.name for one in trace.windows]
    assert window_energies(trace, trace.windows, repeats=[named])[0][0].energy.excluded
    with pytest.raises(InvalidArgument, match="no window is called"):
        window_energies(trace, trace.windows, repeats=[["nosuch", "9 th"]])


def test_report_takes_repeats_by_name_on_the_command_line(tmp_path, capsys):
    trace, _ = recording(5 + np.arange(10) * 4.537, 4.0, 0.037, names="{} th")
    path = str(tmp_path / "x.parquet")
    store.save(trace, path)
    excluded = []
    for more in ([], ["--repeats", ",".join(one.name for one in trace.windows)]):
        assert cli.main(["report", path, "--json", *more]) == 0
        energies = [one["energies"][0] for one in json.loads(capsys.readouterr().out)["windows"]]
        excluded.append([one["aliasing_excluded_by"] for one in energies])
    assert not any(excluded[0])
    assert all(excluded[1])
    assert cli.main(["report", path, "--repeats", "nosuch"]) == 2
    assert "no window is called 'nosuch'; there are '0 th'" in capsys.readouterr().err


def test_stems_leave_the_number_at_the_end_out():
    assert [stem(one) for one in ("epoch 3", "epoch#12", "step", "7", "a1b", "x-04")] == [
        "epoch",
        "epoch",
        "step",
        "",
        "a1b",
        "x",
    ]


def test_lots_are_the_same_whichever_window_is_asked_for():
    windows = [Window(f"s {i}", i * S, i * S + S // 2) for i in range(70)]
    trace = Trace.of([], windows=windows)
    every = lots(trace, windows)
    assert {len(every[one]) for one in windows} == {32, 38}
    assert all(lots(trace, [one])[one] == every[one] for one in windows)


# ---- the load's period ----


def test_iterations_that_are_marked_give_the_loads_period():
    marks = [{"name": f"step {i}", "t_ns": round((5 + 0.37 * i) * S)} for i in range(109)]
    trace, truths = recording(np.array([5.0]), 40.0, 0.37, events=marks)
    ((found,),) = window_energies(trace, trace.windows)
    assert "0.37 s (the spacing of 109 marks 'step')" in found.energy.excluded
    assert found.energy.low_j <= truths[0] <= found.energy.high_j
    told_ = build(trace)
    assert told_.data["windows"][0]["energies"][0]["aliasing_excluded_by"] == found.energy.excluded
    assert "the spacing of 109 marks 'step'" in " ".join(told_.explained().split())


@pytest.mark.parametrize(
    ("spacing_s", "jitter", "expected_s"),
    [
        (0.37, 0.0, 0.37),
        (0.37, 0.02, 0.37),
        (0.37, 0.4, None),  # no period at all
        (3.0, 0.0, None),  # 13 of them
    ],
)
def test_marked_period_is_that_of_regular_marks_only(spacing_s, jitter, expected_s):
    rng = np.random.default_rng(3)
    steps = spacing_s * (1 + jitter * rng.standard_normal(int(40 / spacing_s)))
    at_ns = (5 * S + np.cumsum(np.append(0, steps)) * S).astype(np.int64)
    trace = Trace.of([], meta={"events": [{"name": "step", "t_ns": int(one)} for one in at_ns]})
    found = Marked(trace).period(Window("w", 5 * S, 45 * S))
    if expected_s is None:
        assert found is None
    else:
        assert found.low_s <= expected_s <= found.high_s
        assert found.high_s - found.low_s <= (5 * jitter + 1e-6) * expected_s


def test_marks_of_a_part_of_the_window_say_nothing_of_the_rest():
    marks = [{"name": "step", "t_ns": round((5 + 0.37 * i) * S)} for i in range(60)]
    assert Marked(Trace.of([], meta={"events": marks})).period(Window("w", 5 * S, 45 * S)) is None


def test_a_period_that_passes_through_the_sensors_own_excludes_nothing():
    """Iterations of 0.39 to 0.41 s: somewhere between, the fourth harmonic is the sensor's."""
    assert not beats_often(MODEL, T, (0.39, 0.41), 600.0)
    assert beats_often(MODEL, T, (0.3699, 0.3701), 60.0)
    assert not beats_often(MODEL, T, (0.3699, 0.3701), 60.0, resolved=False)  # T itself is known to 4 %


def quick_trace(period_s, noise_w=1.0, kind=Kind.POWER):
    t_ns = polls(0, 40, 5)
    rng = np.random.default_rng(5)
    watts = np.where(t_ns / S % period_s < 0.4 * period_s, 250.0, 60.0) + rng.normal(0, noise_w, len(t_ns))
    if kind is Kind.ENERGY:
        return Trace.of(
            [series(channel("gpu0.energy", kind), t_ns, np.cumsum(watts * 5).astype(np.int64))]
        ), "gpu0.energy"
    return Trace.of([series(channel("gpu0.power.meter"), t_ns, (1000 * watts).astype(np.int64))]), "gpu0.power.meter"


@pytest.mark.parametrize("kind", [Kind.POWER, Kind.ENERGY])
@pytest.mark.parametrize("period_s", [0.1, 0.37, 1.3])
def test_a_quicker_channel_shows_the_loads_period(kind, period_s):
    trace, name = quick_trace(period_s, kind=kind)
    found = shown_period(trace, name, Window("w", 4 * S, 36 * S), 0.005)
    assert found.low_s <= period_s * 1.0005
    assert found.high_s >= period_s * 0.9995
    assert found.high_s / found.low_s < 1.05
    assert name in found.origin


def test_a_load_without_a_period_has_no_line():
    trace, name = quick_trace(0.37, noise_w=200.0)
    assert shown_period(trace, name, Window("w", 4 * S, 36 * S), 0.005) is None
    assert shown_period(trace, name, Window("w", 4 * S, 5 * S), 0.005) is None


@pytest.mark.parametrize("sensor", ["csv", "nvml.samples"])
def test_a_quicker_channel_of_the_device_excludes_aliasing(sensor):
    trace, _ = recording(np.array([5.0]), 40.0, 0.37)
    quick, name = quick_trace(0.37)
    t_ns = quick.series(name).t_ns
    beside = series(channel(name, sensor=sensor, stamp="instant"), t_ns + 5 * S, quick.series(name).raw)
    both = Trace.of([trace.series(NAME), beside], windows=trace.windows, meta=trace.meta)
    found = {one.energy.channel: one.energy for one in window_energies(both, [Window("w", 6 * S, 44 * S)])[0]}
    assert "the spectrum of gpu0.power.meter" in found[NAME].excluded


def test_load_period_of_0_is_refused():
    trace, _ = recording(np.array([5.0]), 4.0, 0.37)
    with pytest.raises(InvalidArgument, match="above 0 s"):
        window_energies(trace, trace.windows, load_period_s=0.0)
